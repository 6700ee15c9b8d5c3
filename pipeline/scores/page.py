"""The page of a comparison: the scores, and pictures of the worst images."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pipeline import __version__
from pipeline.files import write_atomically
from pipeline.report.page import html_page
from pipeline.report.thumbnails import Thumbnail
from pipeline.report.wording import escaped, plural, whole
from pipeline.scores.cases import Case, draw_case
from pipeline.scores.drawing import ON_BRIGHT, ON_DARK, Palette
from pipeline.scores.intervals import Estimate, Overall
from pipeline.scores.matching import spell
from pipeline.scores.pairing import Pair
from pipeline.scores.result import Result
from pipeline.scores.text import OBJECT_ROWS
from pipeline.sources import SourceSpec

log = logging.getLogger(__name__)

PAGE = "scores.html"
HERE = Path(__file__).parent
#: Rows of the table of images.
LISTED = 2000


def write_page(
    out: Path,
    result: Result,
    worst: int,
    picture_of: Callable[[Pair], SourceSpec | None],
    names: tuple[str, str],
) -> None:
    """Write OUT/scores.html.

    Parameters
    ----------
    out : Path
    result : Result
    worst : int
        How many images are drawn.
    picture_of : callable
        Where the pixels of a pair are, if not where the labels say.
    names : (str, str)
        Labels and truth, as the user called them.
    """
    known = {one.measure.name: one for one in result.overall}
    body = [
        _heading(result, names),
        _headline(result, known),
        _notes(result),
        _failures(result),
        _cases(result, worst, picture_of),
        _thresholds(result, known) if not result.settings.classes else "",
        _overall(result, known),
        _images(result),
    ]
    style = (HERE / "page.css").read_text("utf-8")
    page = html_page(f"Scores of {Path(names[0]).name}", body, style)
    write_atomically(out / PAGE, page.encode("utf-8", "replace"))


def _heading(result: Result, names: tuple[str, str]) -> str:
    what = "classes" if result.settings.classes else "objects"
    return f"""<header><p class="kicker">tilewright {escaped(__version__)} · scores of {what}</p>
<h1>{escaped(names[0])}</h1><p class="archive">against {escaped(names[1])}</p></header>"""


def _headline(result: Result, known: dict[str, Overall]) -> str:
    shown = (
        ("mean_iou", "accuracy")
        if result.settings.classes
        else (result.rank_name, "ap_mean", "pq", "boundary_f1", "foreground_dice")
    )
    cards = [f"<li><strong>{len(result.pairs)}</strong><span>images scored</span></li>"]
    cards += [
        f"<li><strong>{_score(known[name].pooled.value)}</strong>"
        f"<span>{escaped(known[name].measure.text)}{_interval(known[name].pooled)}</span></li>"
        for name in shown
        if name in known
    ]
    return f'<ul class="numbers">{"".join(cards)}</ul>'


def _notes(result: Result) -> str:
    return "".join(f'<p class="note">{escaped(note)}</p>' for note in result.notes)


def _failures(result: Result) -> str:
    if not result.failures:
        return ""
    rows = "".join(f"<tr><td>{escaped(error)}</td></tr>" for error in result.failures[:LISTED])
    return f"""<section class="failures"><h2>{plural(len(result.failures), "image")} not scored</h2>
<p>The scores do not know of these: where labels are missing, they look better than they are.</p>
<div class="wide"><table><tbody>{rows}</tbody></table></div></section>"""


def _cases(result: Result, worst: int, picture_of: Callable[[Pair], SourceSpec | None]) -> str:
    drawn = [(i, *_draw(result, i, picture_of)) for i in result.worst(worst)]
    if not drawn:
        return ""
    cards = "".join(_card(result, i, case, trouble) for i, case, trouble in drawn)
    palettes = [case.palette for _, case, _ in drawn if case is not None]
    return f"""<section><h2>The worst images</h2>
<p class="note">The {len(drawn)} images with the smallest {escaped(_rank(result))}, the worst first.
Of an image larger than a picture, the window with most errors is shown. Brightness is stretched
for each picture by itself.</p>
{_legend(result, palettes)}<div class="cases">{cards}</div></section>"""


def _draw(
    result: Result, number: int, picture_of: Callable[[Pair], SourceSpec | None]
) -> tuple[Case | None, str]:
    """The pictures, or why there are none."""
    pair = result.pairs[number]
    try:
        return draw_case(pair, result.settings, picture_of(pair)), ""
    except Exception as error:  # one picture must not cost the page
        log.warning("%s: no picture: %s", pair.name, error)
        return None, str(error)


def _card(result: Result, number: int, case: Case | None, trouble: str) -> str:
    name = result.pairs[number].name
    score = _score(float(result.scores[result.rank_name][number]))
    pictures, where = f'<p class="missing">No picture: {escaped(trouble)}</p>', ""
    if case is not None:
        pictures = "".join(_picture(*one, name) for one in case.pictures)
        where = _where(case, bool(result.settings.classes))
    return f"""<figure class="card case"><div class="pictures">{pictures}</div>
<figcaption><b>{escaped(name)}</b><span>{escaped(_rank(result))}: {score}.
{_counts(result, number)}. {where}</span></figcaption></figure>"""


def _picture(what: str, picture: Thumbnail, name: str) -> str:
    return (
        f'<figure><img src="{picture.uri}" width="{picture.width}" height="{picture.height}" '
        f'alt="{escaped(name)}: {escaped(what)}"><em>{escaped(what)}</em></figure>'
    )


def _where(case: Case, classes: bool) -> str:
    first, second = case.counts
    seen = (
        f"{whole(first)} of {whole(second)} annotated px are wrong here"
        if classes
        else f"{whole(first)} missed and {whole(second)} invented here"
    )
    if case.is_whole:
        return f"{seen}."
    (y0, x0), (y1, x1) = case.window.box.start, case.window.box.stop
    plane = f", plane {case.window.z}" if case.window.z else ""
    time = f", time {case.window.t}" if case.window.t else ""
    return f"Rows {y0} to {y1 - 1}, columns {x0} to {x1 - 1}{plane}{time}: {seen}."


def _counts(result: Result, number: int) -> str:
    if result.settings.classes:
        return f"{whole(int(result.sums['judged_px'][number]))} px annotated"
    truth = int(result.sums["truth_objects"][number])
    labels = int(result.sums["label_objects"][number])
    return f"{plural(truth, 'true object')}, {plural(labels, 'label')}"


def _rank(result: Result) -> str:
    return next(o.measure.text for o in result.overall if o.measure.name == result.rank_name)


def _legend(result: Result, palettes: Sequence[Palette]) -> str:
    """What lines and fills mean, in the colours of dark and of bright images that occur."""
    if result.settings.classes:
        return ""
    used = [palette for palette in (ON_DARK, ON_BRIGHT) if palette in palettes]
    items = (
        ("truth", "line within: a true object that was found"),
        ("labels", "line around: the label that found it"),
        ("missed", "filled: a true object that no label fits"),
        ("invented", "striped: a label that fits no true object"),
    )
    lines = "".join(
        f"<li>{''.join(_swatch(palette, kind) for palette in used)}{text}</li>"
        for kind, text in items
    )
    return f'<ul class="legend">{lines}</ul>'


def _swatch(palette: Palette, kind: str) -> str:
    color = "rgb({},{},{})".format(*getattr(palette, kind))
    back = "#1c2226" if palette is ON_DARK else "#eee"
    fills = {
        "missed": f"color-mix(in srgb,{color} 45%,{back})",
        "invented": f"repeating-linear-gradient(135deg,{color} 0 3px,{back} 3px 8px)",
    }
    return f'<i style="border-color:{color};background:{fills.get(kind, back)}"></i>'


def _thresholds(result: Result, known: dict[str, Overall]) -> str:
    kinds = ("precision", "recall", "f1", "matched_iou")
    rows = []
    for name in map(spell, result.settings.thresholds):
        ap = known[f"ap_{name}"]
        rest = "".join(
            f'<td class="n">{_score(known[f"{k}_{name}"].pooled.value)}</td>' for k in kinds
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
<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div></section>"""


def _overall(result: Result, known: dict[str, Overall]) -> str:
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


def _images(result: Result) -> str:
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
            f'<td class="n" data-v="{-1 if math.isnan(x) else x}">{_score(x)}</td>' for x in scores
        )
        yield f"<tr><td>{escaped(pair.name)}</td>{cells}</tr>"


def _cell(one: Estimate) -> str:
    return f'<td class="n">{_score(one.value)}{_interval(one)}</td>'


def _interval(one: Estimate) -> str:
    if math.isnan(one.low):
        return ""
    return f' <span class="interval">[{one.low:.3f}, {one.high:.3f}]</span>'


def _score(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
