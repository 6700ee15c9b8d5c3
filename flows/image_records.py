"""What is recorded of images, and where their results go; a record follows what it is about."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from flows.progress import RunProgress
from pipeline.engine import Published
from pipeline.errors import ClusterError, OutputError, PlanError, TilewrightError
from pipeline.label_rows import result_details, shards_of
from pipeline.manifest import ImageRow, Manifest
from pipeline.plan import ImagePlan
from pipeline.publication import Publication
from pipeline.run_folder import RunFolder
from pipeline.sources import SourceSpec
from pipeline.sources.spec_json import spec_to_json
from pipeline.storage import AnyPath, StorePath, is_url, path_of
from pipeline.storage.folders import delete_folder

log = logging.getLogger(__name__)

#: Between two puttings of the records into the store where the output lies.
SAVE_SECONDS = 60.0


class ImageRecords:
    """The records of one run's images.

    Parameters
    ----------
    folder : RunFolder
    manifest : Manifest
        Open for writing.
    progress : RunProgress
    """

    def __init__(self, folder: RunFolder, manifest: Manifest, progress: RunProgress) -> None:
        self._folder, self._manifest, self._progress = folder, manifest, progress
        self._publication = Publication(folder)
        self._saved = 0.0

    def discard_leftovers(self) -> None:
        """Delete what a crash left staged of images that are recorded."""
        published = {row.plan for row in self._manifest.images() if row.status == "published"}
        self._publication.discard_leftovers(published)

    def is_published(self, plan: ImagePlan) -> bool:
        """Whether the results of this very plan are recorded, and in place."""
        row = self._manifest.image(plan.job.name)
        return (
            row is not None
            and row.status == "published"
            and row.plan == plan.job.plan
            and path_of(row.details["location"]).exists()
        )

    def is_quarantined(self, plan: ImagePlan) -> bool:
        """Whether an image was refused, or failed in a survey, in this run."""
        row = self._manifest.image(plan.job.name)
        return row is not None and row.status == "quarantined" and row.plan == plan.job.plan

    def record(self, plan: ImagePlan, result: list[Published] | BaseException) -> None:
        """Publish the results of an image, or quarantine it.

        Raises
        ------
        OutputError, PlanError, ClusterError
            If what went wrong is not the image's fault: the run stops.
        """
        self._manifest.require_held()
        if isinstance(result, BaseException):
            self.record_failure(plan, result)
        else:
            self._publish(plan, result)

    def record_failure(self, plan: ImagePlan, error: BaseException) -> None:
        """Quarantine an image that was planned; see `record`."""
        _raise_if_fatal(error, self._folder)
        self.quarantine(plan.job.source, error, plan.job.plan)

    def _publish(self, plan: ImagePlan, result: list[Published]) -> None:
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
        self._manifest.set_image(row, shards_of(plan.parts, result))
        if isinstance(self._folder.root, StorePath):
            self._manifest.commit()  # before what it could be done again from goes
            self._publication.discard(plan.output.root)
            self._publication.discard(plan.output.table.parent)
            self._save_records()
        self._progress.advance(images=1, megapixels=pixels / 1e6, objects=objects)

    def _save_records(self) -> None:
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self._folder.save_records(self._manifest)
            self._saved = time.monotonic()

    def _move_into_place(self, plan: ImagePlan) -> AnyPath:
        name = plan.job.name
        labels = [part.job.recipe.label for part in plan.parts]
        for part, label in zip(plan.parts, labels, strict=True):
            told = label if len(labels) > 1 else ""
            self._publication.publish_file(part.output.table, self._folder.table_path(name, told))
            if part.job.recipe.output.outlines is not None:
                self._publication.publish_file(
                    part.output.outlines, self._folder.outlines_path(name, told)
                )
        if plan.output.measures_quality:
            self._publication.publish_file(plan.output.quality, self._folder.quality_path(name))
        if plan.output.mode == "in_place":
            source = path_of(plan.job.source.path)
            self._publication.publish_in_place(
                plan.output.root, labels, source, plan.output.zarr_format
            )
            return source
        site = plan.output.site
        self._publication.publish(plan.output.root, name, plan.job.plan, site)
        return self._folder.image_path(name, site)

    def quarantine(self, spec: SourceSpec, error: BaseException, plan: str = "") -> None:
        """Record an image that cannot be processed; a rerun tries it again."""
        if isinstance(error, TilewrightError):
            reason = str(error)
        else:
            log.error("%s failed unexpectedly", spec.name, exc_info=error)
            reason = f"{spec.path}: an unexpected error: {type(error).__name__}: {error}"
        details: dict[str, Any] = {} if spec.site is None else {"site": asdict(spec.site)}
        if spec.series:
            details["series"] = spec.series
        row = ImageRow(spec.name, plan, "quarantined", spec.path, reason, details)
        self._manifest.set_image(row)
        log.warning("quarantined: %s", reason)
        self._progress.advance(quarantined=1)

    def take_back(self, plan: ImagePlan) -> None:
        """Stage results again: a crash came after they were moved, and before that was recorded."""
        output = plan.output
        if output.mode == "in_place":
            source = path_of(plan.job.source.path)
            for part in plan.parts:
                label = part.job.recipe.label
                self._publication.take_back_in_place(output.root, label, source, part.output.parts)
        else:
            self._publication.take_back(output.root, plan.job.name, output.site)

    def forget_work(self, plan: ImagePlan, works: Iterable[str]) -> None:
        """Drop records and scratch of an image's work."""
        for work in works:
            if work.startswith(plan.job.plan):
                delete_folder(self._folder.work_path(work))
                self._manifest.forget_work(work)

    def forget_removed(self, names: set[str]) -> None:
        """Quarantined files that the user took out of the archive are no news any more."""
        for row in list(self._manifest.images()):
            if row.status == "quarantined" and row.name not in names:
                self._manifest.forget_image(row.name)


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
