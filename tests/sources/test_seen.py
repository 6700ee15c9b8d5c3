"""Projections, planes and times that a recipe chooses, against numpy on the whole image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.box import Box
from pipeline.errors import MethodError, RecipeError
from pipeline.recipe import parse_recipe
from pipeline.sources import SourceSpec, open_source
from pipeline.sources.focus import in_focus
from pipeline.sources.seen import Seen
from pipeline.trial import save_array


def stack(dtype: str, shape: tuple[int, ...] = (3, 2, 5, 21, 23), seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return generator.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def read(spec: SourceSpec, box: Box | None = None) -> np.ndarray:
    """All of (T, C, Z, Y, X), or a box of every time."""
    with open_source(spec) as source:
        t, c, z, y, x = source.info.shape
        box = box or Box.whole((z, y, x))
        return np.stack([source.read(i, range(c), box) for i in range(t)])


def test_seen_as_it_is_nothing_changes(tmp_path: Path) -> None:
    image = stack("uint16")
    spec = save_array(image, tmp_path)
    assert spec.seen.is_plain
    np.testing.assert_array_equal(read(spec), image)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "int32", "uint32", "float32"]
)
def test_projections_are_those_of_the_whole_stack(dtype: str, tmp_path: Path) -> None:
    image = stack(dtype)
    spec = save_array(image, tmp_path)
    for project, exact in (("max", image.max(2)), ("min", image.min(2))):
        found = read(replace(spec, seen=Seen(project=project)))  # type: ignore[arg-type]
        np.testing.assert_array_equal(found[:, :, 0], exact)
        assert found.dtype == image.dtype
    found = read(replace(spec, seen=Seen(project="mean")))[:, :, 0]
    if image.dtype.kind == "f":
        np.testing.assert_array_equal(found, image.mean(2, np.float64).astype(dtype))
    else:
        exact_mean = np.floor(image.astype(object).sum(2) / 5 + 0.5).astype(float)
        np.testing.assert_array_equal(found.astype(float), exact_mean)


def test_halves_of_a_mean_go_up(tmp_path: Path) -> None:
    image = np.array([[[[[1, -1, 0]]], [[[2, -2, -1]]]]], np.int8).reshape(1, 1, 2, 1, 3)
    spec = replace(save_array(image, tmp_path), seen=Seen(project="mean"))
    assert read(spec).ravel().tolist() == [2, -1, 0]


def test_the_largest_numbers_do_not_overflow(tmp_path: Path) -> None:
    image = np.full((1, 1, 7, 3, 4), 2**32 - 1, np.uint32)
    spec = replace(save_array(image, tmp_path), seen=Seen(project="mean"))
    assert (read(spec) == 2**32 - 1).all()


@given(
    project=st.sampled_from([None, "max", "min", "mean"]),
    z=st.sets(st.integers(0, 4)).map(lambda s: tuple(sorted(s))),
    t=st.sets(st.integers(0, 2)).map(lambda s: tuple(sorted(s))),
    start=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    size=st.tuples(st.integers(1, 11), st.integers(1, 11)),
)
@settings(max_examples=60, deadline=None)
def test_a_box_is_a_part_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    project: Any,
    z: tuple[int, ...],
    t: tuple[int, ...],
    start: tuple[int, int],
    size: tuple[int, int],
) -> None:
    image = stack("int16")
    spec = save_array(image, tmp_path_factory.mktemp("seen"))
    spec = replace(spec, seen=Seen(t, z, project))
    whole = read(spec)
    assert whole.shape[0] == (len(t) or 3)
    assert whole.shape[2] == (1 if project else len(z) or 5)
    stop = (start[0] + size[0], start[1] + size[1])
    part = read(spec, Box((0, *start), (whole.shape[2], *stop)))
    np.testing.assert_array_equal(part, whole[..., start[0] : stop[0], start[1] : stop[1]])
    if project is None:
        chosen = image[list(t) or slice(None)][:, :, list(z) or slice(None)]
        np.testing.assert_array_equal(whole, chosen)


def test_few_planes_are_held_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = stack("uint8", (1, 2, 11, 9, 12))
    held: list[int] = []
    spec = replace(save_array(image, tmp_path), seen=Seen(project="max"))
    with open_source(spec) as source:
        stored: Any = getattr(source, "_stored")  # noqa: B009
        monkeypatch.setattr(stored, "info", replace(stored.info, chunks=(1, 1, 11, 9, 12)))
        read = stored.read
        monkeypatch.setattr(
            stored, "read", lambda t, c, box: held.append(box.shape[0]) or read(t, c, box)
        )
        found = source.read(0, [0, 1], Box.whole((1, 9, 12)))
    np.testing.assert_array_equal(found[:, 0], image[0].max(axis=1))
    assert held == [4, 4, 3]


def sharpest(image: np.ndarray) -> np.ndarray:
    """The plane of each time whose Laplacian varies most; image is (T, Z, Y, X)."""
    found = [
        [ndimage.laplace(plane.astype(np.float64), mode="nearest").var() for plane in stack]
        for stack in image
    ]
    return np.argmax(found, axis=1)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "uint32"])
def test_the_plane_in_focus_is_the_one_that_varies_most(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.sources.focus.BLOCK_PX", 8)
    image = stack(dtype).astype(np.float64)
    for t, best in enumerate((3, 0, 4)):
        for z in range(5):
            image[t, :, z] = ndimage.gaussian_filter(image[t, :, z], (0, *(abs(z - best),) * 2))
    image = image.astype(dtype)
    spec = replace(save_array(image, tmp_path), seen=Seen(project="best_focus", focus_channel=1))
    found = in_focus(spec)
    assert found.seen.planes == tuple(sharpest(image[:, 1])) == (3, 0, 4)
    np.testing.assert_array_equal(
        read(found)[:, :, 0], np.stack([image[t, :, z] for t, z in enumerate((3, 0, 4))])
    )
    # What was found is not looked for again, and counts planes of the file.
    assert in_focus(found) is found
    some = in_focus(replace(spec, seen=replace(spec.seen, z=(1, 2, 4), t=(0, 2))))
    assert some.seen.planes == (4, 4) or some.seen.planes == (2, 4)
    assert some.seen.planes == tuple(
        np.array([1, 2, 4])[sharpest(image[[0, 2]][:, 1][:, [1, 2, 4]])]
    )


def test_of_equal_planes_the_first_is_in_focus(tmp_path: Path) -> None:
    image = np.zeros((1, 1, 4, 9, 9), np.uint8)
    image[0, 0, 1:3, 4, 4] = 200
    spec = in_focus(replace(save_array(image, tmp_path), seen=Seen(project="best_focus")))
    assert spec.seen.planes == (1,)


def test_what_is_seen_is_described(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "TCZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(path, stack("uint8"), metadata=metadata)
    spec = SourceSpec("tiff", str(path), "a")

    def info(**seen: Any) -> Any:
        with open_source(replace(spec, seen=Seen(**seen))) as source:
            return source.info

    projected = info(project="max")
    assert projected.shape == (3, 2, 1, 21, 23)
    assert projected.axes == "tcyx"
    assert projected.pixel_size_um == (None, 0.5, 0.5)
    assert info(z=(1, 2)).pixel_size_um == (2.0, 0.5, 0.5)
    assert info(z=(1, 3)).pixel_size_um == (None, 0.5, 0.5)
    assert info(pixel_size_um=(None, 0.1, 0.2)).pixel_size_um == (2.0, 0.1, 0.2)
    with pytest.raises(MethodError, match=r"source\.z names 5, and the image has 5"):
        info(z=(1, 5))
    with pytest.raises(MethodError, match=r"source\.t names 3"):
        info(t=(3,))


def test_a_recipe_says_what_is_seen() -> None:
    def seen(**source: Any) -> Seen:
        content = {"source": source, "segment": {"method": "threshold"}}
        return parse_recipe(content, "recipe").source.seen()

    assert seen().is_plain
    assert seen(channels=["DAPI"]).is_plain
    assert seen(z=3, t=[0, 2]) == Seen(z=(3,), t=(0, 2))
    assert seen(project="best_focus", channels=["b", "a"]).focus_channel == "b"
    assert seen(pixel_size_um=[0.2, 0.3]).pixel_size_um == (None, 0.2, 0.3)
    assert seen(pixel_size_um=[1, 0.2, 0.3]).pixel_size_um == (1, 0.2, 0.3)
    assert Seen.of({"t": [0, 2], "project": "max"}) == Seen(t=(0, 2), project="max")
    for wrong in (
        {"z": [3, 1]},
        {"z": []},
        {"t": -1},
        {"pixel_size_um": [0.0, 1]},
        {"project": "x"},
    ):
        with pytest.raises(RecipeError):
            seen(**wrong)
