"""A network by hand: one pass of the plain module over a whole frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from pipeline.blocks import block_grid
from pipeline.grid import TileGrid
from pipeline.methods.network import Network
from pipeline.nets.model_folder import load_module, read_card
from pipeline.nets.settings import SCORES
from pipeline.recipe import Recipe, parse_recipe
from pipeline.scratch import FileScratch, MemoryScratch, Scratch
from pipeline.trial import Cut, Result, run_tiled


def picture(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Spots of some px, uint8."""
    rough = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 2)
    return ((rough - rough.min()) / np.ptp(rough) * 255).astype(np.uint8)


def recipe_of(model: str | list[str], dims: str = "2d", **fields: Any) -> Recipe:
    segment = {"method": "network", "model": model, "output": "classes", **fields}
    return parse_recipe({"source": {"dims": dims}, "segment": segment}, "recipe")


def normalised(image: np.ndarray, low: float = 1.0, high: float = 99.8) -> np.ndarray:
    """By the percentiles of the image, as the card's default has it."""
    first, last = np.percentile(image, [low, high])
    return (image.astype(np.float32) - np.float32(first)) / np.float32(last - first + 1e-6)


def extended(pixels: np.ndarray, stride: tuple[int, ...]) -> Tensor:
    """A batch (1, 1, \\*S), its last pixels repeated up to the stride."""
    missing = [(0, -n % s) for n, s in zip(pixels.shape, stride, strict=True)]
    return torch.from_numpy(np.pad(pixels, missing, mode="edge"))[None, None]


def one_pass(
    model: str, image: np.ndarray, run: Callable[[nn.Module, Tensor], Tensor] | None = None
) -> np.ndarray:
    """Outputs (K, \\*S) of one pass over the frame, through torch's own layers."""
    card, module = read_card(Path(model)), load_module(Path(model))
    assert card.stride_px is not None
    batch = extended(normalised(image), card.stride_px)
    with torch.no_grad():
        out = module(batch) if run is None else run(module, batch)
    found: np.ndarray = out[(0, slice(None), *(slice(n) for n in image.shape))].numpy()
    return found


@contextmanager
def kept_blocks() -> Iterator[dict[int, np.ndarray]]:
    """What the run inside leaves in scratch, by the number of the block."""
    kept: dict[int, np.ndarray] = {}

    def keeping(put: Callable[..., None]) -> Callable[..., None]:
        def keep(self: Scratch, name: str, tile: int, array: np.ndarray) -> None:
            if name == SCORES:
                kept.setdefault(tile, array.copy())  # what is checked later comes second
            put(self, name, tile, array)

        return keep

    with ExitStack() as stack:
        for kind in (MemoryScratch, FileScratch):
            stack.enter_context(mock.patch.object(kind, "put", keeping(kind.put)))
        yield kept


def engine_outputs(
    recipe: Recipe, image: np.ndarray, cut: Cut, folder: Path
) -> tuple[Result, np.ndarray]:
    """The result of the engine on one frame, and the outputs (K, \\*S) that it was made of."""
    assert isinstance(recipe.segment, Network)
    with kept_blocks() as kept:
        result = run_tiled(recipe, image, folder, cut)
    blocks = block_grid(TileGrid(1, image.shape, image.shape), recipe.segment.block_sides)
    found = np.full((len(next(iter(kept.values()))), *image.shape), np.nan, np.float32)
    assert len(kept) > 1, "one block shows nothing"
    for block in blocks.tiles():
        found[(slice(None), *block.core.slices)] = kept[block.number]
    return result, found
