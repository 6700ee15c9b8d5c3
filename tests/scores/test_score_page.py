"""The page of the worst images: which, where, and that names are harmless."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner
from whole import save, squares

from flows.cli import app
from pipeline.scores.drawing import ON_DARK, draw_objects
from pipeline.scores.find import LabelImage
from pipeline.scores.open_pair import OpenPair
from pipeline.scores.pairing import Pair
from pipeline.scores.settings import Settings
from pipeline.scores.stream import Order, count_tiles
from pipeline.scores.verdicts import judge
from pipeline.scores.worst import Wrong, find_window, read_window
from pipeline.sources import SourceSpec


def pair_of(folder: Path) -> Pair:
    found = [
        LabelImage(name, SourceSpec("tiff", str(folder / f"{name}.ome.tif"), name))
        for name in ("labels", "truth")
    ]
    return Pair(*found)


@pytest.mark.parametrize("tile_px", [None, 100])
@pytest.mark.parametrize("ndim", [2, 3])
def test_the_window_is_where_most_is_wrong(tmp_path: Path, ndim: int, tile_px: int | None) -> None:
    truth = np.stack([squares(1300, 900, 18)] * 3).astype(np.int32)
    truth += np.arange(3)[:, None, None] * 10000 * (truth > 0)
    labels = truth.copy()
    labels[1, 800:1000, 500:700] = 0
    labels[2, 100:120, 100:120] = 0
    labels[0, 600:605, 600:605] = 77777  # within an object, so it invents one
    for name, image in (("truth", truth), ("labels", labels)):
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", image, metadata={"axes": "ZYX"})
    settings = Settings(ndim=ndim, tile_px=tile_px)  # type: ignore[arg-type]
    pair = pair_of(tmp_path)
    verdicts = judge(count_tiles(Order(pair, settings)).candidates)
    with OpenPair(pair, settings) as images:
        found = find_window(images, verdicts)
        there = read_window(images, found)
    assert (found.t, found.z) == (0, 1)
    assert found.box.shape == (384, 384)
    (y0, x0), (y1, x1) = found.box.start, found.box.stop
    assert y0 <= 800 < 1000 <= y1
    assert x0 <= 500 < 700 <= x1
    assert np.array_equal(there[0], truth[1, y0:y1, x0:x1])
    assert np.array_equal(there[1], labels[1, y0:y1, x0:x1])


def test_what_was_missed_is_filled_and_what_was_invented_striped() -> None:
    truth, labels = np.zeros((2, 40, 60), np.int64)
    truth[5:15, 5:15], truth[5:15, 30:40] = 1, 2
    labels[5:15, 5:15], labels[25:35, 30:50] = 1, 5
    numbers, sizes = np.array([2], np.uint64), np.array([100])
    wrong = Wrong(numbers, sizes, numbers + np.uint64(3), sizes)
    picture = draw_objects(np.zeros((40, 60, 3), np.uint8), truth, labels, wrong)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.uri.split(",")[1]))))
    k = picture.width // 60
    assert shown.shape == (40 * k, 60 * k, 3)

    def share(rows: slice, columns: slice, color: tuple[int, int, int]) -> float:
        part = shown[rows.start * k : rows.stop * k, columns.start * k : columns.stop * k]
        return float((np.abs(part.astype(int) - color).max(axis=-1) < 60).mean())

    filled = tuple(round(0.4 * c) for c in ON_DARK.missed)
    assert share(slice(7, 13), slice(32, 38), filled) > 0.95  # type: ignore[arg-type]
    assert 0.2 < share(slice(27, 33), slice(32, 48), ON_DARK.invented) < 0.5
    assert share(slice(7, 13), slice(7, 13), (0, 0, 0)) == 1
    assert shown[5 * k, 10 * k].tolist() == pytest.approx(ON_DARK.truth, abs=90)


def evaluate(*args: object) -> None:
    result = CliRunner().invoke(app, ["evaluate", *map(str, args)])
    assert result.exit_code == 0, (result.output, result.exception)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Three images, of which b is the worst and c is perfect, with pictures."""
    truth = squares()
    name = "<b>&.ome"  # harmless where it is escaped
    labels = {"a": np.where(truth == 3, 0, truth), name: np.where(truth < 9, 0, truth), "c": truth}
    for one, image in labels.items():
        save(tmp_path / "labels", **{one: image.astype(np.uint16)})
        save(tmp_path / "truth", **{one: truth})
        save(tmp_path / "images", **{one: (truth % 50).astype(np.uint8)})
    return tmp_path


def test_the_worst_come_first_and_names_are_escaped(folders: Path) -> None:
    out = folders / "out"
    images = ("--images", folders / "images", "--worst", 2)
    evaluate(folders / "labels", folders / "truth", "--out", out, *images)
    page = (out / "scores.html").read_text()
    names = re.findall(r"<figcaption><b>(.*?)</b>", page)
    assert names == ["&lt;b&gt;&amp;", "a"]
    assert '"<b>&:' not in page
    assert '"&lt;b&gt;&amp;: image"' in page
    assert page.count("<em>image</em>") == 2
    assert "8 missed and 0 invented here." in page
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page
    assert len(re.findall(r"<script", page)) == 1


def test_an_image_whose_picture_is_lost_is_outlined_on_grey(folders: Path) -> None:
    out = folders / "out"
    (folders / "images" / "a.tif").write_bytes(b"nothing")
    save(folders / "images", c=np.zeros((3, 3), np.uint8))
    images = ("--images", folders / "images")
    evaluate(folders / "labels", folders / "truth", "--out", out)
    assert (out / "scores.html").read_text().count("<em>image</em>") == 0
    evaluate(folders / "labels", folders / "truth", "--out", out, *images)
    page = (out / "scores.html").read_text()
    assert page.count("<em>truth and labels</em>") == 3
    assert page.count("<em>image</em>") == 1
