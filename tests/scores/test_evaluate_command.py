"""`tilewright evaluate` on folders, OME-Zarr and runs, and what it says of bad data."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
import yaml
import zarr
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner
from whole import save, squares

from flows.cli import app
from workers import pool

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"


@pytest.fixture
def call() -> Callable[..., str]:
    """The command; returns what it printed, on one line."""

    def call(*args: object, expect: int = 0) -> str:
        result = CliRunner().invoke(app, ["evaluate", *map(str, args)])
        assert result.exit_code == expect, (result.output, result.exception)
        return " ".join(result.output.split())

    return call


def content(out: Path) -> dict[str, Any]:
    return json.loads((out / "scores.json").read_text())


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "scores.csv").open(newline="") as lines:
        return {row["image"]: row for row in csv.DictReader(lines)}


def without(image: np.ndarray, *numbers: int) -> np.ndarray:
    return np.where(np.isin(image, numbers), 0, image).astype(image.dtype)


def test_folders_are_matched_by_path_and_else_by_the_last_part(
    tmp_path: Path, call: Callable[..., str]
) -> None:
    truth = squares()
    save(tmp_path / "labels", p1__a=without(truth, 1), p2__a=truth, other__c=without(truth, 1, 2))
    save(tmp_path / "truth", p1__a=truth, p2__a=truth, p3__c=truth.astype(np.int32))
    save(tmp_path / "labels", p1__z=truth)
    out = tmp_path / "out"
    said = call(tmp_path / "labels", tmp_path / "truth", "--out", out)
    assert "3 images scored: 72 true objects, 69 labels" in said
    assert "No truth for 1 image: p1/z." in said
    found = rows(out)
    assert [float(row["ap_0.50"]) for row in found.values()] == pytest.approx([22 / 24, 23 / 24, 1])
    assert list(found) == ["other/c", "p1/a", "p2/a"]
    summary = content(out)
    ap = summary["scores"]["ap_0.50"]
    assert ap["pooled"]["value"] == pytest.approx(69 / 72)
    assert ap["mean_of_images"]["value"] == pytest.approx((22 + 23 + 24) / 72)
    assert ap["pooled"]["low"] <= ap["pooled"]["value"] <= ap["pooled"]["high"]
    assert summary["totals"]["truth_objects"] == 72
    matches = pq.read_table(out / "matches.parquet").to_pandas()
    missed = matches[matches["kind"] == "missed"]
    assert sorted(zip(missed["image"], missed["truth"], strict=True)) == [
        *(("other/c", 1), ("other/c", 2), ("p1/a", 1))
    ]
    assert not list(out.glob(".*"))


def test_tiles_and_workers_change_no_bit(
    tmp_path: Path, call: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "HERE_SECONDS", 0.0)
    truth = squares(60, 90, 7)
    for name in "ab":
        save(tmp_path / "labels", **{name: np.roll(truth, (1, 2), (0, 1))})
        save(tmp_path / "truth", **{name: truth.astype(np.uint32) * 1_000_000})
    pair = (tmp_path / "labels", tmp_path / "truth")
    call(*pair, "--out", tmp_path / "whole", "--worst", 0)
    call(*pair, "--out", tmp_path / "tiled", "--worst", 0, "--tile", 17, "--workers", 2)
    for name in ("scores.csv", "scores.json", "matches.parquet"):
        assert (tmp_path / "tiled" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "tiled" / "scores.html").exists()


def group(path: Path, image: np.ndarray, **labels: np.ndarray) -> Path:
    """An OME-Zarr image with labels, whose empty chunks are left out."""

    def write(place: Path, pixels: np.ndarray) -> None:
        at = zarr.open_group(place, mode="w")
        at.create_array("0", data=pixels, chunks=(16, 16))
        axes = [{"name": axis, "type": "space"} for axis in "yx"]
        at.attrs["ome"] = {
            "version": "0.5",
            "multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}],
        }

    write(path, image)
    for name, pixels in labels.items():
        write(path / "labels" / name, pixels)
    zarr.open_group(path / "labels", mode="a").attrs["ome"] = {"labels": list(labels)}
    return path


def test_labels_of_ome_zarr_are_chosen_by_name(tmp_path: Path, call: Callable[..., str]) -> None:
    truth = squares()
    truth[:20] = 0
    place = group(tmp_path / "a.ome.zarr", truth * 9, cells=without(truth, 17), manual=truth)
    said = call(
        place, place, "--labels", "cells", "--truth-labels", "manual", "--out", tmp_path / "o"
    )
    assert "1 image scored: 12 true objects, 11 labels" in said
    assert call(place / "labels" / "cells", place / "labels" / "manual").startswith(
        "1 image scored"
    )
    save(tmp_path, other=truth)
    assert "AP" in call(place, tmp_path / "other.tif", "--labels", "manual")
    said = call(place, place, "--labels", "cels", "--truth-labels", "manual", expect=2)
    assert "holds no labels 'cels' (did you mean 'cells'?)" in said
    assert "2 label images (cells, manual), and none was chosen" in call(place, place, expect=2)


def test_a_run_is_scored_by_the_names_of_its_archive(
    tmp_path: Path, here: Callable[..., Result], call: Callable[..., str]
) -> None:
    archive, truth = tmp_path / "archive", tmp_path / "truth"
    for name in ("crowded/4d4ebfcae437", "small_nuclei/c75139ef0546"):
        for folder, source in ((archive, DATA / "demo"), (truth, DATA / "truth")):
            (folder / name).parent.mkdir(parents=True)
            (folder / f"{name}.png").write_bytes((source / f"{name}.png").read_bytes())
    (archive / "crowded" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (truth / "crowded" / "broken.png").write_bytes((truth / f"{name}.png").read_bytes())
    out = tmp_path / "out"
    here("run", "nuclei", archive, out, expect=3)
    out.rename(tmp_path / "moved")
    said = call(tmp_path / "moved", truth, "--out", tmp_path / "moved", expect=3)
    assert "2 images scored: 138 true objects" in said
    assert "crowded/broken: was quarantined by the run" in said
    assert content(tmp_path / "moved")["scores"]["ap_0.50"]["pooled"]["value"] > 0.6
    page = (tmp_path / "moved" / "scores.html").read_text()
    assert page.count("<em>image</em>") == page.count("<em>truth and labels</em>") == 2
    assert (tmp_path / "moved" / "report.html").read_text() != page
    said = call(tmp_path / "moved", truth, "--only", "small*")
    assert "1 image scored: 89 true objects" in said


def test_labels_of_a_run_in_place_are_scored_where_they_lie(
    tmp_path: Path, here: Callable[..., Result], call: Callable[..., str]
) -> None:
    truth = squares()
    place = group(tmp_path / "archive" / "a.ome.zarr", truth.clip(max=1) * 200, manual=truth)
    recipe = {"label": "mine", "segment": {"method": "threshold", "foreground": {"value": 100}}}
    recipe["output"] = {"image": "in_place"}
    recipe["source"] = {"missing_chunks": "fill"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    here("run", tmp_path / "mine.yaml", tmp_path / "archive", tmp_path / "run")
    pair = tmp_path / "run", tmp_path / "archive"
    said = call(*pair, "--truth-labels", "manual", "--out", tmp_path / "out")
    assert "1 image scored: 24 true objects, 24 labels" in said
    assert content(tmp_path / "out")["scores"]["pq"]["pooled"]["value"] == 1
    for chunk in (place / "labels" / "mine" / "0" / "c").rglob("*"):
        if chunk.is_file():
            chunk.unlink()
    said = call(*pair, "--truth-labels", "manual", expect=2)
    assert "of 0 is missing" in said  # what a run wrote it wrote in whole


def test_damage_within_a_large_image_is_named(tmp_path: Path, call: Callable[..., str]) -> None:
    truth = np.random.default_rng(0).integers(0, 9, (128, 128), np.uint16)
    for name in ("labels", "truth"):
        path = tmp_path / name / "a.tif"
        path.parent.mkdir()
        tifffile.imwrite(path, truth, tile=(32, 32), compression="zlib")
        save(tmp_path / name, b=squares())
    with tifffile.TiffFile(path) as tif:
        start = tif.pages[0].dataoffsets[10]
    data = bytearray(path.read_bytes())
    data[start : start + 60] = bytes(60)
    path.write_bytes(data)
    said = call(tmp_path / "labels", tmp_path / "truth", "--tile", 32, expect=3)
    assert "1 image scored: 24 true objects" in said
    assert "truth/a.tif: tile 10 (rows 64-95, columns 64-95 of page 0)" in said


CLASSES = {
    "label": "map",
    "segment": {
        "method": "threshold",
        "foreground": {"value": 100},
        "output": "classes",
        "class_names": ["glass", "cells"],
    },
}


def test_a_run_of_classes_is_scored_by_class(
    tmp_path: Path, here: Callable[..., Result], call: Callable[..., str]
) -> None:
    image = np.full((40, 50), 10, np.uint8)
    image[5:25, 5:25] = 200
    truth = np.where(image > 100, 2, 1).astype(np.uint8)
    truth[:, 20:25] = 1  # cells in the map, glass in truth
    truth[30:] = 0  # not annotated
    save(tmp_path / "archive", a=image, b=image)
    save(tmp_path / "truth", a=truth, b=truth)
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(CLASSES))
    here("run", tmp_path / "map.yaml", tmp_path / "archive", tmp_path / "run")
    out = tmp_path / "out"
    said = call(tmp_path / "run", tmp_path / "truth", "--out", out, "--tile", 16)
    assert "2 images scored, 3,000 px annotated" in said
    scores = content(out)["scores"]
    assert scores["cells_iou"]["pooled"]["value"] == 300 / 400
    assert scores["cells_recall"]["pooled"]["value"] == 1
    assert scores["glass_iou"]["pooled"]["value"] == 1100 / 1200
    assert scores["mean_iou"]["mean_of_images"]["value"] == pytest.approx((300 / 400 + 11 / 12) / 2)
    assert scores["accuracy"]["pooled"]["value"] == pytest.approx(1 - 100 / 1500)
    assert 0.5 < scores["cells_boundary_f1"]["pooled"]["value"] < 1
    page = (out / "scores.html").read_text()
    assert page.count("<em>wrong</em>") == 2
    assert "100 of 1,500 annotated px are wrong here" in page
    save(tmp_path / "folder", a=np.where(image > 100, 2, 1).astype(np.uint8))
    said = call(tmp_path / "folder", tmp_path / "truth", "--classes", "glass,cells", expect=3)
    assert "mean IoU of classes 0.833" in said
    save(tmp_path / "masks", a=truth * 127)
    said = call(tmp_path / "folder", tmp_path / "masks", "--classes", "glass,cells", expect=2)
    assert "masks/a.tif: holds the class 254, but there are 2: 1 glass, 2 cells." in said


def bad_images(truth: np.ndarray, folder: Path) -> None:
    save(folder, float=truth / 2.0, negative=truth.astype(np.int16) - 1, small=truth[1:])
    save(folder, good=truth)
    Image.fromarray(np.dstack([truth.astype(np.uint8)] * 3)).save(folder / "colours.png")
    Image.fromarray(truth.astype(np.uint8)).save(folder / "lossy.jpg")
    (folder / "broken.tif").write_bytes(b"II*\0nothing")


BAD = {
    "float": "float.tif: its pixels are float64; labels are whole numbers. Save it as uint16",
    "negative": "negative.tif: holds the label -1; labels are 0 (background) and more.",
    "small": "is 40 x 60 px",
    "colours": "colours.png: has 3 channels (red, green, blue); labels have one. Save the numbers",
    "lossy": "lossy.jpg: is a JPEG file, whose compression changes labels. Use PNG or TIFF.",
    "broken": "broken.tif: ",
}


@pytest.mark.parametrize("side", ["labels", "truth"])
def test_bad_images_are_named_and_the_others_scored(
    side: str, tmp_path: Path, call: Callable[..., str]
) -> None:
    truth = squares()
    other = "truth" if side == "labels" else "labels"
    save(tmp_path / other, **dict.fromkeys([*BAD, "good"], truth))
    bad_images(truth, tmp_path / side)
    out = tmp_path / "out"
    said = call(tmp_path / "labels", tmp_path / "truth", "--out", out, expect=3)
    assert "1 image scored: 24 true objects, 24 labels" in said
    assert said.count("NOT SCORED") == len(BAD)
    for message in BAD.values():
        assert message in said
    assert len(content(out)["not_scored"]) == len(BAD)
    assert f"{len(BAD)} images not scored" in (out / "scores.html").read_text()


def test_missing_and_doubled_images_are_named(tmp_path: Path, call: Callable[..., str]) -> None:
    truth = squares()
    save(tmp_path / "labels", a=truth, b=truth, d=truth)
    save(tmp_path / "truth", b=truth, c=truth, d=truth)
    Image.fromarray(truth).save(tmp_path / "truth" / "d.png")
    said = call(tmp_path / "labels", tmp_path / "truth", expect=3)
    assert "1 image scored" in said
    assert 'c.tif: there are no labels of "c". Segment this image too' in said
    assert said.count('2 images of its folder are called "d". Keep the right one') == 2
    assert "No truth for 2 images: a, d." in said


def test_nothing_to_compare_is_refused(tmp_path: Path, call: Callable[..., str]) -> None:
    save(tmp_path / "labels", a=squares(), b=squares())
    save(tmp_path / "truth", c=squares(), d=squares())
    said = call(tmp_path / "labels", tmp_path / "truth", "--out", tmp_path / "out", expect=2)
    assert "none of its labels can be compared with" in said
    assert "Labels without truth are a, b." in said
    assert not list((tmp_path / "out").iterdir())
    assert "does not exist" in call(tmp_path / "labels", tmp_path / "nowhere", expect=2)
    (tmp_path / "empty").mkdir()
    assert "holds no image" in call(tmp_path / "labels", tmp_path / "empty", expect=2)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--threshold", 0), "--threshold is 0.0; it must be above 0 and at most 1"),
        (("--threshold", "nan"), "--threshold is nan"),
        (("--threshold", 0.123456), "at most 4 digits behind the point"),
        (("--tolerance", 65), "--tolerance is 65 px; it must be 0 to 64."),
        (("--classes", "a,a"), '--classes is "a,a"; give different names'),
        (("--out", "{file}"), "cannot be written"),
    ],
)
def test_bad_options_are_refused(
    option: tuple[str, object], message: str, tmp_path: Path, call: Callable[..., str]
) -> None:
    save(tmp_path, a=squares())
    name, value = option
    value = str(value).format(file=tmp_path / "a.tif")
    assert message in call(tmp_path / "a.tif", tmp_path / "a.tif", name, value, expect=2)


def test_notes_say_when_numbers_mislead(tmp_path: Path, call: Callable[..., str]) -> None:
    truth = squares()
    nothing = np.zeros_like(truth)
    save(tmp_path / "labels", a=truth, b=truth, empty=nothing)
    save(tmp_path / "truth", a=(truth > 0) * np.uint8(255), b=nothing, empty=nothing)
    said = call(tmp_path / "labels", tmp_path / "truth", "--threshold", 0.5, "--threshold", 0.75)
    assert "1 image without an object on either side" in said
    assert "is it a mask? Then only the scores of the foreground mean something." in said
    assert "3 images: intervals from fewer than about 10 are too narrow." in said
    assert "0.50:0.75" in said
    one = call(tmp_path / "labels" / "a.tif", tmp_path / "truth" / "b.tif")
    assert "One image: there is nothing to draw intervals from." in one


def test_planes_are_objects_of_their_own_if_it_is_said(
    tmp_path: Path, call: Callable[..., str]
) -> None:
    volume = np.stack([squares()] * 3)
    for name in ("labels", "truth"):
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", volume, metadata={"axes": "ZYX"})
    pair = tmp_path / "labels.ome.tif", tmp_path / "truth.ome.tif"
    assert "24 true objects" in call(*pair)
    assert "72 true objects" in call(*pair, "--dims", "2d")
