"""Is a label array the same partition as the reference?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import zarr


@dataclass(frozen=True)
class Verdict:
    """`text` is "equal", "same partition" or what differs; `objects` counts the labels."""

    exact: bool
    text: str
    objects: int


def _bands(*arrays: zarr.Array):
    step = max(arrays[0].chunks[0], 1024)
    for start in range(0, arrays[0].shape[0], step):
        yield [np.asarray(a[start : start + step]).ravel() for a in arrays]


def _pairs(reference: zarr.Array, labels: zarr.Array) -> tuple[np.ndarray, np.ndarray]:
    """Distinct (reference label, label) pairs and how many pixels each covers."""
    found, counts = [], []
    for a, b in _bands(reference, labels):
        keep = (a != 0) | (b != 0)
        rows = np.stack([a[keep].astype(np.uint64), b[keep].astype(np.uint64)])
        # runs of equal pairs are long: shrink before sorting
        change = np.flatnonzero(np.any(rows[:, 1:] != rows[:, :-1], axis=0)) + 1
        starts = np.concatenate([[0], change]) if rows.shape[1] else change
        found.append(rows[:, starts])
        counts.append(np.diff(np.append(starts, rows.shape[1])))
    rows, runs = np.concatenate(found, axis=1), np.concatenate(counts)
    order = np.lexsort(rows)
    rows, runs = rows[:, order], runs[order]
    new = np.concatenate([[True], np.any(rows[:, 1:] != rows[:, :-1], axis=0)])
    starts = np.flatnonzero(new)
    return rows[:, starts], np.add.reduceat(runs, starts)


def compare(reference: zarr.Array, labels: zarr.Array) -> Verdict:
    """Compare two label arrays of the same shape; background is 0 in both.

    Exact means that the pairs of labels that share a pixel are a bijection. If they are not,
    a reference object counts as kept when one object of `labels` covers exactly its pixels.
    """
    if labels.shape != reference.shape:
        return Verdict(False, f"shape {labels.shape} is not {reference.shape}", 0)
    pairs, pixels = _pairs(reference, labels)
    if pairs.shape[1] == 0:
        return Verdict(True, "equal", 0)
    objects = len(np.unique(pairs[1][pairs[1] != 0]))
    if np.array_equal(pairs[0], pairs[1]):
        return Verdict(True, "equal", objects)
    (a, a_index, a_times), (_, b_index, b_times) = (
        np.unique(side, return_inverse=True, return_counts=True) for side in pairs
    )
    alone = (a_times[a_index] == 1) & (b_times[b_index] == 1) & (pairs != 0).all(axis=0)
    if alone.all():
        return Verdict(True, "same partition", objects)
    total = np.count_nonzero(a)
    wrong = total - np.count_nonzero(alone)
    background = pixels[(pairs == 0).any(axis=0)].sum()
    text = f"{wrong} of {total} objects differ"
    if background:
        text += f", {background} px of mask"
    return Verdict(False, text, objects)
