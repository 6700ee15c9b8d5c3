"""Several labels of projected stacks into a bucket: the same results as on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from flows.request import Request
from pipeline.labels_recipe import parse_any_recipe
from pipeline.storage import StorePath
from pipeline.table_file import table_digest
from pipeline.verify import verify_folder
from tests.in_process import digests, segment

CONTENT = {
    "source": {"project": "max", "pixel_size_um": [0.5, 0.5]},
    "labels": {
        "nuclei": {
            "segment": {"method": "threshold", "foreground": {"value": 120}},
            "postprocess": {"min_size_um2": 2},
        },
        "cells": {
            "segment": {
                "method": "watershed",
                "foreground": {"value": 40},
                "landscape": "intensity",
                "markers": {"from": "label", "label": "nuclei"},
            }
        },
        "cytoplasm": {"segment": {"method": "difference", "of": "cells", "without": "nuclei"}},
    },
}


@pytest.mark.parametrize("small", [True, False], ids=["small", "large"])
def test_all_labels_in_a_bucket_equal_those_on_disk(
    small: bool, tmp_path: Path, bucket: StorePath
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    points = np.zeros((3, 80, 90))
    points[tuple(np.random.default_rng(1).integers(0, n, 12) for n in points.shape)] = 1
    stack = ndimage.gaussian_filter(points, (0.5, 3, 3))
    stack = (stack * (240 / stack.max())).astype(np.uint8)
    tifffile.imwrite(archive / "a.ome.tif", stack, metadata={"axes": "ZYX"})
    request = Request(parse_any_recipe(CONTENT, "test"), archive, tmp_path / "out", tile_px=32)
    folder = segment(request, small=small)
    stored = segment(replace(request, out=bucket / "out"), small=small)
    assert digests(stored) == digests(folder)
    verified = verify_folder(bucket / "out")
    assert not verified.damaged
    assert verified.shards > 3
    for label in CONTENT["labels"]:
        own = table_digest(folder.table_path("a", label))
        assert table_digest(stored.table_path("a", label)) == own
    assert not (bucket / "out" / ".tilewright" / "staging").is_dir()
