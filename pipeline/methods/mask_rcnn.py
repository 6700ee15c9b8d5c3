"""Objects that a Mask R-CNN finds."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from pipeline.detection.detector import Detector
from pipeline.detection.method import DetectorMethod
from pipeline.errors import MethodError, RecipeError
from pipeline.methods.base import Context


@dataclass(frozen=True, slots=True)
class Trained:
    """What a recipe needs of a model's card.

    Parameters
    ----------
    digest : str
        Of the folder's content.
    channels : int
    offset, scale : tuple of float
        Of each channel: (x - offset) / scale is what the network was trained on.
    """

    digest: str
    channels: int
    offset: tuple[float, ...]
    scale: tuple[float, ...]


class MaskRCNN(DetectorMethod):
    """Objects that a Mask R-CNN finds, each with its class and score.

    `model`: the name or folder of a model whose architecture is `mask_rcnn`. `score`: smallest
    probability of an object's class. `proposal_score`: smallest probability that a proposal holds
    an object at all; it takes the place of "the best 1000". `mask_threshold`: a pixel of higher
    probability belongs to the object. The other fields are those of `DetectorMethod`.

    The image is seen at its own scale: anchors and training decide which sizes are found.

    References
    ----------
    He, Gkioxari, Dollár, Girshick, Mask R-CNN, ICCV 2017, doi:10.1109/ICCV.2017.322
    """

    method: Literal["mask_rcnn"]
    model: str = Field(min_length=1)
    score: float = Field(default=0.5, ge=0, lt=1)
    proposal_score: float = Field(default=0.05, ge=0, lt=1)
    mask_threshold: float = Field(default=0.5, gt=0, lt=1)

    dims: ClassVar[tuple[int, ...]] = (2,)
    #: Of windows, by ResNet-50 on one core of a CPU.
    seconds_per_megapixel: ClassVar[float] = 7.0

    def detector(self, context: Context) -> Detector:
        detector = importlib.import_module("pipeline.nets.detector")
        trained = read_trained(self.model, context)
        found: Detector = detector.MaskRCNNDetector(
            self.model,
            trained.digest,
            trained.offset,
            trained.scale,
            self.score,
            self.proposal_score,
            self.mask_threshold,
        )
        return found

    def check(self, context: Context) -> None:
        trained = read_trained(self.model, context)
        if context.channels != trained.channels:
            raise MethodError(
                context.name,
                f"the model {self.model} takes {trained.channels} channels, {context.channels} "
                "are selected",
                "Choose them in the recipe, for example `source: {channels: [0]}`.",
            )

    def extra_bytes(self, context: Context) -> int:
        return NETWORK_BYTES + self.window_px(context) * BYTES_PER_PX

    def cpu_seconds_per_megapixel(self) -> float:
        windows = (1 + 2 * self.margin_px / self.block_px) ** 2
        return self.seconds_per_megapixel * windows


#: Measured with ResNet-50: 700 bytes a pixel of a window for its features, and pixels as floats.
BYTES_PER_PX = 800
#: Torch, the weights of ResNet-50, and 256 objects in the layers of the mask head.
NETWORK_BYTES = 1_200_000_000


def read_trained(model: str, context: Context) -> Trained:
    """Read a model's card; normalisations that need no survey of the image.

    Raises
    ------
    RecipeError
        If torch is not installed, or the card's normalisation needs a survey.
    """
    try:
        folder = importlib.import_module("pipeline.nets.model_folder")
    except ModuleNotFoundError as error:
        raise RecipeError(
            f"segment.method: mask_rcnn needs {error.name}: pip install 'tilewright[nets]'."
        ) from error
    path = folder.find_model(model)
    card = folder.read_card(path)
    kind = card.normalisation.kind
    if kind == "range":
        offset, scale = card.normalisation.terms(context.dtype, len(card.channels))
    elif kind == "fixed":
        offset, scale = card.normalisation.terms()
    else:
        raise RecipeError(
            f"segment.model: the model {model} is normalised by {kind}, which a detector does not "
            "survey. Give it a card with `normalisation: {kind: range}` or `fixed`."
        )
    numbers = (tuple(np.asarray(term, float).tolist()) for term in (offset, scale))
    return Trained(card.sha256 or "", len(card.channels), *numbers)
