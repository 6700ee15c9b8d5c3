"""Label images: of a folder, of an OME-Zarr, or of a run's output."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, replace
from typing import Any, Literal

from pipeline.errors import ImageError, RecipeError, ScoreError
from pipeline.label_rows import label_row, label_rows, segmented_channels
from pipeline.manifest import ImageRow
from pipeline.names import nearest
from pipeline.output import LABELS
from pipeline.report.planes import picture_spec
from pipeline.run_folder import RECORDS, RunFolder
from pipeline.sources import SourceSpec, discover, expand
from pipeline.sources.label_names import label_names
from pipeline.storage import AnyPath, absolute_path, path_of

#: Suffixes of pictures whose compression changes numbers.
LOSSY = (".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class LabelImage:
    """A label image; small, so that it may cross processes.

    Parameters
    ----------
    name : str
        Path in the archive without suffix, with "/".
    spec : SourceSpec
        How it is read.
    picture : SourceSpec or None
        The image that it was made from, where that is known.
    channels : tuple of int or str
        Which channels of the picture were segmented.
    classes : tuple of str
        Names of classes 1, 2, ...; empty where the numbers are objects.
    colors : tuple of (red, green, blue)
        Of the classes, 0 to 255.
    ndim : int or None
        2 where objects lie in planes, 3 where in volumes; None where nobody says.
    """

    name: str
    spec: SourceSpec
    picture: SourceSpec | None = None
    channels: tuple[int | str, ...] = ()
    classes: tuple[str, ...] = ()
    colors: tuple[tuple[int, ...], ...] = ()
    ndim: Literal[2, 3] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a place holds.

    Parameters
    ----------
    images : list of LabelImage
        By name.
    failures : dict of str to ImageError
        Names of images that hold no labels, or cannot be opened, and why.
    is_image : bool
        The place is an image, not a folder of them: its name says little.
    """

    images: list[LabelImage]
    failures: dict[str, ImageError]
    is_image: bool = False


def find_labels(place: AnyPath, label: str | None = None, only: str | None = None) -> Found:
    """Find the label images of a place.

    Parameters
    ----------
    place : Path or StorePath
        A label image, an OME-Zarr (itself a label image, or an image with labels), a folder of
        them, or the output of a run.
    label : str, optional
        Which labels of an OME-Zarr or a run; needed where there are several.
    only : str, optional
        Glob on names.

    Raises
    ------
    RecipeError
        It does not exist, holds no image, or none that matches.
    OutputError
        It is the output of a run that cannot be read.
    """
    if (place / RECORDS).is_file():
        return _of_run(place, label, only)
    images: list[LabelImage] = []
    failures: dict[str, ImageError] = {}
    specs = discover(place, only)
    for spec in specs:
        try:
            images += _of_file(spec, label)
        except ImageError as error:
            failures[spec.name] = error
    return Found(images, failures, specs[0].path == str(absolute_path(place)))


def _matches(name: str, only: str) -> bool:
    """As `discover` has it: "*" also matches "/"."""
    return any(fnmatch.fnmatchcase(name, glob) for glob in (only, only.removeprefix("**/")))


def _of_file(spec: SourceSpec, label: str | None) -> list[LabelImage]:
    if path_of(spec.path).suffix.lower() in LOSSY:
        raise ScoreError(
            spec.path, "is a JPEG file, whose compression changes labels", "Use PNG or TIFF."
        )
    if spec.reader == "ome_zarr":
        # Most writers leave out chunks that are background only.
        return [_of_zarr(replace(spec, missing_chunks="fill"), label)]
    return [LabelImage(image.name, image) for image in expand(spec)]


def _of_zarr(spec: SourceSpec, label: str | None) -> LabelImage:
    """The labels of an image, or the group itself where it holds none."""
    try:
        names = label_names(path_of(spec.path))
    except Exception as error:  # zarr raises its own, and those of JSON
        raise ScoreError(spec.path, f"its zarr metadata are not understood: {error}") from error
    if not names:
        return LabelImage(spec.name, spec)
    chosen = _chosen(spec.path, names, label)
    inner = replace(spec, path=str(path_of(spec.path) / LABELS / chosen))
    return LabelImage(spec.name, inner, spec)


def _chosen(path: str, names: list[str], label: str | None) -> str:
    if label is None and len(names) == 1:
        return names[0]
    if label is None:
        raise ScoreError(
            path,
            f"holds {len(names)} label images ({', '.join(names)}), and none was chosen",
            "Name one with --labels or --truth-labels.",
        )
    if label not in names:
        raise ScoreError(path, f"holds no labels {label!r}{nearest(label, names)}")
    return label


def _of_run(place: AnyPath, label: str | None, only: str | None) -> Found:
    folder = RunFolder(place)
    manifest = folder.reading()
    recipe = folder.read_run().get("recipe", {})
    images: list[LabelImage] = []
    failures: dict[str, ImageError] = {}
    try:
        for row in manifest.images():
            if only is not None and not _matches(row.name, only):
                continue
            try:
                images.append(_of_row(row, folder, recipe, label))
            except ImageError as error:
                failures[row.name] = error
    finally:
        manifest.close()
    if not images and not failures:
        what = f'matches "{only}"' if only else "is on record"
        raise RecipeError(f"{place}: no image of the run {what}.")
    return Found(images, failures)


def _of_row(
    row: ImageRow, folder: RunFolder, recipe: dict[str, Any], label: str | None
) -> LabelImage:
    if row.status == "quarantined":
        raise ScoreError(row.name, f"was quarantined by the run ({row.reason.rstrip('.')})")
    if row.status != "published":
        raise ScoreError(
            row.name, "is not published yet", "Run the same command again to finish it."
        )
    details = row.details
    group = folder.published_path(row)
    own = label_rows(row)
    only = str(details["label"]) if len(own) == 1 else None
    chosen = _chosen(str(group), label_names(group), label or only)
    details = label_row(row, chosen).details
    classes = details["classes"] if chosen == details["label"] else []
    return LabelImage(
        row.name,
        SourceSpec("ome_zarr", str(group / LABELS / chosen), row.name),
        _picture(row, group),
        segmented_channels(recipe, chosen),
        tuple(str(name) for name, *_ in classes),
        tuple(tuple(color) for _, *color in classes),
        3 if recipe.get("source", {}).get("dims") == "3d" else 2,
    )


def _picture(row: ImageRow, group: AnyPath) -> SourceSpec | None:
    """The pixels behind published labels, if they are still there."""
    if row.details["output"] != "none":
        return SourceSpec("ome_zarr", str(group), row.name, "", "fill")
    try:
        return picture_spec(row, "fill")
    except Exception:  # whatever happened to the archive, the labels can be scored
        return None
