"""Records of images with several labels, seen label by label.

The record of an image holds what all its labels share; `details["labels"]` has, where there are
several, what is each one's own, in the order in which they were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.files import digest
from pipeline.manifest import ImageRow

if TYPE_CHECKING:
    from pipeline.engine import Published
    from pipeline.plan import LabelPlan

Details = dict[str, Any]


def label_rows(row: ImageRow) -> list[ImageRow]:
    """One record a label, each as if its label were the only one."""
    parts = row.details.get("labels")
    if not parts:
        return [row]
    return [
        replace(row, details={**row.details, **part}, digest=str(part["digest"])) for part in parts
    ]


def label_row(row: ImageRow, label: str) -> ImageRow:
    """The record of one of the labels; of the first one if there is none of this name."""
    rows = label_rows(row)
    return next((one for one in rows if one.details["label"] == label), rows[0])


def table_label(row: ImageRow) -> str:
    """The label by which its table is told from those of the other labels; "" for a single one."""
    return str(row.details["label"]) if row.details.get("labels") else ""


def labelled_name(row: ImageRow) -> str:
    """The image's name, with its label where there are several."""
    label = table_label(row)
    return f"{row.name} · {label}" if label else row.name


def array_row(row: ImageRow, array: str) -> tuple[ImageRow, str]:
    """The record that an array of the manifest belongs to, and what it is of its label."""
    label, _, kind = array.rpartition("/")
    return (label_row(row, label), kind) if label else (row, array)


def segmented_channels(recipe: Details, label: str) -> tuple[int | str, ...]:
    """Channels that a label was made from, as run.json has the recipe; () if it names none."""
    own = recipe.get("labels", {}).get(label, {}).get("source", {}).get("channels")
    return tuple(own or recipe.get("source", {}).get("channels") or ())


def shards_of(parts: Sequence[LabelPlan], results: Sequence[Published]) -> dict[str, list[str]]:
    """Digests by the names that the manifest has for arrays: of several labels with the label."""
    if len(parts) == 1:
        return results[0].shards
    return {
        array if array == "image" else f"{part.job.recipe.label}/{array}": digests
        for part, result in zip(parts, results, strict=True)
        for array, digests in result.shards.items()
    }


def result_details(parts: Sequence[LabelPlan], results: Sequence[Published]) -> tuple[Details, str]:
    """What is recorded of the labels of an image, and the digest of all of them."""
    each = [_details(part, result) for part, result in zip(parts, results, strict=True)]
    if len(each) == 1:
        return each[0], results[0].digest
    own = ("label", "objects", "classes", "certificate", "table_digest", "graph", "files")
    labels = [
        {**{key: one[key] for key in own}, "digest": result.digest}
        for one, result in zip(each, results, strict=True)
    ]
    return (
        {
            "objects": sum(one["objects"] for one in each),
            "classes": [],
            "label": each[0]["label"],
            "certificate": _certificate(each),
            "seconds": _added([one["seconds"] for one in each]),
            "peak_bytes_measured": max(one["peak_bytes_measured"] for one in each),
            "table_digest": digest(*(one["table_digest"].encode() for one in each)),
            "graph": {},
            "files": {},
            "labels": labels,
        },
        digest(*(result.digest.encode() for result in results)),
    )


def _details(part: LabelPlan, result: Published) -> Details:
    classes = part.job.recipe.segment.classes()
    return {
        "objects": 0 if classes else result.count,
        "classes": [[one.name, *one.color] for one in classes],
        "label": part.job.recipe.label,
        "certificate": result.certificate,
        "seconds": result.seconds,
        "peak_bytes_measured": result.peak_bytes,
        "table_digest": result.table_digest,
        "graph": result.graph,
        "files": result.files,
    }


def _certificate(each: Sequence[Details]) -> Details:
    """Exact where all are; the rules of all."""
    certificates = [one["certificate"] for one in each]
    rules = dict.fromkeys(str(one.get("rule", "")) for one in certificates)
    exact = all(one.get("exact") for one in certificates)
    return {"exact": exact, "rule": "; ".join(rule for rule in rules if rule)}


def _added(seconds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Seconds of equal steps together."""
    found: dict[str, float] = {}
    for one in seconds:
        for step, value in one.items():
            found[step] = found.get(step, 0.0) + value
    return found
