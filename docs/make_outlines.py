"""Draws docs/images/outlines.png: outlines as a run writes them, over their image.

tilewright run RECIPE tests/data/demo/crowded OUT    # nuclei.yaml and `output: {outlines: geojson}`
python docs/make_outlines.py OUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import zarr
from PIL import Image, ImageDraw

IMAGE = "547ef286ee5f"
TOP, LEFT, HEIGHT, WIDTH = 150, 250, 150, 230
#: Pixels of the picture a pixel of the image.
ENLARGED = 4


def main() -> None:
    out = Path(sys.argv[1])
    pixels = np.asarray(zarr.open(out / f"images/{IMAGE}.ome.zarr/0", mode="r")[...])
    plane = np.squeeze(pixels)[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH].astype(float)
    grey = (255 * np.clip(plane / np.percentile(plane, 99.7), 0, 1) ** 0.7).astype(np.uint8)
    large = np.kron(grey, np.ones((ENLARGED, ENLARGED), np.uint8))
    picture = Image.fromarray(large).convert("RGB")
    pen = ImageDraw.Draw(picture)
    text = (out / f"outlines/{IMAGE}.geojson").read_text("utf-8")
    for feature in json.loads(text)["features"]:
        geometry = feature["geometry"]
        parts = geometry["coordinates"]
        color = tuple(feature["properties"]["classification"]["color"])
        for part in parts if geometry["type"] == "MultiPolygon" else [parts]:
            for ring in part:
                line = [((x - LEFT) * ENLARGED, (y - TOP) * ENLARGED) for x, y in ring]
                pen.line(line, fill=color, width=2)
    picture.save(Path(__file__).parent / "images/outlines.png", optimize=True)


if __name__ == "__main__":
    main()
