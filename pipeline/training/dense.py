"""Networks that say something of every pixel: one loss a head, summed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import RecipeError
from pipeline.nets.heads import BorderHead, ClassesHead, DistanceHead, Head
from pipeline.nets.opening import context_of, skeleton
from pipeline.training.frames import Floats
from pipeline.training.losses.scene import Scene
from pipeline.training.patches import Outside, Patch
from pipeline.training.recipe import TrainingRecipe
from pipeline.training.targets import MARGIN_PX, borders, distance_key, flows, whole_maps
from pipeline.training.weak.label import UNTOLD


@dataclass(frozen=True)
class DenseBatch:
    """N patches.

    Parameters
    ----------
    images : Tensor of shape (N, C, \\*P), float32
    targets : dict of Tensor
        By head: classes (N, \\*P), int64, -1 where it is not known; or values (N, K, \\*P).
    maps : dict of Tensor of shape (N, \\*P), float32
        Weights.
    colours : Tensor of shape (N, C, \\*P), float32
        Images before their look was varied, if a loss looks at them; else `images`.
    tags : Tensor of shape (N, K), int8
        Of the classes of the head `classes`; -1 where they are not known.
    step : int or None
        That the patches were drawn for; None of images that judge.
    """

    images: Tensor
    targets: dict[str, Tensor]
    maps: dict[str, Tensor]
    colours: Tensor
    tags: Tensor
    step: int | None


class DenseTrainee:
    """Trains the heads `classes`, `border`, `distance` and `flow`.

    Parameters
    ----------
    recipe : TrainingRecipe
    """

    margin_px: int = MARGIN_PX
    outside: Outside = "mirror"

    def __init__(self, recipe: TrainingRecipe) -> None:
        _check_sides(recipe)
        self._heads = recipe.heads
        self._terms = {head.head: recipe.terms(head) for head in recipe.heads}
        self._slices = recipe.card().head_slices()
        every = [term for terms in self._terms.values() for term in terms]
        self._classes = max(
            (len(h.names) for h in recipe.heads if isinstance(h, ClassesHead)), default=0
        )
        self._sees_colours = any(term.sees_colours for term in every)
        self._weights = tuple(dict.fromkeys(rule for term in every for rule in term.maps))

    def maps(self, objects: NDArray[np.int32]) -> dict[str, Floats]:
        return whole_maps(objects, self._heads, self._weights)

    def prepare(self, network: nn.Module) -> None:
        """Nothing is other than in use."""

    def batch(self, patches: Sequence[Patch], step: int | None = None) -> DenseBatch:
        targets: dict[str, Tensor] = {
            head.head: torch.from_numpy(np.stack([_target(head, one) for one in patches]))
            for head in self._heads
        }
        maps = {
            rule.key: torch.from_numpy(np.stack([one.maps[rule.key] for one in patches]))
            for rule in self._weights
        }
        images = torch.from_numpy(np.stack([one.image for one in patches]))
        colours = images
        if self._sees_colours:
            colours = torch.from_numpy(np.stack([one.colours for one in patches]))
        untold = np.full(self._classes, UNTOLD, np.int8)
        tags = np.stack([untold if one.tags is None else one.tags for one in patches])
        return DenseBatch(images, targets, maps, colours, torch.from_numpy(tags), step)

    def losses(
        self, network: nn.Module, batch: DenseBatch, device: torch.device
    ) -> dict[str, Tensor]:
        outputs = network(batch.images.to(device)).float()
        seen = Scene(
            batch.colours.to(device),
            batch.tags.to(device),
            maps={key: x.to(device) for key, x in batch.maps.items()},
        )
        return {
            name: value
            for head in self._heads
            for name, value in self._head_losses(head, outputs, batch, seen).items()
        }

    def _head_losses(
        self, head: Head, outputs: Tensor, batch: DenseBatch, seen: Scene
    ) -> dict[str, Tensor]:
        given = outputs[:, self._slices[head.head]]
        target = batch.targets[head.head].to(outputs.device)
        if isinstance(head, ClassesHead | BorderHead):
            known = (target >= 0).to(given.dtype)
            target = target.clamp(min=0)
        else:
            known = torch.ones_like(given[:, 0])
            if isinstance(head, DistanceHead) and head.activation == "sigmoid":
                given = torch.sigmoid(given)
        if isinstance(head, ClassesHead):
            seen = replace(seen, background=head.background_index or 0)
        return {
            f"{head.head} {term.named}": term.weight * term.of(given, target, known, seen)
            for term in self._terms[head.head]
            if batch.step is None or batch.step >= term.from_step
        }


def _check_sides(recipe: TrainingRecipe) -> None:
    """Raise RecipeError if patches do not suit the network."""
    card = recipe.card()
    strides = context_of(skeleton(card), card).reach.stride
    for side, stride in zip(recipe.patch_sides, strides, strict=True):
        if side % stride:
            raise RecipeError(
                f"{recipe.name}: sampling.patch_px: {side}, and sides of patches are multiples of "
                f"the network's total stride, {stride} px."
            )


def _target(head: Head, patch: Patch) -> NDArray[np.int64] | Floats:
    """What a head is to give for a patch."""
    if isinstance(head, ClassesHead):
        if patch.classes is not None:
            return patch.inner(patch.classes).astype(np.int64)
        assert patch.objects is not None
        other = 1 - (head.background_index or 0)
        return np.where(patch.inner(patch.objects) > 0, other, 1 - other).astype(np.int64)
    assert patch.objects is not None
    objects = patch.inner(patch.objects)
    if isinstance(head, BorderHead):
        return patch.inner(borders(patch.objects)).astype(np.int64)
    if isinstance(head, DistanceHead):
        scale = 1.0 if head.unit == "normalised" else patch.places.zoom
        values = patch.maps[distance_key(head)] * (objects > 0)
        return (values * np.float32(scale))[None].astype(np.float32)
    return flows(objects, patch.middles, patch.places)
