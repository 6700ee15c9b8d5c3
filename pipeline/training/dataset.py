"""All images to learn from: read once, checked, normalised as a run would, split by image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.files import digest
from pipeline.nets.heads import ClassesHead
from pipeline.nets.normalisation import Fixed, MeanStd, Percentiles, Range, Terms
from pipeline.training.examine import Examined, examine
from pipeline.training.frames import Floats, Frame, Shelf
from pipeline.training.pairs import Pair, Problem, find_pairs, refuse
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.split import split
from pipeline.training.targets import UNKNOWN, middles
from pipeline.training.weak.label import Region

#: Pixels of a class that are remembered in a frame: patches are put on them.
SPOTS = 1000
#: Largest value of the pixels' types that are counted for the whole dataset.
COUNTED = {"uint8": 2**8, "uint16": 2**16}

Maps = Callable[[NDArray[np.int32]], dict[str, Floats]]


@dataclass(frozen=True)
class Dataset:
    """What is learned from, and what judges.

    Parameters
    ----------
    train, validation : list of Frame
    digest : str
        Of all pixels, labels and names.
    images, objects : int
        Numbers of all.
    absent : tuple of str
        Classes that only validation shows.
    """

    train: list[Frame]
    validation: list[Frame]
    digest: str
    images: int
    objects: int
    absent: tuple[str, ...] = ()

    @property
    def validation_names(self) -> list[str]:
        return list(dict.fromkeys(frame.image for frame in self.validation))

    @property
    def train_names(self) -> list[str]:
        return list(dict.fromkeys(frame.image for frame in self.train))


def load_dataset(
    data: Path, recipe: TrainingRecipe, maps: Maps, shelf: Shelf, threads: int = 2
) -> Dataset:
    """Read all pairs.

    Parameters
    ----------
    data : Path
    recipe : TrainingRecipe
    maps : callable
        Makes the maps of a frame's objects that are needed.
    shelf : Shelf
    threads : int
        That read.

    Raises
    ------
    DataError
        With all that is wrong: unpaired or unreadable files, sizes, numbers out of range, empty
        masks, classes that never occur.
    """
    pairs, problems = find_pairs(data, recipe)
    train, validation = _names(pairs, recipe)
    together = _Together(recipe)
    kept: dict[str, list[Frame]] = {}
    digests = []
    with ThreadPoolExecutor(threads) as pool:
        for pair, result in _windowed(pool, pairs, recipe, 2 * threads):
            if isinstance(result, list):
                problems += result
                continue
            if pair.name in train:
                together.add(result.pixels)
            kept[pair.name] = _frames(result, recipe, maps, shelf)
            digests.append(f"{pair.name}\0{result.digest}\0".encode())
    # Weak labels teach what they show; masks of images that judge teach nothing.
    names = [name for name in train if name in kept] if recipe.data.is_weak else list(kept)
    problems += _absent(recipe, _classes_of(kept[name] for name in names))
    refuse(data, problems)
    _need_two(data, pairs)
    shared = together.terms()
    if shared is not None:
        for name, frames in kept.items():
            kept[name] = [replace(frame, terms=shared) for frame in frames]
    late = _classes_of(kept.values()) - _classes_of(kept[name] for name in train)
    return Dataset(
        [frame for name in train for frame in kept[name]],
        [frame for name in validation for frame in kept[name]],
        digest(*sorted(digests)),
        len(pairs),
        sum(frame.object_count for frames in kept.values() for frame in frames),
        tuple(_class_name(recipe, k) for k in sorted(late)),
    )


def _classes_of(images: Iterable[list[Frame]]) -> set[int]:
    """Classes that some pixel shows."""
    return {k for frames in images for frame in frames for k in frame.spots}


def _names(pairs: Sequence[Pair], recipe: TrainingRecipe) -> tuple[list[str], list[str]]:
    names = [pair.name for pair in pairs]
    if recipe.data.is_weak:
        judging = [pair.name for pair in pairs if pair.weak is None]
        return [pair.name for pair in pairs if pair.weak is not None], judging
    if len(names) < 2:
        return names, []
    return split(names, recipe.validation.fraction, recipe.seed)


def _need_two(data: Path, pairs: Sequence[Pair]) -> None:
    if len(pairs) < 2:
        raise DataError(
            f"{data}: {len(pairs)} image with labels; at least two are needed, one to learn from "
            "and one to judge by. Cut a large image into several files."
        )


def _windowed(
    pool: ThreadPoolExecutor, pairs: Sequence[Pair], recipe: TrainingRecipe, ahead: int
) -> Iterator[tuple[Pair, Examined | list[Problem]]]:
    """Pairs as they were read, in order; few wait, for they are in memory."""
    waiting = [pool.submit(examine, pair, recipe) for pair in pairs[:ahead]]
    for number, pair in enumerate(pairs):
        yield pair, waiting.pop(0).result()
        if number + ahead < len(pairs):
            waiting.append(pool.submit(examine, pairs[number + ahead], recipe))


def _frames(found: Examined, recipe: TrainingRecipe, maps: Maps, shelf: Shelf) -> list[Frame]:
    terms, learned = _terms(found.pixels, recipe), found.learned
    if learned.regions:
        return [
            _frame(_of_region(found, number, region, terms, recipe, shelf), maps, shelf)
            for number, region in enumerate(learned.regions)
        ]
    objects, classes = learned.objects, learned.classes
    return [
        _frame(
            Frame(
                found.name,
                number,
                shelf.keep(pixels),
                terms,
                None if objects is None else shelf.keep(objects[number]),
                None if classes is None else shelf.keep(classes[number]),
            ),
            maps,
            shelf,
        )
        for number, pixels in enumerate(found.pixels)
    ]


def _of_region(
    found: Examined, number: int, region: Region, terms: Terms, recipe: TrainingRecipe, shelf: Shelf
) -> Frame:
    """A part of an image as a frame, normalised as the whole is."""
    # Where no other class is, every pixel is known.
    value = UNKNOWN if (region.tags == 1).any() else recipe.class_head().background_index
    return Frame(
        found.name,
        number,
        shelf.keep(np.ascontiguousarray(found.pixels[0][(slice(None), *region.box.slices)])),
        terms,
        None,
        np.full(region.box.shape, value, np.int16),
        tags=region.tags,
    )


def _frame(frame: Frame, maps: Maps, shelf: Shelf) -> Frame:
    """A frame with what follows from its labels."""
    objects, classes = frame.objects, frame.classes
    more: dict[str, Any] = {}
    if objects is not None:
        more["maps"] = {key: shelf.keep(one) for key, one in maps(objects).items()}
        more["middles"] = middles(objects)
    shown = classes
    if shown is None and objects is not None:
        shown = (objects > 0).astype(np.int16)
    if shown is not None:
        more["spots"] = _spots(shown, frame.image, frame.number)
    if frame.tags is not None and (frame.tags == 1).any():
        # Nobody knows where; a patch holds the whole frame.
        middle = np.array([[n // 2 for n in frame.shape]], np.int32)
        more["spots"] = {int(k): middle for k in np.flatnonzero(frame.tags == 1)}
    return replace(frame, **more)


def _spots(classes: NDArray[np.int16], name: str, number: int) -> dict[int, NDArray[np.int32]]:
    """Some pixels of each class, evenly drawn, always the same ones."""
    drawn = int(digest(f"{name}\0{number}".encode())[:15], 16)
    random = np.random.Generator(np.random.Philox(drawn))
    found = {}
    for k in np.unique(classes[classes >= 0]).tolist():
        places = np.flatnonzero(classes == k)
        some = places if len(places) <= SPOTS else random.choice(places, SPOTS, replace=False)
        found[k] = np.stack(np.unravel_index(some, classes.shape), axis=-1).astype(np.int32)
    return found


def _class_names(recipe: TrainingRecipe) -> tuple[str, ...]:
    head = next((h for h in recipe.heads if isinstance(h, ClassesHead)), None)
    return () if head is None else head.names


def _class_name(recipe: TrainingRecipe, number: int) -> str:
    names = _class_names(recipe)
    return names[number] if number < len(names) else str(number)


def _absent(recipe: TrainingRecipe, there: set[int]) -> list[Problem]:
    if not there:
        return []  # worse is wrong
    return [
        Problem("absent", f"class {name!r}", "occurs in no image")
        for number, name in enumerate(_class_names(recipe))
        if number not in there
    ]


def _terms(pixels: NDArray[Any], recipe: TrainingRecipe) -> Terms:
    """Offset and scale of each channel, from all frames of an image."""
    rule = recipe.normalisation
    if isinstance(rule, Fixed):
        return rule.terms()
    if isinstance(rule, Range):
        return rule.terms(pixels.dtype.name, pixels.shape[1])
    channels = np.moveaxis(pixels, 1, 0).reshape(pixels.shape[1], -1)
    if isinstance(rule, Percentiles):
        low, high = np.percentile(channels, [rule.low, rule.high], axis=1)
        return rule.terms(low, high)
    return rule.terms(channels.mean(1, np.float64), channels.std(1, dtype=np.float64))


class _Together:
    """Counts grey values of all images to learn from, where the dataset is normalised together."""

    def __init__(self, recipe: TrainingRecipe) -> None:
        rule = recipe.normalisation
        shared = isinstance(rule, Percentiles | MeanStd) and rule.scope == "dataset"
        self._rule = rule if shared else None
        self._counts: NDArray[np.int64] | None = None

    def add(self, pixels: NDArray[Any]) -> None:
        if self._rule is None:
            return
        if pixels.dtype.name not in COUNTED:
            raise DataError(
                f"normalisation: `scope: dataset` counts grey values, and there are "
                f"{pixels.dtype.name} pixels. Use uint8 or uint16 images, or `scope: image`."
            )
        if self._counts is None:
            self._counts = np.zeros((pixels.shape[1], max(COUNTED.values())), np.int64)
        for channel in range(pixels.shape[1]):
            found = np.bincount(pixels[:, channel].ravel(), minlength=self._counts.shape[1])
            self._counts[channel] += found

    def terms(self) -> Terms | None:
        rule, counts = self._rule, self._counts
        if rule is None or counts is None:
            return None
        values = np.arange(counts.shape[1])
        if isinstance(rule, MeanStd):
            total = counts.sum(1)
            mean = (counts * values).sum(1) / total
            square = (counts * (values - mean[:, None]) ** 2).sum(1) / total
            return rule.terms(mean, np.sqrt(square))
        assert isinstance(rule, Percentiles)
        low, high = ([_percentile(row, q) for row in counts] for q in (rule.low, rule.high))
        return rule.terms(low, high)


def _percentile(counts: NDArray[np.int64], percent: float) -> float:
    total = counts.cumsum()
    place = percent / 100 * (int(total[-1]) - 1)
    below, above = (float(np.searchsorted(total, f(place), "right")) for f in (np.floor, np.ceil))
    return below + (above - below) * float(place - np.floor(place))
