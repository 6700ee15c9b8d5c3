"""The report: complete in itself, true to the records, and written for any archive at all."""

from __future__ import annotations

import base64
import io
import logging
import re
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from flows.request import Request
from pipeline.box import Box
from pipeline.errors import UnreadableError
from pipeline.manifest import ImageRow, Manifest
from pipeline.recipe import load_recipe, parse_recipe
from pipeline.report import summary, summary_rows, write_report
from pipeline.report.gallery import make_views
from pipeline.report.summary import evenly
from pipeline.report.thumbnails import MOST_BYTES, SIDE, contrast, draw, edges
from pipeline.report.views import densest, shown_channels
from pipeline.run_folder import RunFolder
from tests import in_process

RECIPE: dict[str, Any] = {
    "label": "cells",
    "description": "bright <b>squares</b>",
    "source": {"channels": [0]},
    "segment": {"method": "threshold", "foreground": {"value": 100}},
}
RED_GREEN_BLUE = ("red", "green", "blue")


def run(archive: Path, out: Path, **changes: Any) -> tuple[str, dict[str, Any]]:
    """Run a recipe in this process; returns the page and run.json."""
    recipe = parse_recipe({**RECIPE, **changes}, "recipe")
    folder = in_process.segment(Request(recipe, archive, out))
    return folder.report.read_text("utf-8"), folder.read_run()


def squares(*shape: int, dtype: str = "uint8") -> np.ndarray:
    """Bright squares of 6 px, 12 px apart, on a dark ramp."""
    y, x = np.indices(shape[-2:])
    plane = np.where((y % 12 < 6) & (x % 12 < 6), 200, 5 + x % 7)
    return np.broadcast_to(plane, shape).astype(dtype)


class Page(HTMLParser):
    """Tags, their attributes and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def pictures(self) -> list[bytes]:
        """The files of all pictures."""
        sources = [attrs["src"] or "" for tag, attrs in self.tags if tag == "img"]
        return [base64.b64decode(source.split(",")[1]) for source in sources]

    def count(self, tag: str, kind: str = "") -> int:
        return sum(t == tag and kind in (a.get("class") or "") for t, a in self.tags)


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], RunFolder]:
    """An archive of everything that is awkward."""
    archive, out = tmp_path_factory.mktemp("in & <out>"), tmp_path_factory.mktemp("out")
    float_image = squares(40, 50, dtype="float32")
    float_image[3:9, 3:9] = np.nan
    float_image[20, 20] = np.inf
    images: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "large.ome.tif": (squares(900, 700), {"metadata": {"axes": "YX"}}),
        "rgb.tif": (np.moveaxis(squares(3, 64, 90), 0, -1), {"photometric": "rgb"}),
        "stack.ome.tif": (squares(2, 5, 30, 40), {"metadata": {"axes": "TZYX"}}),
        "many.ome.tif": (squares(130, 24, 24), {"metadata": {"axes": "CYX"}}),
        "one_px.tif": (np.full((1, 1), 200, np.uint8), {}),
        "one_row.tif": (squares(1, 2000), {}),
        "nothing_there.tif": (np.full((50, 60), 3, np.uint8), {}),
        "all_nan.tif": (np.full((20, 20), np.nan, np.float32), {}),
        "some_nan.tif": (float_image, {}),
        "sub/<script>alert(1)</script>.tif": (squares(30, 30), {}),
        "日本語 \"é' & co.tif": (squares(30, 31), {}),
    }
    for name, (pixels, options) in images.items():
        path = archive / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, pixels, **options)
    (archive / "bad <img src=x onerror=alert(2)>.png").write_bytes(b"nothing")
    text, record = run(archive, out)
    return text, record, RunFolder(out)


def test_it_is_complete_in_itself(varied: tuple[str, dict[str, Any], RunFolder]) -> None:
    text, _, _ = varied
    found = Page(text)
    for tag, attrs in found.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        for key in ("src", "href", "srcset", "poster", "action"):
            assert (attrs.get(key) or "data:image/").startswith("data:image/"), (tag, attrs)
    assert not re.search(r"@import|url\(|https?://", text)
    assert "default-src 'none'" in text


def test_nothing_from_the_archive_becomes_markup(
    varied: tuple[str, dict[str, Any], RunFolder],
) -> None:
    text, _, _ = varied
    found = Page(text)
    assert found.count("script") == 1
    assert all(not key.startswith("on") for _, attrs in found.tags for key in attrs)
    assert found.count("b") == found.count("figure") + text.count('<b style="width')
    assert "sub/<script>alert(1)</script>" in found.text
    assert "日本語 \"é' & co" in found.text
    assert "bad <img src=x onerror=alert(2)>" in found.text
    assert "bright <b>squares</b>" in found.text


def test_numbers_are_those_of_the_records(
    varied: tuple[str, dict[str, Any], RunFolder],
) -> None:
    text, record, folder = varied
    found, counts = Page(text), record["counts"]
    assert (counts["images"], counts["published"], counts["quarantined"]) == (12, 11, 1)
    strong = re.findall(r"<strong>(.*?)</strong>", text)
    assert strong[:3] == ["11", "1", f"{counts['objects']:,}"]
    assert strong[3] == f"{counts['pixels'] / 1e6:.2f}"
    assert record["certificate"]["labels_digest"] in text
    assert "the labels of all 11 images are bit for bit" in found.text
    manifest = folder.reading()
    rows = {row.name: row for row in manifest.images()}
    manifest.close()
    assert rows["large"].details["objects"] == 75 * 59
    for row in rows.values():
        if row.status == "published":
            assert f'data-v="{row.details["objects"]}"' in text
            assert f'title="{row.digest}"' in text
        else:
            assert row.reason in found.text
    predicted = sum(r.details.get("predicted_cpu_seconds", 0) for r in rows.values())
    assert f"Predicted {summary_words(predicted)}" in found.text
    actual = sum(sum(r.details.get("seconds", {}).values()) for r in rows.values())
    assert f"Actual {summary_words(actual)}" in found.text


def summary_words(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s"


def test_pictures_are_small_files_of_every_published_image(
    varied: tuple[str, dict[str, Any], RunFolder],
) -> None:
    found = Page(varied[0])
    assert found.count("figure") == 11
    assert "No picture" not in found.text
    assert "labels only" not in found.text
    # Two images are longer than their thumbnail by far.
    assert len(found.pictures()) == 13
    for data in found.pictures():
        assert len(data) <= MOST_BYTES
        assert max(Image.open(io.BytesIO(data)).size) <= SIDE


def test_failures_name_the_command_that_tries_again(
    varied: tuple[str, dict[str, Any], RunFolder],
) -> None:
    text, record, folder = varied
    command = f"tilewright run {folder.recipe} '{record['archive']}' {folder.root}"
    assert command in Page(text).text
    assert load_recipe(str(folder.recipe)) == parse_recipe(record["recipe"], "r")


def test_no_image_at_all(tmp_path: Path) -> None:
    archive = tmp_path / "in"
    archive.mkdir()
    (archive / "empty.tif").write_bytes(b"")
    text, record = run(archive, tmp_path / "out")
    assert record["counts"]["published"] == 0
    assert "nothing to certify" in text
    assert Page(text).pictures() == []
    with RunFolder(tmp_path / "none").writing() as manifest:
        record["counts"].update(images=0, quarantined=0)
        write_report(RunFolder(tmp_path / "none"), manifest, record)
    assert "No image is on record" in RunFolder(tmp_path / "none").report.read_text()


@pytest.mark.parametrize("pyramid", [True, False])
def test_pixels_come_from_the_source_where_they_were_not_written(
    tmp_path: Path, pyramid: bool
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", squares(700, 700))
    output = {"image": "none", "pyramid": pyramid}
    text, _ = run(tmp_path / "a.tif", tmp_path / "out", output=output)
    assert len(Page(text).pictures()) == 2
    assert "labels only" not in text


def test_labels_alone_where_the_source_is_gone(tmp_path: Path) -> None:
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, squares(60, 60))
    _, record = run(source, tmp_path / "out", output={"image": "none"})
    source.unlink()
    folder = RunFolder(tmp_path / "out")
    manifest = folder.reading()
    write_report(folder, manifest, record)
    manifest.close()
    found = Page(folder.report.read_text())
    assert "labels only" in found.text
    assert len(found.pictures()) == 1


def test_an_image_that_changed_is_not_shown_under_old_labels(tmp_path: Path) -> None:
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, squares(60, 60))
    _, record = run(source, tmp_path / "out", output={"image": "none"})
    tifffile.imwrite(source, squares(50, 60))
    manifest = RunFolder(tmp_path / "out").reading()
    (row,) = manifest.images()
    manifest.close()
    views = make_views(row, record["recipe"])
    assert views.overview is not None
    assert not views.overview.with_pixels


def write_ome_zarr(path: Path, pixels: np.ndarray, levels: int) -> None:
    """An OME-Zarr 0.5 of shape (Y, X) as another writer makes it: every level a quarter."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    for level in range(levels):
        part = pixels[:: 4**level, :: 4**level]
        array = group.create_array(str(level), shape=part.shape, chunks=(64, 64), dtype="uint8")
        array[...] = part
    axes = [{"name": name, "type": "space"} for name in "yx"]
    scales = [[{"type": "scale", "scale": [4.0**level] * 2}] for level in range(levels)]
    datasets = [{"path": str(i), "coordinateTransformations": s} for i, s in enumerate(scales)]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}


@pytest.mark.parametrize("mode", ["none", "in_place"])
def test_an_ome_zarr_is_shown_from_its_own_levels(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ome_zarr(tmp_path / "a.zarr", squares(2000, 1300), 2)
    # Level 0 is too large to be read whole: only level 1 can be the overview.
    monkeypatch.setattr("pipeline.report.planes.MOST_PX", 1_000_000)
    monkeypatch.setattr("pipeline.report.views.MOST_PX", 1_000_000)
    text, record = run(tmp_path / "a.zarr", tmp_path / "out", output={"image": mode})
    assert record["counts"]["published"] == 1
    assert len(Page(text).pictures()) == 2
    assert "labels only" not in text


def test_a_large_image_without_any_pyramid_is_shown_by_a_crop(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", squares(2500, 2500))
    text, _ = run(tmp_path / "a.tif", tmp_path / "out", output={"pyramid": False})
    found = Page(text)
    assert len(found.pictures()) == 1
    assert "full resolution" in found.text


def rows_of(count: int) -> Iterable[ImageRow]:
    details = {"objects": 2, "pixels": 10**6, "shape": [1, 1, 1, 1000, 1000], "axes": "yx"}
    details |= {"seconds": {"0000-otsu": 1.0}, "location": "/nowhere", "label": "cells"}
    details |= {"certificate": {"exact": True}, "output": "none"}
    for number in range(count):
        yield ImageRow(f"{number:05d}", "p", "published", "/nowhere", "", details, "d" * 32)


@pytest.fixture
def thousands(tmp_path: Path) -> tuple[RunFolder, Manifest, dict[str, Any]]:
    """Records of 3,000 images that are not there, as after a second command."""
    folder = RunFolder(tmp_path / "out")
    folder.hidden.mkdir(parents=True)
    manifest = Manifest(folder.records, write=True)
    for row in rows_of(3000):
        manifest.set_image(row)
    record = {
        "tilewright": "0",
        "plan": "p",
        "status": "finished",
        "recipe": parse_recipe(RECIPE, "r").model_dump(mode="json"),
        "archive": "/archive",
        "counts": {
            "images": 3000,
            "published": 3000,
            "quarantined": 0,
            "objects": 6000,
            "pixels": 3 * 10**9,
        },
        "certificate": {
            "exact": False,
            "images_exact": 2999,
            "images_with_a_bound": ["00007"],
            "rules": [],
            "labels_digest": "e" * 32,
        },
        "timings": {"total_s": 100.0, "startup_s": 3.0},
        "versions": {},
        "machine": {},
    }
    folder.write_run(record)
    return folder, manifest, record


def test_a_large_archive_has_a_bounded_page(
    thousands: tuple[RunFolder, Manifest, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    folder, manifest, record = thousands
    with caplog.at_level(logging.ERROR):
        write_report(folder, manifest, record)
    found = Page(folder.report.read_text())
    assert found.count("figure") == 60
    assert found.text.count("No picture") == 60
    assert "60 of 3,000 published images, evenly chosen." in found.text
    assert found.count("tr") == 1 + summary.LISTED_IMAGES
    assert "1,000 more images not listed here" in found.text
    assert "2,999 of 3,000 published images are bit for bit" in found.text
    assert "Without proof: 00007." in found.text
    assert "30.0 megapixels a second" in found.text
    assert "startup 3.00 s" in found.text
    assert len(list(summary_rows(folder, manifest))) == 200


def test_speed_counts_what_the_last_command_did(
    thousands: tuple[RunFolder, Manifest, dict[str, Any]],
) -> None:
    folder, manifest, record = thousands
    manifest._write("UPDATE image SET changed = changed - 1000 WHERE name >= '00100'")
    write_report(folder, manifest, record)
    text = Page(folder.report.read_text()).text
    assert "1.00 megapixels a second" in text
    assert "2,900 images had been published by an earlier command" in text


def test_failed_images_lead_the_artifact(
    thousands: tuple[RunFolder, Manifest, dict[str, Any]],
) -> None:
    folder, manifest, _ = thousands
    manifest.set_image(ImageRow("zzz", "", "quarantined", "/z", "no good"))
    first = next(iter(summary_rows(folder, manifest)))
    assert first == {
        "image": "zzz",
        "status": "quarantined",
        "objects": "",
        "digest": "",
        "reason": "no good",
        "reproduce": f"tilewright run {folder.recipe} /z {folder.root}-again",
    }


def test_a_report_that_fails_does_not_fail_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> None:
        raise UnreadableError("page", "is not to be")

    tifffile.imwrite(tmp_path / "a.tif", squares(20, 20))
    monkeypatch.setattr("pipeline.report.write_report", fail)
    folder = RunFolder(tmp_path / "out")
    with caplog.at_level(logging.ERROR), pytest.raises(FileNotFoundError):
        run(tmp_path / "a.tif", folder.root)
    assert folder.read_run()["status"] == "finished"
    assert "report.html could not be written" in caplog.text


# --- Drawing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, 1, 1), np.uint8),
        np.full((1, 3, 4), np.nan, np.float32),
        np.array([[[-1.7e308, 1.7e308, np.nan, np.inf, -np.inf]]]),
        np.array([[[0, 5e-324]]]),
        np.array([[[0, 2**63 - 1, -(2**63)]]], np.int64),
        np.array([[[0, 2**64 - 1]]], np.uint64),
        np.zeros((3, 2, 2), np.float16),
    ],
)
def test_contrast_takes_any_numbers(pixels: np.ndarray) -> None:
    shown = contrast(pixels)
    assert shown.shape == (*pixels.shape[1:], 3)
    assert shown.dtype == np.uint8


def test_contrast_stretches_from_black_to_white() -> None:
    pixels = np.arange(1000, dtype=np.uint16).reshape(1, 20, 50) + 3000
    shown = contrast(pixels)
    assert (shown[0, 0] == 0).all()
    assert (shown[-1, -1] == 255).all()
    assert (np.diff(shown[..., 0].ravel().astype(int)) >= 0).all()


def test_a_few_bright_pixels_in_the_dark_are_seen() -> None:
    pixels = np.zeros((1, 100, 100), np.uint16)
    pixels[0, 50, 50] = 900
    assert (contrast(pixels)[50, 50] == 255).all()


def test_touching_objects_are_apart() -> None:
    labels = np.array([[0, 1, 1, 2, 2, 0]])
    np.testing.assert_array_equal(edges(labels), [[1, 0, 1, 0, 1, 0]])


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (700, 3), (33, 320), (639, 400)])
def test_thumbnails_of_any_shape(shape: tuple[int, int]) -> None:
    labels = np.arange(shape[0] * shape[1], dtype=np.uint32).reshape(shape)
    noise = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8)
    found = draw(noise, labels)
    data = base64.b64decode(found.uri.split(",")[1])
    assert Image.open(io.BytesIO(data)).size == (found.width, found.height)
    assert max(found.width, found.height) <= SIDE
    assert len(data) <= MOST_BYTES


def test_the_densest_part_is_found() -> None:
    labels = np.zeros((200, 300), np.uint32)
    labels[150:160, 220:230] = np.arange(1, 101).reshape(10, 10)
    labels[20:40, 20:40] = 200
    y, x = densest(labels, 40)
    assert Box((y - 20, x - 20), (y + 20, x + 20)).contains(Box((150, 220), (160, 230)))
    assert densest(np.zeros((10, 20), np.uint32), 40) == (5, 10)


@pytest.mark.parametrize(
    ("names", "channels", "shown"),
    [
        (RED_GREEN_BLUE, None, (0, 1, 2)),
        ((*RED_GREEN_BLUE, "alpha"), ["green"], (0, 1, 2)),
        (("a", "b"), None, (0,)),
        (("a", "b"), ["b"], (1,)),
        (("a", "b"), [1, 0], (1,)),
        (("a",), ["gone"], (0,)),
    ],
)
def test_the_channel_that_was_segmented_is_shown(
    names: tuple[str, ...], channels: list[str | int] | None, shown: tuple[int, ...]
) -> None:
    assert shown_channels(names, channels or ()) == shown


def test_pictures_are_spread_evenly() -> None:
    choose: Callable[[int, int], set[int]] = evenly
    assert choose(0, 60) == set()
    assert choose(7, 60) == set(range(7))
    assert sorted(choose(100_000, 60))[:3] == [0, 1666, 3333]
    assert len(choose(61, 60)) == 60
