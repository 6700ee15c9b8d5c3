"""Draw docs/images/nuclei-cells.jpg: nuclei, cells and cytoplasm of a Cell Painting field.

The shipped recipe `nuclei-cells`, cut into tiles of 128 px by the real engine.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.color import label2rgb
from skimage.segmentation import find_boundaries

from pipeline.box import Box
from pipeline.labels_recipe import load_any_recipe
from pipeline.sources import discover, expand, open_source
from pipeline.trial import Cut, run_labels

ROOT = Path(__file__).parents[1]
FIELD = ROOT / "tests" / "data" / "demo" / "cell_painting" / "bbbc022.ome.zarr"
#: What is shown of it, (y, x) in px.
SHOWN = (slice(0, 290), slice(20, 480))
SIDE = 128
GAP = 6


def main() -> None:
    image = pixels()
    with tempfile.TemporaryDirectory() as folder:
        recipe = load_any_recipe("nuclei-cells")
        found = run_labels(recipe, image[:, None], Path(folder), Cut(SIDE))
    nuclei, cells, cytoplasm = (found[name].labels[0, 0] for name in found)
    left = outlined(image, [(cells, (255, 220, 0)), (nuclei, (255, 255, 255))])
    right = np.maximum(filled(cytoplasm, 0.65), filled(nuclei, 1.0))
    shown = [one[SHOWN] for one in (left, right)]
    between = np.full((shown[0].shape[0], GAP, 3), 255, np.uint8)
    picture = np.concatenate([shown[0], between, shown[1]], axis=1)
    Image.fromarray(picture).save(ROOT / "docs" / "images" / "nuclei-cells.jpg", quality=88)
    print({name: len(result.table) for name, result in found.items()})


def pixels() -> np.ndarray:
    """All channels of the field, shape (C, Y, X)."""
    ((spec,),) = (expand(file) for file in discover(FIELD))
    with open_source(spec) as source:
        return source.read(0, range(source.info.shape[1]), Box.whole(source.info.shape[2:]))[:, 0]


def outlined(image: np.ndarray, outlines: list[tuple[np.ndarray, tuple[int, ...]]]) -> np.ndarray:
    """Nuclei in blue over cells in red and green, with outlines in their colours."""
    dark, bright = np.percentile(image, [1, 99.7], axis=(1, 2))
    grey = np.clip((image - dark[:, None, None]) / (bright - dark)[:, None, None], 0, 1) ** 0.6
    canvas = (np.stack([grey[1], grey[1], grey[0]], axis=-1) * 230).astype(np.uint8)
    for labels, color in outlines:
        canvas[find_boundaries(labels, mode="inner")] = color
    return canvas


def filled(labels: np.ndarray, brightness: float) -> np.ndarray:
    """Each number in its colour, the same in every label image."""
    colors = np.random.default_rng(4).uniform(0.35, 1, (int(labels.max()) + 60, 3))
    drawn = label2rgb(labels, colors=colors[np.unique(labels[labels > 0])], bg_label=0)
    return (drawn * 255 * brightness).astype(np.uint8)


if __name__ == "__main__":
    main()
