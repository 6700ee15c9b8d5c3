"""Tables of rows that grow while a kernel fills them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def with_room(rows: NDArray[Any], used: int, more: int) -> NDArray[Any]:
    """The table, or a larger copy where `more` rows do not fit behind the `used` ones."""
    if used + more <= rows.shape[0]:
        return rows
    larger = np.empty((2 * (used + more), rows.shape[1]), rows.dtype)
    larger[:used] = rows[:used]
    return larger
