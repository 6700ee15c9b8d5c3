"""Probabilities of classes: their values, what is published, and what a run does with them."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
import zarr
from ome_zarr_models.v04.image import Image as Image04
from ome_zarr_models.v05.image import Image as Image05
from scipy import ndimage
from sklearn.mixture import GaussianMixture as Mixture

from pipeline.admission import Admitted, admit
from pipeline.conformance import check_image, check_probabilities
from pipeline.disk_space import check_disk
from pipeline.engine import Engine
from pipeline.errors import ConformanceError, PlanError, RecipeError
from pipeline.features import unique_rows
from pipeline.image import ImageInfo
from pipeline.kernels.classify import log_likelihoods, most_likely
from pipeline.kernels.posterior import normalise
from pipeline.ledger import MemoryLedger
from pipeline.methods.gmm import CONSTANTS, MEANS, PRECISIONS, GaussianMixture
from pipeline.output import OutputPlan
from pipeline.plan import Machine, plan_image
from pipeline.pyramid import Pyramid, halve, open_level
from pipeline.recipe import parse_recipe
from pipeline.run_folder import RunFolder
from pipeline.steps import perform_here
from pipeline.trial import Cut, plan_array, run_untiled, save_array
from pipeline.verify import verify_folder

Here = Callable[..., Any]

SEGMENT = {
    "method": "gmm",
    "k": 2,
    "output": "probabilities",
    "class_names": ["glass", "cells"],
    "class_colors": ["#000000", "#ff8000"],
}


def cells(shape: tuple[int, ...] = (60, 70)) -> np.ndarray:
    rough = ndimage.gaussian_filter(np.random.default_rng(7).random(shape), 2)
    return ((rough - rough.min()) / np.ptp(rough) * 250).astype(np.uint8)


# --- Values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_posterior_of_a_mixture_is_that_of_scikit_learn(covariance: str, k: int) -> None:
    rng = np.random.default_rng(k)
    rough = [ndimage.gaussian_filter(rng.random((40, 50)), 2) * 900 for _ in range(3)]
    rows = np.stack(rough).reshape(3, -1).T
    model = GaussianMixture(method="gmm", k=k, covariance=covariance)
    state = model.fit(*unique_rows(rows, np.ones(len(rows), np.int64)))
    other = Mixture(k, covariance_type="full")
    factors = state[PRECISIONS]
    log_det = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    other.means_, other.precisions_cholesky_ = state[MEANS], factors
    other.weights_ = np.exp(state[CONSTANTS] - log_det + 1.5 * np.log(2 * np.pi))
    assert abs(other.weights_.sum() - 1) < 1e-12
    found = log_likelihoods(rows.T, state[MEANS], factors, state[CONSTANTS])
    classes = normalise(found, None)
    assert np.abs(found.T - other.predict_proba(rows)).max() < 1e-9
    assert np.abs(found.astype(np.float32).T - other.predict_proba(rows)).max() < 1e-6
    assert np.array_equal(classes, other.predict(rows) + 1)
    assert np.array_equal(classes, most_likely(rows.T, state[MEANS], factors, state[CONSTANTS]))


def test_probabilities_do_not_change_the_map(tmp_path: Path) -> None:
    image = cells().astype(np.float32)
    image[5:9, 5:20] = np.nan
    results = []
    for output in ("probabilities", "classes"):
        recipe = parse_recipe({"segment": {**SEGMENT, "output": output}}, "recipe")
        results.append(run_untiled(recipe, image, tmp_path))
    soft, hard = results
    assert soft.digest == hard.digest
    assert soft.table_digest == hard.table_digest
    assert hard.probabilities is None
    assert soft.probabilities is not None
    assert soft.probabilities.shape == (1, 2, 1, 60, 70)
    total = soft.probabilities.sum(axis=1)
    assert np.array_equal(total[0, 0] > 0, np.isfinite(image))


def test_classes_that_are_not_found_have_probability_0(tmp_path: Path) -> None:
    image = np.where(np.indices((20, 21))[1] < 9, 3, 200).astype(np.uint8)
    segment = {"method": "gmm", "k": 4, "output": "probabilities"}
    found = run_untiled(parse_recipe({"segment": segment}, "recipe"), image, tmp_path)
    assert found.probabilities is not None
    assert np.array_equal(found.probabilities[0, 0, 0], image == 3)
    assert np.array_equal(found.probabilities[0, 1, 0], image == 200)
    assert not found.probabilities[0, 2:].any()


def test_a_prior_without_weight_changes_nothing(tmp_path: Path) -> None:
    results = []
    for smoothing in (None, {"weight": 0, "iterations": 2}, {"weight": 1.5, "iterations": 2}):
        content = {"segment": {**SEGMENT, "smoothing": smoothing}}
        results.append(run_untiled(parse_recipe(content, "recipe"), cells(), tmp_path))
    plain, without, smooth = results
    assert plain.probabilities is not None
    assert without.probabilities is not None
    assert plain.probabilities.tobytes() == without.probabilities.tobytes()
    assert plain.digest == without.digest
    assert plain.digest != smooth.digest


@pytest.mark.parametrize("output", ["classes", "labels", "probabilities"])
def test_a_prior_acts_on_every_output(output: str, tmp_path: Path) -> None:
    """A disc under noise: the specks of another class go."""
    y, x = np.indices((64, 64))
    truth = (y - 30) ** 2 + (x - 34) ** 2 < 400
    image = (truth * 100 + np.random.default_rng(0).normal(80, 35, truth.shape)).clip(0, 255)
    image = image.astype(np.uint8)
    wrong = {}
    for weight in (0, 1.5):
        smoothing = {"weight": weight, "iterations": 6}
        segment = {"method": "gmm", "k": 2, "output": output, "smoothing": smoothing}
        recipe = parse_recipe({"segment": segment}, "recipe")
        found = check_image(recipe, image, [Cut(17, order=2), Cut((9, 40))], tmp_path)
        bright = found.labels[0, 0] > (0 if output == "labels" else 1)
        wrong[weight] = int((bright != truth).sum())
    assert wrong == {0: 328, 1.5: 12}


@pytest.mark.parametrize("method", ["kmeans", "mean_shift", "threshold", "local_threshold"])
def test_methods_without_probabilities_say_who_has_them(method: str) -> None:
    content = {"segment": {"method": method, "output": "probabilities"}}
    message = f"{method} tells the class of a pixel, but not how probable it is; .* by .*gmm"
    with pytest.raises(RecipeError, match=message):
        parse_recipe(content, "recipe")


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ({"smoothing": {"weight": -1}}, r"smoothing\.weight: .*greater than or equal to 0"),
        ({"smoothing": {"weight": float("inf")}}, r"smoothing\.weight"),
        ({"smoothing": {"iterations": 0}}, r"smoothing\.iterations"),
        ({"smoothing": {"wieght": 1}}, r"unknown key \(did you mean 'weight'\?\)"),
        ({"output": "probabilities", "object_classes": [1]}, "need `output: labels`"),
    ],
)
def test_what_a_recipe_says_of_a_prior_is_checked(segment: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe({"segment": {"method": "gmm", **segment}}, "recipe")


def test_probabilities_have_no_size() -> None:
    with pytest.raises(RecipeError, match="postprocess: it acts on objects"):
        parse_recipe({"segment": SEGMENT, "postprocess": {"min_size_px": 4}}, "recipe")


def test_wrong_probabilities_are_found(tmp_path: Path) -> None:
    good = run_untiled(parse_recipe({"segment": SEGMENT}, "recipe"), cells(), tmp_path)
    check_probabilities(good, 2, "image")
    soft = good.probabilities
    assert soft is not None
    for message, wrong in {
        "of 2 classes are not published": None,
        "negative or not a number": np.where(soft == soft.max(), np.nan, soft),
        "miss the sum of 1": soft * np.float32(1.0001),
        "not a likeliest one": soft[:, ::-1],
    }.items():
        with pytest.raises(ConformanceError, match=message):
            check_probabilities(dataclasses.replace(good, probabilities=wrong), 2, "image")


# --- What is published ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(600, 70), (2, 1, 3, 20, 30)])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_probabilities_are_an_ome_zarr_image(
    shape: tuple[int, ...], zarr_format: Any, tmp_path: Path
) -> None:
    recipe = parse_recipe({"label": "map", "segment": SEGMENT}, "recipe")
    job = plan_array(recipe, save_array(cells(shape), tmp_path), 37, tmp_path)
    mode = "copy" if zarr_format == 3 else "in_place"
    root, table = tmp_path / "out.ome.zarr", tmp_path / "objects.parquet"
    output = OutputPlan(root, table, recipe, job.info, job.source, mode, zarr_format)
    done = Engine(job, output, perform_here, MemoryLedger(), 2).run()
    group = zarr.open_group(root / "probabilities" / "map", mode="r")
    image = (Image05 if zarr_format == 3 else Image04).from_zarr(group)
    metadata = image.attributes.ome if zarr_format == 3 else image.attributes
    (multiscale,) = metadata.multiscales
    axes = "".join(axis.name for axis in multiscale.axes)
    assert axes == "tczyx"
    assert len(multiscale.datasets) == (2 if shape == (600, 70) else 1)
    stored: Any = group["0"]
    assert stored.dtype == np.float32
    level0 = np.asarray(stored[...])
    expected = run_untiled(recipe, cells(shape), tmp_path).probabilities
    assert expected is not None
    assert np.array_equal(level0, expected)
    if shape == (600, 70):
        level1: Any = group["1"]
        assert np.array_equal(np.asarray(level1[...]), halve(level0, "image"))
    attributes = group.attrs.asdict()
    channels = attributes["ome"]["omero"] if zarr_format == 3 else attributes["omero"]
    assert [(c["label"], c["color"]) for c in channels["channels"]] == [
        ("glass", "000000"),
        ("cells", "FF8000"),
    ]
    assert channels["channels"][0]["window"] == {"min": 0, "max": 1, "start": 0, "end": 1}
    names = {"zarr.json"} if zarr_format == 3 else {".zgroup", ".zattrs", ".zarray"}
    found = {p.name for p in (root / "probabilities").rglob("*") if "z" in p.suffix + p.name[:2]}
    assert found == names
    assert len(done.shards["probabilities"]) == len(done.shards["labels"])


# --- What a run does with them --------------------------------------------------------------------


@pytest.fixture
def recipe_file(tmp_path: Path) -> Callable[..., Path]:
    def write(image: str = "copy", **segment: object) -> Path:
        path = tmp_path / "soft.yaml"
        source, output = {"channels": [0]}, {"image": image}
        content = {"source": source, "segment": {**SEGMENT, **segment}, "output": output}
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.mark.parametrize("small_px", [0, 2048 * 2048])
def test_a_run_publishes_them_and_verify_finds_their_damage(
    small_px: int,
    demo: Path,
    here: Here,
    recipe_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.plan.SMALL_PX", small_px)
    image, out = demo / "crowded" / "547ef286ee5f.png", tmp_path / "out"
    recipe = recipe_file(smoothing={"weight": 1, "iterations": 2})
    here("run", recipe, image, out, "--tile", 96)
    assert (out / "report.html").is_file()
    verified = verify_folder(out)
    assert not verified.damaged
    folder = out / "images" / "547ef286ee5f.ome.zarr" / "probabilities" / "soft"
    shards = sorted(path for path in (folder / "0").rglob("c/**/*") if path.is_file())
    assert len(shards) == 2  # of one region, one a class
    kept = shards[1].read_bytes()
    shards[1].unlink()
    assert verify_folder(out).damaged == [
        "547ef286ee5f: probabilities: shard 0 is not what was published (missing or changed)"
    ]
    shards[1].write_bytes(kept[:40] + bytes([kept[40] ^ 1]) + kept[41:])
    (line,) = verify_folder(out).damaged
    assert line.startswith("547ef286ee5f: probabilities: shard 0 ")
    shards[1].write_bytes(kept)
    shutil.rmtree(folder)
    (line,) = verify_folder(out).damaged
    assert line.startswith("547ef286ee5f: probabilities: cannot be opened")


@pytest.mark.parametrize("version", [2, 3])
def test_they_go_into_the_source_image_and_leave_with_their_labels(
    version: Any, here: Here, recipe_file: Callable[..., Path], tmp_path: Path
) -> None:
    source, out = tmp_path / "archive" / "cells.ome.zarr", tmp_path / "out"
    pixels = cells((1, 1, 1, 60, 70))
    info = ImageInfo(pixels.shape, "uint8", "tczyx", ("0",), (None,) * 3, None, (1, 1, 1, 60, 70))
    pyramid = Pyramid(str(source), "image", info, "uint8", 2, 1, version)
    pyramid.create()
    open_level(pyramid.path, 0)[...] = pixels
    pyramid.write_metadata({})
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    here("run", recipe_file("in_place"), source.parent, out)
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in source.iterdir() if path.is_dir()} == {
        "0",
        "labels",
        "probabilities",
    }
    model = Image05 if version == 3 else Image04
    image = model.from_zarr(zarr.open_group(source / "probabilities" / "soft", mode="r"))
    assert image.attributes is not None
    again = {path: path.stat().st_mtime_ns for path in source.rglob("*")}
    here("run", recipe_file("in_place"), source.parent, out)
    assert {path: path.stat().st_mtime_ns for path in source.rglob("*")} == again
    assert not verify_folder(out).damaged
    # Another request under the same label: they do not belong to its map.
    here("run", recipe_file("in_place", output="classes"), source.parent, out, "--fresh")
    assert (source / "labels" / "soft").is_dir()
    assert not (source / "probabilities" / "soft").exists()
    kept = list((out / ".tilewright" / "previous").rglob("probabilities/soft"))
    assert len(kept) == 1
    assert not verify_folder(out).damaged


@pytest.mark.parametrize("small_px", [0, 2048 * 2048])
def test_the_plan_counts_them(
    small_px: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.plan.SMALL_PX", small_px)
    (image,) = admit([save_array(cells((600, 700)), tmp_path)])
    assert isinstance(image, Admitted)
    plans = {}
    for output in ("classes", "probabilities"):
        recipe = parse_recipe({"segment": {"method": "gmm", "k": 5, "output": output}}, "recipe")
        folder = RunFolder(tmp_path / "out")
        plans[output] = plan_image(image, recipe, folder, Machine(1, 2**33), 64)
    hard, soft = plans["classes"], plans["probabilities"]
    pixels = 600 * 700
    assert hard.probability_bytes == 0
    assert soft.probability_bytes == pytest.approx(pixels * 5 * 4 * 4 / 3, abs=1)
    assert soft.scratch_bytes - hard.scratch_bytes == pixels * 5 * 4
    # Of a region that is published, and of a small image in the memory of its worker.
    assert soft.peak_bytes - hard.peak_bytes >= pixels * 5 * (13 + (4 if small_px else 0)) - 8e6
    assert soft.cpu_seconds > hard.cpu_seconds
    monkeypatch.setattr(
        "pipeline.disk_space.shutil.disk_usage",
        lambda _: SimpleNamespace(free=soft.probability_bytes),
    )
    check_disk([hard], folder)
    with pytest.raises(PlanError, match="the run may write"):
        check_disk([soft], folder)
