"""Labels that are given come out as they are, numbered by first pixels."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.conformance import check_image
from pipeline.errors import MethodError
from pipeline.recipe import parse_recipe
from pipeline.trial import Cut, Result, run_untiled


def run(labels: np.ndarray, folder: Path, cut: Cut, **more: object) -> Result:
    path = folder / "labels.tif"
    tifffile.imwrite(path, labels, photometric="minisblack")
    content = {"segment": {"method": "given", "file": str(path)}, **more}
    image = np.zeros(labels.shape, np.uint8)
    result = check_image(parse_recipe(content, "recipe"), image, [cut], folder)
    assert isinstance(result, Result)
    return result


@given(
    seed=st.integers(0, 2**16),
    shape=st.tuples(st.integers(2, 20), st.integers(2, 20)),
    dtype=st.sampled_from(["uint8", "int16", "uint32"]),
    side=st.integers(3, 9),
)
@settings(deadline=None, max_examples=25)
def test_the_partition_is_the_files(
    seed: int, shape: tuple[int, int], dtype: str, side: int
) -> None:
    generator = np.random.default_rng(seed)
    low = -3 if dtype == "int16" else 0
    labels = generator.integers(low, 5, shape).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        found = run(labels, Path(folder), Cut(side, seed)).labels[0, 0]
    assert np.array_equal(found > 0, labels > 0)
    values, first = np.unique(labels, return_index=True)
    order = np.argsort(first[values > 0])
    for number, value in enumerate(values[values > 0][order], start=1):
        assert np.array_equal(found == number, labels == value)


def test_planes_have_objects_of_their_own(tmp_path: Path) -> None:
    labels = np.array([[[7, 7], [0, 2]], [[7, 0], [0, 0]]], np.uint8)
    found = run(labels, tmp_path, Cut(1)).labels[0]
    assert found.tolist() == [[[1, 1], [0, 2]], [[3, 0], [0, 0]]]
    volume = run(labels, tmp_path, Cut(1), source={"dims": "3d"}).labels[0]
    assert volume.tolist() == [[[1, 1], [0, 2]], [[1, 0], [0, 0]]]


def test_numbers_have_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "labels.tif"
    tifffile.imwrite(path, np.array([[2**40, 1]], np.uint64))
    recipe = parse_recipe({"segment": {"method": "given", "file": str(path)}}, "recipe")
    with pytest.raises(MethodError, match=r"labels\.tif has the number 1099511627776"):
        run_untiled(recipe, np.zeros((1, 2), np.uint8), tmp_path)
