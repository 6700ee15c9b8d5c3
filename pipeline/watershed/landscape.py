"""The landscape that is flooded: altitudes and, upside down, the heights of its peaks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.gradient import gradient_magnitude
from pipeline.kernels.components import components
from pipeline.kernels.distance import distance_steps, metric_of, squared_distance
from pipeline.kernels.ordering import Heights, grey_heights
from pipeline.kernels.peaks import Distance
from pipeline.kernels.smoothing import radius_px, smooth_within
from pipeline.lengths import per_axis
from pipeline.methods.base import State
from pipeline.methods.classifier import Classifier
from pipeline.view import TileView
from pipeline.watershed.cells import ways_to_middles
from pipeline.watershed.markers import (
    FILE,
    EarlierLabelMarkers,
    GridMarkers,
    Marked,
    Markers,
    marked_in_window,
)

Kind = Literal["distance", "intensity", "gradient", "objectness"]

#: Distances are counted in steps of this part of a px.
STEPS_PER_PX = 64


@dataclass(frozen=True, slots=True)
class Landscape:
    """How altitude follows from the image.

    Parameters
    ----------
    foreground : Classifier
        Which pixels may be flooded, and whether objects are bright or dark.
    masked : bool
        False: all finite pixels are flooded.
    kind : {"distance", "intensity", "gradient", "objectness"}
        Height is the distance to the background, the grey value, how flat the image is, or what the
        foreground's method says, see `Classifier.objectness`.
    smooth_px : float or tuple of float
        Standard deviation of the smoothing of distances within an object.
    markers : Markers
        Where the flood begins.
    min_distance_px : int or tuple of int
        Two peaks of a component are farther apart than this (Chebyshev).
    max_distance_px : int
        Distances count up to here.
    connectivity : int
    spacing : tuple of float or None
        Sides of a voxel; a px of distances is then the shortest of them.
    """

    foreground: Classifier
    masked: bool
    kind: Kind
    smooth_px: float | tuple[float, ...]
    markers: Markers
    min_distance_px: Distance
    max_distance_px: int
    connectivity: int
    spacing: tuple[float, ...] | None = None

    def marked(
        self, view: TileView, halo_px: int, heights: Heights, region: NDArray[np.int32]
    ) -> Marked:
        """Markers of the regions that a window holds whole."""
        return marked_in_window(
            self.height_markers,
            view,
            halo_px,
            heights,
            region,
            self.min_distance_px,
            self.connectivity,
        )

    @property
    def height_markers(self) -> Markers:
        """The markers, with their values as heights of this landscape."""
        if self.kind == "distance":
            return self.markers.scaled(STEPS_PER_PX)
        grey = self.kind == "intensity" and not self.foreground.dark_objects()
        is_upright = grey or self.kind == "objectness"
        return self.markers.scaled(1 if is_upright else -1)

    def regions(self, view: TileView, state: State, halo_px: int) -> NDArray[np.int32]:
        """Components of the floodable pixels of a window, numbered from 1, 0 outside."""
        if self.masked:
            mask = self.foreground.mask(view, state, halo_px)
        else:
            valid = view.valid(halo_px)
            mask = np.ones(view.window(halo_px).shape, np.bool_) if valid is None else valid
        if isinstance(self.markers, EarlierLabelMarkers):
            mask = mask | (view.companion_labels(FILE, view.window(halo_px)) > 0)
        labels, _ = components(mask, self.connectivity)
        return labels.view(np.int32)

    def heights(self, view: TileView, region: NDArray[np.int32], halo_px: int) -> Heights:
        """Heights of a window that holds the regions, or `support_px` around what counts.

        They are the caller's to overwrite. Distances are counted in 1/64 px, so that all
        arithmetic is in whole numbers.
        """
        if self.kind == "objectness":
            return self.foreground.objectness(view, halo_px)
        if self.kind == "intensity":
            image = view.image(halo_px)[0]
            return grey_heights(image, "dark" if self.foreground.dark_objects() else "bright")
        if self.kind == "gradient":
            steep = gradient_magnitude(view.image(halo_px + 1))
            cut = view.window(halo_px).within(view.window(halo_px + 1))
            return np.negative(steep[cut], order="C")
        metric = metric_of(self.spacing or (1.0,) * region.ndim, self.max_distance_px)
        squared = squared_distance(region > 0, self.max_distance_px, metric)
        steps = STEPS_PER_PX // math.isqrt(metric.parts)
        return smooth_within(distance_steps(squared, steps), region, self.smooth_px)

    def altitudes(self, view: TileView, heights: Heights, box: Box) -> Heights:
        """What is flooded: heights of a box upside down, raised away from the cells of a grid."""
        if not isinstance(self.markers, GridMarkers) or self.markers.compactness == 0:
            return np.negative(heights)
        raised = ways_to_middles(self.markers.lattice(view.grid.shape), box)
        raised *= self.markers.compactness
        raised -= heights
        return raised.astype(np.float32)

    @property
    def support_px(self) -> int:
        """How far away pixels can change a height, within one region."""
        if self.kind != "distance":
            return 0
        # A px is the shortest side of a voxel: along the others as many reach farther.
        return self.max_distance_px + radius_px(max(per_axis(self.smooth_px, 1)))

    @property
    def peak_px(self) -> int:
        """How far away pixels can forbid a peak."""
        return max(1, *per_axis(self.min_distance_px, 1))
