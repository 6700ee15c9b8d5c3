"""One pass over the records: sums of all images, and the few rows that the page shows."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.manifest import ImageRow, Manifest
from pipeline.report.files import Written, files_of
from pipeline.run_folder import CSV, RUN_JSON, RunFolder

#: Rows of the table of all images: browsers stay quick, the page below 1 MB without pictures.
LISTED_IMAGES = 2000
LISTED_FAILURES = 500
#: Pictures: 60 of at most 30 KB, twice for large images, are at most 5 MB in base64.
PICTURED = 60


@dataclass(frozen=True, slots=True)
class Line:
    """One image in the table of all images."""

    name: str
    status: str
    shape: tuple[int, ...]
    objects: int
    pixels: int
    seconds: float
    digest: str
    files: tuple[Written, ...]


@dataclass
class Summary:
    """What the page says of all images together.

    Parameters
    ----------
    images : int
        On record, whatever their status.
    csv : bool
        Whether there is an objects.csv.
    fresh_images, fresh_pixels : int
        Published by the last command; a run that went on kept the others.
    predicted_s : float
        CPU seconds that the plans of the published images predicted.
    stages : dict
        Stage -> seconds that the published images spent in it.
    lines, failures, pictured
        The first images, the first quarantined ones, and published ones from all over the archive.
    """

    images: int = 0
    csv: bool = False
    fresh_images: int = 0
    fresh_pixels: int = 0
    predicted_s: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    failures: list[ImageRow] = field(default_factory=list)
    pictured: list[ImageRow] = field(default_factory=list)

    @property
    def work_s(self) -> float:
        """Seconds that all published images were at work."""
        return sum(self.stages.values())


def summarize(folder: RunFolder, manifest: Manifest, total_s: float) -> Summary:
    """Read all records once; rows that the page does not show are not kept."""
    found = Summary(csv=manifest.get(CSV) is not None)
    begun = _ended(folder) - total_s
    chosen = evenly(manifest.counts().get("published", 0), PICTURED)
    published = 0
    for row in manifest.images():
        found.images += 1
        if len(found.lines) < LISTED_IMAGES:
            found.lines.append(_line(row, folder))
        if row.status == "quarantined" and len(found.failures) < LISTED_FAILURES:
            found.failures.append(row)
        if row.status != "published":
            continue
        if published in chosen:
            found.pictured.append(row)
        published += 1
        _add(found, row, row.changed >= begun)
    return found


def evenly(count: int, limit: int) -> set[int]:
    """At most `limit` of the numbers below `count`, evenly spread and always the same."""
    picked = min(count, limit)
    return {i * count // picked for i in range(picked)}


def stage_name(step: str) -> str:
    """A step's name without its number: "0001-flood" is "flood"."""
    return re.sub(r"^\d+-", "", step)


def _add(found: Summary, row: ImageRow, fresh: bool) -> None:
    found.fresh_images += fresh
    found.fresh_pixels += int(row.details["pixels"]) if fresh else 0
    found.predicted_s += float(row.details.get("predicted_cpu_seconds", 0.0))
    for step, seconds in row.details.get("seconds", {}).items():
        stage = stage_name(step)
        found.stages[stage] = found.stages.get(stage, 0.0) + float(seconds)


def _line(row: ImageRow, folder: RunFolder) -> Line:
    details = row.details
    return Line(
        row.name,
        row.status,
        tuple(details.get("shape", ())),
        int(details.get("objects", 0)),
        int(details.get("pixels", 0)),
        float(sum(details.get("seconds", {}).values())),
        row.digest,
        files_of(folder, row) if row.status == "published" else (),
    )


def _ended(folder: RunFolder) -> float:
    """When the run's record was written: the end of what its total time measures."""
    place = folder.root / RUN_JSON
    try:
        return place.stat().st_mtime if isinstance(place, Path) else time.time()
    except OSError:
        return time.time()
