"""The page of a training: curves, scores, and predictions beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline import __version__
from pipeline.files import write_atomically
from pipeline.nets.heads import ClassesHead
from pipeline.report.page import html_page
from pipeline.report.thumbnails import SIDE, Thumbnail, contrast, draw, tint
from pipeline.report.views import densest
from pipeline.report.wording import decimal, duration, escaped, plural, whole
from pipeline.scores.drawing import class_colors
from pipeline.training.curves import Points, chart
from pipeline.training.dataset import Dataset
from pipeline.training.folder import TrainingFolder
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.result import Result
from pipeline.training.state import Row, TrainingState
from pipeline.training.validation import Judged

#: Images of validation that are pictured, from the worst to the best.
PICTURED = 8
NAMES = {
    "ap50": "objects matched (AP at IoU 0.5)",
    "iou": "overlap of the foreground (IoU)",
    "mean_iou": "mean overlap of classes (IoU)",
    "loss": "loss",
}


def write_training_report(
    folder: TrainingFolder,
    recipe: TrainingRecipe,
    dataset: Dataset,
    state: TrainingState,
    result: Result,
) -> None:
    """Write OUT/report.html."""
    body = [
        _heading(recipe, folder),
        _headline(dataset, state, result),
        _curves(state.history, result),
        _pictures(recipe, result.scores.images),
        _table(result.scores.images),
        _details("Model card", result.card.model_dump(mode="json", exclude_none=True)),
        _details("Recipe", recipe.model_dump(mode="json")),
    ]
    page = html_page(f"{recipe.name}: training", body)
    write_atomically(folder.report, page.encode("utf-8", "replace"))


def _heading(recipe: TrainingRecipe, folder: TrainingFolder) -> str:
    intro = f'<p class="intro">{escaped(recipe.description)}</p>' if recipe.description else ""
    return (
        f'<header><p class="kicker">tilewright {escaped(__version__)} · training</p>'
        f"<h1>{escaped(recipe.name)}</h1>"
        f'<p class="archive">{escaped(folder.model)}</p>{intro}</header>'
    )


def _headline(dataset: Dataset, state: TrainingState, result: Result) -> str:
    numbers = result.scores.numbers
    cards = [(f"{numbers[key]:.3f}", NAMES[key]) for key in NAMES if key in numbers]
    cards += [
        (whole(len(dataset.train_names)), "images learned from"),
        (whole(len(dataset.validation_names)), "images scored"),
        (whole(result.step), f"steps of {whole(state.step)}"),
        (duration(state.seconds), f"on {result.card.device}"),
    ]
    items = "".join(f"<li><strong>{a}</strong><span>{escaped(b)}</span></li>" for a, b in cards)
    note = "Scores are means over images of validation, none of which was learned from."
    if dataset.absent:
        note += f" Classes that only they show: {escaped(', '.join(dataset.absent))}."
    return f'<ul class="numbers">{items}</ul><p class="note">{note}</p>'


def _curves(history: Sequence[Row], result: Result) -> str:
    def line(key: str) -> Points:
        return [(row["step"], row[key]) for row in history if key in row]

    parts = list(dict.fromkeys(k for row in history for k in row if " " in k))
    losses = {"training": line("loss"), "validation": line("validation_loss")}
    scores = {NAMES[k]: line(f"validation_{k}") for k in ("ap50", "iou", "mean_iou")}
    charts = [
        chart("Loss", losses, result.step),
        chart("Scores while training", scores, result.step),
        chart("Parts of the training loss", {part: line(part) for part in parts}),
        chart("Learning rate", {"learning rate": line("learning_rate")}),
    ]
    return (
        '<section><h2>Learning curves</h2><p class="note">Over steps. The broken line is the step '
        "whose weights are kept. Scores while training may be of fewer images than those above. "
        "Numbers: <code>history.csv</code>. The training loss is of varied patches, so it may be "
        f'the higher one.</p><div class="halves">{"".join(charts)}</div></section>'
    )


def _pictures(recipe: TrainingRecipe, images: Sequence[Judged]) -> str:
    ordered = sorted(images, key=lambda one: one.score)
    places = np.linspace(0, len(ordered) - 1, min(PICTURED, len(ordered))).round().astype(int)
    cards = "".join(_card(ordered[k], recipe) for k in dict.fromkeys(places.tolist()))
    return (
        '<section><h2>Predictions beside the truth</h2><p class="note">Images of validation, from '
        "the worst to the best; where one is large, its densest part.</p>"
        f'<div class="gallery">{cards}</div></section>'
    )


def _card(one: Judged, recipe: TrainingRecipe) -> str:
    pixels, truth, found = (
        _plane(array, recipe.ndim) for array in (one.pixels, one.truth, one.found)
    )
    y, x = densest(truth, SIDE)
    cut = tuple(
        slice(start := max(0, min(at - SIDE // 2, n - SIDE)), start + SIDE)
        for at, n in zip((y, x), truth.shape, strict=True)
    )
    pixels = pixels[(slice(None), *cut)]
    pictures = "".join(
        _picture(_drawn(pixels, labels[cut], recipe), one.name, word)
        for labels, word in ((truth, "truth"), (found, "predicted"))
    )
    return (
        f'<figure class="card two"><div class="pictures">{pictures}</div>'
        f"<figcaption><b>{escaped(one.name)}</b><span>{_score_words(one)}</span></figcaption>"
        "</figure>"
    )


def _plane(array: NDArray[Any], ndim: int) -> NDArray[Any]:
    """The first plane, or the middle plane of the first volume; channels stay."""
    first: NDArray[Any] = array[0]
    if ndim == 2:
        return first
    axis = first.ndim - 3
    middle: NDArray[Any] = np.take(first, first.shape[axis] // 2, axis)
    return middle


def _drawn(pixels: NDArray[Any], labels: NDArray[Any], recipe: TrainingRecipe) -> Thumbnail:
    canvas = contrast(pixels if len(pixels) == 3 else pixels[:1])
    if recipe.data.objects is not None:
        return draw(canvas, labels)
    head = next(h for h in recipe.heads if isinstance(h, ClassesHead))
    colors = head.colors or class_colors(len(head.names))
    return draw(tint(canvas, np.maximum(labels + 1, 0), colors), np.zeros_like(labels))


def _picture(thumbnail: Thumbnail, name: str, word: str) -> str:
    width = 320 * thumbnail.width / thumbnail.height
    return (
        f'<div class="place"><div class="picture" style="aspect-ratio:{thumbnail.width}/'
        f'{thumbnail.height};max-width:{width:.0f}px"><img src="{thumbnail.uri}" '
        f'width="{thumbnail.width}" height="{thumbnail.height}" '
        f'alt="{escaped(name)}: {word}"><em>{word}</em></div></div>'
    )


def _score_words(one: Judged) -> str:
    counts = one.agreement
    if counts is None:
        return ""
    return (
        f"AP {one.score:.2f}: {counts.matched} matched, {counts.missed} missed, "
        f"{counts.wrong} wrong · IoU {counts.foreground_iou:.2f}"
    )


def _table(images: Sequence[Judged]) -> str:
    if any(one.agreement is None for one in images):
        return ""
    heads = ["Image", "AP at 0.5", "Matched", "Missed", "Wrong", "IoU"]
    head = "".join(
        f"<th{' class=n' if k else ''}><button>{name}</button></th>" for k, name in enumerate(heads)
    )
    rows = []
    for one in images:
        assert one.agreement is not None
        counts = one.agreement
        values = [
            f"{one.score:.3f}",
            *map(str, (counts.matched, counts.missed, counts.wrong)),
            decimal(counts.foreground_iou),
        ]
        cells = "".join(f'<td class="n" data-v="{x}">{x}</td>' for x in values)
        rows.append(f"<tr><td>{escaped(one.name)}</td>{cells}</tr>")
    return (
        f"<section><h2>{plural(len(images), 'image')} of validation</h2>"
        f'<div class="wide"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _details(title: str, content: dict[str, Any]) -> str:
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return f"<details><summary>{title}</summary><pre><code>{escaped(text)}</code></pre></details>"
