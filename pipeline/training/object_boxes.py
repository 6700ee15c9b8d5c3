"""The boxes around objects of a label image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def object_boxes(objects: NDArray[np.integer]) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Number and box of each object that is there, by number."""
    found: list[Any] = ndimage.find_objects(objects)
    for number, box in enumerate(found, start=1):
        if box is not None:
            yield number, box
