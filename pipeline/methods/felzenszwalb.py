"""Felzenszwalb: regions whose inside varies less than their borders."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline.contraction import Contract, Criterion, MergeFrame
from pipeline.errors import MethodError
from pipeline.features import ColorSpace, blur_halo_px, check_space
from pipeline.frame_solve import LabelByKey
from pipeline.lengths import Length, Lengths
from pipeline.methods.base import Context, Method, Round, State
from pipeline.methods.checks import check_connectivity

#: What one worker holds of a frame of which nothing can be decided in tiles, measured ...
NODE_BYTES, EDGE_BYTES = 36, 50
#: ... and, a pixel, of tissue, nuclei and noise, of which 7 to 11 % of the pixels are left: 25.
USUAL_BYTES_PER_PX = 40


class Felzenszwalb(Method):
    """Regions whose inside varies less than their borders; they cover the image.

    Neighbouring pixels are merged in the order of the distance of their colours, as long as it is
    no more than what both regions hold already plus `scale` / size: a larger `scale` gives larger
    regions. It is in units of the image (for 8 bits that is the `scale` of scikit-image), or of
    L*a*b* with `color_space: lab`; several raw channels are one colour, by the Euclidean distance.
    The image is blurred by `sigma_px` before; 0 leaves it. Regions of less than `min_size_px` are
    merged afterwards with the neighbour of the nearest colour, in the same order. `sigma_um`,
    `min_size_um2`, `min_size_um3`: the same in um.

    `connectivity`: neighbours of a pixel, by default 8 in planes and 6 in volumes. Pixels without
    a value are background.

    Exact: tiles merge what their surroundings cannot change; one worker decides the rest of a
    frame. What is left may be everything, 240 bytes a pixel (26 neighbours: 690), so frames of more
    than `max_frame_px` are refused; real images leave about a tenth of it.

    References
    ----------
    Felzenszwalb, Huttenlocher, Efficient graph-based image segmentation, 2004,
    doi:10.1023/B:VISI.0000022288.19776.77
    """

    method: Literal["felzenszwalb"]
    scale: float = Field(default=100, ge=0, allow_inf_nan=False)
    sigma_px: float = Field(default=0.8, ge=0, le=50)
    min_size_px: int = Field(default=20, ge=1, lt=2**31)
    sigma_um: float | None = Field(default=None, gt=0)
    min_size_um2: float | None = Field(default=None, gt=0)
    min_size_um3: float | None = Field(default=None, gt=0)
    color_space: ColorSpace = "raw"
    connectivity: int | None = None
    max_frame_px: int = Field(default=2**26, ge=1, lt=2**31)

    seconds_per_megapixel: ClassVar[float] = 0.8
    lengths: ClassVar[Lengths] = {
        "sigma_um": Length("sigma_px", "plain"),
        "min_size_um2": Length("min_size_px", "least"),
        "min_size_um3": Length("min_size_px", "least"),
    }

    def next_round(self, state: State, context: Context) -> Round | None:
        criterion = Criterion(
            self.color_space,
            self.sigma_px,
            self.scale,
            self.min_size_px,
            self._neighbours(context.grid.ndim),
        )
        if Contract.done not in state:
            return Contract(criterion)
        if MergeFrame.done not in state:
            return MergeFrame(criterion)
        return None if LabelByKey.done in state else LabelByKey()

    def _neighbours(self, ndim: int) -> int:
        return self.connectivity or (8 if ndim == 2 else 6)

    def check(self, context: Context) -> None:
        check_connectivity(self.connectivity, context)
        check_space(self.color_space, context)
        frame_px = math.prod(context.grid.shape)
        if frame_px > self.max_frame_px:
            edges = self._neighbours(context.grid.ndim) // 2
            worst = frame_px * (NODE_BYTES + EDGE_BYTES * edges) / 2**30
            raise MethodError(
                context.name,
                f"a frame has {frame_px} px, segment.max_frame_px is {self.max_frame_px}: one "
                f"worker decides what tiles cannot, which takes up to {worst:.1f} GiB",
                "Raise the limit if a worker has that memory, or bin the image.",
            )

    def halo_px(self) -> int:
        return 1 + (blur_halo_px(self.sigma_px) if self.sigma_px else 0)

    def peak_bytes_per_px(self) -> float:
        edges = (self.connectivity or 8) / 2
        # as many of 8 for three channels, their blur, edges, components; and the edges left, twice
        return 120.0 + 20.0 * edges

    def extra_bytes(self, context: Context) -> int:
        return USUAL_BYTES_PER_PX * math.prod(context.grid.shape)

    def scratch_bytes_per_px(self) -> float:
        return 16.0  # components and labels 4 each, and what is left

    def least_passes(self) -> int:
        return 2

    def certificate(self, state: State) -> dict[str, Any]:
        return {"exact": True, "rule": "what a tile cannot decide is decided in the whole frame"}
