"""Files beside images: found by their pattern, part of the plan, never taken for images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pipeline.companions import (
    Companion,
    companion_path,
    find_companions,
    without_companions,
)
from pipeline.errors import MethodError
from pipeline.job import plan_id
from pipeline.recipe import parse_recipe
from pipeline.sources import SourceSpec, discover


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for name in ("a.tif", "b.tif", "a.seeds.tif"):
        tifffile.imwrite(tmp_path / name, np.zeros((5, 6), np.uint8))
    (tmp_path / "a.csv").write_text("y,x\n1,2\n")
    return tmp_path


def spec(path: Path, series: str = "") -> SourceSpec:
    return SourceSpec("tiff", str(path), "any name", series)


@pytest.mark.parametrize(
    ("pattern", "series", "expected"),
    [
        ("{stem}.seeds.csv", "", "/data/in/a.seeds.csv"),
        ("{stem}.seeds.csv", "2", "/data/in/a_s2.seeds.csv"),
        ("../seeds/{stem}.tif", "", "/data/seeds/a.tif"),
        ("boxes.geojson", "", "/data/in/boxes.geojson"),
        ("/else/{stem}.csv", "", "/else/a.csv"),
    ],
)
def test_a_pattern_counts_from_the_images_folder(pattern: str, series: str, expected: str) -> None:
    assert str(companion_path(pattern, spec(Path("/data/in/a.ome.tif"), series))) == expected


def test_tables_and_images_are_opened(archive: Path) -> None:
    found = find_companions({"x": "{stem}.csv", "y": "{stem}.seeds.tif"}, spec(archive / "a.tif"))
    assert found["x"].source is None
    assert found["y"].info is not None
    assert found["y"].info.shape == (1, 1, 1, 5, 6)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (None, b"", r"any name: its seeds file .*a\.txt does not exist\. Put it there"),
        ("a.txt", b"hello", r"its seeds file .* is neither a table nor one image"),
        ("a.txt.tif", b"hello", r"neither a table nor one image .*a\.txt\.tif"),
    ],
)
def test_what_cannot_be_used_is_named(
    archive: Path, name: str | None, content: bytes, message: str
) -> None:
    if name:
        (archive / name).write_bytes(content)
    with pytest.raises(MethodError, match=message):
        find_companions({"seeds": name or "{stem}.txt"}, spec(archive / "a.tif"))


def test_a_changed_companion_is_another_plan(archive: Path) -> None:
    recipe = parse_recipe({"segment": {"method": "threshold"}}, "recipe")
    image = spec(archive / "a.tif")
    before = find_companions({"seeds": "{stem}.csv"}, image)
    status = (archive / "a.csv").stat()
    (archive / "a.csv").write_text("y,x\n1,3\n")
    os.utime(archive / "a.csv", ns=(status.st_atime_ns, status.st_mtime_ns))
    after = find_companions({"seeds": "{stem}.csv"}, image)
    assert plan_id(recipe, "f", before) != plan_id(recipe, "f", after)
    assert plan_id(recipe, "f", before) != plan_id(recipe, "f", {})


def test_companions_are_no_images_of_the_archive(archive: Path) -> None:
    found = without_companions(discover(archive), ["{stem}.seeds.tif"])
    assert [Path(s.path).name for s in found] == ["a.tif", "b.tif"]
    everything = without_companions(discover(archive), [])
    assert len(everything) == 3


def test_a_companion_may_be_kept_in_sets() -> None:
    assert len({Companion("a", "1"), Companion("a", "1")}) == 1
