"""Scoring a network on images that it has not learned from, by the recipe that would use it."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.nets.card import ModelCard
from pipeline.nets.device import autocast
from pipeline.nets.heads import ClassesHead
from pipeline.nets.model_folder import write_model
from pipeline.nets.normalisation import Fixed, MeanStd, Percentiles
from pipeline.training.agreement import Agreement, agreement, class_overlaps
from pipeline.training.decoding import run_recipe
from pipeline.training.frames import Frame
from pipeline.training.patches import Patch, grid_patches
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.state import seed_step
from pipeline.training.trainee import Trainee
from pipeline.trial import run_untiled


@dataclass(frozen=True)
class Judged:
    """One image of validation.

    Parameters
    ----------
    name : str
    pixels : ndarray of shape (F, C, \\*S)
    truth, found : ndarray of shape (F, \\*S)
        Objects, or classes from 0 where no objects are known.
    score : float
        The one that chooses weights.
    agreement : Agreement or None
        Of objects.
    """

    name: str
    pixels: NDArray[Any]
    truth: NDArray[Any]
    found: NDArray[Any]
    score: float
    agreement: Agreement | None


@dataclass(frozen=True)
class Scores:
    """Means over images.

    Parameters
    ----------
    numbers : dict
        By name, "ap50" and "iou", or "mean_iou" of classes; "loss" where it is known.
    chosen : str
        Which of them chooses weights.
    images : list of Judged
    """

    numbers: dict[str, float]
    chosen: str
    images: list[Judged] = field(default_factory=list)

    @property
    def score(self) -> float:
        return self.numbers[self.chosen]


def by_image(frames: Sequence[Frame]) -> Iterator[tuple[str, list[Frame]]]:
    """Frames of each image together."""
    for name, group in groupby(frames, key=lambda frame: frame.image):
        yield name, list(group)


def validation_loss(
    network: nn.Module,
    trainee: Trainee,
    frames: Sequence[Frame],
    recipe: TrainingRecipe,
    device: torch.device,
) -> float:
    """Mean loss of plain patches that cover the frames."""
    total, count = 0.0, 0
    with torch.no_grad(), autocast(recipe.compute.precision):
        for batch in _batches(frames, trainee, recipe):
            seed_step(recipe.seed, count)
            parts = trainee.losses(network, trainee.batch(batch), device)
            total += len(batch) * float(torch.stack(list(parts.values())).sum())
            count += len(batch)
    return total / max(1, count)


def _batches(
    frames: Sequence[Frame], trainee: Trainee, recipe: TrainingRecipe
) -> Iterator[list[Patch]]:
    waiting: list[Patch] = []
    for frame in frames:
        for patch in grid_patches(frame, recipe.patch_sides, trainee.margin_px, trainee.outside):
            waiting.append(patch)
            if len(waiting) == recipe.sampling.batch:
                yield waiting
                waiting = []
    if waiting:
        yield waiting


def candidate(
    network: nn.Module, recipe: TrainingRecipe, frames: Sequence[Frame], folder: Path
) -> tuple[Path, ModelCard]:
    """Write a network as a model to try it; what is normalised by the dataset has its numbers."""
    card = recipe.card()
    rule = card.normalisation
    if isinstance(rule, Percentiles | MeanStd) and rule.scope == "dataset":
        offset, scale = frames[0].terms
        fixed = Fixed(kind="fixed", mean=offset.tolist(), std=scale.tolist())
        card = card.model_copy(update={"normalisation": fixed})
    shutil.rmtree(folder, ignore_errors=True)
    return folder, write_model(folder, copy.deepcopy(network).cpu(), card)


def judge(
    network: nn.Module, recipe: TrainingRecipe, frames: Sequence[Frame], folder: Path
) -> Scores:
    """Segment the images of frames as a run would, and compare with their labels.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    recipe : TrainingRecipe
    frames : sequence of Frame
        Those of an image follow each other.
    folder : Path
        For the model and scratch; removed.

    Raises
    ------
    TilewrightError
        If the decoding does not apply.
    """
    try:
        model, _ = candidate(network, recipe, frames, folder / "model")
        run = run_recipe(recipe, model)
        found = []
        for name, group in by_image(frames):
            pixels = np.stack([frame.pixels for frame in group])
            # Planes are taken for time points: each is a frame by itself.
            five = pixels[:, :, None] if recipe.ndim == 2 else pixels
            labels = run_untiled(run, five, folder).labels
            found.append(_judged(name, group, pixels, labels.reshape(len(group), *group[0].shape)))
        return _scores(found, recipe)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _judged(
    name: str, group: Sequence[Frame], pixels: NDArray[Any], labels: NDArray[Any]
) -> Judged:
    if group[0].objects is None:
        truth = np.stack([np.asarray(frame.classes) for frame in group])
        return Judged(name, pixels, truth, labels.astype(np.int64) - 1, 0.0, None)
    truth = np.stack([np.asarray(frame.objects) for frame in group])
    counts = [agreement(a, b) for a, b in zip(truth, labels, strict=True)]
    total = Agreement(*(sum(getattr(c, key) for c in counts) for key in Agreement.__slots__))
    return Judged(name, pixels, truth, labels, total.precision, total)


def _scores(found: list[Judged], recipe: TrainingRecipe) -> Scores:
    counts = [one.agreement for one in found if one.agreement is not None]
    if len(counts) == len(found):
        shared, either = (sum(getattr(c, k) for c in counts) for k in ("shared_px", "either_px"))
        numbers = {
            "ap50": float(np.mean([one.score for one in found])),
            "iou": shared / either if either else 1.0,
        }
        return Scores(numbers, "ap50", found)
    head = next(h for h in recipe.heads if isinstance(h, ClassesHead))
    pairs = [class_overlaps(one.truth, one.found, len(head.names)) for one in found]
    shared_px, either_px = (np.sum([pair[k] for pair in pairs], axis=0) for k in (0, 1))
    each = shared_px / np.maximum(either_px, 1)
    numbers = {f"iou_{name}": float(x) for name, x in zip(head.names, each, strict=True)}
    return Scores({"mean_iou": float(each[either_px > 0].mean()), **numbers}, "mean_iou", found)
