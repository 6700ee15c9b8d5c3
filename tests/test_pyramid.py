"""Pyramids: shards together equal the levels of the whole array, and the metadata is valid."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import zarr
from ome_zarr_models.v04.image import Image as Image04
from ome_zarr_models.v04.image_label import ImageLabel as ImageLabel04
from ome_zarr_models.v04.labels import Labels as Labels04
from ome_zarr_models.v05.image import Image as Image05
from ome_zarr_models.v05.image_label import ImageLabel as ImageLabel05
from ome_zarr_models.v05.labels import Labels as Labels05

from pipeline import pyramid as module
from pipeline.image import AXES, ImageInfo
from pipeline.output import OutputPlan
from pipeline.pyramid import (
    Pyramid,
    halve,
    level_count,
    open_level,
    read_shard,
    write_coarse_levels,
    write_shard,
)
from pipeline.recipe import parse_recipe
from pipeline.sources import SourceSpec

Kind = Literal["image", "labels"]


def info_of(shape: tuple[int, ...], axes: str, dtype: str = "uint16") -> ImageInfo:
    names = tuple(f"c{i}" for i in range(shape[1]))
    sizes = (2.0, 0.5, 0.25) if "z" in axes else (None, 0.5, 0.25)
    return ImageInfo(shape, dtype, axes, names, sizes, 3.0 if "t" in axes else None, shape)


def drawn(pyramid: Pyramid) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.integers(0, 250, pyramid.shape(0)).astype(pyramid.dtype)


def written(pyramid: Pyramid, image: np.ndarray) -> None:
    """Write every shard, in an order that is not that of their numbers, and the coarse levels."""
    pyramid.create()
    numbers = np.random.default_rng(1).permutation(len(pyramid.grid()))
    for number in (int(n) for n in numbers):
        tile = pyramid.grid().tile(number)
        if pyramid.ndim == 2:
            t, z = divmod(tile.frame, image.shape[2])
            write_shard(pyramid, number, image[(t, slice(None), z, *tile.core.slices)])
        else:
            write_shard(pyramid, number, image[(tile.frame, slice(None), *tile.core.slices)])
    write_coarse_levels(pyramid)


def by_hand(image: np.ndarray, kind: Kind) -> np.ndarray:
    """The next level, pixel by pixel."""
    *_, height, width = image.shape
    rows, columns = -(-height // 2), -(-width // 2)
    found = np.empty((*image.shape[:-2], rows, columns), image.dtype)
    for y, x in itertools.product(range(rows), range(columns)):
        if kind == "labels":
            found[..., y, x] = image[..., 2 * y, 2 * x]
            continue
        near = [
            image[..., min(2 * y + i, height - 1), min(2 * x + j, width - 1)].astype(float)
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1))
        ]
        mean = sum(near) / 4
        found[..., y, x] = mean if image.dtype.kind == "f" else np.floor(mean + 0.5)
    return found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sides that are tiny, so that small images have many shards and levels."""
    monkeypatch.setattr(module, "CHUNK", {2: (1, 8, 8), 3: (2, 4, 4)})
    monkeypatch.setattr(module, "SHARD", {2: (1, 32, 32), 3: (4, 16, 16)})
    monkeypatch.setattr(module, "SMALLEST_SHARD", 8)
    monkeypatch.setattr(module, "COARSEST", 6)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", ["image", "labels"])
@pytest.mark.parametrize(
    ("shape", "axes", "ndim"),
    [
        ((1, 1, 1, 64, 64), "yx", 2),
        ((1, 1, 1, 67, 101), "yx", 2),
        ((1, 3, 1, 33, 65), "cyx", 2),
        ((2, 2, 3, 41, 35), "tczyx", 2),
        ((1, 1, 1, 1, 90), "yx", 2),
        ((1, 1, 1, 90, 3), "yx", 2),
        ((1, 1, 1, 1, 1), "yx", 2),
        ((1, 1, 9, 37, 34), "zyx", 3),
        ((2, 2, 5, 17, 40), "tczyx", 3),
    ],
)
def test_shards_together_are_the_levels_of_the_whole_array(
    shape: tuple[int, ...], axes: str, ndim: int, kind: Kind, tmp_path: Path
) -> None:
    info = info_of(shape, axes)
    dtype = "uint16" if kind == "image" else "uint32"
    pyramid = Pyramid(str(tmp_path / "p"), kind, info, dtype, ndim, level_count(info, True))
    image = drawn(pyramid)
    written(pyramid, image)
    expected = image
    for level in range(pyramid.levels):
        stored = np.asarray(open_level(pyramid.path, level)[...])
        assert stored.shape == tuple(pyramid.shape(level)[AXES.index(a)] for a in pyramid.axes)
        assert np.array_equal(stored.reshape(pyramid.shape(level)), expected)
        expected = by_hand(expected, kind)
    assert max(pyramid.shape(pyramid.levels - 1)[-2:]) <= 6
    assert pyramid.levels == 1 or max(pyramid.shape(pyramid.levels - 2)[-2:]) > 6


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("ndim", [2, 3])
def test_shards_are_read_back_as_they_were_written(ndim: int, tmp_path: Path) -> None:
    info = info_of((2, 2, 5, 37, 41), "tczyx")
    pyramid = Pyramid(str(tmp_path / "p"), "image", info, "uint16", ndim, level_count(info, True))
    image = drawn(pyramid)
    written(pyramid, image)
    for number in range(len(pyramid.grid())):
        tile = pyramid.grid().tile(number)
        frame = divmod(tile.frame, 5) if ndim == 2 else (tile.frame,)
        region = image[frame[0]][:, frame[1]] if ndim == 2 else image[frame[0]]
        part = region[(slice(None), *tile.core.slices)]
        for level in range(pyramid.levels_in_shard):
            assert np.array_equal(read_shard(pyramid, number, level), part)
            part = by_hand(part, "image")


@pytest.mark.usefixtures("small")
def test_no_two_shards_share_a_file(tmp_path: Path) -> None:
    info = info_of((1, 2, 1, 70, 100), "cyx")
    pyramid = Pyramid(str(tmp_path / "p"), "image", info, "uint16", 2, level_count(info, True))
    pyramid.create()
    owner: dict[Path, int] = {}
    for number in range(len(pyramid.grid())):
        before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
        core = pyramid.grid().tile(number).core
        write_shard(pyramid, number, np.ones((2, *core.shape), np.uint16))
        for path in (p for p in tmp_path.rglob("*") if p.is_file()):
            if path not in before:
                assert owner.setdefault(path, number) == number
            else:
                assert path.stat().st_mtime_ns == before[path]
    assert set(owner.values()) == set(range(len(pyramid.grid())))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_empty_regions_are_written_too(zarr_format: Literal[2, 3], tmp_path: Path) -> None:
    # zarr reads a lost chunk as background: all of them must be there.
    info = info_of((1, 1, 2, 600, 700), "zyx")
    levels = level_count(info, True)
    pyramid = Pyramid(str(tmp_path / "p"), "labels", info, "uint32", 2, levels, zarr_format)
    written(pyramid, np.zeros(pyramid.shape(0), np.uint32))
    for level in range(levels):
        array = open_level(pyramid.path, level)
        side = array.shards or array.chunks
        count = np.prod([-(-n // s) for n, s in zip(array.shape, side, strict=True)])
        folder = Path(pyramid.path) / str(level)
        files = [p for p in folder.rglob("*") if p.is_file() and p.name.isdigit()]
        assert len(files) == count


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int64", "float32", "float64"])
@pytest.mark.parametrize("kind", ["image", "labels"])
def test_halving(dtype: str, kind: Kind) -> None:
    generator = np.random.default_rng(2)
    for shape in [(1, 1), (1, 5), (4, 6), (5, 7), (2, 3, 5, 4)]:
        if np.dtype(dtype).kind == "f":
            pixels = generator.normal(size=shape).astype(dtype)
        else:
            limits = np.iinfo(dtype if dtype != "int64" else "int32")
            pixels = generator.integers(limits.min, limits.max, shape).astype(dtype)
        found = halve(pixels, kind)
        assert found.dtype == pixels.dtype
        expected = by_hand(pixels, kind)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= (1e-6 if found.dtype.kind == "f" else 0)


def test_large_labels_are_never_averaged() -> None:
    labels = np.array([[2**63 + 1, 5], [7, 9]], np.uint64)
    assert halve(labels, "labels").tolist() == [[2**63 + 1]]


def test_levels_end_at_a_plane_that_fits_a_screen() -> None:
    side = module.COARSEST
    for longest, count in ((1, 1), (side, 1), (side + 1, 2), (2 * side, 2), (2 * side + 1, 3)):
        info = info_of((1, 1, 1, 5, longest), "yx")
        assert level_count(info, True) == count
        assert level_count(info, False) == 1


def test_pixel_sizes_grow_with_the_levels(tmp_path: Path) -> None:
    info = info_of((2, 1, 3, 9, 9), "tzyx")
    pyramid = Pyramid(str(tmp_path), "labels", info, "uint32", 2, 3)
    assert pyramid.scale(0) == [3.0, 2.0, 0.5, 0.25]
    assert pyramid.scale(2) == [3.0, 2.0, 2.0, 1.0]


# --- Metadata ------------------------------------------------------------------------------------


def published(root: Path, info: ImageInfo, mode: str, zarr_format: Literal[2, 3] = 3) -> OutputPlan:
    recipe = parse_recipe({"label": "cells", "segment": {"method": "threshold"}}, "recipe")
    source = SourceSpec("tiff", "image.tif", "image")
    plan = OutputPlan(root, root / "table.parquet", recipe, info, source, mode, zarr_format)
    plan.prepare()
    if plan.image is not None:
        written(plan.image, drawn(plan.image))
        # `create` of the labels comes later and must leave this alone.
        plan.finish_image()
    labels = plan.labels(10)
    written(labels, drawn(labels))
    plan.finish(labels, 10)
    return plan


IMAGES = [
    ((1, 1, 1, 600, 300), "yx"),
    ((1, 3, 1, 40, 50), "cyx"),
    ((2, 2, 3, 20, 30), "tczyx"),
    ((1, 1, 4, 20, 30), "zyx"),
    ((5, 1, 1, 20, 30), "tyx"),
]


@pytest.mark.parametrize(("shape", "axes"), IMAGES)
def test_image_and_labels_are_valid_ome_zarr_05(
    shape: tuple[int, ...], axes: str, tmp_path: Path
) -> None:
    root = tmp_path / "image.ome.zarr"
    published(root, info_of(shape, axes), "copy")
    image = Image05.from_zarr(zarr.open_group(root, mode="r"))
    (multiscale,) = image.attributes.ome.multiscales
    assert "".join(axis.name for axis in multiscale.axes) == axes
    assert len(multiscale.datasets) == level_count(info_of(shape, axes), True)
    assert [c["label"] for c in image.attributes.ome.omero["channels"]] == [
        f"c{i}" for i in range(shape[1])
    ]
    labels = Labels05.from_zarr(zarr.open_group(root / "labels", mode="r"))
    assert labels.attributes.ome.labels == ["cells"]
    label = ImageLabel05.from_zarr(zarr.open_group(root / "labels" / "cells", mode="r"))
    (multiscale,) = label.attributes.ome.multiscales
    assert "".join(axis.name for axis in multiscale.axes) == axes.replace("c", "")
    assert label.attributes.ome.image_label.source.image == "../../"
    assert [axis.unit for axis in multiscale.axes if axis.type == "space"][-2:] == [
        "micrometer",
        "micrometer",
    ]


@pytest.mark.parametrize(("shape", "axes"), IMAGES)
def test_labels_without_their_image_are_valid_ome_zarr_05(
    shape: tuple[int, ...], axes: str, tmp_path: Path
) -> None:
    root = tmp_path / "image.ome.zarr"
    published(root, info_of(shape, axes), "none")
    Labels05.from_zarr(zarr.open_group(root / "labels", mode="r"))
    ImageLabel05.from_zarr(zarr.open_group(root / "labels" / "cells", mode="r"))
    assert json.loads((root / "zarr.json").read_text())["attributes"] == {"ome": {"version": "0.5"}}


@pytest.mark.parametrize(("shape", "axes"), IMAGES)
def test_labels_in_an_image_of_version_04_are_valid_04(
    shape: tuple[int, ...], axes: str, tmp_path: Path
) -> None:
    image = tmp_path / "image.zarr"
    info = info_of(shape, axes)
    levels = level_count(info, True)
    pyramid = Pyramid(str(image), "image", info, "uint16", 2, levels, 2)
    written(pyramid, drawn(pyramid))
    pyramid.write_metadata({})
    Image04.from_zarr(zarr.open_group(image, mode="r", zarr_format=2))
    staged = published(image / ".staged", info, "in_place", 2).root
    shutil.move(staged / "labels", image / "labels")
    assert not list((image / "labels").rglob("zarr.json"))
    assert Labels04.from_zarr(zarr.open_group(image / "labels", mode="r")).attributes.labels == [
        "cells"
    ]
    group = zarr.open_group(image / "labels" / "cells", mode="r")
    label = ImageLabel04.from_zarr(group)
    assert label.attributes.image_label.version == "0.4"
    assert np.array_equal(
        np.asarray(group["0"]), drawn(replace(pyramid, kind="labels", dtype="uint32")).squeeze()
    )
