"""The images of an archive: one file, or a folder searched to its leaves."""

from __future__ import annotations

import fnmatch
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pipeline.errors import EmptyArchiveError, RecipeError
from pipeline.names import readable
from pipeline.sources.base import SourceSpec, os_reason, source_class
from pipeline.sources.formats import (
    SLIDES_OF_FILES,
    belongs_to_slide,
    file_suffixes,
    format_of,
    split_suffix,
)
from pipeline.sources.hcs import group_attributes, plate_images
from pipeline.sources.names import distinct_names, plate_path
from pipeline.sources.parts import Part, Site
from pipeline.sources.seen import PLAIN
from pipeline.sources.stitching import put_together
from pipeline.storage import AnyPath, StorePath, absolute_path, is_url, path_of
from pipeline.storage.paths import Entry

__all__ = ["discover", "distinct_names", "expand"]

#: Suffixes that a message lists.
LISTED = 5
#: What an output of tilewright holds from its first moment on.
OUTPUT_ENTRIES = {".tilewright", "run.sqlite"}
ZARR_ENTRIES = {"zarr.json", ".zattrs", ".zarray", ".zgroup"}


@dataclass(frozen=True, slots=True)
class _Found:
    reader: str
    path: str
    relative: str
    place: str = ""
    site: Site | None = None
    fault: str = ""

    @property
    def outer(self) -> str:
        """What is called so, the file or the plate, without its suffix."""
        folder, _, last = self.relative.removesuffix(f"/{self.place}").rpartition("/")
        stem = split_suffix(last)[0]
        return readable(f"{folder}/{stem}" if folder else stem)

    @property
    def name(self) -> str:
        """Of the image, in the archive."""
        return f"{self.outer}/{self.place}" if self.place else self.outer


def discover(archive: AnyPath, only: str | None = None) -> list[SourceSpec]:
    """List the images of an archive by their names; opens no image.

    Parameters
    ----------
    archive : Path or StorePath
        A file, an OME-Zarr folder, or a folder of them. Hidden entries, folders with an output of
        tilewright, and what lies inside zarr are not searched; of a plate there is one spec a
        field, as its metadata list them. Links are followed, each folder is visited once. On the
        web nothing can be listed: there it is a file or an OME-Zarr.
    only : str, optional
        Glob on the name or the relative path with suffix; "*" also matches "/".

    Returns
    -------
    specs : list of SourceSpec
        Sorted by path. Names may be equal: see `distinct_names`.

    Raises
    ------
    EmptyArchiveError
        Nothing is found.
    RecipeError
        The archive does not exist, or a folder cannot be listed.
    """
    root = _existing(archive)
    found = sorted(_search(root), key=lambda f: f.relative)
    if not found:
        others = other_suffixes(root)
        seen = ", ".join(f"{suffix or 'no suffix'} ({n})" for suffix, n in others[:LISTED])
        raise EmptyArchiveError(
            f"{archive}: holds no image. Read are {', '.join(file_suffixes())} and "
            f"OME-Zarr folders.{f' It holds files with {seen}.' if seen else ''} "
            "`tilewright formats` says what brings further formats."
        )
    named = zip(found, _distinct_plates([_spec(f) for f in found]), strict=True)
    specs = [s for f, s in named if only is None or matches([s.name, f.name, f.relative], only)]
    if not specs:
        raise none_matches(str(archive), only or "", len(found), found[0].relative)
    return specs


def expand(spec: SourceSpec) -> list[SourceSpec]:
    """Open a file and give one spec for each of its images, see `Source.list_images`.

    With a layout, the images of one file are stitched to one.

    Raises
    ------
    UnreadableError
        The file is none of its kind, or cannot be opened; or its images do not fit together.
    """
    if spec.series or spec.fault:
        return [spec]
    images = source_class(spec).list_images(spec)
    if spec.layout is None or len(images) == 1:
        return [replace(image, layout=None) for image in images]
    parts = tuple(Part(replace(image, layout=None, seen=PLAIN)) for image in images)
    return [put_together(replace(spec, reader="composed", parts=parts))]


def matches(texts: Iterable[str], only: str) -> bool:
    """Whether one of an image's names is meant by a glob; "*" also matches "/"."""
    globs = {only, only.removeprefix("**/")}
    return any(fnmatch.fnmatchcase(text, glob) for text in texts for glob in globs)


def none_matches(archive: str, only: str, count: int, first: str) -> RecipeError:
    """What is said where a glob means none of an archive's images."""
    return RecipeError(
        f'{archive}: none of its {count} images matches "{only}"; the first is '
        f'"{first}". Compare the glob with names like this.'
    )


def other_suffixes(root: AnyPath) -> list[tuple[str, int]]:
    """Suffixes of an archive's files that are no images for us, and how many; most first."""
    return Counter(
        PurePosixPath(name).suffix.lower() for name in _file_names(root) if not format_of(name)
    ).most_common()


def _file_names(root: AnyPath) -> Iterator[str]:
    """Names of all files outside zarr, hidden ones left out."""
    if root.is_file():
        yield root.name
    elif isinstance(root, StorePath):
        for item in root.walk() if root.can_list else ():
            parts = item.name.split("/")
            if not any(part.startswith(".") or part.lower().endswith(".zarr") for part in parts):
                yield parts[-1]
    else:
        for _, inner, names in os.walk(root):
            inner[:] = [
                n for n in inner if not n.startswith(".") and not n.lower().endswith(".zarr")
            ]
            yield from (name for name in names if not name.startswith("."))


def _spec(found: _Found) -> SourceSpec:
    site = replace(found.site, plate=found.outer) if found.site else None
    return SourceSpec(found.reader, found.path, found.name, site=site, fault=found.fault)


def _distinct_plates(specs: Sequence[SourceSpec]) -> list[SourceSpec]:
    """Rename plates that are called as another plate or image: their folders would be one.

    "p.zarr" and "p.ome.zarr" beside each other are called so, each with its suffix.
    """
    if not any(spec.site for spec in specs):  # as in nearly all of 1e5 files
        return list(specs)
    owners: dict[str, set[str]] = {}
    for spec in specs:
        called = spec.name if spec.site is None else spec.site.plate
        owners.setdefault(_same(called), set()).add(plate_path(spec) or spec.path)
    renamed = []
    for spec in specs:
        if spec.site is not None and len(owners[_same(spec.site.plate)]) > 1:
            plate = spec.site.plate + split_suffix(plate_path(spec))[1]
            inner = spec.name.removeprefix(spec.site.plate)
            spec = replace(spec, name=plate + inner, site=replace(spec.site, plate=plate))
        renamed.append(spec)
    return renamed


def _same(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _existing(archive: AnyPath) -> AnyPath:
    """The archive without detours.

    Raises
    ------
    RecipeError
        There is none.
    """
    archive = absolute_path(archive)
    try:
        there = archive.exists() or _is_zarr_on_the_web(archive)
    except OSError as error:
        raise RecipeError(f"{archive}: cannot be opened: {os_reason(error)}.") from error
    if not there:
        raise RecipeError(f"{archive}: does not exist. Give the path of an image or a folder.")
    return archive


def _is_zarr_on_the_web(place: AnyPath) -> bool:
    if isinstance(place, Path) or place.can_list:
        return False
    return bool(_zarr_entries(place))


def _zarr_entries(place: AnyPath) -> set[str]:
    """What makes a folder zarr, where folders cannot be listed."""
    return {name for name in ZARR_ENTRIES if (place / name).is_file()}


def _search(root: AnyPath) -> Iterator[_Found]:
    if _is_zarr_on_the_web(root):
        if _zarr_kind(root, _zarr_entries(root)) == "plate":
            yield from _plate(str(root), root.name)
        else:
            yield _Found("ome_zarr", str(root), root.name)
        return
    if root.is_file():
        if form := format_of(root.name):
            yield _Found(form.reader, str(root), root.name)
        return
    visited: set[object] = set()
    pending = [(str(root), "")]
    while pending:
        folder, relative = pending.pop()
        identity = _identity(folder)
        if identity in visited:
            continue
        visited.add(identity)
        entries = _list(folder)
        names = {entry.name for entry in entries}
        if names >= OUTPUT_ENTRIES:
            continue
        if names & ZARR_ENTRIES:
            kind = _zarr_kind(path_of(folder), names)
            if kind == "plate":
                yield from _plate(folder, relative or root.name)
            if kind == "image":
                yield _Found("ome_zarr", folder, relative or root.name)
            if kind != "group":
                continue
        slides = [name for name in names if name.lower().endswith(SLIDES_OF_FILES)]
        # Last in, first out: reversed, so that a folder reached twice has its first name.
        for entry in reversed(entries):
            inner = f"{relative}/{entry.name}" if relative else entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_folder:
                pending.append((f"{folder.rstrip('/')}/{entry.name}", inner))
            elif any(belongs_to_slide(entry.name, slide) for slide in slides):
                continue
            elif form := format_of(entry.name):
                yield _Found(form.reader, f"{folder.rstrip('/')}/{entry.name}", inner)


def _plate(folder: str, relative: str) -> Iterator[_Found]:
    """The fields of a plate, and what of it cannot be read."""
    for image in plate_images(path_of(folder), ""):
        path, inner = (f"{start}/{image.place}".rstrip("/") for start in (folder, relative))
        yield _Found("ome_zarr", path, inner, image.place, image.site, image.fault)


def _identity(folder: str) -> object:
    """What is the same for a folder that is reached by several links."""
    if is_url(folder):
        return folder
    status = os.stat(folder)  # noqa: PTH116 - 1e5 Path objects cost more than the calls
    return status.st_dev, status.st_ino


def _list(folder: str) -> list[Entry]:
    try:
        if is_url(folder):
            return StorePath.of(folder).entries()
        with os.scandir(folder) as entries:
            found = [Entry(entry.name, entry.is_dir()) for entry in entries]
        return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise RecipeError(
            f"{folder}: cannot be listed: {os_reason(error)}. Correct its permissions, or choose "
            "an archive without it."
        ) from error


def _zarr_kind(folder: AnyPath, names: set[str]) -> str:
    """ "image" (broken metadata too: opening it says why), "plate", "array" or "group"."""
    if ".zarray" in names:
        return "array"
    try:
        if "zarr.json" in names:
            document = json.loads((folder / "zarr.json").read_bytes())
            if document.get("node_type") == "array":
                return "array"
        elif ".zattrs" not in names:
            return "group"
        ome = group_attributes(folder)
    except (OSError, ValueError, AttributeError, RecursionError):
        return "image"
    if "plate" in ome:
        return "plate"
    return "image" if "multiscales" in ome else "group"
