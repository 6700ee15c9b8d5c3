"""The object table against `skimage.measure.regionprops_table`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import ndimage
from skimage.measure import regionprops_table

from pipeline.engine import Engine
from pipeline.intensities import channel_columns
from pipeline.kernels.measure import Quantum, intensity
from pipeline.ledger import MemoryLedger
from pipeline.objects import empty_table
from pipeline.output import OutputPlan
from pipeline.pyramid import open_level
from pipeline.recipe import parse_recipe
from pipeline.steps import perform_here
from pipeline.trial import plan_array, save_array

TOLERANCE = 1e-9
SIZES_UM = (2.5, 0.4, 0.3)


def segmented(
    image: np.ndarray,
    folder: Path,
    side: int = 9,
    sizes: tuple[float | None, ...] = SIZES_UM,
    **content: object,
) -> tuple[np.ndarray, pa.Table]:
    """Labels (T, Z, Y, X) and table of an image (T, C, Z, Y, X), by its first channel."""
    recipe = parse_recipe(
        {
            "segment": {"method": "threshold", "foreground": {"value": 100}},
            **content,
            "source": {"channels": [0], **content.get("source", {})},
        },
        "recipe",
    )
    job = plan_array(recipe, save_array(image, folder), side, folder)
    info = dataclasses.replace(
        job.info,
        pixel_size_um=sizes,
        channels=("DNA", "actin", "ER")[: job.info.shape[1]],
    )
    job = dataclasses.replace(job, info=info)
    staged, table = folder / f"staged-{side}", folder / f"{side}.parquet"
    output = OutputPlan(staged, table, recipe, info, job.source, "none")
    done = Engine(job, output, perform_here, MemoryLedger()).run()
    t, _, z, y, x = info.shape
    labels = np.asarray(open_level(output.labels(done.count).path, 0)[...]).reshape(t, z, y, x)
    return labels, pq.read_table(output.table)


def textured(shape: tuple[int, ...], seed: int, dtype: str, scale: float = 1) -> np.ndarray:
    """Some blobs above 100 in the first channel, and something else in each other one."""
    generator = np.random.default_rng(seed)
    t, _, z, y, x = shape
    image = generator.random(shape) * 200
    for k in range(t):
        rough = generator.random((z, y, x))
        for plane in range(z):
            rough[plane] = ndimage.gaussian_filter(rough[plane], 1.7)
        rough = (rough - rough.min()) / np.ptp(rough)
        image[k, 0] = rough * 190 + generator.random((z, y, x)) * 9
    return (image * scale).astype(dtype)


def assert_near(found: pa.Table, name: str, expected: np.ndarray, scale: float = 1) -> None:
    column = found[name].to_numpy()
    assert column.shape == np.shape(expected)
    assert np.abs(column - expected).max() <= TOLERANCE * max(1.0, scale), name


def check_intensities(table: pa.Table, expected: dict, names: tuple[str, ...]) -> None:
    for i, name in enumerate(names):
        end = f"-{i}" if f"intensity_mean-{i}" in expected else ""
        scale = float(np.abs(expected[f"intensity_max{end}"]).max())
        for key in ("min", "mean", "max", "std"):
            assert_near(table, f"{key}_{name}", expected[f"intensity_{key}{end}"], scale)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
@pytest.mark.parametrize("side", [9, 64])
def test_planes_equal_skimage(dtype: str, side: int, tmp_path: Path) -> None:
    image = textured((1, 3, 1, 47, 52), 1, dtype)
    labels, table = segmented(image, tmp_path, side)
    expected = regionprops_table(
        labels[0, 0].astype(np.int64),
        np.moveaxis(image[0, :, 0], 0, -1),
        properties=(
            *("label", "area", "bbox", "centroid", "axis_major_length", "axis_minor_length"),
            *("orientation", "intensity_min", "intensity_mean", "intensity_max", "intensity_std"),
        ),
    )
    assert len(table) == len(expected["label"]) > 10
    assert table["label"].to_numpy().tolist() == expected["label"].tolist()
    assert table["area_px"].to_numpy().tolist() == expected["area"].tolist()
    for k, name in enumerate(("y_start", "x_start", "y_stop", "x_stop")):
        assert table[f"bbox_{name}_px"].to_numpy().tolist() == expected[f"bbox-{k}"].tolist()
    for k, axis in enumerate("yx"):
        assert_near(table, f"centroid_{axis}_px", expected[f"centroid-{k}"])
        assert_near(table, f"centroid_{axis}_um", expected[f"centroid-{k}"] * SIZES_UM[k + 1])
    assert_near(table, "area_um2", expected["area"] * 0.4 * 0.3)
    assert_near(table, "axis_major_px", expected["axis_major_length"])
    assert_near(table, "axis_minor_px", expected["axis_minor_length"])
    assert_near(table, "orientation_rad", expected["orientation"])
    check_intensities(table, expected, ("DNA", "actin", "ER"))
    assert set(table["image"].to_pylist()) == {"image"}


@pytest.mark.parametrize("dims", ["2d", "3d"])
def test_axes_in_micrometres_are_those_of_a_pixel_spacing(dims: str, tmp_path: Path) -> None:
    image = textured((1, 1, 1 if dims == "2d" else 9, 33, 41), 2, "uint8")
    labels, table = segmented(image, tmp_path, 10, source={"dims": dims})
    whole = (labels[0, 0] if dims == "2d" else labels[0]).astype(np.int64)
    spacing = SIZES_UM[1:] if dims == "2d" else SIZES_UM
    first, last = ("major", "minor")
    for n in range(1, int(whole.max()) + 1):
        place = np.argwhere(whole == n) * spacing
        values = np.linalg.eigvalsh(np.cov(place.T, bias=True)) if len(place) > 1 else [0, 0, 0]
        factor = 16 if dims == "2d" else 20
        lengths = np.sqrt(factor * np.maximum(values, 0))
        row = n - 1
        assert abs(table[f"axis_{first}_um"][row].as_py() - lengths[-1]) < 1e-7
        assert abs(table[f"axis_{last}_um"][row].as_py() - lengths[0]) < 1e-7


@pytest.mark.parametrize("side", [6, 50])
def test_volumes_equal_skimage(side: int, tmp_path: Path) -> None:
    image = textured((1, 2, 13, 31, 28), 3, "uint16", 300)
    image[0, 0] = np.where(image[0, 0] > 33_000, image[0, 0], 0)
    rule = {"method": "threshold", "foreground": {"value": 0}}
    labels, table = segmented(image, tmp_path, side, source={"dims": "3d"}, segment=rule)
    regions = regionprops_table(
        labels[0].astype(np.int64),
        np.moveaxis(image[0], 0, -1),
        properties=(
            *("label", "area", "bbox", "centroid", "inertia_tensor_eigvals"),
            *("intensity_min", "intensity_mean", "intensity_max", "intensity_std"),
        ),
    )
    assert len(table) == len(regions["label"]) > 10
    assert table["area_px"].to_numpy().tolist() == regions["area"].tolist()
    names = [f"{axis}_{end}" for end in ("start", "stop") for axis in "zyx"]
    for k, name in enumerate(names):
        assert table[f"bbox_{name}_px"].to_numpy().tolist() == regions[f"bbox-{k}"].tolist()
    for k, axis in enumerate("zyx"):
        assert_near(table, f"centroid_{axis}_px", regions[f"centroid-{k}"])
        assert_near(table, f"centroid_{axis}_um", regions[f"centroid-{k}"] * SIZES_UM[k])
    assert_near(table, "volume_um3", regions["area"] * np.prod(SIZES_UM), 100)
    a, b, c = (regions[f"inertia_tensor_eigvals-{k}"] for k in range(3))
    # skimage: the squared axes of the ellipsoid from its moments of inertia, a >= b >= c.
    for name, value in (("major", a + b - c), ("middle", a - b + c), ("minor", -a + b + c)):
        found = table[f"axis_{name}_px"].to_numpy()
        assert np.abs(found**2 - 10 * np.maximum(value, 0)).max() < 1e-9 * max(1, found.max() ** 2)
    check_intensities(table, regions, ("DNA", "actin"))


def test_the_longest_axis_of_a_volume_points_along_its_object(tmp_path: Path) -> None:
    image = np.zeros((1, 1, 12, 20, 30), np.uint8)
    for k in range(10):
        image[0, 0, k + 1, 2 * k, 3 * k] = image[0, 0, k + 1, 2 * k, 3 * k + 1] = 200
        image[0, 0, k + 1, 2 * k : 2 * k + 3, 3 * k : 3 * k + 4] = 200
    _, table = segmented(image, tmp_path, 7, (None,) * 3, source={"dims": "3d"})
    assert len(table) == 1
    direction = np.array([table[f"major_direction_{a}"][0].as_py() for a in "zyx"])
    assert np.abs(direction - np.array([1, 2, 3]) / np.sqrt(14)).max() < 0.05
    assert abs(np.linalg.norm(direction) - 1) < TOLERANCE


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint32"])
def test_wide_pixels_are_measured_in_steps_of_their_range(dtype: str, tmp_path: Path) -> None:
    image = textured((1, 2, 1, 40, 44), 4, dtype, 1000)
    rule = {"method": "threshold", "foreground": {"value": 100_000}}
    labels, table = segmented(image, tmp_path, 11, segment=rule)
    expected = regionprops_table(
        labels[0, 0].astype(np.int64),
        np.moveaxis(image[0, :, 0].astype(np.float64), 0, -1),
        properties=("intensity_min", "intensity_mean", "intensity_max", "intensity_std"),
    )
    assert len(table) > 5
    check_intensities(table, expected, ("DNA", "actin"))


def test_pixels_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    image = np.zeros((1, 2, 1, 12, 14), np.float32)
    image[0, 0, 0, 2:6, 3:12] = 200
    image[0, 1, 0] = np.arange(12 * 14).reshape(12, 14)
    image[0, 1, 0, 3, 4] = np.nan
    image[0, 1, 0, 5, 9] = np.inf
    image[0, 0, 0, 9:11, 3:5] = 300
    image[0, 1, 0, 9:11, 3:5] = np.nan
    labels, table = segmented(image, tmp_path, 5)
    assert table["area_px"].to_pylist() == [36, 4]
    inside = image[0, 1, 0][(labels[0, 0] == 1) & np.isfinite(image[0, 1, 0])].astype(np.float64)
    for key, value in (("min", inside.min()), ("mean", inside.mean()), ("std", inside.std())):
        assert abs(table[f"{key}_actin"][0].as_py() - value) < 1e-6
        assert np.isnan(table[f"{key}_actin"][1].as_py())


def test_a_stack_has_one_row_an_object_and_plane(tmp_path: Path) -> None:
    image = np.zeros((2, 1, 3, 8, 9), np.uint8)
    image[1, 0, 0, 2:4, 2:4] = 150
    image[1, 0, 1, 2:4, 2:4] = 160
    image[0, 0, 2, 0, 5] = 170
    labels, table = segmented(image, tmp_path, 4)
    assert table["t"].to_pylist() == [0, 1, 1]
    assert table["z"].to_pylist() == [2, 0, 1]
    assert table["touches_border"].to_pylist() == [True, False, False]
    assert table["mean_DNA"].to_pylist() == [170.0, 150.0, 160.0]
    assert [int(labels[1, z, 2, 2]) for z in range(3)] == [2, 3, 0]


def test_sizes_in_micrometres_are_unknown_where_the_file_does_not_say(tmp_path: Path) -> None:
    image = textured((1, 1, 1, 20, 20), 5, "uint8")
    _, table = segmented(image, tmp_path, 8, (None, None, None))
    for name in ("area_um2", "centroid_y_um", "axis_major_um", "axis_minor_um"):
        assert np.isnan(table[name].to_numpy()).all()
    assert np.isfinite(table["axis_major_px"].to_numpy()).all()


def test_an_image_without_objects_has_the_same_columns(tmp_path: Path) -> None:
    image = textured((1, 2, 1, 20, 20), 6, "uint8")
    _, some = segmented(image, tmp_path, 8)
    _, none = segmented(np.zeros_like(image), tmp_path, 9)
    assert len(none) == 0
    assert none.schema.equals(some.schema)
    recipe = parse_recipe({"segment": {"method": "threshold"}, "source": {"channels": [0]}}, "r")
    job = plan_array(recipe, save_array(image, tmp_path), 8, tmp_path)
    assert len(empty_table(job)) == 0


def test_only_measured_channels_have_columns(tmp_path: Path) -> None:
    image = textured((1, 3, 1, 20, 20), 7, "uint8")
    _, table = segmented(image, tmp_path, 8, measure={"channels": ["2", 1]})
    measured = [name for name in table.column_names if name.startswith("mean_")]
    assert measured == ["mean_ER", "mean_actin"]


def test_measurements_do_not_depend_on_the_objects_measured_with_them() -> None:
    # A bright object makes the arithmetic switch to numbers of any size for all of its group.
    generator = np.random.default_rng(0)
    rows = [[10**7, 65_535, 65_535, 65_535 * 10**7, *divmod(65_535**2 * 10**7, 2**32)]]
    for _ in range(200):
        steps = [int(q) for q in generator.integers(2**12, 2**16, 19)]
        rows.append(
            [19, min(steps), max(steps), sum(steps), *divmod(sum(q * q for q in steps), 2**32)]
        )
    channel = np.pad(np.array(rows, np.int64), [(0, 0), (0, 5)])
    dtype, limits = np.dtype(np.uint16), (0.0, 65_535.0)
    together, alone = (channel_columns(part, dtype, limits) for part in (channel, channel[1:]))
    for key, column in alone.items():
        assert np.array_equal(together[key][1:], column)


@pytest.mark.parametrize(
    "outlier", [None, 1e6, -1e9, 1.7e308], ids=["plain", "hot", "low", "largest float"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_intensities_equal_numpy_for_any_range(
    dtype: str, outlier: float | None, tmp_path: Path
) -> None:
    generator = np.random.default_rng(3)
    image = np.zeros((1, 1, 1, 30, 40))
    image[..., 5:20, 5:25] = 150 + 50 * generator.random((15, 20))
    if outlier is not None and (np.dtype(dtype).kind == "f" or outlier < 1e7):
        image[..., 0, 39] = min(
            outlier, float(np.finfo("f4").max) if dtype == "float32" else outlier
        )
    image = image.astype(dtype)
    _, table = segmented(image, tmp_path, 8)
    row = table["area_px"].to_pylist().index(300)
    inside = image[0, 0, 0, 5:20, 5:25].astype(np.float64)
    found = {key: table[f"{key}_DNA"][row].as_py() for key in ("min", "max", "mean", "sum", "std")}
    assert (found["min"], found["max"]) == (inside.min(), inside.max())
    if outlier != 1.7e308 or np.dtype(dtype).kind != "f":  # else its range swallows the values
        for key in ("mean", "sum", "std"):
            assert found[key] == pytest.approx(getattr(inside, key)(), rel=1e-12)


def test_sums_beyond_64_bits_are_exact(tmp_path: Path) -> None:
    # 2**31 - 1 steps: the squares of 90,000 px leave 64 bits, and the spread is tiny.
    image = np.full((1, 1, 1, 300, 300), 1e6, np.float64)
    image[..., ::2] += 1e-3
    image[..., 0, 0] = 0
    labels, table = segmented(image, tmp_path, 64)
    assert table["area_px"].to_pylist() == [89_999]
    inside = image[0, 0, 0][labels[0, 0] == 1]
    # A step is 2**-11, as wide as the spread: its parts tell.
    assert table["mean_DNA"][0].as_py() == pytest.approx(inside.mean(), rel=1e-15)
    assert table["std_DNA"][0].as_py() == pytest.approx(inside.std(), rel=1e-6)


def test_rows_do_not_depend_on_what_they_are_computed_with() -> None:
    rng = np.random.default_rng(0)
    count = rng.integers(1, 5, 400)
    labels = np.repeat(np.arange(1, 401), count).astype(np.uint32)[None]
    values = rng.normal(size=labels.shape) * 10.0 ** rng.integers(-9, 9, labels.shape)
    limits = (float(values.min()), float(values.max()))
    rows = intensity(labels, values, count, Quantum.of(values.dtype, *limits)).columns()
    together = channel_columns(rows, values.dtype, limits)
    for number in range(len(count)):
        alone = channel_columns(rows[number : number + 1], values.dtype, limits)
        assert {k: v[0] for k, v in alone.items()} == {k: v[number] for k, v in together.items()}
