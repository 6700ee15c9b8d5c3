"""Which images are learned from and which only judge: by a hash of their names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def place_of(name: str, seed: int) -> float:
    """A number in 0..1 that a name and a seed choose."""
    found = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return int.from_bytes(found[:8], "big") / 2**64


def split(names: Iterable[str], fraction: float, seed: int) -> tuple[list[str], list[str]]:
    """Names to learn from, and names for validation.

    An image stays where it is when others come: it is for validation where its number is below
    `fraction`. If that leaves one side empty, the image nearest to it changes sides.

    Parameters
    ----------
    names : iterable of str
        At least two.
    fraction : float
        Of validation.
    seed : int

    Returns
    -------
    train, validation : list of str
        In the order of their names.
    """
    ordered = sorted(names, key=lambda name: (place_of(name, seed), name))
    count = sum(place_of(name, seed) < fraction for name in ordered)
    count = min(max(1, count), len(ordered) - 1)
    return sorted(ordered[count:]), sorted(ordered[:count])
