"""Draw docs/images/nuclei.png: `make pictures`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import zarr
from PIL import Image
from skimage.color import label2rgb

ROOT = Path(__file__).parents[1]
MONTAGE = ROOT / "tests" / "data" / "demo" / "montage"
TILE = 256
#: Part of the montage that is shown, in px.
TOP, LEFT, HEIGHT, WIDTH = 300, 380, 700, 900


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [Path(sys.executable).parent / "tilewright", "run", "nuclei", MONTAGE, folder]
        subprocess.run([*command, "--tile", str(TILE)], check=True)
        (group,) = (Path(folder) / "images").glob("*.zarr")
        cut = (slice(TOP, TOP + HEIGHT), slice(LEFT, LEFT + WIDTH))
        image = zarr.open_array(group / "0", mode="r")[cut]
        labels = zarr.open_array(group / "labels" / "nuclei" / "0", mode="r")[cut]
    low, high = np.percentile(image, (1, 99.7))
    grey = np.clip((image - low) / (high - low), 0, 1) ** 0.7
    rng = np.random.default_rng(3)
    colours = rng.uniform(0.25, 1.0, (int(labels.max()) + 1, 3))
    drawn = label2rgb(labels, grey, colours[1:], alpha=0.45, bg_label=0)
    _draw_tile_borders(drawn)
    both = np.concatenate([np.dstack([grey] * 3), np.ones((HEIGHT, 8, 3)), drawn], axis=1)
    picture = Image.fromarray((both * 255).astype(np.uint8))
    picture.save(ROOT / "docs" / "images" / "nuclei.png", optimize=True)


def _draw_tile_borders(picture: np.ndarray) -> None:
    for y in range(-TOP % TILE, HEIGHT, TILE):
        dashes = np.arange(WIDTH) % 16 < 8
        picture[y, dashes] = 1.0
    for x in range(-LEFT % TILE, WIDTH, TILE):
        dashes = np.arange(HEIGHT) % 16 < 8
        picture[dashes, x] = 1.0


if __name__ == "__main__":
    main()
