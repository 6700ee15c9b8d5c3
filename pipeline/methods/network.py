"""Networks that say something of every pixel: classes, borders, distances, flows.

    [survey] -> [statistics of frames] -> outputs of blocks in scratch -> classes, objects

What they say is published as classes or probabilities, or as objects: components of classes here,
or touching objects split by the watershed, which takes a network for its `foreground`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from pipeline.blocks import block_grid, view_of_blocks
from pipeline.errors import MethodError
from pipeline.grid import TileGrid
from pipeline.image import ImageInfo
from pipeline.methods.base import Context, Round, State
from pipeline.methods.classifier import OutputKind
from pipeline.methods.soft import SoftClassifier
from pipeline.nets.card import ModelCard, check_channels
from pipeline.nets.device import Precision
from pipeline.nets.facts import FLOPS_PER_SECOND, LIBRARY_BYTES, Facts, facts_of
from pipeline.nets.margins import epsilon_of_most, uncertain_pixels
from pipeline.nets.reading import (
    OBJECTNESS_REACH_PX,
    background_class,
    class_names,
    class_scores,
    objectness,
)
from pipeline.nets.reference import ModelReference, PixelModel, is_identity
from pipeline.nets.rounds import (
    CHECKED,
    CHECKED_PIXELS,
    DEVICES,
    DONE,
    EPSILON,
    HALVINGS,
    MARGINS,
    NEAR,
    PIXELS,
    Infer,
    Statistic,
)
from pipeline.nets.settings import SCORES, Settings, statistic_key
from pipeline.nets.survey import is_dataset_wide, is_surveyed, survey
from pipeline.nets.variants import Augmentation
from pipeline.nets.zoom import AUTO, AnyZoom, check_pixel_size, zoom_for_objects, zoom_for_pixels
from pipeline.view import TileView

#: Sides of a block that are tried, and what a block may take of memory.
BLOCKS_PX = {2: (2048, 1024, 512, 256, 128), 3: (128, 96, 64, 48, 32)}
BLOCK_BYTES = 2**30
#: Windows that are read or wait before the network, and as many behind it.
QUEUED = 2


class Network(SoftClassifier):
    """A network, by its model.

    `model`: the name of a shipped model or the path of one; several are averaged. `block_px`: side
    of the blocks that it is evaluated on; by default what takes 1 GiB. `augment`: see every block
    mirrored ("flips") or turned ("rotations") too, and average. `precision`: "float32", "tf32",
    "bf16" or "fp16"; what it costs is in the certificate. `batch`: windows at once, which decides
    last digits; by default 1 on a CPU, and on a GPU what keeps it busy and fits into its memory.
    `object_classes`: by default all classes of the model but its background. `zoom`: how large the
    model sees the image: 0.125, 0.25, 0.5, 1, 2, 4 or 8 of its pixels for one along every axis, one
    for all models or one each; "auto" follows from pixel sizes in planes, the image's and the
    card's. `object_px`: typical diameter of the objects; the zoom follows from the sizes that each
    model was trained on. Other fields: see `Classifier`, `SoftClassifier`.

    The same bits for any tiling, see `pipeline.blocks`; the certificate bounds how far they
    are from one pass over the whole frame.
    """

    method: Literal["network"]
    model: tuple[PixelModel, ...]
    output: OutputKind = "labels"
    block_px: int | None = Field(default=None, ge=16, le=8192)
    augment: tuple[Augmentation, ...] = ()
    precision: Precision = "float32"
    batch: int | None = Field(default=None, ge=1, le=1024)
    zoom: AnyZoom = 1.0
    object_px: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    dims: ClassVar[tuple[int, ...]] = (2, 3)

    @field_validator("model", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        # Not by `min_length`, which a wrong name would break, too: pydantic leaves it out first.
        if isinstance(given, list | tuple) and not given:
            raise ValueError("there is none; name at least one")
        return given if isinstance(given, list | tuple) and not hasattr(given, "path") else (given,)

    @model_validator(mode="after")
    def _zoom_is_known(self) -> Self:
        if self.object_px is not None and self.zoom != 1.0:
            raise ValueError("zoom: it follows from object_px; leave out one of them")
        if isinstance(self.zoom, tuple) and len(self.zoom) != len(self.model):
            raise ValueError(f"zoom: {len(self.zoom)} numbers for {len(self.model)} models")
        if self.zoom == AUTO:
            for card in self.cards:
                check_pixel_size(card)
        _ = self.zooms  # raises where a card does not tell sizes
        return self

    @model_serializer(mode="wrap")
    def _shown(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        if is_identity(info):
            # These fields came later: where they say nothing, recipes keep their identity.
            for key in ("zoom", "object_px"):
                if getattr(self, key) == type(self).model_fields[key].default:
                    del found[key]
        return found

    @model_validator(mode="after")
    def _models_agree(self) -> Self:
        first = self.cards[0]
        for card in self.cards[1:]:
            for field in ("ndim", "channels", "heads"):
                if getattr(card, field) != getattr(first, field):
                    raise ValueError(
                        f"model: {card.name} and {first.name} differ in their {field}, so that "
                        "their outputs cannot be averaged"
                    )
        if "rotations" in self.augment and len(set(self.stride_px[-2:])) > 1:
            raise ValueError(
                f"augment: the model's total stride is {self.stride_px} px, so that planes cannot "
                "be turned; use `augment: [flips]`"
            )
        return self

    @property
    def cards(self) -> tuple[ModelCard, ...]:
        return tuple(model.card for model in self.model)

    @property
    def zooms(self) -> tuple[float, ...]:
        """The zoom of every model; 1 where an image is still to decide it."""
        if self.object_px is not None:
            return tuple(zoom_for_objects(card, self.object_px) for card in self.cards)
        if isinstance(self.zoom, tuple):
            return self.zoom
        return (1.0 if self.zoom == AUTO else self.zoom,) * len(self.model)

    @property
    def seen(self) -> tuple[ModelReference, ...]:
        """The models, each at its zoom."""
        return tuple(model.at(zoom) for model, zoom in zip(self.model, self.zooms, strict=True))

    @property
    def facts(self) -> tuple[Facts, ...]:
        return tuple(facts_of(model) for model in self.seen)

    def for_image(self, info: ImageInfo, name: str) -> Self:
        if self.zoom != AUTO:
            return self
        found = tuple(zoom_for_pixels(card, info.pixel_size_um, name) for card in self.cards)
        zoom = found[0] if len(set(found)) == 1 else found
        return self.model_copy(update={"zoom": zoom})

    def class_count(self) -> int:
        return len(class_names(self.cards[0]))

    def default_names(self) -> tuple[str, ...]:
        return class_names(self.cards[0])

    def model_round(self, state: State, context: Context) -> Round | None:
        if DONE in state:
            return None
        settings = self.settings
        for number, card in enumerate(settings.cards):
            step = survey(card.normalisation, settings.normalisation_key(number), state, context)
            if step is not None:
                return step
        for member, (model, _) in enumerate(settings.members):
            for number in range(self.facts[model].statistics):
                if statistic_key(member, number) not in state:
                    return Statistic(settings, member, number)
        return Infer(settings)

    @property
    def settings(self) -> Settings:
        """How the models are run; the same for every image and tiling."""
        return Settings(
            self.seen,
            self.cards,
            self.block_sides,
            self.stride_px,
            self.augment,
            self.precision,
            self.batch,
        )

    @property
    def stride_px(self) -> tuple[int, ...]:
        """The smallest multiple of the total strides of all models."""
        return tuple(
            math.lcm(*sides) for sides in zip(*(f.stride_px for f in self.facts), strict=True)
        )

    @property
    def block_sides(self) -> tuple[int, ...]:
        """Side of a block on every axis: given, or the largest that its memory allows."""
        facts = self.facts
        sides: tuple[int, ...] = BLOCKS_PX[self.cards[0].ndim]
        if max(self.zooms) > 1:
            sides = (*sides, sides[-1] // 2, sides[-1] // 4)
        for side in [self.block_px] if self.block_px else sides:
            block = tuple(-(-side // s) * s for s in self.stride_px)
            if max(f.window_bytes(block) for f in facts) <= BLOCK_BYTES:
                break
        return block

    def scores(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.float64]:
        return self._class_scores(view, halo_px).astype(np.float64, order="C")

    def classify(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.uint8]:
        if self.smoothing is not None:
            return super().classify(view, state, halo_px)
        best = self._class_scores(view, halo_px).argmax(axis=0)
        classes: NDArray[np.uint8] = (best + 1).astype(np.uint8)
        valid = view.valid(halo_px)
        return classes if valid is None else classes * valid

    tells_objectness: ClassVar[bool] = True

    def objectness(self, view: TileView, halo_px: int = 0) -> NDArray[np.float32]:
        reach = halo_px + OBJECTNESS_REACH_PX
        found = objectness(self.cards[0], self._outputs(view, reach))
        return found[view.window(halo_px).within(view.window(reach))]

    def _class_scores(self, view: TileView, halo_px: int) -> NDArray[np.float32]:
        return class_scores(self.cards[0], self._outputs(view, halo_px))

    def _outputs(self, view: TileView, halo_px: int) -> NDArray[np.float32]:
        return view_of_blocks(view, SCORES, self._blocks(view.grid), halo_px)

    def _blocks(self, grid: TileGrid) -> TileGrid:
        return block_grid(grid, self.block_sides)

    def mask(self, view: TileView, state: State, halo_px: int = 0) -> NDArray[np.bool_]:
        if self.object_classes is not None:
            return super().mask(view, state, halo_px)
        background = background_class(self.cards[0])
        classes = self.classify(view, state, halo_px)
        found: NDArray[np.bool_] = (classes != background) & (classes > 0)
        return found

    def check(self, context: Context) -> None:
        super().check(context)
        for card in self.cards:
            check_channels(card, context.channels, context.name)
            if card.ndim != context.grid.ndim:
                raise MethodError(
                    context.name,
                    f"the model {card.name} is for {card.ndim}D, frames are {context.grid.ndim}D",
                    "Use another model, or other source.dims.",
                )
        if (self.batch or 1) > 1 and any(facts.statistics for facts in self.facts):
            raise MethodError(
                context.name,
                f"batch is {self.batch}, and a model looks at statistics of the whole frame, so "
                "that its windows come one by one",
                "Leave out batch.",
            )

    def wants_gpu(self) -> bool:
        return True

    def is_dataset_wide(self) -> bool:
        return any(is_dataset_wide(card.normalisation) for card in self.cards)

    def extra_bytes(self, context: Context) -> int:
        block = block_grid(context.grid, self.block_sides).side
        frame = context.grid.shape
        window = max(facts.window_bytes(block, frame) for facts in self.facts)
        # Windows wait before the network, outputs of all ways to see them behind it.
        ways = len(self.settings.members) // len(self.model)
        floats = len(self.cards[0].channels) + ways * self.cards[0].output_channels
        queued = 4 * floats * QUEUED * max(facts.window_px(block, frame) for facts in self.facts)
        weights = sum(facts.weight_bytes for facts in self.facts)
        return LIBRARY_BYTES + weights + (self.batch or 1) * (window + queued)

    def scratch_bytes_per_px(self) -> float:
        return 4.0 + 4.0 * self.cards[0].output_channels

    def least_passes(self) -> int:
        surveyed = any(is_surveyed(card.normalisation) for card in self.cards)
        passes = [1 + self.facts[model].statistics for model, _ in self.settings.members]
        return surveyed + sum(passes) + 1

    def cpu_seconds_per_megapixel(self) -> float:
        block = self.block_sides
        flops = sum(
            facts.flops_per_px * facts.overhead(block) * (1 + facts.statistics)
            for facts in (self.facts[model] for model, _ in self.settings.members)
        )
        return flops * 1e6 / FLOPS_PER_SECOND + super().cpu_seconds_per_megapixel()

    def notes(self) -> tuple[str, ...]:
        return tuple(
            f"network {card.name}: blocks of {_sides(self.block_sides)} px, halo "
            f"{_sides(facts.halo_px)} px, {facts.overhead(self.block_sides):.2f} px computed for "
            f"one; {facts.window_bytes(self.block_sides) / 2**20:,.0f} MiB a block"
            + (f"; it sees {zoom:g} px for one" if zoom != 1 else "")
            for card, facts, zoom in zip(self.cards, self.facts, self.zooms, strict=True)
        )

    def certificate(self, state: State) -> dict[str, Any]:
        found: dict[str, Any] = {
            "exact": True,
            "rule": "one network on blocks that do not depend on tiles; halo from its layers",
            "models": [card.name for card in self.cards],
            "block_px": list(self.block_sides),
            "halo_px": [list(f.halo_px) for f in self.facts],
            "precision": self.precision,
        }
        if any(zoom != 1 for zoom in self.zooms):
            found["zoom"] = list(self.zooms)
        if DONE in state:
            epsilon, checked = float(state[EPSILON]), int(state[CHECKED_PIXELS])
            if any(facts.unpools for facts in self.facts):
                # Rounding decides where a value goes if another of its pool is equal but for it.
                found["farthest"] = epsilon
                epsilon, farther = epsilon_of_most(state[NEAR], checked, epsilon)
                found["farther_pixels"] = farther
            found |= {
                "epsilon": epsilon,
                "checked_blocks": int(state[CHECKED]),
                "checked_pixels": checked,
                "uncertain_pixels": uncertain_pixels(state[MARGINS], epsilon, int(state[PIXELS])),
                "pixels": int(state[PIXELS]),
                "devices": state[DEVICES].tolist(),
                "halved_batches": int(state[HALVINGS]),
            }
        return found


def _sides(px: Sequence[int]) -> str:
    return " x ".join(map(str, px))
