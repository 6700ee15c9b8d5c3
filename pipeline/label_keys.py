"""Keys of the numbers of a label image: equal numbers of a frame are one object."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MethodError
from pipeline.view import TileView

#: Numbers of a label image are below it, so that number and frame make one key.
NUMBERS = 2**40


def label_keys(view: TileView, key: str, numbers: NDArray[Any]) -> NDArray[np.int64]:
    """Keys of numbers above 0 in the tile's frame.

    Parameters
    ----------
    view : TileView
    key : str
        What the label image is called among the image's companions.
    numbers : ndarray of shape (n,), integer

    Raises
    ------
    MethodError
        If a number is 2**40 or more.
    """
    if len(numbers) and int(numbers.max()) >= NUMBERS:
        raise MethodError(
            view.job.name,
            f"its {key} file {view.job.companions[key].path} has the number {numbers.max()}; "
            "numbers are below 2^40",
            "Number its objects anew.",
        )
    return numbers.astype(np.int64) + view.tile.frame * NUMBERS


def numbers_of(keys: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The numbers that `label_keys` made keys of."""
    return (keys % NUMBERS).astype(np.uint64)


def parent_column(label: str) -> str:
    """Column that tells of an object which object of another label it was made from."""
    return f"{label}_label"
