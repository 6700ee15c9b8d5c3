"""A run over images with seeds beside them, as the user starts it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
import yaml
import zarr
from click.testing import Result

Here = Callable[..., Result]


def four_squares() -> np.ndarray:
    image = np.zeros((70, 80), np.uint8)
    for n, (y, x) in enumerate([(5, 5), (5, 45), (40, 5), (40, 45)]):
        image[y : y + 25, x : x + 30] = 100 + n
    return image


def write_recipe(path: Path, seeds: dict[str, object], tolerance: float = 10) -> Path:
    segment = {"method": "region_growing", "seeds": seeds, "tolerance": tolerance}
    path.write_text(yaml.safe_dump({"label": "grown", "segment": segment}))
    return path


def rows(out: Path) -> dict[str, dict[str, Any]]:
    with closing(sqlite3.connect(out / "run.sqlite")) as records:
        records.row_factory = sqlite3.Row
        return {row["name"]: dict(row) for row in records.execute("SELECT * FROM image")}


def labels_of(out: Path, name: str) -> np.ndarray:
    place = out / "images" / f"{name}.ome.zarr" / "labels" / "grown" / "0"
    return np.asarray(zarr.open_array(place, mode="r")[...]).reshape(70, 80)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    for name in ("a", "b", "c"):
        tifffile.imwrite(folder / f"{name}.tif", four_squares())
    return folder


@pytest.mark.parametrize("small_px", [0, 1 << 22], ids=["spread", "small"])
def test_points_beside_each_image(
    small_px: int, archive: Path, tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.plan.SMALL_PX", small_px)
    # A table; napari's points; the third image has no seeds.
    (archive / "a.seeds.csv").write_text("y,x\n50,10\n10,10\n12,12\n")
    (archive / "b.seeds.csv").write_text("index,axis-0,axis-1\n0,10.2,50\n")
    recipe = write_recipe(tmp_path / "r.yaml", {"from": "points", "file": "{stem}.seeds.csv"})
    out = tmp_path / "out"
    here("run", recipe, archive, out, "--tile", 16, expect=3)
    found = rows(out)
    assert {name: row["status"] for name, row in found.items()} == {
        "a": "published",
        "b": "published",
        "c": "quarantined",
    }
    assert (
        f"its seeds file {archive / 'c.seeds.csv'} does not exist. Put it there"
        in (found["c"]["reason"])
    )
    image = four_squares()
    assert np.array_equal(labels_of(out, "a"), np.where(image == 102, 2, image == 100))
    assert np.array_equal(labels_of(out, "b"), image == 101)
    table = pq.read_table(out / "objects.parquet")
    assert table["area_px"].to_pylist() == [750, 750, 750]

    # The missing seeds are added and others changed: these two run again, and no other.
    (archive / "c.seeds.csv").write_text("y,x\n")
    (archive / "b.seeds.csv").write_text("index,axis-0,axis-1\n0,10.2,50\n1,60,60\n")
    before = (out / "images/a.ome.zarr/labels/grown/0/zarr.json").stat()
    here("run", recipe, archive, out, "--tile", 16)
    after = (out / "images/a.ome.zarr/labels/grown/0/zarr.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert np.array_equal(labels_of(out, "b"), np.where(image == 103, 2, image == 101))
    assert labels_of(out, "c").max() == 0
    counts = {name: json.loads(row["details"])["objects"] for name, row in rows(out).items()}
    assert counts == {"a": 2, "b": 2, "c": 0}


def test_label_images_beside_images_are_no_images_of_the_archive(
    archive: Path, tmp_path: Path, here: Here
) -> None:
    for name, number in (("a", 1), ("b", 7)):
        labels = np.zeros((70, 80), np.uint8)
        labels[10:12, 10:50] = number  # over two squares: all their pixels are seeds
        tifffile.imwrite(archive / f"{name}.seeds.tif", labels)
    tifffile.imwrite(archive / "c.seeds.tif", labels[:, :9])
    # The mean lies between the squares and the gap of background between them.
    seeds = {"from": "labels", "file": "{stem}.seeds.tif"}
    recipe, out = write_recipe(tmp_path / "r.yaml", seeds, 40), tmp_path / "out"
    here("run", recipe, archive, out, "--tile", 16, expect=3)
    found = rows(out)
    assert {name: row["status"] for name, row in found.items()} == {
        "a": "published",
        "b": "published",
        "c": "quarantined",
    }
    assert "has (T, C, Z, Y, X) = (1, 1, 1, 70, 9)" in found["c"]["reason"]
    image = four_squares()
    for name in ("a", "b"):
        assert np.array_equal(labels_of(out, name), (image == 100) | (image == 101))


def test_the_example_of_the_manual_runs(archive: Path, tmp_path: Path, here: Here) -> None:
    manual = Path(__file__).parent.parent / "docs" / "recipes.md"
    section = manual.read_text(encoding="utf-8").split("## Files beside an image")[1]
    recipe = section.split("```yaml\n")[1].split("```")[0]
    table = section.split("```csv\n")[1].split("```")[0]
    (tmp_path / "manual.yaml").write_text("label: grown\n" + recipe)
    for name in ("a", "b", "c"):
        (archive / f"{name}.seeds.csv").write_text(table)
    out = tmp_path / "out"
    here("run", tmp_path / "manual.yaml", archive, out)
    image = four_squares()
    assert np.array_equal(labels_of(out, "b"), np.where(image == 102, 2, image == 100))
