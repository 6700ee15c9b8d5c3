"""Finding pairs: images, and the labels that belong to them by their names."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import DataError, EmptyArchiveError, RecipeError
from pipeline.sources import SourceSpec, discover
from pipeline.sources.label_names import label_names
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.weak.find import find_weak_labels
from pipeline.training.weak.label import WeakLabel

#: Problems that a message names; the rest are counted.
NAMED = 20
#: The group of an OME-Zarr image that holds its label images.
LABELS = "labels"


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its labels.

    Parameters
    ----------
    name : str
        Path without suffix, the same for image and labels.
    image : SourceSpec
    objects, classes : SourceSpec or None
        Label images.
    weak : WeakLabel or None
        What is learned from instead of label images.
    """

    name: str
    image: SourceSpec
    objects: SourceSpec | None
    classes: SourceSpec | None
    weak: WeakLabel | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with training data.

    Parameters
    ----------
    kind : str
        "unpaired", "unreadable", "size", "range", "empty", "absent", "channels",
        "scribbles", "drawn", "unmarked" or "tags".
    name : str
        The image, or the class.
    reason : str
    """

    kind: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


REMEDIES = {
    "unpaired": "Every image needs labels of the same name and every label image its image; "
    "`data.only` chooses by name.",
    "unreadable": "Copy or convert these files again.",
    "size": "Labels have the size of their image, and one channel.",
    "range": "Objects are whole numbers from 0, classes those of the head.",
    "empty": "Annotate these images, or leave them out by `data.only`; `data.allow_empty: true` "
    "takes them as images of background.",
    "absent": "Give images that show it, or remove it from the head.",
    "scribbles": "Draw lines for a head of two classes, else paint an image of class numbers.",
    "drawn": "Correct these files; docs/weak-labels.md and docs/recipes.md tell their forms.",
    "unmarked": "Mark some pixels of each class, or remove these images.",
    "tags": "Tag smaller parts of single frames, or raise sampling.patch_px.",
    "channels": "Choose them with `source.channels`, as many as `channels` names.",
}


def refuse(data: Path, problems: Sequence[Problem]) -> None:
    """Raise DataError if there are problems: all kinds, and the first of each."""
    if not problems:
        return
    kinds = dict.fromkeys(problem.kind for problem in problems)
    lines = []
    for kind in kinds:
        alike = [problem for problem in problems if problem.kind == kind]
        lines += [f"  {problem}" for problem in alike[:NAMED]]
        if len(alike) > NAMED:
            lines.append(f"  and {len(alike) - NAMED} more like this")
        lines.append(f"  {REMEDIES[kind]}")
    count = len(problems)
    plural = "s" * (count != 1)
    raise DataError(f"{data}: {count} problem{plural}, nothing was started:\n" + "\n".join(lines))


def find_pairs(data: Path, recipe: TrainingRecipe) -> tuple[list[Pair], list[Problem]]:
    """Pairs by name, and what has no partner. No image is opened.

    Raises
    ------
    DataError
        If there is no such folder, or not one pair to be found.
    """
    if not data.is_dir():
        raise DataError(f"{data}: is no folder. Give one with `images` and `labels` in it.")
    section = recipe.data
    try:
        if section.is_weak:
            return _weakly(data, recipe)
        if (data / section.images).is_dir():
            return _in_folders(data, recipe)
        found = [spec for spec in discover(data) if spec.reader == "ome_zarr"]
    except EmptyArchiveError:
        found = []
    except RecipeError as error:
        raise DataError(str(error)) from error
    found = [spec for spec in found if _wanted(spec.name, section.only)]
    if not found:
        raise DataError(
            f"{data}: neither a folder {section.images!r} nor OME-Zarr images. Give a folder with "
            f"{section.images!r} and {section.objects or section.classes!r}, or name others in "
            "the recipe's `data` section."
        )
    return _in_zarr(found, recipe)


def _in_folders(data: Path, recipe: TrainingRecipe) -> tuple[list[Pair], list[Problem]]:
    section = recipe.data
    missing = recipe.source.missing_chunks
    images = _by_name(data, section.images, section.only, missing)
    sides = {
        kind: _by_name(data, folder, section.only, missing)
        for kind, folder in (("objects", section.objects), ("classes", section.classes))
        if folder is not None
    }
    problems = []
    for kind, labels in sides.items():
        folder = getattr(section, kind)
        for name in sorted(images.keys() - labels.keys()):
            problems.append(Problem("unpaired", name, f"there is no such file in {folder}"))
        for name in sorted(labels.keys() - images.keys()):
            reason = f"is in {folder}, and not in {section.images}"
            problems.append(Problem("unpaired", name, reason))
    paired = sorted(set(images).intersection(*sides.values()))
    none: dict[str, SourceSpec] = {}
    objects, classes = (sides.get(kind, none) for kind in ("objects", "classes"))
    pairs = [Pair(name, images[name], objects.get(name), classes.get(name)) for name in paired]
    if not pairs and not problems:
        raise DataError(f"{data}: no image is left by `data.only`: {', '.join(section.only)}.")
    return pairs, problems


def _weakly(data: Path, recipe: TrainingRecipe) -> tuple[list[Pair], list[Problem]]:
    """Images with masks, which judge, and images with weak labels."""
    section = recipe.data
    missing = recipe.source.missing_chunks
    images = _by_name(data, section.images, section.only, missing)
    place = section.objects or section.classes
    assert place is not None
    masks: dict[str, SourceSpec] = {}
    if (data / place).is_dir():
        masks = _by_name(data, place, section.only, missing)
    kind, where = section.weak
    painted = {}
    if kind == "scribbles" and (data / where).is_dir():
        painted = _by_name(data, where, (), missing)
    found = find_weak_labels(data, recipe, painted)
    weak = {name: label for name, label in found.items() if _wanted(name, section.only)}
    problems = [
        Problem("unpaired", name, f"has neither {kind} in {where} nor a mask in {place}")
        for name in sorted(images.keys() - masks.keys() - weak.keys())
    ]
    for folder, names in ((where, weak.keys()), (place, masks.keys())):
        problems += [
            Problem("unpaired", name, f"is in {folder}, and not in {section.images}")
            for name in sorted(names - images.keys())
        ]
    pairs = []
    for name in sorted(images):
        mask = masks.get(name)
        sides = (mask, None) if section.objects else (None, mask)
        if mask is not None:
            pairs.append(Pair(name, images[name], *sides))
        elif name in weak:
            pairs.append(Pair(name, images[name], None, None, weak[name]))
    if not problems:
        learning = [pair for pair in pairs if pair.weak is not None]
        if not learning:
            raise DataError(
                f"{data}: all images have masks in {place}, and those judge; none is left to learn "
                f"from by {kind}. Move some masks away, or add images."
            )
        if len(learning) == len(pairs):
            raise DataError(
                f"{data}: no image has a mask in {place}. Annotate at least one in full: images "
                "with masks judge what is learned from the others."
            )
    return pairs, problems


def _by_name(data: Path, folder: str, only: Sequence[str], missing: str) -> dict[str, SourceSpec]:
    if not (data / folder).is_dir():
        raise DataError(
            f"{data}: there is no folder {folder!r}. Make it, or name another in the recipe's "
            "`data` section."
        )
    try:
        specs = discover(data / folder)
    except EmptyArchiveError:
        return {}
    chosen = [replace(spec, missing_chunks=missing) for spec in specs if _wanted(spec.name, only)]
    found = {spec.name: spec for spec in chosen}
    if len(found) < len(chosen):
        twice = next(x.name for k, x in enumerate(chosen) if x.name in {y.name for y in chosen[:k]})
        raise DataError(
            f"{data / folder}: {twice} is there with several suffixes. Keep one of them."
        )
    return found


def _wanted(name: str, only: Iterable[str]) -> bool:
    globs = tuple(only)
    return not globs or any(fnmatch.fnmatchcase(name, glob) for glob in globs)


def _in_zarr(
    found: Sequence[SourceSpec], recipe: TrainingRecipe
) -> tuple[list[Pair], list[Problem]]:
    pairs, problems = [], []
    for spec in found:
        image = replace(spec, missing_chunks=recipe.source.missing_chunks)
        sides: dict[str, SourceSpec | None] = {"objects": None, "classes": None}
        for kind, wanted in (("objects", recipe.data.objects), ("classes", recipe.data.classes)):
            if wanted is None:
                continue
            names = _names_of(Path(spec.path))
            asked = wanted.removeprefix(LABELS).strip("/")
            chosen = names[0] if not asked and len(names) == 1 else asked
            if chosen not in names:
                listed = ", ".join(names) or "none"
                reason = f"has no label image {wanted!r} (it has: {listed})"
                problems.append(Problem("unpaired", spec.name, reason))
                continue
            sides[kind] = replace(image, series=f"{LABELS}/{chosen}")
        if all(sides[k] or getattr(recipe.data, k) is None for k in sides):
            pairs.append(Pair(spec.name, image, sides["objects"], sides["classes"]))
    return pairs, problems


def _names_of(image: Path) -> list[str]:
    """Names of its label images; none where its metadata are damaged."""
    try:
        return label_names(image)
    except (OSError, ValueError, KeyError):
        return []
