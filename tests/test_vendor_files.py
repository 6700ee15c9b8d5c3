"""Files of microscopes through the whole command: published, or quarantined with the remedy."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import yaml
import zarr

from pipeline.sources import formats

sys.path.insert(0, str(Path(__file__).parent / "sources"))

from czi_writer import Tile, write_czi
from dv_writer import write_dv
from lif_writer import lif_image, write_lif
from nd2_writer import write_nd2
from slide_writers import tissue, write_svs, write_vms

RECIPE = {
    "segment": {"method": "threshold", "foreground": {"value": 100}, "connectivity": 4},
    "source": {"channels": [0]},
}


def blobs(seed: int, shape=(70, 90)) -> np.ndarray:
    """Bright blobs in one plane; none on the border of another tiling than the image's own."""
    noise = scipy.ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 3)
    return ((noise > np.quantile(noise, 0.7)) * 200).astype("uint8")


@pytest.fixture
def archive(tmp_path):
    """One file of each kind; `expected` tells the first channel of each image."""
    folder = tmp_path / "archive"
    folder.mkdir()
    one, two, three, four = (blobs(seed) for seed in range(4))
    tiles = [
        Tile(one[:40, :, None], 0, 0, 0, {"C": 0}),
        Tile(one[38:, :, None], 38, 0, 1, {"C": 0}),
    ]
    write_czi(folder / "zeiss.czi", *tiles)
    write_lif(folder / "leica.lif", lif_image("A", two, "YX"), lif_image("B", three, "YX"))
    write_nd2(folder / "nikon.nd2", np.stack([three, four])[..., None], "P", names=("p", "q"))
    write_dv(folder / "delta.dv", four[None, None, None])
    return folder, {
        "zeiss": one,
        "leica_A": two,
        "leica_B": three,
        "nikon_p": three,
        "nikon_q": four,
        "delta": four,
    }


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "bright.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


def images(out):
    with closing(sqlite3.connect(out / "run.sqlite")) as records:
        return dict(records.execute("SELECT name, status FROM image"))


def check_labels(out, expected):
    """The oracle is scipy on the whole image."""
    for name, image in expected.items():
        got = zarr.open_array(out / f"images/{name}.ome.zarr/labels/bright/0", mode="r")[...]
        want, count = scipy.ndimage.label(image > 100)
        assert got.max() == count > 0
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("tile", [16, 64])
def test_every_kind_is_segmented_as_the_whole_image(archive, recipe, tmp_path, here, tile):
    folder, expected = archive
    out = tmp_path / "out"
    here("run", recipe, folder, out, "--tile", tile)
    assert images(out) == dict.fromkeys(expected, "published")
    check_labels(out, expected)


def test_without_its_library_a_file_is_quarantined_and_the_extra_named(
    archive, recipe, tmp_path, here, monkeypatch
):
    """The others are published."""
    folder, _ = archive
    out = tmp_path / "out"
    find = formats.find_spec
    monkeypatch.setattr(formats, "find_spec", lambda m: None if m in ("nd2", "mrc") else find(m))
    here("run", recipe, folder, out, expect=3)
    found = images(out)
    assert {name for name, status in found.items() if status == "quarantined"} == {"nikon", "delta"}
    said = here("status", out, expect=3).stdout
    assert "nikon.nd2: is a file of Nikon ND2, and nd2 is not installed" in said
    assert said.count("pip install 'tilewright[formats]'") == 2
    assert "pip install 'tilewright[formats]'" in here("plan", recipe, folder, expect=3).stdout


def test_slides_are_images_of_three_channels(recipe, tmp_path, here):
    folder, out = tmp_path / "archive", tmp_path / "out"
    folder.mkdir()
    write_svs(folder / "aperio.svs", tissue(300, 400))
    write_vms(folder / "hamamatsu.vms", {(0, 0): tissue(256, 384)})
    here("run", recipe, folder, out)
    assert images(out) == dict.fromkeys(("aperio", "hamamatsu"), "published")
    record = json.loads((out / "run.json").read_text())
    assert record["counts"]["published"] == 2
    image = zarr.open_group(out / "images/aperio.ome.zarr", mode="r")
    assert image["0"].shape == (3, 300, 400)
