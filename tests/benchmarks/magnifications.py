"""Score a recipe on images that were enlarged or reduced, with and without `object_px`.

    python tests/benchmarks/magnifications.py COLLECTION [--recipe nuclei-unet] [--factors 0.5 2 4]

COLLECTION is a folder with `images` and `labels`. An image that was taken with another objective is
imitated: images are resampled (reduced by means, enlarged by cubic splines), labels by the nearest
pixel. `object_px` is the median diameter of each image's true objects, which people would measure
once for their archive.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
from skimage import io

from pipeline.recipe import Recipe, load_recipe, parse_recipe
from pipeline.training.agreement import agreement
from pipeline.trial import run_untiled


def resampled(image: np.ndarray, factor: float, kind: int) -> np.ndarray:
    height, width = image.shape[:2]
    sides = (round(width * factor), round(height * factor))
    return np.asarray(cv2.resize(image, sides, interpolation=kind))


def typical_px(labels: np.ndarray) -> float:
    sizes = np.bincount(labels.ravel())[1:]
    return float(np.median(np.sqrt(4 / np.pi * sizes[sizes > 0])))


def sized(recipe: Recipe, object_px: float) -> Recipe:
    """The same with `object_px` in the network's section."""
    content = recipe.model_dump(mode="json", exclude_defaults=True)
    content["segment"]["foreground"]["object_px"] = round(object_px, 1)
    return parse_recipe(content, "sized")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collection", type=Path)
    parser.add_argument("--recipe", default="nuclei-unet")
    parser.add_argument("--factors", type=float, nargs="*", default=[0.5, 1, 2, 4])
    parser.add_argument("--most-px", type=int, default=300_000, help="larger images are left out")
    given = parser.parse_args()
    plain = load_recipe(given.recipe)
    print("| factor | diameter, px | as it is | `object_px` given |\n|---|---|---|---|")
    for factor in given.factors:
        scores: list[tuple[float, float]] = []
        diameters = []
        for path in sorted((given.collection / "images").glob("*.png")):
            image = np.atleast_3d(io.imread(path))[..., 0]
            if image.size > given.most_px:
                continue
            truth = io.imread(given.collection / "labels" / path.name).astype(np.uint16)
            kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
            image = resampled(image, factor, kind)
            truth = resampled(truth, factor, cv2.INTER_NEAREST).astype(np.int64)
            diameters.append(typical_px(truth))
            with tempfile.TemporaryDirectory() as folder:
                pair = [
                    agreement(truth, run_untiled(recipe, image, Path(folder)).labels[0, 0])
                    for recipe in (plain, sized(plain, diameters[-1]))
                ]
            scores.append((pair[0].precision, pair[1].precision))
        low, high = min(diameters), max(diameters)
        means = " | ".join(f"{x:.3f}" for x in np.mean(scores, axis=0))
        print(f"| {factor:g} | {low:.0f} to {high:.0f} | {means} |", flush=True)


if __name__ == "__main__":
    main()
