"""What is known of an image before its pixels are read."""

from __future__ import annotations

from dataclasses import dataclass

AXES = "tczyx"


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Axes, sizes and units of one image; every image is seen as five-dimensional.

    Parameters
    ----------
    shape : tuple of int
        (T, C, Z, Y, X) in px; absent axes have size 1.
    dtype : str
        NumPy name of the pixels as `Source.read` returns them.
    axes : str
        The axes that the file really has, a subset of "tczyx" in that order.
    channels : tuple of str
        One name a channel, unique.
    pixel_size_um : tuple of float or None
        (z, y, x) in micrometres; None where the file does not say.
    time_step_s : float or None
        Seconds between time points; None where the file does not say.
    chunks : tuple of int
        (T, C, Z, Y, X) block that the file stores together: reads along it are cheap.
    origin_um : tuple of float or None
        Where the first pixel lies on the stage, (z, y, x) in micrometres; None where the file does
        not say.
    packed : bool
        Whether a block must be unpacked whole. If not, `chunks` are rows that are stored as they
        are, and a part of one costs a part of its time.
    """

    shape: tuple[int, int, int, int, int]
    dtype: str
    axes: str
    channels: tuple[str, ...]
    pixel_size_um: tuple[float | None, float | None, float | None]
    time_step_s: float | None
    chunks: tuple[int, int, int, int, int]
    origin_um: tuple[float | None, float | None, float | None] = (None, None, None)
    packed: bool = True
