"""Families of measurements as recipes and plans see them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from flows.request import Request
from pipeline.admission import Admitted
from pipeline.cpu_seconds import seconds_per_megapixel
from pipeline.engine import Engine
from pipeline.errors import MethodError, RecipeError
from pipeline.labels_recipe import parse_any_recipe
from pipeline.ledger import MemoryLedger
from pipeline.lengths import in_um
from pipeline.measurements.measure_round import MeasureRound, widest_halo
from pipeline.measurements.spacing import crofton_weights
from pipeline.orders import Order, PublishOrder, Receipt
from pipeline.output import OutputPlan
from pipeline.plan import Machine, plan_image
from pipeline.recipe import parse_recipe
from pipeline.run_folder import RunFolder
from pipeline.sources import open_source
from pipeline.steps import perform_here
from pipeline.trial import plan_array, save_array
from pipeline.view import TileView
from pipeline.worker_memory import worker_peak_bytes
from tests.in_process import segment
from tests.measurements.given_labels import measured

THRESHOLD = {"method": "threshold", "foreground": {"value": 100}}


@pytest.mark.parametrize(
    ("measure", "dtype", "message"),
    [
        ({"quantiles": [0.5]}, "float32", r"measure\.quantiles counts values.* float32"),
        ({"texture": True}, "float32", r"measure\.texture\.range is not given.* float32"),
        ({"ring_um": 3}, "uint8", r"measure\.ring_um is in micrometres.*measure\.ring_px"),
    ],
)
def test_what_does_not_apply_to_an_image_is_refused(
    measure: dict[str, Any], dtype: str, message: str, tmp_path: Path
) -> None:
    recipe = parse_recipe({"segment": THRESHOLD, "measure": measure}, "recipe")
    image = np.zeros((8, 9), dtype)
    with pytest.raises(MethodError, match=message):
        plan_array(recipe, save_array(image, tmp_path), 8, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"measure": {"ring_px": 2, "ring_um": 2}}, "give ring_px or ring_um"),
        ({"measure": {"quantiles": [1.5]}}, r"measure\.quantiles: must be from 0 to 1, and 1\.5"),
        ({"measure": {"quantiles": [95]}}, r"measure\.quantiles: .*; 95 % are 0\.95"),
        ({"measure": {"quantiles": 0.5}}, r"measure\.quantiles: must be a list of numbers from 0"),
        ({"measure": {"quantiles": [0.95, 0.949999999999]}}, "q95 would be two columns"),
        ({"measure": {"shape": "hull"}}, r"measure\.shape: must be .* perimeter, hull, euler"),
        ({"measure": {"texture": 3}}, r"measure\.texture: must be true, false, .*\(levels, range"),
        ({"measure": {"texture": {"levels": 1}}}, r"measure\.texture\.levels: .* 2 \(given: 1\)"),
        ({"measure": {"neighbours": "5px"}}, r"measure\.neighbours: must be true, .*within_px"),
        ({"measure": {"neighbours": {"within": 3}}}, r"measure\.neighbours\.within: unknown key"),
        ({"measure": {"channels": "DNA"}}, r"measure\.channels: must be a list .* \[DNA\]"),
        ({"measure": {"channels": ["DNA", "DNA"]}}, "each channel must be there once"),
        ({"source": {"channels": "DNA"}}, r"source\.channels: must be a list .* \[DNA\]"),
        ({"source": {"pixel_size_um": [0, 1]}}, r"source\.pixel_size_um: must be two or three"),
        ({"source": {"pixel_size_um": 0.5}}, r"source\.pixel_size_um: must be two or three"),
        ({"measure": {"texture": {"range": [4, 0]}}}, r"measure\.texture\.range: 4 to 0 holds no"),
        ({"measure": {"texture": {"range": [4, 4]}}}, "holds no value"),
        ({"measure": {"texture": {"range": [0, float("inf")]}}}, "0 to inf holds no value"),
        ({"measure": {"weighted_centroid": "perhaps"}}, "must be true or false"),
        ({"measure": {"shape": ["perimetre"]}}, "perimeter"),
        ({"measure": {"textur": True}}, "unknown key.*texture"),
        ({"measure": {"shape": True}, "segment": {**THRESHOLD, "output": "classes"}}, "of objects"),
        (
            {"output": {"outlines": "geojson"}, "segment": {**THRESHOLD, "output": "classes"}},
            "of objects",
        ),
    ],
)
def test_recipes_that_cannot_be_are_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        parse_recipe({"segment": THRESHOLD, **content}, "recipe")
    assert "tuple" not in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_a_channel_is_measured_once_under_its_name_and_number(tmp_path: Path) -> None:
    labels = np.ones((8, 9), np.uint8)
    recipe = parse_recipe({"segment": THRESHOLD, "measure": {"channels": [0, "0"]}}, "recipe")
    with pytest.raises(MethodError, match=r"names a channel twice: \[0, '0'\] are numbers 0, 0"):
        plan_array(recipe, save_array(labels, tmp_path), 8, tmp_path)


def test_a_ring_narrower_than_a_pixel_is_refused(tmp_path: Path) -> None:
    labels = np.ones((8, 9), np.uint8)
    with pytest.raises(MethodError, match="narrower than a pixel"):
        measured(labels, labels[None, None], tmp_path, 8, measure={"ring_um": 0.3})


def test_a_ring_too_wide_for_one_image_quarantines_that_image(tmp_path: Path) -> None:
    image = np.zeros((20, 30), np.uint8)
    image[5:9, 5:9] = 200
    archive = tmp_path / "archive"
    archive.mkdir()
    for name, size in (("good", 0.5), ("odd", 0.0005)):
        unit = {f"PhysicalSize{a}Unit": "µm" for a in "XY"}
        metadata = {"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeY": size, **unit}
        tifffile.imwrite(archive / f"{name}.ome.tif", image, metadata=metadata)
    recipe = parse_any_recipe({"segment": THRESHOLD, "measure": {"ring_um": 5}}, "recipe")
    manifest = segment(Request(recipe, archive, tmp_path / "out")).reading()
    rows = {row.name: row for row in manifest.images()}
    manifest.close()
    assert rows["good"].status == "published"
    assert rows["odd"].status == "quarantined"
    said = rows["odd"].reason
    assert "measure.ring_um of 5 is 10000 px with pixels of 0.0005 x 0.0005 um" in said
    assert "256 px are the limit" in said
    assert "source.pixel_size_um" in said


@pytest.mark.parametrize(
    "sections",
    [
        {"measure": {"ring_um": 5}},
        {"preprocess": [{"filter": "gaussian", "sigma_um": 2}]},
    ],
)
def test_lengths_that_fill_the_memory_for_one_image_stop_that_image(
    sections: dict[str, Any], tmp_path: Path
) -> None:
    spec = save_array(np.zeros((2, 3, 4), np.uint8), tmp_path)
    with open_source(spec) as source:
        info, fingerprint = source.info, source.fingerprint()
    recipe = parse_recipe({"segment": THRESHOLD, "source": {"dims": "3d"}, **sections}, "recipe")
    assert in_um(recipe)
    plain = {"source": {"dims": "3d", "pixel_size_um": [1, 1, 1]}, "measure": {"ring_px": 2}}
    assert not in_um(parse_recipe({"segment": THRESHOLD, **plain}, "recipe"))
    folder, machine = RunFolder(tmp_path / "out"), Machine(2, 4 * 2**30)
    for size, fits in ((0.5, True), (0.02, False)):
        sizes = (size, size, size)
        wide = replace(info, shape=(1, 1, 900, 900, 900), pixel_size_um=sizes)
        item = Admitted(spec, wide, fingerprint)
        if fits:
            plan_image(item, recipe, folder, machine, None)
            continue
        with pytest.raises(MethodError, match=r"pixels of 0\.02 x 0\.02 x 0\.02 um, .* reach"):
            plan_image(item, recipe, folder, machine, None)


@pytest.mark.parametrize("measure", [{"ring_px": 64}, {"neighbours": {"within_px": 64}}])
def test_halos_end_where_the_frame_does(measure: dict[str, Any], tmp_path: Path) -> None:
    content = {"segment": THRESHOLD, "measure": measure, "source": {"dims": "3d"}}
    recipe = parse_recipe(content, "recipe")
    spec = save_array(np.zeros((9, 80, 300), np.uint8), tmp_path)
    least = 0 if "ring_px" in measure else 1  # faces at the frame's border
    for side, expected in (
        (300, (least, least, least)),
        (100, (least, least, 64)),
        (8, (8, 64, 64)),
        ((5, 50, 20), (5, 50, 64)),
    ):
        job = plan_array(recipe, spec, side, tmp_path)
        assert widest_halo(job, recipe.gathered()) == expected
    # One tile holds the frame: a wide ring takes no more memory than a narrow one.
    peaks = []
    for wide in (measure, {"ring_px": 1}):
        other = parse_recipe({**content, "measure": wide}, "recipe")
        peaks.append(worker_peak_bytes(plan_array(other, spec, 300, tmp_path), whole=True))
    assert peaks[0] <= 1.25 * peaks[1]


@pytest.mark.parametrize("shape", [(9, 7), (3, 9, 7)])
def test_rings_wider_than_the_frame_are_those_of_the_whole_image(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    labels = np.zeros(shape, np.uint8)
    labels[..., 1, 1], labels[..., 6, 5] = 1, 2
    image = np.arange(labels.size, dtype=np.uint16).reshape(1, *(1,) * (3 - len(shape)), *shape)
    content: dict[str, Any] = {"source": {"dims": f"{len(shape)}d"}}
    content["measure"] = {"ring_px": 50, "neighbours": {"within_px": 50}}
    distance = np.stack([ndimage.distance_transform_edt(labels != n) for n in (1, 2)])
    nearest = np.where(labels > 0, 0, 1 + np.argmin(np.rint(distance**2), axis=0))
    for side in (50, 4, 2, 1):
        _, table, _ = measured(labels, image, tmp_path, side, **content)
        assert table["ring_area_px"].to_pylist() == [int((nearest == n).sum()) for n in (1, 2)]
        sums = [float(image.reshape(shape)[nearest == n].sum()) for n in (1, 2)]
        assert table["ring_sum_a"].to_pylist() == sums
        assert table["neighbours_within_50px"].to_pylist() == [1, 1]


def test_rings_in_micrometres_follow_the_voxels_shape(tmp_path: Path) -> None:
    labels = np.zeros((7, 15, 15), np.uint8)
    labels[3, 7, 7] = 1
    image = np.arange(labels.size, dtype=np.uint16).reshape(1, *labels.shape)
    content: dict[str, Any] = {"measure": {"ring_um": 2.1}, "source": {"dims": "3d"}}
    z, y, x = np.indices(labels.shape)
    square = (2 * (z - 3)) ** 2 + (0.5 * (y - 7)) ** 2 + (0.5 * (x - 7)) ** 2
    inside = (square <= 2.1**2) & (square > 0)
    for side in (3, 20):
        _, table, _ = measured(labels, image, tmp_path, side, (2.0, 0.5, 0.5), **content)
        assert table["ring_area_px"].to_pylist() == [int(inside.sum())]
        assert table["ring_sum_a"].to_pylist() == [float(image[0][inside].sum())]


@pytest.mark.parametrize("sizes", [(1.0, 1.0), (0.5, 0.2), (1.0, 1.0, 1.0), (2.0, 0.5, 0.4)])
def test_crofton_weights_measure_balls_of_any_pixel(sizes: tuple[float, ...]) -> None:
    # Against the circle or ball itself: directions are few, so a few percent remain.
    from pipeline.kernels.configurations import crossings, half_steps

    ndim, radius = len(sizes), 10.0
    reach = [int(radius / size) + 2 for size in sizes]
    places = np.indices([2 * n + 1 for n in reach]).reshape(ndim, -1).T - reach
    inside = ((places * sizes) ** 2).sum(axis=1) <= radius**2
    ball = inside.reshape([2 * n + 1 for n in reach]).astype(np.uint32)
    whole = ball[None] if ndim == 2 else ball
    steps = half_steps(ndim)
    halo = (0, 1, 1) if ndim == 2 else (1, 1, 1)
    found = crossings(whole, halo, 1, steps)[0] @ crofton_weights(sizes)
    true = 2 * np.pi * radius if ndim == 2 else 4 * np.pi * radius**2
    assert abs(found / true - 1) < 0.05


def test_pixels_that_are_square_but_for_rounding_have_a_perimeter(tmp_path: Path) -> None:
    labels = np.pad(np.ones((3, 4), np.uint8), 1)
    image = labels[None, None] * 9
    for width, known in ((0.3250000001, True), (0.32501, False)):
        sizes = (None, 0.325, width)
        _, table, _ = measured(labels, image, tmp_path, 9, sizes, measure={"shape": True})
        assert table["perimeter_px"].to_pylist() == [10.0]
        found = table["perimeter_um"].to_pylist()[0]
        assert found == pytest.approx(3.25) if known else np.isnan(found)


def test_faces_of_voxels_are_counted(tmp_path: Path) -> None:
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[1:4, 1:4, 1:5] = 1
    labels[2, 2, 2] = 0
    image = labels[None] * 9
    content: dict[str, Any] = {"measure": {"shape": True}, "source": {"dims": "3d"}}
    _, table, _ = measured(labels, image, tmp_path, 2, (3.0, 2.0, 1.0), **content)
    row = table.to_pylist()[0]
    outer = 2 * (3 * 4 * (2 * 1) + 3 * 4 * (3 * 1) + 3 * 3 * (3 * 2))
    assert row["surface_faces_um2"] == outer + 2 * (2 * 1 + 3 * 1 + 3 * 2)
    assert row["surface_faces_px2"] == 2 * (12 + 12 + 9) + 6
    assert row["euler_number"] == 2  # a cavity counts like a part
    assert row["solidity"] == 35 / 36


def test_merged_regions_are_measured_as_a_whole(tmp_path: Path) -> None:
    labels = np.repeat(np.repeat(np.arange(1, 17).reshape(4, 4), 5, 0), 6, 1).astype(np.uint8)
    image = np.where(labels % 4 < 2, 40, 200)[None, None].astype(np.uint8)
    content: dict[str, Any] = {
        "merge": {"by": "threshold", "weight": "mean_color", "value": 20},
        "measure": {"shape": True, "neighbours": True},
    }
    tables = [measured(labels, image, tmp_path, side, **content) for side in (3, 40)]
    assert tables[0][2] == tables[1][2]
    rows = tables[0][1].to_pylist()
    assert len(rows) > 1
    for row in rows:
        assert row["solidity"] == 1
        assert row["neighbours_touching"] >= 1
    assert sum(row["area_px"] for row in rows) == labels.size


def test_nothing_is_mapped_where_nothing_is_asked_for(tmp_path: Path) -> None:
    steps: list[str] = []
    for measure, expected in (({}, False), ({"shape": ["euler"]}, True)):
        recipe = parse_recipe({"segment": THRESHOLD, "measure": measure}, "recipe")
        job = plan_array(recipe, save_array(np.zeros((8, 9), np.uint8), tmp_path), 4, tmp_path)
        output = OutputPlan(
            tmp_path / "s", tmp_path / "o.parquet", recipe, job.info, job.source, "none"
        )
        steps.clear()
        engine = Engine(
            job, output, perform_here, MemoryLedger(), 1, lambda step, *_: steps.append(step)
        )
        engine.run()
        assert ("measure" in steps) == expected


def test_the_plan_knows_of_the_pass(tmp_path: Path) -> None:
    image = np.zeros((3000, 2500), np.uint8)
    spec = save_array(image, tmp_path)
    with open_source(spec) as source:
        item = Admitted(spec, source.info, source.fingerprint())
    folder, machine = RunFolder(tmp_path / "out"), Machine(2, 4 * 2**30)
    plans = []
    for measure in ({}, {"texture": True}):
        recipe = parse_recipe({"segment": THRESHOLD, "measure": measure}, "recipe")
        plans.append(plan_image(item, recipe, folder, machine, 1024))
    assert plans[1].peak_bytes > plans[0].peak_bytes
    assert seconds_per_megapixel(plans[1].job) > seconds_per_megapixel(plans[0].job)


@pytest.mark.parametrize("dims", ["2d", "3d"])
@pytest.mark.parametrize(
    "measure",
    [
        {"shape": True},
        {"weighted_centroid": True},
        {"quantiles": [0.5]},
        {"ring_px": 4},
        {"texture": True},
        {"neighbours": {"within_px": 4}},
    ],
)
def test_a_tile_takes_no_more_memory_than_planned(
    measure: dict[str, Any], dims: str, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 255, (24, 24) if dims == "2d" else (5, 8, 8)).astype(np.uint8)
    image = np.kron(blocks, np.ones((12,) * blocks.ndim, np.uint8))
    image = np.where(image > 100, image - generator.integers(0, 9, image.shape), 0).astype(np.uint8)
    content = {"segment": THRESHOLD, "measure": measure, "source": {"dims": dims}}
    recipe = parse_recipe(content, "recipe")
    job = plan_array(recipe, save_array(image, tmp_path), 1000, tmp_path)
    output = OutputPlan(
        tmp_path / "s", tmp_path / "o.parquet", recipe, job.info, job.source, "none"
    )
    published: list[PublishOrder] = []

    def execute(orders: Iterable[Order]) -> Iterator[tuple[Order, Receipt]]:
        for order in orders:
            published.extend([order] if isinstance(order, PublishOrder) else [])
            yield order, order.perform()

    Engine(job, output, execute, MemoryLedger()).run()
    families = recipe.gathered()
    scratch, objects = published[0].scratch, published[0].objects
    assert scratch is not None
    view = TileView(job, job.grid.tile(0), scratch, {}, objects.seen())
    step = MeasureRound(families)
    tracemalloc.start()
    step.map(view, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    core = (1, *job.grid.side)[-3:]
    window = np.prod(np.array(core) + 2 * np.array(widest_halo(job, families)))
    fixed = 2**26 if "texture" in measure else 2**16  # the table of pairs
    assert peak <= window * (max(f.bytes_per_px for f in families) + 2) + fixed
