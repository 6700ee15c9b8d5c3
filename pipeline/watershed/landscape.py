"""The landscape that is flooded: altitudes and, upside down, the heights of its peaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.foreground import ForegroundRule
from pipeline.kernels.components import components
from pipeline.kernels.distance import distance_steps, squared_distance
from pipeline.kernels.ordering import Heights, grey_heights
from pipeline.kernels.smoothing import radius_px, smooth_within
from pipeline.methods.base import State
from pipeline.view import TileView


@dataclass(frozen=True, slots=True)
class Landscape:
    """How altitude follows from the image.

    Parameters
    ----------
    foreground : ForegroundRule
        Which pixels may be flooded, and whether objects are bright or dark.
    masked : bool
        False: all finite pixels are flooded.
    kind : {"distance", "intensity"}
        Height is the distance to the background, or the grey value.
    smooth_px : float
        Standard deviation of the smoothing of distances within an object.
    min_distance_px : int
        Two peaks of a component are farther apart than this (Chebyshev).
    max_distance_px : int
        Distances count up to here.
    connectivity : int
    """

    foreground: ForegroundRule
    masked: bool
    kind: Literal["distance", "intensity"]
    smooth_px: float
    min_distance_px: int
    max_distance_px: int
    connectivity: int

    def regions(self, view: TileView, state: State, halo_px: int) -> NDArray[np.int32]:
        """Components of the floodable pixels of a window, numbered from 1, 0 outside."""
        image = view.image(halo_px)[0]
        valid = view.valid(halo_px)
        if self.masked:
            mask = self.foreground.of_pixels(image, valid, state)
        else:
            mask = np.ones(image.shape, np.bool_) if valid is None else valid
        labels, _ = components(mask, self.connectivity)
        return labels.view(np.int32)

    def heights(self, view: TileView, region: NDArray[np.int32], halo_px: int) -> Heights:
        """Heights of a window that holds the regions, or `support_px` around what counts.

        They are the caller's to overwrite. Distances are counted in 1/64 px, so that all
        arithmetic is in whole numbers.
        """
        if self.kind == "intensity":
            image = view.image(halo_px)[0]
            return grey_heights(image, self.foreground.objects)
        steps = distance_steps(squared_distance(region > 0, self.max_distance_px))
        return smooth_within(steps, region, self.smooth_px)

    @property
    def support_px(self) -> int:
        """How far away pixels can change a height, within one region."""
        if self.kind == "intensity":
            return 0
        return self.max_distance_px + (radius_px(self.smooth_px) if self.smooth_px else 0)

    @property
    def peak_px(self) -> int:
        """How far away pixels can forbid a peak."""
        return max(1, self.min_distance_px)
