"""What clustering methods see of a pixel, and a sample of it over the whole image or dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.errors import MethodError
from pipeline.kernels.lab import lab
from pipeline.kernels.sampling import sampled_pixels
from pipeline.methods.base import Context, Output, Round, State
from pipeline.preprocess import natural_range
from pipeline.records import Record
from pipeline.view import TileView

ColorSpace = Literal["raw", "lab"]

VALUES = "features.values"
COUNTS = "features.counts"


def features(view: TileView, space: ColorSpace, halo_px: int = 0) -> NDArray[Any]:
    """Features of a window.

    Returns
    -------
    ndarray of shape (C, \\*window)
        "raw": the channels as they are; "lab": L*, a*, b* of the three channels red, green, blue.
    """
    image = view.image(halo_px)
    return image if space == "raw" else lab(image, _white(view.job.info.dtype))


def smoothed_features(
    view: TileView, space: ColorSpace, sigma_px: float, halo_px: int = 0
) -> NDArray[np.float64]:
    """Features of a window after a gaussian blur in 64 bits.

    The kernel ends at 4 sigma; outside the frame the image is mirrored, as in scikit-image.

    Returns
    -------
    ndarray of shape (C, \\*window)
    """
    if sigma_px == 0:
        return features(view, space, halo_px).astype(np.float64)
    wide_px = halo_px + blur_halo_px(sigma_px)
    inner = view.window(halo_px).within(view.window(wide_px))
    return np.stack(
        [
            ndimage.gaussian_filter(one.astype(np.float64), sigma_px, mode="reflect", truncate=4.0)[
                inner
            ]
            for one in features(view, space, wide_px)
        ]
    )


def blur_halo_px(sigma_px: float) -> int:
    """Reach of the gaussian of `smoothed_features`."""
    return int(4.0 * sigma_px + 0.5)


def check_space(space: ColorSpace, context: Context) -> None:
    """Refuse images that are no colour images, where colours are asked for."""
    if space == "lab" and context.channels != 3:
        raise MethodError(
            context.name,
            f"`color_space: lab` takes red, green and blue, {context.channels} channels are "
            "selected",
            "Choose three in source.channels, or use `color_space: raw`.",
        )


def _white(dtype: str) -> float:
    natural = natural_range(dtype)
    if natural is not None:
        return natural[1]
    kind = np.dtype(dtype)
    return 1.0 if kind.kind == "f" else float(np.iinfo(kind).max)


@dataclass(frozen=True)
class FeatureSample(Round):
    """One pass that gathers a sample of the features; its reduction fits the model.

    The sample is a set of rows with their counts, sorted: no trace of tiles or of their order.

    Parameters
    ----------
    space : {"raw", "lab"}
    sample_px : int
        Pixels an image that are wanted; an image of fewer is taken whole.
    fit : callable
        Makes the model's state of rows (N, C) float64 and their counts (N,) int64.
    scope : {"image", "dataset"}
    """

    space: ColorSpace
    sample_px: int
    fit: Callable[[NDArray[np.float64], NDArray[np.int64]], State]
    scope: Literal["image", "dataset"] = "image"

    name: ClassVar[str] = "sample"

    def map(self, view: TileView, state: State) -> Output:
        grid, core = view.grid, view.tile.core
        total = grid.pixels
        shape = np.array((1, *grid.shape)[-3:], np.int64)
        strides = np.array([shape[1] * shape[2], shape[2], 1])
        start = np.array((0, *core.start)[-3:], np.int64)
        first = view.tile.frame * int(np.prod(shape)) + int((start * strides).sum())
        box = np.array((1, *core.shape)[-3:], np.int64)
        chosen = sampled_pixels(first, strides, box, self.sample_px / total)
        found = features(view, self.space)
        rows = np.ascontiguousarray(found.reshape(len(found), -1)[:, chosen].T, np.float64)
        valid = view.valid()
        if valid is not None:
            rows = rows[valid.reshape(-1)[chosen]]
        values, counts = unique_rows(rows, np.ones(len(rows), np.int64))
        return Output({VALUES: values, COUNTS: counts})

    def combine(self, records: Iterable[Record]) -> Record:
        return _merge(records)

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        sample = _merge(record for _, record in records)
        return {**state, **self.fit(sample[VALUES], sample[COUNTS].astype(np.int64))}


def _merge(records: Iterable[Record]) -> Record:
    known = list(records)
    values, counts = unique_rows(
        np.concatenate([record[VALUES] for record in known]),
        np.concatenate([record[COUNTS] for record in known]).astype(np.int64),
    )
    return {VALUES: values, COUNTS: counts}


def unique_rows(
    rows: NDArray[np.float64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Different rows of (N, C) in lexicographic order, and the sums of their counts."""
    if len(rows) == 0:
        return rows, counts
    order = np.lexsort(rows.T[::-1])
    rows, counts = rows[order], counts[order]
    heads = np.flatnonzero(np.append(True, (rows[1:] != rows[:-1]).any(axis=1)))
    return rows[heads], np.add.reduceat(counts, heads)
