"""GrabCut: equal to OpenCV on whole images, box by box, and the same for every tiling."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from PIL import Image
from skimage import io
from skimage.draw import line as line_between

from pipeline.annotations.shapes import ShapeFiles, read_shapes
from pipeline.box import Box
from pipeline.box_cut import cut
from pipeline.byte_survey import BYTE_RANGE, as_bytes
from pipeline.companions import Companion
from pipeline.conformance import check_image
from pipeline.errors import MethodError, RecipeError
from pipeline.image import ImageInfo
from pipeline.recipe import Recipe, parse_recipe
from pipeline.sources import SourceSpec, discover
from pipeline.trial import Cut, Result, plan_array, run_tiled, run_untiled, save_array

DATA = Path(__file__).parent / "data"
NUCLEI = DATA / "demo" / "large_nuclei" / "3ca8181367fc.png"
TISSUE = DATA / "histology" / "4590d7d47f52.png"

Edges = tuple[int, int, int, int]


def boxes_file(folder: Path, boxes: list[Edges], name: str = "b.csv") -> Path:
    rows = [",".join(map(str, box)) for box in boxes]
    path = folder / name
    path.write_text("\n".join(["y_start,x_start,y_stop,x_stop", *rows]) + "\n")
    return path


def recipe_of(path: Path, channels: int = 3, **own: object) -> Recipe:
    segment = {"method": "grabcut", "boxes": {"file": str(path)}, **own}
    source = {"channels": list(range(channels))}
    return parse_recipe({"source": source, "segment": segment}, "recipe")


def nuclei() -> np.ndarray:
    """Grey nuclei, shape (360, 360)."""
    image = io.imread(NUCLEI)
    return image if image.ndim == 2 else image[..., 0]


def tissue() -> np.ndarray:
    """Stained tissue, shape (3, 1, 256, 320)."""
    return np.moveaxis(io.imread(TISSUE)[..., :3], -1, 0)[:, None]


def by_opencv(pixels: np.ndarray, box: Edges, seed: int = 0, iterations: int = 5) -> np.ndarray:
    """OpenCV's foreground of a rectangle, as its manual shows it; `pixels` has shape (Y, X, 3)."""
    y0, x0, y1, x1 = box
    mask = np.zeros(pixels.shape[:2], np.uint8)
    cv2.setRNGSeed(seed)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    rectangle = (x0, y0, x1 - x0, y1 - y0)
    image = np.ascontiguousarray(pixels)
    cv2.grabCut(image, mask, rectangle, *models, iterations, cv2.GC_INIT_WITH_RECT)
    return (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)


def pasted(masks: list[np.ndarray]) -> np.ndarray:
    """Masks as labels, numbered by their first pixels; the first mask has its pixels."""
    found = np.zeros(masks[0].shape, np.int64)
    for number, mask in enumerate(masks, 1):
        found[mask & (found == 0)] = number
    kinds, first = np.unique(found, return_index=True)
    ranks = np.zeros(len(masks) + 1, np.int64)
    ranks[kinds[kinds > 0][np.argsort(first[kinds > 0])]] = np.arange(1, (kinds > 0).sum() + 1)
    return ranks[found]


# --- The same as OpenCV --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 5])
def test_one_box_is_the_call_on_the_whole_image(seed: int, tmp_path: Path) -> None:
    image, box = tissue(), (0, 145, 32, 179)
    recipe = recipe_of(boxes_file(tmp_path, [box]), margin_px=10_000, seed=seed)
    found = run_tiled(recipe, image, tmp_path, Cut(100, order=1))
    expected = by_opencv(np.moveaxis(image[:, 0], 0, -1), box, seed)
    assert 400 < expected.sum() < 700
    assert np.array_equal(found.labels[0, 0] > 0, expected)
    assert found.certificate["boxes_of_an_object"] == 1


def test_each_box_is_a_call_of_its_own_and_the_first_has_its_pixels(tmp_path: Path) -> None:
    y, x = np.indices((90, 110))
    image = noise(90, 110)[..., 0] // 8 + np.full((90, 110), 40, np.uint8)
    for middle in (30, 75):
        image[np.hypot(y - 45, x - middle) < 20] += 100
    grey = np.repeat(image[..., None], 3, axis=-1)
    boxes = [(20, 51, 73, 103), (22, 5, 68, 96)]  # the right disc, both discs
    masks = [by_opencv(grey, box) for box in boxes]
    assert [int(mask.sum()) for mask in masks] == [1245, 2490]
    recipe = recipe_of(boxes_file(tmp_path, boxes), 1, margin_px=400)
    found = run_tiled(recipe, image, tmp_path, Cut(64, order=3, batch_tiles=3))
    assert np.array_equal(found.labels[0, 0], pasted(masks))
    assert found.table["area_px"].to_pylist() == [1245, 1245]
    backwards = recipe_of(boxes_file(tmp_path, boxes[::-1], "back.csv"), 1, margin_px=400)
    found = run_tiled(backwards, image, tmp_path, Cut(64))
    assert found.table["area_px"].to_pylist() == [2490]
    assert np.array_equal(found.labels[0, 0], pasted(masks[::-1]))


def agreement(image: np.ndarray, path: Path, margin_px: int) -> tuple[np.ndarray, int, int]:
    """IoU with the call on the whole image where both find something; boxes that each loses."""
    height, width = image.shape[:2]
    info = ImageInfo(
        (1, 1, 1, height, width), "uint8", "yx", ("a",), (None,) * 3, None, (1, 1, 1, 9, 9)
    )
    shapes = read_shapes(ShapeFiles(Companion(str(path), "1"), None, info, "image"))
    ious, lost_here, lost_there = [], 0, 0
    for number in range(8):
        box = shapes.box(number)
        crop = box.grow(margin_px, Box.whole(image.shape[:2]))
        marks = np.zeros(crop.shape, np.uint8)
        marks[box.within(crop)] = cv2.GC_PR_FGD
        near = np.zeros(image.shape[:2], bool)
        near[crop.slices] = cut(np.ascontiguousarray(image[crop.slices]), marks, 5, 0)
        whole = by_opencv(image, (*box.start, *box.stop))
        lost_here += int(whole.any() and not near.any())
        lost_there += int(near.any() and not whole.any())
        if near.any() and whole.any():
            ious.append((near & whole).sum() / (near | whole).sum())
    return np.array(ious), lost_here, lost_there


def test_a_margin_loses_no_object_that_the_whole_image_would_find() -> None:
    grey = np.repeat(nuclei()[..., None], 3, axis=-1)
    colours = np.moveaxis(tissue()[:, 0], 0, -1)
    for image, path, both in (
        (grey, NUCLEI.with_suffix(".boxes.csv"), 6),
        (colours, TISSUE.with_suffix(".boxes.geojson"), 3),
    ):
        ious, lost_here, lost_there = agreement(image, path, 8)
        # Measured: 0.884 to 0.999, median 0.994; 0.976 to 1, median 0.994.
        assert len(ious) >= both
        assert ious.min() > 0.85
        assert np.median(ious) > 0.97
        assert lost_here <= lost_there


def test_threads_change_nothing() -> None:
    generator = np.random.default_rng(2)
    y, x = np.indices((250, 250))
    disc = np.hypot(y - 130, x - 110) < 70
    image = np.where(disc, 150, 80)[..., None] + generator.normal(0, 30, (250, 250, 3))
    image = image.clip(0, 255).astype(np.uint8)
    before, found = cv2.getNumThreads(), []
    try:
        for threads in (1, 2, 7):
            cv2.setNumThreads(threads)
            found.append(cut(image, marks_of((250, 250), np.s_[20:240, 20:220]), 2, 3))
    finally:
        cv2.setNumThreads(before)
    assert 0.95 < found[0].sum() / disc.sum() < 1.05
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


# --- Images and crops with too little in them ----------------------------------------------------


def marks_of(shape: tuple[int, int], inside: tuple[slice, slice]) -> np.ndarray:
    marks = np.full(shape, cv2.GC_BGD, np.uint8)
    marks[inside] = cv2.GC_PR_FGD
    return marks


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (*shape, 3)).astype(np.uint8)


def test_without_a_background_all_is_foreground() -> None:
    with pytest.raises(cv2.error):
        by_opencv(noise(9, 9), (0, 0, 9, 9))
    assert cut(noise(9, 9), marks_of((9, 9), np.s_[:, :]), 5, 0).all()
    marks = marks_of((9, 9), np.s_[:, :])
    marks[4] = cv2.GC_FGD
    assert cut(noise(9, 9), marks, 5, 0).all()


def test_without_a_foreground_nothing_is() -> None:
    assert not cut(noise(9, 9), marks_of((9, 9), np.s_[:0, :]), 5, 0).any()


@pytest.mark.parametrize("value", [0, 7, 255])
def test_one_colour_holds_nothing_but_what_is_marked(value: int) -> None:
    image = np.full((20, 20, 3), value, np.uint8)
    assert not by_opencv(image, (5, 5, 12, 12)).any()
    marks = marks_of((20, 20), np.s_[5:12, 5:12])
    marks[7, 8] = cv2.GC_FGD
    found = cut(image, marks, 5, 0)
    assert np.argwhere(found).tolist() == [[7, 8]]


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (1, 3), (2, 2), (1, 40), (40, 1)])
def test_crops_of_few_pixels_are_cut(shape: tuple[int, int]) -> None:
    marks = marks_of(shape, np.s_[:1, :1])
    found = cut(noise(*shape), marks, 5, 0)
    assert found.shape == shape
    assert found.sum() <= 1


def test_a_box_over_the_whole_image_is_the_whole_image(tmp_path: Path) -> None:
    recipe = recipe_of(boxes_file(tmp_path, [(0, 0, 40, 50)]), 1)
    image = noise(40, 50)[..., 0]
    found = check_image(recipe, image, [Cut(16, 1)], tmp_path)
    assert isinstance(found, Result)
    assert (found.labels == 1).all()


def test_no_boxes_are_no_objects(tmp_path: Path) -> None:
    recipe = recipe_of(boxes_file(tmp_path, []), 1)
    for dtype in (np.uint8, np.float32):
        image = noise(40, 50)[..., 0].astype(dtype)
        found = check_image(recipe, image, [Cut(16, 1)], tmp_path)
        assert isinstance(found, Result)
        assert not found.labels.any()
        assert len(found.table) == 0
        assert found.certificate["boxes_of_an_object"] == 0


def test_pixels_that_are_not_finite_are_background(tmp_path: Path) -> None:
    image = noise(40, 50)[..., 0].astype(np.float32)
    image[:, 20:23] = np.nan
    image[5, 5] = np.inf
    recipe = recipe_of(boxes_file(tmp_path, [(0, 0, 40, 50)]), 1)
    found = check_image(recipe, image, [Cut(16, 1)], tmp_path)
    assert isinstance(found, Result)
    labels = found.labels[0, 0]
    assert not labels[~np.isfinite(image)].any()
    assert labels.max() == 1  # left and right of the gap, one object


# --- Grey values as bytes ------------------------------------------------------------------------


def test_bytes_are_the_rounded_share_of_the_range() -> None:
    state = {BYTE_RANGE: np.array([[-10.0, 500.0], [3.0, 3.0], [np.inf, -np.inf]])}
    values = np.array([-10, 500, 0, 245, 246, 247, 900], np.float64)
    found = as_bytes(np.stack([values] * 3), state)
    # 255 * (v + 10) / 510 = 0, 255, 5, 127.5 -> 128, 128, 128.5 -> 128
    assert found[0].tolist() == [0, 255, 5, 128, 128, 128, 255]
    assert not found[1:].any()


def test_the_largest_and_smallest_floats_have_bytes() -> None:
    high = np.finfo(np.float64).max
    tiny = 5e-324
    for low, top in ((-high, high), (0.0, tiny * 64)):
        state = {BYTE_RANGE: np.array([[low, top]])}
        middle = low / 2 + top / 2
        assert as_bytes(np.array([[low, middle, top]]), state)[0].tolist() == [0, 128, 255]


def test_other_types_are_cut_as_their_bytes(tmp_path: Path) -> None:
    image = nuclei()
    image = ((image.astype(float) - image.min()) / np.ptp(image) * 255).round().astype(np.uint8)
    path = boxes_file(tmp_path, [(28, 40, 86, 96), (218, 129, 288, 189)])
    expected = run_untiled(recipe_of(path, 1), image, tmp_path).labels
    assert expected.max() == 2
    for other in (
        image.astype(np.int16) * 3 - 100,
        image / np.float32(7),
        image.astype("u4") << 20,
    ):
        found = run_tiled(recipe_of(path, 1), other, tmp_path, Cut(100, 1))
        assert np.array_equal(found.labels, expected)


# --- Tiled equals untiled ------------------------------------------------------------------------


@st.composite
def scenes(draw: DrawFn) -> tuple[np.ndarray, str, dict[str, Any], Cut]:
    """An image, the GeoJSON of its shapes, parameters and a tiling."""
    channels, depth = draw(st.sampled_from([1, 1, 3])), draw(st.sampled_from([1, 1, 2]))
    height, width = draw(st.integers(2, 32)), draw(st.integers(2, 32))
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    image = generator.random((channels, depth, height, width)) * 40
    image[..., height // 3 : height // 3 * 2, width // 3 : width // 3 * 2] += 50
    image = image.astype(draw(st.sampled_from(["uint8", "uint8", "uint16", "int16", "float32"])))
    if image.dtype.kind == "f" and draw(st.booleans()):
        image[generator.random(image.shape) < 0.05] = np.nan

    def place() -> list[int]:
        return [draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))]

    features = []
    for _ in range(draw(st.integers(0, 6))):
        (x, y), (w, h) = place(), (draw(st.integers(1, 30)), draw(st.integers(1, 30)))
        ring = [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]
        features.append(("Polygon", [ring], ""))
    for _ in range(draw(st.integers(0, 3))):
        features.append(
            ("LineString", [place(), place()], draw(st.sampled_from(["", "background"])))
        )
    text = json.dumps(
        [
            {
                "geometry": {
                    "type": kind,
                    "coordinates": places,
                    "plane": {"z": draw(st.integers(0, depth - 1))},
                },
                "properties": {"name": name},
            }
            for kind, places, name in features
        ]
    )
    own = {
        "margin_px": draw(st.integers(1, 9)),
        "iterations": draw(st.integers(1, 3)),
        "seed": draw(st.integers(0, 3)),
    }
    side = (draw(st.integers(3, 20)), draw(st.integers(3, 20)))
    return image, text, own, Cut(side, draw(st.integers(0, 99)), draw(st.sampled_from([1, 3])))


def by_definition(image: np.ndarray, text: str, own: dict[str, Any]) -> np.ndarray:
    """Labels of (Z, Y, X) as the documentation defines them, in plain NumPy and OpenCV."""
    channels, depth, height, width = image.shape
    finite = np.isfinite(image)
    pixels = np.zeros((depth, height, width, 3), np.uint8)
    for c in range(3):
        one, known = image[c % channels], finite[c % channels]
        everywhere = finite.all(axis=0)
        if image.dtype == np.uint8:
            pixels[..., c] = one
        elif everywhere.any():
            low, high = float(one[everywhere].min()), float(one[everywhere].max())
            share = (np.where(known, one, low).astype(float) - low) / max(high - low, 1e-99)
            pixels[..., c] = np.rint(np.clip(share, 0, 1) * 255)
    features = json.loads(text)
    masks = []
    for feature in features:
        if feature["geometry"]["type"] != "Polygon":
            continue
        z, ring = feature["geometry"]["plane"]["z"], feature["geometry"]["coordinates"][0]
        (x0, y0), (x1, y1) = ring[0], (min(ring[2][0], width), min(ring[2][1], height))
        marks = np.zeros((height, width), np.uint8)
        marks[y0:y1, x0:x1] = cv2.GC_PR_FGD
        for name, kind in (("", cv2.GC_FGD), ("background", cv2.GC_BGD)):
            drawn = np.zeros((height, width), bool)
            for line in features:
                shape, called = line["geometry"], line["properties"]["name"]
                if (shape["type"], shape["plane"]["z"], called) == ("LineString", z, name):
                    drawn |= on_line(*shape["coordinates"], drawn.shape)
            drawn[:y0] = drawn[y1:] = drawn[:, :x0] = drawn[:, x1:] = False
            marks[drawn] = kind
        marks[~finite[:, z].all(axis=0)] = cv2.GC_BGD
        m = own["margin_px"]
        crop = np.s_[max(0, y0 - m) : y1 + m, max(0, x0 - m) : x1 + m]
        mask = np.zeros((depth, height, width), bool)
        mask[z][crop] = cut_by_opencv(pixels[z][crop], marks[crop], own)
        masks.append(mask)
    return pasted(masks) if masks else np.zeros((depth, height, width), np.int64)


def on_line(a: list[int], b: list[int], shape: tuple[int, int]) -> np.ndarray:
    drawn = np.zeros(shape, bool)
    drawn[line_between(a[1], a[0], b[1], b[0])] = True
    return drawn


def cut_by_opencv(pixels: np.ndarray, marks: np.ndarray, own: dict[str, Any]) -> np.ndarray:
    marks = marks.copy()
    guess = np.isin(marks, [cv2.GC_FGD, cv2.GC_PR_FGD])
    if len(np.unique(pixels.reshape(-1, 3), axis=0)) == 1 and 0 < guess.sum() < guess.size:
        return marks == cv2.GC_FGD
    cv2.setRNGSeed(own["seed"])
    models = np.zeros((1, 65)), np.zeros((1, 65))
    try:
        image = np.ascontiguousarray(pixels)
        cv2.grabCut(image, marks, None, *models, own["iterations"], cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # nothing to learn from: the first guess stays
        return guess
    return np.isin(marks, [cv2.GC_FGD, cv2.GC_PR_FGD])


@given(scene=scenes())
@settings(deadline=None, max_examples=40)
def test_tiled_equals_untiled_and_the_definition(
    scene: tuple[np.ndarray, str, dict[str, Any], Cut],
) -> None:
    image, text, own, way = scene
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "shapes.geojson"
        path.write_text(text)
        found = check_image(recipe_of(path, len(image), **own), image, [way], Path(name))
    assert isinstance(found, Result)
    assert np.array_equal(found.labels[0], by_definition(image, text, own))


def test_filters_of_crops_are_those_of_the_image(tmp_path: Path) -> None:
    path = boxes_file(tmp_path, [(28, 40, 86, 96), (0, 0, 130, 60), (95, 30, 170, 90)])
    segment = {"method": "grabcut", "boxes": {"file": str(path)}}
    for preprocess in (
        [{"filter": "gaussian", "sigma_px": 2}],
        [{"filter": "subtract_background", "radius_px": 20}, {"filter": "median", "radius_px": 1}],
    ):
        recipe = parse_recipe({"preprocess": preprocess, "segment": segment}, "recipe")
        found = check_image(recipe, nuclei()[:180, :120], [Cut(37, 1), Cut(70, 2, 3)], tmp_path)
        assert isinstance(found, Result)
        assert found.labels.max() >= 2


def test_a_background_file_takes_pixels_from_an_object(tmp_path: Path) -> None:
    path = boxes_file(tmp_path, [(218, 129, 288, 189)])
    lines = [[[140.5, 250.5], [180.5, 250.5]]]
    dark = tmp_path / "dark.geojson"
    dark.write_text(json.dumps([{"geometry": {"type": "MultiLineString", "coordinates": lines}}]))
    plain = run_untiled(recipe_of(path, 1), nuclei(), tmp_path).labels[0, 0]
    recipe = recipe_of(path, 1, background={"file": str(dark)})
    found = check_image(recipe, nuclei(), [Cut(48, 1)], tmp_path)
    assert isinstance(found, Result)
    assert plain[250, 140:181].all()
    assert not found.labels[0, 0, 250, 140:181].any()


# --- What is refused, and what a run costs -------------------------------------------------------


def test_a_box_that_is_too_large_is_named(tmp_path: Path) -> None:
    path = boxes_file(tmp_path, [(0, 0, 5, 5), (10, 10, 40, 30)])
    recipe = recipe_of(path, 1, margin_px=2, max_box_px=815)
    with pytest.raises(
        MethodError, match=r"box 2 of .*b\.csv has 816 px with its margin, the limi"
    ):
        run_untiled(recipe, noise(60, 60)[..., 0], tmp_path)
    run_untiled(recipe_of(path, 1, margin_px=2, max_box_px=816), noise(60, 60)[..., 0], tmp_path)


def test_two_channels_are_refused(tmp_path: Path) -> None:
    recipe = recipe_of(boxes_file(tmp_path, []), 2)
    with pytest.raises(MethodError, match=r"takes one channel or three, 2 are selected\. Choose"):
        run_untiled(recipe, tissue(), tmp_path)


def test_volumes_are_refused() -> None:
    segment = {"method": "grabcut", "boxes": {"file": "b.csv"}}
    with pytest.raises(RecipeError, match=r"source\.dims: grabcut is not defined in 3d"):
        parse_recipe({"source": {"dims": "3d"}, "segment": segment}, "recipe")


def test_memory_is_that_of_the_largest_crop(tmp_path: Path) -> None:
    spec: SourceSpec = save_array(tissue(), tmp_path)
    small = plan_array(recipe_of(boxes_file(tmp_path, [(0, 0, 8, 8)], "s.csv")), spec, 64, tmp_path)
    large = plan_array(
        recipe_of(boxes_file(tmp_path, [(0, 0, 8, 8), (0, 0, 200, 300)], "l.csv")),
        spec,
        64,
        tmp_path,
    )
    few, many = (job.recipe.segment.extra_bytes(job.context) for job in (small, large))
    assert few == many * (16 * 16) // (208 * 308)
    assert many > 200 * 208 * 308


# --- The command ---------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with two images, one of them with boxes, and a recipe."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for name in ("a", "b"):
        Image.fromarray(nuclei()).save(folder / f"{name}.png")
    boxes_file(folder, [(28, 40, 86, 96), (218, 129, 288, 189)], "a.boxes.csv")
    path = tmp_path / "drawn.yaml"
    segment = {"method": "grabcut", "boxes": {"file": "{stem}.boxes.csv"}}
    path.write_text(yaml.safe_dump({"segment": segment}))
    return folder, path


def test_an_image_without_its_file_is_set_aside(
    archive: tuple[Path, Path], here: Callable[..., Any], tmp_path: Path
) -> None:
    folder, recipe = archive
    out = tmp_path / "out"
    here("run", recipe, folder, out, "--tile", 100, expect=3)
    said = " ".join(here("status", out, expect=3).output.split())
    assert "b.boxes.csv does not exist. Put it there, or correct `file:`" in said
    assert (out / "images" / "a.ome.zarr").is_dir()
    assert not (out / "images" / "b.ome.zarr").exists()
    assert "1 image" in here("verify", out).stdout
    boxes_file(folder, [(28, 40, 86, 96)], "b.boxes.csv")
    here("run", recipe, folder, out, "--tile", 100)
    assert (out / "images" / "b.ome.zarr").is_dir()


def test_a_run_over_files_gives_what_one_process_gives(
    archive: tuple[Path, Path],
    here: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, recipe = archive
    digests = set()
    for number, small_px in enumerate((1 << 22, 0)):
        monkeypatch.setattr("pipeline.plan.SMALL_PX", small_px)
        out = tmp_path / str(number)
        here("run", recipe, folder / "a.png", out, "--tile", 70 + number)
        record = json.loads((out / "run.json").read_text())
        digests.add(record["certificate"]["labels_digest"])
    assert len(digests) == 1


def test_boxes_beside_the_demonstration_are_no_images(demo: Path) -> None:
    found = {Path(spec.path).suffix for spec in discover(demo)}
    assert list(demo.rglob("*.boxes.csv"))
    assert found == {".png", ".tif", ".zarr"}


def test_a_crop_that_does_not_fit_into_memory_is_refused(
    archive: tuple[Path, Path], here: Callable[..., Any], tmp_path: Path
) -> None:
    folder, recipe = archive
    boxes_file(folder, [(0, 0, 360, 360)], "b.boxes.csv")
    content = yaml.safe_load(recipe.read_text())
    # A worker with its libraries takes 330 MiB; 360 x 360 px at more than 200 bytes take 25 MiB.
    recipe.write_text(yaml.safe_dump({**content, "resources": {"memory_gib": 0.35}}))
    said = here("plan", recipe, folder, "--out", tmp_path / "out", "--workers", 1, expect=2).stderr
    assert "b: a tile of" in said
    assert "(0.03 GiB of it with tiles of any size), 0.35 GiB are allowed" in " ".join(said.split())
