"""Train the detectors in configs/models, and the network of classes that `panoptic` puts under one.

    python docs/make_detectors.py COLLECTION [NAME ...] [--minutes 25]

COLLECTION is a folder with `images` and `labels` of the same names, such as the training part of
BBBC038 (CC0). `mask_rcnn-small` sees its grey fluorescence images, `mask_rcnn-tissue` and
`unet-tissue` its stained tissue, in colours. The models show what the methods do with little; they
are not meant to be the best.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from skimage import io
from torch import nn
from torch.nn import functional

from pipeline.nets.architectures import build
from pipeline.nets.architectures.presets import SMALL, SMALL_DETECTORS
from pipeline.nets.card import ModelCard
from pipeline.nets.model_folder import write_model
from pipeline.nets.normalisation import Percentiles, normalise

CROP_PX = 192
BATCH = 4
FOLDER = Path(__file__).parent.parent / "configs" / "models"
#: Classes of tissue; the first two are told apart by a rule, not by annotation: see `classes_of`.
CLASSES = ("clear", "tissue", "nucleus")
COLORS = ((245, 245, 245), (233, 150, 190), (70, 40, 150))
DATA = "BBBC038v1 stage 1 train, {part} (CC0), by docs/make_detectors.py"

Pair = tuple[np.ndarray, np.ndarray]


def read_pairs(collection: Path, tissue: bool) -> list[Pair]:
    """Normalised images (C, Y, X) of one kind, and their instances (Y, X)."""
    found = []
    for path in sorted((collection / "images").glob("*.png")):
        image = io.imread(path)
        colours = image[..., :3] if image.ndim == 3 else np.stack([image] * 3, axis=-1)
        coloured = np.ptp(colours.astype(int), axis=2).max() > 0
        if coloured != tissue or (not coloured and np.median(colours) > 100):
            continue  # of the other kind, or bright field
        planes = np.moveaxis(colours, -1, 0)[: 3 if tissue else 1]
        rule = Percentiles(kind="percentiles")
        low, high = np.percentile(planes, [rule.low, rule.high], axis=(1, 2))
        labels = io.imread(collection / "labels" / path.name)
        found.append((normalise(planes, rule.terms(low, high)), labels.astype(np.int32)))
    return found


def crops(pairs: list[Pair], random: np.random.Generator) -> Iterator[Pair]:
    """Random crops, enlarged or reduced, turned, mirrored and with other contrast, for ever."""
    while True:
        image, labels = pairs[random.integers(len(pairs))]
        factor = 2 ** random.uniform(-0.5, 0.5)
        image = ndimage.zoom(image, (1, factor, factor), order=1)
        labels = ndimage.zoom(labels, factor, order=0)
        pad = [(0, max(0, CROP_PX - n)) for n in labels.shape]
        # What is not known is empty, so that no object has a mirrored twin.
        image = np.pad(image, [(0, 0), *pad], mode="edge")
        labels = np.pad(labels, pad)
        y, x = (random.integers(n - CROP_PX + 1) for n in labels.shape)
        cut = (slice(y, y + CROP_PX), slice(x, x + CROP_PX))
        turns, flip = random.integers(4), random.integers(2)
        one = np.rot90(image[:, *cut], turns, axes=(1, 2))[:, :, :: 1 - 2 * flip]
        goal = np.rot90(labels[cut], turns)[:, :: 1 - 2 * flip]
        gain = 2 ** random.uniform(-0.5, 0.5)
        noise = random.normal(0, random.uniform(0, 0.05), one.shape)
        yield (one * gain + noise).astype(np.float32), np.ascontiguousarray(goal)


def target(labels: np.ndarray) -> dict[str, torch.Tensor]:
    """Boxes, classes and masks of the instances of a crop, as torchvision takes them."""
    boxes, masks = [], []
    for number in np.unique(labels[labels > 0]):
        mask = labels == number
        y, x = np.nonzero(mask)
        if len(y) < 12:
            continue  # hardly anything of it is in the crop
        boxes.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
        masks.append(mask)
    return {
        "boxes": torch.tensor(np.array(boxes, np.float32).reshape(-1, 4)),
        "labels": torch.ones(len(boxes), dtype=torch.int64),
        "masks": torch.from_numpy(np.array(masks, np.uint8).reshape(-1, CROP_PX, CROP_PX)),
    }


def detector_loss(network: nn.Module) -> Callable[[list[Pair]], torch.Tensor]:
    # Small crops hold few objects: fewer samples are as good and several times faster.
    network.net.roi_heads.fg_bg_sampler.batch_size_per_image = 128
    network.net.rpn._pre_nms_top_n["training"] = 500
    network.net.rpn._post_nms_top_n["training"] = 500

    def loss(pairs: list[Pair]) -> torch.Tensor:
        images = [torch.from_numpy(image) for image, _ in pairs]
        parts = network(images, [target(labels) for _, labels in pairs])
        return torch.stack(list(parts.values())).sum()

    return loss


def classes_of(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Class of every pixel: nuclei by annotation; clear is what is as light as the lightest."""
    green = ndimage.gaussian_filter(image[1], 2)
    light = np.percentile(green, 98)
    return np.where(labels > 0, 2, np.where(green > light - 0.1, 0, 1))


def classes_loss(network: nn.Module) -> Callable[[list[Pair]], torch.Tensor]:
    def loss(pairs: list[Pair]) -> torch.Tensor:
        images = torch.from_numpy(np.stack([image for image, _ in pairs]))
        wanted = np.stack([classes for _, classes in pairs])
        return functional.cross_entropy(network(images), torch.from_numpy(wanted).long())

    return loss


def train(
    network: nn.Module,
    loss_of: Callable[[list[Pair]], torch.Tensor],
    pairs: list[Pair],
    minutes: float,
) -> float:
    """AdamW with a falling step, for so long on one core; the mean loss of the last batches."""
    samples = crops(pairs, np.random.default_rng(0))
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-4)
    begun, last, steps = time.process_time(), [], 0
    while (part := (time.process_time() - begun) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * min(1, (steps + 1) / 50) * 0.5 * (1 + np.cos(np.pi * part))
        loss = loss_of([next(samples) for _ in range(BATCH)])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        last, steps = [*last[-49:], loss.item()], steps + 1
        if steps % 100 == 0:
            print(f"{100 * part:.0f} %, step {steps}, loss {np.mean(last):.3f}", flush=True)
    return float(np.mean(last))


def make(name: str, collection: Path, minutes: float) -> None:
    architecture, variant = name.split("-")
    tissue = variant == "tissue"
    pairs = read_pairs(collection, tissue)
    channels = ("red", "green", "blue") if tissue else ("nuclei",)
    torch.manual_seed(0)
    if architecture == "mask_rcnn":
        arguments, classes = SMALL_DETECTORS[architecture], 2
        head: dict[str, Any] = {"head": "objects", "names": ["nucleus"]}
        looks = detector_loss
    else:
        arguments, classes = SMALL[architecture], len(CLASSES)
        head = {"head": "classes", "names": CLASSES, "background": None, "colors": COLORS}
        head["things"] = ["nucleus"]
        looks = classes_loss
        pairs = [(image, classes_of(image, labels)) for image, labels in pairs]
    network = build(architecture, len(channels), classes, arguments)
    count = sum(p.numel() for p in network.parameters())
    print(f"{name}: {len(pairs)} images, {count / 1e6:.2f} M parameters", flush=True)
    loss = train(network, looks(network), pairs, minutes)
    seen = "stained tissue" if tissue else "fluorescent nuclei"
    card = ModelCard(
        format=1,
        name=name,
        description=f"A small {architecture} for {seen}: shows the architecture.",
        architecture=architecture,
        arguments={k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()},
        ndim=2,
        channels=channels,
        heads=[head],
        normalisation={"kind": "percentiles"},
        weights="weights.safetensors",
        licence="CC0-1.0",
        training_data=DATA.format(part="H&E" if tissue else "fluorescence"),
        scores={"training_loss": round(loss, 4)},
        device="CPU",
        seconds=60 * minutes,
    )
    write_model(FOLDER / name, network.eval(), card)
    print(f"{name}: loss {loss:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collection", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--minutes", type=float, default=25)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.names or ["mask_rcnn-small", "mask_rcnn-tissue", "unet-tissue"]:
        make(name, given.collection, given.minutes)


if __name__ == "__main__":
    main()
