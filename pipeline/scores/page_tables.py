"""The tables of the page, each as HTML."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pipeline.report.wording import escaped, whole
from pipeline.scores.intervals import Estimate, Overall
from pipeline.scores.matching import spell
from pipeline.scores.result import Result
from pipeline.scores.text import OBJECT_ROWS

#: Rows of the table of images.
LISTED = 2000


def thresholds_table(result: Result, known: dict[str, Overall]) -> str:
    kinds = ("precision", "recall", "f1", "matched_iou")
    rows = []
    for name in map(spell, result.settings.thresholds):
        ap = known[f"ap_{name}"]
        rest = "".join(
            f'<td class="n">{score(known[f"{k}_{name}"].pooled.value)}</td>' for k in kinds
        )
        rows.append(f"<tr><td>{name}</td>{_cell(ap.pooled)}{_cell(ap.mean)}{rest}</tr>")
    if "ap_mean" in known:
        ap = known["ap_mean"]
        name = escaped(ap.measure.text.removeprefix("AP "))
        empty = "<td></td>" * len(kinds)
        rows.append(f"<tr><td>{name}</td>{_cell(ap.pooled)}{_cell(ap.mean)}{empty}</tr>")
    heads = ("AP, pooled", "AP, mean of images", "Precision", "Recall", "F1", "IoU of pairs")
    head = "<th>Smallest IoU</th>" + "".join(f'<th class="n">{text}</th>' for text in heads)
    return f"""<section><h2>Objects found</h2>
<div class="wide"><table><thead><tr>{head}</tr></thead>
<tbody>{"".join(rows)}</tbody></table></div></section>"""


def overall_table(result: Result, known: dict[str, Overall]) -> str:
    names = [*known] if result.settings.classes else OBJECT_ROWS
    rows = "".join(_overall_row(result, known[name]) for name in names)
    return f"""<section><h2>Overall</h2><div class="wide"><table><thead><tr><th>Score</th>
<th class="n">Pooled</th><th class="n">Mean of images</th><th class="n">Images</th></tr></thead>
<tbody>{rows}</tbody></table></div>
<p class="note">Brackets hold 95 % of 2,000 draws of images with replacement. Pooled: every object
(or pixel) weighs the same; mean: every image.</p></section>"""


def _overall_row(result: Result, one: Overall) -> str:
    border = one.measure.name.endswith("boundary_f1")
    text = one.measure.text + (f", {result.settings.tolerance_px} px" if border else "")
    return (
        f"<tr><td>{escaped(text)}</td>{_cell(one.pooled)}{_cell(one.mean)}"
        f'<td class="n">{one.images}</td></tr>'
    )


def images_table(result: Result) -> str:
    classes = result.settings.classes
    counts = ["judged_px"] if classes else ["truth_objects", "label_objects"]
    texts = ["Annotated px"] if classes else ["True objects", "Labels"]
    known = {one.measure.name: one.measure.text for one in result.overall}
    shown = (
        ["mean_iou", "accuracy"]
        if classes
        else [result.rank_name, "pq", "boundary_f1", "foreground_dice"]
    )
    heads = ["Image", *texts, *(known[name] for name in shown)]
    head = "".join(
        f"<th{' class=n' if i else ''}><button>{escaped(text)}</button></th>"
        for i, text in enumerate(heads)
    )
    rows = "".join(_image_rows(result, counts, shown))
    return f"""<section><h2>All images</h2><div class="wide"><table class="sortable">
<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>
<p class="note">All scores of all images are in <code>scores.csv</code>.</p></section>"""


def _image_rows(result: Result, counts: list[str], shown: list[str]) -> Iterator[str]:
    for i, pair in enumerate(result.pairs[:LISTED]):
        numbers = (int(result.sums[name][i]) for name in counts)
        scores = (float(result.scores[name][i]) for name in shown)
        cells = "".join(f'<td class="n" data-v="{n}">{whole(n)}</td>' for n in numbers)
        cells += "".join(
            f'<td class="n" data-v="{-1 if math.isnan(x) else x}">{score(x)}</td>' for x in scores
        )
        yield f"<tr><td>{escaped(pair.name)}</td>{cells}</tr>"


def _cell(one: Estimate) -> str:
    return f'<td class="n">{score(one.value)}{interval(one)}</td>'


def interval(one: Estimate) -> str:
    if math.isnan(one.low):
        return ""
    return f' <span class="interval">[{one.low:.3f}, {one.high:.3f}]</span>'


def score(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
