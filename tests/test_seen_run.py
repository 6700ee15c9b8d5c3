"""Runs over projections and some of the planes: what is published, shown and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from scipy import ndimage
from skimage.measure import label

from flows.request import Request
from pipeline.recipe import parse_recipe
from pipeline.status import status_text
from pipeline.verify import verify_folder
from tests.in_process import segment


@pytest.fixture
def stack() -> np.ndarray:
    """Blobs that lie in different planes, (Z, Y, X)."""
    points = np.zeros((5, 60, 64))
    points[tuple(np.random.default_rng(0).integers(0, n, 12) for n in points.shape)] = 1
    blurred = ndimage.gaussian_filter(points, (0.7, 3, 3))
    return (blurred * (250 / blurred.max())).astype(np.uint8)


def request(archive: Path, out: Path, source: dict[str, Any], **more: Any) -> Request:
    segmented = {"method": "threshold", "foreground": {"value": 60}}
    content = {"source": source, "segment": segmented, **more}
    return Request(parse_recipe(content, "recipe"), archive, out, 32)


def in_zarr(stack: np.ndarray, path: Path) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=3)
    options = {"write_empty_chunks": True}
    group.create_array("0", data=stack, chunks=(2, 32, 32), config=options)
    scales = [{"type": "scale", "scale": [2.0, 0.5, 0.5]}]
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    datasets = [{"path": "0", "coordinateTransformations": scales}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return path


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("kind", ["tiff", "zarr"])
def test_a_projection_is_published_with_its_labels(
    kind: str, small: bool, stack: np.ndarray, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    if kind == "tiff":
        tifffile.imwrite(archive / "a.ome.tif", stack, metadata={"axes": "ZYX"})
    else:
        in_zarr(stack, archive / "a.ome.zarr")
    folder = segment(request(archive, tmp_path / "out", {"project": "max"}), small=small)
    image = folder.image_path("a")
    projected = stack.max(axis=0)
    np.testing.assert_array_equal(zarr.open_array(image / "0", mode="r")[:], projected)
    labels = zarr.open_array(image / "labels" / "labels" / "0", mode="r")[:]
    np.testing.assert_array_equal(labels, label(projected > 60, connectivity=2))
    assert not verify_folder(folder.root).damaged
    page = folder.report.read_text()
    assert "No picture" not in page
    assert "labels only" not in page
    size = pd.read_parquet(folder.objects)["area_um2"]
    assert size.isna().all() == (kind == "tiff")


def test_without_a_copy_the_report_still_shows_the_projection(
    stack: np.ndarray, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    tifffile.imwrite(archive / "a.ome.tif", stack, metadata={"axes": "ZYX"})
    source = {"project": "best_focus", "z": [1, 2, 3]}
    asked = request(archive, tmp_path / "out", source, output={"image": "none"})
    folder = segment(asked)
    sharp = [ndimage.laplace(p.astype(float), mode="nearest").var() for p in stack[1:4]]
    labels = zarr.open_array(folder.image_path("a") / "labels" / "labels" / "0", mode="r")[:]
    chosen = stack[1 + int(np.argmax(sharp))]
    np.testing.assert_array_equal(labels, label(chosen > 60, connectivity=2))
    page = folder.report.read_text()
    assert "No picture" not in page
    assert "labels only" not in page


def test_the_size_of_a_pixel_is_published_as_the_recipe_has_it(
    stack: np.ndarray, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    tifffile.imwrite(archive / "a.ome.tif", stack, metadata={"axes": "ZYX"})
    source = {"dims": "3d", "pixel_size_um": [2, 0.5, 0.5]}
    size = {"postprocess": {"min_size_um3": 12}}
    folder = segment(request(archive, tmp_path / "out", source, **size))
    table = pd.read_parquet(folder.objects)
    np.testing.assert_allclose(table["volume_um3"], table["area_px"] * 0.5)
    assert table["volume_um3"].min() >= 12
    whole = label(stack > 60, connectivity=3)
    kept = np.bincount(whole.ravel())[1:] * 0.5 >= 12
    assert 0 < len(table) == kept.sum() < len(kept)
    attributes: Any = zarr.open_group(folder.image_path("a"), mode="r").attrs["ome"]
    scale = attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == [2.0, 0.5, 0.5]


def test_what_cannot_be_is_quarantined_with_a_remedy(stack: np.ndarray, tmp_path: Path) -> None:
    source = in_zarr(stack, tmp_path / "archive" / "a.ome.zarr")
    cases = [
        ({"project": "max"}, {"output": {"image": "in_place"}}, "do not fit the image"),
        ({"z": 7}, {}, "source.z names 7, and the image has 5"),
        ({"pixel_size_um": [1, 1]}, {"postprocess": {"min_size_um3": 3}}, "min_size_um2"),
    ]
    for number, (seen, more, message) in enumerate(cases):
        folder = segment(request(source, tmp_path / f"out{number}", seen, **more))
        text, quarantined = status_text(folder.root)
        assert quarantined == 1
        assert message in text
