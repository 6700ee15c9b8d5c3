"""Flat-field correction: exact in tiles, and near to the shading that was put in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from flows.dry_run import dry_run
from flows.request import Request
from pipeline.box import Box, grid
from pipeline.conformance import check_image
from pipeline.errors import ConformanceError, MethodError, RecipeError
from pipeline.filter import Place
from pipeline.flat_field.averages import median_profile
from pipeline.flat_field.basic import basic_profile
from pipeline.flat_field.filter import FlatField
from pipeline.flat_field.profiles import read_pixels
from pipeline.preprocess import final_range
from pipeline.recipe import parse_recipe
from pipeline.run_folder import RunFolder
from pipeline.trial import Cut, Result, run_untiled
from pipeline.verify import verify_folder
from tests.in_process import opened

STORED = Path(__file__).parent / "data" / "basic"
MERGE = {"by": "threshold", "weight": "mean_color", "value": 60}
OTSU: dict[str, Any] = {"method": "threshold", "foreground": {"value": "otsu"}}


def shading(shape: tuple[int, int]) -> NDArray[np.float64]:
    """Brightest beside the middle, about 0.5 in one corner; its mean is 1."""
    y, x = ((np.arange(n) + 0.5) / n for n in shape)
    flat = 1.2 - 0.9 * ((y[:, None] - 0.4) ** 2 + (x - 0.6) ** 2)
    return flat / flat.mean()


def fields(count: int, shape: tuple[int, int], seed: int = 0) -> list[NDArray[np.uint16]]:
    """Pictures of discs on a background, under `shading`, and where the discs are."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    found = []
    for _ in range(count):
        picture = np.full(shape, rng.uniform(400, 800))
        for _ in range(12):
            cy, cx = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
            picture[(y - cy) ** 2 + (x - cx) ** 2 < 5**2] = 1100
        found.append((picture * shading(shape) + rng.normal(0, 5, shape)).astype(np.uint16))
    return found


def recipe_of(step: dict[str, Any], **more: Any) -> Any:
    content = {"label": "a", "preprocess": [{"filter": "flat_field", **step}], "segment": OTSU}
    return parse_recipe({**content, **more}, "recipe")


@pytest.mark.parametrize("estimate", ["basic", "median"])
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_estimated_equals_untiled(estimate: str, dtype: str, tmp_path: Path) -> None:
    """A time-lapse is a dataset of its own; its frames do not divide into the lattice's cells."""
    image = np.array(fields(9, (70, 101)), dtype)[:, None, None]
    if dtype == "float32":
        image[2, 0, 0, :30, :40] = np.nan
    recipe = recipe_of({"estimate": estimate, "darkfield": estimate == "basic"})
    cuts = [Cut(16), Cut(33, 3, 2), Cut((70, 25), 1), Cut(64, 4, 3)]
    result = check_image(recipe, image, cuts, tmp_path)
    assert isinstance(result, Result)
    assert result.labels.max() > 20


@pytest.mark.parametrize(
    "sections",
    [
        {"segment": {"method": "slic", "size_px": 15, "iterations": 2}},
        {"segment": {"method": "slic", "size_px": 9, "iterations": 1}, "merge": MERGE},
        {"segment": {"method": "watershed", "landscape": "intensity", "masked": False}},
        {"segment": {"method": "felzenszwalb", "scale": 200, "sigma_px": 0.5}},
    ],
    ids=["slic", "merge", "watershed", "felzenszwalb"],
)
def test_later_rounds_still_have_the_profile(sections: dict[str, Any], tmp_path: Path) -> None:
    """Also those that read a few keys of the state, or return none but their own."""
    image = np.array(fields(8, (40, 50)))[:, None, None]
    recipe = recipe_of({"estimate": "median"}, **sections)
    result = check_image(recipe, image, [Cut(16, 2, 3)], tmp_path)
    assert isinstance(result, Result)
    assert result.labels.max() > 20


def test_given_equals_untiled(tmp_path: Path) -> None:
    """With two channels, of another size, behind it a filter with a halo, in planes and volumes."""
    rng = np.random.default_rng(0)
    gain = np.stack([shading((40, 50)), shading((40, 50))[::-1]]) * 3000
    tifffile.imwrite(
        tmp_path / "gain.tif",
        gain.astype(np.float32),
        photometric="minisblack",
        metadata={"axes": "CYX"},
    )
    np.save(tmp_path / "dark.npy", rng.uniform(90, 110, (40, 50)))
    image = (rng.random((2, 5, 61, 83)) ** 8 * 4000).astype(np.uint16)
    step = {
        "profile": str(tmp_path / "gain.tif"),
        "dark": str(tmp_path / "dark.npy"),
        "resize": True,
    }
    for dims, side in (("2d", (20, 31)), ("3d", (3, 20, 31))):
        recipe = recipe_of(step, source={"channels": [1], "dims": dims})
        recipe = recipe.model_copy(update={"preprocess": (*recipe.preprocess, *recipe_gaussian())})
        check_image(recipe, image, [Cut(side), Cut(17, 5, 2)], tmp_path)


def recipe_gaussian() -> Any:
    content = {"segment": OTSU, "preprocess": [{"filter": "gaussian", "sigma_px": 1}]}
    return parse_recipe(content, "recipe").preprocess


def test_a_changed_place_is_noticed(tmp_path: Path) -> None:
    """The comparison fails where a filter does not know where it is."""

    class Lost(FlatField):
        def apply_at(self, image: Any, place: Place) -> Any:
            return super().apply_at(image, Place(Box.whole(image.shape), place.frame))

    np.save(tmp_path / "gain.npy", shading((60, 60)))
    recipe = recipe_of({"profile": str(tmp_path / "gain.npy")})
    lost = Lost(filter="flat_field", profile=str(tmp_path / "gain.npy"))
    image = fields(1, (60, 60))[0]
    with pytest.raises(ConformanceError):
        check_image(recipe.model_copy(update={"preprocess": (lost,)}), image, [Cut(20)], tmp_path)


def test_correction_is_that_of_numpy(tmp_path: Path) -> None:
    flat, dark = shading((60, 44)), np.linspace(5, 9, 60 * 44).reshape(60, 44)
    np.save(tmp_path / "flat.npy", flat.astype(np.float32))
    np.save(tmp_path / "dark.npy", dark.astype(np.float32))
    step = FlatField(
        filter="flat_field", profile=str(tmp_path / "flat.npy"), dark=str(tmp_path / "dark.npy")
    )
    image = fields(1, (60, 44))[0]
    frame = Box.whole(image.shape)
    whole = step.apply_at(image, Place(frame, frame))
    stored_flat = np.load(tmp_path / "flat.npy")
    stored_dark = np.load(tmp_path / "dark.npy")
    np.testing.assert_allclose(whole, (image - stored_dark) / stored_flat, rtol=1e-6)
    for _, box in grid(image.shape, (13, 17)):
        part = step.apply_at(image[box.slices], Place(box, frame))
        assert part.tobytes() == np.ascontiguousarray(whole[box.slices]).tobytes()
    low, high = final_range([step], float(image.min()), float(image.max()), Place(frame, frame))
    assert low <= whole.min() <= whole.max() <= high < 3 * image.max()


def test_resized_profiles_are_bilinear() -> None:
    """On a plane that rises evenly, points between the middles of the parts lie on it."""
    points = np.arange(8) / 8 + 1 / 16 + 1
    step = FlatField(filter="flat_field", estimate="basic")
    state = {
        "preprocess.flat": np.broadcast_to(points, (1, 8, 8)).astype(np.float32),
        "preprocess.dark": np.zeros((1, 8, 8), np.float32),
    }
    frame = Box.whole((24, 80))
    image = np.ones((24, 80), np.uint8)
    gain = 1 / step.apply_at(image, Place(frame, frame, state=state))
    expected = np.clip((np.arange(80) + 0.5) / 80 + 1, points[0], points[-1])
    np.testing.assert_allclose(gain, np.broadcast_to(expected, (24, 80)), rtol=1e-6)


def archive_of(folder: Path, pictures: list[NDArray[Any]]) -> Path:
    folder.mkdir()
    for number, picture in enumerate(pictures):
        tifffile.imwrite(folder / f"{number:02d}.tif", picture)
    return folder


def run(request: Request, small: bool = True) -> RunFolder:
    """All stages, with the survey of the dataset."""
    with opened(request) as stages:
        admitted = stages.admit()
        plans = stages.plan(admitted)
        state = stages.survey(plans, stages.dataset_identity(admitted))
        plans = [plan for plan in plans if not stages.records.is_quarantined(plan)]
        if small:
            stages.segment_small(plans, state)
        for plan in [] if small else plans:
            stages.segment_large(plan, state)
        stages.finish()
    return stages.folder


def digest_of(folder: RunFolder) -> str:
    found = folder.read_run()
    return str(found["certificate"]["labels_digest"])


def test_dataset(tmp_path: Path) -> None:
    """Estimated, published, given again; better labels; the same in other tiles and from TIFFs
    that come in another order."""
    shape = (96, 130)
    pictures = fields(20, shape)
    archive = archive_of(tmp_path / "archive", pictures)
    recipe = recipe_of({"estimate": "basic", "pictures": 15})
    done = run(Request(recipe, archive, tmp_path / "out"))
    out = tmp_path / "out"
    flat = tifffile.imread(out / "profiles" / "0-flat.tif")
    assert flat.shape == (64, 64)
    np.testing.assert_allclose(flat, shading((64, 64)), atol=0.02)
    assert verify_folder(out).damaged == []
    assert "Flat field" in (out / "report.html").read_text()

    other = run(Request(recipe, archive, tmp_path / "other", tile_px=40), small=False)
    assert digest_of(other) == digest_of(done)
    assert (other.profiles / "0-flat.tif").read_bytes() == (
        out / "profiles/0-flat.tif"
    ).read_bytes()

    again = recipe_of({"profile": str(out / "profiles" / "0-flat.tif"), "resize": True})
    assert digest_of(run(Request(again, archive, tmp_path / "again"))) == digest_of(done)

    plain = parse_recipe({"label": "a", "segment": OTSU}, "recipe")
    table = run(Request(plain, archive, tmp_path / "plain")).objects
    before, after = pq.read_table(table), pq.read_table(out / "objects.parquet")
    # A disc has 81 px at most: light that is taken for objects makes larger ones.
    assert max(before["area_px"].to_pylist()) > 2000
    assert max(after["area_px"].to_pylist()) < 500

    path = out / "profiles" / "0-flat.tif"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert verify_folder(out).damaged == [f"{path}: the profile was changed"]


def test_resume_takes_the_known_profile(tmp_path: Path) -> None:
    """A run that goes on after its survey writes the same profile and labels."""
    archive = archive_of(tmp_path / "archive", fields(9, (50, 60)))
    request = Request(recipe_of({"estimate": "median"}), archive, tmp_path / "out")
    with opened(request) as stages:
        admitted = stages.admit()
        plans = stages.plan(admitted)
        state = stages.survey(plans, stages.dataset_identity(admitted))
        stages.segment_small(plans[:4], state)
    profile = (tmp_path / "out/profiles/0-flat.tif").read_bytes()
    (tmp_path / "out/profiles/0-flat.tif").unlink()
    done = run(request)
    assert (done.profiles / "0-flat.tif").read_bytes() == profile
    assert digest_of(done) == digest_of(run(Request(request.recipe, archive, tmp_path / "whole")))


def test_another_image_makes_another_plan(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", fields(9, (50, 60)))
    request = Request(recipe_of({"estimate": "median"}), archive, tmp_path / "out")
    with opened(request) as stages:
        before = {plan.job.name: plan.job.plan for plan in stages.plan(stages.admit())}
    tifffile.imwrite(archive / "more.tif", fields(1, (50, 60), seed=5)[0])
    with opened(request) as stages:
        after = {plan.job.name: plan.job.plan for plan in stages.plan(stages.admit())}
    assert all(after[name] != plan for name, plan in before.items())


def test_the_plan_says_so(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", fields(9, (50, 60)))
    text = dry_run(Request(recipe_of({"estimate": "basic"}), archive, tmp_path / "out")).text()
    assert "flat field: 100 frames of the dataset are looked at first, at most" in text


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({}, "give either `profile: file` or `estimate: basic`"),
        ({"estimate": "basic", "resize": True}, "go with `profile`"),
        ({"estimate": "median", "darkfield": True}, "goes with `estimate: basic`"),
        ({"profile": "missing.npy"}, "missing.npy"),
    ],
)
def test_refused_recipes(step: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        recipe_of(step)


def test_it_comes_first() -> None:
    steps = [{"filter": "median", "radius_px": 1}, {"filter": "flat_field", "estimate": "basic"}]
    with pytest.raises(RecipeError, match="it comes first"):
        parse_recipe({"segment": OTSU, "preprocess": steps}, "recipe")


def test_refused_datasets(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", fields(9, (50, 60)))
    recipe = recipe_of({"estimate": "basic"})
    with pytest.raises(RecipeError, match="--only"):
        Request(recipe, archive, tmp_path / "out", only="0*")
    tifffile.imwrite(archive / "odd.tif", fields(1, (50, 61))[0])
    with pytest.raises(RecipeError, match=r"00 50 x 60, odd 50 x 61 px"):
        run(Request(recipe, archive, tmp_path / "out"))
    few = archive_of(tmp_path / "few", [*fields(7, (50, 60)), np.zeros((50, 60), np.uint16)])
    with pytest.raises(RecipeError, match="needs 8 pictures that are not black, and there are 7"):
        run(Request(recipe, few, tmp_path / "few-out"))


def test_refused_images(tmp_path: Path) -> None:
    image = fields(1, (50, 60))[0]
    np.save(tmp_path / "gain.npy", np.ones((50, 61), np.float32))
    with pytest.raises(MethodError, match=r"50 x 60 px, the profile .* 50 x 61"):
        run_untiled(recipe_of({"profile": str(tmp_path / "gain.npy")}), image, tmp_path)
    np.save(tmp_path / "zero.npy", np.eye(50, 60, dtype=np.float32))
    with pytest.raises(MethodError, match="a gain of 0"):
        run_untiled(recipe_of({"profile": str(tmp_path / "zero.npy")}), image, tmp_path)
    dark = np.where(np.arange(60) < 40, -2, 1) * np.ones((50, 1), np.float32)
    for gain, least in ((np.zeros((50, 60)), "0"), (-np.ones((50, 60)), "-1"), (dark, "-2")):
        np.save(tmp_path / "wrong.npy", gain)
        with pytest.raises(MethodError, match=rf"wrong\.npy, has a gain of {least}; .* Repair"):
            run_untiled(recipe_of({"profile": str(tmp_path / "wrong.npy")}), image, tmp_path)
    np.save(tmp_path / "one.npy", np.ones((50, 60), np.float32))
    named = recipe_of({"profile": {"GFP": str(tmp_path / "one.npy")}})
    with pytest.raises(MethodError, match="no profile for its channel"):
        run_untiled(named, image, tmp_path)


def test_profiles_that_are_none_say_what_to_do(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([[1, "a"]], object), allow_pickle=True)
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    (tmp_path / "empty.npy").touch()
    for name in ("objects", "words", "empty"):
        with pytest.raises(RecipeError, match=rf"{name}\.npy: .*Write it with numpy\.save"):
            recipe_of({"profile": str(tmp_path / f"{name}.npy")})
    np.save(tmp_path / "a.npy", np.ones((4, 5)))
    np.save(tmp_path / "b.npy", np.ones((4, 6)))
    with pytest.raises(RecipeError, match=r"a\.npy 4 x 5 px, .*b\.npy 4 x 6 px") as caught:
        recipe_of({"profile": str(tmp_path / "a.npy"), "dark": str(tmp_path / "b.npy")})
    assert "{" not in str(caught.value)


def test_identity_is_the_profile_not_its_place(tmp_path: Path) -> None:
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", shading((8, 8)))
    np.save(tmp_path / "c.npy", shading((8, 8)) + 1)
    a, b, c = (recipe_of({"profile": str(tmp_path / f"{n}.npy")}).identity() for n in "abc")
    assert a == b != c


def test_profiles_are_read_from_images(tmp_path: Path) -> None:
    gain = shading((20, 30)).astype(np.float32)
    np.save(tmp_path / "a.npy", gain)
    tifffile.imwrite(tmp_path / "a.tif", gain)
    assert read_pixels(tmp_path / "a.npy").tobytes() == read_pixels(tmp_path / "a.tif").tobytes()
    stack = np.zeros((3, 20, 30), np.uint8)
    tifffile.imwrite(tmp_path / "z.tif", stack, metadata={"axes": "ZYX"}, photometric="minisblack")
    with pytest.raises(ValueError, match="one plane"):
        read_pixels(tmp_path / "z.tif")


@pytest.mark.parametrize("dark", [False, True])
def test_basic_is_that_of_basicpy(dark: bool) -> None:
    """Values of BaSiCPy 2.0.0, see tests/data/basic/make.py; it calculates in 32 bits."""
    stored = np.load(STORED / ("dark.npz" if dark else "flat.npz"))
    flat, offset = basic_profile(stored["tenths"] / 10, dark=dark)
    np.testing.assert_allclose(flat, stored["flat"], atol=2e-3)
    np.testing.assert_allclose(offset, stored["dark"], atol=0.3)


def test_estimates_recover_the_shading() -> None:
    rng = np.random.default_rng(0)
    truth = shading((48, 48))
    pictures = []
    for _ in range(30):
        spots = ndimage.gaussian_filter(rng.random((48, 48)), 1.5)
        bright = np.where(spots > np.quantile(spots, 0.9), 150, 0)
        pictures.append((rng.uniform(60, 140) + bright) * truth + rng.normal(0, 1, (48, 48)))
    basic, dark = basic_profile(np.array(pictures), dark=False)
    assert np.abs(basic - truth).max() < 0.015
    assert not dark.any()
    assert np.abs(median_profile(np.array(pictures)) - truth).mean() < 0.02
    assert np.abs(truth - 1).max() > 0.3  # what was to be found
    repeated, _ = basic_profile(np.array(pictures), dark=False)
    assert repeated.tobytes() == basic.tobytes()
