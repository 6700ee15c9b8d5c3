"""GrabCut: objects out of boxes that somebody drew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipeline.annotations.shapes import ShapeFiles, Shapes, read_shapes
from pipeline.box_cut import CUT_BYTES_PER_PX, cut_box
from pipeline.byte_survey import ByteSurvey, as_bytes, needs_byte_survey
from pipeline.companions import Pattern
from pipeline.errors import MethodError
from pipeline.grid import Tile, TileGrid
from pipeline.lengths import Length, Lengths
from pipeline.methods.base import (
    Context,
    EmittingRound,
    Method,
    Output,
    Round,
    State,
    TileLabels,
)
from pipeline.records import Record
from pipeline.view import TileView

CUT = "grabcut.cut"
EMITTED = "grabcut.emitted"
#: Scratch: the foreground of a box. Its number stands for the tile's, for a tile may have many.
MASK = "grabcut.mask"


class ShapeFile(BaseModel):
    """A file beside the image, such as "{stem}.boxes.csv"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Pattern


class GrabCut(Method):
    """One object out of every box: what differs in colour from the pixels around the box.

    `boxes`: a file of boxes, see `pipeline.annotations.shape_files`; lines in it mark foreground,
    or background where that is their name. `background`: a file of lines that mark background.
    `margin_px`: how far around a box its background is learned from; `margin_um`: the same in um.
    `iterations`: rounds of learning colours and cutting. `seed`: of the first clustering of
    colours, the same for every box. `max_box_px`: a box with its margin is held whole and may have
    at most so many pixels.

    Pixels outside the box and pixels that are not finite are certain background, those on a line
    are certain of what it marks (background where lines cross), all others of the box are probable
    foreground. Everything found in a box is one object, in several parts or not. A pixel that was
    found in several boxes belongs to the one that comes first in the file. One channel counts as
    three equal ones. Pixels that are not uint8 after the filters are mapped to 0..255, from the
    range of the whole image, each channel by itself.

    Exact by definition: a box is cut from its own crop of the image, whatever the tiles.

    References
    ----------
    Rother, Kolmogorov, Blake, GrabCut, 2004, doi:10.1145/1015706.1015720
    """

    method: Literal["grabcut"]
    boxes: ShapeFile
    background: ShapeFile | None = None
    margin_px: int = Field(default=8, ge=1, le=10_000)
    margin_um: float | None = Field(default=None, gt=0)
    iterations: int = Field(default=5, ge=1, le=100)
    seed: int = Field(default=0, ge=0, lt=2**31)
    # OpenCV counts the 8 edges of a pixel in 32 bits.
    max_box_px: int = Field(default=4096 * 4096, ge=1, le=2**27)

    dims: ClassVar[tuple[int, ...]] = (2,)
    lengths: ClassVar[Lengths] = {"margin_um": Length("margin_px", "whole")}
    #: As if the boxes and their margins covered the image once.
    seconds_per_megapixel: ClassVar[float] = 2.5

    def companions(self) -> dict[str, str]:
        found = {"boxes": self.boxes.file}
        if self.background is not None:
            found["background"] = self.background.file
        return found

    def next_round(self, state: State, context: Context) -> Round | None:
        files = shape_files(context)
        if EMITTED in state:
            return None
        if CUT in state or len(read_shapes(files).boxes) == 0:
            return PasteBoxes(files)
        if needs_byte_survey(state, context):
            return ByteSurvey()
        return CutBoxes(files, self.margin_px, self.iterations, self.seed)

    def check(self, context: Context) -> None:
        if context.channels not in (1, 3):
            raise MethodError(
                context.name,
                f"the method takes one channel or three, {context.channels} are selected",
                "Choose them in the recipe, for example `source: {channels: [0]}`.",
            )
        sizes = self._crop_sizes(context)
        largest = int(sizes.argmax()) if len(sizes) else 0
        if len(sizes) and sizes[largest] > self.max_box_px:
            raise MethodError(
                context.name,
                f"box {largest + 1} of {context.companions['boxes'].path} has "
                f"{sizes[largest]} px with its margin, the limit is {self.max_box_px}",
                "Make it smaller, or raise max_box_px in the recipe's segment section; it takes "
                f"{CUT_BYTES_PER_PX} bytes of memory a pixel.",
            )

    def _crop_sizes(self, context: Context) -> NDArray[np.int64]:
        """Pixels of every box with its margin."""
        boxes = read_shapes(shape_files(context)).boxes
        start = np.maximum(boxes[:, 1:3] - self.margin_px, 0)
        stop = np.minimum(boxes[:, 3:5] + self.margin_px, context.grid.shape)
        return np.asarray((stop - start).prod(axis=1), np.int64)

    def halo_px(self) -> int:
        return 0

    def peak_bytes_per_px(self) -> float:
        # labels 4, pieces of masks 2, whether pixels are finite 1, pixels that are 8
        return 15.0

    def extra_bytes(self, context: Context) -> int:
        stored, seen = np.dtype(context.info.dtype).itemsize, np.dtype(context.dtype).itemsize
        # pixels as stored, filtered and as bytes, one channel in floats, marks and masks
        pixels = context.channels * (2 * stored + seen) + 3 + 3 + 24 + 4
        return int(self._crop_sizes(context).max(initial=0)) * (CUT_BYTES_PER_PX + pixels)

    def scratch_bytes_per_px(self) -> float:
        return 4.0 + 1.0

    def passes(self) -> str:
        return "1, and every box once; 2 if pixels are not uint8"

    def certificate(self, state: State) -> dict[str, Any]:
        return {
            "exact": True,
            "rule": "every box is cut from its own crop, with the recipe's seed",
            "boxes_of_an_object": int(state[CUT]) if CUT in state else 0,
            "opencv": cv2.__version__,
        }


def shape_files(context: Context) -> ShapeFiles:
    """Files of the boxes and of the background."""
    found = context.companions
    return ShapeFiles(found["boxes"], found.get("background"), context.info, context.name)


@dataclass(frozen=True)
class CutBoxes(Round):
    """Cut every box, in the tile that holds its first pixel; keep its foreground in scratch.

    The state has the number of boxes in which something was found.
    """

    files: ShapeFiles
    margin_px: int
    iterations: int
    seed: int

    name: ClassVar[str] = "cut"

    def tiles(self, grid: TileGrid, state: State) -> Sequence[int]:
        found: list[int] = np.unique(owners(read_shapes(self.files), grid)).tolist()
        return found

    def map(self, view: TileView, state: State) -> Output:
        shapes = read_shapes(self.files)
        found = 0
        for number in np.flatnonzero(owners(shapes, view.grid) == view.tile.number).tolist():
            mask = self._cut(view, state, shapes, number)
            view.scratch.put(MASK, number, mask)
            found += int(mask.any())
        return Output({CUT: np.array(found)})

    def combine(self, records: Iterable[Record]) -> Record:
        return {CUT: np.array(sum(int(record[CUT]) for record in records))}

    def reduce(self, records: Iterable[tuple[int, Record]], state: State) -> State:
        return {**state, **self.combine(record for _, record in records)}

    def _cut(self, view: TileView, state: State, shapes: Shapes, number: int) -> NDArray[np.bool_]:
        """The foreground of a box, of the box's shape."""
        box = shapes.box(number)
        crop = box.grow(self.margin_px, view.grid.frame_box)
        lines = shapes.marks(view.tile.frame, box, view.grid.shape)
        pixels = np.moveaxis(as_bytes(view.image_of(crop), state), 0, -1)
        colours = np.ascontiguousarray(np.broadcast_to(pixels, (*crop.shape, 3)))
        place, valid = box.within(crop), view.valid_of(crop)
        return cut_box(colours, place, lines, self.iterations, self.seed, valid)


@dataclass(frozen=True)
class PasteBoxes(EmittingRound):
    """Emit what was found in the boxes that touch a tile; the first box has its pixels."""

    files: ShapeFiles

    name: ClassVar[str] = "paste"
    done: ClassVar[str] = EMITTED

    def map(self, view: TileView, state: State) -> Output:
        shapes, core = read_shapes(self.files), view.tile.core
        labels = np.zeros(core.shape, np.uint32)
        keys: list[int] = []
        for number in touching(shapes, view.tile).tolist():
            box = shapes.box(number)
            common = box.intersect(core)
            target = labels[common.within(core)]
            found = view.scratch.get(MASK, number)[common.within(box)] & (target == 0)
            if found.any():
                keys.append(number)
                target[found] = len(keys)
        return Output({}, TileLabels(labels, keys=np.array(keys, np.int64)))


def owners(shapes: Shapes, grid: TileGrid) -> NDArray[np.int64]:
    """Number of the tile that holds the first pixel of each box; shape (n,)."""
    frame, y, x = shapes.boxes[:, :3].T
    return np.asarray(
        frame * grid.tiles_per_frame + (y // grid.side[0]) * grid.counts[1] + x // grid.side[1],
        np.int64,
    )


def touching(shapes: Shapes, tile: Tile) -> NDArray[np.intp]:
    """Numbers of the boxes that share pixels with a tile's core, ascending."""
    boxes, core = shapes.boxes, tile.core
    meets = (boxes[:, 1:3] < core.stop) & (boxes[:, 3:5] > core.start)
    return np.flatnonzero((boxes[:, 0] == tile.frame) & meets.all(axis=1))
