"""Planes that lie in a file as they are: rows at byte positions, read one part at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.box import Box
from pipeline.errors import DamageError
from pipeline.sources.base import Source
from pipeline.sources.file_bytes import FileBytes
from pipeline.storage import is_url

#: What is read from a disk at once: it stays in the cache of the processor until it is sorted out,
#: and the same memory is used again.
AT_ONCE_BYTES = 96 << 10
#: Between two rows, so many times a row may be read in vain rather than asked for apart.
MOST_GAP = 3


@dataclass(frozen=True, slots=True)
class RowLayout:
    """How one plane lies in its file.

    Parameters
    ----------
    height, width : int
        In px.
    row_bytes, pixel_bytes : int
        From a row to the next one, and from a pixel to the next one.
    dtype : dtype
        Of one sample as it is stored.
    """

    height: int
    width: int
    row_bytes: int
    pixel_bytes: int
    dtype: np.dtype

    @property
    def is_plain(self) -> bool:
        """Whether the pixels of a row follow each other, as they do in memory."""
        return self.pixel_bytes == self.dtype.itemsize

    @property
    def plane_bytes(self) -> int:
        """From the first byte of a plane to its last one; what pads the last row is left out."""
        return (self.height - 1) * self.row_bytes + self.width * self.pixel_bytes


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle of one plane, some samples of it.

    Parameters
    ----------
    wanted : sequence of (int, int)
        (first index into `out`, sample) pairs; for `read_rows` a sample is the byte in the pixel
        where it begins, elsewhere its number.
    rows, columns : tuple of int
        Half-open, in px.
    out : ndarray of shape (C, Y, X)
        Y and X are those of `rows` and `columns`.
    """

    wanted: Sequence[tuple[int, int]]
    rows: tuple[int, int]
    columns: tuple[int, int]
    out: np.ndarray


def read_rows(
    files: FileBytes, path: str, start: int, layout: RowLayout, part: Part, what: str
) -> None:
    """Read a rectangle of the plane that begins at byte `start`.

    Raises
    ------
    DamageError
        The file ends before; `what` names the plane.
    """
    as_they_are = layout.is_plain and part.out.dtype == layout.dtype.newbyteorder("=")
    if as_they_are and len(part.wanted) == 1 and not is_url(path):
        _read_straight(files, path, start, layout, part, what)
        return
    y0, y1 = part.rows
    step = y1 - y0 if is_url(path) else max(1, AT_ONCE_BYTES // layout.row_bytes)
    for top in range(y0, y1, step):
        bottom = min(y1, top + step)
        out = part.out[:, top - y0 : bottom - y0]
        piece = replace(part, rows=(top, bottom), out=out)
        _read_rows(files, path, start, layout, piece, what)


def _read_straight(
    files: FileBytes, path: str, start: int, layout: RowLayout, part: Part, what: str
) -> None:
    """Rows go from the file to where they belong; what lies between them goes to one place."""
    ((target, sample),) = part.wanted
    (y0, y1), (x0, x1) = part.rows, part.columns
    out = part.out[target]
    first = start + y0 * layout.row_bytes + x0 * layout.pixel_bytes + sample
    gap = layout.row_bytes - (x1 - x0) * layout.pixel_bytes
    what = f"{what}, rows {y0}-{y1 - 1},"
    if gap == 0 and out.flags.c_contiguous:
        files.read_into(path, first, [out], what)
    elif gap > MOST_GAP * (layout.row_bytes - gap):
        for number, row in enumerate(out):
            files.read_into(path, first + number * layout.row_bytes, [row], what)
    else:
        between = np.empty(gap, np.uint8)
        buffers = [buffer for row in out for buffer in (row, between)]
        files.read_into(path, first, buffers[:-1], what)
    if not layout.dtype.isnative:
        out.byteswap(inplace=True)


def _read_rows(
    files: FileBytes, path: str, start: int, layout: RowLayout, part: Part, what: str
) -> None:
    (y0, y1), (x0, x1) = part.rows, part.columns
    wide = (x1 - x0) * layout.pixel_bytes
    first = start + y0 * layout.row_bytes + x0 * layout.pixel_bytes
    what = f"{what}, rows {y0}-{y1 - 1},"
    stride = layout.row_bytes
    # What is left out between rows costs less than a call for each of them, unless it is most.
    if x1 - x0 == layout.width or 2 * wide > stride:
        data = files.read(path, first, (y1 - y0 - 1) * stride + wide, what)
    else:
        starts = range(first, first + (y1 - y0) * stride, stride)
        parts = files.read_many(path, starts, [wide] * len(starts), what)
        data, stride = b"".join(parts), wide
    for target, sample in part.wanted:
        try:
            part.out[target] = np.ndarray(
                (y1 - y0, x1 - x0), layout.dtype, data, sample, (stride, layout.pixel_bytes)
            )
        except ValueError as error:  # np.ndarray refuses what lies outside of the bytes
            raise DamageError(
                path,
                f"{what} do not lie where the file says: pixels of {layout.pixel_bytes} bytes, one "
                f"at byte {sample} of them, in rows of {layout.row_bytes} bytes",
                "Copy the file again from its origin.",
            ) from error


class RowSource(Source):
    """An image whose planes are all stored as rows, in one file.

    Subclasses open the file, set `info` and `_layout`, call `_require_whole`, and say where a
    plane begins.
    """

    _layout: RowLayout
    _files: FileBytes

    @abstractmethod
    def _place(self, t: int, channel: int, z: int) -> tuple[int, int]:
        """First byte of the plane that holds a channel, and where in its pixels that lies."""

    def _require_whole(self) -> None:
        """Compare the end of the last plane with the size of the file.

        Raises
        ------
        DamageError
            The file is shorter than it says.
        """
        times, channels, depth, *_ = self.info.shape
        planes = ((t, c, z) for t in range(times) for c in range(channels) for z in range(depth))
        last = max(self._place(*plane)[0] for plane in planes)
        end, size = last + self._layout.plane_bytes, self._files.size(self.spec.path)
        if end > size:
            raise DamageError(
                self.spec.path,
                f"is cut off: its pixels end at byte {end}, the file at byte {size}",
                "Copy the file again from its origin.",
            )

    def _fill(self, out: np.ndarray, t: int, channels: Sequence[int], box: Box) -> None:
        _, rows, columns = zip(box.start, box.stop, strict=True)
        for k, z in enumerate(range(box.start[0], box.stop[0])):
            planes: dict[int, list[tuple[int, int]]] = {}
            for position, channel in enumerate(channels):
                start, sample = self._place(t, channel, z)
                planes.setdefault(start, []).append((position, sample))
            for start, wanted in planes.items():
                part = Part(wanted, rows, columns, out[:, k])
                what = f"plane (t {t}, z {z})"
                read_rows(self._files, self.spec.path, start, self._layout, part, what)

    def close(self) -> None:
        self._files.close()
