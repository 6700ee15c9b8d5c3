"""Sections of a training recipe. Needs no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.nets.device import Precision
from pipeline.nets.parts import Part

WeakKind = Literal["scribbles", "boxes", "tags"]
WEAK: tuple[WeakKind, ...] = ("scribbles", "boxes", "tags")

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class GrabCutSection(Part):
    """How boxes become masks, see `pipeline.methods.grabcut`: `margin_px` around a box is what its
    background is learned from; `iterations` of learning and cutting; `seed` of the first
    clustering; `max_box_px`: pixels of a box with its margin, each takes 200 bytes."""

    margin_px: int = Field(default=8, ge=1, le=10_000)
    iterations: int = Field(default=5, ge=1, le=100)
    seed: int = Field(default=0, ge=0, lt=2**31)
    max_box_px: int = Field(default=2048 * 2048, ge=1, le=2**27)


class DataSection(Part):
    """Where images and their labels lie.

    `images`, `objects`, `classes`: folders in DATA whose files have the same names: of images, of
    images of object numbers (0 is background), and of images of class numbers (0 is the first
    class of the head). Where DATA has no folder `images`, it is searched for OME-Zarr images, and
    the other two are label images of each: "labels" its only one, "labels/nuclei" one by name.
    `only`: globs on names; others are left out. `ignore`: a class number that says nothing.
    `allow_empty`: take images without any object. `memory_gib`: what decoded images may take of
    memory; the rest lies in a file.

    Weak labels, one of the three: `scribbles`, a folder of lines or of painted images; `boxes`, a
    folder of tables or GeoJSON, which GrabCut makes objects of by `grabcut`; `tags`, a table of
    the classes that images show. Then all images that have a file in `objects` or `classes` judge,
    and the others are learned from. Images lie in a folder then, be they OME-Zarr or not. See
    `pipeline.training.weak`.
    """

    images: str = "images"
    objects: str | None = "labels"
    classes: str | None = None
    only: tuple[str, ...] = ()
    ignore: int | None = Field(default=None, ge=0)
    allow_empty: bool = False
    memory_gib: float = Field(default=2.0, ge=0)
    scribbles: str | None = None
    boxes: str | None = None
    grabcut: GrabCutSection = GrabCutSection()
    tags: str | None = None

    @model_validator(mode="after")
    def _some_labels(self) -> DataSection:
        if self.objects is None and self.classes is None:
            raise ValueError("neither objects nor classes are given; name the folder of one")
        if len(given := [kind for kind in WEAK if getattr(self, kind) is not None]) > 1:
            raise ValueError(f"{given[0]} and {given[1]} are given; use one kind of weak labels")
        return self

    @property
    def is_weak(self) -> bool:
        """Whether weak labels are learned from."""
        return any(getattr(self, kind) is not None for kind in WEAK)

    @property
    def weak(self) -> tuple[WeakKind, str]:
        """Kind of the weak labels, and where they lie."""
        return next((kind, getattr(self, kind)) for kind in WEAK if getattr(self, kind) is not None)


class SourceSection(Part):
    """`channels`: names or numbers of those that the network sees; by default all. Else as in
    recipes of runs."""

    channels: tuple[int | str, ...] | None = Field(default=None, min_length=1)
    missing_chunks: Literal["error", "fill"] = "error"


class SamplingSection(Part):
    """Which patches a step sees.

    `patch_px`: sides of a patch, one number or one an axis; multiples of the network's total
    stride. `batch`: patches a step. `balance`: "objects" puts patches on objects, each of an image
    as likely as another; "classes" on pixels of classes, each class as likely as another;
    "uniform" anywhere. `share`: part of the patches that is balanced, the others lie anywhere.
    `images`: whether images are drawn alike ("equal") or by their number of pixels ("area").
    """

    patch_px: int | tuple[int, ...] = 128
    batch: int = Field(default=8, ge=1, le=4096)
    balance: Literal["objects", "classes", "uniform"] = "objects"
    share: Share = 0.7
    images: Literal["equal", "area"] = "equal"


class OptimiserSection(Part):
    """AdamW, whose step rises from 0 in `warmup_steps` and falls to 0 as a cosine.

    `learning_rate`, `weight_decay`: AdamW's. `clip_norm`: largest norm of a gradient. `average`:
    the model that is kept is a moving average of the weights, with this part of the old one a
    step; 0 keeps the last weights.

    References
    ----------
    Loshchilov, Hutter, Decoupled weight decay regularization, ICLR 2019, arXiv:1711.05101
    """

    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    weight_decay: float = Field(default=1e-4, ge=0, le=1)
    warmup_steps: int = Field(default=50, ge=0)
    clip_norm: float | None = Field(default=5.0, gt=0)
    average: float = Field(default=0.99, ge=0, lt=1)


class ValidationSection(Part):
    """Images that are not learned from.

    `fraction`: of the images, by a hash of their names. `every_steps`: how often the model is
    scored on them. `images`: how many of them at most while training; all of them at the end.
    `patience`: stop after so many scorings without a better one; null never stops early.
    """

    fraction: float = Field(default=0.2, gt=0, lt=1)
    every_steps: Count = 200
    images: Count = 16
    patience: int | None = Field(default=None, ge=1)


class ComputeSection(Part):
    """`precision`: as in recipes of runs; 16 bits make training faster on GPUs. `threads`: of
    torch on a CPU; another number may change last digits, and with them the weights. `producers`:
    threads that make patches; never changes anything."""

    precision: Precision = "float32"
    threads: int = Field(default=2, ge=1, le=256)
    producers: int = Field(default=1, ge=1, le=64)
