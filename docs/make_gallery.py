"""Draw docs/images/methods/*.png, one picture a recipe in configs/methods: `make pictures`.

Left the image, right what the recipe makes of it, cut into tiles of 96 px by the real engine.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import io
from skimage.color import label2rgb

from pipeline.recipe import Recipe, load_recipe
from pipeline.recipe_file import shipped_recipes
from pipeline.report.thumbnails import contrast, tint
from pipeline.trial import Cut, copy_companions, run_tiled, save_array

ROOT = Path(__file__).parents[1]
NUCLEI = ROOT / "tests" / "data" / "demo" / "large_nuclei" / "3ca8181367fc.png"
TISSUE = ROOT / "tests" / "data" / "histology" / "4590d7d47f52.png"
SIDE = 96


def main() -> None:
    folder = ROOT / "docs" / "images" / "methods"
    folder.mkdir(exist_ok=True)
    for name in shipped_recipes():
        if name.startswith("methods/"):
            draw(load_recipe(name)).save(
                folder / f"{name.removeprefix('methods/')}.png", optimize=True
            )


def draw(recipe: Recipe) -> Image.Image:
    """The image and its labels side by side."""
    path = NUCLEI if recipe.source.channels is None else TISSUE
    image = np.moveaxis(np.atleast_3d(io.imread(path)), -1, 0)
    image = image[:1] if recipe.source.channels is None else image[:3]
    with tempfile.TemporaryDirectory() as space:
        folder = Path(space) / "images"  # companions may lie beside it
        folder.mkdir()
        copy_companions(recipe, path, save_array(image[:, None], folder))
        result = run_tiled(recipe, image[:, None], folder, Cut(SIDE))
    labels = result.labels[0, 0]
    canvas = contrast(image)
    classes = recipe.segment.classes()
    if result.probabilities is not None:
        # Each class's colour, as strong as it is likely.
        colors = np.array([one.color for one in classes])
        mixed = np.einsum("kyx,kc->yxc", result.probabilities[0, :, 0], colors)
        drawn = (0.5 * canvas + 0.5 * mixed).astype(np.uint8)
    elif classes:
        drawn = tint(canvas, labels, [one.color for one in classes])
    else:
        colours = np.random.default_rng(3).uniform(0.25, 1.0, (int(labels.max()) + 1, 3))
        mixed = label2rgb(labels, canvas / 255, colours[1:], alpha=0.45, bg_label=0)
        drawn = (mixed * 255).astype(np.uint8)
    gap = np.full((len(canvas), 6, 3), 255, np.uint8)
    return Image.fromarray(np.concatenate([canvas, gap, drawn], axis=1)).quantize(96)


if __name__ == "__main__":
    main()
