"""Labels that lie near each other."""

from __future__ import annotations

import itertools

import numpy as np
from numba import njit
from numpy.typing import NDArray

Labels = NDArray[np.uint32]
Longs = NDArray[np.int64]


def ball_steps(halo: tuple[int, int, int], radius: float) -> Longs:
    """Steps of at most `radius` px, within `halo`.

    Returns
    -------
    ndarray of shape (n, 3), int64
        dz, dy, dx; the nearest first.
    """
    ranges = [range(-h, h + 1) for h in halo]
    steps = [(sum(i * i for i in s), s) for s in itertools.product(*ranges)]
    return np.array([s for square, s in sorted(steps) if 0 < square <= radius * radius], np.int64)


def near_pairs(labels: Labels, halo: tuple[int, int, int], steps: Longs) -> Longs:
    """Pairs of labels of which pixels are one of the steps apart.

    Parameters
    ----------
    labels : ndarray of shape (Z, Y, X), uint32
        A window whose halo holds the steps.

    Returns
    -------
    ndarray of shape (n, 2), int64
        Label of a pixel of the core, and the other one; each pair once, in order.
    """
    flat = np.sort(_near_pairs(labels, *halo, steps))
    return np.stack([flat >> 32, flat & 0xFFFFFFFF], axis=1)


@njit(cache=True, nogil=True)
def _near_pairs(labels: Labels, hz: int, hy: int, hx: int, steps: Longs) -> Longs:
    planes, rows, columns = labels.shape
    found = {np.int64(0)}
    for z in range(hz, planes - hz):
        for y in range(hy, rows - hy):
            for x in range(hx, columns - hx):
                own = labels[z, y, x]
                # The nearest pixel of another label is seen from a border pixel.
                if own == 0 or (
                    (hz == 0 or labels[z - 1, y, x] == own)
                    and (hz == 0 or labels[z + 1, y, x] == own)
                    and labels[z, y - 1, x] == own
                    and labels[z, y + 1, x] == own
                    and labels[z, y, x - 1] == own
                    and labels[z, y, x + 1] == own
                ):
                    continue
                last = np.uint32(0)
                for k in range(len(steps)):
                    other = labels[z + steps[k, 0], y + steps[k, 1], x + steps[k, 2]]
                    if other != 0 and other != own and other != last:
                        last = other
                        found.add((np.int64(own) << 32) | np.int64(other))
    found.remove(np.int64(0))
    flat = np.empty(len(found), np.int64)
    for place, code in enumerate(found):
        flat[place] = code
    return flat
