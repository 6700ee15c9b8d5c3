"""docs/tutorial-regions.md: its recipes, commands and snippets run, and give what it says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
import zarr
from click.testing import Result
from PIL import Image
from scipy import ndimage

from pipeline.recipe import parse_recipe
from pipeline.trial import run_untiled

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "tutorial-regions.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def recipes() -> dict[str, Any]:
    """Recipes by the file that their first line names."""
    found = {}
    for text in blocks("yaml"):
        name = re.match(r"# (\S+\.yaml)", text)
        assert name is not None
        found[name[1]] = yaml.safe_load(text)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipes of the page, and the bundled data where the page has them."""
    folder = tmp_path_factory.mktemp("tutorial")
    (folder / "tests").symlink_to(ROOT / "tests")
    for name, content in recipes().items():
        (folder / name).write_text(yaml.safe_dump(content))
    return folder


def test_the_page_runs_from_its_first_line_to_its_last(
    place: Path,
    here: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    commands = [line for text in blocks("bash") for line in text.splitlines() if line]
    assert len(commands) == 2
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "tilewright"
        here(*arguments)
    for out in ("tissue-out", "cells-out"):
        here("verify", out)
        assert Path(out, "report.html").exists()
    names: dict[str, Any] = {}
    capsys.readouterr()
    for text in blocks("python"):
        exec(compile(text, "docs/tutorial-regions.md", "exec"), names)
    printed = capsys.readouterr().out

    counts = [int(count) for count in re.findall(r"^[123]0 (\d+)$", printed, re.MULTILINE)]
    assert len(counts) == 3
    assert 500 < names["fragments"].max() < 700  # "about 600"
    assert names["fragments"].max() > counts[0] > counts[1] > counts[2] > 20
    # The last value of the loop is that of the run.
    published = zarr.open_array(f"{names['image']}/labels/tissue/0", mode="r")[:]
    pairs = np.unique(np.stack([names["labels"].ravel(), published.ravel()]), axis=1)
    assert pairs.shape[1] == published.max() == counts[2]

    assert "parts that hang together: 1" in printed
    share = re.search(r"(\d+) dark regions cover (\d+)%", printed)
    assert share is not None
    truth = np.asarray(Image.open(ROOT / "tests/data/truth/histology/4590d7d47f52.png")) > 0
    both = (truth & names["nuclei"]).sum() / (truth | names["nuclei"]).sum()
    assert both > 0.75  # the dark regions are the nuclei


def test_a_smaller_value_is_a_run_with_this_value(place: Path, tmp_path: Path) -> None:
    image = np.asarray(Image.open(place / "tests/data/histology/4590d7d47f52.png"))
    pixels = np.moveaxis(image[..., :3], -1, 0)[:, None]
    content = recipes()["tissue.yaml"]
    whole = run_untiled(parse_recipe(content, "page"), pixels, tmp_path)
    content["merge"]["value"] = 20
    less = run_untiled(parse_recipe(content, "page"), pixels, tmp_path)
    assert whole.graph is not None
    assert less.graph is not None
    assert np.array_equal(whole.graph.regions_at(20), less.graph.nodes["region"].to_numpy())
    assert len(less.table) > len(whole.table)


@pytest.mark.parametrize(("name", "least", "most"), [("threshold", 30, 300), ("cut", 100, 300)])
def test_other_ways_of_merging_take_the_place_of_the_first(
    name: str, least: int, most: int, place: Path, tmp_path: Path
) -> None:
    image = np.asarray(Image.open(place / "tests/data/histology/4590d7d47f52.png"))
    content = {**recipes()["tissue.yaml"], **recipes()[f"{name}.yaml"]}
    pixels = np.moveaxis(image[..., :3], -1, 0)[:, None]
    result = run_untiled(parse_recipe(content, name), pixels, tmp_path)
    assert least < len(result.table) < most


def test_membranes_part_neurons(tmp_path: Path) -> None:
    """The recipe for volumes, on nine cells that noise parts into many basins."""
    _, y, x = np.mgrid[:12, :48, :48]
    cell = y // 16 * 3 + x // 16
    wall = (y % 16 < 4) | (x % 16 < 4)
    probability = np.where(wall, 255, 40) * 1.0
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(0, 200, wall.shape), 1.5)
    volume = np.stack([np.zeros_like(probability), (probability + noise).clip(0, 255)])
    recipe = parse_recipe(recipes()["neurons.yaml"], "neurons")
    result = run_untiled(recipe, volume.astype(np.uint8), tmp_path)
    labels = result.labels[0]
    inside = (y % 16 > 5) & (y % 16 < 14) & (x % 16 > 5) & (x % 16 < 14)
    pairs = np.unique(np.stack([labels[inside], cell[inside]]), axis=1)
    assert result.fragments is not None
    assert result.fragments.max() > 15  # there was something to merge
    assert pairs.shape[1] == len(np.unique(pairs[0])) == 9  # one region a cell, one cell a region
    assert labels.max() <= 12  # some lie within the walls


def test_pictures_of_the_page_are_there_and_small() -> None:
    pictures = re.findall(r"\((images/\S+)\)", TEXT)
    assert len(pictures) == 6
    for name in pictures:
        path = ROOT / "docs" / name
        assert path.stat().st_size <= 250_000, name
        assert Image.open(path).width >= 600
