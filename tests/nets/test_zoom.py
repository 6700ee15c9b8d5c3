"""Other magnifications: the network sees the image larger or smaller, and tiles stay exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs tilewright[nets]")

from model_files import exported, foreign_card  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from pipeline.conformance import check_image  # noqa: E402
from pipeline.errors import MethodError, ModelError, RecipeError  # noqa: E402
from pipeline.image import ImageInfo  # noqa: E402
from pipeline.methods.network import Network  # noqa: E402
from pipeline.methods.panoptic import Panoptic  # noqa: E402
from pipeline.nets import evaluation  # noqa: E402
from pipeline.nets.card import parse_card  # noqa: E402
from pipeline.nets.context import GlobalContext  # noqa: E402
from pipeline.nets.facts import facts_of  # noqa: E402
from pipeline.nets.model_folder import load_module, model_digest, read_card  # noqa: E402
from pipeline.nets.predictor import predictor  # noqa: E402
from pipeline.nets.probe import check_reach  # noqa: E402
from pipeline.nets.reference import ModelReference  # noqa: E402
from pipeline.nets.zoom import ZOOMS, zoom_for_objects, zoom_for_pixels  # noqa: E402
from pipeline.nets.zoomed import Zoomed, zoomed  # noqa: E402
from pipeline.recipe import Recipe, parse_recipe  # noqa: E402
from pipeline.trial import Cut, Result, run_untiled  # noqa: E402
from tests.nets.models import (  # noqa: E402
    CLASSES,
    DISTANCE,
    OBJECTS,
    card_content,
    scripted_model,
    tiny_model,
)
from tests.nets.small_nets import UNet, deeplab, settled  # noqa: E402
from tests.nets.whole import (  # noqa: E402
    engine_outputs,
    extended,
    normalised,
    picture,
    recipe_of,
)

CUTS = {2: Cut((45, 90), order=2, batch_tiles=3), 3: Cut((5, 25, 29), order=1)}


def resampled(x: Tensor, zoom: float) -> Tensor:
    """Larger by interpolation, smaller by means, in numpy's arithmetic of 64 bits."""
    found = x.double()
    if zoom < 1:
        for axis in range(2, x.dim()):
            found = found.unflatten(axis, (-1, round(1 / zoom))).mean(axis + 1)
        return found.float()
    mode = "bilinear" if x.dim() == 4 else "trilinear"
    sides = [round(n * zoom) for n in x.shape[2:]]
    return functional.interpolate(found, size=sides, mode=mode, align_corners=False).float()


def by_hand(model: str, image: np.ndarray, zoom: float, stride: int) -> np.ndarray:
    """Outputs (K, \\*S) of one pass over the frame."""
    batch = extended(normalised(image), (stride,) * image.ndim)
    with torch.no_grad():
        out = resampled(load_module(Path(model))(resampled(batch, zoom)), 1 / zoom)
    found: np.ndarray = out[(0, slice(None), *(slice(n) for n in image.shape))].numpy()
    return found


@pytest.mark.parametrize(
    ("zoom", "architecture", "arguments", "shape", "block"),
    [
        (0.5, "unet", {}, (117, 130), 32),
        (2, "unet", {}, (77, 90), 32),
        (0.25, "unet", {"depth": 1, "norm": "instance"}, (117, 130), 32),
        (4, "unet", {"depth": 1, "norm": "instance"}, (41, 70), 32),
        (2, "pspnet", {}, (37, 290), 128),
        (0.5, "unet", {"dims": 3, "base_channels": 2, "depth": 1}, (9, 50, 43), 16),
        (2, "unet", {"dims": 3, "base_channels": 2, "depth": 1}, (5, 30, 33), 16),
    ],
)
def test_tiles_say_what_one_pass_says(
    zoom: float,
    architecture: str,
    arguments: dict[str, Any],
    shape: tuple[int, ...],
    block: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluation, "CHECK_EVERY", 1)
    model = tiny_model(architecture, ndim=len(shape), arguments=arguments)
    image = picture(shape)
    recipe = recipe_of(model, f"{len(shape)}d", block_px=block, zoom=zoom)
    whole = run_untiled(recipe, image, tmp_path)
    result, found = engine_outputs(recipe, image, CUTS[len(shape)], tmp_path)
    assert (result.digest, result.table_digest) == (whole.digest, whole.table_digest)
    assert result.certificate["zoom"] == [zoom]
    halo, sides = result.certificate["halo_px"][0], result.certificate["block_px"]
    assert any(b + h < n for b, h, n in zip(sides, halo, shape, strict=True))
    assert isinstance(recipe.segment, Network)
    wanted = by_hand(model, image, zoom, recipe.segment.stride_px[0])
    limit = 2e-5 * float(np.abs(wanted).max())
    assert np.abs(found - wanted).max() <= limit
    assert result.certificate["epsilon"] <= 2 * limit
    as_it_is = by_hand(model, image, 1, 8)
    assert np.abs(as_it_is - wanted).max() > 100 * limit


# --- How far it looks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zoom", "stride", "halo"),
    [(0.125, 32, 224), (0.25, 16, 112), (0.5, 8, 48), (1, 4, 24), (2, 2, 12), (4, 1, 7), (8, 1, 4)],
)
def test_halo_and_stride_are_in_pixels_of_the_image(zoom: float, stride: int, halo: int) -> None:
    # Without zoom a U-Net of depth 2 looks at 23 px and the halo is a multiple of the stride.
    model = reference(tiny_model()).at(zoom)
    facts = facts_of(model)
    assert (facts.stride_px, facts.halo_px) == ((stride,) * 2, (halo,) * 2)
    assert predictor(model).reach.halo_px == (halo,) * 2  # which probed it with numbers


def test_costs_follow_the_zoom() -> None:
    model = reference(tiny_model())
    plain, larger, smaller = (facts_of(model.at(zoom)) for zoom in (1, 4, 0.25))
    assert larger.flops_per_px == pytest.approx(16 * plain.flops_per_px)
    assert smaller.flops_per_px == pytest.approx(plain.flops_per_px / 16)
    assert larger.bytes_per_px > 10 * plain.bytes_per_px
    stated = facts_of(reference(tiny_model(bytes_per_px=1600.0)).at(0.25))
    assert stated.bytes_per_px == 1600 / 16 + 4 * (1 + 3)


def test_enlarged_windows_may_need_smaller_blocks() -> None:
    model = tiny_model(bytes_per_px=1e4)
    blocks = [recipe_of(model, zoom=zoom).segment.block_sides for zoom in (1, 2, 8)]  # type: ignore[attr-defined]
    assert blocks == [(128, 128), (64, 64), (32, 32)]


@pytest.mark.parametrize("zoom", [4, 8])
def test_pooled_maps_may_be_finer_than_the_image(zoom: float) -> None:
    context = GlobalContext(Zoomed(settled(deeplab()), zoom, 2, None).eval(), 1, 2)
    assert context.count == 1
    check_reach(context.windowed, 1, context.reach)


def reference(path: str) -> ModelReference:
    return ModelReference(path, model_digest(Path(path)))


@pytest.mark.parametrize("zoom", [0.125, 0.5, 2, 8])
@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".onnx"])
def test_models_of_other_programs(suffix: str, zoom: float, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(exported(suffix))
    # Stated generously, as people do.
    stated = {"halo_px": [8, 8], "stride_px": [4, 4]} if suffix == ".onnx" else {}
    foreign_card(path, **stated)
    model = reference(str(path)).at(zoom)
    reach = predictor(model).reach  # probed
    if suffix == ".onnx":
        wanted = {0.125: (32, 96), 0.5: (8, 24), 2: (2, 6), 8: (1, 2)}[zoom]
        assert (reach.stride, reach.halo_px) == ((wanted[0],) * 2, (wanted[1],) * 2)
    image = picture((70, 90))
    found = check_image(recipe_of(str(path), block_px=32, zoom=zoom), image, [Cut(37)], tmp_path)
    assert isinstance(found, Result)


# --- Which zoom ---------------------------------------------------------------------------------


def card_of(**fields: Any) -> Any:
    return parse_card(card_content("unet", {}, **fields), "card")


@pytest.mark.parametrize(
    ("diameter", "zoom"),
    [
        *[(10, 1), (20, 1), (40, 1)],  # within its range
        *[(9.9, 2), (8, 2), (7.1, 2), (7.0, 4), (5, 4), (2, 8)],  # sqrt(10 * 40) is 20
        *[(41, 0.5), (56, 0.5), (57, 0.25), (160, 0.125)],
    ],
)
def test_objects_choose_a_zoom(diameter: float, zoom: float) -> None:
    assert zoom_for_objects(card_of(object_px=[10, 40]), diameter) == zoom


@pytest.mark.parametrize(
    ("own", "size", "zoom"),
    [
        (0.25, (None, 0.25, 0.25), 1),
        (0.25, (None, 0.5, 0.5), 2),
        (0.25, (2.0, 0.1, 0.1), 0.5),
        (0.25, (None, 0.34, 0.34), 1),
        (0.25, (None, 0.36, 0.36), 2),
        ((0.5, 0.125), (None, 0.5, 0.5), 2),
        (1, (None, 0.125, 0.125), 0.125),
    ],
)
def test_pixel_sizes_choose_a_zoom(own: Any, size: Any, zoom: float) -> None:
    assert zoom_for_pixels(card_of(pixel_size_um=own), size) == zoom


def info(size: tuple[float | None, ...], shape: tuple[int, int] = (40, 50)) -> ImageInfo:
    five = (1, 1, 1, *shape)
    return ImageInfo(five, "uint8", "yx", ("0",), size, None, five)  # type: ignore[arg-type]


def test_each_image_decides_where_its_recipe_does_not() -> None:
    models = [tiny_model(pixel_size_um=0.25), tiny_model(pixel_size_um=1.0, seed=1)]
    recipe = recipe_of(models[0], zoom="auto")
    for size, zoom in [(0.25, 1), (0.5, 2), (0.06, 0.25)]:
        own = recipe.for_image(info((None, size, size)), "a.tif")
        # The same as if the number had been given, so that results are found again.
        assert own.identity() == recipe_of(models[0], zoom=zoom).identity()
        assert facts_in(own) == facts_in(recipe_of(models[0], zoom=zoom))
    assert recipe.identity() != recipe_of(models[0]).identity()
    both = recipe_of(models, zoom="auto").for_image(info((None, 0.5, 0.5)), "a.tif")
    assert both.segment.zooms == (2, 0.5)  # type: ignore[attr-defined]
    plain = recipe_of(models[0])
    assert plain.for_image(info((None, 9.0, 9.0)), "a.tif") is plain


def facts_in(recipe: Recipe) -> Any:
    assert isinstance(recipe.segment, Network)
    return recipe.segment.facts, recipe.segment.settings, recipe.segment.notes()


def test_methods_within_methods_are_decided_too() -> None:
    network = {"method": "network", "model": tiny_model(pixel_size_um=0.25), "zoom": "auto"}
    segment = {"method": "watershed", "foreground": network, "landscape": "objectness"}
    recipe = parse_recipe({"segment": segment}, "recipe")
    own = recipe.for_image(info((None, 0.5, 0.5)), "a.tif")
    assert own.segment.foreground.zoom == 2  # type: ignore[attr-defined]
    things = tiny_model("mask_rcnn", channels=["grey"], heads=[OBJECTS])
    both = {"method": "panoptic", "stuff": network, "things": things}
    own = parse_recipe({"segment": both}, "recipe").for_image(info((None, 0.5, 0.5)), "a.tif")
    assert isinstance(own.segment, Panoptic)
    assert own.segment.stuff.zoom == 2


def test_the_engine_takes_the_image_s_own_zoom(tmp_path: Path) -> None:
    import tifffile

    from pipeline.admission import Admitted
    from pipeline.plan import Machine, plan_image
    from pipeline.run_folder import RunFolder
    from pipeline.sources import SourceSpec, open_source

    recipe = recipe_of(tiny_model(pixel_size_um=0.5), zoom="auto")
    found = []
    for um in (0.5, 0.25):
        path = tmp_path / f"{um}.tif"
        meta = {"axes": "YX", "PhysicalSizeX": um, "PhysicalSizeY": um}
        meta |= {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
        tifffile.imwrite(path, picture((40, 50)), ome=True, metadata=meta)
        spec = SourceSpec("tiff", str(path), path.stem)
        with open_source(spec) as source:
            item = Admitted(spec, source.info, "content")
        folder, machine = RunFolder(tmp_path / "out"), Machine(1, 4 * 2**30)
        segment = plan_image(item, recipe, folder, machine, None).job.recipe.segment
        assert isinstance(segment, Network)
        found.append((segment.zooms, segment.settings.models[0].zoom, segment.facts[0].halo_px))
    assert found == [((1.0,), 1.0, (24, 24)), ((0.5,), 0.5, (48, 48))]


def test_each_model_of_an_ensemble_has_its_own(tmp_path: Path) -> None:
    sizes = [[5, 10], [20, 40]]
    models = [tiny_model(object_px=own, seed=k) for k, own in enumerate(sizes)]
    image = picture((70, 93))
    fields: dict[str, Any] = {"block_px": 48, "output": "probabilities", "augment": ["flips"]}
    chosen = recipe_of(models, **fields, object_px=14.2)
    given = recipe_of(models, **fields, zoom=[0.5, 2])
    results = [
        check_image(recipe, image, [Cut((37, 60), 2)], tmp_path) for recipe in (chosen, given)
    ]
    first, second = results
    assert isinstance(first, Result)
    assert isinstance(second, Result)
    assert first.certificate["zoom"] == [0.5, 2]
    assert first.digest == second.digest
    assert first.probabilities is not None
    total = np.zeros((3, *image.shape))
    for model, zoom in zip(models, (0.5, 2), strict=True):
        net = zoomed(load_module(Path(model)), read_card(Path(model)), zoom)
        batch = extended(normalised(image), (8, 8))
        for flip in ((), (-1,), (-2,), (-2, -1)):
            with torch.no_grad():
                out = torch.softmax(net(batch.flip(flip)), 1).flip(flip)
            total += out[0, :, :70, :93].numpy() / 8
    inside = (slice(None), slice(0, 20), slice(0, 20))  # the frame's end is extended by less
    assert np.abs(first.probabilities[0, :, 0] - total)[inside].max() < 1e-4


# --- Units --------------------------------------------------------------------------------------


class Depth(nn.Module):
    """Three scores and a length: the grey value."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv2d(1, 4, 1, bias=False)
        nn.init.ones_(self.same.weight)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.same(x)
        return found


@pytest.mark.parametrize("zoom", [0.25, 0.5, 2, 4])
@pytest.mark.parametrize("unit", ["px", "normalised"])
def test_lengths_are_in_pixels_of_the_image(unit: str, zoom: float, tmp_path: Path) -> None:
    name = f"depth {unit}"
    if name not in _depths:
        heads = [CLASSES, {**DISTANCE, "unit": unit, "activation": "none"}]
        _depths[name] = scripted_model(Depth(), name, heads, normalisation={"kind": "range"})
    image = np.full((40, 50), 51, np.uint8)
    _, found = engine_outputs(
        recipe_of(_depths[name], block_px=32, zoom=zoom), image, Cut(20), tmp_path
    )
    assert np.abs(found[:3] - 0.2).max() < 1e-6
    wanted = 0.2 / zoom if unit == "px" else 0.2
    assert np.abs(found[3] - wanted).max() < 1e-6


_depths: dict[str, str] = {}


# --- What is refused, and what stays ------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "fields", "message"),
    [
        ({}, {"zoom": 3}, r"zoom: 3 is none of 0\.125, 0\.25, 0\.5, 1, 2, 4, 8, and not auto\."),
        ({}, {"zoom": 16}, r"zoom: 16 is none of"),
        ({}, {"zoom": True}, r"zoom: True is none of"),
        ({}, {"zoom": "large"}, r"zoom: 'large' is none of"),
        ({}, {"zoom": []}, r"zoom: \[\] is none of"),
        ({}, {"zoom": [1, 2]}, r"zoom: 2 numbers for 1 models"),
        ({}, {"zoom": "auto"}, r"tiny unet does not tell its pixel_size_um; add it, or give obj"),
        ({}, {"object_px": 0}, r"object_px: Input should be greater than 0"),
        ({}, {"object_px": float("inf")}, r"object_px: Input should be a finite number"),
        ({}, {"object_px": 9}, r"tiny unet does not tell the object_px that .* or give zoom"),
        ({"object_px": [10, 40]}, {"object_px": 9, "zoom": 2}, r"zoom: it follows from object_px"),
        (
            {"object_px": [10, 40]},
            {"object_px": 500},
            r"object_px: 500, and tiny unet was trained on 10 to 40, which takes a zoom of "
            r"0\.03125; 0\.125 to 8 are made\. Use another model",
        ),
    ],
)
def test_wrong_fields(card: dict[str, Any], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        recipe_of(tiny_model(**card), **fields)
    assert len(str(error.value).strip().splitlines()) <= 2


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (
            (None, None, 1.0),
            r"zoom: auto, and the file does not tell its pixel size.*Give object_px",
        ),
        ((None, 9.0, 9.0), r"pixels of 9 um, and tiny unet was trained on 0\.25 um, .* zoom of 32"),
    ],
)
def test_images_that_cannot_decide(size: Any, message: str, tmp_path: Path) -> None:
    recipe = recipe_of(tiny_model(pixel_size_um=0.25), zoom="auto")
    with pytest.raises(MethodError, match=rf"(?s)a\.tif.*{message}"):
        recipe.for_image(info(size), "a.tif")
    with pytest.raises(MethodError, match="does not tell its pixel size"):
        run_untiled(recipe, picture((20, 20)), tmp_path)


def test_cards_tell_the_smaller_diameter_first() -> None:
    with pytest.raises(ModelError, match=r"object_px: 40 to 10; the smaller number comes first"):
        card_of(object_px=[40, 10])
    with pytest.raises(ModelError, match="object_px"):
        card_of(object_px=[0, 10])


def test_detectors_have_no_zoom() -> None:
    boxes = tiny_model("mask_rcnn", channels=["grey"], heads=[OBJECTS])
    segment = {"method": "mask_rcnn", "model": boxes, "zoom": 2}
    with pytest.raises(RecipeError, match=r"zoom: detectors see the image at its own scale"):
        parse_recipe({"segment": segment}, "recipe")


def test_what_says_nothing_changes_no_identity() -> None:
    model = tiny_model(object_px=[10, 40])
    plain = recipe_of(model)
    assert "zoom" not in plain.identity()
    assert "object_px" not in plain.identity()
    assert plain.model_dump(mode="json")["segment"]["zoom"] == 1  # but it is written with all else
    assert recipe_of(model, zoom=1).identity() == plain.identity()
    others = [{"zoom": 2}, {"zoom": 0.5}, {"object_px": 20}, {"object_px": 4}]
    found = {recipe_of(model, **fields).identity() for fields in others}
    assert len(found | {plain.identity()}) == 5
    written = parse_recipe(recipe_of(model, zoom=2).model_dump(mode="json"), "recipe")
    assert written.identity() == recipe_of(model, zoom=2).identity()


def test_cards_without_sizes_keep_their_digest(tmp_path: Path) -> None:
    import xxhash

    path = Path(tiny_model())
    card = read_card(path)
    said = card.model_dump(mode="json")
    assert said.pop("object_px") is None
    state = xxhash.xxh3_128(card.model_dump_json(exclude={"object_px"}).encode())
    state.update(str(card.sha256).encode())
    assert model_digest(path) == state.hexdigest()
    assert model_digest(Path(tiny_model(object_px=[1, 2]))) != model_digest(path)


def test_what_is_measured_is_kept_for_each_zoom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = reference(tiny_model())
    for _ in range(2):
        facts_of.cache_clear()
        found = {zoom: facts_of(model.at(zoom)).halo_px[0] for zoom in ZOOMS}
    assert list(found.values()) == [224, 112, 48, 24, 12, 7, 4]
    assert len(list((tmp_path / "tilewright" / "models").glob("*.json"))) == len(ZOOMS)


def test_outputs_of_sixteen_bits_are_resampled_in_more() -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.bfloat16()

    x = torch.rand(1, 1, 8, 8)
    found = Zoomed(Half(), 2, 2, None)(x)
    assert found.dtype == torch.float32
    kept = Zoomed(UNet(1).eval().double(), 0.5, 2, None)(x.double())
    assert kept.dtype == torch.float64
