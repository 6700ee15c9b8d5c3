"""Reading images and label images as frames to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.box import Box
from pipeline.sources import SourceSpec, open_source
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.weak.label import WrongData


def read_frames(source: Any, channels: Sequence[int], ndim: int) -> NDArray[Any]:
    """(F, C, \\*S): planes or volumes."""
    times, _, *space = source.info.shape
    whole = Box.whole(space)
    volumes = [source.read(t, channels, whole) for t in range(times)]
    if ndim == 3:
        return np.stack(volumes)
    return np.concatenate([np.moveaxis(volume, 1, 0) for volume in volumes])


def read_labels(
    spec: SourceSpec, recipe: TrainingRecipe, shape: tuple[int, ...] | None
) -> NDArray[Any]:
    """Read a label image as frames (F, \\*S).

    Parameters
    ----------
    spec : SourceSpec
    recipe : TrainingRecipe
    shape : tuple of int, or None
        (F, \\*S) of its image, where it could be read.

    Raises
    ------
    WrongData, ImageError
        If it cannot be read, is no label image, or has another shape.
    """
    with open_source(spec) as source:
        info = source.info
        if info.shape[1] != 1:
            raise WrongData("size", f"its labels have {info.shape[1]} channels")
        if np.dtype(info.dtype).kind not in "iub":
            raise WrongData("range", f"its labels are {info.dtype}, not whole numbers")
        labels = read_frames(source, (0,), recipe.ndim)[:, 0]
    if shape is not None and labels.shape != shape:
        raise WrongData("size", f"is {_sides(shape)}, and its labels are {_sides(labels.shape)}")
    return labels


def without_gaps(labels: NDArray[Any]) -> NDArray[np.int32]:
    """The same objects, numbered from 1 in the order of their numbers; 0 stays background."""
    values, places = np.unique(labels, return_inverse=True)
    first = 0 if values[0] == 0 else 1
    return (places.reshape(labels.shape) + first).astype(np.int32)


def _sides(shape: Sequence[int]) -> str:
    frames, *sides = shape
    text = " x ".join(map(str, sides)) + " px"
    return f"{frames} frames of {text}" if frames > 1 else text
