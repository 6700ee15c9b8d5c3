"""What Prefect shows at the end of a run: a short table and a note."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

from pipeline.manifest import Manifest
from pipeline.report.again import reproduce_command
from pipeline.report.certificate import certificate_words
from pipeline.run_folder import RunFolder

#: Rows of the table: Prefect keeps it as one JSON value.
LISTED = 200


def summary_rows(
    folder: RunFolder, manifest: Manifest, limit: int = LISTED
) -> Iterator[Mapping[str, object]]:
    """The first images, those that failed before the others."""
    failed = (row for row in manifest.images() if row.status == "quarantined")
    others = (row for row in manifest.images() if row.status != "quarantined")
    for row in islice(chain(failed, others), limit):
        yield {
            "image": row.name,
            "status": row.status,
            "objects": row.details.get("objects", ""),
            "digest": row.digest,
            "reason": row.reason,
            "reproduce": reproduce_command(folder, row) if row.reason else "",
        }


def summary_note(folder: RunFolder, record: dict[str, Any]) -> str:
    """Where the report is and what the certificate says, in Markdown."""
    return (
        f"Report: `{folder.report}`\n\n{certificate_words(record)}\n\n"
        f"Digest of all labels: `{record['certificate']['labels_digest']}`"
    )
