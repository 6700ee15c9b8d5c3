"""Which plane of which TIFF page holds a pixel of the (T, C, Z, Y, X) image.

A series is the row-major concatenation of its pages; a page is (P, D, H, W, S): planar samples,
depth, rows, columns, interleaved samples. So the axes before Y count planes, and the one axis
behind X, if any, counts the interleaved samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Axes that say only "another image": a plain multi-page TIFF is taken for a z-stack.
SEQUENCE_AXES = "IQ"


class LayoutError(ValueError):
    """The axes of the series cannot be seen as TCZYX."""


@dataclass(frozen=True, slots=True)
class PlaneLayout:
    """How planes are numbered.

    Parameters
    ----------
    shape : tuple of int
        (T, C, Z, Y, X) in px.
    axes : str
        The axes that the series has, a subset of "tczyx".
    strides : tuple of int
        Planes between neighbours in (t, c, z, planar sample).
    planar, interleaved : int
        Number of samples stored as planes, and inside each pixel.
    channels : int
        Channels before they are multiplied by the samples.
    """

    shape: tuple[int, int, int, int, int]
    axes: str
    strides: tuple[int, int, int, int]
    planar: int
    interleaved: int
    channels: int

    @property
    def samples(self) -> int:
        """Samples of one channel: 3 for RGB."""
        return self.planar * self.interleaved

    def planes(self, t: int, channels: Sequence[int], z: int) -> dict[int, list[tuple[int, int]]]:
        """Planes that hold `channels` at (t, z).

        Returns
        -------
        planes : dict of int to list of (int, int)
            Plane number to (position in `channels`, interleaved sample) pairs, so that a plane
            with several wanted samples is read once.
        """
        st, sc, sz, sp = self.strides
        found: dict[int, list[tuple[int, int]]] = {}
        for position, channel in enumerate(channels):
            c, sample = divmod(channel, self.samples)
            planar, interleaved = divmod(sample, self.interleaved)
            plane = t * st + c * sc + z * sz + planar * sp
            found.setdefault(plane, []).append((position, interleaved))
        return found


def lay_out(axes: str, shape: Sequence[int]) -> PlaneLayout:
    """Map the axes of a tifffile series to TCZYX.

    T, C, Z, Y and X are themselves, S (samples) multiplies the channels. I and Q, the axes of
    page sequences without metadata, are z where the series has no other z. Other axes are
    dropped where their size is 1.

    Raises
    ------
    LayoutError
        An axis of size > 1 has no place, appears twice, or lies behind X.
    """
    sizes = list(zip(axes.upper(), (int(n) for n in shape), strict=True))
    at = _position_of_rows(sizes)
    interleaved = math.prod(n for _, n in sizes[at + 2 :])
    leading = _named(sizes[:at])
    strides, step = {}, 1
    for axis, n in reversed(leading):
        strides[axis] = step
        step *= n
    count = dict(leading)
    t, c, z, planar = (count.get(axis, 1) for axis in "TCZS")
    if planar > 1 and interleaved > 1:
        raise LayoutError(f"axes {axes} hold samples twice")
    here = {axis for axis, _ in leading} | ({"C"} if "S" in count or at + 2 < len(sizes) else set())
    return PlaneLayout(
        shape=(t, c * planar * interleaved, z, sizes[at][1], sizes[at + 1][1]),
        axes="".join(a for a in "tcz" if a.upper() in here) + "yx",
        strides=(
            strides.get("T", 0),
            strides.get("C", 0),
            strides.get("Z", 0),
            strides.get("S", 0),
        ),
        planar=planar,
        interleaved=interleaved,
        channels=c,
    )


def _position_of_rows(sizes: list[tuple[str, int]]) -> int:
    names = "".join(axis for axis, _ in sizes)
    at = names.find("YX")
    if at < 0:
        raise LayoutError(f'axes {names} do not hold "YX" side by side')
    behind = [(axis, n) for axis, n in sizes[at + 2 :] if n > 1]
    if len(behind) > 1 or any(axis not in "SC" for axis, _ in behind):
        raise LayoutError(f"axes {names}: only one of samples or channels may lie behind X")
    return at


def _named(leading: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Axes before Y by their canonical names, those of size 1 only where they have one."""
    z_is_free = all(axis != "Z" or n == 1 for axis, n in leading)
    result: list[tuple[str, int]] = []
    for axis, n in leading:
        name = "Z" if axis in SEQUENCE_AXES and z_is_free and n > 1 else axis
        if name not in "TCZS" and n > 1:
            raise LayoutError(
                f'axis "{axis}" of size {n} is none of time, channel, z, y, x; '
                f"axes are {_spell(leading)} before YX"
            )
        if name not in "TCZS" or (n == 1 and name in [a for a, _ in result]):
            continue
        if any(a == name and m > 1 for a, m in result):
            raise LayoutError(f'two axes would be "{name}"; axes are {_spell(leading)} before YX')
        result = [(a, m) for a, m in result if a != name]
        result.append((name, n))
    return result


def _spell(leading: list[tuple[str, int]]) -> str:
    return ", ".join(f"{axis} ({n})" for axis, n in leading)
