"""Rounds of a recipe that look at the whole dataset before any image goes on.

They come before all labels are made, one label's after the other's. What is of the images and not
of a label is looked at once for all: the range of values, and the light.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from flows.admission import Submit
from pipeline.errors import MethodError, RecipeError, TilewrightError
from pipeline.flat_field.survey import DARK, FLAT, FlatFieldSurvey
from pipeline.job import ImageJob, choose_channels
from pipeline.label_states import put_together
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
    """What the dataset's rounds found, and which images could not be read for it.

    Parameters
    ----------
    state : dict of ndarray
        Of all labels, see `pipeline.label_states`.
    failed : dict
        Name of an image -> why.
    """

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
    images = [tuple(_before_labels(part.job) for part in plan.parts) for plan in plans]
    survey = _Survey(images, submit, perform)
    state: State = {}
    if plans[0].job.needs_range:
        state = survey.round(RangeSurvey(), [jobs[0] for jobs in images], state)
    states = survey.light([state] * len(images[0]))
    labels = [job.recipe.label for job in images[0]]
    found = {label: survey.rounds_of(n, states[n]) for n, label in enumerate(labels)}
    return Surveyed(put_together(found), survey.failed)


def _before_labels(job: ImageJob) -> ImageJob:
    """The job without the labels that are yet to be made; they have no fingerprint."""
    files = {key: one for key, one in job.companions.items() if one.fingerprint}
    return replace(job, companions=files)


@dataclass
class _Survey:
    """Rounds over images; one that fails is left out of all that follow.

    Parameters
    ----------
    images : list of tuple of ImageJob
        The jobs of each image's labels.
    """

    images: list[tuple[ImageJob, ...]]
    submit: Submit
    perform: Callable[[MapOrder], Receipt | TilewrightError]
    failed: dict[str, BaseException] = field(default_factory=dict)

    def light(self, states: Sequence[State]) -> list[State]:
        """Estimate the flat field for all labels that ask for it, if any.

        Their channels are looked at in the same frames, so that each has one profile.
        """
        steps = {n: self._next(n, state) for n, state in enumerate(states)}
        asking = {n: one for n, one in steps.items() if isinstance(one, FlatFieldSurvey)}
        if not asking:
            return [*states]
        wanted = _channels(self.images[0], asking)
        first, step = next(iter(asking.items()))
        jobs = [_of_channels(jobs, asking) for jobs in self._left()]
        found = self.round(step, jobs, states[first])
        if FLAT not in found:
            return [*states]
        made = [*states]
        for n in asking:
            rows = [wanted.index(one) for one in _channels(self.images[0], [n])]
            made[n] = {**states[n], FLAT: found[FLAT][rows], DARK: found[DARK][rows]}
        return made

    def rounds_of(self, number: int, state: State) -> State:
        """Run all other dataset-wide rounds of one label."""
        while step := self._next(number, state):
            state = self.round(step, [jobs[number] for jobs in self._left()], state)
        return state

    def _left(self) -> list[tuple[ImageJob, ...]]:
        return [jobs for jobs in self.images if jobs[0].name not in self.failed]

    def _next(self, number: int, state: State) -> Round | None:
        """The next round of a label, if it is of the whole dataset and there are images."""
        for jobs in self._left():
            step = jobs[number].recipe.next_round(state, jobs[number].context)
            return step if step is not None and step.scope == "dataset" else None
        return None

    def round(self, step: Round, jobs: Sequence[ImageJob], state: State) -> State:
        """Map one round over images and reduce it; a failing image is left out as a whole."""
        step = step.over([job.context for job in jobs])
        found: dict[str, list[tuple[int, Record]]] = {}
        orders = (order for job in jobs for order in _orders(job, step, state))
        for order, answer in self.submit(self.perform, orders):
            name = order.job.name
            if isinstance(answer, BaseException):
                self.failed[name] = answer
                continue
            found.setdefault(name, []).extend(round_records(answer.record, answer.numbers))
        good = [pair for name in sorted(found) if name not in self.failed for pair in found[name]]
        try:
            return step.reduce(good, state) if good else state
        except MethodError as error:
            raise RecipeError(str(error)) from error
        except ValueError as error:
            raise RecipeError(
                "segment.scope: the images of the dataset differ in their number of channels, so "
                "that they cannot be surveyed together. Use `scope: image`, or split the archive."
            ) from error


def _channels(jobs: Sequence[ImageJob], labels: Iterable[int]) -> list[int | str]:
    """Channels that some labels of an image see, each once, as the recipe calls them."""
    asked = [jobs[n].recipe.source.channels or range(len(jobs[n].info.channels)) for n in labels]
    return list(dict.fromkeys(one for channels in asked for one in channels))


def _of_channels(jobs: Sequence[ImageJob], labels: Iterable[int]) -> ImageJob:
    """The image's job with the channels of several labels."""
    job = jobs[0]
    return replace(job, channels=choose_channels(_channels(jobs, labels), job.info, job.name))


def _orders(job: ImageJob, step: Round, state: State) -> Iterator[MapOrder]:
    tile_px = max(1, job.grid.pixels // len(job.grid))
    numbers = step.tiles_of(job.context, state)
    size = max(1, ORDER_PX // tile_px)
    for k in range(0, len(numbers), size):
        chosen = tuple(numbers[k : k + size])
        yield MapOrder(job, chosen, step, Shared(state), "", Objects(), MemoryScratch())
