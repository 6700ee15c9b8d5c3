"""What a recipe sees of a stored image: some planes and times, a projection, another pixel size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from pipeline.errors import MethodError
from pipeline.image import ImageInfo

Projection = Literal["max", "min", "mean", "best_focus"]


@dataclass(frozen=True, slots=True)
class Seen:
    """A view of an image; small and picklable, for it travels with the image's spec.

    Parameters
    ----------
    t, z : tuple of int
        Numbers of the times and planes that are seen, ascending; () for all.
    project : str or None
        How the planes of a stack become one.
    planes : tuple of int
        With "best_focus": the plane of each time, as `pipeline.sources.focus` found it.
    focus_channel : int or str
        The channel by which that is judged.
    pixel_size_um : tuple of float or None, or None
        (z, y, x) where the recipe knows better than the file.
    """

    t: tuple[int, ...] = ()
    z: tuple[int, ...] = ()
    project: Projection | None = None
    planes: tuple[int, ...] = ()
    focus_channel: int | str = 0
    pixel_size_um: tuple[float | None, float | None, float | None] | None = None

    @classmethod
    def of(cls, content: Mapping[str, Any] | None) -> Self:
        """The view that was written down as JSON."""
        found: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in (content or {}).items()
        }
        return cls(**found)

    @property
    def is_plain(self) -> bool:
        """Whether the image is seen as it is."""
        return self == PLAIN

    @property
    def reshapes(self) -> bool:
        """Whether what is seen has other planes or times than the file."""
        return bool(self.t or self.z or self.project)

    @property
    def folds(self) -> bool:
        """Whether many planes are read to give one."""
        return self.project not in (None, "best_focus")

    def fold_bytes(self, size: int) -> int:
        """What making one sample of `size` bytes takes beside it; 0 where planes stay apart."""
        if self.project is None:
            return 0
        if self.project == "best_focus":  # one plane, and the same as the largest of one
            return 2 * size
        # Some planes and their largest; quotients, remainders and sums in 64 bits.
        return (PLANES_AT_ONCE + 1) * size + (56 if self.project == "mean" else 0)

    def info(self, stored: ImageInfo, path: str) -> ImageInfo:
        """The image as it is seen.

        Raises
        ------
        MethodError
            If it has no such time or plane.
        """
        times, c, planes, y, x = stored.shape
        _check("t", self.t, times, path)
        _check("z", self.z, planes, path)
        t = len(self.t) or times
        z = 1 if self.project else len(self.z) or planes
        sizes = list(stored.pixel_size_um)
        for axis, size in enumerate(self.pixel_size_um or ()):
            sizes[axis] = sizes[axis] if size is None else size
        origin, axes, chunks = stored.origin_um, stored.axes, stored.chunks
        if self.project:
            sizes[0] = None
            origin = (None, *origin[1:])
            axes = axes.replace("z", "")
        elif self.z:
            # Planes that were left out do not move the others, but there is no one step any more.
            sizes[0] = sizes[0] if _is_run(self.z) else None
        return replace(
            stored,
            shape=(t, c, z, y, x),
            axes=axes,
            pixel_size_um=(sizes[0], sizes[1], sizes[2]),
            time_step_s=stored.time_step_s if not self.t or _is_run(self.t) else None,
            chunks=(min(chunks[0], t), chunks[1], min(chunks[2], z), *chunks[3:]),
            origin_um=origin,
        )


#: Planes of a stack that a projection holds together.
PLANES_AT_ONCE = 4
#: The image as it is stored.
PLAIN = Seen()


def _check(axis: str, wanted: tuple[int, ...], count: int, path: str) -> None:
    beyond = [number for number in wanted if number >= count]
    if beyond:
        raise MethodError(
            path,
            f"source.{axis} names {beyond[0]}, and the image has {count}, counted from 0",
            f"Name others in the recipe's source.{axis}, or leave it out.",
        )


def _is_run(numbers: tuple[int, ...]) -> bool:
    return numbers == tuple(range(numbers[0], numbers[0] + len(numbers)))
