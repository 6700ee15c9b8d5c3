"""What viewers are told to show."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.display import display_windows
from pipeline.image import ImageInfo
from pipeline.pyramid import Pyramid, open_level


def pyramid_of(pixels, folder, axes="tczyx"):
    t, c, z, y, x = pixels.shape
    info = ImageInfo(
        (t, c, z, y, x),
        pixels.dtype.name,
        axes,
        tuple(map(str, range(c))),
        (None,) * 3,
        None,
        (1, 1, 1, y, x),
    )
    pyramid = Pyramid(str(folder / "a.zarr"), "image", info, info.dtype, 2, 1)
    pyramid.create()
    keep = tuple(slice(None) if axis in axes else 0 for axis in "tczyx")
    open_level(pyramid.path, 0)[...] = pixels[keep]
    return pyramid


def test_each_channel_shows_its_own_values(tmp_path):
    pixels = np.zeros((2, 2, 3, 50, 40), "u2")
    pixels[0, 0, 1] = np.arange(2000).reshape(50, 40)
    pixels[0, 1, 1] = 7
    pixels[1], pixels[0, :, 0] = 60000, 50000
    first, second = display_windows(pyramid_of(pixels, tmp_path))
    assert first == pytest.approx({"min": 0, "max": 1999, "start": 1.999, "end": 1997.001})
    assert second == {"min": 7.0, "max": 8.0, "start": 7.0, "end": 8.0}


def test_a_few_bright_pixels_are_seen(tmp_path):
    pixels = np.zeros((1, 1, 1, 100, 100), "u1")
    pixels[..., 5, 5:8] = 200
    (window,) = display_windows(pyramid_of(pixels, tmp_path, "yx"))
    assert window == {"min": 0.0, "max": 200.0, "start": 0.0, "end": 200.0}


def test_what_is_not_finite_is_left_out(tmp_path):
    pixels = np.full((1, 2, 1, 4, 4), np.nan, "f4")
    pixels[0, 0, 0, 0] = [1, 2, 3, np.inf]
    first, second = display_windows(pyramid_of(pixels, tmp_path))
    assert (first["min"], first["max"]) == (1.0, 3.0)
    assert second == {"min": 0.0, "max": 1.0, "start": 0.0, "end": 1.0}
