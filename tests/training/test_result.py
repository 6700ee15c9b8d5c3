"""The result: a model whose card says what was measured, a recipe that uses it, a page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.nets.model_folder import load_module, read_card
from pipeline.recipe import load_recipe
from pipeline.training.checkpoint import load_best
from pipeline.training.curves import chart
from pipeline.training.folder import TrainingFolder
from pipeline.training.loop import train
from pipeline.training.report import write_training_report
from pipeline.training.result import publish
from pipeline.training.state import begin
from pipeline.trial import run_untiled

from .small_data import discs, recipe, save, training

CLASSES = {"head": "classes", "names": ["background", "disc"], "background": "background"}


def trained(pairs: Path, tmp_path: Path, **changes: object) -> tuple[TrainingFolder, str]:
    folder = TrainingFolder(tmp_path / "out")
    of = recipe(**changes)
    one = training(pairs, folder.root, of)
    state = train(one)
    result = publish(one, state, folder)
    write_training_report(folder, of, one.dataset, state, result)
    return folder, folder.report.read_text()


def test_model_card_recipe_and_page(data: Path, tmp_path: Path) -> None:
    words = {"licence": "CC0-1.0", "training_data": "discs", "authors": ["A. Uthor"]}
    folder, page = trained(data, tmp_path, **words)
    card = read_card(folder.model)
    assert card.scores.keys() == {
        "validation_ap50",
        "validation_iou",
        "validation_loss",
        "validation_images",
        "steps",
    }
    assert card.device == "CPU, 1 thread, float32"
    assert card.seconds is not None
    assert card.seconds > 0
    assert card.training_data is not None
    assert card.training_data.startswith("discs; ")
    assert card.object_px is not None
    low, high = card.object_px
    assert 4 < low < 9 < high < 16.1  # radii are drawn from 4 to 8 px; some discs are cut
    assert (card.licence, card.authors) == ("CC0-1.0", ("A. Uthor",))
    best = begin(recipe(), torch.device("cpu")).network
    load_best(folder.checkpoints, best)
    module = load_module(folder.model)
    assert all(torch.equal(v, best.state_dict()[k]) for k, v in module.state_dict().items())
    image = discs(0)[0]
    assert run_untiled(load_recipe(str(folder.recipe)), image, tmp_path).labels.shape[-2:] == (
        48,
        48,
    )
    assert "<h2>Learning curves</h2>" in page
    assert page.count("<em>predicted</em>") == card.scores["validation_images"]


def test_classes_are_scored_by_their_overlap(data: Path, tmp_path: Path) -> None:
    for k in range(6):
        save(data / "labels" / f"{k}.png", (discs(k)[1] > 0).astype(np.uint8))
    folder, page = trained(
        data,
        tmp_path,
        heads=[CLASSES],
        data={"objects": None, "classes": "labels"},
        sampling={"patch_px": 32, "batch": 2, "balance": "classes"},
        steps=60,
        validation={"fraction": 0.4, "every_steps": 60},
    )
    scores = read_card(folder.model).scores
    assert scores["validation_mean_iou"] > 0.8
    assert scores["validation_mean_iou"] == pytest.approx(
        (scores["validation_iou_background"] + scores["validation_iou_disc"]) / 2, abs=1e-3
    )
    assert "<em>truth</em>" in page


def test_what_is_normalised_together_is_scored_so(data: Path, tmp_path: Path) -> None:
    rule = {"kind": "percentiles", "scope": "dataset"}
    folder, _ = trained(data, tmp_path, normalisation=rule)
    assert read_card(folder.model).normalisation.model_dump()["scope"] == "dataset"


def test_volumes_are_trained(tmp_path: Path) -> None:
    import tifffile

    data = tmp_path / "data"
    for kind in ("images", "labels"):
        (data / kind).mkdir(parents=True)
    for k in range(3):
        image, labels = discs(k)
        for kind, array in (("images", image), ("labels", labels)):
            volume = np.repeat(array[None], 12, 0)
            tifffile.imwrite(data / kind / f"{k}.tif", volume, metadata={"axes": "ZYX"})
    folder, page = trained(
        data,
        tmp_path,
        ndim=3,
        arguments={"dims": 3, "depth": 1, "base_channels": 2},
        heads=[{"head": "border"}, {"head": "flow"}],
        sampling={"patch_px": [8, 16, 16], "batch": 2},
        steps=2,
        validation={"fraction": 0.3, "every_steps": 2},
    )
    assert read_card(folder.model).ndim == 3
    assert "<em>predicted</em>" in page


def test_a_chart_names_its_lines() -> None:
    drawn = chart("Loss", {"training": [(1, 2.0), (2, 1.0)], "none": []}, best=2)
    assert drawn.count("<polyline") == 1
    assert "training" in drawn
    assert "none" not in drawn.replace('fill="none"', "")
    ticks = re.findall(r">([\d.]+)<", drawn)[:5]
    assert ticks == ["0", "0.5", "1", "1.5", "2"]
    assert chart("Loss", {"training": []}) == ""
