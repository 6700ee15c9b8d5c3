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
#: Scratch: which pixels are segmented.
USABLE = "slic-usable"
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

    def first_look(self, view: TileView, state: State) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Unmapped features, (C, \\*window), and what is segmented, with a halo of 2 px.

        What takes long to find again is kept in scratch, with a ring of 1 px.
        """
        found = features(view, self.space, 2)
        if self.mask is not None:
            usable = self.mask.mask(view, state, 2)
        else:
            valid = view.valid(2)
            usable = np.ones(found.shape[1:], np.bool_) if valid is None else valid
        inside = view.window(1).within(view.window(2))
        if self.space == "lab":
            for channel, one in enumerate(found):
                view.scratch.put(_name(channel), view.tile.number, self.mapped(one[inside], state))
        if self.mask is not None:
            view.scratch.put(USABLE, view.tile.number, usable[inside].view(np.uint8))
        return found, usable

    def of(self, view: TileView, state: State, halo_px: int) -> NDArray[np.float32]:
        """Colours of a window, (C, \\*window), with a halo of 0 or 1 px."""
        if self.space == "raw":
            return self.mapped(view.image(halo_px), state)
        return np.stack([_kept(view, _name(channel), halo_px) for channel in range(3)])

    def usable(self, view: TileView, halo_px: int) -> NDArray[np.bool_] | None:
        """Pixels of a window that are segmented, with a halo of 0 or 1 px; None for all."""
        if self.mask is None:
            return view.valid(halo_px)
        return _kept(view, USABLE, halo_px).astype(np.bool_)

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


def _name(channel: int) -> str:
    return f"slic-color-{channel}"


def _kept(view: TileView, name: str, halo_px: int) -> NDArray[Any]:
    """An array of scratch, which has a ring of 1 px, cut to a window."""
    kept: NDArray[Any] = view.scratch.get(name, view.tile.number)
    return kept[view.window(halo_px).within(view.window(1))]
