"""Thousands of touching cells, of which every window spoils those at its ends, are all found."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spoiled import SpoiledCells, SpoiledVolumes, Spoiling, cells, longest_side, renumbered

import pipeline.recipe
from pipeline.blocks import block_grid
from pipeline.box import Box
from pipeline.conformance import check_image
from pipeline.detection.detect import Detect
from pipeline.engine import Engine
from pipeline.grid import TileGrid
from pipeline.ledger import Ledger, MemoryLedger
from pipeline.methods.base import State
from pipeline.orders import Order, Receipt
from pipeline.output import OutputPlan
from pipeline.pyramid import open_level
from pipeline.recipe import Recipe, parse_recipe
from pipeline.trial import Cut, Result, plan_array, run_tiled, run_untiled, save_array

SHAPE, COUNT = (600, 700), 2400


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.recipe, "method_class", lambda name: SpoiledCells)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return cells(SHAPE, COUNT)


def recipe(**own: object) -> Recipe:
    segment = {"method": "spoiled_cells", "block_px": 128, "object_px": 60, "context_px": 2, **own}
    return parse_recipe({"segment": segment}, "recipe")


def test_the_cells_are_many_touch_and_differ_in_size(image: np.ndarray) -> None:
    area = np.bincount(image.ravel())[1:]
    assert len(area) == COUNT
    assert (image > 0).all()
    assert 20 < longest_side(image) <= 60
    assert np.quantile(area, 0.95) > 5 * np.quantile(area, 0.05)


def test_every_cell_is_found_once_whole_whatever_the_tiles(
    image: np.ndarray, tmp_path: Path
) -> None:
    found = check_image(recipe(), image, [Cut(128, 1), Cut((97, 300), 3, 2)], tmp_path)
    assert isinstance(found, Result)
    assert np.array_equal(found.labels[0, 0], image)
    assert found.certificate["blocks_looked_at_again"] == 0


def test_cells_longer_than_expected_are_looked_at_again(image: np.ndarray, tmp_path: Path) -> None:
    hasty = recipe(object_px=5, misses=False)
    found = check_image(hasty, image, [Cut(128, 2, 3)], tmp_path)
    assert isinstance(found, Result)
    assert np.array_equal(found.labels[0, 0], image)
    assert found.certificate["blocks_looked_at_again"] >= 30


def test_the_same_in_volumes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pipeline.recipe, "method_class", lambda name: SpoiledVolumes)
    volume = cells((30, 60, 70), 300)
    segment = {"method": "spoiled_cells", "block_px": 24, "object_px": 30, "context_px": 1}
    whole = parse_recipe({"source": {"dims": "3d"}, "segment": segment}, "recipe")
    assert 12 < longest_side(volume) <= 30
    found = check_image(whole, volume, [Cut((9, 40, 31), 2, 3)], tmp_path)
    assert isinstance(found, Result)
    assert np.array_equal(found.labels[0], volume)
    assert "detected_z_start_px" in found.table.column_names


def test_frames_do_not_meet(tmp_path: Path) -> None:
    stack = np.stack([cells((90, 110), 80, seed) for seed in (1, 2)])
    found = check_image(recipe(block_px=32), stack, [Cut(40, 1)], tmp_path)
    assert isinstance(found, Result)
    first, second = (renumbered(plane) for plane in stack)
    assert np.array_equal(found.labels[0], np.stack([first, second + first.max()]))


def test_the_table_has_score_class_and_box(image: np.ndarray, tmp_path: Path) -> None:
    part = image[:150, :160]
    table = run_tiled(recipe(), part, tmp_path, Cut(64, 1)).table
    number = np.unique(part, return_index=True)
    first = number[0][np.argsort(number[1])]
    assert np.allclose(table["score"], 0.6 + 0.1 * (first % 5), atol=2**-17)
    assert set(table["class_id"].to_pylist()) == {1}
    for axis in "yx":
        for end in ("start", "stop"):
            assert np.array_equal(
                table[f"detected_{axis}_{end}_px"], table[f"bbox_{axis}_{end}_px"]
            )
    assert str(table["score"].type) == "float"
    assert str(table["class_id"].type) == "int32"


def test_an_object_that_no_window_may_hold_is_refused_by_name(tmp_path: Path) -> None:
    long = np.zeros((40, 300), np.uint16)
    long[20, 10:290] = 1
    small = recipe(block_px=32, object_px=16, max_object_px=64, misses=False)
    found = check_image(small, long, [Cut(32, 1)], tmp_path)
    assert not isinstance(found, Result)
    assert "max_object_px is 64" in str(found)
    assert "Raise max_object_px" in str(found)
    wide = recipe(block_px=32, object_px=16, max_object_px=280, misses=False)
    whole = run_tiled(wide, long, tmp_path, Cut(32))
    assert np.array_equal(whole.labels[0, 0], long)


# --- What the rules are for: without them, the same cells come out wrong -------------------------


def test_without_looking_again_small_margins_spoil_cells(
    image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Detect, "_cut_length", lambda *_: 0)
    found = run_untiled(recipe(object_px=5, misses=False), image, tmp_path)
    assert differing(found.labels[0, 0], image) > 20


def test_without_owners_fragments_are_taken_for_cells(
    image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def every(found: Any, block: Box) -> np.ndarray:
        return np.ones(len(found), bool)

    monkeypatch.setattr("pipeline.detection.detect._anchored", every)
    monkeypatch.setattr(Detect, "_cut_length", lambda *_: 0)
    found = run_untiled(recipe(misses=False), image, tmp_path)
    assert differing(found.labels[0, 0], image) > 20


def test_voting_by_overlap_merges_and_loses_cells(image: np.ndarray) -> None:
    """The usual way: windows that overlap, each object unless it overlaps a known one."""
    grid = block_grid(TileGrid(1, image.shape, image.shape), (128, 128))
    step = Detect(Spoiling(misses=True), grid, 62, 2, 60)
    voted = np.zeros(image.shape, np.int64)
    areas = [0]
    for block in grid.tiles():
        window = step.window(block.core, 62)
        inside = window.intersect(grid.frame_box)
        beyond = [(0, n - m) for n, m in zip(window.shape, inside.shape, strict=True)]
        pixels = np.pad(image[inside.slices][None], [(0, 0), *beyond], mode="edge")
        found = step.detector.detect(pixels, window, block.core, grid.frame_box)
        best = np.argsort(-found.candidates.score, kind="stable")
        found = found.select(best)
        for start, mask in zip(found.masks.start, found.masks.unpacked(), strict=True):
            target = voted[Box(tuple(start), tuple(start + mask.shape)).slices]
            there = target[mask]
            known, shared = np.unique(there[there > 0], return_counts=True)
            union = np.array(areas)[known] + mask.sum() - shared
            if not (shared / union > 0.5).any():
                areas.append(int((mask & (target == 0)).sum()))
                target[mask & (target == 0)] = len(areas) - 1
    assert differing(voted, image) > 20


def differing(found: np.ndarray, truth: np.ndarray) -> int:
    """Cells of the truth that are not, pixel by pixel, one object."""
    pairs, counts = np.unique(
        np.stack([truth.ravel(), found.ravel()]).astype(np.int64), axis=1, return_counts=True
    )
    same = counts == np.bincount(truth.ravel())[pairs[0]]
    whole = found.ravel().astype(np.int64)
    same &= counts == np.bincount(whole)[pairs[1]]
    return int(truth.max()) - int(same[pairs[1] > 0].sum())


# --- Several processes ---------------------------------------------------------------------------


class FileLedger(MemoryLedger):
    """As a run of several workers has it: scratch and records are files."""

    persistent = True


def _perform(order: bytes) -> Receipt:
    return pickle.loads(order).perform()  # type: ignore[no-any-return]


def several(orders: Iterable[Order]) -> Iterator[tuple[Order, Receipt | BaseException]]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        waiting = [(order, pool.submit(_perform, pickle.dumps(order))) for order in orders]
        yield from ((order, future.result()) for order, future in reversed(waiting))


def test_several_processes_find_the_same(image: np.ndarray, tmp_path: Path) -> None:
    part, asked = image[:300, :310], recipe(object_px=5, misses=False)
    whole = run_untiled(asked, part, tmp_path)
    job = plan_array(asked, save_array(part, tmp_path), 96, tmp_path / "space")
    table = tmp_path / "objects.parquet"
    output = OutputPlan(tmp_path / "staged", table, asked, job.info, job.source, "none")
    ledger: Ledger = FileLedger()
    state: State = {}
    done = Engine(job, output, several, ledger, 2).run(state)
    assert done.digest == whole.digest
    assert done.table_digest == whole.table_digest
    labels = np.asarray(open_level(output.labels(done.count).path, 0)[...])
    assert np.array_equal(labels.reshape(part.shape), renumbered(part))
