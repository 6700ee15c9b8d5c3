"""The page of a comparison: the scores, and pictures of the worst images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline import __version__
from pipeline.files import write_atomically
from pipeline.report.page import html_page
from pipeline.report.thumbnails import Thumbnail
from pipeline.report.wording import escaped, plural, whole
from pipeline.scores.cases import Case, draw_case
from pipeline.scores.drawing import ON_BRIGHT, ON_DARK, UNKNOWN, Palette, class_colors
from pipeline.scores.intervals import Overall
from pipeline.scores.page_tables import (
    LISTED,
    images_table,
    interval,
    overall_table,
    score,
    thresholds_table,
)
from pipeline.scores.pairing import Pair
from pipeline.scores.result import Result
from pipeline.sources import SourceSpec

log = logging.getLogger(__name__)

PAGE = "scores.html"
HERE = Path(__file__).parent


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
        thresholds_table(result, known) if not result.settings.classes else "",
        overall_table(result, known),
        images_table(result),
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
    count = len(result.pairs)
    cards = [
        f"<li><strong>{whole(count)}</strong><span>image{'s' * (count != 1)} scored</span></li>"
    ]
    cards += [
        f"<li><strong>{score(known[name].pooled.value)}</strong>"
        f"<span>{escaped(known[name].measure.text)}{interval(known[name].pooled)}</span></li>"
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
<p class="note">{plural(len(drawn), "image")} with the smallest {escaped(_rank(result))}, the worst
first. Of an image larger than a picture, the window with most errors is shown. Brightness is
stretched for each picture by itself.</p>
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
    value = score(float(result.scores[result.rank_name][number]))
    pictures, where = f'<p class="missing">No picture: {escaped(trouble)}</p>', ""
    if case is not None:
        pictures = "".join(_picture(*one, name) for one in case.pictures)
        where = _where(case, bool(result.settings.classes))
    return f"""<figure class="card case"><div class="pictures">{pictures}</div>
<figcaption><b>{escaped(name)}</b><span>{escaped(_rank(result))}: {value}.
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
        return _class_legend(result)
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


def _class_legend(result: Result) -> str:
    names = result.settings.classes
    colors = result.pairs[0].labels.colors or class_colors(len(names))
    wrong, unknown = (_rgb(color) for color in (ON_DARK.missed, UNKNOWN))
    stripes = f"repeating-linear-gradient(135deg,{unknown} 0 3px,#fff 3px 8px)"
    items = [(_rgb(color), _rgb(color), name) for color, name in zip(colors, names, strict=True)]
    items += [(wrong, wrong, "of another class than in truth"), (unknown, stripes, "not annotated")]
    lines = "".join(
        f'<li><i style="border-color:{color};background:{back}"></i>{escaped(text)}</li>'
        for color, back, text in items
    )
    return f'<ul class="legend">{lines}</ul>'


def _rgb(color: Sequence[int]) -> str:
    return "rgb({},{},{})".format(*color)


def _swatch(palette: Palette, kind: str) -> str:
    color = _rgb(getattr(palette, kind))
    back = "#1c2226" if palette is ON_DARK else "#eee"
    fills = {
        "missed": f"color-mix(in srgb,{color} 45%,{back})",
        "invented": f"repeating-linear-gradient(135deg,{color} 0 3px,{back} 3px 8px)",
    }
    return f'<i style="border-color:{color};background:{fills.get(kind, back)}"></i>'
