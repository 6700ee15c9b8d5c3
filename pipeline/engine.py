"""The engine: the stages of one image, whose results are published into staging.

It is the same for a small image within one worker and for a large one spread over a cluster; only
the executor, which performs orders, and the ledger, which remembers them, differ.

    ingest -> [range survey] -> rounds of the method -> join -> publish -> [measure] -> table
           -> metadata
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.extra_files import write_extra_files
from pipeline.files import digest
from pipeline.graph.tables import write_graph
from pipeline.ingest import ingest
from pipeline.job import ImageJob
from pipeline.join import Pieces
from pipeline.joined import Joined, labels_of_keys
from pipeline.ledger import Ledger
from pipeline.methods.base import State
from pipeline.objects import class_table, empty_table, object_table
from pipeline.orders import Objects, PublishOrder, PublishProbabilitiesOrder
from pipeline.output import FRAGMENTS, OutputPlan
from pipeline.pyramid import Pyramid
from pipeline.quality.riding import can_ride
from pipeline.read_order import write_quality
from pipeline.rounds import Rounds
from pipeline.scratch import MemoryScratch, Scratch
from pipeline.steps import Executor, Steps, Watcher
from pipeline.table_file import TableFile
from pipeline.view import raw_range


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
    scratch : Scratch, optional
        Where tiles keep arrays; by default in memory, or in the work folder where the ledger is
        persistent.
    """

    job: ImageJob
    output: OutputPlan
    execute: Executor
    ledger: Ledger
    batch_tiles: int = 1
    watch: Watcher = lambda step, tiles, pixels: None
    scratch: Scratch | None = None

    def __post_init__(self) -> None:
        if self.scratch is None and not self.ledger.persistent:
            self.scratch = MemoryScratch()

    def run(self, state: State | None = None) -> Published:
        """Segment the image and stage its results.

        Parameters
        ----------
        state : dict of ndarray, optional
            What dataset-wide rounds have found before.
        """
        job, output = self.job, self.output
        steps = Steps(job.work, self.execute, self.ledger, self.batch_tiles, self.watch)
        if self.ledger.state("begin") is None:
            output.prepare()
            self.ledger.close_step("begin", {})
        grid, rides = output.labels(0).grid(), self._quality_rides
        image, quality_digest = ([], "") if rides else ingest(job, output, steps)
        shards = {"image": image} if image else {}
        if output.mode == "copy":
            job = job.reading(output.staged_source())
        rounds = Rounds(job, steps, self.scratch, grid if rides else None)
        state, pieces = rounds.run(dict(state or {}))
        if rides and len(rounds.quality) == len(grid):
            found = rounds.quality
            quality_digest = write_quality(output.quality, job, grid, lambda n: dict(found[n]))
        elif rides:  # the round did not visit all tiles
            _, quality_digest = ingest(job, output, steps)
        before = rounds.objects
        joined = rounds.join(pieces, job.recipe.postprocess, job.recipe.parent_label is not None)
        labels = output.labels(joined.largest)
        shards["labels"] = self._publish(steps, job, "publish", labels, rounds.objects)
        if output.fragments is not None:
            # Merging begins with the last of the joins between rounds.
            name = "publish-fragments"
            shards[FRAGMENTS] = self._publish(steps, job, name, output.fragments, before)
        if output.probabilities is not None:
            shards["probabilities"] = self._publish_probabilities(steps, job, output.probabilities)
        measured = rounds.measure(state) if job.recipe.gathered() else None
        with steps.timed("table"):
            table_digest = _write_table(job, output, state, pieces, joined, measured)
        files = write_extra_files(job, output, joined, measured)
        graph: dict[str, str] = {}
        if job.recipe.merge is not None:
            graph = write_graph(output.graph, state, labels_of_keys(joined, pieces))
        output.finish(labels, joined.count)
        level0 = [item.split(":")[0] for item in shards["labels"][:-1]]
        return Published(
            joined.count,
            digest(*(item.encode() for item in level0)),
            table_digest,
            quality_digest,
            shards,
            files,
            graph,
            job.recipe.certificate(state),
            steps.seconds,
            job.grid.pixels,
            steps.peak_bytes,
        )

    def expected(self) -> dict[str, int]:
        """Tiles and shards that will be visited at least, by stage."""
        labels = self.output.labels(0)
        found = {"segment": len(self.job.grid) * self.job.recipe.segment.least_passes()}
        if self.job.recipe.gathered():
            found["segment"] += len(self.job.grid)
        alone = self.output.measures_quality and not self._quality_rides
        if self.output.image is not None or alone:
            found = {"ingest": len(labels.grid()), **found}
        more = sum(a is not None for a in (self.output.probabilities, self.output.fragments))
        return {**found, "publish": (1 + more) * len(labels.grid())}

    @property
    def _quality_rides(self) -> bool:
        """Whether quality is measured in the first round, so that nothing is read for it alone."""
        if self.output.image is not None or not self.output.measures_quality:
            return False
        return can_ride(self.job, self.output.labels(0).grid())

    def _publish(
        self, steps: Steps, job: ImageJob, step: str, labels: Pyramid, objects: Objects
    ) -> list[str]:
        return steps.write_pyramid(
            step,
            job,
            labels,
            lambda numbers: PublishOrder(job, numbers, labels, objects, self.scratch),
        )[1]

    def _publish_probabilities(self, steps: Steps, job: ImageJob, pyramid: Pyramid) -> list[str]:
        _, digests = steps.write_pyramid(
            "publish-probabilities",
            job,
            pyramid,
            lambda numbers: PublishProbabilitiesOrder(job, numbers, pyramid, self.scratch),
        )
        self.output.finish_probabilities()
        return digests


def _write_table(
    job: ImageJob,
    output: OutputPlan,
    state: State,
    pieces: Pieces,
    joined: Joined,
    measured: Pieces | None,
) -> str:
    """Write the table of objects, or of classes; returns its digest."""
    ranges = [raw_range(job.info, state, channel) for channel in job.measured]
    with TableFile(output.table, empty_table(job).schema) as file:
        if job.recipe.segment.classes():
            tables = class_table(job, pieces, joined, ranges)
        else:
            tables = object_table(job, pieces, joined, ranges, measured)
        for table in tables:
            file.add(table)
    return file.digest
