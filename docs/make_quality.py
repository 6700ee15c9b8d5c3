"""Count and draw what `flat_field` does: docs/images/flat-field.jpg, numbers for docs/quality.md.

    python docs/make_quality.py ../shared/data/nuclei

Taken are all pictures of 520 x 696 px below the folder (BBBC038, fields of U2OS from one
microscope, CC0) whose labels lie beside them: as they are, and under a shading that is made here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import tifffile
import zarr
from make_training_pictures import outlined
from PIL import Image
from skimage import io

from pipeline.training.agreement import agreement

SHAPE = (520, 696)
RECIPES = ("nuclei", "nuclei-flat_field")
CROP = (slice(0, 260), slice(0, 348))


def shading(shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Brightest beside the middle, a third of that in the darkest corner; its mean is 1."""
    y, x = ((np.arange(n) + 0.5) / n for n in shape)
    flat = np.exp(-1.6 * ((y[:, None] - 0.6) ** 2 + (x - 0.6) ** 2))
    return flat / flat.mean()


def run(recipe: str, archive: Path, out: Path) -> dict[str, np.ndarray]:
    """Labels of every image."""
    tilewright = [sys.executable, "-c", "from flows.cli import main; main()"]
    subprocess.run([*tilewright, "run", recipe, archive, out, "--workers", "2"], check=True)
    found = sorted((out / "images").glob("*.ome.zarr"))
    return {
        path.name.removesuffix(".ome.zarr"): np.asarray(zarr.open(path / "labels/nuclei/0")[...])
        for path in found
    }


def main() -> None:
    truths, pictures = {}, {}
    for path in sorted(Path(sys.argv[1]).glob("*/images/*.png")):
        picture = io.imread(path)
        if picture.shape == SHAPE:
            pictures[path.stem] = picture
            truths[path.stem] = io.imread(path.parents[1] / "labels" / path.name).astype(int)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for kind, light in (("as it is", np.ones(SHAPE)), ("made uneven", shading())):
            folder = Path(scratch) / kind.replace(" ", "-")
            (folder / "archive").mkdir(parents=True)
            for name, picture in pictures.items():
                # 100 steps a grey value, and an offset that a camera has.
                lit = np.rint(picture * light * 100).clip(0, 65535).astype(np.uint16)
                tifffile.imwrite(folder / "archive" / f"{name}.tif", lit)
            scores, labels = {}, {}
            for recipe in RECIPES:
                labels[recipe] = run(recipe, folder / "archive", folder / recipe)
                scores[recipe] = {n: agreement(truths[n], x) for n, x in labels[recipe].items()}
                mean = np.mean([one.precision for one in scores[recipe].values()])
                print(f"{kind}, {recipe}: mean AP {mean:.3f} of {len(scores[recipe])} images")
            (profile,) = (folder / RECIPES[1] / "profiles").glob("*-flat.tif")
            flat = tifffile.imread(profile)
            print(f"{kind}: estimated gain {flat.min():.3f} to {flat.max():.3f}")
            seconds = json.loads((folder / RECIPES[1] / "run.json").read_text())["timings"]
            print(f"{kind}: {seconds}")
            if kind == "made uneven":
                known = shading(flat.shape)
                apart = np.abs(flat - known)
                print(f"gain put in {known.min():.3f} to {known.max():.3f}")
                print(f"off by {apart.mean():.3f} in the mean, {apart.max():.3f} at most")
            table = pq.read_table(folder / RECIPES[0] / "images.parquet").to_pandas()
            print(table.groupby("flags").size().to_dict())
            print(table[["corner_to_centre", "unevenness", "focus", "power_slope"]].median())
            gained = {
                n: scores[RECIPES[1]][n].precision - scores[RECIPES[0]][n].precision
                for n in scores[RECIPES[0]]
            }
            shown = sorted(gained, key=lambda n: gained[n])[3 * len(gained) // 4]
            bright = pictures[shown] * light
            grey = np.sqrt(np.clip(bright / np.percentile(bright, 99.8), 0, 1))
            image = (255 * grey).astype(np.uint8)[CROP]
            gain = np.asarray(Image.fromarray(flat).resize(SHAPE[::-1], Image.Resampling.BILINEAR))
            row = [outlined(image, truths[shown][CROP], f"{kind}: annotation")]
            for recipe in RECIPES:
                score = scores[recipe][shown].precision
                caption = f"{recipe}, AP {score:.2f}"
                row.append(outlined(image, labels[recipe][shown][CROP], caption))
            drawn = (255 * gain / gain.max()).astype(np.uint8)[::2, ::2]
            caption = f"estimated gain, {flat.min():.2f} to {flat.max():.2f}"
            row.append(outlined(drawn, np.zeros_like(drawn, int), caption))
            rows.append(np.hstack([np.asarray(one) for one in row]))
    target = Path(__file__).parent / "images" / "flat-field.jpg"
    Image.fromarray(np.vstack(rows)).save(target, quality=70, optimize=True)


if __name__ == "__main__":
    main()
