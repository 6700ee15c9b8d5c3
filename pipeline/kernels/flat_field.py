"""Dividing by a profile that is given at few points, each pixel by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def correct_plane(
    plane: NDArray[Any],
    flat: NDArray[np.float32],
    dark: NDArray[np.float32],
    origin: tuple[int, int],
    frame: tuple[int, int],
    corrected: NDArray[np.float32],
) -> None:
    """Write (plane - dark) / flat of the pixels (Y, X) that begin at `origin` of a frame.

    The profile's points (H, W) are the middles of H x W equal parts of the frame; between them it
    is bilinear, beyond the outer ones constant. All is 64 bits and depends on a pixel's place in
    the frame alone.
    """
    height, width = flat.shape
    for y in range(plane.shape[0]):
        v = (origin[0] + y + 0.5) * height / frame[0] - 0.5
        v = min(max(v, 0.0), height - 1.0)
        top = min(int(v), max(height - 2, 0))
        low = min(top + 1, height - 1)
        b = v - top
        for x in range(plane.shape[1]):
            u = (origin[1] + x + 0.5) * width / frame[1] - 0.5
            u = min(max(u, 0.0), width - 1.0)
            left = min(int(u), max(width - 2, 0))
            right = min(left + 1, width - 1)
            a = u - left
            gain = (1 - b) * ((1 - a) * flat[top, left] + a * flat[top, right]) + b * (
                (1 - a) * flat[low, left] + a * flat[low, right]
            )
            offset = (1 - b) * ((1 - a) * dark[top, left] + a * dark[top, right]) + b * (
                (1 - a) * dark[low, left] + a * dark[low, right]
            )
            corrected[y, x] = (np.float64(plane[y, x]) - offset) / gain
