"""Pieces of tiles that find their object only when a whole frame is known.

A method's own first round leaves the pieces of every tile in scratch. Two rounds follow:

    solve   one order a frame reads what all its tiles left and gives every piece a key
    label   every tile emits its pieces; those of equal keys are one object

What the tiles leave must be small beside the pixels, for one worker holds it for a whole frame.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.grid import TileGrid
from pipeline.methods.base import EmittingRound, Output, State, TileLabels
from pipeline.view import TileView

#: Scratch: numbers 1..n of a core's pieces, 0 for background, and the key of each piece.
PIECES = "pieces"
KEYS = "piece-keys"


class SolveFrame(EmittingRound):
    """Give every piece of a frame its key: the tile that comes first in a frame does it for all."""

    name: ClassVar[str] = "solve"
    done: ClassVar[str] = "frame_solve.solved"

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        return range(0, len(grid), grid.tiles_per_frame)

    def map(self, view: TileView, state: State) -> Output:
        per_frame = view.grid.tiles_per_frame
        tiles = range(view.tile.frame * per_frame, (view.tile.frame + 1) * per_frame)
        for tile, keys in zip(tiles, self.keys(view, tiles), strict=True):
            # It is this order alone that writes them; repeated, it writes the same.
            view.scratch.put(KEYS, tile, keys)
        return Output({})

    @abstractmethod
    def keys(self, view: TileView, tiles: Sequence[int]) -> Iterable[NDArray[np.int64]]:
        """Keys of 0 or more of the pieces 1..n of each tile of a frame."""


@dataclass(frozen=True)
class LabelByKey(EmittingRound):
    """Emit the pieces of every core; those of one key become one."""

    name: ClassVar[str] = "label"
    done: ClassVar[str] = "frame_solve.labelled"

    def map(self, view: TileView, state: State) -> Output:
        pieces = view.scratch.get(PIECES, view.tile.number)
        keys = view.scratch.get(KEYS, view.tile.number)
        found, number = np.unique(keys, return_inverse=True)
        table = np.concatenate([[0], number.reshape(-1) + 1]).astype(np.uint32)
        return Output({}, TileLabels(table[pieces], keys=found))


def column(view: TileView, name: str, tiles: Sequence[int]) -> list[NDArray[Any]]:
    """What several tiles left under one name in scratch."""
    return [view.scratch.get(name, tile) for tile in tiles]
