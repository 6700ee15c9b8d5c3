"""Draw docs/images/scores.jpg, the worst images of the demo: `make pictures`."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
#: Cases that are shown, and the width of one picture, px.
SHOWN, WIDTH = 2, 560


def main() -> None:
    tilewright = [sys.executable, "-c", "from flows.cli import main; main()"]
    with tempfile.TemporaryDirectory() as folder:
        out, scores = Path(folder) / "out", Path(folder) / "scores"
        subprocess.run([*tilewright, "run", "nuclei", DATA / "demo", out], check=True)
        # 3: the bundled truth has an image that is not in the demo.
        subprocess.run([*tilewright, "evaluate", out, DATA / "truth", "--out", scores], check=False)
        page = (scores / "scores.html").read_text()
    found = re.findall(r'<img src="data:image/\w+;base64,([^"]+)"', page)[: 2 * SHOWN]
    pictures = [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]
    rows = [pictures[i : i + 2] for i in range(0, len(pictures), 2)]
    heights = [round(row[0].height * WIDTH / row[0].width) for row in rows]
    drawn = Image.new("RGB", (2 * WIDTH + 4, sum(heights) + 4 * (len(rows) - 1)), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for left, picture in zip((0, WIDTH + 4), row, strict=True):
            drawn.paste(picture.resize((WIDTH, height), Image.Resampling.LANCZOS), (left, top))
        top += height + 4
    drawn.save(ROOT / "docs" / "images" / "scores.jpg", quality=82, optimize=True)


if __name__ == "__main__":
    main()
