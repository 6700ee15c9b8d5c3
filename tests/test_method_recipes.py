"""Every method's own recipe on a real image that it is meant for, tiled and untiled."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result as CommandResult
from skimage import io

from pipeline.conformance import check_image
from pipeline.recipe import Recipe, load_recipe
from pipeline.recipe_file import shipped_recipes
from pipeline.sources import SourceSpec
from pipeline.trial import Cut, Result, copy_companions, save_array

DATA = Path(__file__).parent / "data"
NUCLEI = DATA / "demo" / "large_nuclei" / "3ca8181367fc.png"
TISSUE = DATA / "histology" / "4590d7d47f52.png"

#: Superpixels cover what they divide: all pixels, here.
COVERING = {
    "methods/felzenszwalb",
    "methods/felzenszwalb-color",
    "methods/quickshift",
    "methods/slic",
    "methods/slic-color",
    "methods/slic-zero",
    "methods/watershed-merge_normalized_cut",
    "methods/watershed-superpixels",
}


#: Stuff covers what things do not, but for what neither part tells.
NEARLY_COVERING = {"methods/panoptic"}


def image_for(recipe: Recipe) -> Path:
    """An image with as many channels as the recipe needs."""
    return NUCLEI if recipe.source.channels is None else TISSUE


NAMES = [name for name in shipped_recipes() if name.startswith("methods/")]


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_finds_something_and_is_exact(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    path = image_for(recipe)
    image = io.imread(path)
    if path == TISSUE:
        image = np.moveaxis(image[..., :3], -1, 0)[:, None]
    else:
        image = image[..., 0] if image.ndim == 3 else image
    folder = tmp_path / "images"  # companions may lie beside it
    folder.mkdir()
    copy_companions(recipe, path, save_array(image, folder))
    cuts = [Cut(96, order=1), Cut((150, 70), order=2, batch_tiles=3)]
    result = check_image(recipe, image, cuts, folder, name)
    assert isinstance(result, Result)
    assert result.certificate["exact"] is True
    classes = recipe.segment.classes()
    if classes:
        assert set(np.unique(result.labels)) == set(range(1, len(classes) + 1))
        assert set(result.table["class"].to_pylist()) == {c.name for c in classes}
        # `check_image` compared their bits, and their class with the map's.
        assert (result.probabilities is not None) == recipe.segment.has_probabilities()
        if result.probabilities is not None:
            total = result.probabilities.sum(axis=1, dtype=np.float64)
            assert np.abs(total - 1).max() < 1e-6
            assert 0.01 < (result.probabilities.max(axis=1) < 0.9).mean() < 0.5
    else:
        assert 5 <= len(result.table) <= 5000
        covered = (result.labels > 0).mean()
        least, most = (0.9, 1) if name in NEARLY_COVERING else (0.02, 0.9)
        assert covered == 1 if name in COVERING else least < covered < most


@pytest.mark.parametrize("name", NAMES)
def test_the_command_runs_and_verifies_the_recipe(
    name: str, tmp_path: Path, here: Callable[..., CommandResult]
) -> None:
    recipe = load_recipe(name)
    path = image_for(recipe)
    archive, out = tmp_path / "images", tmp_path / "out"
    archive.mkdir()
    image = shutil.copy(path, archive)
    copy_companions(recipe, path, SourceSpec("", image, path.name))
    here("run", name, archive, out, "--tile", 128)
    assert "1 image" in here("verify", out).stdout
    table = pq.read_table(out / "objects.parquet")
    assert len(table) >= 2
