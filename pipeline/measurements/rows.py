"""Rows of several columns, and how rows of the same object are put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any]
Rows = dict[str, Column]


def concatenate(parts: Sequence[Mapping[str, Column]]) -> Rows:
    """Rows of all parts, one behind the other."""
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def select(rows: Mapping[str, Column], index: NDArray[Any]) -> Rows:
    """Some rows, by a mask or their numbers."""
    return {key: column[index] for key, column in rows.items()}


def merged(
    rows: Mapping[str, Column],
    keys: Sequence[str] = ("label",),
    how: Mapping[str, np.ufunc] | None = None,
) -> Rows:
    """One row for rows of equal keys, in the order of the keys.

    Parameters
    ----------
    rows : dict of ndarray, integer
    keys : sequence of str
        Columns that decide which rows are one; the first counts most.
    how : dict of ufunc
        How the other columns are put together; by default they are added.
    """
    order = np.lexsort([rows[key] for key in reversed(keys)])
    ordered = select(rows, order)
    if len(order) == 0:
        return ordered
    starts = np.ones(len(order), np.bool_)
    starts[1:] = np.any([ordered[key][1:] != ordered[key][:-1] for key in keys], axis=0)
    heads = np.flatnonzero(starts)
    found = {}
    for key, column in ordered.items():
        ufunc = (how or {}).get(key, np.add)
        found[key] = column[heads] if key in keys else ufunc.reduceat(column, heads)
    return found


def spread(
    label: NDArray[np.int64], rows: Mapping[str, Column], key: str, empty: float = 0
) -> Column:
    """Values of the labels' rows, in the order of `label`; `empty` where there is no row.

    Parameters
    ----------
    label : ndarray of shape (n,), int64
        Ascending.
    rows : dict of ndarray
        At most one row a label; all of their labels occur in `label`.
    """
    column = rows[key]
    out: Column = np.full((len(label), *column.shape[1:]), empty, column.dtype)
    out[np.searchsorted(label, rows["label"])] = column
    return out


def weighted(columns: Column, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """``columns @ weights``, added from first to last: BLAS takes other orders for other sizes.

    Parameters
    ----------
    columns : ndarray of shape (n, k)
    weights : ndarray of shape (k,), float64
    """
    total = np.zeros(len(columns))
    for k, weight in enumerate(weights):
        total += columns[:, k] * weight
    return total
