"""Images in buckets and on the web, against the arrays that were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from pipeline.box import Box
from pipeline.errors import DamageError, RecipeError, UnreadableError
from pipeline.image import ImageInfo
from pipeline.pyramid import Pyramid, open_level
from pipeline.sources import discover, expand, open_source
from pipeline.sources.base import SourceSpec
from pipeline.storage import AnyPath, StorePath
from pipeline.storage.folders import copy_folder
from pipeline.storage.zarr_store import zarr_place

PIXELS = np.random.default_rng(5).integers(0, 60000, (1, 2, 3, 70, 90)).astype("u2")
TCZYX = {"axes": "TCZYX"}
TIFFS = {
    "plain": {},
    "tiled": {"tile": (32, 32), "compression": "lzw"},
    "strips": {"rowsperstrip": 16, "compression": "zlib"},
    "bigtiff": {"bigtiff": True},
}


def put(file: Path, place: StorePath) -> None:
    place.write_bytes(file.read_bytes())


def write_zarr(path: AnyPath, pixels: np.ndarray, zarr_format: int = 3) -> None:
    t, c, z, y, x = pixels.shape
    names = tuple(map(str, range(c)))
    info = ImageInfo(
        (t, c, z, y, x), pixels.dtype.name, "tczyx", names, (None,) * 3, None, (1, 1, 1, y, x)
    )
    pyramid = Pyramid(str(path), "image", info, pixels.dtype.name, 2, 1, zarr_format)
    pyramid.create()
    open_level(pyramid.path, 0)[...] = pixels
    pyramid.write_metadata({})


@pytest.mark.parametrize("kind", TIFFS)
def test_tiff(kind, bucket, tmp_path, same):
    tifffile.imwrite(
        tmp_path / "a.tif", PIXELS, metadata={"axes": "TCZYX"}, ome=True, **TIFFS[kind]
    )
    put(tmp_path / "a.tif", bucket / "a.ome.tif")
    with open_source(SourceSpec("tiff", str(bucket / "a.ome.tif"), "a")) as source:
        same(source, PIXELS)
        first = source.fingerprint()
    put(tmp_path / "a.tif", bucket / "a.ome.tif")
    with open_source(SourceSpec("tiff", str(bucket / "a.ome.tif"), "a")) as source:
        assert source.fingerprint() == first


def test_a_cut_tiff_is_damage(bucket, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[0, 0], photometric="minisblack")
    (bucket / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:-5000])
    with pytest.raises(DamageError, match="cut off"):
        open_source(SourceSpec("tiff", str(bucket / "a.tif"), "a"))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_picture(suffix, bucket, tmp_path):
    Image.fromarray((PIXELS[0, 0, 0] >> 8).astype("u1")).save(tmp_path / f"a{suffix}")
    put(tmp_path / f"a{suffix}", bucket / f"a{suffix}")
    box = Box((0, 5, 7), (1, 60, 80))
    here, there = (
        open_source(SourceSpec("picture", str(place / f"a{suffix}"), "a"))
        for place in (tmp_path, bucket)
    )
    with here, there:
        np.testing.assert_array_equal(here.read(0, [0], box), there.read(0, [0], box))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_ome_zarr(zarr_format, bucket, same):
    write_zarr(bucket / "a.zarr", PIXELS, zarr_format)
    with open_source(SourceSpec("ome_zarr", str(bucket / "a.zarr"), "a")) as source:
        same(source, PIXELS)
        first = source.fingerprint()
    open_level(str(bucket / "a.zarr"), 0)[0, 0, 0, 0, 0] = 7
    with open_source(SourceSpec("ome_zarr", str(bucket / "a.zarr"), "a")) as source:
        assert source.fingerprint() != first


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_chunk_that_is_not_there_is_damage(zarr_format, bucket):
    write_zarr(bucket / "a.zarr", PIXELS, zarr_format)
    names = [item.name for item in (bucket / "a.zarr").walk()]
    lost = next(name for name in names if name.endswith("1/2/0/0"))
    (bucket / "a.zarr" / lost).unlink()
    spec = SourceSpec("ome_zarr", str(bucket / "a.zarr"), "a")
    with open_source(spec) as source:
        source.read(0, [0], Box((2, 0, 0), (3, 70, 90)))
        with pytest.raises(DamageError, match=f"chunk {lost.removeprefix('0/')} of 0 is missing"):
            source.read(0, [1], Box((2, 0, 0), (3, 70, 90)))
    filled = SourceSpec("ome_zarr", str(bucket / "a.zarr"), "a", "", "fill")
    with open_source(filled) as source:
        assert not source.read(0, [1], Box((2, 0, 0), (3, 70, 90))).any()


def test_a_store_that_fails_is_not_damage(bucket, behind, monkeypatch):
    write_zarr(bucket / "a.zarr", PIXELS)
    monkeypatch.setattr("pipeline.storage.stores.RETRIES", 1)
    door = behind(0.0)
    with open_source(SourceSpec("ome_zarr", str(bucket / "a.zarr"), "a")) as source:
        door.broken = True
        with pytest.raises(UnreadableError, match="did not answer"):
            source.read(0, [0], Box((0, 0, 0), (1, 9, 9)))


def test_faults_change_no_pixel(bucket, behind, tmp_path, same):
    write_zarr(bucket / "a.zarr", PIXELS)
    tifffile.imwrite(
        tmp_path / "a.tif", PIXELS, metadata={"axes": "TCZYX"}, ome=True, tile=(32, 32)
    )
    put(tmp_path / "a.tif", bucket / "a.tif")
    door = behind(0.2, seed=11)
    for spec in (
        SourceSpec("ome_zarr", str(bucket / "a.zarr"), "a"),
        SourceSpec("tiff", str(bucket / "a.tif"), "a"),
    ):
        with open_source(spec) as source:
            same(source, PIXELS, draws=4)
    assert door.seen["lost"]
    assert door.seen["cut"]


def test_archives_are_found(bucket, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[0, 0, 0])
    for name in ("day 1/b.tif", "day 1/deep/a.tif", "c.tif", ".hidden/d.tif", "out/run.sqlite"):
        put(tmp_path / "a.tif", bucket / "archive" / name)
    put(tmp_path / "a.tif", bucket / "archive" / "out" / ".tilewright" / "x.tif")
    put(tmp_path / "a.tif", bucket / "archive" / "out" / "x.tif")
    write_zarr(bucket / "archive" / "z.ome.zarr", PIXELS)
    specs = discover(bucket / "archive")
    assert [spec.name for spec in specs] == ["c", "day 1/b", "day 1/deep/a", "z"]
    assert [expand(spec) for spec in specs] == [[spec] for spec in specs]
    assert [spec.name for spec in discover(bucket / "archive", "day*")] == [
        "day 1/b",
        "day 1/deep/a",
    ]
    assert [spec.name for spec in discover(bucket / "archive" / "c.tif")] == ["c"]
    with pytest.raises(RecipeError, match="does not exist"):
        discover(bucket / "nothing")


@pytest.mark.parametrize("name", ["%2e%2e", "a b%41", "x#1?y=2", "ä/µ%2fm", "..a"])
def test_zarr_lies_where_its_name_says(name, bucket, web, same):
    folder, url = web
    write_zarr(folder / "deep" / name / "b.zarr", PIXELS)
    write_zarr(bucket / "deep" / name / "b.zarr", PIXELS)
    assert {item.name.partition("/b.zarr/")[0] for item in bucket.walk()} == {f"deep/{name}"}
    for place in (bucket, url):
        with open_source(SourceSpec("ome_zarr", f"{place}/deep/{name}/b.zarr", "b")) as source:
            same(source, PIXELS)


def test_pictures_and_zarr_on_the_web(web, same):
    folder, url = web
    Image.fromarray((PIXELS[0, 0, 0] >> 8).astype("u1")).save(folder / "a.png")
    write_zarr(folder / "b.zarr", PIXELS)
    (spec,) = discover(url / "a.png")
    with open_source(spec) as source:
        same(source, (PIXELS[:1, :1, :1] >> 8).astype("u1"))
    (spec,) = discover(url / "b.zarr")
    assert (spec.reader, spec.name) == ("ome_zarr", "b")
    with open_source(spec) as source:
        same(source, PIXELS)
    with pytest.raises(RecipeError, match="does not exist"):
        discover(url)


def test_the_web_is_not_written_to(web):
    _, url = web
    with pytest.raises(PermissionError, match="only read from"):
        (url / "a").write_bytes(b"")


def test_a_group_is_copied_with_its_metadata_last(bucket, monkeypatch):
    write_zarr(bucket / "a.zarr", PIXELS)
    order = []
    copy = StorePath.copy_to
    monkeypatch.setattr(
        StorePath, "copy_to", lambda self, other: (order.append(other.key), copy(self, other))
    )
    copy_folder(bucket / "a.zarr", bucket / "b.zarr")
    assert order[-1] == "b.zarr/zarr.json"
    assert zarr.open_group(zarr_place(bucket / "b.zarr"), mode="r").attrs["ome"]
