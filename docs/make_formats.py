"""Read every file of some folders, segment the images, and write the table of docs/formats.md.

    python docs/make_formats.py ../shared/data/vendor ../shared/data/histology ...

Each folder is inspected and goes through `tilewright run` with Otsu's threshold on its first
channel, in planes, or in volumes if its name says 3d; in folders named ome_zarr, chunks that were
left out are empty.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import yaml

from pipeline.errors import ImageError
from pipeline.sources import discover, distinct_names
from pipeline.sources.inspection import Inspected, inspect_files

PAGE = Path(__file__).parent / "formats.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
HEAD = ["file", "read as", "axes and size", "channels", "pixel size um", "a run"]
COMMAND = [sys.executable, "-c", "from flows.cli import main; main()"]


def segment(folder: Path, work: Path) -> dict[str, tuple[str, str]]:
    """Run a recipe over a folder: status, and objects or reason, of each image by its name."""
    recipe = work / "threshold.yaml"
    source = {
        "channels": [0],
        "dims": "3d" if "3d" in folder.name else "2d",
        "missing_chunks": "fill" if folder.name == "ome_zarr" else "error",
    }
    recipe.write_text(yaml.safe_dump({"source": source, "segment": {"method": "threshold"}}))
    out = work / "out"
    done = subprocess.run([*COMMAND, "run", str(recipe), str(folder), str(out)], check=False)
    if done.returncode not in (0, 3):
        raise RuntimeError(f"{folder}: the run ended with {done.returncode}")
    with closing(sqlite3.connect(out / "run.sqlite")) as records:
        rows = records.execute("SELECT name, status, reason, details FROM image").fetchall()
    return {
        name: (status, reason if status != "published" else json.loads(details)["objects"])
        for name, status, reason, details in rows
    }


def lines(folder: Path, top: Path, outcome: dict[str, tuple[str, str]]) -> Iterator[list[str]]:
    """One line an image, or a file that is refused."""
    for item in inspect_files(distinct_names(discover(folder))):
        if isinstance(item, ImageError):
            yield [_place(item.path, top), "", "", "", "", f"refused: {item.reason}"]
            continue
        yield [_place(item.spec.path, top, item.spec.ending), *_seen(item), _run(item, outcome)]


def _place(path: str, top: Path, ending: str = "") -> str:
    found = Path(path).relative_to(top.resolve()).as_posix()
    return f"`{found}`{f' ({ending})' if ending else ''}"


def _seen(item: Inspected) -> list[str]:
    info = item.info
    sizes = [n for a, n in zip("tczyx", info.shape, strict=True) if a in info.axes]
    known = [f"{n:.3g}" if n is not None else "-" for n in info.pixel_size_um]
    block = " x ".join(map(str, info.chunks[2:])) if info.packed else "rows"
    levels = f", {len(item.levels)} levels" if len(item.levels) > 1 else ""
    return [
        f"{item.format_name.split(':')[0]}; {block}",
        f"{info.axes} {' x '.join(map(str, sizes))} {info.dtype}{levels}",
        ", ".join(info.channels[:3]) + (", ..." if len(info.channels) > 3 else ""),
        " ".join(known) if any(info.pixel_size_um) else "",
    ]


def _run(item: Inspected, outcome: dict[str, tuple[str, str]]) -> str:
    status, found = outcome.get(item.spec.name, ("", ""))
    if status == "published":
        return f"{int(found):,} objects"
    return f"{status}: {str(found).removeprefix(item.spec.path).lstrip(': ')}"


def main() -> None:
    rows = [HEAD, ["---"] * len(HEAD)]
    for name in sys.argv[1:]:
        folder = Path(name).absolute()
        with tempfile.TemporaryDirectory() as work:
            outcome = segment(folder, Path(work))
            rows += lines(folder, folder.parent, outcome)
    table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
