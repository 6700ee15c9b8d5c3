"""Suppression block by block is the greedy suppression of the whole list."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torchvision.ops import batched_nms

from pipeline.blocks import block_grid, own_blocks, owners
from pipeline.box import Box
from pipeline.detection.detect import REACH, _anchored, _reach_of
from pipeline.detection.detections import STEPS, Candidates, Detections, Masks, quantised
from pipeline.detection.kept import keep
from pipeline.detection.suppress import Suppress, kept_status
from pipeline.grid import TileGrid
from pipeline.kernels.overlap import KEPT
from pipeline.methods.base import State
from pipeline.scratch import MemoryScratch

SHAPE = (70, 90)
Way = Literal["box", "mask"]


@st.composite
def lists(draw: DrawFn) -> Detections:
    """Objects that overlap in long chains, with equal scores, classes and anchors."""
    generator = np.random.default_rng(draw(st.integers(0, 2**20)))
    count = draw(st.integers(0, 60))
    levels = draw(st.sampled_from([1, 3, 1000]))
    largest = draw(st.sampled_from([6, 15, 60]))
    start = (generator.random((count, 2)) * SHAPE).astype(np.int64)
    side = generator.integers(1, largest + 1, (count, 2))
    stop = np.minimum(start + side, SHAPE)
    anchor = np.minimum((start + stop) // 2, np.array(SHAPE) - 1)
    if draw(st.booleans()):
        anchor = anchor // 8 * 8
    box = np.concatenate([start, stop], axis=1) + generator.random((count, 4)) - 0.5
    score = generator.integers(0, levels, count) / levels
    kind = generator.integers(1, 3, count).astype(np.int32)
    filled = draw(st.sampled_from([0.5, 1]))
    masks = [generator.random(tuple(shape)) < filled for shape in stop - start]
    candidates = Candidates(anchor, box.astype(np.float32), quantised(score), kind)
    return Detections(candidates, Masks.of(start, masks))


def greedy(found: Detections, threshold: float, by: Way, across: bool) -> np.ndarray:
    """Which objects the whole list keeps, one after the other."""
    known = found.candidates
    keys = [
        (-int(known.score[i]), int(known.class_id[i]), *known.anchor[i].tolist(), i)
        for i in range(len(found))
    ]
    masks = list(found.masks.unpacked())
    whole = np.zeros((len(found), *SHAPE), bool)
    for i, mask in enumerate(masks):
        whole[i][Box(tuple(found.masks.start[i]), tuple(found.masks.stop[i])).slices] = mask
    kept: list[int] = []
    for i in sorted(range(len(found)), key=keys.__getitem__):
        rivals = [k for k in kept if across or known.class_id[k] == known.class_id[i]]
        if by == "box":
            overlaps = [box_iou(known.box[i], known.box[k]) for k in rivals]
        else:
            overlaps = [
                (whole[i] & whole[k]).sum() / max(1, (whole[i] | whole[k]).sum()) for k in rivals
            ]
        if not any(overlap > threshold for overlap in overlaps):
            kept.append(i)
    return np.array(sorted(kept), np.int64)


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(float), b.astype(float)
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if (sides <= 0).any():
        return 0.0
    both = sides.prod()
    return float(both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both))


def suppressed(
    found: Detections, step: Suppress, grid: TileGrid, seed: int
) -> tuple[np.ndarray, int]:
    """Which objects the rounds keep, visited in a drawn order, and in how many turns."""
    generator = np.random.default_rng(seed)
    scratch = MemoryScratch()
    reach = np.zeros(2, np.int64)
    owned = {}
    for block in step.blocks.tiles():
        mine = np.flatnonzero(_anchored(found, block.core))
        owned[block.number] = mine
        keep(scratch, block.number, found.select(mine))
        reach = np.maximum(reach, _reach_of(found.select(mine), block.core))
    state: State = {REACH: reach}
    turns = 0
    while not step.is_done(state):
        records = []
        for number in generator.permutation(step.tiles(grid, state)):
            view: Any = SimpleNamespace(scratch=scratch, tile=grid.tile(int(number)))
            records.append((int(number), step.map(view, state).record))
        state = step.reduce(records, state)
        turns += 1
    kept = [mine[kept_status(scratch, n, state) == KEPT] for n, mine in owned.items()]
    return np.sort(np.concatenate(kept)), turns


@given(
    found=lists(),
    block=st.integers(9, 40),
    tile=st.integers(5, 40),
    threshold=st.sampled_from([0, 0.1, 0.3, 0.5, 0.9]),
    by=st.sampled_from(["box", "mask"]),
    across=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=30)
def test_blocks_keep_what_the_whole_list_keeps(
    found: Detections, block: int, tile: int, threshold: float, by: Way, across: bool, seed: int
) -> None:
    grid = TileGrid(1, SHAPE, (tile, tile + 3))
    step = Suppress(block_grid(grid, (block,) * grid.ndim), threshold, by, across)
    kept, turns = suppressed(found, step, grid, seed)
    assert np.array_equal(kept, greedy(found, threshold, by, across))
    assert turns <= len(found) + 1


def test_a_chain_across_blocks_takes_as_many_turns_as_it_crosses() -> None:
    # Each suppresses the next one, if it is kept itself: every second one is.
    start = np.stack([np.zeros(20, np.int64), np.arange(20) * 4], axis=1)
    stop = start + np.array([10, 8])
    box = np.concatenate([start, stop], axis=1).astype(np.float32)
    score = quantised(np.linspace(1, 0.5, 20))
    candidates = Candidates((start + stop) // 2, box, score, np.ones(20, np.int32))
    found = Detections(candidates, Masks.of(start, [np.ones((10, 8), bool)] * 20))
    grid = TileGrid(1, (12, 90), (12, 90))
    kept, turns = suppressed(found, Suppress(block_grid(grid, (12, 12)), 0.3, "box", True), grid, 0)
    assert np.array_equal(kept, np.arange(0, 20, 2))
    assert 5 <= turns <= 9


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_is_torchvisions_where_no_scores_are_equal(seed: int) -> None:
    generator = np.random.default_rng(seed)
    start = (generator.random((400, 2)) * (60, 80)).astype(np.float32)
    box = np.concatenate([start, start + 2 + 15 * generator.random((400, 2))], axis=1)
    score = generator.permutation(400) / 400
    kind = generator.integers(1, 4, 400).astype(np.int32)
    anchor = ((box[:, :2] + box[:, 2:]) / 2).astype(np.int64).clip(0, np.array(SHAPE) - 1)
    candidates = Candidates(anchor, box.astype(np.float32), quantised(score), kind)
    masks = Masks.of(anchor, [np.ones((1, 1), bool)] * 400)
    grid = TileGrid(1, SHAPE, SHAPE)
    step = Suppress(block_grid(grid, (16, 16)), 0.4, "box", False)
    kept, _ = suppressed(Detections(candidates, masks), step, grid, seed)
    swapped = torch.from_numpy(candidates.box[:, [1, 0, 3, 2]])
    expected = batched_nms(swapped, torch.from_numpy(score).float(), torch.from_numpy(kind), 0.4)
    assert np.array_equal(kept, np.sort(expected.numpy()))
    assert 50 < len(kept) < 350


def test_masks_are_packed_and_chosen_bit_by_bit() -> None:
    generator = np.random.default_rng(0)
    masks = [generator.random(shape) < 0.5 for shape in [(3, 5), (1, 1), (8, 8), (0, 4), (7, 9)]]
    start = generator.integers(0, 50, (5, 2))
    packed = Masks.of(start, masks)
    assert packed.bits.nbytes == 2 + 1 + 8 + 0 + 8
    for mask, found in zip(masks, packed.unpacked(), strict=True):
        assert np.array_equal(mask, found)
    chosen = packed.select(np.array([4, 1]))
    assert [m.shape for m in chosen.unpacked()] == [(7, 9), (1, 1)]
    assert np.array_equal(next(chosen.unpacked()), masks[4])
    assert np.array_equal(quantised(np.array([0, 0.5, 1])), [0, STEPS // 2, STEPS])


@given(
    side=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    block=st.integers(1, 40),
    frames=st.integers(1, 2),
)
@settings(deadline=None, max_examples=60)
def test_every_block_has_one_tile(side: tuple[int, int], block: int, frames: int) -> None:
    grid = TileGrid(frames, (31, 44), side)
    blocks = block_grid(grid, (block,) * grid.ndim)
    owner = {b.number: tile.number for tile in grid.tiles() for b in own_blocks(blocks, tile)}
    assert sorted(owner) == list(range(len(blocks)))
    assert sum(len(own_blocks(blocks, tile)) for tile in grid.tiles()) == len(blocks)
    assert list(owners(np.arange(len(blocks)), blocks, grid)) == sorted(set(owner.values()))
