"""Zeiss CZI: mosaics, scenes, every compression, damage; the oracle of pixels is Zeiss' libCZI."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import czi_writer
import imagecodecs
import numpy as np
import pytest
from czi_writer import Tile, write_czi
from pylibCZIrw import czi as libczi

from pipeline.box import Box
from pipeline.errors import DamageError, UnreadableError
from pipeline.sources import czi, czi_directory
from pipeline.sources.archive import expand
from pipeline.sources.base import SourceSpec, open_source


def smooth(height=40, width=52, samples=1, dtype="uint16", seed=1):
    """Compresses well, and differs everywhere."""
    y, x = np.mgrid[:height, :width]
    bands = [(y * (3 + seed) + x * (k + 1)) % 250 for k in range(samples)]
    return (np.stack(bands, -1) * (200 if dtype == "uint16" else 1)).astype(dtype)


def noise(shape, dtype="uint16", seed=1):
    return np.random.default_rng(seed).integers(1, 60000, shape).astype(dtype)


def oracle(path, plane=None, scene=None):
    """(C, Y, X) of one plane as Zeiss' own library puts it together."""
    with libczi.open_czi(str(path)) as file:
        if scene is None:
            box = file.total_bounding_rectangle_no_pyramid
        else:
            box = file.scenes_bounding_rectangle_no_pyramid[scene]
        pixels = file.read(roi=tuple(box), plane={"C": 0, **(plane or {})}, scene=scene)
    pixels = pixels[..., ::-1] if pixels.shape[2] == 3 else pixels
    return np.moveaxis(pixels, 2, 0)


def listed(path):
    return expand(SourceSpec("czi", str(path), path.stem))


@pytest.mark.parametrize("codec", ["none", "jpegxr", "zstd", "zstd1", "zstd1-hilo"])
@pytest.mark.parametrize(("dtype", "samples"), czi_writer.KINDS)
def test_every_compression_and_pixel_type(tmp_path, open_path, same, codec, dtype, samples):
    pixels = smooth(samples=samples, dtype=dtype)
    if codec == "zstd1-hilo" and dtype != "uint16":
        codec = "zstd1"
    write_czi(tmp_path / "a.czi", Tile(pixels, 7, -3, places={"C": 0}, codec=codec))
    # libCZI reads neither red, green, blue of JPEG XR in this order nor bytes apart in colour.
    if (codec, samples) not in {("jpegxr", 3), ("zstd1-hilo", 3)}:
        np.testing.assert_array_equal(oracle(tmp_path / "a.czi"), np.moveaxis(pixels, 2, 0))
    with open_path(tmp_path / "a.czi") as source:
        same(source, np.moveaxis(pixels, 2, 0)[None, :, None])
        assert source.info.channels == (("red", "green", "blue") if samples == 3 else ("0",))
        assert source.info.chunks == (1, samples, 1, 1 if codec == "none" else 40, 52)


def test_jpeg(tmp_path, open_path, same):
    pixels = smooth(samples=3, dtype="uint8")
    write_czi(tmp_path / "a.czi", Tile(pixels, codec="jpeg", places={"C": 0}))
    want = imagecodecs.jpeg8_decode(imagecodecs.jpeg8_encode(pixels, level=95))
    with open_path(tmp_path / "a.czi") as source:
        same(source, np.moveaxis(want, 2, 0)[None, :, None])


@pytest.mark.parametrize("order", ["PreProcess=HiLoByteUnpack", ""], ids=["apart", "plain"])
def test_what_zeiss_own_library_writes(tmp_path, open_path, same, order):
    pixels = smooth(120, 90)
    path = tmp_path / "a.czi"
    options = f"zstd1:ExplicitLevel=2;{order}".rstrip(";")
    with libczi.create_czi(str(path), compression_options=options) as file:
        for t in range(2):
            for z in range(3):
                for c in range(2):
                    file.write(pixels + t + 2 * z + 6 * c, plane={"T": t, "Z": z, "C": c})
        file.write_metadata(
            "a", channel_names={0: "DAPI", 1: "GFP"}, scale_x=1e-7, scale_y=2e-7, scale_z=3e-7
        )
    want = np.array(
        [
            [[pixels[..., 0] + t + 2 * z + 6 * c for z in range(3)] for c in range(2)]
            for t in range(2)
        ],
        "uint16",
    )
    with open_path(path) as source:
        same(source, want)
        info = source.info
    assert info.axes == "tczyx"
    assert info.channels == ("DAPI", "GFP")
    assert info.pixel_size_um == pytest.approx((0.3, 0.2, 0.1))
    assert info.origin_um == (None, 0.0, 0.0)


@pytest.mark.parametrize("codec", ["none", "zstd1"])
@pytest.mark.parametrize("seed", range(4))
def test_mosaics_that_overlap_and_leave_gaps(tmp_path, open_path, same, codec, seed):
    """Any order in the file, any mosaic numbers, some tiles without: as libCZI puts it together."""
    rng = np.random.default_rng(seed)
    tiles = []
    for number in rng.permutation(9):
        y, x = rng.integers(-50, 90, 2)
        size = (*rng.integers(5, 60, 2), 1)
        mosaic = int(number) if seed % 2 or number > 3 else 2
        tiles.append(Tile(noise(size, seed=number), int(y), int(x), mosaic, {"C": 0}, codec))
    path = tmp_path / "a.czi"
    write_czi(path, *tiles)
    want = oracle(path)
    assert (want == 0).any()  # background
    with open_path(path) as source:
        same(source, want[None, :, None], draws=40)


def test_what_no_tile_covers_is_background(tmp_path, open_path):
    tiles = [Tile(noise((8, 8, 1)), 8 * i, 8 * i, i, {"C": 0}) for i in range(2)]
    write_czi(tmp_path / "a.czi", *tiles)
    with open_path(tmp_path / "a.czi") as source:
        pixels = source.read(0, [0], Box.whole((1, 16, 16)))[0, 0]
    assert not pixels[:8, 8:].any()
    assert not pixels[8:, :8].any()
    np.testing.assert_array_equal(pixels[8:, 8:], tiles[1].pixels[..., 0])


def test_levels_of_a_pyramid_are_left_out(tmp_path, open_path, same):
    pixels = smooth()
    small = Tile(pixels[::2, ::2] // 2, 0, 0, places={"C": 0}, shrunk=2)
    write_czi(tmp_path / "a.czi", small, Tile(pixels, places={"C": 0}), small)
    with open_path(tmp_path / "a.czi") as source:
        same(source, pixels[None, None, None, ..., 0])
        assert source.level_sizes == ((40, 52), (20, 26))
    write_czi(tmp_path / "b.czi", small)
    with pytest.raises(UnreadableError, match="only reduced copies"):
        open_path(tmp_path / "b.czi")


XML = """<ImageDocument><Metadata><Information><Image><Dimensions>
<T><Positions><Interval><Increment>2.5</Increment></Interval></Positions></T>
<S><Scenes><Scene Index="0" Name="A1"/><Scene Index="1" Name="B/2"/></Scenes></S>
<Channels><Channel Id="Channel:0" Name="DAPI"/><Channel Id="Channel:1" Name=""/></Channels>
</Dimensions></Image></Information><Scaling><Items>
<Distance Id="X"><Value>5e-07</Value></Distance><Distance Id="Y"><Value>2.5e-07</Value></Distance>
</Items></Scaling></Metadata></ImageDocument>"""


@pytest.mark.parametrize("xml", [XML, "<broken"], ids=["named", "unnamed"])
def test_scenes_become_images(tmp_path, same, xml):
    path = tmp_path / "a.czi"
    tiles = [
        Tile(noise((20 + s, 30, 1), seed=10 * s + m), 100 * s, 25 * m - 7, m, {"C": 0, "S": s})
        for m in range(2)
        for s in range(2)
    ]
    write_czi(path, *tiles, xml=xml)
    specs = listed(path)
    names = ["a_A1", "a_B-2"] if xml == XML else ["a_s0", "a_s1"]
    assert [spec.name for spec in specs] == names
    for number, spec in enumerate(specs):
        with open_source(spec) as source:
            same(source, oracle(path, scene=number)[None, :, None])
            origin = (None, number * 25.0, -3.5) if xml == XML else (None, None, None)
            assert source.info.origin_um == origin
    with pytest.raises(UnreadableError, match="holds 2 images"):
        open_source(SourceSpec("czi", str(path), "a"))


def test_views_and_phases_become_images(tmp_path, same):
    path = tmp_path / "a.czi"
    images = {(v, h): noise((9, 8, 1), seed=3 * v + h) for v in range(2) for h in (0, 4)}
    write_czi(path, *(Tile(i, places={"C": 0, "V": v, "H": h}) for (v, h), i in images.items()))
    specs = listed(path)
    assert [spec.name for spec in specs] == ["a_v0_h0", "a_v0_h4", "a_v1_h0", "a_v1_h4"]
    for spec, image in zip(specs, images.values(), strict=True):
        with open_source(spec) as source:
            same(source, image[None, None, None, ..., 0])


def test_channels_in_colour_and_gaps_in_their_numbers(tmp_path, open_path, same):
    images = {c: noise((9, 8, 3), "uint8", seed=c) for c in (2, 5)}
    tiles = [Tile(image, places={"C": c, "T": 3}) for c, image in images.items()]
    write_czi(tmp_path / "a.czi", *tiles)
    with open_path(tmp_path / "a.czi") as source:
        same(source, np.concatenate([i.transpose(2, 0, 1) for i in images.values()])[None, :, None])
        assert source.info.channels[:4] == ("0 red", "0 green", "0 blue", "1 red")


def test_what_the_xml_says(tmp_path, open_path):
    tiles = [Tile(noise((4, 4, 1)), 8, -4, places={"C": c, "T": t}) for c in (0, 1) for t in (0, 1)]
    write_czi(tmp_path / "a.czi", *tiles, xml=XML)
    with open_path(tmp_path / "a.czi") as source:
        info = source.info
    assert info.channels == ("DAPI", "1")
    assert info.pixel_size_um == (None, 0.25, 0.5)
    assert info.time_step_s == 2.5
    assert info.origin_um == (None, 2.0, -2.0)


def test_a_compressed_sub_block_is_unpacked_once(tmp_path, open_path, monkeypatch):
    tiles = [Tile(smooth(32, 32, seed=m), 0, 30 * m, m, {"C": 0}, "zstd1") for m in range(2)]
    write_czi(tmp_path / "a.czi", *tiles)
    seen, unpack = [], czi.unpack
    monkeypatch.setattr(
        czi, "unpack", lambda p, f, b, k: (seen.append(b.number), unpack(p, f, b, k))[1]
    )
    with open_path(tmp_path / "a.czi") as source:
        for y in range(0, 32, 8):
            source.read(0, [0], Box((0, y, 20), (1, y + 8, 40)))
    assert seen == [0, 1]


def test_of_plain_sub_blocks_only_rows_are_read(tmp_path, open_path, monkeypatch):
    write_czi(tmp_path / "a.czi", Tile(noise((1000, 500, 1)), places={"C": 0}))
    with open_path(tmp_path / "a.czi") as source:
        read, total = source._files.read, []
        monkeypatch.setattr(source._files, "read", lambda *a: (total.append(a[2]), read(*a))[1])
        source.read(0, [0], Box((0, 500, 100), (1, 510, 200)))
    assert sum(total) < 10 * 200 + 1000


def test_threads_may_share_a_source(tmp_path, open_path):
    tiles = [Tile(smooth(64, 64, seed=m), 50 * m, 40 * m, m, {"C": 0}, "zstd") for m in range(6)]
    write_czi(tmp_path / "a.czi", *tiles)
    want = oracle(tmp_path / "a.czi")[0]
    boxes = [Box((0, y, 3), (1, y + 40, 230)) for y in range(0, 260, 7)]
    with open_path(tmp_path / "a.czi") as source, ThreadPoolExecutor(8) as pool:
        reads = pool.map(lambda box: source.read(0, [0], box), boxes)
        for box, got in zip(boxes, reads, strict=True):
            np.testing.assert_array_equal(got[0, 0], want[box.slices[1:]])


@pytest.mark.parametrize("left", [20, 600, 5000, -400, -1])
def test_a_cut_file_is_refused(tmp_path, open_path, left):
    path = tmp_path / "a.czi"
    write_czi(path, *(Tile(noise((50, 50, 1)), 50 * m, 0, m, {"C": 0}) for m in range(2)))
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises((DamageError, UnreadableError)):
        open_path(path)
    with pytest.raises((DamageError, UnreadableError)):
        listed(path)


def test_a_sub_block_that_ends_behind_the_file_is_refused(tmp_path, open_path):
    """Directory and metadata may come first in a file that is cut off."""
    path = tmp_path / "a.czi"
    write_czi(path, *(Tile(noise((50, 50, 1)), 50 * m, 0, m, {"C": 0}) for m in range(2)))
    data = bytearray(path.read_bytes())
    size_at = data.rindex(b"ZISRAWSUBBLOCK") + 32 + 8
    data[size_at : size_at + 8] = (10**6).to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(DamageError, match="sub-block 1 ends at byte"):
        open_path(path)


def test_damaged_sub_blocks_are_named(tmp_path, open_path):
    path = tmp_path / "a.czi"
    tiles = [Tile(smooth(50, 50, seed=m), 50 * m, 0, m, {"C": 0}, "zstd1") for m in range(3)]
    write_czi(path, *tiles)
    data = bytearray(path.read_bytes())
    second = [i for i in range(len(data)) if data.startswith(b"ZISRAWSUBBLOCK", i)][1]

    def reads_all_but_the_second(changed, reason):
        path.write_bytes(changed)
        with open_path(path) as source:
            source.read(0, [0], Box((0, 0, 0), (1, 50, 50)))
            source.read(0, [0], Box((0, 100, 0), (1, 150, 50)))
            with pytest.raises(DamageError, match=reason):
                source.read(0, [0], Box((0, 49, 0), (1, 51, 50)))

    body = second + 32 + 256
    reads_all_but_the_second(data[:body] + bytes(60) + data[body + 60 :], "sub-block 1 cannot be")
    reads_all_but_the_second(data[:second] + b"x" + data[second + 1 :], "not at byte")
    first = data.index(b"ZISRAWSUBBLOCK")
    swapped = data[:second] + data[first : first + 400] + data[second + 400 :]
    reads_all_but_the_second(swapped, "not the one that the directory names")


def test_planes_without_pixels_are_damage_or_zeros(tmp_path, open_path, same):
    image = noise((9, 8, 1))
    places = [{"C": 0, "T": 0}, {"C": 0, "T": 1}, {"C": 1, "T": 0}]
    write_czi(tmp_path / "a.czi", *(Tile(image, places=place) for place in places))
    with pytest.raises(DamageError, match="1 of its planes have no pixels, the first is time 1"):
        open_path(tmp_path / "a.czi")
    want = np.broadcast_to(image[..., 0], (2, 2, 1, 9, 8)).copy()
    want[1, 1] = 0
    with open_path(tmp_path / "a.czi", missing="fill") as source:
        same(source, want)


def test_what_is_not_read_is_refused(tmp_path, open_path):
    path = tmp_path / "a.czi"
    write_czi(path, Tile(smooth(), places={"C": 0}, codec="lzw"))
    with pytest.raises(UnreadableError, match=r"compression 2 \(LZW\)"):
        open_path(path)
    write_czi(path, Tile(smooth(), places={"C": 0}), Tile(smooth(dtype="uint8"), places={"C": 1}))
    with pytest.raises(UnreadableError, match="of types"):
        open_path(path)
    write_czi(path)
    with pytest.raises(UnreadableError, match="without an image"):
        open_path(path)
    path.write_bytes(b"no microscope made this " * 20)
    with pytest.raises(UnreadableError, match="not a CZI file"):
        open_path(path)


def test_a_file_that_was_not_closed_is_refused(tmp_path, open_path):
    path = tmp_path / "a.czi"
    write_czi(path, Tile(smooth(), places={"C": 0}))
    data = bytearray(path.read_bytes())
    at = czi_directory.SEGMENT.size + 68  # update pending
    data[at] = 1
    path.write_bytes(data)
    with pytest.raises(DamageError, match="was not closed"):
        open_path(path)
