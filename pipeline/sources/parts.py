"""What a spec says of images made of several: parts, how they are laid out, where on a plate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pipeline.sources.base import SourceSpec

#: (T, C, Z, Y, X).
Five = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Part:
    """One image that is part of another.

    Parameters
    ----------
    spec : SourceSpec
    offset : tuple of int
        Where its first pixel lies, (t, c, z, y, x) in px.
    shape : tuple of int or None
        Its size, so that a part is opened only when it is read; None until it was opened once.
    channels : tuple of str
        Names of its channels, where the file does not know them; () takes the file's.
    along : str
        Axes on which its file is one of several, of "tcz": it must have one plane there.
    origin_um : tuple of float or None
        Where on the stage its first pixel lies, (z, y, x); known when it was opened once.
    """

    spec: SourceSpec
    offset: Five = (0, 0, 0, 0, 0)
    shape: Five | None = None
    channels: tuple[str, ...] = ()
    along: str = ""
    origin_um: tuple[float | None, float | None, float | None] = (None, None, None)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the fields of a well are put together: on a grid if there is one, else by the stage.

    Parameters
    ----------
    x, y : {1, -1}
        Whether a pixel's number grows with the stage's coordinate.
    columns : int
        Of the grid; 0: there is none.
    overlap_px : int
        That neighbours on the grid share.
    snake : bool
        Every other row of the grid runs from right to left.
    cells : tuple of int
        Number of each part on the grid; () counts them.
    """

    x: Literal[1, -1] = 1
    y: Literal[1, -1] = 1
    columns: int = 0
    overlap_px: int = 0
    snake: bool = False
    cells: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """Where an image was taken.

    Parameters
    ----------
    plate : str
        Path of the plate in the archive without suffix, with "/"; else of the fields' folder.
    row, column : str
        Of the well, as the archive names them: "A", "1" or "01"; "" where there are only fields.
    field : str
        "" is the whole well.
    acquisition : int or None
        Which of the plate's acquisitions, where it tells them apart.
    """

    plate: str
    row: str
    column: str
    field: str = ""
    acquisition: int | None = None

    @property
    def well(self) -> str:
        """Row and column together: "A1"."""
        return f"{self.row}{self.column}"
