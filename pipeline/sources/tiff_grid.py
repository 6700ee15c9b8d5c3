"""The grid of strips or tiles in a TIFF page: which segments a rectangle of a plane touches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import tifffile

from pipeline.sources.jpeg_intervals import IntervalLayout, layout_of


class Segment(NamedTuple):
    """One strip or tile; files have millions of them.

    Parameters
    ----------
    number : int
        Position in the page's tables of offsets and byte counts.
    depth, row, column : int
        Its first pixel in the page.
    """

    number: int
    depth: int
    row: int
    column: int


@dataclass(frozen=True, slots=True)
class SegmentGrid:
    """Stored sizes of a page and of its segments.

    Parameters
    ----------
    page : tuple of int
        (P, D, H, W, S): planar samples, depth, rows, columns, interleaved samples.
    segment : tuple of int
        (D, H, W) of one strip or tile in px.
    tiled : bool
        Tiles or strips.
    intervals : IntervalLayout, optional
        What a segment is made of, where the whole page is one JPEG with restart markers.
    """

    page: tuple[int, int, int, int, int]
    segment: tuple[int, int, int]
    tiled: bool
    intervals: IntervalLayout | None = None

    @property
    def counts(self) -> tuple[int, int, int]:
        """Segments along (depth, rows, columns) of one planar sample."""
        _, d, h, w, _ = self.page
        sd, sh, sw = self.segment
        return -(-d // sd), -(-h // sh), -(-w // sw)

    @property
    def kind(self) -> str:
        """What a segment is called."""
        return "tile" if self.tiled else "strip"

    @property
    def pixels(self) -> int:
        """Values in one decoded segment."""
        return math.prod(self.segment) * self.page[4]

    def covering(
        self, planar: int, depth: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> Iterator[Segment]:
        """Segments that intersect half-open `rows` x `columns` of one plane, in file order."""
        nd, nh, nw = self.counts
        sd, sh, sw = self.segment
        vertical = range(rows[0] // sh, -(-rows[1] // sh))
        horizontal = range(columns[0] // sw, -(-columns[1] // sw))
        for i, j in itertools.product(vertical, horizontal):
            number = ((planar * nd + depth // sd) * nh + i) * nw + j
            yield Segment(number, depth // sd * sd, i * sh, j * sw)


def grid_of(page: tifffile.TiffPage) -> SegmentGrid:
    """The grid that a page's tags describe."""
    planar, depth, rows, columns, samples = (int(n) for n in page.shaped)
    intervals = layout_of(page)
    if intervals is not None:
        side = (1, *intervals.side)
    elif page.is_tiled:
        side = (int(page.tiledepth), int(page.tilelength), int(page.tilewidth))
    else:
        side = (1, max(1, min(int(page.rowsperstrip), rows)), columns)
    page_sides = (planar, depth, rows, columns, samples)
    return SegmentGrid(page_sides, side, bool(page.is_tiled), intervals)
