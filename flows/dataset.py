"""One request, stage by stage: admit, plan, survey, segment, finish. Knows nothing of Prefect.

`flows.segment` calls the stages as Prefect tasks. Only this process writes records, and a record
follows the data that it is about.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from flows.admission import Submit, admit_sources, named_sources, names_given
from flows.finish import gather_quality, gather_tables, list_fields, run_record, write_csv_of
from flows.image_records import ImageRecords
from flows.progress import RunProgress
from flows.request import TILE, Request, tile_of
from flows.small_images import segment_batches, small_batches
from flows.survey import survey_dataset
from flows.warm import load_in_background
from pipeline.admission import Admitted, Refused
from pipeline.disk_space import check_disk
from pipeline.engine import Published
from pipeline.errors import ImageError, WorkError
from pipeline.files import digest
from pipeline.flat_field.profiles import PROFILES, write_profiles
from pipeline.flat_field.survey import DARK, FLAT
from pipeline.image_run import engines, run_all
from pipeline.label_states import state_of
from pipeline.manifest import Manifest, ManifestLedger
from pipeline.methods.base import State
from pipeline.plan import ImagePlan, Machine, plan_image
from pipeline.quality.riding import QUALITY
from pipeline.record_files import open_record
from pipeline.records import save
from pipeline.run_folder import CSV, RunFolder
from pipeline.sources import SourceSpec
from pipeline.sources.names import Given
from pipeline.wells import write_wells
from workers.tasks import SmallImages, perform

log = logging.getLogger(__name__)

#: Work of one batch of tiles, by the plan's prediction.
BATCH_SECONDS = 1.0
#: Step of an image whose results are being moved into place.
MOVING = "moving"


@dataclass
class DatasetRun:
    """The stages of one request.

    Parameters
    ----------
    request : Request
    folder : RunFolder
    manifest : Manifest
        Open for writing; the folder is claimed.
    submit : Submit
    machine : Machine
    progress : RunProgress
    begun : float
        When the command began, in seconds since 1970.
    before_images : callable
        Called before images are begun; may raise to stop the run.
    """

    request: Request
    folder: RunFolder
    manifest: Manifest
    submit: Submit
    machine: Machine
    progress: RunProgress
    begun: float
    before_images: Callable[[], None] = lambda: None
    _timings: dict[str, float] = field(default_factory=dict)
    _admission: Future[list[Admitted | Refused]] | None = None

    def __post_init__(self) -> None:
        self.records = ImageRecords(self.folder, self.manifest, self.progress)

    def begin(self) -> None:
        """List the archive and begin to open its files on the workers, beside what follows.

        Raises
        ------
        RecipeError
            If there is nothing to do.
        """
        specs, given = named_sources(self.request, names_given(self.manifest))
        # Importing Prefect takes 2 s; meanwhile the workers are not idle.
        self._admission = ThreadPoolExecutor(1, "admission").submit(self._admit, specs, given)

    def admit(self) -> list[Admitted | Refused]:
        """Wait until every file has been opened; names the images that they hold."""
        if self._admission is None:
            self.begin()
        return self._admission.result()  # type: ignore[union-attr]

    def _admit(self, specs: Sequence[SourceSpec], given: Given) -> list[Admitted | Refused]:
        self._timings["startup_s"] = time.time() - self.begun
        return admit_sources(specs, self.submit, given)

    def plan(self, admitted: Sequence[Admitted | Refused]) -> list[ImagePlan]:
        """Plan what is not published yet; record what is refused.

        Raises
        ------
        PlanError
            If the run cannot fit into memory or on the disk.
        """
        tile = tile_of(self.request, self.manifest)
        together = self.dataset_identity(admitted)
        plans = []
        self.progress.expect(images=len(admitted))
        works = self.manifest.works()
        for item in admitted:
            if isinstance(item, Refused):
                self.records.quarantine(item.spec, item.error)
                continue
            try:
                plan = plan_image(
                    item, self.request.recipe, self.folder, self.machine, tile, together
                )
            except ImageError as error:
                self.records.quarantine(item.spec, error)
                continue
            if self.records.is_published(plan):
                self.progress.advance(images=1)
                # A crash can come between its record and the end of its work.
                self.records.forget_work(plan, works)
            else:
                plans.append(plan)
        if not self.request.is_partial:
            self.records.forget_removed({item.spec.name for item in admitted})
        check_disk(plans, self.folder)
        if tile is None and plans:
            # The memory that is free changes; a run that goes on must not change its tiles.
            self.manifest.put(TILE, str(max(max(p.job.grid.side[-2:]) for p in plans)))
        return plans

    def dataset_identity(self, admitted: Sequence[Admitted | Refused]) -> str:
        """Identity of all images, where the method looks at them together; else empty.

        Results that depend on all images must not outlive a change of one.
        """
        if not self.request.recipe.is_dataset_wide():
            return ""
        images = (item for item in admitted if isinstance(item, Admitted))
        return digest(*(f"{i.spec.name}\0{i.fingerprint}\0".encode() for i in images))

    def survey(self, plans: Sequence[ImagePlan], together: str) -> State:
        """Run the rounds over the whole dataset; what was found before is kept.

        Images that cannot be read for it are quarantined and left out.
        """
        if not together or not plans:
            return {}
        key = f"dataset-{together}"
        known = self.manifest.get(key)
        path = self.folder.hidden / "dataset" / f"{together}.npz"
        if known is not None:
            state = {**open_record(str(path), known)}
            self._publish_profiles(plans[0], state)
            return state
        found = survey_dataset(plans, self.submit, perform)
        for plan in plans:
            if plan.job.name in found.failed:
                self.records.record_failure(plan, found.failed[plan.job.name])
        self.manifest.put(key, save(path, found.state))
        self._publish_profiles(plans[0], found.state)
        return found.state

    def _publish_profiles(self, plan: ImagePlan, state: State) -> None:
        """Write the flat-field profiles that were estimated, if any."""
        written: dict[str, str] = {}
        for part in plan.parts:
            job = part.job
            found = state_of(state, job.recipe.label, len(plan.parts) > 1)
            if FLAT in found:
                names = [job.info.channels[number] for number in job.channels]
                written |= write_profiles(self.folder.profiles, names, found[FLAT], found[DARK])
        if written:
            self.manifest.put(PROFILES, json.dumps(written))

    def segment_small(self, plans: Sequence[ImagePlan], state: State) -> None:
        """Segment images that one worker does from beginning to end."""
        batches = self._room_for(small_batches(plans, state))
        for plan, result in segment_batches(self.submit, batches):
            self.records.record(plan, result)

    def _room_for(self, batches: Iterable[SmallImages]) -> Iterator[SmallImages]:
        for batch in batches:
            self.before_images()
            yield batch

    def segment_large(self, plan: ImagePlan, state: State) -> None:
        """Segment one image over the whole cluster.

        If a crash of the machine, or a user, damaged what an unfinished run had kept of it, the
        image starts over, once.
        """
        try:
            self._segment_large(plan, state)
        except WorkError as error:
            log.warning("%s starts over: %s", plan.job.name, error)
            self.records.forget_work(plan, [plan.work])
            self._segment_large(plan, state)

    def _segment_large(self, plan: ImagePlan, state: State) -> None:
        self.before_images()
        load_in_background()
        ledger = ManifestLedger(
            self.manifest, plan.work, self.folder.work_path(plan.work) / "steps"
        )
        made = engines(
            plan.parts,
            lambda orders: self.submit(perform, orders),
            ledger,
            self._batch_tiles(plan),
            self._watch,
        )
        for stage, count in (item for engine in made for item in engine.expected().items()):
            self.progress.expect(stage, tiles=count)
        # Work with other tiles shares the staging folder, which begins anew with these.
        self.records.forget_work(plan, self.manifest.works() - {plan.work})
        if ledger.state(MOVING) is not None:
            self.records.take_back(plan)
        try:
            result: list[Published] | BaseException = run_all(made, state)
        except Exception as error:
            result = error
        if isinstance(result, list):
            # What zarr was writing when a worker was killed; nobody writes any more.
            if isinstance(plan.output.root, Path):
                for path in plan.output.root.rglob("*.partial"):
                    path.unlink()
            ledger.close_step(MOVING, {})
        self.records.record(plan, result)
        if isinstance(result, list):
            # The image's record must be safe before those of its steps go.
            self.manifest.commit()
            self.records.forget_work(plan, [plan.work])

    def _batch_tiles(self, plan: ImagePlan) -> int:
        """Tiles of a batch: enough work for each, and enough batches for all workers."""
        tiles = len(plan.job.grid)
        per_tile = plan.cpu_seconds / tiles
        most = max(1, tiles // (4 * self.machine.workers))
        return max(1, min(most, round(BATCH_SECONDS / max(per_tile, 1e-3))))

    def finish(self) -> None:
        """Write the table of all objects, run.json and the report; tell Prefect."""
        from pipeline.report import summary_note, summary_rows, write_report

        self.records.discard_leftovers()
        list_fields(self.folder, self.manifest)
        gather_tables(self.folder, self.manifest)
        if (
            any(part.output.csv for part in self.request.recipe.parts)
            and self.folder.objects.exists()
        ):
            self.manifest.put(CSV, write_csv_of(self.folder))
        gather_quality(self.folder, self.manifest)
        write_wells(self.folder, self.manifest)
        self.write_record("finished")
        record = self.folder.read_run()
        try:
            write_report(self.folder, self.manifest, record)
        except Exception:  # the results are complete without it
            log.exception("%s could not be written; the results are complete", self.folder.report)
        rows = summary_rows(self.folder, self.manifest)
        self.progress.summary(rows, summary_note(self.folder, record))

    def write_record(self, status: str) -> None:
        """Write run.json."""
        self._timings["total_s"] = time.time() - self.begun
        self.folder.write_run(run_record(self.request, self.manifest, status, self._timings))

    def _watch(self, step: str, tiles: int, pixels: int) -> None:
        stage = step.split("-")[0]  # "publish-fragments", "ingest-coarse"
        stage = "ingest" if stage == QUALITY else stage
        if stage not in ("ingest", "publish"):
            stage = "segment"
        self.progress.advance(stage, tiles=tiles)
