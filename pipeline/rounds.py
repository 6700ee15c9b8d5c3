"""Running the rounds of one image: tiles are mapped, records reduced, labels joined in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from pipeline.grid import TileGrid
from pipeline.job import ImageJob
from pipeline.join import Pieces, join_classes, join_pieces
from pipeline.joined import Joined
from pipeline.lookup import save_joined
from pipeline.measurements.measure_round import MeasureRound
from pipeline.methods.base import JoinRound, Round, State
from pipeline.orders import MapOrder, Objects
from pipeline.quality.riding import QUALITY
from pipeline.range_survey import RangeSurvey
from pipeline.recipe_sections import PostprocessSection
from pipeline.record_files import Part, open_record, round_records
from pipeline.records import Record
from pipeline.scratch import Scratch
from pipeline.steps import Steps
from pipeline.storage import path_of
from pipeline.view import RANGE, engine_keys

Whole = Mapping[str, NDArray[Any]]


class Rounds:
    """The rounds of one image.

    Parameters
    ----------
    job : ImageJob
    steps : Steps
    scratch : Scratch or None
        Where tiles keep arrays; None for the work folder.
    shards : TileGrid, optional
        The image's, where their quality is measured in the first round, see `can_ride`.

    Attributes
    ----------
    objects : Objects
        What was joined last; what follows sees it.
    quality : dict
        Number of a shard -> its record.
    """

    def __init__(
        self,
        job: ImageJob,
        steps: Steps,
        scratch: Scratch | None,
        shards: TileGrid | None = None,
    ) -> None:
        self._job, self._steps, self._scratch, self._shards = job, steps, scratch, shards
        self.objects = Objects()
        self.quality: dict[int, Whole] = {}

    def run(self, state: State) -> tuple[State, Pieces]:
        """Run all rounds of the recipe; the pieces are what each tile emitted last."""
        pieces: dict[int, Whole] = {}
        number, shards = 0, self._shards
        surveyed = RANGE in state or not self._job.needs_range
        step: Round | None = self._next(state) if surveyed else RangeSurvey()
        while step is not None:
            name = f"{number:04d}-{step.name}"
            if isinstance(step, JoinRound):
                self.join(pieces.__getitem__, PostprocessSection())
            surveying = isinstance(step, RangeSurvey)
            state, found = self._round(name, step, state, None if surveying else shards)
            pieces.update(found)
            if not surveying:
                shards = None  # the first round of the method has measured them
            number += 1
            step = self._next(state)
        return state, pieces.__getitem__

    def join(self, pieces: Pieces, post: PostprocessSection, by_key: bool = False) -> Joined:
        """Join what was emitted; what follows sees it."""
        with self._steps.timed("join"):
            if classes := self._job.recipe.segment.classes():
                joined = join_classes(self._job.grid, len(classes))
            else:
                joined = join_pieces(self._job.grid, pieces, post, by_key)
            number = self.objects.generation
            path = path_of(self._job.work) / f"lookup-{number}.bin"
            lookup = save_joined(path, joined) if self._steps.ledger.persistent else joined
            self.objects = Objects(lookup, number + 1)
        return joined

    def measure(self, state: State) -> Pieces:
        """Map the recipe's measurements over all tiles; their records stay where they are."""
        step = MeasureRound(self._job.recipe.gathered())
        found: dict[int, Whole] = {}
        for numbers, whole in self._mapped(step.name, step, state):
            found.update({n: Part(whole, n, "round") for n in numbers})
        return found.__getitem__

    def _next(self, state: State) -> Round | None:
        return self._job.recipe.next_round(state, self._job.context)

    def _round(
        self, name: str, step: Round, state: State, shards: TileGrid | None
    ) -> tuple[State, dict[int, Whole]]:
        known = self._steps.ledger.state(name)
        pieces: dict[int, Whole] = {}
        records: list[tuple[int, Record]] = []
        for numbers, whole in self._mapped(name, step, state, shards):
            if shards is not None:
                self._keep_quality(whole, numbers, shards)
            emitted = {n: Part(whole, n, "pieces") for n in numbers}
            pieces.update({n: part for n, part in emitted.items() if part})
            records += round_records(whole, numbers)
        if known is None:
            # These are the engine's: a method may return a state of its own keys only.
            kept = {key: state[key] for key in engine_keys(state)}
            known = {**kept, **step.reduce(records, state)}
            self._steps.ledger.close_step(name, known)
        return known, pieces

    def _keep_quality(self, whole: Whole, numbers: tuple[int, ...], shards: TileGrid) -> None:
        for tile in map(self._job.grid.tile, numbers):
            for shard in shards.touching(tile.frame, tile.core):
                if part := Part(whole, shard.number, QUALITY):
                    self.quality[shard.number] = part

    def _mapped(
        self, name: str, step: Round, state: State, shards: TileGrid | None = None
    ) -> Iterator[tuple[tuple[int, ...], Whole]]:
        """Map a round over its tiles; yields numbers of tiles with their records in one."""
        steps = self._steps
        with steps.timed(name):
            keys = set(state)
            if step.reads is not None:
                keys &= engine_keys(state) | set(step.reads)
            shared = steps.share(name, {key: state[key] for key in keys})

            def order(numbers: tuple[int, ...]) -> MapOrder:
                path = steps.record_path(name, numbers)
                return MapOrder(
                    self._job, numbers, step, shared, path, self.objects, self._scratch, shards
                )

            for receipt in steps.do(name, step.tiles(self._job.grid, state), order):
                known = open_record(receipt.path, receipt.digests[0]) if receipt.path else None
                yield receipt.numbers, receipt.record if known is None else known
