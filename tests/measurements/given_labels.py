"""Measuring drawn labels through the real engine, in tiles of any size."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from scipy import ndimage
from skimage.measure import label

from pipeline.engine import Engine
from pipeline.ledger import MemoryLedger
from pipeline.output import OutputPlan
from pipeline.pyramid import open_level
from pipeline.recipe import parse_recipe
from pipeline.trial import perform_shuffled, plan_array, save_array

Sizes = tuple[float | None, float | None, float | None]


def measured(
    labels: np.ndarray,
    image: np.ndarray,
    folder: Path,
    side: int | tuple[int, ...],
    sizes: Sizes = (2.5, 0.5, 0.5),
    order: int = 0,
    **content: Any,
) -> tuple[np.ndarray, pa.Table, str]:
    """Published labels (Z, Y, X), table and its digest; `image` is (C, Z, Y, X)."""
    segment = {"method": "given", "file": save_array(labels, folder).path}
    recipe = parse_recipe({"segment": segment, **content}, "recipe")
    recipe = recipe.model_copy(
        update={"source": recipe.source.model_copy(update={"channels": (0,)})}
    )
    space = folder / f"run-{side}-{order}".replace(" ", "")
    # Arrays have no pixel sizes; measurements are checked when they have theirs.
    bare = recipe.model_copy(update={"measure": type(recipe.measure)()})
    job = plan_array(bare, save_array(image, folder), side, space)
    names = tuple("abc"[: image.shape[0]])
    info = dataclasses.replace(job.info, pixel_size_um=sizes, channels=names)
    job = dataclasses.replace(job, info=info, recipe=recipe)
    recipe.measure.check(job)
    output = OutputPlan(
        space / "staged", space / "objects.parquet", recipe, info, job.source, "none"
    )
    done = Engine(job, output, perform_shuffled(order), MemoryLedger(), 2).run()
    found = np.asarray(open_level(output.labels(done.count).path, 0)[...])
    return found.reshape(image.shape[1:]), pq.read_table(output.table), done.table_digest


@st.composite
def label_images(draw: DrawFn, ndim: int) -> np.ndarray:
    """Labels that touch, have holes, consist of parts or of single pixels; maybe none."""
    low, high = (1, 26) if ndim == 2 else (1, 9)
    shape = tuple(draw(st.tuples(*[st.integers(low, high)] * ndim)))
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    rough = ndimage.gaussian_filter(generator.random(shape), draw(st.sampled_from([0, 0.7, 1.5])))
    share = draw(st.sampled_from([0.2, 0.5, 0.8, 1.0]))
    mask = rough <= np.quantile(rough, share)
    kind = draw(st.sampled_from(["components", "values", "one"]))
    if kind == "one":
        return mask.astype(np.uint8)
    if kind == "components":
        return label(mask, connectivity=1).astype(np.uint16)
    return (mask * generator.integers(1, 6, shape)).astype(np.uint8)
