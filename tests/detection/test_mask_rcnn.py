"""Mask R-CNN on blocks: torchvision's on a whole image, and the same whatever the tiles.

Weights are drawn, and spread so that scores differ: such a network finds thousands of objects that
overlap, which is harder for suppression than what a trained one finds.
"""

from __future__ import annotations

import functools
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets.models import OBJECTS, card_content, tiny_model
from torch import nn
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.models.detection.roi_heads import paste_masks_in_image

from pipeline.blocks import block_grid
from pipeline.box import Box
from pipeline.conformance import check_conformance, check_image
from pipeline.detection.detect import Detect
from pipeline.errors import MethodError, ModelError, RecipeError
from pipeline.grid import TileGrid
from pipeline.methods.mask_rcnn import MaskRCNN as MaskRCNNMethod
from pipeline.methods.registry import method_class
from pipeline.nets.architectures import DETECTORS, build
from pipeline.nets.architectures.mask_rcnn import MaskRCNN
from pipeline.nets.architectures.presets import SMALL_DETECTORS
from pipeline.nets.card import parse_card
from pipeline.nets.detector import MaskRCNNDetector, pasted
from pipeline.nets.model_folder import load_module, read_card
from pipeline.recipe import parse_recipe
from pipeline.trial import Cut, Result, run_untiled

CHANNELS = 2


@functools.cache
def model(kind: str = "fixed") -> str:
    terms = {"mean": [100.0] * CHANNELS, "std": [60.0] * CHANNELS} if kind == "fixed" else {}
    torch.set_num_threads(1)
    return tiny_model(
        "mask_rcnn",
        channels=["red", "green"],
        heads=[OBJECTS],
        normalisation={"kind": kind, **terms},
    )


def image_of(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (CHANNELS, *(-(-n // 9) for n in shape)))
    fine = np.kron(coarse, np.ones((1, 9, 9), int))[:, : shape[0], : shape[1]]
    noisy = fine + generator.integers(-20, 21, fine.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)[:, None]


def recipe(**own: object) -> dict[str, Any]:
    segment = {
        "method": "mask_rcnn",
        "model": model(),
        "score": 0.55,
        "proposal_score": 0.5,
        "overlap": 0.3,
        "block_px": 64,
        "object_px": 70,
        "context_px": 4,
        **own,
    }
    return {"source": {"channels": [0, 1]}, "segment": segment}


def detector() -> MaskRCNNDetector:
    asked = parse_recipe(recipe(), "recipe").segment
    assert isinstance(asked, MaskRCNNMethod)
    return MaskRCNNDetector(asked.model, (100.0,) * 2, (60.0,) * 2, 0.55, 0.5, 0.5)


# --- Beside torchvision --------------------------------------------------------------------------


def test_resnet50_has_the_published_parameters() -> None:
    with torch.device("meta"):
        ours = MaskRCNN(3, 91, "resnet50").net
        theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }
    norms = [m for m in ours.modules() if isinstance(m, nn.BatchNorm2d)]
    frozen = sum(p.numel() for norm in norms for p in norm.parameters())
    # Of torchvision's published weights, whose batch normalisation is frozen.
    assert sum(p.numel() for p in ours.parameters()) - frozen == 44_401_393


@pytest.mark.parametrize(
    ("backbone", "channels"),
    [
        ("resnet18", 64),
        ("resnet34", 64),
        ("resnet50", 64),
        ("mobilenet_v3_large", 64),
        ("resnet18", 12),
        ("resnet50", 8),
    ],
)
def test_backbones_have_levels_at_all_strides(backbone: Any, channels: int) -> None:
    with torch.device("meta"):
        net = MaskRCNN(5, 2, backbone, width=8, head_width=8, backbone_width=channels).net
        maps = net.backbone(torch.empty(2, 5, 128, 192))
    assert [tuple(m.shape) for m in maps.values()] == [
        (2, 8, 128 // s, 192 // s) for s in (4, 8, 16, 32, 64)
    ]


def test_a_narrow_backbone_is_the_wide_one_with_fewer_channels() -> None:
    with torch.device("meta"):
        net = MaskRCNN(1, 2, "resnet18", backbone_width=16).net
        wide = MaskRCNN(1, 2, "resnet18", backbone_width=64).net
    narrow = [m.weight.shape for m in net.backbone.body.modules() if isinstance(m, nn.Conv2d)]
    four = [m.weight.shape for m in wide.backbone.body.modules() if isinstance(m, nn.Conv2d)]
    assert [s[0] * 4 for s in narrow] == [s[0] for s in four]
    assert [s[2:] for s in narrow] == [s[2:] for s in four]
    with pytest.raises(ValueError, match="mobilenet_v3_large has no other than its own"):
        MaskRCNN(1, 2, "mobilenet_v3_large", backbone_width=16)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ModelError, match="architecture mask_rcnn: anchor_px: 2 sides"):
        build("mask_rcnn", 1, 2, {"anchor_px": [8, 16]})
    with pytest.raises(ValueError, match="5 levels"):
        MaskRCNN(1, 2, "resnet18", (8, 16))
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        MaskRCNN(1, 1, "resnet18")


def test_every_detector_has_a_small_form() -> None:
    assert set(SMALL_DETECTORS) == set(DETECTORS)
    for name, arguments in SMALL_DETECTORS.items():
        with torch.device("meta"):
            assert sum(p.numel() for p in build(name, 1, 2, arguments).parameters()) < 1.1e6


def test_one_block_finds_what_torchvision_finds() -> None:
    pixels = image_of((128, 192))[:, 0]
    frame = Box.whole((128, 192))
    found = detector().detect(pixels, frame, frame, frame)
    net = load_module(Path(model())).net
    net.rpn.score_thresh, net.roi_heads.score_thresh = 0.5, 0.55
    net.roi_heads.nms_thresh = 1.0  # nothing is suppressed: `Suppress` does that
    with torch.inference_mode():
        theirs = net([torch.from_numpy((pixels.astype(np.float32) - 100) / 60)])[0]
    assert 50 < len(found) == len(theirs["boxes"])
    boxes = theirs["boxes"].numpy()[:, [1, 0, 3, 2]]
    kinds, scores = theirs["labels"].numpy(), theirs["scores"].numpy()
    # Heads see 256 proposals at a time, torchvision's all of them: last digits differ.
    ours = found.candidates
    mine = np.lexsort((*np.round(ours.box, 2).T, ours.class_id))
    other = np.lexsort((*np.round(boxes, 2).T, kinds))
    assert np.array_equal(ours.class_id[mine], kinds[other])
    assert np.abs(ours.box[mine] - boxes[other]).max() < 1e-2
    assert np.abs(ours.score[mine] / 65536 - scores[other]).max() < 1e-4
    soft = theirs["masks"].numpy()[other, 0]
    masks = list(found.masks.select(mine).unpacked())
    differing = 0
    for i, mask in enumerate(masks):
        whole = np.zeros(frame.shape, bool)
        start = found.masks.start[mine[i]]
        whole[Box(tuple(start), tuple(start + mask.shape)).slices] = mask
        differing += int((whole != (soft[i] > 0.5)).sum())
    assert differing < 1e-4 * sum(mask.size for mask in masks)
    assert sum(mask.sum() for mask in masks) > 1000


def test_masks_are_pasted_as_by_torchvision() -> None:
    torch.manual_seed(1)
    frame = Box.whole((50, 70))
    corner = torch.rand(40, 2, dtype=torch.float64) * torch.tensor([60.0, 40.0])
    boxes = torch.cat([corner, corner + 0.1 + 20 * torch.rand(40, 2)], dim=1)
    boxes[:, 0::2], boxes[:, 1::2] = boxes[:, 0::2].clamp(0, 70), boxes[:, 1::2].clamp(0, 50)
    soft = torch.rand(40, 1, 28, 28)
    found = pasted(soft, boxes, frame, 0.5)
    expected = paste_masks_in_image(soft, boxes, (50, 70))[:, 0] > 0.5
    for i, mask in enumerate(found.unpacked()):
        whole = np.zeros(frame.shape, bool)
        whole[Box(tuple(found.start[i]), tuple(found.stop[i])).slices] = mask
        assert np.array_equal(whole, expected[i].numpy())


# --- On blocks -----------------------------------------------------------------------------------


def test_anchors_lie_on_the_grid_and_in_their_block() -> None:
    pixels = image_of((250, 270))[:, 0]
    frame = Box.whole((250, 270))
    blocks = block_grid(TileGrid(1, frame.shape, frame.shape), (100, 100))
    step = Detect(detector(), blocks, 74, 4, 200)
    seen = 0
    for block in blocks.tiles():
        window = step.window(block.core, 74)
        assert all(n % 64 == 0 for n in (*window.start, *window.shape))
        inside = window.intersect(frame)
        beyond = [(0, n - m) for n, m in zip(window.shape, inside.shape, strict=True)]
        crop = np.pad(pixels[(slice(None), *inside.slices)], [(0, 0), *beyond], mode="edge")
        found = step.detector.detect(crop, window, block.core, frame)
        anchor = found.candidates.anchor
        assert ((anchor >= block.core.start) & (anchor < block.core.stop)).all()
        last = anchor == np.array(frame.stop) - 1  # of those behind the end
        assert ((anchor % 4 == 0) | last).all()
        seen += len(found)
    assert seen > 60


@pytest.mark.parametrize(
    "own", [{}, {"object_px": 1, "context_px": 30, "overlap_of": "mask"}], ids=["wide", "hasty"]
)
def test_tiled_is_untiled(own: dict[str, object], tmp_path: Path) -> None:
    asked = parse_recipe(recipe(**own), "recipe")
    cuts = [Cut(48, 1), Cut((100, 37), 2, 3)]
    found = check_image(asked, image_of((150, 170)), cuts, tmp_path)
    assert isinstance(found, Result)
    assert len(found.table) > 30
    again = found.certificate["blocks_looked_at_again"]
    assert again > 0 if own else again == 0
    table = found.table
    assert min(table["score"].to_pylist()) > 0.55
    assert set(table["class_id"].to_pylist()) == {1, 2}
    # Pixels of an object lie in its box, grown by what pasting adds.
    for axis in "yx":
        begin, end = (table[f"detected_{axis}_{e}_px"].to_numpy() for e in ("start", "stop"))
        assert (table[f"bbox_{axis}_start_px"].to_numpy() >= begin - 4).all()
        assert (table[f"bbox_{axis}_stop_px"].to_numpy() <= end + 5).all()


def test_the_table_tells_the_classes_apart_if_they_do_not_meet(tmp_path: Path) -> None:
    image = image_of((130, 140))
    apart = run_untiled(parse_recipe(recipe(overlap=0), "r"), image, tmp_path)
    across = run_untiled(parse_recipe(recipe(across_classes=True, overlap=0), "r"), image, tmp_path)
    assert len(across.table) < len(apart.table)


def test_hard_images_are_taken_or_refused(tmp_path: Path) -> None:
    segment = recipe(block_px=32)
    check_conformance(segment, [image_of((70, 75))], sides=[33], orders=[1], folder=tmp_path)


def test_volumes_and_other_channels_are_refused(tmp_path: Path) -> None:
    image = image_of((40, 40))
    one = parse_recipe({**recipe(), "source": {"channels": [0]}}, "r")
    with pytest.raises(MethodError, match=r"1 selected channel, and the model .* takes 2"):
        run_untiled(one, image, tmp_path)
    with pytest.raises(RecipeError, match="not defined in 3d"):
        parse_recipe({**recipe(), "source": {"channels": [0, 1], "dims": "3d"}}, "r")


def test_it_is_registered_and_travels() -> None:
    assert method_class("mask_rcnn").__name__ == "MaskRCNN"
    assert pickle.loads(pickle.dumps(detector())) == detector()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pipeline.nets.detector", None)
    with pytest.raises(ModelError, match=r"mask_rcnn needs .*pip install 'tilewright\[nets\]'"):
        run_untiled(parse_recipe(recipe(), "r"), image_of((40, 40)), tmp_path)


# --- Its model -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["percentiles", "mean_std", "range"])
def test_all_normalisations_are_those_of_the_whole_image(kind: str, tmp_path: Path) -> None:
    asked = parse_recipe(recipe(model=model(kind), score=0.5), "recipe")
    image = image_of((110, 130))
    image[:, :, :60] //= 4  # percentiles of tiles would differ
    found = check_image(asked, image, [Cut((50, 37), 2, 3)], tmp_path)
    assert isinstance(found, Result)
    assert len(found.table) > 0
    assert asked.segment.least_passes() == (3 if kind == "range" else 4)


def test_percentiles_are_numbers_that_numpy_gives(tmp_path: Path) -> None:
    image = image_of((110, 130))
    low, high = np.percentile(image[:, 0], [1, 99.8], axis=(1, 2))
    fixed = tiny_model(
        "mask_rcnn",
        channels=["red", "green"],
        heads=[OBJECTS],
        normalisation={"kind": "fixed", "mean": low.tolist(), "std": (high - low + 1e-6).tolist()},
    )
    ours, theirs = (
        run_untiled(parse_recipe(recipe(model=m, score=0.5), "r"), image, tmp_path)
        for m in (model("percentiles"), fixed)
    )
    assert ours.labels.max() > 0
    assert np.array_equal(ours.labels, theirs.labels)


def test_the_folder_holds_what_was_written() -> None:
    card = read_card(Path(model()))
    assert card.object_names == ("round", "long")
    assert (card.output_channels, card.network_classes) == (0, 3)
    assert card.halo_px is None
    assert card.stride_px is None
    assert isinstance(load_module(Path(model())), MaskRCNN)


def test_the_model_is_known_by_what_it_holds(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model(), copy)
    here, there = (parse_recipe(recipe(model=str(m)), "r").segment for m in (model(), copy))
    shown = [s.model_dump(mode="json", context={"identity": True}) for s in (here, there)]
    assert shown[0] == shown[1]
    assert here.model != there.model
    content = (copy / "card.yaml").read_text()
    (copy / "card.yaml").write_text(content.replace("tiny mask_rcnn", "other"))
    changed = MaskRCNNDetector(there.model, (100.0,) * 2, (60.0,) * 2, 0.55, 0.5, 0.5)
    frame = Box.whole((64, 64))
    with pytest.raises(ModelError, match="changed since the run was planned"):
        changed.detect(np.zeros((2, 64, 64), np.uint8), frame, frame, frame)


def test_models_of_the_other_kind_are_refused() -> None:
    with pytest.raises(RecipeError, match="finds no objects; use it by `method: network`"):
        parse_recipe(recipe(model=tiny_model()), "r")
    with pytest.raises(RecipeError, match="tells nothing of pixels; use it by `method: mask_rcnn`"):
        parse_recipe({"segment": {"method": "network", "model": model()}}, "r")


@pytest.mark.parametrize(
    ("architecture", "fields", "message"),
    [
        ("mask_rcnn", {}, "the one head `objects`, and has 2 and classes"),
        ("mask_rcnn", {"heads": [OBJECTS, {"head": "border"}]}, "and has 2 and objects, border"),
        ("mask_rcnn", {"heads": [OBJECTS], "ndim": 3}, "it needs `ndim: 2`"),
        ("unet", {"heads": [OBJECTS]}, "`objects` is for mask_rcnn; unet tells"),
        (
            "mask_rcnn",
            {"heads": [{"head": "objects", "names": ["a", "a"]}]},
            "class 'a' is named twice",
        ),
    ],
)
def test_wrong_cards_are_refused(architecture: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as error:
        parse_card(card_content(architecture, {}, **fields), "card")
    assert message in str(error.value)
