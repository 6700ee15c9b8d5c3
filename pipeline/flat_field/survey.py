"""Gathering small pictures from a dataset, and estimating the shading that they share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MethodError, RecipeError
from pipeline.files import digest
from pipeline.filter import PREPROCESS
from pipeline.flat_field.averages import median_profile
from pipeline.flat_field.basic import basic_profile
from pipeline.grid import TileGrid
from pipeline.kernels.measure import Quantum
from pipeline.kernels.quality import whole_cells
from pipeline.methods.base import Context, Output, Round, State
from pipeline.records import Record

if TYPE_CHECKING:
    from pipeline.view import TileView

#: Keys of the profile in the state: shape (C, Y, X), float32.
FLAT, DARK = f"{PREPROCESS}flat", f"{PREPROCESS}dark"
#: Points of the profile along each axis of a frame, at most.
LATTICE = 64
#: Fewer pictures with light in them do not show what they share.
FEWEST = 8
#: The gain is nowhere estimated lower than this part of its mean.
LOWEST_GAIN = 0.05


@dataclass(frozen=True)
class FlatFieldSurvey(Round):
    """Sum up the frames of chosen pictures in the cells of a lattice; fit the profile to them.

    Sums are of whole numbers, so that a picture is the same in whatever tiles it came. In volumes
    the planes of a time point are added up.

    Parameters
    ----------
    way : {"basic", "median"}
    darkfield : bool
    pictures : int
        Frames that are looked at.
    chosen : dict
        Name of an image -> its frames; None looks at all frames of the one image.
    """

    way: Literal["basic", "median"]
    darkfield: bool
    pictures: int
    chosen: dict[str, tuple[int, ...]] | None = None

    name: ClassVar[str] = "flat-field"
    scope: Literal["image", "dataset"] = "dataset"

    def over(self, contexts: Sequence[Context]) -> Round:
        """Choose frames by the hash of their images' names, so that no order of files matters."""
        first = contexts[0]
        for other in contexts:
            if other.grid.shape[-2:] != first.grid.shape[-2:]:
                raise RecipeError(
                    "preprocess.flat_field: a shading belongs to one frame size, and the images "
                    f"have several: {first.name} {_size(first)}, {other.name} {_size(other)} px. "
                    "Split the archive by size, or give a profile and `resize: true`."
                )
        frames = [(c.name, n) for c in contexts for n in range(c.grid.frames)]
        frames.sort(key=lambda frame: (frame_id(*frame), frame))
        chosen: dict[str, tuple[int, ...]] = {}
        for name, number in sorted(frames[: self.pictures]):
            chosen[name] = (*chosen.get(name, ()), number)
        return replace(self, chosen=chosen)

    def tiles_of(self, context: Context, state: State) -> Sequence[int]:
        if self.chosen is None:
            return self.tiles(context.grid, state)
        size = context.grid.tiles_per_frame
        return [
            frame * size + k for frame in self.chosen.get(context.name, ()) for k in range(size)
        ]

    def map(self, view: TileView, state: State) -> Output:
        grid = view.grid
        rows, columns = lattice_shape(grid)
        core = view.tile.core
        row = _cells(core.start[-2], core.stop[-2], grid.shape[-2], rows)
        column = _cells(core.start[-1], core.stop[-1], grid.shape[-1], columns)
        top, left = int(row[0]), int(column[0])
        shape = (int(row[-1]) - top + 1, int(column[-1]) - left + 1)
        ends = np.searchsorted(column, np.arange(left, left + shape[1]), side="right")
        sums = np.zeros((len(view.job.channels), *shape), np.int64)
        counts = np.zeros_like(sums)
        unused = np.zeros(shape, np.int64)
        for i, number in enumerate(view.job.channels):
            steps, known = _steps(view, number)
            for plane, finite in zip(steps, known, strict=True):
                whole_cells(plane, row - top, ends, sums[i], unused)
                whole_cells(finite, row - top, ends, counts[i], unused)
        return Output(
            {
                "frame": np.array(frame_id(view.job.name, view.tile.frame)),
                "corner": np.array([top, left]),
                "lattice": np.array([rows, columns]),
                "steps": np.array([_quantum(view, n) for n in view.job.channels]),
                "sums": sums,
                "counts": counts,
            }
        )

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        pictures = put_together(record for _, record in records)
        profiles = [self._profile(pictures[:, c]) for c in range(pictures.shape[1])]
        flat = np.stack([one for one, _ in profiles]).astype(np.float32)
        dark = np.stack([one for _, one in profiles]).astype(np.float32)
        return {**state, FLAT: flat, DARK: dark}

    def _profile(
        self, pictures: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        lit = pictures[pictures.mean(axis=(1, 2)) > 0]
        if len(lit) < FEWEST:
            raise MethodError(
                "preprocess.flat_field",
                f"an estimate needs {FEWEST} pictures that are not black, and there are {len(lit)}",
                "Give a profile, or leave the step out.",
            )
        if self.way == "basic":
            flat, dark = basic_profile(lit, dark=self.darkfield)
        else:
            flat = median_profile(lit)
            dark = np.zeros_like(flat)
        if flat.min() < LOWEST_GAIN:
            flat = np.maximum(flat, LOWEST_GAIN)
            flat /= flat.mean()  # so that its file, given as `profile`, is not divided again
        return flat, dark


def frame_id(name: str, frame: int) -> int:
    """A number that stands for a frame of an image, and orders frames at random."""
    return int(digest(f"{name}\0{frame}".encode())[:15], 16)


def lattice_shape(grid: TileGrid) -> tuple[int, int]:
    """Points of a profile along the axes of a plane."""
    return min(LATTICE, grid.shape[-2]), min(LATTICE, grid.shape[-1])


def put_together(records: Iterable[Record]) -> NDArray[np.float64]:
    """Mean values of the cells of all frames, shape (N, C, Y, X), in the order of `frame_id`.

    A cell without a finite pixel has the mean of its picture.

    Raises
    ------
    ValueError
        If pictures differ in their number of channels.
    """
    sums: dict[int, NDArray[np.int64]] = {}
    counts: dict[int, NDArray[np.int64]] = {}
    steps: dict[int, NDArray[np.float64]] = {}
    for record in records:
        frame, (top, left) = int(record["frame"]), record["corner"].tolist()
        channels, height, width = record["sums"].shape
        if frame not in sums:
            shape = (channels, *record["lattice"].tolist())
            sums[frame], counts[frame] = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
            steps[frame] = record["steps"]
        cut = (slice(None), slice(top, top + height), slice(left, left + width))
        sums[frame][cut] += record["sums"]
        counts[frame][cut] += record["counts"]
    return np.stack([_means(sums[i], counts[i], steps[i]) for i in sorted(sums)])


def _means(
    sums: NDArray[np.int64], counts: NDArray[np.int64], steps: NDArray[np.float64]
) -> NDArray[np.float64]:
    offset, step = steps[:, :1, None], steps[:, 1:, None]
    means = offset + step * (sums / np.maximum(counts, 1))
    total = np.maximum(counts.sum(axis=(1, 2)), 1)[:, None, None]
    average = offset + step * (sums.sum(axis=(1, 2))[:, None, None] / total)
    known: NDArray[np.float64] = np.where(counts > 0, means, average)
    # A channel without any finite pixel is black.
    known[counts.sum(axis=(1, 2)) == 0] = 0.0
    return known


def _cells(start: int, stop: int, size: int, count: int) -> NDArray[np.int64]:
    """The cell of each pixel of an axis."""
    return np.arange(start, stop, dtype=np.int64) * count // size


def _quantum(view: TileView, channel: int) -> tuple[float, float]:
    """Offset and step of the whole numbers that are summed; 0 and 1 for those of up to 16 bits."""
    dtype = np.dtype(view.job.info.dtype)
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        return 0.0, 1.0
    low, high = view.raw_range(channel)
    found = Quantum.of(dtype, low, high) if low <= high else Quantum(0.0, 1.0)
    return found.offset, found.step


def _steps(view: TileView, channel: int) -> tuple[NDArray[np.generic], NDArray[np.uint8]]:
    """Pixels of a core as whole numbers (Z, Y, X), and where they are finite."""
    pixels = view.raw([channel], view.tile.core)[0]
    pixels = pixels.reshape(-1, *pixels.shape[-2:])
    offset, step = _quantum(view, channel)
    finite = np.isfinite(pixels)
    if (offset, step) != (0.0, 1.0) or pixels.dtype.kind == "f":
        scaled = (np.where(finite, pixels, offset).astype(np.float64) - offset) / step
        pixels = np.rint(scaled).astype(np.int64)
    return pixels, finite.astype(np.uint8)


def _size(context: Context) -> str:
    return " x ".join(map(str, context.grid.shape[-2:]))
