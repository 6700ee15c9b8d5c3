"""Marker-controlled watershed.

1. survey     what the foreground needs to know of the whole image, if anything
2. flood      the components that a window around each core holds whole: usually all of them
3. regions    \\
4. markers     |  only for components that no window holds: their markers as a whole, keys relaxed
5. relax ...   |  from tile to tile until no face changes, roots followed across tiles
6. resolve    /
7. join, cut  lines between the objects, if they are wanted
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline.lengths import Frame, Length, Lengths
from pipeline.lines import lines_round
from pipeline.methods.base import Context, Method, Round, State
from pipeline.methods.checks import check_connectivity, check_single_channel, check_spacing, or_full
from pipeline.methods.masks import ObjectMask
from pipeline.methods.threshold import Threshold
from pipeline.watershed.flood import FLOODED, MARGIN_PX, OPEN_TILE, FloodWindows
from pipeline.watershed.landscape import Kind, Landscape
from pipeline.watershed.markers import (
    FILE,
    AnyMarkers,
    EarlierLabelMarkers,
    GridMarkers,
    PeakMarkers,
    ZoneMarkers,
)
from pipeline.watershed.open import REGIONS_MARKED, MarkRegions, open_tiles
from pipeline.watershed.open_markers import markers_round
from pipeline.watershed.relax import RESOLVED, Relax, Resolve

Apart = Annotated[int, Field(ge=0, le=200)]
Smoothing = Annotated[float, Field(ge=0, le=50)]


class Watershed(Method):
    """Split touching objects where the flood from their markers meets.

    `foreground`: which pixels are flooded, and whether objects are bright or dark: a threshold, as
    the method `threshold` has it, or any classifying method with its parameters, such as `{method:
    kmeans, k: 3, object_classes: [3]}`. `masked`: false floods every finite pixel. `landscape`:
    "distance" floods from the middle of each object (distance to the background), "intensity" from
    its brightest (or darkest) spot, "gradient" from where the image is flat up to its edges,
    "objectness" from where the network of `foreground` is surest of an object's middle. `markers`:
    where the flood begins: `{from: peaks}` of the landscape, `{from: threshold, value}`, `{from:
    h_minima, h}`, `{from: grid, size_px, compactness}` for superpixels, or given beside the image
    by `{from: points, file}` or `{from: labels, file}`, or objects that the recipe has made before
    by `{from: label, label}`. `min_distance_px`: peaks of one component are farther apart than this
    (largest coordinate difference); the highest wins, then the first in raster order. `smooth_px`:
    standard deviation of the smoothing of distances within a component; grey values are smoothed by
    `preprocess`. `max_distance_px`: distances count up to here.
    `min_distance_um`, `smooth_um`, `max_distance_um`: the same in um. `spacing`: sides of a voxel,
    z, y, x, or "auto" for the image's own. Distances are then those in the specimen, in px of the
    shortest side; a length in um makes it "auto". `lines`: leave a line of background between
    objects. `connectivity`: 4 or 8 in 2D; 6, 18 or 26 in 3D; by default 8 and 26.

    Exact for any tiling: see `pipeline.kernels.flood` for the definition and its ties.

    References
    ----------
    Meyer, Topographic distance and watershed lines, 1994, doi:10.1016/0165-1684(94)90060-4
    """

    method: Literal["watershed"]
    foreground: ObjectMask = Threshold(method="threshold")
    masked: bool = True
    landscape: Kind = "distance"
    markers: AnyMarkers = PeakMarkers()
    min_distance_px: Apart | tuple[Apart, ...] = 5
    smooth_px: Smoothing | tuple[Smoothing, ...] = 1.0
    max_distance_px: int = Field(default=256, ge=1, le=2000)
    min_distance_um: float | None = Field(default=None, ge=0)
    smooth_um: float | None = Field(default=None, ge=0)
    max_distance_um: float | None = Field(default=None, gt=0)
    spacing: Literal["auto"] | tuple[Annotated[float, Field(ge=1e-6, le=1e6)], ...] | None = None
    lines: bool = False
    connectivity: Literal[4, 8, 6, 18, 26] | None = None

    lengths: ClassVar[Lengths] = {
        "min_distance_um": Length("min_distance_px", "steps"),
        "smooth_um": Length("smooth_px", "along"),
        "max_distance_um": Length("max_distance_px", "finest whole"),
    }

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        if self.landscape != "distance":
            self._check_no_distances()
        if not self.masked and self.landscape == "distance":
            raise ValueError(
                "without a mask there is no background to take distances to; "
                "use `landscape: intensity`, `gradient` or `masked: true`"
            )
        if self.landscape == "objectness" and not self.foreground.tells_objectness:
            raise ValueError(
                "`landscape: objectness` is what a network tells; "
                "use `foreground: {method: network, model: ...}`"
            )
        if self.landscape == "distance" and isinstance(self.markers, GridMarkers):
            raise ValueError(
                "markers of a grid make superpixels, and distances have no edges for them to "
                "follow; use `landscape: gradient` or `intensity`"
            )
        spacing = type(self).model_fields["min_distance_px"].default
        spaced = self.min_distance_px != spacing or self.min_distance_um is not None
        if spaced and not isinstance(self.markers, PeakMarkers):
            raise ValueError("min_distance_px is of peaks; leave it out, or use other markers")
        if self.lines and isinstance(self.markers, EarlierLabelMarkers):
            raise ValueError(
                "lines would cut objects from what they grew from; leave them out with markers "
                "`from: label`"
            )
        return self

    def _check_no_distances(self) -> None:
        if self.spacing is not None:
            raise ValueError("spacing is of distances; leave it out, or use `landscape: distance`")
        for um, length in self.markers.lengths.items():
            if length.kind == "finest" and getattr(self.markers, um) is not None:
                raise ValueError(
                    f"markers.{um} is of distances; use {length.px}, or `landscape: distance`"
                )

    def in_px(self, frame: Frame, where: str) -> Self:
        in_um = any(getattr(self, um) is not None for um in self.lengths)
        wanted = self.spacing == "auto" or (self.spacing is None and in_um)
        method = super().in_px(frame, where)
        if not wanted or self.landscape != "distance":
            return method
        sides = frame.sides(f"{where}spacing")
        return method.changed({"spacing": sides}, frame, where)

    def next_round(self, state: State, context: Context) -> Round | None:
        survey = self.foreground.model_round(state, context) if self._uses_foreground else None
        if survey is not None:
            return survey
        landscape = self._landscape(context)
        if FLOODED not in state:
            return FloodWindows(landscape, context.grid)
        if OPEN_TILE in state and RESOLVED not in state:
            return self._open_round(landscape, state, context)
        return lines_round(state, landscape.connectivity) if self.lines else None

    def _open_round(self, landscape: Landscape, state: State, context: Context) -> Round:
        if REGIONS_MARKED not in state:
            return MarkRegions(landscape)
        finding = markers_round(landscape, context.grid, state)
        if finding is not None:
            return finding
        return Resolve(landscape) if Relax.is_done(state) else Relax(context.grid, landscape)

    def _landscape(self, context: Context) -> Landscape:
        return Landscape(
            self.foreground,
            self.masked,
            self.landscape,
            self.smooth_px,
            self.markers,
            self.min_distance_px,
            self.max_distance_px,
            or_full(self.connectivity, context.grid.ndim),
            None if self.spacing == "auto" else self.spacing,
        )

    def companions(self) -> dict[str, str]:
        return self.markers.companions()

    def earlier_labels(self) -> dict[str, str]:
        return self.markers.earlier_labels()

    def parent_label(self) -> str | None:
        return self.earlier_labels().get(FILE)

    def is_dataset_wide(self) -> bool:
        return self._uses_foreground and self.foreground.is_dataset_wide()

    @property
    def _uses_foreground(self) -> bool:
        return self.masked or self.landscape == "objectness"

    def check(self, context: Context) -> None:
        if self._uses_foreground:
            self.foreground.check(context)
        if self.landscape == "intensity":
            check_single_channel(context)
        check_connectivity(self.connectivity, context)
        self.markers.check(context)
        if self.spacing != "auto":
            check_spacing("segment.spacing", self.spacing, context)
        for field, value in (("min_distance", self.min_distance_px), ("smooth", self.smooth_px)):
            if isinstance(value, tuple):
                check_spacing(f"segment.{field}_px", value, context)

    def halo_px(self) -> int:
        return MARGIN_PX[1] + max(self.foreground.support_px(), self.landscape == "gradient")

    def peak_bytes_per_px(self) -> float:
        # mask 1, components 4 + 4, region 4, squared distance 4, steps 4, smoothed 4 + 4,
        # altitude 4, root, level and hops 12, runs and queue 8, labels 4 + 4
        flooding = 62.0
        # sources of whole zones: places, keys and their order 40; the filled landscape 8
        marked = 0.0 if isinstance(self.markers, PeakMarkers | GridMarkers) else 48.0
        return max(flooding + marked, self.foreground.peak_bytes_per_px())

    def wants_gpu(self) -> bool:
        return self.foreground.wants_gpu()

    def expected_objects(self, context: Context) -> int | None:
        if self.masked or not isinstance(self.markers, GridMarkers):
            return None
        return self.markers.lattice(context.grid.shape).cells * context.grid.frames

    def extra_bytes(self, context: Context) -> int:
        fixed = self.foreground.extra_bytes(context)
        if not isinstance(self.markers, GridMarkers):
            return fixed
        # The state is held twice where it is read from its file.
        grid = context.grid
        return fixed + 2 * 8 * self.markers.lattice(grid.shape).cells * grid.frames

    def cpu_seconds_per_megapixel(self) -> float:
        # Without a mask every tile is flooded, lowered and traced.
        flooding = 0.25 if self.masked else 0.6
        return flooding + self.foreground.cpu_seconds_per_megapixel()

    def scratch_bytes_per_px(self) -> float:
        # labels 4; of components larger than a window altitudes and regions 12, keys 8, and 8 if
        # the landscape is filled
        filled = 8.0 if isinstance(self.markers, ZoneMarkers) and self.markers.fills else 0.0
        masks = self.foreground.scratch_bytes_per_px() - 4.0
        return masks + 4.0 + 12.0 + 8.0 + filled + (4.0 if self.lines else 0.0)

    def least_passes(self) -> int:
        surveyed = self.foreground.least_passes() if self._uses_foreground else 1
        return surveyed + (1 if self.lines else 0)

    def passes(self) -> str:
        return f"{self.least_passes()}, and for components larger than a window 3 + rounds"

    def notes(self) -> tuple[str, ...]:
        return self.foreground.notes() if self._uses_foreground else ()

    def certificate(self, state: State) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._uses_foreground:
            found |= self.foreground.certificate(state)
        found |= {
            "exact": True,
            "rule": "whole components in windows; larger ones relaxed to the fixed point of keys",
        }
        if OPEN_TILE in state:
            found["open_tiles"] = len(open_tiles(state))
            found["relaxations"] = Relax.iterations(state)
        return found
