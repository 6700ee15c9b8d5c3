"""Several label images from one recipe: nuclei, cells that grow from them, and what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label, regionprops
from skimage.segmentation import watershed

from pipeline.conformance import check_conformance
from pipeline.labels_recipe import LabelsRecipe, parse_any_recipe
from pipeline.trial import Cut, Result, run_labels

NUCLEI: dict[str, Any] = {
    "source": {"channels": [0]},
    "segment": {"method": "threshold", "foreground": {"value": 100}},
}
CELLS: dict[str, Any] = {
    "source": {"channels": [1]},
    "segment": {
        "method": "watershed",
        "foreground": {"value": 80},
        "landscape": "intensity",
        "markers": {"from": "label", "label": "nuclei"},
    },
}
CYTOPLASM = {"segment": {"method": "difference", "of": "cells", "without": "nuclei"}}


def three_labels(**more: Any) -> LabelsRecipe:
    content = {"labels": {"nuclei": NUCLEI, "cells": CELLS, "cytoplasm": CYTOPLASM}, **more}
    recipe = parse_any_recipe(content, "recipe")
    assert isinstance(recipe, LabelsRecipe)
    return recipe


def tissue(shape: tuple[int, ...] = (70, 80), seed: int = 0) -> np.ndarray:
    """Nuclei and the cells around them, of shape (C, *shape); no two cell pixels are equal."""
    generator = np.random.default_rng(seed)
    where = np.zeros(shape)
    where[tuple(generator.integers(0, n, 14) for n in shape)] = 1
    nuclei = ndimage.gaussian_filter(where, 2)
    nuclei *= 250 / nuclei.max()
    # Brightest at the nuclei, and each pixel has a brighter neighbour: basins without a marker are
    # flooded in another order by scikit-image.
    far = ndimage.distance_transform_edt(nuclei <= 100)
    cells = np.argsort(np.argsort(-far.ravel(), kind="stable")).reshape(shape)
    return np.stack([nuclei, cells * (160 / cells.size)]).astype(np.float32)


def made(image: np.ndarray, tmp_path: Path, cut: Cut | None = None) -> dict[str, Result]:
    five = image[:, None] if image.ndim == 3 else image
    return run_labels(three_labels(), five, tmp_path, cut or Cut(max(image.shape)))


def test_labels_are_those_of_the_whole_image(tmp_path: Path) -> None:
    image = tissue()
    found = {name: result.labels[0, 0] for name, result in made(image, tmp_path, Cut(16)).items()}
    nuclei = label(image[0] > 100, connectivity=2)
    np.testing.assert_array_equal(found["nuclei"], nuclei)
    assert nuclei.max() > 5
    mask = (image[1] > 80) | (nuclei > 0)
    flooded = watershed(-image[1], nuclei, np.ones((3, 3)), mask=mask)
    np.testing.assert_array_equal(found["cells"], flooded)
    np.testing.assert_array_equal(found["cytoplasm"], np.where(nuclei > 0, 0, found["cells"]))
    assert list(found) == ["nuclei", "cells", "cytoplasm"]


def test_a_nucleus_lies_in_the_cell_of_its_number(tmp_path: Path) -> None:
    found = {name: result.labels for name, result in made(tissue(), tmp_path).items()}
    inside = found["nuclei"] > 0
    np.testing.assert_array_equal(found["cells"][inside], found["nuclei"][inside])


def test_tables_name_what_an_object_was_made_from(tmp_path: Path) -> None:
    image = tissue()
    found = made(image, tmp_path, Cut(16))
    assert "nuclei_label" not in found["nuclei"].table.column_names
    for name, parent in (("cells", "nuclei_label"), ("cytoplasm", "cells_label")):
        table = found[name].table.to_pandas()
        np.testing.assert_array_equal(table[parent], table["label"])
        whole = regionprops(found[name].labels[0, 0], image[1])
        by_label = table.set_index("label")
        assert len(whole) == len(table)
        for one in whole:
            assert by_label.loc[one.label, "area_px"] == one.area
            np.testing.assert_allclose(by_label.loc[one.label, "mean_1"], one.intensity_mean, 1e-5)


def test_rows_are_in_the_order_of_first_pixels_whatever_the_tiles(tmp_path: Path) -> None:
    # The cell of the first nucleus begins below that of the second.
    image = np.zeros((2, 40, 40), np.uint8)
    image[0, 10:13, 30:33] = image[0, 14:17, 8:11] = 200
    image[1, 10:20, 25:38] = image[1, 2:30, 3:20] = 200
    for cut in (Cut(40), Cut(16), Cut(16, order=3)):
        table = made(image, tmp_path, cut)["cells"].table
        assert table["label"].to_pylist() == [2, 1]


def test_an_object_keeps_its_number_where_others_are_dropped(tmp_path: Path) -> None:
    cells = {**CELLS, "postprocess": {"clear_border": True}}
    recipe = parse_any_recipe({"labels": {"nuclei": NUCLEI, "cells": cells}}, "recipe")
    image = tissue()[:, None]
    whole = run_labels(recipe, image, tmp_path, Cut(80))
    kept = np.unique(whole["cells"].labels)[1:]
    assert 0 < len(kept) < whole["nuclei"].labels.max()
    assert kept.max() > len(kept)
    inside = np.isin(whole["nuclei"].labels, kept)
    np.testing.assert_array_equal(whole["cells"].labels[inside], whole["nuclei"].labels[inside])


def test_an_enclosed_cell_goes_to_the_one_around_it(tmp_path: Path) -> None:
    image = np.zeros((2, 1, 48, 48), np.uint8)
    image[1, 0, 4:44, 4:44] = 150
    image[0, 0, 40:43, 40:43] = 200  # the outer nucleus comes last
    image[1, 0, 14:34, 14:34] = 60
    image[0, 0, 20:26, 20:26] = 200  # below the threshold of cells, so that it is alone
    cells = {**CELLS, "postprocess": {"fill_holes": True}}
    recipe = parse_any_recipe({"labels": {"nuclei": NUCLEI, "cells": cells}}, "recipe")
    for cut in (Cut(48), Cut(16)):
        found = run_labels(recipe, image, tmp_path, cut)["cells"]
        assert found.table["label"].to_pylist() == [2]
        assert found.table["area_px"].to_pylist() == [1600]


@pytest.mark.parametrize(
    "cells",
    [
        CELLS,
        {**CELLS, "segment": {**CELLS["segment"], "landscape": "gradient"}},
        {**CELLS, "segment": {**CELLS["segment"], "landscape": "distance"}},
        {
            "source": {"channels": [1]},
            "segment": {
                "method": "region_growing",
                "tolerance": 40,
                "seeds": {"from": "label", "label": "nuclei"},
            },
        },
        {**CELLS, "merge": {"by": "threshold", "weight": "mean_color", "value": 20}},
    ],
    ids=["intensity", "gradient", "distance", "region growing", "merged"],
)
def test_tiled_equals_untiled(cells: dict[str, Any], tmp_path: Path) -> None:
    # One channel for all: the suite's own images have one.
    labels = {"nuclei": NUCLEI, "cells": {**cells, "source": {"channels": [0]}}}
    if "merge" not in cells:
        labels["cytoplasm"] = CYTOPLASM
    image = tissue()
    one = np.maximum(image[0], image[1] * 0.6).astype(np.uint8)
    check_conformance({"labels": labels}, [one], [16, (23, 31)], [0, 1], tmp_path)


def test_tiled_equals_untiled_in_volumes_and_time(tmp_path: Path) -> None:
    volumes = np.stack([tissue((9, 30, 32), seed)[0] for seed in (1, 2)]).astype(np.uint8)
    labels = {
        "nuclei": NUCLEI,
        "cells": {**CELLS, "source": {"channels": [0]}},
        "cytoplasm": CYTOPLASM,
    }
    labels["cells"]["segment"] = {**CELLS["segment"], "foreground": {"value": 15}}
    content = {"source": {"dims": "3d"}, "labels": labels}
    five = volumes[:, None]
    check_conformance(content, [five], [8, (4, 16, 11)], [0, 2], tmp_path)
    check_conformance({**content, "source": {"dims": "2d"}}, [five[:, :, :3]], [8], [1], tmp_path)
