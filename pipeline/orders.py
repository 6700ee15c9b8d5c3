"""Orders: what a worker is asked to do. Small values; pixels and handles never travel.

An order is performed by any process that sees the work folder, any number of times, with the same
result: a repeated order writes the same bytes again.
"""

from __future__ import annotations

import resource
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from pipeline.files import digest
from pipeline.grid import Tile, TileGrid
from pipeline.job import ImageJob
from pipeline.joined import Joined, WholeObjects, put_together
from pipeline.lookup import JoinedFile
from pipeline.methods.base import Round, State, TileClasses
from pipeline.pieces import describe_classes, describe_pieces, probabilities_name
from pipeline.pyramid import Pixels, Pyramid, write_coarse_levels, write_shard
from pipeline.quality.riding import QUALITY, measure_tile
from pipeline.record_files import COMBINED, flatten, open_record
from pipeline.records import Record, save
from pipeline.scratch import FileScratch, Scratch
from pipeline.storage import path_of
from pipeline.view import TileView


def _peak() -> int:
    """Largest resident size of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a performed order leaves to be recorded.

    Parameters
    ----------
    numbers : tuple of int
        Tiles or shards that are done.
    digests : tuple of str
        One a number (published pixels), then one for the record file, if there is one.
    path : str
        The record file; empty where the record came back itself.
    record : dict of ndarray
    pixels, seconds : int, float
        What was worked on, and how long.
    peak_bytes : int
        Largest resident size that the process ever had.
    """

    numbers: tuple[int, ...]
    digests: tuple[str, ...]
    path: str = ""
    record: Record = field(default_factory=dict)
    pixels: int = 0
    seconds: float = 0.0
    peak_bytes: int = field(default_factory=_peak)


class Order(ABC):
    """Something to do for one image."""

    job: ImageJob
    numbers: tuple[int, ...]

    @property
    def wants_gpu(self) -> bool:
        """Whether it should go to a worker that has a GPU."""
        return False

    @abstractmethod
    def perform(self) -> Receipt:
        """Do it; raise a TilewrightError if it cannot be done."""


@dataclass(frozen=True, slots=True)
class Shared:
    """State of a round: in the order itself, or in a file where it is large."""

    state: State
    path: str = ""
    digest: str = ""

    def load(self) -> State:
        return {**open_record(self.path, self.digest)} if self.path else self.state


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects joined last, and how often labels were joined so far."""

    joined: Joined | JoinedFile | None = None
    generation: int = 0

    def seen(self) -> WholeObjects | None:
        """The objects as windows see them; None before the first join."""
        found = self.joined.open() if isinstance(self.joined, JoinedFile) else self.joined
        return None if found is None else WholeObjects(found, self.generation)


@dataclass(frozen=True)
class MapOrder(Order):
    """Map a round over some tiles.

    `shards`: those of the image, where their quality is measured in the same visit.
    """

    job: ImageJob
    numbers: tuple[int, ...]
    round: Round
    shared: Shared
    record_path: str
    objects: Objects
    scratch: Scratch | None = None
    shards: TileGrid | None = None

    @property
    def wants_gpu(self) -> bool:
        return self.round.device == "gpu"

    def perform(self) -> Receipt:
        begun = time.perf_counter()
        scratch = _scratch_of(self.job, self.scratch)
        state = self.shared.load()
        outputs: dict[int, Record] = {}
        pieces: dict[int, Record] = {}
        quality: dict[int, Record] = {}
        pixels = 0
        for number in self.numbers:
            tile = self.job.grid.tile(number)
            view = TileView(self.job, tile, scratch, state, self.objects.seen())
            outputs[number], found = self._map(view, state)
            if found is not None:
                pieces[number] = found
            if self.shards is not None:
                quality |= measure_tile(view, self.shards)
            pixels += tile.core.size
        combined = self.round.combine(outputs.values())
        if combined is not None:
            outputs = {COMBINED: combined}
        record = flatten(outputs, "round") | flatten(pieces, "pieces")
        record |= flatten(quality, QUALITY)
        return self._receipt(record, pixels, time.perf_counter() - begun)

    def _map(self, view: TileView, state: State) -> tuple[Record, Record | None]:
        """The records of one tile; its pixels are let go before the next tile is read."""
        output = self.round.map(view, state)
        if output.labels is None:
            return output.record, None
        if isinstance(output.labels, TileClasses):
            count = len(self.job.recipe.segment.classes())
            return output.record, describe_classes(view, output.labels, count)
        return output.record, describe_pieces(view, output.labels)

    def _receipt(self, record: Record, pixels: int, seconds: float) -> Receipt:
        return receipt_of(self.numbers, (), record, self.record_path, pixels, seconds)


def receipt_of(
    numbers: tuple[int, ...],
    digests: tuple[str, ...],
    record: Record,
    path: str,
    pixels: int,
    seconds: float,
) -> Receipt:
    """The receipt of an order that leaves a record: in a file, where a path is given."""
    if not path:
        return Receipt(numbers, digests, "", record, pixels, seconds)
    found = save(path_of(path), record)
    return Receipt(numbers, (*digests, found), path, {}, pixels, seconds)


@dataclass(frozen=True)
class ShardOrder(Order):
    """Write some shards of a pyramid."""

    job: ImageJob
    numbers: tuple[int, ...]
    pyramid: Pyramid

    @abstractmethod
    def regions(self) -> Callable[[Tile], Pixels]:
        """What gives the pixels (C, \\*core) of a shard."""

    def perform(self) -> Receipt:
        begun = time.perf_counter()
        region = self.regions()
        digests = []
        pixels = 0
        for number in self.numbers:
            shard = self.pyramid.grid().tile(number)
            digests.append(digest_levels(write_shard(self.pyramid, number, region(shard))))
            pixels += shard.core.size
        seconds = time.perf_counter() - begun
        return Receipt(self.numbers, tuple(digests), pixels=pixels, seconds=seconds)


@dataclass(frozen=True)
class PublishOrder(ShardOrder):
    """Look up the final labels of some shards and write them."""

    objects: Objects
    scratch: Scratch | None = None

    def regions(self) -> Callable[[Tile], Pixels]:
        scratch = _scratch_of(self.job, self.scratch)
        whole = self.objects.seen()
        if whole is None:
            raise ValueError("no objects were joined before they are published")

        def region(shard: Tile) -> Pixels:
            labels = whole.labels(self.job.grid, shard.frame, shard.core, scratch)
            return labels.astype(self.pyramid.dtype, copy=False)[None]

        return region


@dataclass(frozen=True)
class PublishProbabilitiesOrder(ShardOrder):
    """Put the probabilities of all classes in some shards together and write them."""

    scratch: Scratch | None = None

    def regions(self) -> Callable[[Tile], Pixels]:
        scratch = _scratch_of(self.job, self.scratch)

        def region(shard: Tile) -> Pixels:
            classes = self.pyramid.info.shape[1]
            out = np.zeros((classes, *shard.core.shape), self.pyramid.dtype)
            for number in range(classes):
                kept = partial(_kept, scratch, probabilities_name(number))
                put_together(self.job.grid, shard.frame, shard.core, kept, out[number])
            return out

        return region


def _scratch_of(job: ImageJob, scratch: Scratch | None) -> Scratch:
    return scratch or FileScratch(path_of(job.work) / "scratch")


def _kept(scratch: Scratch, name: str, tile: Tile, cut: tuple[slice, ...]) -> Pixels:
    return scratch.get(name, tile.number)[cut]


@dataclass(frozen=True)
class CoarseOrder(Order):
    """Write the coarsest levels of a pyramid, when all shards are there."""

    job: ImageJob
    numbers: tuple[int, ...]
    pyramid: Pyramid

    def perform(self) -> Receipt:
        levels = write_coarse_levels(self.pyramid)
        return Receipt(self.numbers, (digest_levels(levels),))


def digest_levels(levels: list[Pixels]) -> str:
    """Digests of level 0 and of the coarser ones, so that each can be checked alone."""
    first = digest(*(_bytes(level) for level in levels[:1]))
    return f"{first}:{digest(*(_bytes(level) for level in levels[1:]))}"


def _bytes(pixels: Pixels) -> memoryview:
    little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little).data.cast("B")
