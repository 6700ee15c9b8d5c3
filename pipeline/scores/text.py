"""The scores for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pipeline.report.wording import plural, whole
from pipeline.scores.intervals import Estimate, Overall
from pipeline.scores.matching import spell
from pipeline.scores.result import Result

#: Names that are listed one by one.
LISTED = 10
#: Measures below the table of thresholds.
OBJECT_ROWS = (
    *("pq", "sq", "rq", "rand_error", "voi_split", "voi_merge", "boundary_f1"),
    *("foreground_iou", "foreground_dice", "foreground_precision", "foreground_recall"),
)


def result_text(result: Result) -> str:
    """Two tables, and what was left out."""
    return "\n".join(_lines(result))


def _lines(result: Result) -> Iterator[str]:
    known = {one.measure.name: one for one in result.overall}
    yield _headline(result)
    yield ""
    if result.settings.classes:
        yield from _table(result, [known["accuracy"], known["mean_iou"]])
        yield from _class_table(result, known)
    else:
        yield from _thresholds(result, known)
        yield ""
        yield from _table(result, [known[name] for name in OBJECT_ROWS])
    yield ""
    yield (
        "[ ] holds 95 % of 2,000 draws of images. Pooled: all objects (or pixels) weigh the same; "
        "mean: all images."
    )
    yield from (f"Note: {note}" for note in result.notes)
    yield from _left_out(result)


def _headline(result: Result) -> str:
    images = f"{plural(len(result.pairs), 'image')} scored"
    if result.settings.classes:
        return f"{images}, {whole(int(result.sums['judged_px'].sum()))} px annotated"
    truth, labels = (int(result.sums[f"{side}_objects"].sum()) for side in ("truth", "label"))
    return f"{images}: {plural(truth, 'true object')}, {plural(labels, 'label')}"


def _thresholds(result: Result, known: dict[str, Overall]) -> Iterator[str]:
    yield (
        f"{'IoU':>9}  {'AP':<22} {'AP, mean of images':<22} {'precision':>9} {'recall':>7} "
        f"{'F1':>7} {'IoU of pairs':>13}"
    )
    for name in map(spell, result.settings.thresholds):
        ap = known[f"ap_{name}"]
        rest = [known[f"{kind}_{name}"] for kind in ("precision", "recall", "f1", "matched_iou")]
        values = [_score(one.pooled.value) for one in rest]
        yield (
            f"{name:>9}  {estimate(ap.pooled):<22} {estimate(ap.mean):<22} "
            f"{values[0]:>9} {values[1]:>7} {values[2]:>7} {values[3]:>13}"
        )
    if "ap_mean" in known:
        ap = known["ap_mean"]
        name = ap.measure.text.removeprefix("AP ")
        yield f"{name:>9}  {estimate(ap.pooled):<22} {estimate(ap.mean):<22}"


def _table(result: Result, rows: list[Overall]) -> Iterator[str]:
    yield f"{'':22}  {'pooled':<22} mean of images"
    for one in rows:
        text = one.measure.text
        if one.measure.name == "boundary_f1":
            text += f", {result.settings.tolerance_px} px"
        few = f"  ({one.images} images)" if one.images < len(result.pairs) else ""
        yield f"{text:>22}  {estimate(one.pooled):<22} {estimate(one.mean)}{few}"


def _class_table(result: Result, known: dict[str, Overall]) -> Iterator[str]:
    kinds = ("iou", "dice", "precision", "recall", "boundary_f1")
    yield ""
    heads = ("Dice", "precision", "recall", f"boundary F1, {result.settings.tolerance_px} px")
    yield (
        f"{'class':>22}  {'IoU':<22} {'IoU, mean of images':<22} "
        + "  ".join(f"{head:>6}" for head in heads)
    )
    for name in result.settings.classes:
        row = [known[f"{name}_{kind}"] for kind in kinds]
        values = [
            f"{_score(one.pooled.value):>{max(6, len(head))}}"
            for one, head in zip(row[1:], heads, strict=True)
        ]
        yield (
            f"{name:>22}  {estimate(row[0].pooled):<22} {estimate(row[0].mean):<22} "
            + "  ".join(values)
        )


def estimate(one: Estimate) -> str:
    """A score and its interval."""
    if math.isnan(one.low):
        return _score(one.value)
    return f"{_score(one.value)} [{_score(one.low)}, {_score(one.high)}]"


def _score(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _left_out(result: Result) -> Iterator[str]:
    names = result.without_truth
    if names:
        more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
        yield f"No truth for {plural(len(names), 'image')}: {', '.join(names[:LISTED])}{more}."
    yield from (f"NOT SCORED {error}" for error in result.failures[:LISTED])
    if len(result.failures) > LISTED:
        yield f"... and {len(result.failures) - LISTED} more, in scores.json with --out"
