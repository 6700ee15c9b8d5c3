"""One request, stage by stage: admit, plan, survey, segment, finish. Knows nothing of Prefect.

`flows.segment` calls the stages as Prefect tasks. Only this process writes records, and a record
follows the data that it is about.
"""

from __future__ import annotations

import errno
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from flows.admission import Submit, admit_sources, list_sources
from flows.finish import gather_quality, gather_tables, list_fields, run_record, write_csv_of
from flows.progress import RunProgress
from flows.request import TILE, Request, tile_of
from flows.survey import survey_dataset
from flows.warm import load_in_background
from pipeline.admission import Admitted, Refused
from pipeline.disk_space import check_disk
from pipeline.engine import Published
from pipeline.errors import (
    ClusterError,
    ImageError,
    OutputError,
    PlanError,
    TilewrightError,
    WorkError,
)
from pipeline.files import digest
from pipeline.flat_field.profiles import PROFILES, write_profiles
from pipeline.flat_field.survey import DARK, FLAT
from pipeline.image_run import engines, run_all
from pipeline.label_rows import result_details, shards_of
from pipeline.manifest import ImageRow, Manifest, ManifestLedger
from pipeline.methods.base import State
from pipeline.plan import ImagePlan, Machine, plan_image
from pipeline.read_order import QUALITY
from pipeline.record_files import open_record
from pipeline.records import save
from pipeline.run_folder import CSV, RunFolder
from pipeline.sources import SourceSpec
from pipeline.sources.parts import Site
from pipeline.sources.spec_json import spec_to_json
from pipeline.storage import AnyPath, StorePath, is_url, path_of
from pipeline.storage.folders import delete_folder
from pipeline.wells import write_wells
from workers.tasks import SmallImages, perform, segment_small

log = logging.getLogger(__name__)

#: Pixels and images of one batch of small images: about a second of work.
SMALL_BATCH_PX = 4_000_000
SMALL_BATCH_IMAGES = 32
#: Work of one batch of tiles, by the plan's prediction.
BATCH_SECONDS = 1.0
#: Between two puttings of the records into the store where the output lies.
SAVE_SECONDS = 60.0
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
    _saved: float = 0.0
    _admission: Future[list[Admitted | Refused]] | None = None

    def begin(self) -> None:
        """List the archive and begin to open its files on the workers, beside what follows.

        Raises
        ------
        RecipeError
            If there is nothing to do.
        """
        specs = list_sources(self.request)
        # Importing Prefect takes 2 s; meanwhile the workers are not idle.
        self._admission = ThreadPoolExecutor(1, "admission").submit(self._admit, specs)

    def admit(self) -> list[Admitted | Refused]:
        """Wait until every file has been opened; names the images that they hold."""
        if self._admission is None:
            self.begin()
        return self._admission.result()  # type: ignore[union-attr]

    def _admit(self, specs: Sequence[SourceSpec]) -> list[Admitted | Refused]:
        self._timings["startup_s"] = time.time() - self.begun
        return admit_sources(specs, self.submit)

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
                self.quarantine(item.spec.name, item.spec.path, "", item.error, item.spec.site)
                continue
            try:
                plan = plan_image(
                    item, self.request.recipe, self.folder, self.machine, tile, together
                )
            except ImageError as error:
                self.quarantine(item.spec.name, item.spec.path, "", error, item.spec.site)
                continue
            if self._is_published(plan):
                self.progress.advance(images=1)
                # A crash can come between its record and the end of its work.
                self._forget_work(plan, works)
            else:
                plans.append(plan)
        if not self.request.is_partial:
            self._forget_removed({item.spec.name for item in admitted})
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
                error = found.failed[plan.job.name]
                _raise_if_fatal(error, self.folder)
                self._quarantine_plan(plan, error)
        self.manifest.put(key, save(path, found.state))
        self._publish_profiles(plans[0], found.state)
        return found.state

    def _publish_profiles(self, plan: ImagePlan, state: State) -> None:
        """Write the flat-field profiles that were estimated, if any."""
        if FLAT in state:
            names = [plan.job.info.channels[number] for number in plan.job.channels]
            written = write_profiles(self.folder.profiles, names, state[FLAT], state[DARK])
            self.manifest.put(PROFILES, json.dumps(written))

    def _forget_removed(self, names: set[str]) -> None:
        """Quarantined files that the user took out of the archive are no news any more."""
        for row in list(self.manifest.images()):
            if row.status == "quarantined" and row.name not in names:
                self.manifest.forget_image(row.name)

    def _forget_work(self, plan: ImagePlan, works: Iterable[str]) -> None:
        """Drop records and scratch of an image's work."""
        for work in works:
            if work.startswith(plan.job.plan):
                delete_folder(self.folder.work_path(work))
                self.manifest.forget_work(work)

    def _is_published(self, plan: ImagePlan) -> bool:
        row = self.manifest.image(plan.job.name)
        return (
            row is not None
            and row.status == "published"
            and row.plan == plan.job.plan
            and path_of(row.details["location"]).exists()
        )

    def segment_small(self, plans: Sequence[ImagePlan], state: State) -> None:
        """Segment images that one worker does from beginning to end."""
        self._small_batches(self._room_for(_small_batches(plans, state)))

    def _room_for(self, batches: Iterable[SmallImages]) -> Iterator[SmallImages]:
        for batch in batches:
            self.before_images()
            yield batch

    def _small_batches(self, batches: Iterable[SmallImages]) -> None:
        lost: list[SmallImages] = []
        for batch, answer in self.submit(segment_small, batches):
            if isinstance(answer, ClusterError):
                raise answer
            if isinstance(answer, BaseException) and len(batch.plans) > 1:
                # One image can take its worker down; the others must not suffer for it.
                lost += [SmallImages((plan,), batch.state) for plan in batch.plans]
                continue
            answers = [answer] if isinstance(answer, BaseException) else answer
            for plan, result in zip(batch.plans, answers, strict=True):
                self._record(plan, result)
        if lost:
            self._small_batches(lost)

    def segment_large(self, plan: ImagePlan, state: State) -> None:
        """Segment one image over the whole cluster.

        If a crash of the machine, or a user, damaged what an unfinished run had kept of it, the
        image starts over, once.
        """
        try:
            self._segment_large(plan, state)
        except WorkError as error:
            log.warning("%s starts over: %s", plan.job.name, error)
            self._forget_work(plan, [plan.work])
            self._segment_large(plan, state)

    def _segment_large(self, plan: ImagePlan, state: State) -> None:
        self.before_images()
        load_in_background()
        ledger = ManifestLedger(
            self.manifest, plan.work, self.folder.work_path(plan.work) / "steps"
        )
        tiles = len(plan.job.grid)
        per_tile = plan.cpu_seconds / tiles
        most = max(1, tiles // (4 * self.machine.workers))
        made = engines(
            plan.parts,
            lambda orders: self.submit(perform, orders),
            ledger,
            max(1, min(most, round(BATCH_SECONDS / max(per_tile, 1e-3)))),
            self._watch,
        )
        for stage, count in (item for engine in made for item in engine.expected().items()):
            self.progress.expect(stage, tiles=count)
        # Work with other tiles shares the staging folder, which begins anew with these.
        self._forget_work(plan, self.manifest.works() - {plan.work})
        if ledger.state(MOVING) is not None:
            self._take_back(plan)
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
        self._record(plan, result)
        if isinstance(result, list):
            # The image's record must be safe before those of its steps go.
            self.manifest.commit()
            self._forget_work(plan, [plan.work])

    def _take_back(self, plan: ImagePlan) -> None:
        """A crash came after results were moved into place and before that was recorded."""
        output = plan.output
        if output.mode == "in_place":
            source = path_of(plan.job.source.path)
            for part in plan.parts:
                label = part.job.recipe.label
                self.folder.take_back_in_place(output.root, label, source, part.output.parts)
        else:
            self.folder.take_back(output.root, plan.job.name, output.site)

    def is_quarantined(self, plan: ImagePlan) -> bool:
        """Whether an image was refused, or failed in a survey, in this run."""
        row = self.manifest.image(plan.job.name)
        return row is not None and row.status == "quarantined" and row.plan == plan.job.plan

    def finish(self) -> None:
        """Write the table of all objects, run.json and the report; tell Prefect."""
        from pipeline.report import summary_note, summary_rows, write_report

        published = {r.plan for r in self.manifest.images() if r.status == "published"}
        self.folder.discard_leftovers(published)
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

    def _record(self, plan: ImagePlan, result: list[Published] | BaseException) -> None:
        if isinstance(result, BaseException):
            _raise_if_fatal(result, self.folder)
            self._quarantine_plan(plan, result)
            return
        location = self._move_into_place(plan)
        found, all_labels = result_details(plan.parts, result)
        objects, pixels = int(found["objects"]), result[0].pixels
        details = {
            **found,
            "location": str(location),
            "pixels": pixels,
            "axes": plan.job.info.axes,
            "shape": list(plan.job.info.shape),
            "dtype": plan.job.info.dtype,
            "channels": list(plan.job.info.channels),
            "tile_px": list(plan.job.grid.side),
            "predicted_cpu_seconds": plan.cpu_seconds,
            "peak_bytes_predicted": plan.peak_bytes,
            "quality_digest": result[0].quality_digest,
            "output": plan.output.mode,
            "seen": asdict(plan.job.source.seen),
            "site": None if plan.job.source.site is None else asdict(plan.job.source.site),
            "spec": spec_to_json(plan.job.source),
        }
        row = ImageRow(
            plan.job.name,
            plan.job.plan,
            "published",
            plan.job.source.path,
            "",
            details,
            all_labels,
        )
        self.manifest.set_image(row, shards_of(plan.parts, result))
        if isinstance(self.folder.root, StorePath):
            self.manifest.commit()  # before what it could be done again from goes
            self.folder.discard(plan.output.root)
            self.folder.discard(plan.output.table.parent)
            self._save_records()
        self.progress.advance(images=1, megapixels=pixels / 1e6, objects=objects)

    def _save_records(self) -> None:
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.folder.save_records(self.manifest)
            self._saved = time.monotonic()

    def _move_into_place(self, plan: ImagePlan) -> AnyPath:
        name = plan.job.name
        labels = [part.job.recipe.label for part in plan.parts]
        for part, label in zip(plan.parts, labels, strict=True):
            told = label if len(labels) > 1 else ""
            self.folder.publish_file(part.output.table, self.folder.table_path(name, told))
            if part.job.recipe.output.outlines is not None:
                self.folder.publish_file(
                    part.output.outlines, self.folder.outlines_path(name, told)
                )
        if plan.output.measures_quality:
            self.folder.publish_file(plan.output.quality, self.folder.quality_path(name))
        if plan.output.mode == "in_place":
            source = path_of(plan.job.source.path)
            self.folder.publish_in_place(plan.output.root, labels, source, plan.output.zarr_format)
            return source
        site = plan.output.site
        self.folder.publish(plan.output.root, name, plan.job.plan, site)
        return self.folder.image_path(name, site)

    def _quarantine_plan(self, plan: ImagePlan, error: BaseException) -> None:
        job = plan.job
        self.quarantine(job.name, job.source.path, job.plan, error, job.source.site)

    def quarantine(
        self, name: str, path: str, plan: str, error: BaseException, site: Site | None = None
    ) -> None:
        """Record an image that cannot be processed; a rerun tries it again."""
        if isinstance(error, TilewrightError):
            reason = str(error)
        else:
            log.error("%s failed unexpectedly", name, exc_info=error)
            reason = f"{path}: an unexpected error: {type(error).__name__}: {error}"
        details = {} if site is None else {"site": asdict(site)}
        self.manifest.set_image(ImageRow(name, plan, "quarantined", path, reason, details))
        log.warning("quarantined: %s", reason)
        self.progress.advance(quarantined=1)


def _small_batches(plans: Sequence[ImagePlan], state: State) -> Iterator[SmallImages]:
    batch: list[ImagePlan] = []
    pixels = 0
    for plan in plans:
        full = pixels + plan.pixels > SMALL_BATCH_PX or len(batch) == SMALL_BATCH_IMAGES
        if batch and full:
            yield SmallImages(tuple(batch), state)
            batch, pixels = [], 0
        batch.append(plan)
        pixels += plan.pixels
    if batch:
        yield SmallImages(tuple(batch), state)


def _raise_if_fatal(error: BaseException, folder: RunFolder) -> None:
    """Stop the run for what is no image's fault."""
    if isinstance(error, OutputError | PlanError | ClusterError):
        raise error
    if isinstance(error, OSError) and is_url(str(error.filename)):
        # Of a source in a store it would be an UnreadableError.
        raise OutputError(
            f"{folder.root}: the run cannot go on: {error.filename}: {error.strerror}. When the "
            "store is well again, run the same command: what is finished is kept."
        ) from error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        raise OutputError(
            f"the output cannot be written ({error.strerror}). Free some space and run the same "
            "command again: what is finished is kept."
        ) from error
