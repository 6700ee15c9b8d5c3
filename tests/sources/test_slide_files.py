"""Slides in TIFF and by OpenSlide: which of a file's pictures is read, and all of it."""

from __future__ import annotations

import io

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image
from slide_writers import (
    jpeg_with_restarts,
    tissue,
    write_ndpi,
    write_qptiff,
    write_scn,
    write_svs,
    write_vms,
)

from pipeline.box import Box
from pipeline.errors import DamageError, UnreadableError
from pipeline.sources import tiff_decode
from pipeline.sources.archive import discover, expand
from pipeline.sources.base import SourceSpec, open_source


def only(path):
    """The only image of a file, as the archive finds it."""
    (found,) = discover(path)
    (spec,) = expand(found)
    assert spec.name == path.name.rpartition(".")[0]
    return open_source(spec)


def five(image):
    return np.moveaxis(image, -1, 0)[None, :, None]


def by_openslide(path):
    with openslide.OpenSlide(str(path)) as slide:
        return np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]


def decoded(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg)))


def test_aperio_jpeg(tmp_path, same):
    path = tmp_path / "a.svs"
    write_svs(path, tissue(700, 500))
    with only(path) as source:
        same(source, five(tifffile.imread(path, series=0)))
        assert source.info.pixel_size_um == (None, 0.499, 0.499)
        assert source.info.chunks == (1, 3, 1, 240, 240)
        assert source.level_sizes == ((700, 500), (175, 125))
        assert source.info.channels == ("red", "green", "blue")


@pytest.mark.parametrize("compression", [33003, 33005])
def test_aperio_jpeg_2000(tmp_path, same, compression):
    """33003 stores Y, Cb, Cr without saying so; OpenSlide rounds some greens the other way."""
    path, image = tmp_path / "a.svs", tissue(500, 300)
    write_svs(path, image, compression, compressionargs={"reversible": True})
    want = tiff_decode.rgb_of(image) if compression == 33003 else image
    differs = np.abs(by_openslide(path).astype(int) - want)
    assert differs.max() <= (compression == 33003)
    assert not differs[..., [0, 2]].any()
    assert (differs > 0).mean() < 1e-3
    with only(path) as source:
        same(source, five(want))


def test_hamamatsu_ndpi(tmp_path, same):
    """One JPEG of the whole slide is read by the parts between its restart markers."""
    images = [tissue(512, 768), tissue(256, 384)]
    path = tmp_path / "a.ndpi"
    write_ndpi(path, images)
    with only(path) as source:
        same(source, five(decoded(jpeg_with_restarts(images[0], 16)[0])))
        assert source.info.chunks == (1, 3, 1, 128, 128)  # 16 intervals are one block
        assert source.info.pixel_size_um == (None, 0.5, 0.25)
        assert source.level_sizes == ((512, 768), (256, 384))


@pytest.mark.parametrize(
    ("size", "interval_px", "block"),
    [
        ((516, 760), 760, (128, 760)),  # the last row of intervals is cut
        ((512, 776), 128, (128, 776)),  # 97 blocks a row: an interval ends a row every 16 rows
        ((509, 1022), 384, (120, 1022)),  # every 3 rows
        ((300, 400), 1600, (128, 400)),  # an interval of 4 rows
        ((300, 400), 40000, (300, 400)),  # one for all
    ],
    ids=str,
)
def test_ndpi_whose_intervals_lie_otherwise(tmp_path, same, size, interval_px, block):
    image, path = tissue(*size), tmp_path / "a.ndpi"
    write_ndpi(path, [image], interval_px)
    with only(path) as source:
        assert source.info.chunks[3:] == block
        same(source, five(decoded(jpeg_with_restarts(image, interval_px // 8)[0])))


def test_ndpi_with_an_interval_that_was_never_written(tmp_path):
    path = tmp_path / "a.ndpi"
    write_ndpi(path, [tissue(512, 768)])
    data = bytearray(path.read_bytes())
    tags = int.from_bytes(data[4:12], "little")
    at = next(
        at
        for at in range(tags + 2, tags + 2 + 12 * 17, 12)
        if int.from_bytes(data[at : at + 2], "little") == 65426
    )
    data[at + 4 : at + 8] = (6 * 60).to_bytes(4, "little")  # 60 of 64 rows
    path.write_bytes(data)
    with only(path) as source:
        with pytest.raises(DamageError, match=r"tile 18 \(rows 384-511, columns 0-127 of page 0\)"):
            source.read(0, [0], Box((0, 500, 0), (1, 512, 9)))
        assert source.read(0, [0], Box((0, 0, 0), (1, 384, 768))).any()


def test_ndpi_that_is_cut_is_refused(tmp_path):
    path = tmp_path / "a.ndpi"
    write_ndpi(path, [tissue(512, 768)])
    data = bytearray(path.read_bytes())
    tags = int.from_bytes(data[4:12], "little")
    for i in range(17):  # the strip is longer than the file
        at = tags + 2 + 12 * i
        if int.from_bytes(data[at : at + 2], "little") == 279:
            data[at + 8 : at + 12] = len(data).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(DamageError, match="is cut off"):
        only(path)


def test_leica_scn(tmp_path, same):
    path, scan = tmp_path / "a.scn", tissue(300, 260)
    write_scn(path, tissue(200, 100, seed=3), scan)
    with only(path) as source:
        same(source, five(tifffile.imread(path, series=1)))
        assert source.info.pixel_size_um == (None, 0.5, 0.25)
        assert source.info.origin_um == (None, 3.0, 7.0)
        assert source.level_sizes == ((300, 260), (75, 65))


def test_akoya_qptiff(tmp_path, same):
    path = tmp_path / "a.qptiff"
    image = np.random.default_rng(1).integers(0, 9999, (3, 90, 100)).astype("uint16")
    write_qptiff(path, image, ["DAPI", "CD8", "PanCK"])
    with only(path) as source:
        same(source, image[None, :, None])
        assert source.info.channels == ("DAPI", "CD8", "PanCK")
        assert source.info.pixel_size_um == (None, 0.5, 0.5)
        assert source.info.origin_um == (None, 1000.0, 3000.0)


def vms(folder):
    """A slide of 2 x 2 JPEGs, and its pixels as each JPEG decodes by itself."""
    tiles = {(y, x): tissue(256, 384, 1 + y + 2 * x) for y in range(2) for x in range(2)}
    write_vms(folder / "v.vms", tiles)
    jpegs = {key: decoded(jpeg_with_restarts(tile, 48)[0]) for key, tile in tiles.items()}
    return np.concatenate([np.concatenate([jpegs[y, 0], jpegs[y, 1]], 1) for y in range(2)])


def test_hamamatsu_vms(tmp_path, same):
    want = vms(tmp_path)
    np.testing.assert_array_equal(by_openslide(tmp_path / "v.vms"), want)
    with only(tmp_path / "v.vms") as source:
        same(source, five(want), draws=20)
        assert source.info.chunks == (1, 3, 1, 8, 384)
        assert source.level_sizes[:2] == ((512, 768), (256, 384))


def test_the_files_of_a_slide_are_no_images_of_their_own(tmp_path):
    vms(tmp_path)
    (tmp_path / "v2.jpg").write_bytes(b"another picture")
    assert [spec.name for spec in discover(tmp_path)] == ["v", "v2"]


def test_a_slide_changes_with_each_of_its_files(tmp_path):
    vms(tmp_path)
    with only(tmp_path / "v.vms") as source:
        before = source.fingerprint()
    part = tmp_path / "v(1,0).jpg"
    part.write_bytes(part.read_bytes() + b"\0")
    with only(tmp_path / "v.vms") as source:
        assert source.fingerprint() != before


def test_a_slide_without_one_of_its_files_is_refused(tmp_path):
    vms(tmp_path)
    (tmp_path / "v(1,1).jpg").unlink()
    with pytest.raises(UnreadableError, match="OpenSlide"):
        only(tmp_path / "v.vms")


def test_damage_is_named(tmp_path):
    vms(tmp_path)
    part = tmp_path / "v(1,1).jpg"
    with only(tmp_path / "v.vms") as source:
        part.write_bytes(part.read_bytes()[:1500])
        with pytest.raises(DamageError, match="rows 400-409"):
            source.read(0, range(3), Box((0, 400, 500), (1, 410, 510)))


def test_a_slide_that_comes_back_is_read_again(tmp_path):
    want, part = vms(tmp_path), tmp_path / "v(1,1).jpg"
    box, whole = Box((0, 400, 500), (1, 410, 510)), part.read_bytes()
    with only(tmp_path / "v.vms") as source:
        part.write_bytes(whole[:1500])
        with pytest.raises(DamageError):
            source.read(0, range(3), box)
        part.write_bytes(whole)
        got = source.read(0, range(3), box)[:, 0]
    np.testing.assert_array_equal(got, want[400:410, 500:510].transpose(2, 0, 1))


def test_transparent_pixels_show_the_background(tmp_path, monkeypatch):
    vms(tmp_path)
    seen = np.zeros((10, 12, 4), np.uint8)
    seen[:5] = (200, 100, 50, 255)
    seen[5] = (200, 100, 50, 128)
    with only(tmp_path / "v.vms") as source:
        monkeypatch.setattr(
            openslide.OpenSlide, "read_region", lambda *a: Image.fromarray(seen, "RGBA")
        )
        got = source.read(0, range(3), Box((0, 0, 0), (1, 10, 12)))[:, 0, :, 0]
    assert got[:, 0].tolist() == [200, 100, 50]
    assert got[:, 5].tolist() == [227, 177, 152]
    assert got[:, 9].tolist() == [255, 255, 255]


def test_ventana_tiles_are_left_to_openslide(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        tissue(64, 64),
        software="Ventana",
        metadata=None,
        extratags=[(700, 7, 7, b"<iScan>", True)],
    )
    with pytest.raises(UnreadableError, match=r"\.bif"):
        open_source(SourceSpec("tiff", str(path), "a"))


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.mrxs").write_bytes(b"no slide")
    with pytest.raises(UnreadableError, match="no slide it knows"):
        only(tmp_path / "a.mrxs")
