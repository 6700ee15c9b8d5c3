"""`tilewright plan`: the run on paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from flows.admission import admit_sources, named_sources, names_given
from flows.devices import own_gpus
from flows.request import Request
from pipeline.admission import Refused
from pipeline.disk_space import check_disk
from pipeline.errors import ImageError
from pipeline.graph.merging import Merging
from pipeline.job import ImageJob
from pipeline.plan import ImagePlan, Machine, plan_image
from pipeline.report.wording import plural
from pipeline.run_folder import RunFolder
from pipeline.sources.names import NONE_GIVEN, Given
from workers.gpu import ORDERS_PER_GPU
from workers.submit import run_serially

#: Images that are listed one by one.
LISTED = 20
#: Seconds until the first tile, with an embedded cluster and a warm server.
START_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class DryRun:
    """A run on paper.

    Parameters
    ----------
    plans : list of ImagePlan
    refused : list of ImageError
        Images that would be quarantined.
    machine : Machine
    """

    plans: list[ImagePlan]
    refused: list[ImageError]
    machine: Machine

    @property
    def seconds(self) -> float:
        """Rough wall time."""
        cpu = sum(plan.cpu_seconds for plan in self.plans)
        return START_SECONDS + cpu / self.machine.workers

    def text(self) -> str:
        """For the terminal."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{len(self.plans)} images, {sum(p.pixels for p in self.plans) / 1e6:,.1f} Mpx"
        yield from self._plates()
        if self.plans:
            yield from self._totals()
            yield f"{'Mpx':>9} {'tiles':>7} {'tile px':>10} {'halo':>5} {'peak MiB':>9}  image"
        for plan in self.plans[:LISTED]:
            side = "x".join(map(str, plan.job.grid.side))
            halo = max(part.job.halo_px for part in plan.parts)
            yield (
                f"{plan.pixels / 1e6:9.2f} {len(plan.job.grid):7d} {side:>10} "
                f"{halo:5d} {plan.peak_bytes / 2**20:9.0f}  {plan.job.name}"
            )
        if len(self.plans) > LISTED:
            yield f"... and {len(self.plans) - LISTED} more"
        yield from (f"WOULD BE QUARANTINED {error}" for error in self.refused)

    def _plates(self) -> Iterator[str]:
        """One line a plate, and one for images that are made of several files."""
        wells: dict[str, Counter[str]] = {}
        for plan in self.plans:
            site = plan.job.source.site
            if site is not None and site.row:
                wells.setdefault(site.plate, Counter())[site.well] += 1
        for plate, found in wells.items():
            counts = sorted(set(found.values()))
            each = plural(counts[-1], "image")
            if len(counts) > 1:
                each = f"{counts[0]} to {each}"
            yield f"plate {plate}: {plural(len(found), 'well')} with {each} each"
        parts = [len(p.job.source.parts) for p in self.plans if p.job.source.parts]
        if parts:
            yield f"put together from files: {sum(parts)} make {plural(len(parts), 'image')}"

    def _totals(self) -> Iterator[str]:
        first = [part.job.recipe for part in self.plans[0].parts]
        modes = Counter(plan.output.mode for plan in self.plans)
        peak = max(plan.peak_bytes for plan in self.plans)
        for recipe in first:
            of_label = f" for {recipe.label}" if len(first) > 1 else ""
            more = ", and 1 to measure" if recipe.gathered() else ""
            yield f"passes over the pixels{of_label}: {recipe.segment.passes()}{more}"
        yield from dict.fromkeys(
            n for recipe in first for s in recipe.preprocess for n in s.notes()
        )
        # Images may decide what they say, see `Method.for_image`.
        listed = self.plans[:LISTED]
        jobs = (part.job for plan in listed for part in plan.parts)
        yield from dict.fromkeys(note for job in jobs for note in job.recipe.segment.notes())
        yield (
            "image: "
            + ", ".join(f"{mode} for {n}" for mode, n in sorted(modes.items()))
            + f"; copies take {_size(sum(p.copy_bytes for p in self.plans))} at most"
        )
        for number, recipe in enumerate(first):
            if recipe.merge is not None:
                merged = [plan.parts[number].job for plan in self.plans]
                yield f"graph: {_graph_size(recipe.merge, merged)}"
        soft = sum(p.probability_bytes for p in self.plans)
        if soft:
            yield f"probabilities take {_size(soft)} before compression"
        yield (
            f"labels take {_size(sum(p.label_bytes for p in self.plans))} before compression, "
            f"scratch {_size(max(p.scratch_bytes for p in self.plans))} for the largest image"
        )
        yield (
            f"memory: {_size(peak)} a worker, {self.machine.workers} workers, "
            f"{_size(self.machine.bytes_per_worker)} allowed each"
        )
        yield f"time: about {self.seconds:,.0f} s"


def dry_run(request: Request) -> DryRun:
    """Plan a request without writing anything.

    Raises
    ------
    TilewrightError
        If the run would be refused.
    """
    gpu_orders = ORDERS_PER_GPU * len(own_gpus(request))
    machine = Machine.of(request.recipe, request.workers, gpu_orders)
    folder = RunFolder(request.out, request.work)
    plans: list[ImagePlan] = []
    refused: list[ImageError] = []
    specs, given = named_sources(request, _names_given(folder))
    for item in admit_sources(specs, run_serially, given):
        if isinstance(item, Refused):
            refused.append(item.error)
            continue
        try:
            plans.append(plan_image(item, request.recipe, folder, machine, request.tile_px))
        except ImageError as error:
            refused.append(error)
    check_disk(plans, folder)
    return DryRun(plans, refused, machine)


def _names_given(folder: RunFolder) -> Given:
    """What images are called where the run would go on."""
    if not folder.has_records():
        return NONE_GIVEN
    with closing(folder.reading()) as manifest:
        return names_given(manifest)


def _size(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB" if size < 2**30 else f"{size / 2**30:,.1f} GiB"


def _graph_size(merge: Merging, jobs: list[ImageJob]) -> str:
    """What the largest graph takes, where that is known beforehand."""
    contexts = [job.context for job in jobs]
    known = [job.recipe.segment.expected_objects(job.context) for job in jobs]
    found = [count for count in known if count is not None]
    if not found:
        size = merge.graph_bytes(1_000_000, contexts[0])
        return (
            f"the number of fragments is not known beforehand; a million take {_size(size)} in one "
            f"process, more than {merge.max_fragments:,} are refused"
        )
    size = merge.graph_bytes(max(found), contexts[0])
    return f"about {max(found):,} fragments in the largest image, {_size(size)} in one process"
