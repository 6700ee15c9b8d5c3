"""Training recipes: which network learns what from which images, as a YAML file. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, JsonValue, ValidationError, model_validator

from pipeline.errors import ModelError, RecipeError
from pipeline.nets.architectures.presets import SMALL, SMALL_DETECTORS
from pipeline.nets.card import FOREIGN, ModelCard, parse_card
from pipeline.nets.heads import AnyHead, BorderHead, ClassesHead, ObjectsHead
from pipeline.nets.normalisation import AnyNormalisation, Percentiles
from pipeline.nets.parts import Part
from pipeline.recipe_file import find_file, read_file, recipes_folder
from pipeline.training.augmentation import Augmentation
from pipeline.training.losses.terms import AnyTerm, defaults
from pipeline.training.sections import (
    ComputeSection,
    Count,
    DataSection,
    OptimiserSection,
    SamplingSection,
    SourceSection,
    ValidationSection,
)
from pipeline.validation import all_wrong, explained, unknown_key, valid_keys

FOLDER = "training"
#: Losses that learn from tags.
OF_TAGS = ("tags", "seeds")


class TrainingRecipe(Part):
    """A whole training recipe.

    `name`, `description`: of the model. `architecture`: one of `pipeline.nets.architectures`.
    `arguments`: for the architecture; by default those of its small preset. `ndim`: 2 for planes,
    3 for volumes. `channels`: names of the input channels, in their order. `heads`: what the
    output channels are to mean. `normalisation`: of grey values, as on the model's card.
    `pixel_size_um`: of the images, for the card. `data`: where images and labels lie. `source`:
    how they are read. `losses`: by head, what is summed, see `pipeline.training.losses`.
    `sampling`: which patches a step sees. `augmentation`: how patches are changed. `optimiser`:
    how weights are moved. `steps`: of training. `validation`: images that judge. `compute`: on
    what. `seed`: of all that is drawn. `decoding`: sections `preprocess`, `segment` and
    `postprocess` of the recipe that turns the network's outputs into labels, both to score it and
    to use it; a method that needs a model gets this one; by default what suits the heads.
    `licence`, `training_data`, `authors`, `cite`: for the card.
    """

    name: str = Field(default="", pattern=r"^[A-Za-z0-9_.-]*$")
    description: str = ""
    architecture: str
    arguments: dict[str, JsonValue] | None = None
    ndim: Literal[2, 3] = 2
    channels: tuple[str, ...] = Field(min_length=1)
    heads: tuple[AnyHead, ...]
    normalisation: AnyNormalisation = Percentiles(kind="percentiles")
    pixel_size_um: float | tuple[float, ...] | None = None
    data: DataSection = DataSection()
    source: SourceSection = SourceSection()
    losses: dict[str, tuple[AnyTerm, ...]] = Field(default_factory=dict)
    sampling: SamplingSection = SamplingSection()
    augmentation: Augmentation = Augmentation()
    optimiser: OptimiserSection = OptimiserSection()
    steps: Count = 1000
    validation: ValidationSection = ValidationSection()
    compute: ComputeSection = ComputeSection()
    seed: int = Field(default=0, ge=0)
    decoding: dict[str, JsonValue] = Field(default_factory=dict)
    licence: str | None = None
    training_data: str = ""
    authors: tuple[str, ...] = ()
    cite: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> TrainingRecipe:
        if self.architecture in FOREIGN:
            raise ValueError(f"architecture: {self.architecture!r} is made by other programs")
        self._check_losses()
        if not any(isinstance(head, ClassesHead | BorderHead | ObjectsHead) for head in self.heads):
            raise ValueError(
                "heads: they do not tell objects from background; they need a head `classes` or "
                "`border`"
            )
        self._check_weak()
        for head in self.heads:
            if isinstance(head, ClassesHead):
                self._check_classes(head)
            elif self.data.objects is None:
                raise ValueError(
                    f"heads: {head.head} is learned from objects, and data.objects is null"
                )
        if self.balance == "objects" and self.data.objects is None:
            raise ValueError("sampling.balance: objects, and data.objects is null; use classes")
        if len(self.patch_sides) != self.ndim:
            raise ValueError(f"sampling.patch_px: {len(self.patch_sides)} for {self.ndim} axes")
        return self

    def _check_weak(self) -> None:
        """Whether the heads can be learned from the weak labels."""
        terms = [term for head in self.heads for term in self.losses.get(head.head, ())]
        told = [term.named for term in terms if term.named in OF_TAGS]
        if told and self.data.tags is None:
            raise ValueError(f"losses: {told[0]} learns from tags, and data.tags is not given")
        if not self.data.is_weak:
            return
        kind, _ = self.data.weak
        if self.data.objects is not None and self.data.classes is not None:
            raise ValueError(
                f"data: images with masks judge what {kind} teach, by objects or by classes; set "
                "the other one to null"
            )
        if kind == "boxes":
            self._check_boxes()
            return
        other = [head.head for head in self.heads if not isinstance(head, ClassesHead)]
        if other:
            raise ValueError(
                f"heads: {other[0]} is learned from whole objects, which {kind} do not tell; use "
                "boxes, or the one head `classes`"
            )
        if any(term.maps for term in terms):
            raise ValueError(f"losses: border weights are of objects, which {kind} do not tell")
        if kind == "tags":
            self._check_tags(told)

    def _check_boxes(self) -> None:
        if self.ndim != 2:
            raise ValueError("data.boxes: GrabCut cuts planes; use scribbles for volumes")
        if self.data.objects is None:
            raise ValueError("data.boxes: objects judge what is learned; name data.objects")
        if len(self.channels) not in (1, 3):
            raise ValueError(
                f"data.boxes: GrabCut takes one channel or three, not {len(self.channels)}"
            )
        for head in self.heads:
            if isinstance(head, ObjectsHead) and len(head.names) > 1:
                raise ValueError("data.boxes: all objects are of one kind; the head names several")

    def _check_tags(self, told: list[str]) -> None:
        if self.class_head().background is None:
            raise ValueError("data.tags: the head needs a background, which no tag names")
        if "tags" not in told:
            raise ValueError("data.tags: losses.classes needs the term `tags`, to learn from them")
        rule = self.augmentation
        cuts = {
            "zoom": rule.zoom[1] > 1,
            "rotation_deg": rule.rotation_deg > 0,
            "turns": rule.turns and len(set(self.patch_sides[-2:])) > 1,
        }
        for key, is_cut in cuts.items():
            if is_cut:
                raise ValueError(
                    f"augmentation.{key}: moves parts of an image out of the patch, and a tag is "
                    "true of a whole image; leave it out"
                )

    def class_head(self) -> ClassesHead:
        """The head of classes; a recipe of scribbles or tags has one."""
        return next(head for head in self.heads if isinstance(head, ClassesHead))

    @property
    def balance(self) -> str:
        """`sampling.balance`; where weak labels tell classes alone, these instead of objects."""
        told = self.data.is_weak and self.data.weak[0] != "boxes"
        chosen = self.sampling.balance
        return "classes" if told and chosen == "objects" else chosen

    def _check_losses(self) -> None:
        kinds = [head.head for head in self.heads]
        for kind in self.losses:
            if kind not in kinds:
                known = ", ".join(kinds)
                raise ValueError(f"losses: {kind!r} is none of the heads ({known})")
        if "objects" in self.losses:
            raise ValueError("losses: a detector has its own; leave out `objects`")
        for head in self.heads:
            given = self.losses.get(head.head, ())
            names = [term.named for term in given]
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"losses: {head.head} has {twice} twice; leave out one of them")
            for term in given:
                term.check(head, self.ndim)
            if given and min(term.from_step for term in given) > 0:
                raise ValueError(f"losses: no term of {head.head} counts from the first step on")
            for term in given:
                if term.from_step >= self.steps:
                    raise ValueError(
                        f"losses: {term.named} joins at step {term.from_step} of {self.steps}"
                    )

    def _check_classes(self, head: ClassesHead) -> None:
        if head.activation != "softmax":
            raise ValueError(f"heads: classes are trained with softmax, not {head.activation}")
        if self.data.classes is None and (len(head.names) != 2 or head.background is None):
            raise ValueError(
                "heads: objects tell two classes, background and object. For "
                f"{len(head.names)} classes name their images in data.classes"
            )

    @property
    def patch_sides(self) -> tuple[int, ...]:
        """Sides of a patch in px, one an axis."""
        given = self.sampling.patch_px
        return (given,) * self.ndim if isinstance(given, int) else given

    @property
    def network_arguments(self) -> dict[str, Any]:
        """Arguments of the architecture, beside numbers of channels."""
        if self.arguments is not None:
            return dict(self.arguments)
        presets = {**SMALL, **SMALL_DETECTORS}
        chosen = "unet_3d" if self.ndim == 3 else self.architecture
        found = presets.get(chosen, {})
        return {key: list(x) if isinstance(x, tuple) else x for key, x in found.items()}

    def terms(self, head: AnyHead) -> tuple[AnyTerm, ...]:
        """What the loss of a head sums."""
        return self.losses.get(head.head) or defaults(head)

    def card(self, **facts: Any) -> ModelCard:
        """The card of the model, with what is known by now.

        Raises
        ------
        ModelError
            If architecture and heads do not fit together.
        """
        content = {
            "format": 1,
            "name": self.name,
            "description": self.description,
            "architecture": self.architecture,
            "arguments": self.network_arguments,
            "ndim": self.ndim,
            "channels": self.channels,
            "heads": [head.model_dump() for head in self.heads],
            "normalisation": self.normalisation.model_dump(),
            "pixel_size_um": self.pixel_size_um,
            "weights": "weights.safetensors",
            "licence": self.licence,
            "training_data": self.training_data or None,
            "authors": self.authors,
            "cite": self.cite,
            **facts,
        }
        return parse_card(content, self.name)

    def identity(self) -> str:
        """What decides the weights, as canonical JSON: not its words, nor how patches are made."""
        words = {"description", "licence", "training_data", "authors", "cite"}
        content = self.model_dump(mode="json", exclude=words)
        del content["data"]["memory_gib"], content["compute"]["producers"]
        return json.dumps(content, sort_keys=True)


def load_training_recipe(name_or_path: str) -> TrainingRecipe:
    """Read a training recipe from a YAML file, or by its name in configs/training.

    Raises
    ------
    RecipeError
        With the file, the key, the value and what would be valid.
    """
    folder = recipes_folder() / FOLDER
    path = find_file(name_or_path, folder, shipped_training_recipes(), "training recipe")
    return parse_training_recipe(read_file(path), str(path), path.stem)


def parse_training_recipe(
    content: object, where: str, default_name: str = "model"
) -> TrainingRecipe:
    """Validate a training recipe's content; `where` names it in messages."""
    if not isinstance(content, Mapping):
        raise RecipeError(f"{where}: a recipe is a mapping of keys, not {type(content).__name__}.")
    if "architecture" not in content and "segment" in content:
        raise RecipeError(f"{where}: a recipe of runs; `tilewright train` needs one for training.")
    try:
        recipe = TrainingRecipe.model_validate({"name": default_name, **content})
    except ValidationError as error:
        raise RecipeError(all_wrong(error, where, _explain)) from error
    try:
        recipe.card()
    except ModelError as error:
        raise RecipeError(f"{where}: {error}") from error
    return recipe


def shipped_training_recipes() -> list[str]:
    """Names of the shipped training recipes."""
    return sorted(path.stem for path in (recipes_folder() / FOLDER).glob("*.yaml"))


def _explain(item: Any) -> str:
    """One validation error as a line: key, what is wrong, what would be right."""
    if item["type"] != "extra_forbidden":
        return explained(item, "recipe")
    location = [str(part) for part in item["loc"]]
    return unknown_key(location, valid_keys(TrainingRecipe, location[:-1]))
