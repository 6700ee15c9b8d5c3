"""Draw the pictures of docs/plates.md from a plate of U2OS nuclei (BBBC038, CC0).

python docs/make_plate_pictures.py ../shared/data/ome_zarr/hcs_plate_v04.zarr
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile
import zarr
from PIL import Image
from skimage.segmentation import find_boundaries

from flows.request import Request
from pipeline.recipe import parse_recipe
from pipeline.recipe_file import read_file, recipes_folder
from pipeline.report.plates import PLATE_STYLE, plates
from pipeline.run_folder import RunFolder
from tests import in_process

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
#: A field, where its part begins that is cut, half of it, and what is shown of it, in px.
FIELD, LEFT, HALF, TOP, SIDE = "A/1/1", 60, 300, 150, 200
COLORS = {
    "--accent": "#0b7285",
    "--soft": "#5a6771",
    "--line": "#dfe3e6",
    "--card": "#fff",
    "--bad": "#c92a2a",
}
OUTLINE = (255, 212, 59)


def run(archive: Path, out: Path, **source: object) -> RunFolder:
    """The shipped recipe for nuclei, with other sources."""
    content = read_file(recipes_folder() / "nuclei.yaml")
    content["source"] = {**content["source"], **source}
    return in_process.segment(Request(parse_recipe(content, "nuclei"), archive, out))


def plate_map(plate: Path, work: Path) -> str:
    """The map of the report, objects of each well, as a file of its own."""
    page = plates(run(plate, work))
    found = re.search(r"<svg.*?</svg>", page, re.DOTALL)
    assert found is not None
    style = "\n".join(line for line in PLATE_STYLE.splitlines() if line.startswith(".plate "))
    for name, color in COLORS.items():
        style = style.replace(f"var({name})", color)
    svg = found[0].replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    svg = re.sub(r'width="(\d+)" height="(\d+)"', _enlarged, svg, count=1)
    return svg.replace(">", f"><style>{style}</style>", 1)


def _enlarged(size: re.Match[str]) -> str:
    return f'width="{4 * int(size[1])}" height="{4 * int(size[2])}"'


def cut_and_stitched(plate: Path, work: Path) -> Image.Image:
    """One field cut into two: its halves by themselves, and stitched again."""
    pixels = np.squeeze(zarr.open_array(plate / FIELD / "0", mode="r")[...])
    pixels = pixels[:, LEFT : LEFT + 2 * HALF]
    archive = work / "halves"
    archive.mkdir()
    for k in range(2):
        tifffile.imwrite(archive / f"A1_s{k}.tif", pixels[:, k * HALF : (k + 1) * HALF])
    names = "{well}_s{field}.tif"
    apart = run(archive, work / "apart", files=names)
    whole = run(archive, work / "whole", files=names, fields="stitched", grid={"columns": 2})
    halves = [labels(apart, f"{k}") for k in range(2)]
    left, right = (drawn(pixels, np.concatenate(halves, axis=1), k) for k in (0, 1))
    gap = np.full((left.shape[0], 12, 3), 255, np.uint8)
    both = [left, gap[:, :6], right, gap, drawn(pixels, labels(whole, "0"), None)]
    return Image.fromarray(np.concatenate(both, axis=1))


def labels(folder: RunFolder, field: str) -> np.ndarray:
    group = folder.images / "halves.ome.zarr" / "A" / "1" / field
    return np.asarray(zarr.open_array(group / "labels" / "nuclei" / "0", mode="r")[...])


def drawn(pixels: np.ndarray, found: np.ndarray, half: int | None) -> np.ndarray:
    """The part around the cut, twice as large, outlined; of one half only where it is given."""
    low, high = np.percentile(pixels, (1, 99.7))
    grey = np.clip((pixels - low) / (high - low), 0, 1) ** 0.6 * 255
    first, last = HALF - SIDE // 2, HALF + SIDE // 2
    if half is not None:
        first, last = (first, HALF) if half == 0 else (HALF, last)
        found = np.where((np.arange(found.shape[1]) < HALF) == (half == 0), found, 0)
    cut = (slice(TOP, TOP + SIDE), slice(first, last))
    large = np.kron(np.dstack([grey[cut]] * 3), np.ones((2, 2, 1))).astype(np.uint8)
    edge = find_boundaries(np.kron(found[cut], np.ones((2, 2), np.int64)), mode="inner")
    large[edge] = OUTLINE
    return large


def main() -> None:
    plate = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (IMAGES / "plate-map.svg").write_text(plate_map(plate, work / "plate"))
        cut_and_stitched(plate, work).save(IMAGES / "stitched.png", optimize=True)


if __name__ == "__main__":
    main()
