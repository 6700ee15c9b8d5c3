"""Objects that a Mask R-CNN finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.detection.detector import Detector
from pipeline.detection.method import DetectorMethod
from pipeline.methods.base import Context, Round, State
from pipeline.nets.card import ModelCard, check_channels
from pipeline.nets.facts import FLOPS_PER_SECOND, detector_facts_of
from pipeline.nets.places import missing_extra
from pipeline.nets.reference import DetectorModel
from pipeline.nets.survey import is_dataset_wide, is_surveyed, survey, terms

if TYPE_CHECKING:
    from pipeline.nets.detector import MaskRCNNDetector

#: State: the numbers of the normalisation.
NORMALISATION = "mask_rcnn.normalisation"


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
    model: DetectorModel
    score: float = Field(default=0.5, ge=0, lt=1)
    proposal_score: float = Field(default=0.05, ge=0, lt=1)
    mask_threshold: float = Field(default=0.5, gt=0, lt=1)

    dims: ClassVar[tuple[int, ...]] = (2,)

    @model_validator(mode="before")
    @classmethod
    def _no_zoom(cls, given: Any) -> Any:
        if isinstance(given, dict) and "zoom" in given:
            raise ValueError(
                "zoom: detectors see the image at its own scale, anchors and training decide which "
                "sizes are found; leave it out, or use `method: network`, which has it"
            )
        return given

    @property
    def card(self) -> ModelCard:
        return self.model.card

    def survey_round(self, state: State, context: Context) -> Round | None:
        return survey(self.card.normalisation, NORMALISATION, state, context)

    def detector(self, state: State, context: Context) -> Detector:
        found = terms(self.card.normalisation, NORMALISATION, state, context)
        offset, scale = (tuple(map(float, term)) for term in found)
        return self._detector_class()(
            self.model, offset, scale, self.score, self.proposal_score, self.mask_threshold
        )

    def _detector_class(self) -> type[MaskRCNNDetector]:
        try:
            from pipeline.nets.detector import MaskRCNNDetector  # noqa: PLC0415  needs torch
        except ImportError as error:
            raise missing_extra(error, "segment.method: mask_rcnn") from error
        return MaskRCNNDetector

    def check(self, context: Context) -> None:
        check_channels(self.card, context.channels, context.name)
        detector_facts_of(self.model)  # needs what the detector needs

    def is_dataset_wide(self) -> bool:
        return is_dataset_wide(self.card.normalisation)

    def least_passes(self) -> int:
        return super().least_passes() + is_surveyed(self.card.normalisation)

    def extra_bytes(self, context: Context) -> int:
        return detector_facts_of(self.model).memory_bytes(self.window_px(context))

    def cpu_seconds_per_megapixel(self) -> float:
        windows = (1 + 2 * self.margin_px / self.block_px) ** 2
        return detector_facts_of(self.model).flops_per_px * 1e6 / FLOPS_PER_SECOND * windows

    def certificate(self, state: State) -> dict[str, Any]:
        names = {"model": self.card.name, "classes": list(self.card.object_names)}
        return {**super().certificate(state), **names}
