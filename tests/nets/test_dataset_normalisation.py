"""A model that is normalised over the whole dataset, through the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
import zarr
from click.testing import Result
from skimage import io

torch = pytest.importorskip("torch", reason="needs tilewright[nets]")

from pipeline.nets.model_folder import load_module  # noqa: E402
from tests.nets.models import tiny_model  # noqa: E402
from tests.nets.whole import extended, picture  # noqa: E402

NAMES = ("bright", "dim")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    io.imsave(folder / "bright.png", picture((110, 140)), check_contrast=False)
    io.imsave(folder / "dim.png", picture((90, 130), 1) // 5, check_contrast=False)
    return folder


def labels_of(
    here: Callable[..., Result], archive: Path, out: Path, scope: str, tile_px: int
) -> list[np.ndarray]:
    model = tiny_model(normalisation={"kind": "percentiles", "scope": scope})
    segment = {"method": "network", "model": model, "output": "classes", "block_px": 32}
    recipe = out.parent / f"{scope}.yaml"
    recipe.write_text(yaml.safe_dump({"label": "cells", "segment": segment}))
    here("run", recipe, archive, out, "--tile", tile_px)
    paths = (out / "images" / f"{name}.ome.zarr" / "labels" / "cells" / "0" for name in NAMES)
    return [np.squeeze(zarr.open_array(path, mode="r")[:]) for path in paths]


def test_all_images_share_their_percentiles(
    archive: Path, here: Callable[..., Result], tmp_path: Path
) -> None:
    images = [io.imread(archive / f"{name}.png") for name in NAMES]
    low, high = np.percentile(np.concatenate([one.ravel() for one in images]), [1, 99.8])
    module = load_module(Path(tiny_model(normalisation={"kind": "percentiles"})))
    apart = labels_of(here, archive, tmp_path / "apart", "image", 64)
    for tile_px in (48, 1024):
        together = labels_of(here, archive, tmp_path / f"{tile_px}", "dataset", tile_px)
        for image, found in zip(images, together, strict=True):
            known = (image.astype(np.float32) - np.float32(low)) / np.float32(high - low + 1e-6)
            with torch.no_grad():
                scores = module(extended(known, (4, 4)))[0].numpy()
            scores = scores[:, : image.shape[0], : image.shape[1]]
            best = np.sort(scores, axis=0)
            certain = best[-1] - best[-2] > 1e-4
            assert certain.mean() > 0.5
            assert np.array_equal(found[certain], scores.argmax(axis=0)[certain] + 1)
    assert not np.array_equal(together[1], apart[1])  # its own percentiles make it brighter
