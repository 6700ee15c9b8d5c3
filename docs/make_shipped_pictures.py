"""Draw docs/images/shipped-fluorescence.jpg and shipped-he.jpg: recipes beside the truth.

    python docs/make_shipped_pictures.py FLUORESCENCE STAINED

Both are folders with `images` and `labels`, of images that no model has learned from, as
`docs/make_training_set.py` leaves them of `nuclei/val`. Shown are those at the quarters of the
scores of the last recipe, from worse to better: not the best ones.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from make_training_pictures import outlined
from PIL import Image
from skimage import io

from pipeline.recipe import Recipe, load_recipe
from pipeline.training.agreement import agreement
from pipeline.trial import run_untiled

CROP_PX = 200
SHOWN = (0.25, 0.5, 0.75)
FLUORESCENCE = ("nuclei", "nuclei-maskrcnn", "nuclei-unet")
STAINED = ("nuclei-unet-he",)


def segment(recipe: Recipe, image: np.ndarray, folder: Path) -> np.ndarray:
    """Labels (Y, X) of an image (Y, X, C)."""
    channels = len(recipe.source.channels or (0,))
    pixels = np.moveaxis(image, -1, 0)[:channels, None]
    return run_untiled(recipe, pixels, folder).labels[0, 0]


def picture(collection: Path, names: tuple[str, ...]) -> Image.Image:
    recipes = {name: load_recipe(name) for name in names}
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for path in sorted((collection / "images").glob("*.png")):
            image = np.atleast_3d(io.imread(path))[..., :3]
            truth = io.imread(collection / "labels" / path.name).astype(int)
            labels = {n: segment(r, image, Path(scratch)) for n, r in recipes.items()}
            scores = {n: agreement(truth, x).precision for n, x in labels.items()}
            found.append((scores[names[-1]], image, truth, labels, scores))
    found.sort(key=lambda one: one[0])
    rows = []
    for part in SHOWN:
        _, image, truth, labels, scores = found[round(part * (len(found) - 1))]
        cut = tuple(slice(max(0, (n - CROP_PX) // 2), (n + CROP_PX) // 2) for n in truth.shape)
        shown = image[cut] if len(names) == 1 else image[cut][..., 0]
        row = [outlined(shown, truth[cut], "annotation")]
        row += [outlined(shown, labels[n][cut], f"{n}, AP {scores[n]:.2f}") for n in names]
        rows.append(np.hstack([np.asarray(one) for one in row]))
    return Image.fromarray(np.vstack(rows))


def main() -> None:
    images = Path(__file__).parent / "images"
    for name, collection, recipes in (
        ("fluorescence", sys.argv[1], FLUORESCENCE),
        ("he", sys.argv[2], STAINED),
    ):
        drawn = picture(Path(collection), recipes)
        drawn.save(images / f"shipped-{name}.jpg", quality=80, optimize=True)


if __name__ == "__main__":
    main()
