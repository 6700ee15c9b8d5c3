"""Where pixels of a window lie in the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline import grid
from pipeline.box import Box
from pipeline.view import TileView


def inside_core(flat: NDArray[np.int64], window: Box, core: Box) -> NDArray[np.bool_]:
    """Which pixels, given by raster index in a window, lie in the core."""
    inside = np.ones(len(flat), np.bool_)
    local = core.relative_to(window.start)
    for position, a, b in zip(
        np.unravel_index(flat, window.shape), local.start, local.stop, strict=True
    ):
        inside &= (position >= a) & (position < b)
    return inside


def linear_indices(view: TileView, box: Box, flat: NDArray[np.int64]) -> NDArray[np.int64]:
    """Linear indices, among all frames, of pixels given by raster index in a box."""
    return grid.linear_indices(view.tile.frame, view.grid.shape, box, flat)


def flat_in_window(
    view: TileView, window: Box, linear: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Raster indices, in a window of the tile's frame, of those pixels that lie in it.

    Parameters
    ----------
    linear : ndarray of shape (n,), int64
        Linear indices among all frames.

    Returns
    -------
    flat : ndarray of shape (m,), int64
    inside : ndarray of shape (n,), bool
        Which m of the pixels these are.
    """
    shape = view.grid.shape
    frame, rest = np.divmod(linear, int(np.prod(shape)))
    place = np.stack(np.unravel_index(rest, shape), axis=1)
    inside = frame == view.tile.frame
    inside &= ((place >= np.array(window.start)) & (place < np.array(window.stop))).all(axis=1)
    local = place[inside] - np.array(window.start)
    return np.ravel_multi_index(tuple(local.T), window.shape).astype(np.int64), inside
