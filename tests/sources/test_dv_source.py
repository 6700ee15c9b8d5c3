"""DeltaVision: planes in any order, cut files refused; the oracle of pixels is mrc."""

from __future__ import annotations

import mrc
import numpy as np
import pytest
from dv_writer import KINDS, ORDERS, write_dv

from pipeline.errors import DamageError, UnreadableError


def stack(shape=(2, 3, 4, 19, 23), dtype="uint16"):
    rng = np.random.default_rng(3)
    return rng.integers(0, 100, shape).astype(dtype)


@pytest.mark.parametrize("sequence", ORDERS)
@pytest.mark.parametrize("byteorder", "<>")
def test_any_order_of_planes_and_bytes(tmp_path, open_path, same, sequence, byteorder):
    image = stack()
    write_dv(tmp_path / "a.dv", image, sequence, byteorder=byteorder)
    with mrc.DVFile(tmp_path / "a.dv") as oracle:
        got = oracle.asarray(squeeze=False)
        np.testing.assert_array_equal(got.transpose([oracle.axes.index(a) for a in "TCZYX"]), image)
    with open_path(tmp_path / "a.dv") as source:
        same(source, image)
        assert source.info.axes == "tczyx"


@pytest.mark.parametrize("dtype", KINDS)
def test_pixel_types(tmp_path, open_path, same, dtype):
    image = stack((1, 1, 1, 9, 11), dtype)
    write_dv(tmp_path / "a.r3d", image)
    with open_path(tmp_path / "a.r3d") as source:
        same(source, image)
        assert source.info.axes == "yx"


def test_what_the_headers_say(tmp_path, open_path):
    write_dv(tmp_path / "a.dv", stack(), stage=(3.0, -20.5, 100.25), step_s=2.5)
    with open_path(tmp_path / "a.dv") as source:
        info = source.info
    assert info.channels == ("525", "605", "2")
    assert info.pixel_size_um == pytest.approx((0.3, 0.2, 0.1))
    assert info.time_step_s == 2.5
    assert info.origin_um == (3.0, -20.5, 100.25)
    assert info.chunks == (1, 1, 1, 1, 23)


@pytest.mark.parametrize("left", [100, 1024, 2000, -1])
def test_a_cut_file_is_refused(tmp_path, open_path, left):
    path = tmp_path / "a.dv"
    write_dv(path, stack())
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DamageError, match="is cut off"):
        open_path(path)


def test_other_files_are_refused(tmp_path, open_path):
    (tmp_path / "a.dv").write_bytes(b"x" * 5000)
    with pytest.raises(UnreadableError, match="0xC0A0"):
        open_path(tmp_path / "a.dv")


def test_sections_that_are_no_stack_are_refused(tmp_path, open_path):
    path = tmp_path / "a.dv"
    write_dv(path, stack((1, 2, 3, 8, 8)))
    data = bytearray(path.read_bytes())
    data[8] = 5  # sections
    path.write_bytes(data)
    with pytest.raises(UnreadableError, match="5 sections are no stack"):
        open_path(path)
