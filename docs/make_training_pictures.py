"""Draw the pictures of docs/train.md from what `tilewright train small-unet tests/data OUT` left.

python docs/make_training_pictures.py OUT
"""

from __future__ import annotations

import csv
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pipeline.nets.model_folder import read_card
from pipeline.recipe import load_recipe
from pipeline.report.thumbnails import ON_DARK, contrast, edges
from pipeline.training.agreement import agreement
from pipeline.training.curves import chart
from pipeline.trial import run_untiled

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"
SHOWN = ("large_nuclei/449f41710769", "small_nuclei/6fe2df6de1d9")
CROP_PX, ENLARGED = 240, 2
COLORS = {
    "var(--accent)": "#0b7285",
    "var(--open)": "#a15c00",
    "var(--soft)": "#5a6771",
    "var(--line)": "#dfe3e6",
}


def curves(out: Path) -> str:
    """Losses and scores over steps, as one SVG file."""
    with (out / "history.csv").open() as lines:
        rows = [
            {key: float(x) for key, x in row.items() if x != ""} for row in csv.DictReader(lines)
        ]
    best = read_card(out / "model").scores["steps"]

    def line(key: str) -> list[tuple[float, float]]:
        return [(row["step"], row[key]) for row in rows if key in row]

    charts = [
        chart("Loss", {"training": line("loss"), "validation": line("validation_loss")}, best),
        chart("AP", {"AP": line("validation_ap50"), "IoU": line("validation_iou")}, best),
    ]
    words = ("loss: training, validation (brown)", "validation: AP at 0.5, foreground IoU (brown)")
    drawn = []
    for k, (text, word) in enumerate(zip(charts, words, strict=True)):
        inner = re.search(r"<svg[^>]*>(.*)</svg>", text, re.DOTALL)
        assert inner is not None
        drawn.append(
            f'<g transform="translate({580 * k},16)"><text x="300" y="0" text-anchor="middle" '
            f'font-weight="bold">{word}</text>{inner[1]}</g>'
        )
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1140 280" font-size="13" '
        f'font-family="sans-serif" fill="#5a6771"><rect width="1140" height="280" fill="white"/>'
        f"{''.join(drawn)}</svg>"
    )
    for name, color in COLORS.items():
        svg = svg.replace(name, color)
    return svg


def outlined(image: np.ndarray, labels: np.ndarray, word: str) -> Image.Image:
    pixels = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    canvas = contrast(pixels).repeat(ENLARGED, 0).repeat(ENLARGED, 1)
    canvas[edges(labels.repeat(ENLARGED, 0).repeat(ENLARGED, 1))] = ON_DARK
    picture = Image.fromarray(canvas)
    ImageDraw.Draw(picture).text((6, 4), word, fill=(255, 255, 255), font_size=18)
    return picture


def predictions(out: Path) -> Image.Image:
    """Truth, the classical recipe and the trained model on images that were not learned from."""
    recipes = {"classical": load_recipe("nuclei"), "trained": load_recipe(str(out / "recipe.yaml"))}
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in SHOWN:
            truth, image = (
                np.asarray(Image.open(DATA / kind / f"{name}.png")) for kind in ("truth", "demo")
            )
            cut = tuple(slice((n - CROP_PX) // 2, (n + CROP_PX) // 2) for n in image.shape)
            row = [outlined(image[cut], truth[cut].astype(int), "truth")]
            for kind, recipe in recipes.items():
                labels = run_untiled(recipe, image, Path(scratch)).labels[0, 0]
                score = agreement(truth.astype(int), labels).precision
                row.append(outlined(image[cut], labels[cut], f"{kind}, AP {score:.2f}"))
            rows.append(np.hstack([np.asarray(x) for x in row]))
    return Image.fromarray(np.vstack(rows))


def main() -> None:
    out, images = Path(sys.argv[1]), ROOT / "docs" / "images"
    (images / "train-curves.svg").write_text(curves(out))
    predictions(out).convert("P", palette=Image.Palette.ADAPTIVE, colors=96).save(
        images / "train-predictions.png", optimize=True
    )


if __name__ == "__main__":
    main()
