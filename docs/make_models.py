"""Train the small models in configs/models: a network of each architecture, on nuclei.

    python docs/make_models.py COLLECTION [NAME ...] [--minutes 4]

COLLECTION is a folder with `images` and `labels` of the same names, such as the training part of
BBBC038 (CC0): grey fluorescence images are taken, others left out. The models show what each
architecture does with little; they are not meant to be the best.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from skimage import io, segmentation
from torch import nn
from torch.nn import functional

from pipeline.nets.architectures import build
from pipeline.nets.architectures.presets import SMALL
from pipeline.nets.card import ModelCard
from pipeline.nets.model_folder import write_model
from pipeline.nets.normalisation import Percentiles, normalise

CROP_PX = 128
BATCH = 8
HEADS = [{"head": "border"}, {"head": "distance", "unit": "normalised"}]
#: Background, inside, border.
WEIGHTS = torch.tensor([1.0, 1.0, 3.0])
FOLDER = Path(__file__).parent.parent / "configs" / "models"


def read_pairs(collection: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Normalised grey images of shape (Y, X), and their targets (2, Y, X)."""
    found = []
    for path in sorted((collection / "images").glob("*.png")):
        image = io.imread(path)
        if image.ndim == 3:
            colours = image[..., :3].astype(int)
            if np.ptp(colours, axis=2).max() > 0:
                continue
            image = image[..., 0]
        if np.median(image) > 100:
            continue  # bright field
        rule = Percentiles(kind="percentiles")
        low, high = np.percentile(image, [rule.low, rule.high])
        labels = io.imread(collection / "labels" / path.name)
        found.append((normalise(image[None], rule.terms([low], [high]))[0], targets(labels)))
    return found


def targets(labels: np.ndarray) -> np.ndarray:
    """Class 0, 1 or 2 of every pixel, and its distance to the edge: 1 in its object's middle."""
    border = segmentation.find_boundaries(labels, mode="inner")
    distance = np.zeros(labels.shape, np.float32)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        own = np.pad(labels[box] == number, 1)
        inside = ndimage.distance_transform_edt(own)[1:-1, 1:-1]
        distance[box] = np.maximum(distance[box], inside / inside.max())
    return np.stack([np.where(labels > 0, 1 + border, 0).astype(np.float32), distance])


def crops(
    pairs: list[tuple[np.ndarray, np.ndarray]], random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of random crops, turned, mirrored and with other contrast."""
    images, wanted = [], []
    while len(images) < BATCH:
        image, target = pairs[random.integers(len(pairs))]
        pad = [(0, max(0, CROP_PX - n)) for n in image.shape]
        image = np.pad(image, pad, mode="reflect") if any(b for _, b in pad) else image
        target = (
            np.pad(target, [(0, 0), *pad], mode="reflect") if any(b for _, b in pad) else target
        )
        y, x = (random.integers(n - CROP_PX + 1) for n in image.shape)
        cut = (slice(y, y + CROP_PX), slice(x, x + CROP_PX))
        turns, flip = random.integers(4), random.integers(2)
        one = np.rot90(image[cut], turns)[:, :: 1 - 2 * flip]
        goal = np.rot90(target[(slice(None), *cut)], turns, axes=(1, 2))[:, :, :: 1 - 2 * flip]
        gain = np.float32(2 ** random.uniform(-0.7, 0.7))
        noise = random.normal(0, random.uniform(0, 0.05), one.shape)
        images.append((one * gain + noise).astype(np.float32))
        wanted.append(goal)
    return torch.from_numpy(np.stack(images)[:, None]), torch.from_numpy(np.stack(wanted))


def loss_of(out: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    classes = functional.cross_entropy(out[:, :3], wanted[:, 0].long(), weight=WEIGHTS)
    return classes + functional.l1_loss(out[:, 3], wanted[:, 1])


def train(network: nn.Module, pairs: list[tuple[np.ndarray, np.ndarray]], minutes: float) -> float:
    """Adam with a falling step, for so long on one core; the mean loss of the last batches."""
    random = np.random.default_rng(0)
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-4)
    begun, last = time.process_time(), []
    while (part := (time.process_time() - begun) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * 0.5 * (1 + np.cos(np.pi * part))
        images, wanted = crops(pairs, random)
        loss = loss_of(network(images), wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        last = [*last[-49:], loss.item()]
    return float(np.mean(last))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collection", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--minutes", type=float, default=4)
    given = parser.parse_args()
    pairs = read_pairs(given.collection)
    print(f"{len(pairs)} images")
    torch.set_num_threads(1)
    for name in given.names or [name for name in SMALL if name != "unet_3d"]:
        torch.manual_seed(0)
        network = build(name, 1, 4, SMALL[name])
        loss = train(network, pairs, given.minutes)
        card = ModelCard(
            format=1,
            name=f"{name}-small",
            description=f"A small {name} for fluorescent nuclei: shows the architecture.",
            architecture=name,
            arguments={k: list(v) if isinstance(v, tuple) else v for k, v in SMALL[name].items()},
            ndim=2,
            channels=("nuclei",),
            heads=HEADS,
            normalisation={"kind": "percentiles"},
            weights="weights.safetensors",
            licence="CC0-1.0",
            training_data="BBBC038v1 stage 1 train, fluorescence (CC0), by docs/make_models.py",
            scores={"training_loss": round(loss, 4)},
            device="CPU",
            seconds=60 * given.minutes,
        )
        write_model(FOLDER / f"{name}-small", network.eval(), card)
        count = sum(p.numel() for p in network.parameters())
        print(f"{name}: {count / 1e6:.2f} M parameters, loss {loss:.3f}", flush=True)


if __name__ == "__main__":
    main()
