"""Frames to learn from, as they are kept: pixels, labels, and maps that follow from labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.nets.normalisation import Terms

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Frame:
    """One plane or volume of an image.

    Parameters
    ----------
    image : str
        Name of the image.
    number : int
        Of the frame in the image.
    pixels : ndarray of shape (C, \\*S)
        As they are stored.
    terms : pair of ndarrays of shape (C,)
        Of the normalisation.
    objects : ndarray of shape (\\*S), int32, or None
        Numbers from 1 without gaps; 0 is background.
    classes : ndarray of shape (\\*S), int16, or None
        From 0; -1 is not known.
    maps : dict of ndarrays of shape (\\*S), float32
    middles : ndarray of shape (1 + n, D), float32
        Of the n objects; empty without objects.
    spots : dict
        By class, some of its pixels: (m, D).
    tags : ndarray of shape (K,), int8, or None
        1 for each class that it shows, 0 for others, -1 where that is not known.
    """

    image: str
    number: int
    pixels: NDArray[Any]
    terms: Terms
    objects: NDArray[np.int32] | None
    classes: NDArray[np.int16] | None
    maps: Mapping[str, Floats] = field(default_factory=dict)
    middles: Floats = field(default_factory=lambda: np.zeros((1, 0), np.float32))
    spots: Mapping[int, NDArray[np.int32]] = field(default_factory=dict)
    tags: NDArray[np.int8] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape[1:]

    @property
    def object_count(self) -> int:
        return len(self.middles) - 1


class Shelf:
    """Keeps arrays in memory up to a limit, and the others in files that are mapped.

    Parameters
    ----------
    limit_bytes : int
    folder : Path
        For the files; made when it is needed.
    """

    def __init__(self, limit_bytes: int, folder: Path) -> None:
        self._left = limit_bytes
        self._folder = folder
        self._files = 0

    def keep(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array, or one that is mapped from a file and holds the same."""
        if array.nbytes <= self._left:
            self._left -= array.nbytes
            return array
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._files}.npy"
        self._files += 1
        np.save(path, array)
        mapped: NDArray[Any] = np.load(path, mmap_mode="r")
        return mapped
