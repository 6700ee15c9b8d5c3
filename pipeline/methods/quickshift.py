"""Quick shift: superpixels around the modes of density in place and colour."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field

from pipeline.features import ColorSpace, blur_halo_px, check_space
from pipeline.frame_solve import LabelByKey
from pipeline.methods.base import Context, Method, Round, State
from pipeline.quick_shift import Climb, FollowAcross, Shift


class QuickShift(Method):
    """Superpixels around the modes of density in place and colour; they cover the image.

    The density at a pixel is the sum of gaussians of `kernel_size` over the pixels of a square of 3
    `kernel_size` to each side, in place and colour. Every pixel is linked to the nearest one, in
    place and colour, of a higher density, if that is at most `max_dist` away and in the square; a
    pixel without such a one is the root of a region. `ratio` multiplies colours: a larger one makes
    regions keep to colours, a smaller one makes them rounder. scikit-image scales raw channels to
    0..1 before; L*a*b* (`color_space: lab`, of red, green and blue) has the same values in both.
    The image is blurred by `sigma_px` before; 0 leaves it.

    Of equal densities the one is the higher whose place has the larger hash. Pixels without a value
    are background.

    Exact: densities and links are found in windows that hold all they depend on; links that leave
    a tile are followed when all tiles have theirs.

    References
    ----------
    Vedaldi, Soatto, Quick shift and kernel methods for mode seeking, 2008,
    doi:10.1007/978-3-540-88693-8_52
    """

    method: Literal["quickshift"]
    kernel_size: float = Field(default=5, gt=0.1, le=20)
    max_dist: float = Field(default=10, ge=0, le=1e6)
    ratio: float = Field(default=1, ge=0, le=1e6)
    sigma_px: float = Field(default=0, ge=0, le=50)
    color_space: ColorSpace = "raw"

    dims: ClassVar[tuple[int, ...]] = (2,)

    @property
    def _shift(self) -> Shift:
        return Shift(self.color_space, self.sigma_px, self.kernel_size, self.max_dist, self.ratio)

    def next_round(self, state: State, context: Context) -> Round | None:
        if Climb.done not in state:
            return Climb(self._shift)
        if FollowAcross.done not in state:
            return FollowAcross()
        return None if LabelByKey.done in state else LabelByKey()

    def check(self, context: Context) -> None:
        check_space(self.color_space, context)

    def halo_px(self) -> int:
        shift = self._shift
        return (
            shift.radius_px + shift.step_px + (blur_halo_px(self.sigma_px) if self.sigma_px else 0)
        )

    def peak_bytes_per_px(self) -> float:
        # colours of 8 for three channels and their copy, densities, links, pieces: 77 measured
        return 90.0

    def extra_bytes(self, context: Context) -> int:
        # places where ways leave tiles
        return 2 * math.prod(context.grid.shape)

    def cpu_seconds_per_megapixel(self) -> float:
        return 0.4 + (2 * self._shift.radius_px + 1) ** 2 * 2.8e-3

    def scratch_bytes_per_px(self) -> float:
        return 10.0

    def least_passes(self) -> int:
        return 2

    def certificate(self, state: State) -> dict[str, Any]:
        return {"exact": True, "rule": "links from windows with all they depend on, then followed"}
