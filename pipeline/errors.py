"""Every error that tilewright raises on purpose, in one tree.

    TilewrightError
    ├── RecipeError          the recipe or the arguments: nothing starts
    │   └── EmptyArchiveError  there is no image
    ├── ModelError           a network cannot be used: nothing starts
    ├── PlanError            the request cannot fit: memory, disk, size
    ├── OutputError          the output folder holds something else
    │   ├── BusyError        another run is writing there
    │   └── WorkError        scratch or records of unfinished work are lost or damaged
    ├── ModelError           a model cannot be used: its folder, card, weights or layers
    ├── ClusterError         the workers that a run needs are gone: it stops and can be continued
    ├── ViewError            the viewer cannot start
    ├── TrainingError        a training cannot go on
    │   └── DataError        images and labels to learn from are wrong: nothing starts
    ├── ConformanceError     a method is not exact: for the tests of methods
    └── ImageError           one image: it is quarantined, the others go on
        ├── UnreadableError  the file cannot be read
        ├── DamageError      the file was read, some of its pixels are missing or corrupt
        ├── MethodError      the method cannot be applied to this image
        └── ScoreError       its labels cannot be compared with a truth

A message says what is wrong with which file or value, what the limit is, and what to do. It is
shown to the user as it stands, without a traceback.
"""

from __future__ import annotations

from typing import Self

from pipeline.names import readable


class TilewrightError(Exception):
    """Base of all; `str(error)` is the whole message for the user."""

    def alone(self) -> Self:
        """The same error without its cause and traceback, as it may cross processes.

        Dask makes pickle take causes along (tblib), and some libraries' errors, such as those of
        imagecodecs, cannot be unpickled: the receiver would get a TypeError instead.
        """
        return type(self)(*self.args)


class RecipeError(TilewrightError):
    """A recipe or an argument is wrong; nothing was started."""


class EmptyArchiveError(RecipeError):
    """An archive can be read, and holds no image."""


class ModelError(TilewrightError):
    """A model cannot be used: its folder, card, weights or layers."""


class PlanError(TilewrightError):
    """What was asked for cannot fit into memory, disk or a number's range."""


class OutputError(TilewrightError):
    """The output folder belongs to another request, or cannot be written."""


class BusyError(OutputError):
    """Another run is writing to the output folder."""


class WorkError(OutputError):
    """Scratch or records of an unfinished image are lost or damaged: it starts over."""


class ClusterError(TilewrightError):
    """The cluster lacks what the run needs; no image is to blame, so that the run stops."""


class ViewError(TilewrightError):
    """The viewer cannot start: nothing to show, a port that is taken, a package that is missing."""


class TrainingError(TilewrightError):
    """A training cannot go on."""


class DataError(TrainingError):
    """Images and labels to learn from are wrong; nothing was started."""


class ConformanceError(TilewrightError):
    """A method breaks "tiled equals untiled", or fails where it should refuse."""


class ImageError(TilewrightError):
    """One image cannot be processed.

    Parameters
    ----------
    path : str
        The image, as the user knows it.
    reason : str
        What is wrong, with value and limit.
    remedy : str
        What to do; may be empty.
    """

    def __init__(self, path: str, reason: str, remedy: str = "") -> None:
        # All three go to args, so that the error survives pickling between processes.
        super().__init__(path, reason, remedy)
        self.path = path
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        remedy = f" {self.remedy}" if self.remedy else ""
        return readable(f"{self.path}: {self.reason}.{remedy}")


class UnreadableError(ImageError):
    """The file is not an image that this installation reads."""


class DamageError(ImageError):
    """Pixels of the image are missing or corrupt."""


class MethodError(ImageError):
    """The method does not apply to this image."""


class ScoreError(ImageError):
    """Labels and truth of this image cannot be compared."""
