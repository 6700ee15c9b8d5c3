"""Rounds of a method that look at the whole dataset before any image goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from flows.admission import Submit
from pipeline.errors import MethodError, RecipeError, TilewrightError
from pipeline.methods.base import Round, State
from pipeline.orders import MapOrder, Objects, Receipt, Shared
from pipeline.plan import ImagePlan
from pipeline.range_survey import RangeSurvey
from pipeline.record_files import round_records
from pipeline.records import Record
from pipeline.scratch import MemoryScratch

#: Pixels of one order of a survey.
ORDER_PX = 16_000_000


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What the dataset's rounds found, and which images could not be read for it."""

    state: State
    failed: dict[str, BaseException]


def survey_dataset(
    plans: Sequence[ImagePlan],
    submit: Submit,
    perform: Callable[[MapOrder], Receipt | TilewrightError],
) -> Surveyed:
    """Run the dataset-wide rounds.

    Raises
    ------
    RecipeError
        If the images differ so that one survey cannot hold for all.
    """
    state: State = {}
    failed: dict[str, BaseException] = {}
    if plans[0].job.needs_range:
        state = _round(RangeSurvey(), plans, state, submit, perform, failed)
    while True:
        left = [p for p in plans if p.job.name not in failed]
        if not left:
            return Surveyed(state, failed)
        step = left[0].job.recipe.next_round(state, left[0].job.context)
        if step is None or step.scope != "dataset":
            return Surveyed(state, failed)
        step = step.over([plan.job.context for plan in left])
        state = _round(step, left, state, submit, perform, failed)


def _round(
    step: Round,
    plans: Sequence[ImagePlan],
    state: State,
    submit: Submit,
    perform: Callable[[MapOrder], Receipt | TilewrightError],
    failed: dict[str, BaseException],
) -> State:
    """Map one round over all images; a failing image is left out as a whole."""
    found: dict[str, list[tuple[int, Record]]] = {}
    orders = (order for plan in plans for order in _orders(plan, step, state))
    for order, answer in submit(perform, orders):
        name = order.job.name
        if isinstance(answer, BaseException):
            failed[name] = answer
            continue
        found.setdefault(name, []).extend(round_records(answer.record, answer.numbers))
    good = [pair for name in sorted(found) if name not in failed for pair in found[name]]
    try:
        return step.reduce(good, state) if good else state
    except MethodError as error:
        raise RecipeError(str(error)) from error
    except ValueError as error:
        raise RecipeError(
            "segment.scope: the images of the dataset differ in their number of channels, so that "
            "they cannot be surveyed together. Use `scope: image`, or split the archive."
        ) from error


def _orders(plan: ImagePlan, step: Round, state: State) -> Iterator[MapOrder]:
    tile_px = max(1, plan.pixels // len(plan.job.grid))
    numbers = step.tiles_of(plan.job.context, state)
    size = max(1, ORDER_PX // tile_px)
    for k in range(0, len(numbers), size):
        chosen = tuple(numbers[k : k + size])
        yield MapOrder(plan.job, chosen, step, Shared(state), "", Objects(), MemoryScratch())
