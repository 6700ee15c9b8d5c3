"""What a weak label of an image says, as the frames of a dataset hold it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.annotations.shapes import ShapeFiles
from pipeline.box import Box
from pipeline.companions import Companion
from pipeline.image import ImageInfo
from pipeline.sources.fingerprint import fingerprint_file
from pipeline.training.recipe import TrainingRecipe

#: A tag that is not known.
UNTOLD = -1


@dataclass(frozen=True)
class Seen:
    """An image that weak labels belong to.

    Parameters
    ----------
    name : str
    info : ImageInfo
    pixels : ndarray of shape (F, C, \\*S)
        F frames.
    """

    name: str
    info: ImageInfo
    pixels: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """(F, \\*S)."""
        return (self.pixels.shape[0], *self.pixels.shape[2:])

    def shapes_of(self, drawn: Drawn) -> ShapeFiles:
        """Files of shapes, as those of this image."""
        background = None if drawn.background is None else _companion(drawn.background)
        return ShapeFiles(_companion(drawn.path), background, self.info, self.name)


def _companion(path: Path) -> Companion:
    return Companion(str(path), fingerprint_file(path))


@dataclass(frozen=True, slots=True)
class Drawn:
    """Files of shapes.

    Parameters
    ----------
    path : Path
    background : Path or None
        Lines that mark background, for programs that keep no names of shapes.
    """

    path: Path
    background: Path | None = None


@dataclass(frozen=True)
class Region:
    """A part of an image, and what it shows.

    Parameters
    ----------
    box : Box
    tags : ndarray of shape (K,), int8
        1 for each class that it shows, 0 for each that it does not, -1 of the background.
    """

    box: Box
    tags: NDArray[np.int8]


@dataclass(frozen=True)
class Learned:
    """What a label teaches.

    Parameters
    ----------
    objects : ndarray of shape (F, \\*S), int32, or None
        From 1 without gaps in each frame.
    classes : ndarray of shape (F, \\*S), int16, or None
        -1 is not known.
    regions : tuple of Region
        What tags tell; each is learned from by itself.
    """

    objects: NDArray[np.int32] | None = None
    classes: NDArray[np.int16] | None = None
    regions: tuple[Region, ...] = ()


class WrongData(Exception):
    """An image or its labels cannot be used; `kind` is that of a `Problem`."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class WeakLabel(ABC):
    """The weak label of one image, where it lies; small, and nothing is read yet."""

    @abstractmethod
    def learn(self, seen: Seen, recipe: TrainingRecipe) -> Learned:
        """Read it.

        Raises
        ------
        WrongData, ImageError
            If it cannot be used.
        """
