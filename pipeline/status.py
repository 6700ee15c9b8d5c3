"""What is on record of a run, for people."""

from __future__ import annotations

from pipeline.run_folder import RunFolder
from pipeline.storage import AnyPath

#: Quarantined images that are listed one by one.
LISTED = 50


def status_text(out: AnyPath) -> tuple[str, int]:
    """Describe a run.

    Returns
    -------
    text : str
    quarantined : int
        Number of quarantined images.

    Raises
    ------
    OutputError
        If the folder holds no run.
    """
    folder = RunFolder(out)
    manifest = folder.reading()
    try:
        record = folder.read_run()
        counts = manifest.counts()
        published = [row for row in manifest.images() if row.status == "published"]
        bad = [row for row in manifest.images() if row.status == "quarantined"]
        running = manifest.work_in_progress()
    finally:
        manifest.close()
    objects = sum(row.details["objects"] for row in published)
    lines = [
        f"{folder.root}: {record.get('status', 'begun')}",
        f"  published    {counts.get('published', 0)} images, {objects:,} objects",
        f"  quarantined  {len(bad)}",
    ]
    if running:
        lines.append(f"  unfinished   {len(running)} images; the same command continues them:")
        lines += [
            f"    {work[:12]}: {batches} batches recorded, {seconds:.0f} s of work"
            for work, (batches, seconds) in running.items()
        ]
    lines += [f"  QUARANTINED {row.reason}" for row in bad[:LISTED]]
    if len(bad) > LISTED:
        lines.append(f"  ... and {len(bad) - LISTED} more, in {folder.report}")
    return "\n".join(lines), len(bad)
