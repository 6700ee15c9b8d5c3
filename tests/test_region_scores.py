"""Scores of regions on partitions whose scores are known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

from region_scores import Scores, boundary_f1, mean_scores, score
from region_ways import TISSUE_SUPERPIXELS, TISSUE_WAYS, VOLUME_SUPERPIXELS, VOLUME_WAYS, Scene
from scores import (
    FOUND,
    best,
    demand_equal,
    main,
    recipe_of,
    run_ours,
    score_library,
    score_ours,
    try_ours,
)


def halves(side: int = 24) -> np.ndarray:
    """Two objects that touch, and no background."""
    return np.repeat(np.arange(side) // (side // 2) + 1, side).reshape(1, side, side)


def test_the_truth_itself_is_without_error() -> None:
    found = score(halves() * 7, halves())
    assert found.split == pytest.approx(0, abs=1e-12)
    assert found.merge == pytest.approx(0, abs=1e-12)
    assert found.rand_error == pytest.approx(0, abs=1e-12)
    assert found.boundary_f1 == 1


def test_splits_and_merges_are_told_apart() -> None:
    quarters = halves() * 2 + halves().transpose(0, 2, 1)
    split = score(quarters, halves())
    assert split.split == pytest.approx(1)  # one bit: each object in two equal parts
    assert split.merge == pytest.approx(0, abs=1e-12)
    merged = score(np.ones_like(halves()), halves())
    assert merged.split == pytest.approx(0, abs=1e-12)
    assert merged.merge == pytest.approx(1)
    assert merged.boundary_f1 == 0
    assert mean_scores([split, merged]).variation == pytest.approx(1)


def test_what_is_far_from_objects_is_not_judged() -> None:
    truth = np.zeros((1, 40, 40), int)
    truth[0, 4:14, 4:14] = 1
    labels = truth + 1
    there = labels.copy()
    there[0, 25:30, 25:30] = 9  # a region in the background
    assert score(there, truth) == score(labels, truth)
    inside = labels.copy()
    inside[0, 8:10, 8:10] = 9
    assert score(inside, truth).split > 0.1
    assert score(inside, truth).boundary_f1 < 0.95


@pytest.mark.parametrize(("moved", "found"), [(0, 1.0), (1, 1.0), (8, 0.0)])
def test_borders_may_be_off_by_the_tolerance(moved: int, found: float) -> None:
    labels = (np.arange(48) >= 24 + moved)[:, None].repeat(48, axis=1)[None] + 1
    truth = (np.arange(48) >= 24)[:, None].repeat(48, axis=1)[None] + 1
    assert boundary_f1(labels, truth) == found


def test_the_best_value_has_the_smallest_mean_over_images() -> None:
    def one(variation: float) -> Scores:
        return Scores(variation, 0, 0, 0)

    assert best([[one(1), one(2)], [one(4), one(1)]], (10, 20)) == 20


def scene() -> Scene:
    generator = np.random.default_rng(0)
    colors = np.array([[200, 170, 210], [90, 40, 130]])[(np.arange(60) // 20 % 2)]
    image = colors[:, None].repeat(50, axis=1) + generator.normal(0, 9, (60, 50, 3))
    pixels = np.moveaxis(image.clip(0, 255).astype(np.uint8), -1, 0)[:, None]
    truth = (np.arange(60) // 20 + 1)[:, None].repeat(50, axis=1)[None]
    return Scene("stripes", pixels, truth)


@pytest.mark.parametrize("superpixels", TISSUE_SUPERPIXELS, ids=lambda s: s.name)
def test_stripes_are_put_together_by_both(superpixels) -> None:
    way = next(w for w in TISSUE_WAYS if w.name == "hierarchical, mean_color")
    for row in (
        score_ours(superpixels, way, [scene()], 22),
        score_library(superpixels, way, [scene()], 22),
    ):
        assert 3 <= row.regions <= 5  # a superpixel may lie across an edge
        assert row.scores.variation < 0.2
        assert row.scores.boundary_f1 > 0.9


def test_the_history_gives_the_scores_of_single_runs() -> None:
    superpixels = TISSUE_SUPERPIXELS[0]
    way = next(w for w in TISSUE_WAYS if w.name == "hierarchical, ward")
    tried = try_ours(superpixels, way, scene(), (2000, 8000))
    one = run_ours(superpixels, way, 2000, scene(), False)
    assert tried[0] == score(one.labels[0], scene().truth)


def test_every_recipe_is_valid_and_every_value_named() -> None:
    for kinds, ways in ((TISSUE_SUPERPIXELS, TISSUE_WAYS), (VOLUME_SUPERPIXELS, VOLUME_WAYS)):
        for superpixels in kinds:
            for way in ways:
                recipe = recipe_of(superpixels, way, way.values[0])
                assert (recipe.merge is None) == (not way.merge)
    for superpixels in TISSUE_SUPERPIXELS:
        for way in TISSUE_WAYS[1:]:
            mine, other = FOUND[superpixels.name, way.name]
            assert mine in way.values
            assert other in way.values


def test_what_the_data_folder_lacks_is_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[list[Scene], list[Scene]]] = []
    monkeypatch.setattr("scores.tables", lambda _, train, scored, *__: seen.append((train, scored)))
    main([])
    ((train, (bundled,)),) = seen
    assert train == []
    assert bundled.truth.max() == 81
    assert "Left out" in (printed := capsys.readouterr().out)
    assert "em_3d_gala" in printed
    assert "nuclei/val" in printed

    rows = ["path\tmodality\tground_truth"]
    for k, part in enumerate(("train", "val", "val", "train")):
        kind = "fluorescence" if k == 3 else "histology H&E"
        (tmp_path / "nuclei" / part).mkdir(parents=True, exist_ok=True)
        for name in (f"nuclei/{part}/{k}.png", f"nuclei/{part}/{k}-truth.png"):
            pixels = np.full((9, 8), k, np.uint8) if "truth" in name else np.zeros((9, 8, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name)
        rows.append(f"nuclei/{part}/{k}.png\t{kind}\tnuclei/{part}/{k}-truth.png")
    (tmp_path / "MANIFEST.tsv").write_text("\n".join(rows))
    (tmp_path / "em_3d_gala").mkdir()
    for name in ("image", "boundary_prob", "gt", "superpixels"):
        volume = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
        tifffile.imwrite(
            tmp_path / "em_3d_gala" / f"train_{name}.tif", volume, photometric="minisblack"
        )
    seen.clear()
    main([str(tmp_path)])
    assert "Left out" not in capsys.readouterr().out
    tissue, volumes = seen
    assert [[scene.name for scene in part] for part in tissue] == [["0"], ["1", "2"]]
    assert [scene.truth.max() for scene in tissue[1]] == [1, 2]
    (left,), (right,) = volumes
    assert left.image.shape == right.image.shape == (2, 4, 5, 3)
    assert left.supplied is not None
    assert left.supplied[0, 0].tolist() == [0, 1, 2]
    assert right.truth[0, 0].tolist() == [3, 4, 5]


def test_a_broken_promise_ends_the_program() -> None:
    superpixels, way = TISSUE_SUPERPIXELS[1], TISSUE_WAYS[1]
    one = run_ours(superpixels, way, 8, scene(), False)
    demand_equal(run_ours(superpixels, way, 8, scene(), True), one, "stripes")
    with pytest.raises(SystemExit, match="stripes: tiles give another result"):
        demand_equal(run_ours(superpixels, way, 200, scene(), True), one, "stripes")
