"""Maps of classes: what is published of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import zarr
from ome_zarr_models import open_ome_zarr

from pipeline.engine import Engine, Published
from pipeline.ledger import MemoryLedger
from pipeline.output import OutputPlan
from pipeline.recipe import parse_recipe
from pipeline.report.thumbnails import tint
from pipeline.steps import perform_here
from pipeline.trial import plan_array, save_array

SEGMENT = {
    "method": "threshold",
    "foreground": {"value": 100},
    "output": "classes",
    "class_names": ["glass", "cells"],
    "class_colors": ["#000000", "#ff8000"],
}


def publish(image: np.ndarray, folder: Path, segment: dict[str, object]) -> Published:
    recipe = parse_recipe({"label": "map", "segment": segment}, "recipe")
    job = plan_array(recipe, save_array(image, folder), 8, folder)
    root, table = folder / "out.ome.zarr", folder / "objects.parquet"
    output = OutputPlan(root, table, recipe, job.info, job.source, "copy")
    return Engine(job, output, perform_here, MemoryLedger(), 2).run()


def test_a_map_of_classes_is_a_label_image_with_names_and_colours(tmp_path: Path) -> None:
    image = np.zeros((2, 1, 1, 20, 30), np.uint8)
    image[0, ..., 3:9, 3:9] = 200
    image[1, ..., :10, :] = 150
    publish(image, tmp_path, SEGMENT)
    group = zarr.open_group(tmp_path / "out.ome.zarr" / "labels" / "map", mode="r")
    open_ome_zarr(group)
    level0 = group["0"]
    assert isinstance(level0, zarr.Array)
    assert level0.dtype == np.uint8
    assert np.array_equal(np.asarray(level0).reshape(2, 20, 30), (image[:, 0, 0] > 100) + 1)
    label = group.attrs.asdict()["ome"]["image-label"]
    assert label["colors"][1] == {"label-value": 2, "rgba": [255, 128, 0, 255]}
    assert [p["name"] for p in label["properties"]] == ["glass", "cells"]


def test_the_table_has_a_row_for_each_class_of_each_frame(tmp_path: Path) -> None:
    image = np.zeros((3, 1, 1, 20, 30), np.uint8)
    image[0, ..., 3:9, 3:9] = 200
    image[2] = 150
    done = publish(image, tmp_path, SEGMENT)
    table = pq.read_table(tmp_path / "objects.parquet")
    rows = [
        (t, label, name, area, mean)
        for t, label, name, area, mean in zip(
            *(table[key].to_pylist() for key in ("t", "label", "class", "area_px", "mean_0")),
            strict=True,
        )
    ]
    assert rows == [
        (0, 1, "glass", 564, 0.0),
        (0, 2, "cells", 36, 200.0),
        (1, 1, "glass", 600, 0.0),
        (2, 2, "cells", 600, 150.0),
    ]
    assert done.count == 2


def test_an_image_without_a_value_has_no_class(tmp_path: Path) -> None:
    image = np.full((9, 10), np.nan, np.float32)
    publish(image, tmp_path, SEGMENT)
    table = pq.read_table(tmp_path / "objects.parquet")
    assert len(table) == 0
    assert "class" in table.column_names


def test_classes_are_shown_in_their_colours() -> None:
    canvas = np.full((2, 2, 3), 100, np.uint8)
    shown = tint(canvas, np.array([[0, 1], [2, 2]]), [(0, 0, 0), (255, 0, 100)])
    assert shown[0, 0].tolist() == [100, 100, 100]
    assert shown[0, 1].tolist() == [55, 55, 55]
    assert shown[1, 0].tolist() == [170, 55, 100]
