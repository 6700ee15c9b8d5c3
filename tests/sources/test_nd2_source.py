"""Nikon ND2: loops in any order, stage positions, lost frames; the oracle of pixels is nd2."""

from __future__ import annotations

import nd2
import numpy as np
import pytest
from nd2_writer import write_nd2

from pipeline.box import Box
from pipeline.errors import DamageError, UnreadableError
from pipeline.sources import nd2_frames
from pipeline.sources.archive import expand
from pipeline.sources.base import SourceSpec, open_source
from pipeline.sources.file_bytes import FileBytes


def pixels(shape, dtype="uint16"):
    return np.random.default_rng(6).integers(0, 250, shape).astype(dtype)


def five(stored, axes):
    """(T, C, Z, Y, X) of an image of axes (*axes, Y, X, C) without P."""
    sizes = dict(zip(axes, stored.shape, strict=False))
    *_, height, width, channels = stored.shape
    t, z = sizes.get("T", 1), sizes.get("Z", 1)
    if axes == "ZT":
        stored = stored.swapaxes(0, 1)
    return stored.reshape(t, z, height, width, channels).transpose(0, 4, 1, 2, 3)


def listed(path):
    return expand(SourceSpec("nd2", str(path), path.stem))


@pytest.mark.parametrize("axes", ["", "T", "Z", "TZ", "ZT"])
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("padding", [0, 6])
def test_any_order_of_loops(tmp_path, open_path, same, axes, compressed, padding):
    sizes = {"T": 3, "Z": 4}
    stored = pixels([*(sizes[a] for a in axes), 17, 19, 3])
    write_nd2(tmp_path / "a.nd2", stored, axes, compressed, padding)
    with nd2.ND2File(tmp_path / "a.nd2") as oracle:
        want = np.moveaxis(stored, -1, -3)
        np.testing.assert_array_equal(oracle.asarray().reshape(want.shape), want)
    with open_path(tmp_path / "a.nd2") as source:
        same(source, five(stored, axes))
        assert source.info.chunks == (1, 3, 1, 17 if compressed else 1, 19)
        assert set(source.info.axes) == set(axes.lower()) | set("cyx")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_pixel_types(tmp_path, open_path, same, dtype):
    stored = pixels((9, 8, 1), dtype)
    write_nd2(tmp_path / "a.nd2", stored)
    with open_path(tmp_path / "a.nd2") as source:
        same(source, five(stored, ""))
        assert source.info.axes == "yx"


def test_one_channel_in_colour(tmp_path, open_path, same):
    stored = pixels((9, 8, 3), "uint8")
    write_nd2(tmp_path / "a.nd2", stored, colour=True)
    with open_path(tmp_path / "a.nd2") as source:
        same(source, five(stored, ""))
        assert source.info.channels == ("red", "green", "blue")


@pytest.mark.parametrize("axes", ["TPZ", "PTZ"])
def test_stage_positions_become_images(tmp_path, same, axes):
    sizes = {"T": 2, "P": 3, "Z": 2}
    stored = pixels([*(sizes[a] for a in axes), 7, 8, 2])
    path = tmp_path / "a.nd2"
    places = ((1.0, 2.0, 3.0), (1.5, 20.0, 30.0), (2.0, -2.0, -3.0))
    write_nd2(path, stored, axes, names=("well 1", "well 2", "B/3"), places=places)
    specs = listed(path)
    assert [spec.name for spec in specs] == ["a_well 1", "a_well 2", "a_B-3"]
    by_position = stored.swapaxes(0, 1) if axes == "TPZ" else stored
    for spec, want, place in zip(specs, by_position, places, strict=True):
        with open_source(spec) as source:
            same(source, five(want, "TZ"))
            assert source.info.origin_um == place
    with pytest.raises(UnreadableError, match="holds 3 images"):
        open_source(SourceSpec("nd2", str(path), "a"))


def test_positions_without_names_are_numbered(tmp_path):
    write_nd2(tmp_path / "a.nd2", pixels((2, 4, 4, 1)), "P")
    assert [spec.name for spec in listed(tmp_path / "a.nd2")] == ["a_s0", "a_s1"]


def test_what_the_metadata_say(tmp_path, open_path):
    write_nd2(tmp_path / "a.nd2", pixels((2, 3, 5, 5, 2)), "TZ", steps={"T": 2.5, "Z": 0.75})
    with open_path(tmp_path / "a.nd2") as source:
        info = source.info
    assert info.channels == ("c0", "c1")
    assert info.pixel_size_um == (0.75, 0.25, 0.25)
    assert info.time_step_s == 2.5
    assert info.origin_um[1:] == (12.0, 11.0)


def test_a_compressed_frame_is_unpacked_once(tmp_path, open_path, monkeypatch):
    write_nd2(tmp_path / "a.nd2", pixels((2, 16, 16, 2)), "Z", compressed=True)
    unpacked, unpack = [], nd2_frames.Frames.unpacked
    monkeypatch.setattr(
        nd2_frames.Frames, "unpacked", lambda self, n: (unpacked.append(n), unpack(self, n))[1]
    )
    with open_path(tmp_path / "a.nd2") as source:
        for y in (0, 4, 8):
            source.read(0, [0, 1], Box((0, y, 0), (2, y + 4, 9)))
    assert unpacked == [0, 1]


def test_lost_frames_are_damage_or_zeros(tmp_path, open_path, same):
    stored = pixels((3, 6, 7, 1))
    write_nd2(tmp_path / "a.nd2", stored, "T", lost=(1,))
    with pytest.raises(DamageError, match=r"1 of 3 frames.*the first is frame 1"):
        open_path(tmp_path / "a.nd2")
    stored[1] = 0
    with open_path(tmp_path / "a.nd2", missing="fill") as source:
        same(source, five(stored, "T"))


def test_a_position_that_was_not_reached_does_not_harm_the_others(tmp_path, same):
    stored = pixels((3, 6, 7, 1))
    write_nd2(tmp_path / "a.nd2", stored, "P", lost=(2,))
    first, _, third = listed(tmp_path / "a.nd2")
    with open_source(first) as source:
        same(source, five(stored[0], ""))
    with pytest.raises(DamageError, match="1 of 1 frames"):
        open_source(third)


@pytest.mark.parametrize("left", [2, 30, 5000, -1, -50])
def test_a_cut_file_is_refused(tmp_path, open_path, left):
    path = tmp_path / "a.nd2"
    write_nd2(path, pixels((2, 64, 64, 1)), "T")
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises((DamageError, UnreadableError)):
        open_path(path)
    with pytest.raises((DamageError, UnreadableError)):
        listed(path)


def test_damaged_frames_are_named(tmp_path, open_path):
    path = tmp_path / "a.nd2"
    write_nd2(path, pixels((2, 64, 64, 1)), "T", compressed=True)
    data = bytearray(path.read_bytes())
    at = data.index(b"ImageDataSeq|1!")
    data[at + 4096 : at + 5000] = bytes(904)
    path.write_bytes(data)
    with open_path(path) as source:
        source.read(0, [0], Box.whole((1, 64, 64)))
        with pytest.raises(DamageError, match="frame 1"):
            source.read(1, [0], Box.whole((1, 64, 64)))
    data[at - 16] ^= 1  # the chunk's magic
    path.write_bytes(data)
    with open_path(path) as source, pytest.raises(DamageError, match="does not begin at byte"):
        source.read(1, [0], Box.whole((1, 64, 64)))


def test_old_and_other_files_are_refused(tmp_path, open_path):
    (tmp_path / "old.nd2").write_bytes(b"\x00\x00\x00\x0c" + b"jP  " * 20)
    with pytest.raises(UnreadableError, match="old kind"):
        open_path(tmp_path / "old.nd2")
    (tmp_path / "text.nd2").write_bytes(b"no microscope made this" * 9)
    with pytest.raises(UnreadableError, match="not an ND2"):
        open_path(tmp_path / "text.nd2")


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        (b"ImageDataSeq|1!", b"ImageDataSeq|h!", 'numbers a frame "h", which is no number'),
        (b"ImageDataSeq|0!", b"ImageDataSeq|0\xff", "which is no number"),
    ],
)
def test_a_damaged_map_is_damage(tmp_path, open_path, right, wrong, said):
    path = tmp_path / "a.nd2"
    write_nd2(path, pixels((2, 5, 6, 1)), "T")
    data = path.read_bytes()
    at = data.rindex(right)
    path.write_bytes(data[:at] + wrong + data[at + len(right) :])
    with pytest.raises(DamageError, match=said):
        open_path(path)


def test_a_place_that_no_file_has_is_damage(tmp_path):
    (tmp_path / "a").write_bytes(b"any")
    with pytest.raises(DamageError, match=r"its map is said to lie at byte \d+, which no file has"):
        FileBytes().read(str(tmp_path / "a"), 1 << 63, 4, "its map")
