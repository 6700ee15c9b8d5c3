"""Several labels of images that are looked at together: thresholds and light of the dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from flows.dry_run import dry_run
from flows.request import Request
from pipeline.errors import MethodError, RecipeError
from pipeline.label_states import put_together, state_of
from pipeline.labels_recipe import LabelsRecipe, parse_any_recipe
from pipeline.run_folder import RunFolder
from pipeline.scratch import MemoryScratch
from pipeline.trial import plan_labels, save_array
from pipeline.verify import verify_folder
from pipeline.view import TileView
from tests.in_process import digests, opened
from tests.test_flat_field import run
from tests.test_several_labels import tissue

NAMES = ("nuclei", "cells", "cytoplasm")
OTSU = {"value": "otsu", "scope": "dataset"}
LIGHT = {"filter": "flat_field", "estimate": "median"}
COUNT, SHAPE = 9, (70, 80)


def recipe_of(light: bool, **changes: Any) -> LabelsRecipe:
    """Nuclei of channel 0, cells of channel 1 that grow from them, cytoplasm."""
    steps = {"preprocess": [LIGHT]} if light else {}
    nuclei = {
        "source": {"channels": [0]},
        "segment": {"method": "threshold", "foreground": OTSU},
        **steps,
    }
    cells = {
        "source": {"channels": [1]},
        "segment": {
            "method": "watershed",
            "foreground": OTSU,
            "landscape": "intensity",
            "markers": {"from": "label", "label": "nuclei"},
        },
        **steps,
    }
    cytoplasm = {"segment": {"method": "difference", "of": "cells", "without": "nuclei"}}
    labels = {"nuclei": nuclei, "cells": cells, "cytoplasm": cytoplasm}
    for name, section in changes.items():
        labels[name] = {**labels[name], **section}
    found = parse_any_recipe({"labels": labels}, "recipe")
    assert isinstance(found, LabelsRecipe)
    return found


@pytest.fixture(params=["uint8", "float32"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Images of which some are darker, so that each by itself has other thresholds."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for seed in range(COUNT):
        image = (tissue(SHAPE, seed) * (0.5 + 0.05 * seed)).astype(request.param)
        tifffile.imwrite(folder / f"{seed}.ome.tif", image[:, None], metadata={"axes": "CZYX"})
    return folder


def labels_of(folder: RunFolder, image: str) -> dict[str, np.ndarray]:
    path = folder.image_path(image) / "labels"
    names = sorted(one.name for one in path.iterdir() if one.is_dir())
    return {name: zarr.open_array(path / name / "0", mode="r")[:] for name in names}


@pytest.mark.parametrize("light", [False, True])
def test_each_label_is_as_with_what_was_found_given(
    light: bool, archive: Path, tmp_path: Path
) -> None:
    """Thresholds and profiles of the run, written into a recipe that looks at each image by
    itself, give the same labels."""
    done = run(Request(recipe_of(light), archive, tmp_path / "out"))
    certificates = [row.details["labels"] for row in rows_of(done)]
    given: dict[str, Any] = {}
    for k, name in enumerate(("nuclei", "cells")):
        (threshold,) = {c[k]["certificate"]["threshold"] for c in certificates}
        segment = recipe_of(light).labels[name].segment.model_dump(by_alias=True)
        given[name] = {"segment": {**segment, "foreground": {"value": threshold}}}
        if light:
            profile = str(done.profiles / f"{k}-flat.tif")
            step = {"filter": "flat_field", "profile": profile, "resize": True}
            given[name]["preprocess"] = [step]
    again = recipe_of(light, **given)
    assert not again.is_dataset_wide()
    other = run(Request(again, archive, tmp_path / "again"))
    for seed in range(COUNT):
        found, expected = labels_of(done, str(seed)), labels_of(other, str(seed))
        assert sorted(found) == sorted(NAMES)
        for name in NAMES:
            np.testing.assert_array_equal(found[name], expected[name])
            assert found[name].any()
    assert verify_folder(done.root).damaged == []


def rows_of(folder: RunFolder) -> list[Any]:
    manifest = folder.reading()
    try:
        return list(manifest.images())
    finally:
        manifest.close()


def test_tiles_and_a_crash_change_nothing(archive: Path, tmp_path: Path) -> None:
    whole = run(Request(recipe_of(True), archive, tmp_path / "whole"))
    tiled = run(Request(recipe_of(True), archive, tmp_path / "tiled", tile_px=45), small=False)
    assert digests(tiled) == digests(whole)

    request = Request(recipe_of(True), archive, tmp_path / "crash")
    with opened(request) as stages:
        admitted = stages.admit()
        plans = stages.plan(admitted)
        before = stages.survey(plans, stages.dataset_identity(admitted))
        stages.segment_small(plans[:4], before)
    with opened(request) as stages:
        admitted = stages.admit()
        plans = stages.plan(admitted)
        assert len(plans) == COUNT - 4
        stages.submit = no_survey
        after = stages.survey(plans, stages.dataset_identity(admitted))
        assert {k: v.tobytes() for k, v in after.items()} == {
            k: v.tobytes() for k, v in before.items()
        }
    assert digests(run(request)) == digests(whole)


def no_survey(*_: Any) -> Any:
    raise AssertionError("what was surveyed before is surveyed again")


def test_one_threshold_holds_for_all_images_and_one_an_image_for_none(
    archive: Path, tmp_path: Path
) -> None:
    counts = {}
    for scope in ("dataset", "image"):
        segment = {"method": "threshold", "foreground": {"value": "otsu", "scope": scope}}
        done = run(
            Request(recipe_of(False, nuclei={"segment": segment}), archive, tmp_path / scope)
        )
        found = [row.details["labels"] for row in rows_of(done)]
        counts[scope] = [
            len({labels[k]["certificate"]["threshold"] for labels in found}) for k in (0, 1)
        ]
    assert counts["dataset"] == [1, 1]
    assert counts["image"][0] > 1
    assert counts["image"][1] == 1  # cells are still told from all images


def test_a_channel_has_one_profile_in_all_labels(archive: Path, tmp_path: Path) -> None:
    """Also where labels see other channels beside it."""
    segment = {"method": "slic", "size_px": 10, "compactness": 10}
    both = {"source": {"channels": [1, 0]}, "segment": segment, "preprocess": [LIGHT]}
    content = {"labels": {"one": recipe_section("nuclei"), "both": both}}
    recipe = parse_any_recipe(content, "recipe")
    request = Request(recipe, archive, tmp_path / "out")
    with opened(request) as stages:
        admitted = stages.admit()
        plans = stages.plan(admitted)
        state = stages.survey(plans, stages.dataset_identity(admitted))
    one, two = (state_of(state, name, several=True) for name in ("one", "both"))
    assert one["preprocess.flat"].tobytes() == two["preprocess.flat"][1:].tobytes()
    assert (two["preprocess.flat"][0] != two["preprocess.flat"][1]).any()
    names = sorted(path.name for path in stages.folder.profiles.iterdir())
    assert names == ["0-flat.tif", "1-flat.tif"]
    for k, row in ((0, 1), (1, 0)):
        stored = tifffile.imread(stages.folder.profiles / f"{k}-flat.tif")
        assert stored.tobytes() == two["preprocess.flat"][row].tobytes()


def recipe_section(name: str) -> dict[str, Any]:
    return recipe_of(True).labels[name].model_dump(by_alias=True)


def test_an_image_that_fails_is_left_out_of_all_labels(archive: Path, tmp_path: Path) -> None:
    path = archive / "3.ome.tif"
    path.write_bytes(path.read_bytes()[:2000])
    done = run(Request(recipe_of(True), archive, tmp_path / "out"))
    path.unlink()
    other = run(Request(recipe_of(True), archive, tmp_path / "other"))
    quarantined = [row.name for row in rows_of(done) if row.status == "quarantined"]
    assert quarantined == ["3"]
    assert [line for line in digests(done)[0] if " quarantined" not in line] == digests(other)[0]


def test_a_part_of_the_dataset_is_refused(archive: Path, tmp_path: Path) -> None:
    light_alone = recipe_of(
        True, nuclei={"segment": {"method": "threshold", "foreground": {"value": 9}}}
    )
    for recipe in (recipe_of(False), light_alone):
        with pytest.raises(RecipeError, match="--only"):
            Request(recipe, archive, tmp_path / "out", only="0*")


def test_the_plan_says_that_frames_are_looked_at(archive: Path, tmp_path: Path) -> None:
    text = dry_run(Request(recipe_of(True), archive, tmp_path / "out")).text()
    assert "flat field: 100 frames of the dataset are looked at first, at most" in text


def test_a_label_that_is_not_made_yet_is_named(tmp_path: Path) -> None:
    from flows.survey import _before_labels

    parts = plan_labels(recipe_of(False), save_array(tissue()[:, None], tmp_path), 80, tmp_path)
    job = _before_labels(parts[1].job)
    view = TileView(job, job.grid.tile(0), MemoryScratch(), {})
    with pytest.raises(MethodError, match=r"before any label is made.*scope: image"):
        view.companion_labels("markers", job.grid.tile(0).core)


def test_states_of_labels_are_told_apart() -> None:
    states = {"a": {"x": np.array(1)}, "a.b": {"x": np.array(2), "y.z": np.array(3)}}
    together = put_together(states)
    assert {name: state_of(together, name, several=True) for name in states} == states
    assert put_together({"a": states["a"]}) == states["a"]
    assert state_of(states["a"], "a", several=False) == states["a"]
