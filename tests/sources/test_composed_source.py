"""Images made of parts: what a region reads, what it touches, what is refused."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, replace

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from pipeline.box import Box
from pipeline.errors import DamageError, UnreadableError
from pipeline.sources import composed
from pipeline.sources.archive import expand
from pipeline.sources.base import Source, SourceSpec, open_source
from pipeline.sources.parts import Layout, Part

RNG = np.random.default_rng(3)


def part(path, pixels, offset=(0, 0, 0, 0, 0), axes="YX", metadata=None, **more):
    """Write a TIFF file and place it."""
    tifffile.imwrite(path, pixels, metadata={"axes": axes}, ome=True, photometric="minisblack")
    return Part(SourceSpec("tiff", str(path), path.stem), offset, **more)


def image(*parts, **more):
    first = parts[0].spec
    return SourceSpec("composed", first.path, "a", parts=tuple(parts), **more)


def whole(source):
    times, channels, *space = source.info.shape
    box = Box.whole(space)
    return np.stack([source.read(t, range(channels), box) for t in range(times)])


def drawn(parts):
    """What the parts give, painted from the last to the first: an oracle of its own."""
    shape = np.max([np.add(offset, pixels.shape) for offset, pixels in parts], axis=0)
    out = np.zeros(shape, parts[0][1].dtype)
    for offset, pixels in reversed(parts):
        out[tuple(slice(o, o + n) for o, n in zip(offset, pixels.shape, strict=True))] = pixels
    return out


@given(data=st.data())
def test_a_region_is_the_crop_of_the_whole_and_the_first_part_wins(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("parts")
    kind = data.draw(st.sampled_from(["uint8", "uint16", "float32"]))
    painted, parts = [], []
    for k in range(data.draw(st.integers(1, 5))):
        size = tuple(data.draw(st.integers(1, 9)) for _ in range(2))
        shape = (1, data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2)), *size)
        high = (1, 2, 2, 9, 9)
        offset = tuple(data.draw(st.integers(0, n)) for n in high)
        pixels = (RNG.random(shape) * 200 + 1).astype(kind)
        names = tuple("abcd"[offset[1] + i] for i in range(shape[1]))
        made = part(folder / f"{k}.ome.tif", pixels, offset, "TCZYX", channels=names)
        painted.append((offset, pixels))
        parts.append(made)
    with open_source(image(*parts)) as source:
        want = drawn(painted)
        assert source.info.shape == want.shape
        np.testing.assert_array_equal(whole(source), want)
        times, channels, *space = want.shape
        start = tuple(data.draw(st.integers(0, n - 1)) for n in space)
        stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, space, strict=True))
        t = data.draw(st.integers(0, times - 1))
        chosen = data.draw(st.lists(st.integers(0, channels - 1), min_size=1, max_size=4))
        box = Box(start, stop)
        np.testing.assert_array_equal(source.read(t, chosen, box), want[(t, chosen, *box.slices)])


def test_channels_in_files_of_their_own(tmp_path):
    pixels = RNG.integers(0, 255, (3, 20, 30), np.uint8)
    parts = [
        part(tmp_path / f"{c}.tif", one, (0, c, 0, 0, 0), channels=(name,), along="c")
        for c, (one, name) in enumerate(zip(pixels, ("DNA", "actin", "tubulin"), strict=True))
    ]
    (spec,) = expand(image(*parts))
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert hash(spec)
    assert json.loads(json.dumps(asdict(spec)))["parts"][2]["offset"] == [0, 2, 0, 0, 0]
    with open_source(spec) as source:
        assert source.info.channels == ("DNA", "actin", "tubulin")
        assert source.info.axes == "cyx"
        np.testing.assert_array_equal(whole(source)[0, :, 0], pixels)


def fields(tmp_path, pixels, count):
    """Fields of one row, each in a file."""
    width = pixels.shape[1] // count
    return [
        part(tmp_path / f"{k}.tif", pixels[:, k * width : (k + 1) * width], (0, 0, 0, 0, k * width))
        for k in range(count)
    ]


class Opened:
    """Counts the files that are opened, and how many are open together."""

    def __init__(self, monkeypatch):
        self.paths, self.now, self.most = [], 0, 0
        real = composed.open_source

        def opening(spec: SourceSpec) -> Source:
            source = real(spec)
            self.paths.append(spec.path)
            self.now += 1
            self.most = max(self.most, self.now)
            close = source.close

            def closing() -> None:
                self.now -= 1
                close()

            monkeypatch.setattr(source, "close", closing)
            return source

        monkeypatch.setattr(composed, "open_source", opening)


def test_a_read_opens_what_it_meets_and_few_stay_open(tmp_path, monkeypatch):
    pixels = RNG.integers(0, 255, (4, 400), np.uint8)
    (spec,) = expand(image(*fields(tmp_path, pixels, 100)))
    opened = Opened(monkeypatch)
    with open_source(spec) as source:
        opened.paths.clear()
        np.testing.assert_array_equal(
            source.read(0, [0], Box((0, 0, 202), (1, 4, 210)))[0, 0], pixels[:, 202:210]
        )
        assert [path.rpartition("/")[2] for path in opened.paths] == ["50.tif", "51.tif", "52.tif"]
        np.testing.assert_array_equal(whole(source)[0, 0, 0], pixels)
    assert opened.most <= composed.OPEN_PARTS + 1  # one is opened before another is closed
    assert opened.now == 0


def test_of_large_parts_fewer_stay_open(tmp_path, monkeypatch):
    pixels = RNG.integers(0, 255, (4, 400), np.uint8)
    (spec,) = expand(image(*fields(tmp_path, pixels, 100)))
    monkeypatch.setattr(composed, "OPEN_BYTES", 16 * 6)  # a part has 16 bytes
    opened = Opened(monkeypatch)
    with open_source(spec) as source:
        np.testing.assert_array_equal(whole(source)[0, 0, 0], pixels)
    assert opened.most == 6 + 1
    assert composed.open_parts(spec, 1) == (6, 16)
    assert composed.open_parts(spec, 8) == (composed.FEWEST_OPEN, 128)


def test_a_damaged_part_damages_only_reads_that_meet_it(tmp_path):
    pixels = RNG.integers(0, 255, (8, 40), np.uint8)
    parts = fields(tmp_path, pixels, 4)
    (spec,) = expand(image(*parts))
    (tmp_path / "0.tif").unlink()
    tifffile.imwrite(tmp_path / "2.tif", np.zeros((8, 7), np.uint8))
    with open_source(spec) as source:
        for k in (1, 3):
            box = Box((0, 0, 10 * k), (1, 8, 10 * k + 10))
            np.testing.assert_array_equal(
                source.read(0, [0], box)[0, 0], pixels[:, 10 * k : 10 * k + 10]
            )
        with pytest.raises(UnreadableError, match=r"0\.tif"):
            source.read(0, [0], Box((0, 0, 0), (1, 8, 11)))
        with pytest.raises(DamageError, match=r"2\.tif.*\(1, 1, 1, 8, 7\)"):
            source.read(0, [0], Box((0, 0, 25), (1, 8, 40)))


def test_what_an_earlier_part_covers_is_not_read(tmp_path):
    over = part(tmp_path / "over.tif", np.full((6, 6), 7, np.uint8))
    under = part(tmp_path / "under.tif", np.full((6, 6), 9, np.uint8), (0, 0, 0, 2, 2))
    (spec,) = expand(image(over, under))
    (tmp_path / "under.tif").unlink()
    with open_source(spec) as source:
        assert (source.read(0, [0], Box((0, 1, 1), (1, 6, 6))) == 7).all()


def test_the_fingerprint_is_that_of_all_parts_and_places(tmp_path):
    parts = fields(tmp_path, RNG.integers(0, 255, (8, 40), np.uint8), 2)

    def found(*given):
        with open_source(image(*given)) as source:
            return source.fingerprint()

    before = found(*parts)
    assert found(*parts) == before
    assert found(parts[0], replace(parts[1], offset=(0, 0, 0, 0, 21))) != before
    tifffile.imwrite(tmp_path / "1.tif", np.ones((8, 20), np.uint8), metadata={"axes": "YX"})
    assert found(*parts) != before


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"pixels": np.zeros((4, 4), np.uint16)},
            r"b\.tif: its type of pixels is uint16, but uint8 in",
        ),
        ({"channels": ("GFP",)}, r"b\.tif: its name of channel 0 is 'GFP', but '0' in .*a\.tif"),
        ({"along": "c", "pixels": np.zeros((4, 5), np.uint8)}, r"b\.tif: its size .*4, 5\), but"),
        (
            {"along": "z", "pixels": np.zeros((3, 4, 4), np.uint8), "axes": "ZYX"},
            r"b\.tif: holds 3 planes, but its name stands for one of them",
        ),
    ],
)
def test_parts_that_differ_are_named(tmp_path, other, message):
    first = part(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    given = {"pixels": np.zeros((4, 4), np.uint8), **other}
    second = part(tmp_path / "b.tif", given.pop("pixels"), (0, 0, 0, 0, 4), **given)
    with pytest.raises(UnreadableError, match=message):
        expand(image(first, second))


def test_pixel_sizes_that_differ_are_named(tmp_path):
    parts = []
    for name, size in (("a", 0.5), ("b", 0.6)):
        path = tmp_path / f"{name}.ome.tif"
        told = {"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeY": 0.5}
        tifffile.imwrite(path, np.zeros((4, 4), np.uint8), metadata=told)
        parts.append(Part(SourceSpec("tiff", str(path), name)))
    with pytest.raises(UnreadableError, match=r"b\.ome\.tif: its pixel size along x is 0\.6 um"):
        expand(image(*parts))


def stitched(parts, **layout):
    (spec,) = expand(image(*parts, layout=Layout(**layout)))
    return [one.offset[-2:] for one in spec.parts]


def test_fields_without_positions_lie_on_a_grid(tmp_path):
    parts = [part(tmp_path / f"{k}.tif", np.zeros((10, 20), np.uint8)) for k in range(4)]
    assert stitched(parts, columns=2) == [(0, 0), (0, 20), (10, 0), (10, 20)]
    assert stitched(parts, columns=2, snake=True) == [(0, 0), (0, 20), (10, 20), (10, 0)]
    assert stitched(parts, columns=3, overlap_px=4) == [(0, 0), (0, 16), (0, 32), (6, 0)]
    # A field that is missing leaves its place empty.
    assert stitched(parts[:3], columns=2, cells=(0, 1, 3)) == [(0, 0), (0, 20), (10, 20)]
    with pytest.raises(UnreadableError, match=r"do not say where they lie.*grid: \{columns: 2\}"):
        stitched(parts)
    with pytest.raises(UnreadableError, match="overlap by less"):
        stitched(parts, columns=2, overlap_px=10)
