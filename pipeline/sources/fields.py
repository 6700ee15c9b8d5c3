"""From files to fields, and from fields to wells, by names alone: no file is opened here."""

from __future__ import annotations

import itertools
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from pipeline.errors import EmptyArchiveError, RecipeError
from pipeline.names import readable
from pipeline.sources.base import SourceSpec
from pipeline.sources.file_names import FilesSection
from pipeline.sources.parts import Five, Layout, Part, Site
from pipeline.sources.spelling import Spelling, channel_names, meant
from pipeline.storage import AnyPath

log = logging.getLogger(__name__)

#: Groups that files of one field differ in, with their axes.
ALONG = {"t": "t", "channel": "c", "z": "z"}
#: Files that a message names.
NAMED = 3
#: Where to list files that belong to no image.
IGNORE = "under source.files.ignore, or correct the pattern"

#: What tells the files of one field apart: (t, channel, z), "" where names do not say.
Place = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Key:
    """An image that files belong to."""

    plate: str
    row: str
    column: str
    field: str

    @property
    def name(self) -> str:
        parts = (self.plate, self.row, self.column, self.field)
        return "/".join(part for part in parts if part)

    @property
    def site(self) -> Site | None:
        return Site(self.plate, self.row, self.column, self.field) if self.field else None


@dataclass(slots=True)
class _Field:
    files: dict[Place, SourceSpec] = field(default_factory=dict)
    fault: str = ""


def gather(specs: Sequence[SourceSpec], root: AnyPath, files: FilesSection) -> list[SourceSpec]:
    """Put the files of each field together, as their names say.

    Parameters
    ----------
    specs : sequence of SourceSpec
        Of an archive; fields of OME-Zarr plates know where they belong and stay as they are.
    root : Path or StorePath
        The archive.
    files : FilesSection

    Returns
    -------
    list of SourceSpec
        One a field; one with a fault for each file whose name does not fit, for each field that
        lacks a file which most fields of its plate have, and for each that has files which say a
        channel, plane or time point beside files which do not.

    Raises
    ------
    RecipeError
        No name fits.
    """
    fields: dict[_Key, _Field] = {}
    spelling, channels, ignored = Spelling(), set[str](), 0
    others: list[SourceSpec] = []
    strange: list[SourceSpec] = []
    for spec in specs:
        relative = relative_name(spec.path, root)
        if spec.site is not None or (spec.fault and spec.reader == "ome_zarr"):
            others.append(spec)
        elif files.ignores(relative):
            ignored += 1
        elif (said := files.read(f"{_folder_name(root)}{relative}")) is None:
            fault = (
                f'its name does not fit source.files "{files.said}"; correct the pattern, or list '
                "the file under source.files.ignore"
            )
            strange.append(replace(spec, fault=fault))
        else:
            key = _key(said, root, spelling)
            place = _place(said, key, spelling)
            channels |= {place[1]} - {""}
            _add(fields.setdefault(key, _Field()), place, spec)
    if strange and not fields and not others:
        first = ", ".join(Path(spec.path).name for spec in strange[:NAMED])
        raise RecipeError(
            f'{root}: source.files "{files.said}" fits none of its {len(strange)} files, for '
            f"example {first}. Correct the pattern; docs/plates.md has examples."
        )
    if ignored:
        log.warning("%s: source.files leaves out %d of %d files", root, ignored, len(specs))
    if specs and ignored == len(specs):
        raise EmptyArchiveError(
            f'{root}: source.files "{files.said}" leaves out all of its {ignored} files, for '
            f"example {Path(specs[0].path).name}. Correct source.files.ignore, or choose another "
            "archive."
        )
    _require_apart(others, fields, root)
    names = channel_names(channels, files.channels, root)
    found = [s for plate in _by_plate(fields) for s in _complete(plate, names, root)]
    return sorted([*others, *strange, *found], key=lambda spec: (spec.name, spec.path))


def _require_apart(others: Sequence[SourceSpec], fields: Iterable[_Key], root: AnyPath) -> None:
    zarr = {spec.site.plate for spec in others if spec.site}
    if twice := sorted(zarr & {key.plate for key in fields if key.row}):
        raise RecipeError(
            f"{root}: both an OME-Zarr plate and files that fit source.files are called "
            f'"{twice[0]}". Rename one of them.'
        )


def _folder_name(root: AnyPath) -> str:
    return f"{readable(root.name)}/" if root.is_dir() and root.name else ""


def relative_name(path: str, root: AnyPath) -> str:
    """A file's path below the archive; its name where it is the archive."""
    return readable(root.name if path == str(root) else path.removeprefix(f"{root}/").lstrip("/"))


def _key(said: Mapping[str, str], root: AnyPath, spelling: Spelling) -> _Key:
    folder = f"{said.get('folder', '')}/".removeprefix(_folder_name(root)).strip("/")
    plate = said.get("plate", "")
    if plate and meant(folder.rpartition("/")[2]) != meant(plate):
        folder = f"{folder}/{plate}".strip("/")
    row, column = said.get("row", ""), said.get("column", "")
    if well := said.get("well"):
        row = well.rstrip("0123456789")
        column = well[len(row) :]
    if row:
        row = _letters(int(row)) if row.isdecimal() else row.upper()
    within = said.get("field", "0" if row else "")
    if row or not within:
        folder = folder or readable(root.name)
    folder = spelling.first(folder, "plate")
    return _Key(
        folder,
        row,
        spelling.first(column, "column", folder),
        spelling.first(within, "field", folder),
    )


def _place(said: Mapping[str, str], key: _Key, spelling: Spelling) -> Place:
    """What tells a file from the others of its field; channels are one thing in all plates."""
    t, channel, z = (said.get(group, "") for group in ALONG)
    return (
        spelling.first(t, "t", key.plate),
        spelling.first(channel, "channel"),
        spelling.first(z, "z", key.plate),
    )


def _letters(number: int) -> str:
    """1 is A, 26 is Z, 27 is AA."""
    text = ""
    while number > 0:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("A") + rest) + text
    return text or "0"


def _add(one: _Field, place: Place, spec: SourceSpec) -> None:
    other = one.files.setdefault(place, spec)
    if other is not spec:
        paths = [PurePosixPath(one.path) for one in (other, spec)]
        # Folders of two spellings are one plate: their files may be called alike.
        parts = 1 if paths[0].name != paths[1].name else 2
        names = " and ".join("/".join(path.parts[-parts:]) for path in paths)
        what = _spelled(place) or "the same image"
        one.fault = f"{names} both are {what} of it"


def _by_plate(fields: Mapping[_Key, _Field]) -> Iterable[dict[_Key, _Field]]:
    plates: dict[str, dict[_Key, _Field]] = {}
    for key, one in fields.items():
        plates.setdefault(key.plate if key.field else "", {})[key] = one
    return plates.values()


def _complete(
    plate: Mapping[_Key, _Field], names: Mapping[str, str], root: AnyPath
) -> Iterable[SourceSpec]:
    """One spec a field; what at least half of the fields have, all must have."""
    tokens = [_usual(plate.values(), k) for k in range(len(ALONG))]
    for key, one in plate.items():
        first = next(iter(one.files.values()))
        spec = replace(first, reader="composed", name=key.name, site=key.site)
        fault = one.fault or _unlike(one, tokens, root) or _incomplete(one, tokens)
        yield (
            replace(spec, fault=fault)
            if fault
            else replace(spec, parts=tuple(_parts(one, tokens, names)))
        )


def _usual(fields: Iterable[_Field], k: int) -> list[str]:
    """Tokens of at least half of the fields; "" only where no other is usual."""
    found = [_said(one, k) or {""} for one in fields]
    counts = Counter(token for tokens in found for token in tokens)
    usual = {token for token, n in counts.items() if 2 * n >= len(found)}
    return sorted(usual - {""} or usual, key=natural)


def _said(one: _Field, k: int) -> set[str]:
    return {place[k] for place in one.files} - {""}


def _unlike(one: _Field, tokens: Sequence[Sequence[str]], root: AnyPath) -> str:
    """Why files that say an axis and files that do not are no image.

    A projection beside the planes of a stack would be its plane 0.
    """
    for k, group in enumerate(ALONG):
        paths: dict[bool, list[str]] = {True: [], False: []}
        for place, spec in one.files.items():
            paths[place[k] != ""].append(relative_name(spec.path, root))
        told, silent = (_some(paths[said], ", ") for said in (True, False))
        if told and silent:
            fault = f"some of its files say no {group} ({silent}), and others do ({told})"
            return f"{fault}; list those that are no part of it {IGNORE}"
        if bool(told) == (list(tokens[k]) == [""]):
            says, do = ("say a", "do not") if told else ("say no", "do")
            fault = f"its files {says} {group} ({told or silent}), and those of other fields of its"
            return f"{fault} plate {do}; list them {IGNORE}"
    return ""


def _some(texts: Sequence[str], between: str) -> str:
    more = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return between.join(texts[:NAMED]) + more


def _incomplete(one: _Field, tokens: Sequence[Sequence[str]]) -> str:
    t, c, z = tokens
    wanted = dict.fromkeys(itertools.product(t, c, z))
    lacking = [place for place in wanted if place not in one.files]
    extra = [place for place in one.files if place not in wanted]
    for verb, places in (("lacks", lacking), ("alone has", extra)):
        if places:
            shown = _some([_spelled(place) for place in places], "; ")
            return f"it {verb} {shown}, of the files that its plate has for every field"
    return ""


def _spelled(place: Place) -> str:
    return ", ".join(f"{group} {text}" for group, text in zip(ALONG, place, strict=True) if text)


def _parts(
    one: _Field, tokens: Sequence[Sequence[str]], names: Mapping[str, str]
) -> Iterable[Part]:
    along = "".join(
        axis for axis, known in zip(ALONG.values(), tokens, strict=True) if list(known) != [""]
    )
    t, c, z = tokens
    for place in itertools.product(t, c, z):
        at: Five = (t.index(place[0]), c.index(place[1]), z.index(place[2]), 0, 0)
        channel = (names.get(place[1], place[1]),) if place[1] else ()
        yield Part(one.files[place], at, None, channel, along)


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key that sorts "w2" before "w10"."""
    pieces = re.findall(r"\d+|\D+", text)
    return [(0, int(p), p) if p.isdecimal() else (1, 0, p) for p in pieces]


def stitched(specs: Sequence[SourceSpec], root: AnyPath, layout: Layout) -> list[SourceSpec]:
    """Put the fields of each well together to one image; the images of one file, too.

    Fields of a plate's several acquisitions are several images, each on a grid of its own. A field
    has the same place on the grid in every well of its plate, also where a well lacks others.
    """
    wells: dict[Site, list[tuple[Site, SourceSpec]]] = {}
    alone: list[SourceSpec] = []
    for spec in specs:
        if spec.site is not None:
            wells.setdefault(replace(spec.site, field=""), []).append((spec.site, spec))
        elif spec.reader == "composed" or spec.fault:
            alone.append(spec)
        else:
            alone.append(replace(spec, layout=layout))
    known: dict[tuple[str, int | None], set[str]] = {}
    for well, fields in wells.items():
        names = known.setdefault((well.plate, well.acquisition), set())
        names.update(site.field for site, _ in fields)
    cells = {grid: sorted(names, key=natural) for grid, names in known.items()}
    several = Counter((well.plate, well.row, well.column) for well in wells)
    made = []
    for well, fields in wells.items():
        grid = cells[well.plate, well.acquisition]
        placed = replace(layout, cells=tuple(grid.index(site.field) for site, _ in fields))
        if several[well.plate, well.row, well.column] > 1:
            well = replace(well, field=f"acquisition{well.acquisition}")
        made.append(_well(well, root, [spec for _, spec in fields], placed))
    return sorted([*alone, *made], key=lambda spec: (spec.name, spec.path))


def _well(well: Site, root: AnyPath, fields: Sequence[SourceSpec], layout: Layout) -> SourceSpec:
    """One image of a well's fields; the field that comes first on the grid is the first part."""
    order = sorted(range(len(fields)), key=lambda i: layout.cells[i])
    ordered = [fields[i] for i in order]
    places = (well.plate, well.row, well.column, well.field)
    broken = next((one for one in ordered if one.fault), None)
    return SourceSpec(
        "composed",
        ordered[0].path,
        "/".join(place for place in places if place) or readable(root.name),
        missing_chunks=ordered[0].missing_chunks,
        parts=() if broken else tuple(Part(one) for one in ordered),
        layout=replace(layout, cells=tuple(layout.cells[i] for i in order)),
        site=well if well.row else None,
        fault=f"its field {broken.name}: {broken.fault}" if broken else "",
    )
