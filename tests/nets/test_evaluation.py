"""Blocks of networks: read, computed and written at the same time, with the bits of one by one."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pipeline.nets.batch_sizes import BatchSizes  # noqa: E402
from pipeline.nets.context import GlobalContext  # noqa: E402
from pipeline.nets.device import settle  # noqa: E402
from pipeline.nets.evaluation import Evaluation  # noqa: E402
from pipeline.nets.frame_window import FrameWindow  # noqa: E402
from pipeline.nets.model_pass import ModelPass  # noqa: E402
from pipeline.nets.predictor import Predictor, predictor  # noqa: E402
from pipeline.nets.settings import SCORES  # noqa: E402
from pipeline.recipe import parse_recipe  # noqa: E402
from pipeline.scratch import MemoryScratch  # noqa: E402
from pipeline.timings import listening  # noqa: E402
from pipeline.trial import plan_array, save_array  # noqa: E402
from pipeline.view import TileView  # noqa: E402
from tests.nets.models import tiny_model  # noqa: E402

RANGE = {"normalisation": {"kind": "range"}}  # needs no survey


def evaluation(
    folder: Path, models: list[str], shape: tuple[int, int] = (80, 75), **fields: Any
) -> Evaluation:
    """Of an image that is one tile, by default of 3 x 3 blocks, the last ones cut off."""
    settle()
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, shape, np.uint8)
    segment = {"method": "network", "model": models, "block_px": 32, **fields}
    recipe = parse_recipe({"segment": segment}, "recipe")
    job = plan_array(recipe, save_array(image, folder), max(shape), folder)
    method: Any = recipe.segment
    return Evaluation(method.settings, TileView(job, job.grid.tile(0), MemoryScratch(), {}), {})


def one_by_one(found: Evaluation) -> dict[int, Any]:
    """Outputs of all blocks, without threads and batches."""
    kept: dict[int, Any] = {}
    for model in range(len(found.settings.models)):
        step = ModelPass(found.settings, model, found.view, found.state, "float32")
        for block in found.own():
            rows = step.compute(step.load(block)[None], [block])
            kept[block.number] = step.decode(block, rows[0], kept.get(block.number))
    return kept


@pytest.mark.parametrize("augment", [[], ["flips", "rotations"]])
@pytest.mark.parametrize("count", [1, 2])
def test_equals_blocks_one_by_one(tmp_path: Path, count: int, augment: list[str]) -> None:
    models = [tiny_model(seed=seed, **RANGE) for seed in range(count)]
    found = evaluation(tmp_path, models, augment=augment)
    seen: list[int] = []
    with listening() as heard:
        found.keep(
            found.own(), "float32", found.view.scratch, lambda block, _: seen.append(block.number)
        )
    expected = one_by_one(found)
    assert seen == list(expected) == list(range(9))
    for number, outputs in expected.items():
        assert np.array_equal(found.view.scratch.get(SCORES, number), outputs)
    assert [t.windows for t in heard] == [9 * count]


def test_an_ensemble_is_the_mean_of_probabilities(tmp_path: Path) -> None:
    models = [tiny_model(seed=seed, **RANGE) for seed in range(2)]
    alone = [one_by_one(evaluation(tmp_path, [model])) for model in models]
    both = one_by_one(evaluation(tmp_path, models))
    for number, outputs in both.items():
        mean = sum(torch.softmax(torch.from_numpy(a[number]).double(), 0) for a in alone) / 2
        assert np.allclose(np.exp(outputs), mean, atol=1e-6)


def test_batches_of_windows_are_those_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four at once, as a GPU computes them: sums in another order, and nothing else."""
    found = evaluation(tmp_path, [tiny_model(**RANGE)], (32, 288), augment=["flips"])
    expected = one_by_one(found)
    net = predictor(found.settings.models[0])
    four = Predictor(net.card, net.network, net.reach, net.layout, BatchSizes(4))
    monkeypatch.setattr("pipeline.nets.model_pass.predictor", lambda _: four)
    with listening() as heard:
        found.keep(found.own(), "float32", found.view.scratch, lambda *_: None)
    assert heard[0].batches < heard[0].windows == 9
    for number, outputs in expected.items():
        kept = found.view.scratch.get(SCORES, number)
        assert np.allclose(np.exp(kept), np.exp(outputs), atol=1e-3)


def test_checked_blocks_are_compared_with_another_window(tmp_path: Path) -> None:
    found = evaluation(tmp_path, [tiny_model(**RANGE)])
    found.keep(found.own(), "float32", found.view.scratch, lambda *_: None)
    spoiled = found.view.scratch.get(SCORES, 0)
    scale = float(np.abs(spoiled).max())
    (near,) = found.apart()  # of block 0
    assert near.max() < 1e-5 * scale
    spoiled[:, 16, 16] += scale
    found.view.scratch.put(SCORES, 0, spoiled)
    (far,) = found.apart()
    assert far.max() == pytest.approx(scale, rel=1e-4)
    assert np.count_nonzero(far > 1e-3 * scale) == 1


def test_timings_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = evaluation(tmp_path, [tiny_model(**RANGE)])
    with caplog.at_level(logging.DEBUG, "pipeline.timings"):
        found.keep(found.own(), "float32", found.view.scratch, lambda *_: None)
    assert "windows=9" in caplog.text


def test_two_tasks_may_use_one_network_with_statistics() -> None:
    """A GPU worker runs two at a time: each has its own statistics and windows."""
    settle()
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.InstanceNorm2d(4, affine=True),
        torch.nn.Conv2d(4, 2, 1),
    ).eval()
    context = GlobalContext(net)
    images = [torch.rand(1, 1, 32, 32) * (1 + 9 * n) for n in range(2)]
    whole = FrameWindow.whole((32, 32))

    def run(image: torch.Tensor) -> torch.Tensor:
        found = [context.finish(0, context.collect(image, whole, []))]
        return context.forward(image, whole, found)

    alone = [run(image) for image in images]
    assert not torch.allclose(*alone)
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(run, images * 20))
    for number, result in enumerate(together):
        assert torch.equal(result, alone[number % 2])
        torch.testing.assert_close(result, net(images[number % 2]), atol=1e-4, rtol=0)
