"""The conformance suite lets our methods through and names what is wrong with others."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
from scipy import ndimage

import pipeline.recipe
from pipeline.conformance import check_conformance, check_numbering, degenerate_images
from pipeline.errors import ConformanceError, MethodError
from pipeline.kernels.components import components
from pipeline.methods.base import Context, Method, Output, Round, State, TileLabels
from pipeline.recipe import parse_recipe
from pipeline.trial import Cut, Result, run_tiled, run_untiled
from pipeline.view import TileView

#: Boxes that hold the first pixel of every image.
CORNER = Path(__file__).parent / "data" / "corner.boxes.csv"


def blobs(shape: tuple[int, ...] = (40, 45), dtype: str = "uint8") -> np.ndarray:
    rough = ndimage.gaussian_filter(np.random.default_rng(0).random(shape), 2)
    return ((rough - rough.min()) / np.ptp(rough) * 200).astype(dtype)


@dataclasses.dataclass(frozen=True)
class OneRound(Round):
    """Label what `kind` says; several of them break the promise."""

    kind: str
    name: ClassVar[str] = "one"
    calls: ClassVar[list[int]] = []

    def map(self, view: TileView, state: State) -> Output:
        image = view.image()[0]
        if self.kind == "local threshold":
            mask = image > image.mean()
        elif self.kind == "impure":
            self.calls.append(0)
            mask = image > len(self.calls) % 200
        elif self.kind == "crashing" and not np.isfinite(view.value_range()[0]):
            raise ValueError("no finite pixel")
        else:
            mask = image > 100
        touching = 0 if self.kind == "cut at tiles" else 8
        return Output({}, TileLabels(components(mask, 8)[0], touching))

    def combine(self, records: object) -> dict[str, np.ndarray]:
        return {}

    def reduce(self, records: object, state: State) -> State:
        return {"done": np.array(1)}


class Faulty(Method):
    method: Literal["faulty"]
    kind: str = ""

    def next_round(self, state: State, context: Context) -> Round | None:
        return None if "done" in state else OneRound(self.kind)

    def check(self, context: Context) -> None:
        if self.kind == "choosy" and context.grid.shape == context.grid.side:
            raise MethodError(context.name, "only one tile")

    def halo_px(self) -> int:
        return 0

    def peak_bytes_per_px(self) -> float:
        return 1.0


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.recipe, "method_class", lambda name: Faulty)


@pytest.mark.parametrize("dims", ["2d", "3d"])
@pytest.mark.parametrize(
    "segment",
    [
        {"method": "threshold"},
        {"method": "threshold", "foreground": {"objects": "dark"}},
        {"method": "watershed", "min_distance_px": 2},
        {"method": "watershed", "masked": False, "landscape": "intensity"},
        {
            "method": "watershed",
            "masked": False,
            "landscape": "gradient",
            "markers": {"from": "grid", "size_px": 6, "compactness": 2},
        },
        {
            "method": "watershed",
            "landscape": "intensity",
            "markers": {"from": "grid", "size_px": 4},
            "lines": True,
        },
        {"method": "threshold", "foreground": {"value": "multi_otsu"}, "output": "classes"},
        {"method": "threshold", "foreground": {"value": "minimum"}},
        {"method": "local_threshold", "block_px": 7},
        {"method": "local_threshold", "block_px": 5, "rule": "niblack", "output": "classes"},
        {"method": "local_threshold", "block_px": 5, "rule": "median", "objects": "dark"},
        {"method": "hysteresis"},
        {"method": "hysteresis", "objects": "dark"},
        {"method": "kmeans", "k": 4},
        {"method": "kmeans", "k": 7, "output": "labels", "standardize": True},
        {"method": "mean_shift", "bandwidth": 20},
        {"method": "mean_shift", "spatial_px": 2, "output": "labels"},
        {"method": "mean_shift", "spatial_px": 3, "iterations": 2, "bandwidth": 9},
        {"method": "region_growing", "tolerance": 12},
        {
            "method": "region_growing",
            "tolerance": 9,
            "rule": "adaptive",
            "spread": 1.5,
            "seeds": {"from": "peaks", "foreground": {"objects": "dark"}},
        },
        {"method": "slic", "size_px": 5},
        {"method": "slic", "segments": 30, "variant": "slico", "mask": {"value": "li"}},
        {"method": "felzenszwalb"},
        {"method": "felzenszwalb", "scale": 3, "sigma_px": 0, "min_size_px": 4},
        {"method": "gmm", "k": 4},
        {"method": "gmm", "k": 3, "output": "labels", "covariance": "diagonal"},
        {"method": "gmm", "k": 3, "output": "probabilities"},
        {"method": "gmm", "output": "probabilities", "smoothing": {"weight": 2, "iterations": 2}},
        {"method": "gmm", "output": "labels", "smoothing": {"iterations": 1}},
    ],
    ids=lambda segment: "-".join(str(value) for value in segment.values()),
)
def test_our_methods_conform(segment: dict[str, object], dims: str, tmp_path: Path) -> None:
    image = blobs() if dims == "2d" else blobs((7, 22, 25), "float32")
    recipe = {"source": {"dims": dims}, "segment": segment}
    if not parse_recipe(recipe, "recipe").segment.classes():
        recipe["postprocess"] = {"fill_holes": True}
    check_conformance(recipe, [image], sides=[11], orders=[4], folder=tmp_path)


@pytest.mark.parametrize("own", [{}, {"margin_px": 1, "iterations": 1}], ids=["default", "tight"])
def test_grabcut_conforms(own: dict[str, object], tmp_path: Path) -> None:
    segment = {"method": "grabcut", "boxes": {"file": str(CORNER)}, **own}
    recipe = {"segment": segment, "postprocess": {"fill_holes": True}}
    images = [blobs(), blobs(dtype="float32")]
    check_conformance(recipe, images, sides=[11], orders=[4], folder=tmp_path)


@pytest.mark.parametrize("own", [{"kernel_size": 1}, {"kernel_size": 2, "max_dist": 50}])
def test_quickshift_conforms(own: dict[str, object], tmp_path: Path) -> None:
    recipe = {"segment": {"method": "quickshift", **own}, "postprocess": {"fill_holes": True}}
    images = [blobs(), blobs(dtype="float32")]
    check_conformance(recipe, images, sides=[11], orders=[4], folder=tmp_path)


@pytest.mark.parametrize("dims", ["2d", "3d"])
@pytest.mark.parametrize(
    ("norm", "own"),
    [
        ("batch", {"output": "classes"}),
        ("batch", {"output": "probabilities", "smoothing": {"iterations": 2}}),
        ("instance", {"output": "labels"}),
    ],
)
def test_networks_conform(norm: str, own: dict[str, object], dims: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs tilewright[nets]")
    from tests.nets.models import tiny_model

    ndim = int(dims[0])
    arguments = {"dims": ndim, "depth": 1, "base_channels": 2, "norm": norm}
    model = tiny_model(ndim=ndim, arguments=arguments)
    image = blobs() if dims == "2d" else blobs((7, 22, 25), "float32")
    segment = {"method": "network", "model": model, "block_px": 16, **own}
    recipe = {"source": {"dims": dims}, "segment": segment}
    check_conformance(recipe, [image], sides=[11], orders=[4], folder=tmp_path)


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("local threshold", r"image 0 .* tiles of 16 px, in order, 1 tiles a batch: \d+ px of"),
        ("cut at tiles", r"image 0 .* differ, first \(t, z, y, x\) = \(0, 0, \d+, \d+\): label"),
        ("choosy", "one is refused, one is not: untiled image: only one tile"),
        ("crashing", r"degenerate all NaN .*raised ValueError: no finite pixel"),
    ],
)
def test_a_method_that_is_not_exact_is_found(kind: str, message: str, tmp_path: Path) -> None:
    recipe = {"segment": {"method": "faulty", "kind": kind}}
    with pytest.raises(ConformanceError, match=message):
        check_conformance(recipe, [blobs()], sides=[16], orders=[0], folder=tmp_path)


@pytest.mark.usefixtures("faulty")
def test_a_sound_method_of_others_conforms(tmp_path: Path) -> None:
    check_conformance({"segment": {"method": "faulty"}}, [blobs()], [16, (9, 30)], [1], tmp_path)


@pytest.mark.usefixtures("faulty")
def test_a_round_that_is_not_pure_is_found_by_repetition(tmp_path: Path) -> None:
    recipe = parse_recipe({"segment": {"method": "faulty", "kind": "impure"}}, "recipe")
    with pytest.raises(ConformanceError, match=r"MapOrder of tiles .* must be a pure function"):
        run_tiled(recipe, blobs(), tmp_path, Cut(8, order=1))


def test_wrong_numbers_are_found(tmp_path: Path) -> None:
    recipe = parse_recipe({"segment": {"method": "threshold"}}, "recipe")
    good = run_untiled(recipe, blobs(), tmp_path)
    check_numbering(good, "image")
    swapped = np.array([0, 2, 1, *range(3, int(good.labels.max()) + 1)])

    def expect(message: str, **changes: object) -> None:
        changed: Result = dataclasses.replace(good, **changes)
        with pytest.raises(ConformanceError, match=message):
            check_numbering(changed, "image")

    expect("label 2 begins before label 1", labels=swapped[good.labels])
    expect("without gaps", labels=good.labels * 2)
    expect("rows are not the labels", table=good.table.slice(1))
    areas = good.table["area_px"].to_numpy() + 1
    index = good.table.column_names.index("area_px")
    expect("areas", table=good.table.set_column(index, "area_px", [areas]))


def test_there_is_nothing_but_refusal_or_emptiness_without_finite_pixels(tmp_path: Path) -> None:
    for ndim in (2, 3):
        image = degenerate_images(ndim)["all NaN"]
        recipe = parse_recipe(
            {"source": {"dims": f"{ndim}d"}, "segment": {"method": "watershed"}}, "recipe"
        )
        result = run_untiled(recipe, image, tmp_path)
        assert result.labels.max() == 0
        assert len(result.table) == 0
        assert {"label", "area_px", "mean_0"} <= set(result.table.column_names)
