"""TIFF pixels: every dialect against the array that was written."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile

from pipeline.box import Box
from pipeline.errors import UnreadableError
from pipeline.sources import tiff_pixels
from pipeline.sources.archive import expand
from pipeline.sources.base import SourceSpec
from pipeline.sources.parts import Part
from pipeline.sources.tiff_decode import PageDecoder

TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]


def pixels(shape, dtype="uint16", seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rowsperstrip": 7},
        {"tile": (16, 32)},
        {"compression": "zlib", "rowsperstrip": 5},
        {"compression": "lzw", "tile": (32, 16), "predictor": True},
        {"compression": "zstd", "tile": (16, 16), "bigtiff": True},
    ],
    ids=str,
)
def test_types_orders_and_storage(tmp_path, open_path, same, dtype, byteorder, options):
    image = pixels((53, 71), dtype)
    tifffile.imwrite(tmp_path / "a.tif", image, byteorder=byteorder, **options)
    with open_path(tmp_path / "a.tif") as source:
        # Half floats are read as float32, which numbers are calculated with.
        want = image.astype(np.float32) if dtype == "float16" else image
        same(source, want[None, None, None])


AXES = ["YX", "ZYX", "CYX", "TYX", "TZYX", "TCYX", "CZYX", "TZCYX", "ZTYX", "CTYX", "TCZYX", "ZCYX"]


IMAGEJ_AXES = [axes for axes in AXES if list(axes) == [a for a in "TZCYX" if a in axes]]
KINDS = [(kind, axes) for kind in ("shaped", "ome") for axes in AXES]


@pytest.mark.parametrize(("kind", "axes"), KINDS + [("imagej", axes) for axes in IMAGEJ_AXES])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}], ids=str)
def test_axes(tmp_path, open_path, same, axes, kind, options):
    sizes = {"T": 2, "C": 3, "Z": 4, "Y": 35, "X": 23}
    image = pixels([sizes[a] for a in axes])
    options = {"metadata": {"axes": axes}, "photometric": "minisblack", **options}
    tifffile.imwrite(
        tmp_path / "a.tif", image, ome=kind == "ome", imagej=kind == "imagej", **options
    )
    present = [a for a in "TCZYX" if a in axes]
    want = image.transpose([axes.index(a) for a in present])
    want = want.reshape([sizes[a] if a in axes else 1 for a in "TCZYX"])
    with open_path(tmp_path / "a.tif") as source:
        same(source, want)
        assert source.info.axes == "".join(present).lower()


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("samples", [3, 4])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "tile": (16, 16)}], ids=str)
def test_colour_samples_are_channels(tmp_path, open_path, same, planar, samples, options):
    image = pixels((37, 29, samples), "uint8")
    stored = image if planar == "contig" else image.transpose(2, 0, 1)
    extra = {"extrasamples": ["unassalpha"]} if samples == 4 else {}
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, **extra, **options
    )
    with open_path(tmp_path / "a.tif") as source:
        same(source, image.transpose(2, 0, 1)[None, :, None])
        assert source.info.channels == ("red", "green", "blue", "alpha")[:samples]
        assert source.info.chunks[1] == (samples if planar == "contig" else 1)


def test_colour_times_channels(tmp_path, open_path, same):
    image = pixels((2, 20, 24, 3), "uint8")
    tifffile.imwrite(
        tmp_path / "a.ome.tif", image, ome=True, photometric="rgb", metadata={"axes": "CYXS"}
    )
    with open_path(tmp_path / "a.ome.tif") as source:
        same(source, image.transpose(0, 3, 1, 2).reshape(1, 6, 1, 20, 24))
        assert source.info.channels[3:] == ("1 red", "1 green", "1 blue")


def test_jpeg_tiles_equal_tifffile(tmp_path, open_path, same):
    y, x = np.mgrid[:64, :80]
    image = np.stack([y * 3, x * 3, (x + y) % 256], -1).astype("uint8")
    tifffile.imwrite(
        tmp_path / "a.tif", image, photometric="rgb", compression="jpeg", tile=(32, 32)
    )
    want = tifffile.imread(tmp_path / "a.tif")
    with open_path(tmp_path / "a.tif") as source:
        same(source, want.transpose(2, 0, 1)[None, :, None])


def test_plain_pages_are_a_z_stack(tmp_path, open_path, same):
    image = pixels((5, 30, 20))
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for page in image:
            tif.write(page, metadata=None, contiguous=False, compression="lzw")
    with open_path(tmp_path / "a.tif") as source:
        same(source, image[None, None])
        assert source.info.axes == "zyx"


def test_volumetric_tiles(tmp_path, open_path, same):
    image = pixels((20, 40, 24), "uint8")
    tifffile.imwrite(
        tmp_path / "a.tif", image, tile=(16, 16, 16), volumetric=True, compression="zlib"
    )
    with open_path(tmp_path / "a.tif") as source:
        same(source, image[None, None])
        assert source.info.chunks == (1, 1, 16, 16, 16)


@pytest.mark.parametrize("ome", [True, False])
def test_pyramid_gives_level_0(tmp_path, open_path, same, ome):
    image = pixels((128, 96))
    with tifffile.TiffWriter(tmp_path / "a.tif", ome=ome) as tif:
        tif.write(image, subifds=2, tile=(32, 32), compression="zlib")
        tif.write(image[::2, ::2], subfiletype=1, tile=(32, 32), compression="zlib")
        tif.write(image[::4, ::4], subfiletype=1, tile=(32, 32), compression="zlib")
    spec = SourceSpec("tiff", str(tmp_path / "a.tif"), "a")
    assert expand(spec) == [spec]
    with open_path(tmp_path / "a.tif") as source:
        same(source, image[None, None, None])


def test_bilevel_is_zero_and_one(tmp_path, open_path, same):
    image = pixels((33, 61), "uint8") > 99
    tifffile.imwrite(tmp_path / "a.tif", image)
    with open_path(tmp_path / "a.tif") as source:
        same(source, image[None, None, None].astype("uint8"))


@pytest.mark.parametrize("bits", [2, 4, 12])
def test_packed_integers(tmp_path, open_path, same, bits):
    image = (pixels((33, 62), "uint16") >> (16 - bits)).astype("uint8" if bits < 8 else "uint16")
    tifffile.imwrite(tmp_path / "a.tif", image, bitspersample=bits, rowsperstrip=4)
    with open_path(tmp_path / "a.tif") as source:
        same(source, image[None, None, None])


def test_nan_and_infinity_stay(tmp_path, open_path, same):
    image = pixels((20, 20), "float32")
    image[3:6, 4:9], image[0, 0] = np.nan, -np.inf
    tifffile.imwrite(tmp_path / "a.tif", image, compression="zlib")
    with open_path(tmp_path / "a.tif") as source:
        same(source, image[None, None, None])


def test_one_pixel(tmp_path, open_path, same):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[7]], "uint8"))
    with open_path(tmp_path / "a.tif") as source:
        same(source, np.array(7, "uint8").reshape(1, 1, 1, 1, 1))


def test_pages_after_a_contiguous_one_may_be_scattered(tmp_path, open_path, same):
    """Only the first page's strips follow each other: its rule must not serve the second."""
    image = pixels((2, 8, 16), "uint8")
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for page in image:
            tif.write(page, metadata=None, contiguous=False, rowsperstrip=4)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tif:
        tag = tif.pages[1].tags["StripOffsets"]
        tag.overwrite(tuple(reversed(tag.value)))
    with open_path(tmp_path / "a.tif") as source:
        want = image.copy()
        want[1] = np.roll(image[1], 4, axis=0)
        same(source, want[None, None])


def test_several_images_in_a_file(tmp_path, open_path, same):
    images = [pixels((20, 30)), pixels((10, 15, 3), "uint8")]
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(images[0])
        tif.write(images[1], photometric="rgb")
    specs = expand(SourceSpec("tiff", str(tmp_path / "a.tif"), "d/a", missing_chunks="fill"))
    assert [(s.name, s.series, s.missing_chunks) for s in specs] == [
        ("d/a_s0", "0", "fill"),
        ("d/a_s1", "1", "fill"),
    ]
    with open_path(tmp_path / "a.tif", series="0") as source:
        same(source, images[0][None, None, None])
    with open_path(tmp_path / "a.tif", series="1") as source:
        same(source, images[1].transpose(2, 0, 1)[None, :, None])
    with pytest.raises(UnreadableError, match="holds 2 images"):
        open_path(tmp_path / "a.tif")
    with pytest.raises(UnreadableError, match="no series 2"):
        open_path(tmp_path / "a.tif", series="2")


def test_multi_file_ome_is_one_image(tmp_path, open_path, same):
    image = pixels((2, 16, 16))
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{0}">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="16"'
        ' SizeY="16" SizeZ="1" SizeC="1" SizeT="2"><Channel ID="Channel:0:0"/>'
        '<TiffData FirstT="0" IFD="0" PlaneCount="1"><UUID FileName="t0.ome.tif">urn:uuid:0</UUID>'
        '</TiffData><TiffData FirstT="1" IFD="0" PlaneCount="1"><UUID FileName="t1.ome.tif">'
        "urn:uuid:1</UUID></TiffData></Pixels></Image></OME>"
    )
    for t in range(2):
        tifffile.imwrite(
            tmp_path / f"t{t}.ome.tif", image[t], description=xml.format(t), metadata=None
        )
    specs = [SourceSpec("tiff", str(tmp_path / f"t{t}.ome.tif"), f"t{t}") for t in range(2)]
    assert [expand(spec) for spec in specs] == [[specs[0]], []]
    with pytest.raises(UnreadableError, match=r"t1\.ome\.tif: belongs to an OME-TIFF of several"):
        expand(SourceSpec("composed", specs[1].path, "t1", parts=(Part(specs[1]),)))
    with open_path(tmp_path / "t0.ome.tif") as source:
        same(source, image[:, None, None])
        before = source.fingerprint()
        tifffile.imwrite(
            tmp_path / "t1.ome.tif", image[0], description=xml.format(1), metadata=None
        )
        assert source.fingerprint() != before


def count_decodes(monkeypatch):
    seen = []
    decode = PageDecoder.decode

    def counted(self, index, what):
        seen.append(index)
        return decode(self, index, what)

    monkeypatch.setattr(PageDecoder, "decode", counted)
    return seen


def test_only_tiles_of_the_box_are_decoded(tmp_path, open_path, monkeypatch):
    image = pixels((128, 160, 3), "uint8")
    tifffile.imwrite(
        tmp_path / "a.tif", image, tile=(32, 32), compression="zlib", photometric="rgb"
    )
    seen = count_decodes(monkeypatch)
    with open_path(tmp_path / "a.tif") as source:
        source.read(0, [2, 0], Box((0, 33, 31), (1, 64, 65)))
        assert seen == [5, 6, 7]  # row 1 of five tiles a row, once for both channels
        source.read(0, [1], Box((0, 40, 90), (1, 50, 100)))
        assert seen == [5, 6, 7, 8]  # column 90-95 lies in tile 7, which is kept


def test_strips_are_not_decoded_again_for_the_next_tile(tmp_path, open_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", pixels((64, 200)), rowsperstrip=16, compression="lzw")
    seen = count_decodes(monkeypatch)
    with open_path(tmp_path / "a.tif") as source:
        for x in range(0, 200, 50):
            source.read(0, [0], Box((0, 16, x), (1, 48, x + 50)))
    assert seen == [1, 2]


def test_the_cache_is_bounded_and_keeps_one_oversized_strip(tmp_path, open_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", pixels((64, 200)), rowsperstrip=16, compression="lzw")
    monkeypatch.setattr(tiff_pixels, "CACHE_BYTES", 16 * 200)
    seen = count_decodes(monkeypatch)
    with open_path(tmp_path / "a.tif") as source:
        for y in (0, 4, 20, 24, 0):
            source.read(0, [0], Box((0, y, 0), (1, y + 4, 9)))
    assert seen == [0, 1, 0]


def test_uncompressed_rows_are_read_by_position(tmp_path, open_path, monkeypatch):
    tifffile.imwrite(
        tmp_path / "a.tif", pixels((4, 1000, 1000)), imagej=True, metadata={"axes": "ZYX"}
    )
    with open_path(tmp_path / "a.tif") as source:
        preadv, total = os.preadv, []
        monkeypatch.setattr(
            os, "preadv", lambda *a: (total.append(sum(one.nbytes for one in a[1])), preadv(*a))[1]
        )
        source.read(0, [0], Box((2, 100, 200), (3, 110, 260)))
    assert total == [120] * 10


@pytest.mark.parametrize("most", [1, 7, 100, 4097])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_rows_that_come_in_pieces(tmp_path, open_path, monkeypatch, most, byteorder):
    """The system may give less than was asked for, in the middle of a row or between rows."""
    image = pixels((90, 120))
    tifffile.imwrite(tmp_path / "a.tif", image, byteorder=byteorder)
    preadv = os.preadv

    def pieces(handle, buffers, offset):
        first = memoryview(next(one for one in buffers if one.nbytes)).cast("B")
        return preadv(handle, [first[:most]], offset)

    monkeypatch.setattr(os, "preadv", pieces)
    with open_path(tmp_path / "a.tif") as source:
        for y0, y1, x0, x1 in ((0, 90, 0, 120), (3, 80, 5, 70), (10, 20, 100, 104)):
            got = source.read(0, [0], Box((0, y0, x0), (1, y1, x1)))
            np.testing.assert_array_equal(got[0, 0], image[y0:y1, x0:x1])


@pytest.mark.parametrize("options", [{}, {"compression": "lzw", "tile": (32, 32)}], ids=str)
def test_threads_may_share_a_source(tmp_path, open_path, options):
    image = pixels((6, 128, 128))
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", **options)
    boxes = [Box((z, y, 3), (z + 1, y + 40, 99)) for z in range(6) for y in range(0, 88, 8)]
    with open_path(tmp_path / "a.tif") as source, ThreadPoolExecutor(8) as pool:
        for box, got in zip(
            boxes, pool.map(lambda box: source.read(0, [0], box), boxes), strict=True
        ):
            np.testing.assert_array_equal(got[0], image[box.slices])


def test_a_request_outside_is_refused(tmp_path, open_path):
    tifffile.imwrite(tmp_path / "a.tif", pixels((20, 20)))
    with open_path(tmp_path / "a.tif") as source:
        for t, channels, stop in ((1, [0], (1, 9, 9)), (0, [1], (1, 9, 9)), (0, [0], (1, 9, 21))):
            with pytest.raises(ValueError, match="not inside"):
                source.read(t, channels, Box((0, 0, 0), stop))
        assert source.read(0, [], Box((0, 0, 0), (1, 5, 5))).shape == (0, 1, 5, 5)
