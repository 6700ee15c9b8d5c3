"""Lengths in um: what they become in px, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from pipeline.errors import MethodError, RecipeError
from pipeline.image import ImageInfo
from pipeline.preprocess import Gaussian, Median, SubtractBackground
from pipeline.recipe import Recipe, parse_recipe

INFO = ImageInfo(
    (1, 1, 20, 64, 64), "uint8", "zyx", ("0",), (2.0, 0.5, 0.5), None, (1, 1, 1, 64, 64)
)


def resolved(dims: str = "3d", info: ImageInfo = INFO, **content: Any) -> Recipe:
    given = {"segment": {"method": "threshold"}, **content, "source": {"dims": dims}}
    return parse_recipe(given, "recipe").for_image(info, "an image")


def watershed(**parameters: Any) -> dict[str, Any]:
    return {"segment": {"method": "watershed", **parameters}}


def test_every_axis_has_its_own_number_of_px() -> None:
    steps = [
        {"filter": "gaussian", "sigma_um": 1},
        {"filter": "median", "radius_um": 1.25},
        {"filter": "subtract_background", "radius_um": 10},
    ]
    blur, median, hat = resolved(preprocess=steps).preprocess
    assert isinstance(blur, Gaussian)
    assert isinstance(median, Median)
    assert isinstance(hat, SubtractBackground)
    assert blur.sigma_px == (0.5, 2.0, 2.0)
    assert median.radius_px == (1, 3, 3)  # 0.625 and 2.5 px: halves go up
    assert hat.radius_px == (5, 20, 20)
    assert [step.halo_px() for step in (blur, median, hat)] == [8, 3, 40]
    flat = resolved("2d", preprocess=steps).preprocess
    assert [getattr(flat[0], "sigma_px"), getattr(flat[1], "radius_px")] == [2.0, 3]  # noqa: B009


def test_a_recipe_in_px_is_not_touched() -> None:
    recipe = parse_recipe(watershed(min_distance_px=3), "recipe")
    assert recipe.for_image(replace(INFO, pixel_size_um=(None,) * 3), "an image") is recipe


def test_filters_are_those_of_scipy_with_a_number_an_axis() -> None:
    image = np.random.default_rng(0).integers(0, 200, (9, 14, 15)).astype(np.uint8)
    blur = Gaussian(filter="gaussian", sigma_px=(0.5, 2.0, 1.0))
    exact = ndimage.gaussian_filter(image.astype(np.float32), (0.5, 2.0, 1.0), mode="nearest")
    np.testing.assert_array_equal(blur.apply(image), exact)
    median = Median(filter="median", radius_px=(0, 2, 1))
    exact = ndimage.median_filter(image, (1, 5, 3), mode="nearest")
    np.testing.assert_array_equal(median.apply(image), exact)
    hat = SubtractBackground(filter="subtract_background", radius_px=(1, 2, 3))
    inner = (slice(4, -4), slice(5, -5), slice(6, -6))
    exact = ndimage.white_tophat(image, (3, 5, 7))
    np.testing.assert_array_equal(hat.apply(image)[inner], exact[inner])


def test_the_watershed_measures_in_the_specimen() -> None:
    method: Any = resolved(
        **watershed(
            min_distance_um=1.5,
            smooth_um=1,
            max_distance_um=20.2,
        )
    ).segment
    assert method.spacing == (2.0, 0.5, 0.5)
    assert method.min_distance_px == (1, 3, 3)
    assert method.smooth_px == (0.5, 2.0, 2.0)
    assert method.max_distance_px == 40
    assert resolved(**watershed(spacing="auto")).segment.spacing == (2.0, 0.5, 0.5)  # type: ignore[attr-defined]
    markers = {"from": "h_minima", "h_um": 1}
    found: Any = resolved(**watershed(markers=markers, spacing="auto")).segment
    assert found.markers.h == 2.0


def test_the_others_take_one_length() -> None:
    def method(dims: str, **segment: Any) -> Any:
        return resolved(dims, segment=segment).segment

    assert method("2d", method="local_threshold", block_um=10).block_px == 21
    assert method("2d", method="mean_shift", bandwidth=5, spatial_um=1, output="classes")
    assert method("2d", method="felzenszwalb", sigma_um=0.5, min_size_um2=2).min_size_px == 8
    slic = method("3d", method="slic", size_um=6)
    assert (slic.size_px, slic.spacing) == (6.0, (2.0, 0.5, 0.5))
    grid: Any = resolved(
        **watershed(landscape="gradient", masked=False, markers={"from": "grid", "size_um": 8})
    ).segment
    assert (grid.markers.size_px, grid.markers.spacing) == (8.0, (2.0, 0.5, 0.5))
    grown = method(
        "3d", method="region_growing", tolerance=1, seeds={"from": "peaks", "min_distance_um": 4}
    )
    assert grown.seeds.min_distance_px == (2, 8, 8)


def test_areas_and_volumes_are_kept_from_and_up_to() -> None:
    flat = resolved("2d", postprocess={"min_size_um2": 2.1, "max_size_um2": 10.2}).postprocess
    assert (flat.min_size_px, flat.max_size_px) == (9, 40)
    solid = resolved(postprocess={"min_size_um3": 3, "max_size_um3": 3}).postprocess
    assert (solid.min_size_px, solid.max_size_px) == (6, 6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"preprocess": [{"filter": "gaussian"}]}, "give sigma_px or sigma_um"),
        (
            {"preprocess": [{"filter": "median", "radius_px": 1, "radius_um": 1}]},
            "radius_px and radius_um say the same",
        ),
        ({"preprocess": [{"filter": "median", "radius_px": [0, 0]}]}, "less than half a pixel"),
        ({"preprocess": [{"filter": "gaussian", "sigma_um": 0}]}, "sigma_um"),
        (watershed(min_distance_px=3, min_distance_um=1), "min_distance_px and min_distance_um"),
        # The px that are the default, too: they are given.
        (watershed(min_distance_px=5, min_distance_um=9), "min_distance_px and min_distance_um"),
        ({"postprocess": {"min_size_px": 1, "min_size_um2": 3}}, "min_size_px and min_size_um2"),
        (watershed(landscape="intensity", spacing="auto"), "spacing is of distances"),
        (
            watershed(landscape="intensity", markers={"from": "h_minima", "h_um": 1}),
            "markers.h_um is of distances",
        ),
        (watershed(markers={"from": "h_minima"}), "give h or h_um"),
        (watershed(markers={"from": "threshold", "value": 5}, min_distance_um=1), "is of peaks"),
        ({"postprocess": {"min_size_px": 5, "min_size_um2": 3}}, "min_size_px and min_size_um2"),
        ({"segment": {"method": "slic", "segments": 3, "size_um": 4}}, "say the same"),
    ],
)
def test_what_contradicts_itself_is_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe({"segment": {"method": "threshold"}, **content}, "recipe")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("dims", "content", "message"),
    [
        ("2d", {"postprocess": {"min_size_um3": 3}}, "Use postprocess.min_size_um2"),
        ("3d", {"postprocess": {"max_size_um2": 3}}, "Use postprocess.max_size_um3"),
        (
            "3d",
            {"preprocess": [{"filter": "median", "radius_um": 0.2}]},
            "preprocess.0.radius_px: Input should be greater than 0 (given: 0), with pixels of 2 x",
        ),
        ("2d", {"preprocess": [{"filter": "gaussian", "sigma_um": 101}]}, "preprocess.0.sigma_px"),
        (
            "3d",
            {"segment": {"method": "felzenszwalb", "sigma_um": 1}},
            "segment.sigma_um is one length for all axes, and pixels of 2 x 0.5 x 0.5 um differ",
        ),
    ],
)
def test_what_does_not_fit_the_image_is_refused(
    dims: str, content: dict[str, Any], message: str
) -> None:
    with pytest.raises(MethodError, match=r"^an image: ") as caught:
        resolved(dims, **content)
    assert message in str(caught.value)


def test_without_a_pixel_size_the_remedy_is_named() -> None:
    unknown = replace(INFO, pixel_size_um=(None, 0.5, 0.5))
    with pytest.raises(MethodError, match="how large a pixel is along z") as caught:
        resolved(info=unknown, preprocess=[{"filter": "gaussian", "sigma_um": 1}])
    assert "source: {pixel_size_um:" in str(caught.value)
    # Planes do not need to know how far apart they are.
    (blur,) = resolved("2d", unknown, preprocess=[{"filter": "gaussian", "sigma_um": 1}]).preprocess
    assert getattr(blur, "sigma_px") == 2.0  # noqa: B009


def test_a_recipe_in_um_is_written_and_read_again(tmp_path: Path) -> None:
    content = watershed(min_distance_um=1, max_distance_um=9)
    content |= {"postprocess": {"min_size_um3": 4}, "source": {"dims": "3d"}}
    recipe = parse_recipe(content, "recipe")
    again = parse_recipe(recipe.model_dump(mode="json"), "recipe")
    assert again == recipe
    assert again.postprocess.min_size_um3 == 4
    assert recipe.model_dump()["segment"]["min_distance_um"] == 1
    in_px = recipe.for_image(INFO, "i").model_dump()
    assert in_px["segment"]["min_distance_px"] == (1, 2, 2)
    assert "min_distance_px" in parse_recipe(watershed(), "recipe").model_dump()["segment"]
    assert again.for_image(INFO, "i").identity() == recipe.for_image(INFO, "i").identity()
