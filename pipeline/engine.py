"""The engine: runs a method's rounds over one image, joins, and publishes into staging.

It is the same for a small image within one worker and for a large one spread over a cluster; only
the executor, which performs orders, and the ledger, which remembers them, differ.

    read -> [range survey] -> rounds of the method -> join -> publish -> [measure] -> table
         -> metadata
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.extra_files import write_extra_files
from pipeline.files import digest
from pipeline.graph.tables import write_graph
from pipeline.grid import TileGrid
from pipeline.job import ImageJob
from pipeline.join import join_classes, join_pieces
from pipeline.joined import Joined
from pipeline.ledger import Ledger, pending
from pipeline.lookup import save_joined
from pipeline.measurements.measure_round import MeasureRound
from pipeline.methods.base import JoinRound, Round, State
from pipeline.objects import class_table, empty_table, object_table
from pipeline.orders import (
    CoarseOrder,
    MapOrder,
    Objects,
    Order,
    PublishOrder,
    PublishProbabilitiesOrder,
    Receipt,
    Shared,
)
from pipeline.output import FRAGMENTS, OutputPlan
from pipeline.pyramid import Pyramid
from pipeline.range_survey import RangeSurvey
from pipeline.read_order import QUALITY, ReadOrder, write_quality
from pipeline.recipe import PostprocessSection
from pipeline.record_files import COMBINED, Part, open_record
from pipeline.records import Record, save
from pipeline.scratch import FileScratch, MemoryScratch, Scratch
from pipeline.shared_blocks import plan_reading
from pipeline.storage import path_of
from pipeline.table_file import TableFile
from pipeline.view import RANGE, TileView, engine_keys

#: Performs orders in any order, several at once, and hands back each with its receipt or error.
Executor = Callable[[Iterable[Order]], Iterator[tuple[Order, Receipt | BaseException]]]
#: Told of every finished order: step, tiles, pixels.
Watcher = Callable[[str, int, int], None]

#: Puts the shards that are left into orders.
Batches = Callable[[Sequence[int]], Iterator[tuple[int, ...]]]

#: States above this many bytes travel by file.
LARGE_STATE = 2**16


def perform_here(orders: Iterable[Order]) -> Iterator[tuple[Order, Receipt | BaseException]]:
    """The executor of one process."""
    for order in orders:
        yield order, order.perform()


@dataclass(frozen=True, slots=True)
class Published:
    """One finished image in staging.

    Parameters
    ----------
    count : int
        Number of objects, or of classes.
    digest : str
        Of all labels at level 0, whatever the tiling.
    table_digest : str
        Of the object table's content.
    quality_digest : str
        Of the table of the image's quality; empty where it was not measured.
    shards : dict
        Array name ("labels", "image", "probabilities", "fragments") -> digests of its shards,
        then of its coarse levels.
    files : dict
        What else was written of the objects ("outlines", "tables") -> its digest.
    certificate : dict
        What was proven or measured of "tiled equals untiled".
    seconds : dict
        Wall time of each step.
    pixels : int
        Pixels of all frames, one channel.
    peak_bytes : int
        Largest resident size of a worker that took part.
    """

    count: int
    digest: str
    table_digest: str
    quality_digest: str
    shards: dict[str, list[str]]
    files: dict[str, str]
    graph: dict[str, str]
    certificate: dict[str, Any]
    seconds: dict[str, float]
    pixels: int
    peak_bytes: int


@dataclass
class Engine:
    """Runs one image.

    Parameters
    ----------
    job : ImageJob
    output : OutputPlan
        Where the results are staged.
    execute : Executor
    ledger : Ledger
    batch_tiles : int
        Tiles or shards an order.
    watch : Watcher
    """

    job: ImageJob
    output: OutputPlan
    execute: Executor
    ledger: Ledger
    batch_tiles: int = 1
    watch: Watcher = lambda step, tiles, pixels: None
    _scratch: Scratch | None = None
    _objects: Objects = field(default_factory=Objects)
    _seconds: dict[str, float] = field(default_factory=dict)
    _peak_bytes: int = 0

    def __post_init__(self) -> None:
        if not self.ledger.persistent:
            self._scratch = MemoryScratch()

    def run(self, state: State | None = None) -> Published:
        """Segment the image and stage its results.

        Parameters
        ----------
        state : dict of ndarray, optional
            What dataset-wide rounds have found before.
        """
        shards: dict[str, list[str]] = {}
        quality_digest = ""
        begun = self.ledger.state("begin")
        if begun is None:
            self.output.prepare()
            self.ledger.close_step("begin", {})
        if self.output.image is not None or self.output.measures_quality:
            image, quality_digest = self._read()
            shards |= {"image": image} if image else {}
        elif self.output.mode == "copy":
            self.job = self.job.reading(self.output.staged_source())
        state, pieces = self._rounds(dict(state or {}))
        before = self._objects
        by_key = self.job.recipe.parent_label is not None
        joined = self._join(pieces, self.job.recipe.postprocess, by_key)
        labels = self.output.labels(joined.largest)
        shards["labels"] = self._publish("publish", labels, self._objects)
        if self.output.fragments is not None:
            # Merging begins with the last of the joins between rounds.
            shards[FRAGMENTS] = self._publish("publish-fragments", self.output.fragments, before)
        if self.output.probabilities is not None:
            shards["probabilities"] = self._publish_probabilities(self.output.probabilities)
        measured = self._measure(state) if self.job.recipe.gathered() else None
        table_digest = self._write_table(pieces, joined, state, measured)
        files = write_extra_files(self.job, self.output, joined, measured)
        graph: dict[str, str] = {}
        if self.job.recipe.merge is not None:
            graph = write_graph(self.output.graph, state, self._labels_of_keys(pieces, joined))
        self.output.finish(labels, joined.count)
        certificate = self.job.recipe.certificate(state)
        level0 = [item.split(":")[0] for item in shards["labels"][:-1]]
        return Published(
            joined.count,
            digest(*(item.encode() for item in level0)),
            table_digest,
            quality_digest,
            shards,
            files,
            graph,
            certificate,
            dict(self._seconds),
            self.job.grid.pixels,
            self._peak_bytes,
        )

    def expected(self) -> dict[str, int]:
        """Tiles and shards that will be visited at least, by stage."""
        labels = self.output.labels(0)
        found = {"segment": len(self.job.grid) * self.job.recipe.segment.least_passes()}
        if self.job.recipe.gathered():
            found["segment"] += len(self.job.grid)
        if self.output.image is not None or self.output.measures_quality:
            found = {"ingest": len(labels.grid()), **found}
        more = sum(a is not None for a in (self.output.probabilities, self.output.fragments))
        return {**found, "publish": (1 + more) * len(labels.grid())}

    def survey(self, step: Round, state: State) -> list[tuple[int, Record]]:
        """Map one dataset-wide round over this image; the caller reduces."""
        records = self._map(f"dataset-{step.name}", step, state)
        return [(tile, dict(record)) for tile, record in records]

    def _read(self) -> tuple[list[str], str]:
        """Read the image where it comes from, once; returns digests of its shards and its quality.

        It is copied where the output has it, and whatever reads it later reads the copy.
        """
        pyramid, quality = self.output.image, self.output.measures_quality
        step = QUALITY if pyramid is None else "ingest"
        shards = pyramid or self.output.labels(0)
        grid, reading = shards.grid(), plan_reading(shards, self.job.hold_bytes)

        def order(job: ImageJob, numbers: tuple[int, ...]) -> Order:
            path = self._record_path(step, numbers)
            held = reading.hold_bytes
            return ReadOrder(job, numbers, grid, pyramid, quality, path, held, reading.together)

        def batches(todo: Sequence[int]) -> Iterator[tuple[int, ...]]:
            return reading.batches(todo, self.batch_tiles)

        if pyramid is None:
            digests: list[str] = []
            receipts = self._visit_shards(step, grid, order, batches)
        else:
            receipts, digests = self._write_shards(step, pyramid, order, batches)
        table = write_quality(self.output.quality, self.job, grid, receipts) if quality else ""
        if pyramid is not None:
            self.output.finish_image()
            self.job = self.job.reading(self.output.staged_source())
        return digests, table

    def _rounds(self, state: State) -> tuple[State, Callable[[int], Mapping[str, Any]]]:
        pieces: dict[int, Mapping[str, Any]] = {}
        number = 0
        step: Round | None = RangeSurvey() if self._range_missing(state) else self._next(state)
        while step is not None:
            name = f"{number:04d}-{step.name}"
            if isinstance(step, JoinRound):
                self._join(pieces.__getitem__, PostprocessSection())
            state, found = self._round(name, step, state)
            pieces.update(found)
            number += 1
            step = self._next(state)
        return state, pieces.__getitem__

    def _range_missing(self, state: State) -> bool:
        return self.job.needs_range and RANGE not in state

    def _next(self, state: State) -> Round | None:
        return self.job.recipe.next_round(state, self.job.context)

    def _round(
        self, name: str, step: Round, state: State
    ) -> tuple[State, dict[int, Mapping[str, Any]]]:
        known = self.ledger.state(name)
        pieces: dict[int, Mapping[str, Any]] = {}
        records = list(self._map(name, step, state, pieces))
        if known is None:
            # These are the engine's: a method may return a state of its own keys only.
            kept = {key: state[key] for key in engine_keys(state)}
            known = {**kept, **step.reduce(records, state)}
            self.ledger.close_step(name, known)
        return known, pieces

    def _map(
        self,
        name: str,
        step: Round,
        state: State,
        pieces: dict[int, Mapping[str, Any]] | None = None,
    ) -> Iterator[tuple[int, Record]]:
        """Map a round over its tiles; yields their records, and keeps their pieces."""
        for numbers, whole in self._mapped(name, step, state):
            if pieces is not None:
                emitted = {n: Part(whole, n, "pieces") for n in numbers}
                pieces.update({n: part for n, part in emitted.items() if part})
            for tile in (COMBINED, *numbers):
                record = dict(Part(whole, tile, "round"))
                if record:
                    yield tile, record

    def _measure(self, state: State) -> Callable[[int], Mapping[str, Any]]:
        """Map the recipe's measurements over all tiles; their records stay where they are."""
        step = MeasureRound(self.job.recipe.gathered())
        found: dict[int, Mapping[str, Any]] = {}
        for numbers, whole in self._mapped(step.name, step, state):
            found.update({n: Part(whole, n, "round") for n in numbers})
        return found.__getitem__

    def _mapped(
        self, name: str, step: Round, state: State
    ) -> Iterator[tuple[tuple[int, ...], Mapping[str, Any]]]:
        """Map a round over its tiles; yields numbers of tiles with their records in one."""
        begun = time.perf_counter()
        keys = set(state)
        if step.reads is not None:
            keys &= engine_keys(state) | set(step.reads)
        shared = self._share(name, {key: state[key] for key in keys})
        done = self.ledger.receipts(name)
        todo = pending(step.tiles(self.job.grid, state), done)
        self.watch(name, sum(len(receipt.numbers) for receipt in done), 0)
        orders = (
            MapOrder(
                self.job,
                numbers,
                step,
                shared,
                self._record_path(name, numbers),
                self._objects,
                self._scratch,
            )
            for numbers in self._batches(todo)
        )
        for receipt in [*done, *self._perform(name, orders)]:
            known = open_record(receipt.path, receipt.digests[0]) if receipt.path else None
            yield receipt.numbers, receipt.record if known is None else known
        self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - begun

    def _join(
        self,
        pieces: Callable[[int], Mapping[str, Any]],
        post: PostprocessSection,
        by_key: bool = False,
    ) -> Joined:
        """Join what was emitted; what follows sees it."""
        begun = time.perf_counter()
        if classes := self.job.recipe.segment.classes():
            joined = join_classes(self.job.grid, len(classes))
        else:
            joined = join_pieces(self.job.grid, pieces, post, by_key)
        number = self._objects.generation
        path = path_of(self.job.work) / f"lookup-{number}.bin"
        lookup = save_joined(path, joined) if self.ledger.persistent else joined
        self._objects = Objects(lookup, number + 1)
        self._seconds["join"] = self._seconds.get("join", 0.0) + time.perf_counter() - begun
        return joined

    def _labels_of_keys(
        self, pieces: Callable[[int], Mapping[str, Any]], joined: Joined
    ) -> NDArray[np.int64]:
        """Final label of every key 1..n that tiles have given their pieces."""
        found = [np.empty((0, 2), np.int64)]
        for number in range(len(self.job.grid)):
            keys = pieces(number)["keys"].astype(np.int64)
            labels = joined.table(number)[1:].astype(np.int64)
            found.append(np.stack([keys, labels], axis=1)[keys > 0])
        pairs = np.concatenate(found)
        label = np.zeros(int(pairs[:, 0].max(initial=0)) + 1, np.int64)
        label[pairs[:, 0]] = pairs[:, 1]
        return label

    def _publish(self, step: str, labels: Pyramid, objects: Objects) -> list[str]:
        return self._write_shards(
            step,
            labels,
            lambda job, numbers: PublishOrder(job, numbers, labels, objects, self._scratch),
        )[1]

    def _publish_probabilities(self, pyramid: Pyramid) -> list[str]:
        _, digests = self._write_shards(
            "publish-probabilities",
            pyramid,
            lambda job, numbers: PublishProbabilitiesOrder(job, numbers, pyramid, self._scratch),
        )
        self.output.finish_probabilities()
        return digests

    def _write_shards(
        self,
        step: str,
        pyramid: Pyramid,
        order: Callable[[ImageJob, tuple[int, ...]], Order],
        batches: Batches | None = None,
    ) -> tuple[list[Receipt], list[str]]:
        """Write all shards of a pyramid, then its coarse levels; returns their digests, too."""
        begun = time.perf_counter()
        if not self.ledger.receipts(step) and self.ledger.state(f"{step}-created") is None:
            pyramid.create()
            self.ledger.close_step(f"{step}-created", {})
        grid: TileGrid = pyramid.grid()
        receipts = self._visit_shards(step, grid, order, batches)
        found: dict[int, str] = {}
        for receipt in receipts:
            # A record has its digest behind those of the shards.
            found.update(zip(receipt.numbers, receipt.digests, strict=False))
        (last,) = self.ledger.receipts(f"{step}-coarse") or self._perform(
            f"{step}-coarse", [CoarseOrder(self.job, (0,), pyramid)]
        )
        self._seconds[step] = time.perf_counter() - begun
        return receipts, [*(found[n] for n in range(len(grid))), *last.digests]

    def _visit_shards(
        self,
        step: str,
        grid: TileGrid,
        order: Callable[[ImageJob, tuple[int, ...]], Order],
        batches: Batches | None = None,
    ) -> list[Receipt]:
        """Perform the orders of all shards that are not done; returns the receipts of all."""
        begun = time.perf_counter()
        done = self.ledger.receipts(step)
        self.watch(step, sum(len(receipt.numbers) for receipt in done), 0)
        todo = pending(range(len(grid)), done)
        orders = (order(self.job, numbers) for numbers in (batches or self._batches)(todo))
        receipts = [*done, *self._perform(step, orders)]
        self._seconds[step] = time.perf_counter() - begun
        return receipts

    def _perform(self, step: str, orders: Iterable[Order]) -> Iterator[Receipt]:
        for order, answer in self.execute(orders):
            if isinstance(answer, BaseException):
                raise answer
            self.ledger.add(step, answer)
            self._peak_bytes = max(self._peak_bytes, answer.peak_bytes)
            self.watch(step, len(order.numbers), answer.pixels)
            yield answer

    def _write_table(
        self,
        pieces: Callable[[int], Mapping[str, Any]],
        joined: Joined,
        state: State,
        measured: Callable[[int], Mapping[str, Any]] | None,
    ) -> str:
        begun = time.perf_counter()
        view = TileView(self.job, self.job.grid.tile(0), self._scratch or _NO_SCRATCH, state)
        ranges = [view.raw_range(channel) for channel in self.job.measured]
        with TableFile(self.output.table, empty_table(self.job).schema) as file:
            if self.job.recipe.segment.classes():
                tables = class_table(self.job, pieces, joined, ranges)
            else:
                tables = object_table(self.job, pieces, joined, ranges, measured)
            for table in tables:
                file.add(table)
        self._seconds["table"] = time.perf_counter() - begun
        return file.digest

    def _batches(self, numbers: Sequence[int]) -> Iterator[tuple[int, ...]]:
        for k in range(0, len(numbers), self.batch_tiles):
            yield tuple(numbers[k : k + self.batch_tiles])

    def _record_path(self, step: str, numbers: tuple[int, ...]) -> str:
        if not self.ledger.persistent:
            return ""
        return str(path_of(self.job.work) / "records" / step / f"{numbers[0]}-{numbers[-1]}.npz")

    def _share(self, name: str, state: State) -> Shared:
        if not self.ledger.persistent or sum(a.nbytes for a in state.values()) < LARGE_STATE:
            return Shared(state)
        path = path_of(self.job.work) / "states" / f"{name}-before.npz"
        return Shared({}, str(path), save(path, state))


_NO_SCRATCH = FileScratch(Path())
