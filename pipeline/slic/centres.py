"""The centres of all clusters: how the state keeps them, and which of them a window needs.

Centres are numbered frame by frame, in each frame by the raster order of their seeds. The state
also lists them by the cell of the lattice in which they are now, so that a window looks only at
those that can reach it: there may be a million.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.lattice import Lattice
from pipeline.methods.base import State

#: Places (K, ndim) float64, absolute; colours (K, C) float32.
PLACES = "slic.places"
COLORS = "slic.colors"
#: Squared distance of colours that counts as much as a distance of S, (K,) float32; see `weights`.
SPREAD = "slic.spread"
#: Numbers of the centres cell by cell, (K,) int32, and where each cell begins, (K + 1,) int32.
ORDER = "slic.order"
STARTS = "slic.starts"
CENTRES = (PLACES, COLORS, SPREAD, ORDER, STARTS)
#: Memory of the state, without colours, in bytes a centre of a frame of `ndim` axes.
BYTES = {2: 28, 3: 36}


@dataclass(frozen=True)
class NearCentres:
    """The centres that a window needs, by number.

    Parameters
    ----------
    numbers : ndarray of shape (K,), int64
        Among all frames, ascending.
    places : ndarray of shape (K, 3), float64
        z, y, x.
    colors : ndarray of shape (K, C), float32
    weights : ndarray of shape (K,), float32
        1 / `SPREAD`.
    homes : ndarray of shape (\\*window), int32
        Where in this list the centre is in whose seed's cell a pixel lies.
    """

    numbers: NDArray[np.int64]
    places: NDArray[np.float64]
    colors: NDArray[np.float32]
    weights: NDArray[np.float32]
    homes: NDArray[np.int32]


def with_centres(
    lattice: Lattice,
    places: NDArray[np.float64],
    colors: NDArray[np.float32],
    spread: NDArray[np.float32],
) -> State:
    """The state's entries for centres."""
    frames = np.arange(len(places), dtype=np.int64) // lattice.cells
    cells = frames * lattice.cells + lattice.cells_of(places)
    starts = np.zeros(len(places) + 1, np.int32)
    np.cumsum(np.bincount(cells, minlength=len(places)), out=starts[1:])
    order = np.argsort(cells, kind="stable").astype(np.int32)
    return {PLACES: places, COLORS: colors, SPREAD: spread, ORDER: order, STARTS: starts}


def centres_near(state: State, lattice: Lattice, frame: int, window: Box) -> NearCentres:
    """Centres whose reach touches a window, and those of the cells that its pixels are in."""
    first = frame * lattice.cells
    homes, lengths = lattice.homes(window)
    runs, length = lattice.runs_near(window)
    begin, end = state[STARTS][first + runs], state[STARTS][first + runs + length]
    candidates = np.concatenate([state[ORDER][a:b] for a, b in zip(begin, end, strict=True)])
    places = state[PLACES][candidates]
    reach = lattice.reach_px[3 - window.ndim :] + 1
    low, high = np.array(window.start) - reach, np.array(window.stop) - 1 + reach
    inside = ((places >= low) & (places <= high)).all(axis=1)
    numbers = np.union1d(candidates[inside], homes + first)
    local = np.searchsorted(numbers, homes + first).astype(np.int32)
    for axis in reversed(range(window.ndim)):
        local = np.repeat(local, lengths[axis], axis)
    padded = np.zeros((len(numbers), 3))
    padded[:, 3 - window.ndim :] = state[PLACES][numbers]
    return NearCentres(
        numbers,
        padded,
        state[COLORS][numbers],
        weights(state[SPREAD][numbers]),
        local,
    )


def weights(spread: NDArray[np.float32]) -> NDArray[np.float32]:
    """What squared distances of colours are multiplied with."""
    return (1.0 / spread.astype(np.float64)).astype(np.float32)
