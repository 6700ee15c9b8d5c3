"""`tilewright evaluate`: labels beside a truth, in numbers and pictures."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from pipeline.errors import ImageError, RecipeError
from pipeline.scores.boundary import MOST_TOLERANCE_PX
from pipeline.scores.find import find_labels
from pipeline.scores.matching import DIGITS
from pipeline.scores.pairing import Pair, pair_up, picture_of
from pipeline.scores.result import Result, make_result
from pipeline.scores.settings import THRESHOLDS, Settings
from pipeline.scores.stream import (
    TILES_AT_ONCE,
    Counted,
    Order,
    Scored,
    finish,
    score_part,
    score_small,
)
from pipeline.scores.tables import Tables
from pipeline.sources import SourceSpec, discover, expand
from pipeline.storage import AnyPath
from workers.pool import Pool

log = logging.getLogger(__name__)

#: What other processes need.
PRELOAD = ("pipeline.scores.stream", "pipeline.sources.ome_zarr", "pipeline.sources.tiff")
#: Images that a process is given at once.
IMAGES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """The arguments of the command."""

    labels: AnyPath
    truth: AnyPath
    out: Path | None = None
    label: str | None = None
    truth_label: str | None = None
    images: AnyPath | None = None
    classes: str | None = None
    dims: Literal["2d", "3d"] | None = None
    thresholds: tuple[float, ...] = ()
    tolerance_px: int = 2
    worst: int = 12
    only: str | None = None
    workers: int | None = None
    tile_px: int | None = None


def evaluate(request: EvaluateRequest) -> Result:
    """Score labels; with `out`, write tables and a page.

    Raises
    ------
    RecipeError
        An argument is wrong, or nothing can be compared.
    OutputError
        A run's folder cannot be read, or `out` cannot be written.
    """
    settings = read_settings(request)
    labels = find_labels(request.labels, request.label, request.only)
    truth = find_labels(request.truth, request.truth_label, request.only)
    pairing = pair_up(labels, truth)
    settings = replace(settings, classes=settings.classes or _classes(pairing.pairs))
    workers = request.workers or os.cpu_count() or 1
    with closing(Tables(request.out)) as tables, Pool(workers, PRELOAD) as pool:
        scored = score_pairs(pairing.pairs, settings, pool)
        result = make_result(pairing, settings, tables.keep(scored, pairing.failures))
        if not result.pairs:
            raise RecipeError(_nothing(request, result))
        tables.write(result, str(request.labels), str(request.truth))
    if request.out is not None and request.worst:
        from pipeline.scores.page import write_page

        names = str(request.labels), str(request.truth)
        write_page(request.out, result, request.worst, _pictures(request.images), names)
    return result


def read_settings(request: EvaluateRequest) -> Settings:
    """Check the arguments.

    Raises
    ------
    RecipeError
        A threshold or the tolerance is out of range.
    """
    if not 0 <= request.tolerance_px <= MOST_TOLERANCE_PX:
        raise RecipeError(
            f"--tolerance is {request.tolerance_px} px; it must be 0 to {MOST_TOLERANCE_PX}."
        )
    thresholds = tuple(sorted({_threshold(value) for value in request.thresholds}))
    names = tuple(name.strip() for name in (request.classes or "").split(",") if name.strip())
    if request.classes is not None and len(set(names)) != len(request.classes.split(",")):
        raise RecipeError(
            f'--classes is "{request.classes}"; give different names for 1, 2, ..., with commas.'
        )
    ndim: Literal[2, 3] | None = {None: None, "2d": 2, "3d": 3}[request.dims]
    return Settings(thresholds or THRESHOLDS, request.tolerance_px, names, ndim, request.tile_px)


def _threshold(value: float) -> Fraction:
    found = Fraction(str(value)) if math.isfinite(value) else Fraction(0)
    if not 0 < found <= 1 or found != round(found, DIGITS):
        raise RecipeError(
            f"--threshold is {value}; it must be above 0 and at most 1, with at most {DIGITS} "
            "digits behind the point."
        )
    return found


def score_pairs(
    pairs: Sequence[Pair], settings: Settings, pool: Pool
) -> Iterator[tuple[Pair, Scored | ImageError]]:
    """Score all pairs, in their order but for large images, which come last."""
    large: list[tuple[Pair, int]] = []
    orders = (Order(pair, settings) for pair in pairs)
    answers = pool.map(score_small, orders, IMAGES_AT_ONCE)
    for pair, answer in zip(pairs, answers, strict=True):
        if isinstance(answer, int):
            large.append((pair, answer))
        else:
            yield pair, answer
    for pair, tiles in large:
        yield pair, _score_large(pair, tiles, settings, pool)


def _score_large(pair: Pair, tiles: int, settings: Settings, pool: Pool) -> Scored | ImageError:
    orders = [
        Order(pair, settings, first, min(first + TILES_AT_ONCE, tiles))
        for first in range(0, tiles, TILES_AT_ONCE)
    ]

    def parts() -> Iterator[Counted]:
        for answer in pool.map(score_part, orders):
            if isinstance(answer, ImageError):
                raise answer
            yield answer

    try:
        return finish(Counted.sum(parts()), settings)
    except ImageError as error:
        return error


def _classes(pairs: Sequence[Pair]) -> tuple[str, ...]:
    found = {pair.labels.classes for pair in pairs}
    if len(found) > 1:
        raise RecipeError("The labels have different classes. Score them apart, with --only.")
    return found.pop() if found else ()


def _pictures(folder: AnyPath | None) -> Callable[[Pair], SourceSpec | None]:
    """Where the pixels behind a pair are."""
    known: list[SourceSpec] = []
    for found in [] if folder is None else discover(folder):
        try:
            known += expand(found)
        except ImageError as error:  # a picture must not cost the scores
            log.warning("%s", error)
    return lambda pair: picture_of(pair, known)


def _nothing(request: EvaluateRequest, result: Result) -> str:
    """Why nothing was scored."""
    reasons = [str(error) for error in result.failures[:5]]
    names = result.without_truth[:3]
    if names:
        reasons.append(f"Labels without truth are {', '.join(names)}.")
    return "\n".join(
        [
            f"{request.labels}: none of its labels can be compared with {request.truth}. Images "
            "belong together if their paths in the two folders are equal but for the suffix, or "
            "the last parts of them.",
            *reasons,
        ]
    )
