"""The quality of images against numpy and scipy on the whole plane."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from flows.request import Request
from pipeline.box import Box
from pipeline.engine import Engine
from pipeline.ledger import MemoryLedger
from pipeline.output import OutputPlan
from pipeline.quality.flags import flag_planes
from pipeline.quality.spectrum import block_side, blocks_within, power_of, slope
from pipeline.quality.table import NUMBERS, SCHEMA
from pipeline.recipe import parse_recipe
from pipeline.steps import perform_here
from pipeline.table_file import table_digest
from pipeline.trial import Cut, perform_shuffled, plan_array, run_tiled, run_untiled, save_array
from pipeline.verify import verify_folder
from tests.in_process import opened, segment
from workers.submit import run_serially
from workers.tasks import perform

RECIPE: dict[str, Any] = {"segment": {"method": "threshold", "foreground": {"value": 100}}}


def rows_of(
    image: NDArray[Any], folder: Path, mode: str = "none", side: int = 64, dims: str = "2d"
) -> list[dict[str, Any]]:
    """The rows of an image's quality, as the engine writes them."""
    recipe = parse_recipe({**RECIPE, "source": {"channels": [0], "dims": dims}}, "recipe")
    folder.mkdir(exist_ok=True)
    job = plan_array(recipe, save_array(image, folder), side, folder)
    output = OutputPlan(
        folder / "staged", folder / "objects.parquet", recipe, job.info, job.source, mode
    )
    Engine(job, output, perform_here, MemoryLedger()).run()
    return pq.read_table(output.quality).to_pylist()


def expected(plane: NDArray[Any]) -> dict[str, float]:
    """The same of one plane without a pixel that is not finite, by numpy and scipy."""
    values = plane.astype(np.float64)
    height, width = plane.shape
    y, x = np.indices(plane.shape)
    inside = np.ones(plane.shape, bool)
    for index, n in ((y, height), (x, width)):
        inside &= (index % 512 > 0) & (index % 512 < 511) & (index > 0) & (index < n - 1)
    laplace = -ndimage.laplace(values)[inside]
    mask = ndimage.convolve(values, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]))[inside]
    with np.errstate(invalid="ignore"):
        cells = ndimage.mean(values, y * 16 // height * 16 + x * 16 // width, np.arange(256))
    found = {
        "finite_px": plane.size,
        "min": values.min(),
        "max": values.max(),
        "mean": values.mean(),
        "std": values.std(),
        "at_min": (values == values.min()).mean(),
        "at_max": (values == values.max()).mean(),
        "focus": laplace.var() / values.mean() ** 2 if laplace.size else math.nan,
        "noise": math.sqrt(math.pi / 2) / 6 * np.abs(mask).mean() if mask.size else math.nan,
    }
    for name, share in (("p01", 10), ("p50", 500), ("p99", 990), ("p999", 999)):
        # np.percentile(..., method="inverted_cdf"), but for the rounding of 99.9 / 100 * n.
        found[name] = np.sort(values, axis=None)[-(-values.size * share // 1000) - 1]
    if np.isfinite(cells).all():
        regions = np.median(cells.reshape(4, 4, 4, 4).swapaxes(1, 2).reshape(4, 4, 16), axis=-1)
        found["background"] = np.sort(cells)[math.ceil(25.6) - 1]
        found["unevenness"] = regions.std() / abs(regions.mean())
        found["corner_to_centre"] = regions[::3, ::3].mean() / regions[1:3, 1:3].mean()
    return found


def picture(shape: tuple[int, ...], dtype: str, seed: int = 0) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    scale = {"uint8": 50, "int8": 9, "uint16": 900, "int16": 900, "float32": 1.5, "uint32": 10**6}
    spots = ndimage.gaussian_filter(rng.random(shape), (0,) * (len(shape) - 2) + (2, 2))
    found = (spots / spots.mean()) ** 4 + 0.05 * rng.random(shape)
    return (found * scale[dtype]).clip(0, None).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32", "uint32"])
@pytest.mark.parametrize("shape", [(130, 100), (3, 700), (600, 40), (1, 1), (17, 16)])
def test_numbers_are_those_of_the_whole_plane(
    dtype: str, shape: tuple[int, int], tmp_path: Path
) -> None:
    image = picture(shape, dtype)
    (row,) = rows_of(image, tmp_path)
    whole = expected(image)
    tolerance = 1e-12 if np.dtype(dtype).itemsize <= 2 else 1e-9
    for name, value in whole.items():
        rough = name.startswith("p") and np.dtype(dtype).itemsize > 2
        assert row[name] == pytest.approx(
            value, rel=1e-3 if rough else tolerance, abs=1e-12, nan_ok=True
        ), name


def test_planes_of_several_shards_add_up(tmp_path: Path) -> None:
    """Shards are 2048 px wide; a plane of two of them is one row."""
    for dtype in ("uint8", "float32"):
        image = picture((40, 2100), dtype)
        (row,) = rows_of(image, tmp_path / dtype, side=300)
        for name, value in expected(image).items():
            if dtype == "uint8" or not name.startswith("p"):
                assert row[name] == pytest.approx(value, rel=1e-9), name


def test_every_plane_and_channel_has_a_row(tmp_path: Path) -> None:
    image = picture((2, 2, 3, 70, 66), "uint16")
    by_mode = {
        (mode, dims): rows_of(image, tmp_path / f"{mode}{dims}", mode, dims=dims)
        for mode in ("none", "copy")
        for dims in ("2d", "3d")
    }
    rows = by_mode["none", "2d"]
    assert all(found == rows for found in by_mode.values())
    places = [(row["t"], row["z"], row["channel"]) for row in rows]
    assert len(set(places)) == len(places) == 12
    for row in rows:
        plane = image[row["t"], [r["channel"] for r in rows[:2]].index(row["channel"]), row["z"]]
        assert row["mean"] == pytest.approx(plane.mean(), rel=1e-12)
        assert row["focus"] == pytest.approx(expected(plane)["focus"], rel=1e-12)


def test_volumes_of_several_shards(tmp_path: Path) -> None:
    """Shards of volumes are 64 planes deep and 512 px wide."""
    image = picture((66, 8, 520), "uint8")
    rows = rows_of(image, tmp_path, dims="3d", side=100)
    assert [row["z"] for row in rows] == list(range(66))
    for row in rows[::13]:
        for name, value in expected(image[row["z"]]).items():
            if not math.isnan(value):
                assert row[name] == pytest.approx(value, rel=1e-12, nan_ok=True), name


def test_what_is_not_finite_is_left_out(tmp_path: Path) -> None:
    image = picture((60, 80), "float32")
    image[:20, :30] = np.nan
    image[25, 25] = np.inf
    (row,) = rows_of(image, tmp_path)
    known = image[np.isfinite(image)].astype(np.float64)
    assert row["finite_px"] == known.size == 60 * 80 - 601
    assert row["mean"] == pytest.approx(known.mean(), rel=1e-9)
    assert row["std"] == pytest.approx(known.std(), rel=1e-9)
    assert (row["min"], row["max"]) == (known.min(), known.max())
    (row,) = rows_of(np.full((30, 30), np.nan, np.float32), tmp_path / "none")
    assert row["finite_px"] == 0
    assert math.isnan(row["mean"])


def test_full_values_do_not_overflow(tmp_path: Path) -> None:
    checks = np.indices((300, 301)).sum(axis=0) % 2
    image = (checks * 65535).astype(np.uint16)
    (row,) = rows_of(image, tmp_path)
    assert row["focus"] == pytest.approx(expected(image)["focus"], rel=1e-12)
    assert row["at_max"] == checks.mean()


def test_tiles_change_no_bit(tmp_path: Path) -> None:
    """Also of floats; the shards of a plane are read in any order."""
    for dtype in ("uint16", "float32"):
        image = picture((90, 2100), dtype)
        recipe = parse_recipe(RECIPE, "recipe")
        whole = run_untiled(recipe, image, tmp_path)
        assert whole.quality_digest
        for cut in (Cut(33, 3, 2), Cut(512, 1), Cut((17, 900), 5, 3)):
            assert run_tiled(recipe, image, tmp_path, cut).quality_digest == whole.quality_digest
        other = image.copy()
        other[3, 3] += 1
        assert run_untiled(recipe, other, tmp_path).quality_digest != whole.quality_digest


def ways_to_read(
    image: NDArray[Any], folder: Path, side: Any, **content: Any
) -> tuple[bytes, list[str]]:
    """The table of an image that is not copied, and the steps that the run took."""
    folder.mkdir(exist_ok=True)
    recipe = parse_recipe({**RECIPE, "source": {"channels": [0]}, **content}, "recipe")
    space = folder / f"{side}".replace(" ", "")
    job = plan_array(recipe, save_array(image, folder), side, space)
    output = OutputPlan(
        space / "staged", space / "objects.parquet", recipe, job.info, job.source, "none"
    )
    steps: list[str] = []
    watch = lambda step, *_: steps.append(step)  # noqa: E731
    Engine(job, output, perform_shuffled(3), MemoryLedger(), 2, watch).run()
    return output.quality.read_bytes(), list(dict.fromkeys(steps))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_sums_are_taken_in_the_first_round_where_it_reads_whole_shards(
    dtype: str, tmp_path: Path
) -> None:
    """Tiles of several shards, of one, and such that must be read again for it: the same bytes."""
    image = picture((300, 4200), dtype)
    if dtype == "float32":
        image[7, 2040:2060] = np.nan
    tables = []
    for side, rides in (((300, 4200), True), ((300, 2048), True), ((300, 700), False), (90, False)):
        table, steps = ways_to_read(image, tmp_path, side)
        assert ("quality" in steps) != rides
        tables.append(table)
    assert len(set(tables)) == 1


def test_channels_that_the_method_does_not_see_are_read_for_it(tmp_path: Path) -> None:
    image = picture((2, 1, 90, 100), "uint8")
    seen = {"channels": [1, 0]}, {"channels": [1]}
    slic = {"segment": {"method": "slic", "size_px": 20}}
    both, steps = ways_to_read(image, tmp_path / "a", 100, source=seen[0], **slic)
    one, others = ways_to_read(image, tmp_path / "b", 100, source=seen[1], **slic)
    assert ("quality" in steps, "quality" in others) == (False, True)
    assert both == one


def test_filters_and_floats_do_not_change_what_is_measured(tmp_path: Path) -> None:
    """The first round of the method is the third of the image here; it sees blurred pixels."""
    image = picture((90, 100), "float32")
    blur = {"filter": "gaussian", "sigma_px": 3}
    segment = {"method": "threshold", "foreground": {"value": "otsu"}}
    plain, _ = ways_to_read(image, tmp_path / "a", 40)
    rides, steps = ways_to_read(image, tmp_path / "b", 100, preprocess=[blur], segment=segment)
    assert "quality" not in steps
    assert rides == plain


def test_quality_can_be_left_out(tmp_path: Path) -> None:
    recipe = parse_recipe({**RECIPE, "measure": {"quality": False}}, "recipe")
    assert run_untiled(recipe, picture((40, 40), "uint8"), tmp_path).quality_digest == ""


def test_blur_lowers_focus_and_slope(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sharp = picture((300, 300), "uint16").astype(float)
    rows = []
    for sigma in (0, 2, 5):
        blurred = ndimage.gaussian_filter(sharp, sigma) + rng.normal(100, 3, sharp.shape)
        rows += rows_of(blurred.clip(0).astype(np.uint16), tmp_path / str(sigma))
    assert rows[0]["focus"] > 2 * rows[1]["focus"] > 2 * rows[2]["focus"]
    assert rows[0]["power_slope"] > rows[1]["power_slope"] + 0.2 > rows[2]["power_slope"] + 0.4
    assert rows[2]["noise"] == pytest.approx(3, rel=0.1)


def test_slope_is_that_of_a_power_law() -> None:
    """White noise has the same power at every frequency, so its sum grows with the radius."""
    noise = np.random.default_rng(0).normal(size=(30, 256, 256))
    assert slope(sum(map(power_of, noise)), 256) == pytest.approx(1, abs=0.05)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    frequency[0, 0] = 1
    pink = np.fft.ifft2(np.fft.fft2(noise) / frequency).real
    assert slope(sum(map(power_of, pink)), 256) == pytest.approx(-1, abs=0.05)


def test_blocks_are_those_of_the_plane_in_every_shard() -> None:
    shape = (5000, 3000)
    assert block_side(shape) == 256
    whole = list(blocks_within(shape, Box.whole(shape)))
    parts = [
        block
        for y in range(0, 5000, 512)
        for x in range(0, 3000, 512)
        for block in blocks_within(shape, Box((y, x), (min(y + 512, 5000), min(x + 512, 3000))))
    ]
    assert sorted(parts) == sorted(whole)
    assert len(whole) == 36


def plane(**numbers: float) -> dict[str, Any]:
    """A row of the table; numbers that are not given are those of a plain picture."""
    plain = dict.fromkeys(NUMBERS, 1.0)
    plain |= {"min": 0, "p01": 10, "p50": 12, "p99": 60, "p999": 80, "max": 90, "power_slope": -1.5}
    place = {"image": "a", "t": 0, "z": 0, "channel": "0", "finite_px": 99}
    return {**place, **plain, "at_max": 0.0, **numbers}


def flags_of(*rows: dict[str, Any]) -> list[str]:
    return flag_planes(pa.Table.from_pylist(list(rows), SCHEMA))["flags"].to_pylist()


def test_flags() -> None:
    others = [plane(power_slope=-1.5 - 0.02 * i) for i in range(6)]
    assert flags_of(*others) == [""] * 6
    assert flags_of(*others, plane(power_slope=-2.4))[-1] == "out of focus"
    assert flags_of(*others, plane(power_slope=-2.2))[-1] == ""
    assert flags_of(*others[:3], plane(power_slope=-2.4))[-1] == ""  # too few to compare with
    assert flags_of(*others, {**plane(power_slope=-2.4), "channel": "1"})[-1] == ""
    spread = [plane(power_slope=-1.0 - 0.4 * i) for i in range(6)]
    assert flags_of(*spread, plane(power_slope=-3.2)) == [""] * 7
    assert flags_of(plane(max=255, at_max=0.02)) == ["saturated"]
    assert flags_of(plane(max=4095, at_max=0.02)) == ["saturated"]
    assert flags_of(plane(max=255, at_max=0.005), plane(max=250, at_max=0.02)) == ["", ""]
    assert flags_of(plane(p999=15), plane(p999=17), plane(max=0)) == ["empty", "", "empty"]
    assert flags_of(plane(p999=15, p01=5)) == [""]  # dark objects
    white = [plane(min=n, max=n, p50=n, p999=n, p01=n, at_max=1.0) for n in (255, 65535, 4095)]
    assert flags_of(*white) == ["empty, saturated"] * 3
    grey = [plane(min=n, max=n, p50=n, p999=n, p01=n, at_max=1.0) for n in (0, 1, 200)]
    assert flags_of(*grey) == ["empty"] * 3
    assert flags_of({**plane(**dict.fromkeys(NUMBERS, math.nan)), "finite_px": 0}) == ["empty"]


def test_images_parquet_and_report(tmp_path: Path) -> None:
    """The table of a run is that of its images, with flags; `verify` reads it."""
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    sharp = picture((256, 256), "uint8")
    for number in range(6):
        tifffile.imwrite(archive / f"{number}.tif", np.roll(sharp, 40 * number))
    tifffile.imwrite(archive / "blurred.tif", ndimage.gaussian_filter(sharp, 5))
    tifffile.imwrite(archive / "empty.tif", np.full((256, 256), 3, np.uint8))
    folder = segment(Request(parse_recipe({**RECIPE, "label": "a"}, "recipe"), archive, out))
    rows = {row["image"]: row for row in pq.read_table(out / "images.parquet").to_pylist()}
    assert {name: row["flags"] for name, row in rows.items() if row["flags"]} == {
        "blurred": "out of focus",
        "empty": "empty",
    }
    assert rows["0"]["mean"] == pytest.approx(sharp.mean(), rel=1e-12)
    page = folder.report.read_text()
    section = page[page.index("Image quality") :]
    assert "2 of 8 planes are remarkable" in section
    assert section.index("<td>blurred</td>") < section.index("<td>0</td>")
    assert verify_folder(out).damaged == []
    table = folder.quality_path("0")
    pq.write_table(pq.read_table(table).set_column(0, "image", [["1"]]), table)
    assert [item.split(":")[-1] for item in verify_folder(out).damaged] == [
        " the table was changed"
    ]


@pytest.mark.parametrize("mode", ["copy", "none"])
def test_large_images_have_the_same_table(mode: str, tmp_path: Path) -> None:
    """Their sums travel by files, shard by shard; a run that goes on takes what is there."""
    archive = tmp_path / "archive"
    archive.mkdir()
    tifffile.imwrite(
        archive / "a.tif",
        picture((3, 50, 2100), "uint16"),
        metadata={"axes": "ZYX"},
        photometric="minisblack",
    )
    recipe = parse_recipe({**RECIPE, "label": "a", "output": {"image": mode}}, "recipe")
    small = segment(Request(recipe, archive, tmp_path / "small"), small=True)
    request = Request(recipe, archive, tmp_path / "large", tile_px=600)
    with opened(request, interrupted(after=3)) as run:
        (plan,) = run.plan(run.admit())
        with pytest.raises(KeyboardInterrupt):
            run.segment_large(plan, {})
    large = segment(request, small=False)
    assert table_digest(large.quality) == table_digest(small.quality)
    assert verify_folder(large.root).damaged == []


def interrupted(after: int) -> Any:
    """A `submit` that ends the run behind some answers of the orders of an image."""
    left = [after]

    def submit(work: Any, batches: Any) -> Any:
        for pair in run_serially(work, batches):
            if work is perform:
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1
            yield pair

    return submit


def test_images_parquet_goes_with_its_option(tmp_path: Path) -> None:
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    tifffile.imwrite(archive / "a.tif", picture((40, 40), "uint8"))
    recipe = parse_recipe({**RECIPE, "label": "a", "measure": {"quality": False}}, "recipe")
    folder = segment(Request(recipe, archive, out))
    assert not (out / "images.parquet").exists()
    assert "Image quality" not in folder.report.read_text()
