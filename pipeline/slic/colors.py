"""Colours as superpixels compare them, and which pixels belong to any.

Raw values are mapped so that the range of the whole image becomes 0 to 100, as wide as L* is, so
that `compactness` means the same for all images. All are rounded to steps of 2^-14 within +-1024:
they fit a float32 exactly, and their sums are sums of integers, below 2^63 for 5 * 10^11 px a
cluster.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.features import ColorSpace, features
from pipeline.kernels.slic import scaled_colors
from pipeline.methods.base import State
from pipeline.methods.classifier import Classifier
from pipeline.view import TileView

#: Smallest and largest value of the pixels that are segmented, (2,) float64, in the state.
VALUES = "slic.values"
#: The range of raw values is mapped to 0 .. this.
FULL = 100.0


@dataclass(frozen=True)
class Colors:
    """What is compared.

    Parameters
    ----------
    space : {"raw", "lab"}
    value_range : tuple of float, optional
        Raw values that become 0 and 100; by default those of the whole image.
    mask : Classifier, optional
        Gives the pixels that are segmented.
    """

    space: ColorSpace
    value_range: tuple[float, float] | None
    mask: Classifier | None

    def usable(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.bool_] | None:
        """Pixels of a window that are segmented; None for all."""
        if self.mask is None:
            return view.valid(halo_px)
        return self.mask.mask(view, state, halo_px)

    def raw(self, view: TileView, halo_px: int = 0) -> NDArray[Any]:
        """Features of a window before they are mapped, (C, \\*window)."""
        return features(view, self.space, halo_px)

    def mapped(self, found: NDArray[Any], state: State) -> NDArray[np.float32]:
        """Map features, of any shape."""
        low, factor = self._mapping(state)
        out = np.empty(found.shape, np.float32)
        flat = np.require(found, None, ["C", "W"]).reshape(-1)
        scaled_colors(flat, low, factor, out.reshape(-1))
        return out

    def _mapping(self, state: State) -> tuple[float, float]:
        if self.space == "lab":
            return 0.0, 1.0
        low, high = (float(value) for value in self.value_range or state[VALUES])
        span = high - low
        # One value, or none, has no contrast; neither has what no double can hold.
        factor = FULL / span if 0 < span < math.inf else 0.0
        return (low, factor) if 0 < factor < math.inf else (0.0, 0.0)
