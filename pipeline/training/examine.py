"""Reading one pair and checking it: sizes, ranges, empty masks. Problems are collected."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ImageError, MethodError
from pipeline.files import digest
from pipeline.job import check_dtype, choose_channels
from pipeline.nets.heads import ClassesHead
from pipeline.sources import SourceSpec, open_source
from pipeline.training.pairs import Pair, Problem
from pipeline.training.read_labels import read_frames, read_labels, without_gaps
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.targets import UNKNOWN
from pipeline.training.weak.label import Learned, Seen, WrongData

T = TypeVar("T")


@dataclass(frozen=True)
class Examined:
    """A pair as it was read.

    Parameters
    ----------
    name : str
    pixels : ndarray of shape (F, C, \\*S)
        F frames.
    learned : Learned
    digest : str
        Of pixels and labels.
    """

    name: str
    pixels: NDArray[Any]
    learned: Learned
    digest: str


def examine(pair: Pair, recipe: TrainingRecipe) -> Examined | list[Problem]:
    """Read a pair, or say all that is wrong with it."""
    problems: list[Problem] = []

    def tried(action: Callable[..., T], *given: Any) -> T | None:
        try:
            return action(*given)
        except WrongData as wrong:
            problems.append(Problem(wrong.kind, pair.name, str(wrong)))
        except MethodError as error:  # of shapes that somebody drew
            problems.append(Problem("drawn", pair.name, f"{error.reason}. {error.remedy}".strip()))
        except ImageError as error:
            problems.append(Problem("unreadable", pair.name, error.reason))
        return None

    seen = tried(_read_image, pair.image, recipe)
    shape = None if seen is None else seen.shape
    learned: Learned | None = None
    if pair.weak is None:
        learned = Learned(
            None if pair.objects is None else tried(_read_objects, pair.objects, recipe, shape),
            None if pair.classes is None else tried(_read_classes, pair.classes, recipe, shape),
        )
    elif seen is not None:
        learned = tried(pair.weak.learn, seen, recipe)
    if seen is None or learned is None or problems:
        return problems
    told = [np.array([*one.box.start, *one.box.stop, *one.tags]) for one in learned.regions]
    what = _digest(seen.pixels, learned.objects, learned.classes, *told)
    return Examined(pair.name, seen.pixels, learned, what)


def _digest(*arrays: NDArray[Any] | None) -> str:
    there = [array for array in arrays if array is not None]
    facts = json.dumps([[array.dtype.str, array.shape] for array in there]).encode()
    return digest(facts, *(np.ascontiguousarray(array).tobytes() for array in there))


def _read_image(spec: SourceSpec, recipe: TrainingRecipe) -> Seen:
    with open_source(spec) as source:
        check_dtype(source.info, spec.name)
        try:
            channels = choose_channels(recipe.source.channels, source.info, spec.name)
        except ImageError as error:
            raise WrongData("channels", error.reason) from error
        if len(channels) != len(recipe.channels):
            names = ", ".join(recipe.channels)
            raise WrongData(
                "channels",
                f"{len(channels)} channels are selected, and the network takes "
                f"{len(recipe.channels)} ({names})",
            )
        pixels, info = read_frames(source, channels, recipe.ndim), source.info
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise WrongData("range", "some of its pixels are not finite")
    return Seen(spec.name, info, pixels)


def _read_objects(
    spec: SourceSpec, recipe: TrainingRecipe, shape: tuple[int, ...] | None
) -> NDArray[np.int32]:
    labels = read_labels(spec, recipe, shape)
    if labels.size and (low := int(labels.min())) < 0:
        raise WrongData("range", f"its objects have the number {low}")
    if not labels.any() and not recipe.data.allow_empty:
        raise WrongData("empty", "its labels hold no object")
    return np.stack([without_gaps(plane) for plane in labels])


def _read_classes(
    spec: SourceSpec, recipe: TrainingRecipe, shape: tuple[int, ...] | None
) -> NDArray[np.int16]:
    labels = read_labels(spec, recipe, shape)
    head = next((h for h in recipe.heads if isinstance(h, ClassesHead)), None)
    count = 2 if head is None else len(head.names)
    known = labels if recipe.data.ignore is None else labels[labels != recipe.data.ignore]
    wrong = known[(known < 0) | (known >= count)]
    if wrong.size:
        values = ", ".join(map(str, np.unique(wrong)[:5].tolist()))
        raise WrongData("range", f"its classes hold {values}, and the classes are 0 to {count - 1}")
    if not known.size:
        raise WrongData("empty", "none of its classes is known")
    found = labels.astype(np.int16)
    if recipe.data.ignore is not None:
        found[labels == recipe.data.ignore] = UNKNOWN
    return found
