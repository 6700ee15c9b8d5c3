"""One image made of parts: channels, planes and times in files of their own, fields of a well.

Every pixel is told by absolute coordinates alone: it is that of the first part, in the order of
the spec, which covers it, and 0 where none does. So a region is always the crop of the whole.
Parts are opened when a region meets them, and only the last few stay open.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.errors import DamageError, ImageError
from pipeline.image import AXES, ImageInfo
from pipeline.sources.base import Source, SourceSpec, open_source
from pipeline.sources.parts import Part
from pipeline.sources.stitching import put_together

Pixels = NDArray[np.generic]

#: Parts that stay open: a tile meets four fields, times channels. An open one may hold all of its
#: decoded pixels, so that fewer large ones stay, but the four fields of a corner always.
OPEN_PARTS, FEWEST_OPEN = 16, 4
OPEN_BYTES = 256 << 20


def open_parts(spec: SourceSpec, itemsize: int) -> tuple[int, int]:
    """How many parts of a resolved spec stay open, and the bytes of the largest one."""
    largest = max((math.prod(part.shape or ()) for part in spec.parts), default=0) * itemsize
    most = min(OPEN_PARTS, max(FEWEST_OPEN, OPEN_BYTES // max(1, largest)))
    return min(len(spec.parts), most), largest


class ComposedSource(Source):
    """An image of parts that lie at offsets.

    Parameters
    ----------
    spec : SourceSpec
        With `parts`. Where their sizes are not known yet, all of them are opened once.

    Raises
    ------
    UnreadableError
        The parts do not fit together, see `put_together`, or none can be opened.
    """

    def __init__(self, spec: SourceSpec) -> None:
        known = all(part.shape is not None for part in spec.parts)
        self.spec = spec if known and spec.layout is None else put_together(spec)
        self._open: OrderedDict[int, Source] = OrderedDict()
        self._lock = threading.Lock()
        self._start = np.array([part.offset for part in self.spec.parts], np.int64)
        self._stop = self._start + np.array([part.shape for part in self.spec.parts], np.int64)
        self._most = FEWEST_OPEN
        self.info = self._describe(self._any_info())
        self._most, _ = open_parts(self.spec, np.dtype(self.info.dtype).itemsize)

    @classmethod
    def list_images(cls, spec: SourceSpec) -> list[SourceSpec]:
        return [put_together(spec)]

    def _any_info(self) -> ImageInfo:
        """Of the first part that can be opened: a damaged one must not take the others along."""
        failed: ImageError | None = None
        for number in range(len(self.spec.parts)):
            try:
                return self._part(number).info
            except ImageError as error:
                failed = failed or error
        assert failed is not None  # there is at least one part
        raise failed

    def _describe(self, info: ImageInfo) -> ImageInfo:
        t, c, z, y, x = (int(n) for n in self._stop.max(axis=0))
        sizes = dict(zip(AXES, (t, c, z, y, x), strict=True))
        names = ["" for _ in range(c)]
        for part in self.spec.parts:
            for number, name in enumerate(part.channels):
                names[part.offset[1] + number] = name
        return ImageInfo(
            shape=(t, c, z, y, x),
            dtype=info.dtype,
            axes="".join(axis for axis in AXES if axis in info.axes or sizes[axis] > 1),
            channels=tuple(names),
            pixel_size_um=info.pixel_size_um,
            time_step_s=info.time_step_s,
            chunks=info.chunks,
            packed=False,  # its parts keep their own blocks while they are open
            origin_um=self._origin(),
        )

    def _origin(self) -> tuple[float | None, float | None, float | None]:
        """Where on the stage the first pixel lies, (z, y, x), also where no part covers it.

        Along each axis it lies as the parts do that begin there; one that begins at it comes first.
        """
        ordered = sorted(self.spec.parts, key=lambda part: any(part.offset))
        z, y, x = (
            next((p.origin_um[k] for p in ordered if not p.offset[2 + k]), None) for k in range(3)
        )
        return z, y, x

    def _fill(self, out: np.ndarray, t: int, channels: Sequence[int], box: Box) -> None:
        met = list(self._meeting(t, channels, box))
        out[...] = 0
        covered = np.zeros(out.shape, np.bool_) if self._overlap(met) else None
        for number, where in met:
            part = self.spec.parts[number]
            first = part.offset[1]
            chosen = [i for i, c in enumerate(channels) if self._has_channel(number, c)]
            inside = (slice(None), *where.within(box))
            if covered is not None and covered[chosen][inside].all():
                continue
            wanted = [channels[i] - first for i in chosen]
            pixels = self._read(number, t - part.offset[0], wanted, where)
            for row, i in enumerate(chosen):
                target = out[i][inside[1:]]
                if covered is None:
                    target[...] = pixels[row]
                else:
                    hidden = covered[i][inside[1:]]
                    np.copyto(target, pixels[row], where=~hidden)
                    hidden[...] = True

    def _meeting(self, t: int, channels: Sequence[int], box: Box) -> Iterator[tuple[int, Box]]:
        """Numbers of the parts that a read meets, and where, in their order."""
        low = np.array([t, min(channels), *box.start])
        high = np.array([t + 1, max(channels) + 1, *box.stop])
        for number in np.flatnonzero(((self._start < high) & (low < self._stop)).all(axis=1)):
            if any(self._has_channel(int(number), c) for c in channels):
                start = tuple(int(n) for n in self._start[number][2:])
                stop = tuple(int(n) for n in self._stop[number][2:])
                yield int(number), box.intersect(Box(start, stop))

    def _overlap(self, met: Sequence[tuple[int, Box]]) -> bool:
        """Whether two parts have pixels in common, of those that are read."""
        start = np.array([(self._start[n][1], *where.start) for n, where in met])
        stop = np.array([(self._stop[n][1], *where.stop) for n, where in met])
        return any(
            bool(((start[:k] < stop[k]) & (start[k] < stop[:k])).all(axis=1).any())
            for k in range(1, len(met))
        )

    def _has_channel(self, number: int, channel: int) -> bool:
        return bool(self._start[number][1] <= channel < self._stop[number][1])

    def _read(
        self, number: int, t: int, channels: Sequence[int], where: Box
    ) -> NDArray[np.generic]:
        inner = where.relative_to(self.spec.parts[number].offset[2:])
        with self._lock:  # a part that is being read must not be closed for another
            return self._part(number).read(t, channels, inner)

    def _part(self, number: int) -> Source:
        """A part, opened; the one that was used longest ago is closed for it."""
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        part = self.spec.parts[number]
        source = open_source(part.spec)
        try:
            self._require_unchanged(part, source.info)
        except ImageError:
            source.close()
            raise
        self._open[number] = source
        if len(self._open) > self._most:
            self._open.popitem(last=False)[1].close()
        return source

    def _require_unchanged(self, part: Part, info: ImageInfo) -> None:
        dtypes = {source.info.dtype for source in self._open.values()} or {info.dtype}
        if info.shape != part.shape or info.dtype not in dtypes:
            raise DamageError(
                part.spec.path,
                f"was {part.shape} when {self.spec.name} was put together, and is {info.shape} of "
                f"{info.dtype} now",
                "Leave the files as they are while they are read, and run again.",
            )

    def fingerprint(self) -> str:
        """Of all parts, with their places."""
        found = xxhash.xxh3_128()
        for number, part in enumerate(self.spec.parts):
            with self._lock:
                content = self._part(number).fingerprint()
            found.update(f"{part.offset} {part.channels} {content}\n".encode())
        return str(found.hexdigest())

    def close(self) -> None:
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()
