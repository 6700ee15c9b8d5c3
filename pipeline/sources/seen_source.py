"""Reading an image as a recipe sees it, see `pipeline.sources.seen`.

Each pixel of a projection is made of the pixels above and below it alone, so it does not depend on
the box that is read. A mean of whole numbers is rounded half up; one of floats is summed in
float64, plane by plane.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from pipeline.box import Box
from pipeline.sources.base import Source, SourceSpec, open_source
from pipeline.sources.seen import PLAIN, PLANES_AT_ONCE


class SeenSource(Source):
    """A view of another source."""

    def __init__(self, spec: SourceSpec) -> None:
        self.spec = spec
        self._stored = open_source(replace(spec, seen=PLAIN))
        try:
            self.info = spec.seen.info(self._stored.info, spec.path)
        except Exception:
            self._stored.close()
            raise

    def _fill(self, out: np.ndarray, t: int, channels: Sequence[int], box: Box) -> None:
        seen = self.spec.seen
        time = seen.t[t] if seen.t else t
        if seen.project is None:
            planes = self._planes()[box.start[0] : box.stop[0]]
            for first, slab in self._slabs(time, channels, planes, box):
                out[:, first : first + slab.shape[1]] = slab
            return
        planes = (seen.planes[t],) if seen.project == "best_focus" else self._planes()
        slabs = (slab for _, slab in self._slabs(time, channels, planes, box))
        if seen.project == "mean":
            out[:, 0] = _mean(slabs, len(planes), out.dtype)
            return
        larger = np.minimum if seen.project == "min" else np.maximum
        for number, slab in enumerate(slabs):
            best = larger.reduce(slab, axis=1)
            out[:, 0] = best if number == 0 else larger(out[:, 0], best)

    def _planes(self) -> tuple[int, ...]:
        return self.spec.seen.z or tuple(range(self._stored.info.shape[2]))

    def _slabs(
        self, time: int, channels: Sequence[int], planes: Sequence[int], box: Box
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Some planes after the other: what the file stores together, but only a few at once."""
        together = min(self._stored.info.chunks[2], PLANES_AT_ONCE)
        first = 0
        while first < len(planes):
            stop = first + 1
            while (
                stop < len(planes)
                and planes[stop] == planes[stop - 1] + 1
                and planes[stop] // together == planes[first] // together
            ):
                stop += 1
            slab = Box((planes[first], *box.start[1:]), (planes[stop - 1] + 1, *box.stop[1:]))
            yield first, self._stored.read(time, channels, slab)
            first = stop

    def hold(self, limit_bytes: int, once: bool = False) -> None:
        self._stored.hold(limit_bytes, once)

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        return self._stored.level_sizes

    def fingerprint(self) -> str:
        """Of the stored image: what is seen of it is the recipe's to say."""
        return self._stored.fingerprint()

    def close(self) -> None:
        self._stored.close()


def _mean(slabs: Iterator[np.ndarray], count: int, dtype: np.dtype[np.generic]) -> np.ndarray:
    """Mean of all planes, shape (C, Y, X)."""
    if dtype.kind == "f":
        total = sum(plane.astype(np.float64) for slab in slabs for plane in np.moveaxis(slab, 1, 0))
        return np.asarray(total / count).astype(dtype)
    # Quotients and remainders apart, so that sums of 64-bit numbers fit.
    wide = np.uint64 if dtype.kind == "u" else np.int64
    n = wide(count)
    whole: np.ndarray | int = 0
    rest: np.ndarray | int = 0
    for slab in slabs:
        for plane in np.moveaxis(slab, 1, 0):
            quotient, remainder = np.divmod(plane.astype(wide), n)
            whole, rest = quotient + whole, remainder + rest
    return np.asarray(whole + (wide(2) * rest + n) // (wide(2) * n)).astype(dtype)
