"""Boundary F1: which borders have a border of the other side near them.

A border is a pixel of an object with a face neighbour of another number (as `find_boundaries` of
scikit-image gives it, mode "inner"); the image's edge is none. It is near if a border of the other
side lies at most a tolerance away, by Euclid. Precision is the share of borders of the labels that
are near those of truth, recall the reverse; both are counts of pixels, so tiles add up.

References
----------
Csurka, Larlus, Perronnin, What is a good evaluation measure for semantic segmentation?, BMVC 2013,
doi:10.5244/C.27.32
Martin, Fowlkes, Malik, Learning to detect natural image boundaries using local brightness, color,
and texture cues, TPAMI 26 (2004), doi:10.1109/TPAMI.2004.1273918
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.kernels.distance import squared_distance

Mask = NDArray[np.bool_]

#: Names of the counts, in their order.
COUNTS = ("border_labels", "border_labels_near", "border_truth", "border_truth_near")
#: What the borders of all objects together are called where classes have their names.
OBJECTS = "objects"
#: The largest tolerance, px: a tile is read with as much around it.
MOST_TOLERANCE_PX = 64


def halo_px(tolerance_px: int) -> int:
    """What a tile is read with on every side: a border is told by its neighbours."""
    return tolerance_px + 1


def borders(numbers: NDArray[Any], judged: Mask | None = None) -> Mask:
    """Pixels of an object with a face neighbour of another number.

    Parameters
    ----------
    numbers : ndarray of shape (Y, X) or (Z, Y, X), integer or bool
        0 is background.
    judged : ndarray of the same shape, bool, optional
        Only two pixels that are judged make a border.
    """
    found = np.zeros(numbers.shape, bool)
    for axis in range(numbers.ndim):
        before = (slice(None),) * axis + (slice(None, -1),)
        after = (slice(None),) * axis + (slice(1, None),)
        apart = numbers[before] != numbers[after]
        if judged is not None:
            apart &= judged[before] & judged[after]
        found[before] |= apart
        found[after] |= apart
    found &= numbers != 0
    return found


def count_borders(
    truth: NDArray[Any],
    labels: NDArray[Any],
    core: tuple[slice, ...],
    tolerance_px: int,
    judged: Mask | None = None,
) -> NDArray[np.int64]:
    """Count the borders in the core of a window.

    Parameters
    ----------
    truth, labels : ndarray of shape (Y, X) or (Z, Y, X), integer or bool
        The core and `halo_px` around it, less where the image ends.
    core : tuple of slice
        The core in the window.
    tolerance_px : int
        0 to `MOST_TOLERANCE_PX`.
    judged : ndarray of the same shape, bool, optional

    Returns
    -------
    ndarray of shape (4,), int64
        `COUNTS`, px.
    """
    wanted, found = borders(truth, judged), borders(labels, judged)
    return np.array(
        [
            np.count_nonzero(found[core]),
            np.count_nonzero((found & _near(wanted, tolerance_px))[core]),
            np.count_nonzero(wanted[core]),
            np.count_nonzero((wanted & _near(found, tolerance_px))[core]),
        ],
        np.int64,
    )


def _near(mask: Mask, tolerance_px: int) -> Mask:
    """Pixels at most `tolerance_px` away from the mask."""
    if not tolerance_px or not mask.any():
        return mask
    return squared_distance(~mask, tolerance_px + 1) <= tolerance_px**2
