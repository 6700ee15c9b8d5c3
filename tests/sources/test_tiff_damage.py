"""TIFF files that are cut, corrupt or of a kind that is not read: an error, never a hole."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import tifffile

from pipeline.box import Box
from pipeline.errors import DamageError, RecipeError, UnreadableError
from pipeline.sources import tiff_decode
from pipeline.sources.archive import expand
from pipeline.sources.base import SourceSpec, open_source


def noise(shape, dtype="uint16"):
    return np.random.default_rng(1).integers(0, 60000, shape).astype(dtype)


def whole(source):
    return source.read(0, range(source.info.shape[1]), Box.whole(source.info.shape[2:]))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"imagej": True},
        {"ome": True},
        {"ome": True, "compression": "zlib"},
        {"compression": "lzw"},
        {"tile": (32, 32)},
        {"metadata": None},
        {"metadata": None, "compression": "zlib"},
        {"bigtiff": True, "compression": "zlib", "metadata": None},
    ],
    ids=str,
)
def test_cut_files_are_named_as_such(tmp_path, open_path, options, share):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((6, 64, 96)), **{"photometric": "minisblack", **options})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises((DamageError, UnreadableError)) as caught:
        whole(open_path(path))
    assert caught.value.path == str(path)


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_cut_chain_of_pages_is_damage(tmp_path, open_path, share):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for page in noise((8, 64, 64)):
            tif.write(page, metadata=None, contiguous=False, compression="zlib")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DamageError, match="is cut off"):
        open_path(path)


def test_a_file_cut_while_open(tmp_path, open_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((64, 64)))
    with open_path(path) as source:
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(DamageError, match="behind the end of the file"):
            whole(source)
        assert source.read(0, [0], Box((0, 0, 0), (1, 4, 64))).any()


def test_a_corrupt_tile_is_named_and_the_others_are_read(tmp_path, open_path):
    path, image = tmp_path / "a.tif", noise((1100, 1030), "uint8")
    tifffile.imwrite(path, image, tile=(512, 512), compression="zlib")
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].dataoffsets[4]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 100)
    with open_path(path) as source:
        with pytest.raises(DamageError) as caught:
            whole(source)
        got = source.read(0, [0], Box((0, 0, 0), (1, 512, 1030)))
        np.testing.assert_array_equal(got[0, 0], image[:512])
    assert "tile 4 (rows 512-1023, columns 512-1023 of page 0) cannot be decoded" in str(
        caught.value
    )
    assert str(path) in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value.alone()))
    assert str(again) == str(caught.value)


def test_a_corrupt_strip_at_the_edge(tmp_path, open_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((50, 40)), rowsperstrip=16, compression="lzw")
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[0].dataoffsets[3], tif.pages[0].databytecounts[3]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * count)
    with open_path(path) as source, pytest.raises(DamageError, match=r"strip 3 \(rows 48-49"):
        whole(source)


def sparse(path, extratags=()):
    tifffile.imwrite(path, noise((64, 64)), tile=(32, 32), compression="zlib", extratags=extratags)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        for name in ("TileOffsets", "TileByteCounts"):
            tag = tif.pages[0].tags[name]
            tag.overwrite((*tag.value[:2], 0, tag.value[3]))


def test_a_segment_without_bytes_is_damage_unless_allowed(tmp_path, open_path):
    sparse(tmp_path / "a.tif")
    with open_path(tmp_path / "a.tif") as source:
        with pytest.raises(DamageError, match=r"tile 2 .* never written.*missing_chunks: fill"):
            whole(source)
        assert source.read(0, [0], Box((0, 0, 0), (1, 32, 64))).all()
    with open_path(tmp_path / "a.tif", missing="fill") as source:
        got = whole(source)[0, 0]
        assert not got[32:, :32].any()
        assert got[32:, 32:].all()


def test_a_declared_nodata_value_fills(tmp_path, open_path):
    sparse(tmp_path / "a.tif", [(42113, "s", 0, "77", True)])
    with open_path(tmp_path / "a.tif") as source:
        assert (whole(source)[0, 0, 32:, :32] == 77).all()


def test_a_missing_ome_page_is_damage(tmp_path, open_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, noise((3, 20, 20)), ome=True, photometric="minisblack")
    data = path.read_bytes()
    for name in (b"SizeZ", b"SizeC", b"SizeT", b"SizeQ"):
        data = data.replace(name + b'="3"', name + b'="5"')
    data = data.replace(b'PlaneCount="3"', b'PlaneCount="5"')
    path.write_bytes(data)
    with pytest.raises(DamageError, match="2 of 5 pages"):
        open_path(path)


@pytest.mark.parametrize(
    "content", [b"", b"not a tiff", b"II*\0", b"II*\0\x08\0\0\0", b"\xff" * 99]
)
def test_not_a_tiff(tmp_path, open_path, content):
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(UnreadableError) as caught:
        open_path(path)
    assert str(path) in str(caught.value)
    with pytest.raises(UnreadableError):
        expand(SourceSpec("tiff", str(path), "a"))


def test_text_is_said_to_be_no_tiff(tmp_path, open_path):
    (tmp_path / "a.tif").write_text("hello")
    with pytest.raises(UnreadableError, match="is not a TIFF file"):
        open_path(tmp_path / "a.tif")


def test_missing_folder_and_forbidden(tmp_path, open_path, monkeypatch):
    with pytest.raises(UnreadableError, match="no such file"):
        open_path(tmp_path / "a.tif")
    (tmp_path / "b.tif").mkdir()
    with pytest.raises(UnreadableError, match="is a directory"):
        open_path(tmp_path / "b.tif")

    def forbidden(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "c.tif")

    tifffile.imwrite(tmp_path / "c.tif", noise((4, 4)))
    monkeypatch.setattr("pathlib.Path.open", forbidden)
    with pytest.raises(UnreadableError, match=r"c\.tif: cannot be opened: permission denied"):
        open_path(tmp_path / "c.tif")


def test_complex_pixels_are_refused(tmp_path, open_path):
    tifffile.imwrite(tmp_path / "a.tif", noise((8, 8)).astype("complex64"))
    with pytest.raises(UnreadableError, match="complex64"):
        open_path(tmp_path / "a.tif")


def test_an_unknown_codec_is_refused_at_opening(tmp_path, open_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((32, 32)), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages[0].tags["Compression"].overwrite(32908)
    with pytest.raises(UnreadableError, match="cannot be decoded"):
        open_path(path)


def test_old_jpeg_is_refused(tmp_path, open_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((32, 32), "uint8"), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages[0].tags["Compression"].overwrite(6)
    with pytest.raises(UnreadableError, match="old-style JPEG"):
        open_path(path)


def test_axes_without_a_place_are_refused(tmp_path, open_path):
    tifffile.imwrite(
        tmp_path / "a.tif", noise((3, 2, 16, 16)), metadata={"axes": "AZYX"}, photometric=1
    )
    with pytest.raises(UnreadableError, match='axis "A" of size 3'):
        open_path(tmp_path / "a.tif")


def test_a_huge_segment_is_refused_before_it_is_allocated(tmp_path, open_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", noise((64, 64)), compression="zlib")
    monkeypatch.setattr(tiff_decode, "SEGMENT_LIMIT_BYTES", 8191)
    with pytest.raises(UnreadableError, match="one strip decodes to 8192 bytes, the limit is 8191"):
        open_path(tmp_path / "a.tif")


def test_a_huge_page_claim_costs_nothing(tmp_path, open_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((64, 64)), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as tif:
        for name in ("ImageLength", "ImageWidth", "RowsPerStrip"):
            tif.pages[0].tags[name].overwrite(2_000_000_000, dtype=4)
    with pytest.raises(UnreadableError, match="the limit is"):
        open_path(path)


def test_wrong_arguments(tmp_path):
    with pytest.raises(RecipeError, match=r"missing_chunks is \"zero\""):
        open_source(SourceSpec("tiff", "x", "x", missing_chunks="zero"))
    with pytest.raises(UnreadableError, match="reader"):
        open_source(SourceSpec("none", "x", "x"))


def test_random_bytes_never_surface_as_another_error(tmp_path, open_path):
    path, rng = tmp_path / "a.tif", np.random.default_rng(3)
    image = noise((3, 48, 48))
    tifffile.imwrite(path, image, ome=True, compression="zlib", tile=(16, 16), photometric=1)
    data = np.frombuffer(path.read_bytes(), "uint8")
    for _ in range(150):
        broken = data.copy()
        at = rng.integers(0, len(data), 6)
        broken[at] = rng.integers(0, 256, 6)
        path.write_bytes(broken.tobytes())
        try:
            with open_path(path) as source:
                if np.prod(source.info.shape) < 1e6:
                    whole(source)
        except (DamageError, UnreadableError):
            pass


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000"])
@pytest.mark.parametrize("harm", ["zeros", "short"])
def test_a_stream_without_its_end_is_damage(tmp_path, open_path, compression, harm):
    """Decoders fill in grey where a tile is only half there."""
    path = tmp_path / "a.tif"
    image = np.linspace(0, 250, 128 * 256 * 3).reshape(128, 256, 3).astype("uint8")
    tifffile.imwrite(path, image, tile=(128, 128), compression=compression, photometric="rgb")
    with tifffile.TiffFile(path, mode="r+b") as tif:
        (_, offset), (first, count) = tif.pages[0].dataoffsets, tif.pages[0].databytecounts
        if harm == "short":
            tif.pages[0].tags["TileByteCounts"].overwrite((first, count // 2))
    if harm == "zeros":
        with path.open("r+b") as file:
            file.seek(offset + count // 2)
            file.write(bytes(count - count // 2))
    with open_path(path) as source:
        with pytest.raises(DamageError, match=r"tile 1 .* cannot be decoded"):
            whole(source)
        source.read(0, [0], Box((0, 0, 0), (1, 128, 128)))


@pytest.mark.parametrize("start", [b"\xff\xd8", b"\xff\x4f\xff\x51"])
def test_pixels_that_look_like_the_start_of_a_stream_are_pixels(tmp_path, open_path, start):
    """Whether it must have an end is for its compression to say."""
    path, image = tmp_path / "a.tif", noise((32, 32), "uint8")
    image[::16, : len(start)] = np.frombuffer(start, "uint8")
    tifffile.imwrite(path, image, tile=(16, 16))
    with open_path(path) as source:
        np.testing.assert_array_equal(whole(source)[0, 0], image)


def test_zeros_behind_a_stream_are_no_damage(tmp_path, open_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((64, 64, 3), "uint8"), compression="jpeg", photometric="rgb")
    with tifffile.TiffFile(path, mode="r+b") as tif:
        page = tif.pages[0]
        data = path.read_bytes()[page.dataoffsets[0] :][: page.databytecounts[0]]
        at = path.stat().st_size
        page.tags["StripOffsets"].overwrite((at,))
        page.tags["StripByteCounts"].overwrite((len(data) + 7,))
    with path.open("ab") as file:
        file.write(data + bytes(7))
    with open_path(path) as source:
        np.testing.assert_array_equal(whole(source)[:, 0], tifffile.imread(path).transpose(2, 0, 1))


def two_files(folder, **options):
    """An OME-TIFF of two channels in two files; `options` are those of the second."""
    image = noise((2, 64, 64))
    uuids = [f"urn:uuid:0000000{c}-0000-0000-0000-000000000000" for c in range(2)]
    blocks = "".join(
        f'<TiffData FirstC="{c}" IFD="0" PlaneCount="1"><UUID FileName="c{c}.ome.tif">{u}</UUID>'
        "</TiffData>"
        for c, u in enumerate(uuids)
    )
    for c, uuid in enumerate(uuids):
        xml = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuid}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
            'Type="uint16" SizeX="64" SizeY="64" SizeC="2" SizeZ="1" SizeT="1">'
            f'<Channel ID="Channel:0:0"/><Channel ID="Channel:0:1"/>{blocks}</Pixels></Image></OME>'
        )
        some = {"shape": image[c], "compression": None, **(options if c else {})}
        tifffile.imwrite(
            folder / f"c{c}.ome.tif",
            some.pop("shape"),
            description=xml,
            metadata=None,
            photometric="minisblack",
            **some,
        )
    return image


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"shape": noise((60, 64))}, "differ in size"),
        ({"shape": noise((64, 64), "uint8")}, "differ in type: uint16 in .*c0.*, uint8 in .*c1"),
        ({"compression": "lzw"}, "whether they are compressed"),
        ({"byteorder": ">"}, "byte order"),
        ({"tile": (32, 32)}, "size of strips"),
    ],
    ids=str,
)
def test_files_of_one_image_that_are_stored_otherwise(tmp_path, open_path, options, reason):
    two_files(tmp_path, **options)
    with pytest.raises(UnreadableError, match=reason):
        open_path(tmp_path / "c0.ome.tif")


def test_files_of_one_image_may_be_packed_otherwise(tmp_path, open_path):
    image = two_files(tmp_path)
    with open_path(tmp_path / "c0.ome.tif") as source:
        np.testing.assert_array_equal(whole(source)[:, 0], image)
