"""What images are called in an output: for good, whoever joins them, and however long it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
import yaml
from click.testing import Result

from pipeline.plate_layout import field_folder
from pipeline.run_folder import RunFolder
from pipeline.sources.parts import Site

Here = Callable[..., Result]


def two_blobs() -> np.ndarray:
    image = np.zeros((20, 24), np.uint8)
    image[3:8, 3:8] = image[12:17, 12:20] = 200
    return image


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "simple.yaml"
    path.write_text(yaml.safe_dump({"segment": {"method": "threshold"}}))
    return path


def counted(out: Path) -> dict[str, int]:
    """Objects of each image, as the table of all has them."""
    names = pq.read_table(out / "objects.parquet")["image"].to_pylist()
    return {name: names.count(name) for name in dict.fromkeys(names)}


def test_an_image_keeps_its_name_when_others_join_it(
    recipe: Path, tmp_path: Path, here: Here
) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    tifffile.imwrite(archive / "a.tif", two_blobs())
    here("run", recipe, archive, out)
    before = RunFolder(out).image_path("a").stat().st_mtime_ns
    tifffile.imwrite(archive / "a.tiff", two_blobs())
    tifffile.imwrite(archive / "A.TIF", two_blobs())
    assert "a.tiff" in here("plan", recipe, archive, "--out", out).stdout
    here("run", recipe, archive, out)
    here("run", recipe, archive, out)
    assert counted(out) == {"A.TIF": 2, "a": 2, "a.tiff": 2}
    assert RunFolder(out).image_path("a").stat().st_mtime_ns == before
    here("verify", out)


def test_names_that_are_long_for_a_file_system_do_not_stop_a_run(
    recipe: Path, tmp_path: Path, here: Here
) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    with tifffile.TiffWriter(archive / f"{'x' * 250}.tif") as tif:
        tif.write(two_blobs(), metadata=None)
        tif.write(two_blobs()[:18], metadata=None)
    tifffile.imwrite(archive / f"{'細' * 83}.tif", two_blobs())
    here("run", recipe, archive, out)
    assert list(counted(out).values()) == [2, 2, 2]
    here("verify", out)


def test_folders_of_fields_are_different_and_short(tmp_path: Path) -> None:
    names = ["a-b", "ax2Db", "ax2DB", "a˛", "x2D", "-", "x", "1", "細" * 80, "細" * 81, "y" * 250]
    folders = {field_folder(tmp_path, Site("p", "A", "1", name)).name for name in names}
    assert len(folders) == len(names)
    assert all(name.isalnum() and len(name) <= 180 for name in folders)
    assert {"x", "1", "ax2Db", "ax782Db"} <= folders
    (plate,) = (
        field_folder(tmp_path, Site("q" * 252, "A", "1", "1")).relative_to(tmp_path).parts[:1]
    )
    assert len(plate) < 200
