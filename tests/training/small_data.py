"""Images of discs, and recipes that learn from them in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.training.dataset import Dataset, load_dataset
from pipeline.training.frames import Shelf
from pipeline.training.loop import Training
from pipeline.training.recipe import TrainingRecipe, parse_training_recipe
from pipeline.training.trainee import trainee_of

SIDE = 48


def discs(seed: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image (Y, X), uint8, and its objects, uint16."""
    random = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.uint16)
    y, x = np.indices(labels.shape)
    for number in range(1, 7):
        cy, cx, r = random.uniform(0, side), random.uniform(0, side), random.uniform(4, 8)
        labels[((y - cy) ** 2 + (x - cx) ** 2 < r * r) & (labels == 0)] = number
    image = 40 + 120 * (labels > 0) + random.normal(0, 10, labels.shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_pairs(folder: Path, count: int = 6) -> Path:
    for k in range(count):
        image, labels = discs(k)
        save(folder / "images" / f"{k}.png", image)
        save(folder / "labels" / f"{k}.png", labels)
    return folder


def content(**changes: Any) -> dict[str, Any]:
    """A recipe of a tiny network."""
    return {
        "architecture": "unet",
        "arguments": {"depth": 1, "base_channels": 4},
        "channels": ["dna"],
        "heads": [{"head": "border"}, {"head": "distance", "unit": "normalised"}],
        "sampling": {"patch_px": 32, "batch": 2},
        "optimiser": {"warmup_steps": 2, "learning_rate": 0.01},
        "steps": 8,
        "validation": {"fraction": 0.4, "every_steps": 8},
        "compute": {"threads": 1},
        **changes,
    }


def recipe(**changes: Any) -> TrainingRecipe:
    return parse_training_recipe(content(**changes), "recipe", "tiny")


def dataset(data: Path, of: TrainingRecipe, memory: int = 2**30) -> Dataset:
    return load_dataset(data, of, trainee_of(of).maps, Shelf(memory, data.parent / "shelf"))


def training(data: Path, out: Path, of: TrainingRecipe, **more: Any) -> Training:
    loaded = dataset(data, of)
    return Training(of, trainee_of(of), loaded, out / "checkpoints", out / "scratch", **more)
