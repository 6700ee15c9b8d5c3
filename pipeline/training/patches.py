"""Patches: the one of a step and an index is always the same, whoever makes it and when.

Each has a random generator of its own, Philox with the key (seed, step, index), so that neither
threads nor a restart change what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.nets.normalisation import normalise
from pipeline.training.frames import Floats, Frame
from pipeline.training.geometry import Places, draw_places, sampler, straight
from pipeline.training.looks import vary
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.targets import UNKNOWN

T = TypeVar("T")
Outside = Literal["mirror", "empty"]
#: Batches that are made ahead, for each thread that makes them.
AHEAD = 2


@dataclass(frozen=True)
class Patch:
    """What a network is shown, and what is known of it.

    Parameters
    ----------
    image : ndarray of shape (C, \\*P), float32
        Normalised.
    objects : ndarray of shape (\\*(P + 2 margins)), int32, or None
    classes : ndarray of the same shape, int16, or None
    maps : dict of ndarrays of shape (\\*P), float32
    places : Places
        Of the P pixels, in the frame.
    middles : ndarray of shape (1 + n, D), float32
        Of the frame's objects.
    margin_px : int
        By which labels are larger than the image.
    colours : ndarray of shape (C, \\*P), float32
        The image before its look was varied.
    tags : ndarray of shape (K,), int8, or None
        Of the frame.
    """

    image: Floats
    objects: NDArray[np.int32] | None
    classes: NDArray[np.int16] | None
    maps: dict[str, Floats]
    places: Places
    middles: Floats
    margin_px: int
    colours: Floats
    tags: NDArray[np.int8] | None

    def inner(self, array: NDArray[Any]) -> NDArray[Any]:
        """Labels without their margin."""
        m = self.margin_px
        cut: NDArray[Any] = array[tuple(slice(m, n - m) for n in array.shape)]
        return cut


class Patches:
    """Draws patches from frames.

    Parameters
    ----------
    frames : sequence of Frame
    recipe : TrainingRecipe
    margin_px : int
        By which labels are larger than the image.
    outside : {"mirror", "empty"}
        Whether objects go on mirrored where a patch leaves its frame, or there are none.
    """

    def __init__(
        self, frames: Sequence[Frame], recipe: TrainingRecipe, margin_px: int, outside: Outside
    ) -> None:
        self._frames = frames
        self._recipe = recipe
        self._margin, self._outside = margin_px, outside
        sampling = recipe.sampling
        area = np.array([float(np.prod(frame.shape)) for frame in frames])
        self._weights = area if sampling.images == "area" else np.ones(len(frames))
        self._with_objects = np.array([frame.object_count > 0 for frame in frames])
        classes = sorted({k for frame in frames for k in frame.spots})
        self._with_class = {k: np.array([k in frame.spots for frame in frames]) for k in classes}

    def batch(self, step: int) -> list[Patch]:
        """The patches of a step."""
        return [self.patch(step, index) for index in range(self._recipe.sampling.batch)]

    def patch(self, step: int, index: int) -> Patch:
        """One patch."""
        sequence = np.random.SeedSequence([self._recipe.seed, step, index])
        random = np.random.Generator(np.random.Philox(sequence))
        frame, centre = self._draw(random)
        rule = self._recipe.augmentation
        places = draw_places(centre, self._recipe.patch_sides, self._margin, rule, random)
        plain = cut_patch(frame, places, self._margin, self._outside)
        image = vary(plain.image, rule, random)
        return Patch(**{**vars(plain), "image": image})

    def _draw(self, random: np.random.Generator) -> tuple[Frame, list[float]]:
        """A frame, and the point that the patch lies around."""
        sampling, sides = self._recipe.sampling, self._recipe.patch_sides
        balanced = self._recipe.balance != "uniform" and random.random() < sampling.share
        if balanced and self._recipe.balance == "objects" and self._with_objects.any():
            frame = self._pick(random, self._with_objects)
            at = frame.middles[1 + int(random.integers(frame.object_count))]
            jitter = [random.uniform(-n / 4, n / 4) for n in sides]
            centre = [float(a) + j for a, j in zip(at, jitter, strict=True)]
        elif balanced and self._recipe.balance == "classes":
            kinds = list(self._with_class)
            kind = kinds[int(random.integers(len(kinds)))]
            frame = self._pick(random, self._with_class[kind])
            spots = frame.spots[kind]
            centre = [float(x) for x in spots[int(random.integers(len(spots)))]]
        else:
            frame = self._pick(random, np.ones(len(self._frames), bool))
            centre = [random.uniform(0, n) for n in frame.shape]
        return frame, [_within(x, n, p) for x, n, p in zip(centre, frame.shape, sides, strict=True)]

    def _pick(self, random: np.random.Generator, allowed: NDArray[np.bool_]) -> Frame:
        weights = np.where(allowed, self._weights, 0.0).cumsum()
        drawn = random.random() * weights[-1]
        return self._frames[int(np.searchsorted(weights, drawn, side="right"))]


def _within(x: float, length: int, side: int) -> float:
    """Move a centre so that a plain patch lies in the frame, or in its middle if it is larger."""
    if length <= side:
        return (length - 1) / 2
    return min(max(x, (side - 1) / 2), length - 1 - (side - 1) / 2)


def cut_patch(frame: Frame, places: Places, margin_px: int, outside: Outside) -> Patch:
    """What lies at places of a frame, which include the margin."""
    m = margin_px
    inner = tuple(slice(m, n - m) for n in places.points.shape[1:])
    narrow = Places(places.points[(slice(None), *inner)], places.matrix, places.zoom)
    wide, small = (sampler(p, frame.shape) for p in (places, narrow))
    image = normalise(small.linear(frame.pixels), frame.terms)
    objects = None if frame.objects is None else wide.nearest(frame.objects)
    classes = None if frame.classes is None else wide.nearest(frame.classes)
    if outside == "empty":
        objects = None if objects is None else np.where(wide.inside, objects, 0)
        classes = None if classes is None else np.where(wide.inside, classes, UNKNOWN)
    maps = {key: small.linear(array[None])[0] for key, array in frame.maps.items()}
    return Patch(image, objects, classes, maps, narrow, frame.middles, m, image, frame.tags)


def grid_patches(
    frame: Frame, sides: Sequence[int], margin_px: int, outside: Outside
) -> Iterator[Patch]:
    """Plain patches side by side that cover a frame; the last of a row begins earlier."""
    starts = [
        sorted({min(k * side, max(0, n - side)) for k in range(-(-n // side))})
        for n, side in zip(frame.shape, sides, strict=True)
    ]
    grown = [side + 2 * margin_px for side in sides]
    for corner in np.array(np.meshgrid(*starts, indexing="ij")).reshape(len(sides), -1).T:
        places = straight([int(x) - margin_px for x in corner], grown)
        yield cut_patch(frame, places, margin_px, outside)


@contextmanager
def produced(make: Callable[[int], T], steps: range, threads: int) -> Iterator[Iterator[T]]:
    """What `make` gives for each step, in order, made ahead by threads."""
    pool = ThreadPoolExecutor(threads, "tilewright-patches")

    def drawn() -> Iterator[T]:
        waiting = [pool.submit(make, step) for step in steps[: AHEAD * threads]]
        for step in steps:
            found = waiting.pop(0).result()
            following = step + AHEAD * threads
            if following < steps.stop:
                waiting.append(pool.submit(make, following))
            yield found

    try:
        yield drawn()
    finally:
        pool.shutdown(cancel_futures=True)
