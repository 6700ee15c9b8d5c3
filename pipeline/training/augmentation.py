"""How patches are varied, as a recipe says it: each key is a strength, 0 leaves it out.

Needs no torch. What is done is in `pipeline.training.geometry` and `pipeline.training.looks`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from pipeline.nets.parts import Part

Strength = Annotated[float, Field(ge=0)]
Chance = Annotated[float, Field(ge=0, le=1)]


class Augmentation(Part):
    """Geometry first, then how the image looks.

    `flips`: mirror axes. `turns`: quarter turns in the plane. `rotation_deg`: turn by up to so many
    degrees either way. `zoom`: smallest and largest scale, drawn evenly in its logarithm; for a
    model that is to work with several objectives. `elastic_px`: standard deviation of a smooth
    displacement, whose control points are `elastic_grid_px` apart. `resampled`: how often rotation,
    zoom and displacement are drawn at all; the other patches keep the image's own pixels, whose
    noise and edges no interpolation has smoothed, as the model will see them in use.

    `blur_px`: up to this standard deviation, in half of the patches. `gain`: brightness by up to
    2 to the power of it, either way. `offset`: added, up to so much of the normalised range.
    `gamma`: exponent up to 2 to the power of it. `noise`: up to this standard deviation.
    `invert`: how often bright and dark change places. `hue_deg`, `stain`: for red, green and blue:
    turn colours, and scale how much of each stain there is by up to 1 + `stain`.

    References
    ----------
    Simard, Steinkraus, Platt, Best practices for convolutional neural networks, ICDAR 2003,
    doi:10.1109/ICDAR.2003.1227801 (elastic)
    Tellez and others, Quantifying the effects of data augmentation and stain color normalization,
    Medical Image Analysis 58, 2019, doi:10.1016/j.media.2019.101544 (stain)
    """

    flips: bool = True
    turns: bool = True
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    elastic_px: Strength = 0.0
    elastic_grid_px: Annotated[float, Field(gt=0)] = 32.0
    resampled: Chance = 1.0
    blur_px: Strength = 0.0
    gain: Strength = 0.5
    offset: Strength = 0.0
    gamma: Strength = 0.0
    noise: Strength = 0.05
    invert: Chance = 0.0
    hue_deg: Annotated[float, Field(ge=0, le=180)] = 0.0
    stain: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @property
    def unsampled(self) -> Augmentation:
        """The same without what needs interpolation."""
        return self.model_copy(update={"rotation_deg": 0.0, "zoom": (1.0, 1.0), "elastic_px": 0.0})

    @model_validator(mode="after")
    def _ordered(self) -> Augmentation:
        low, high = self.zoom
        if not 0 < low <= high:
            raise ValueError(f"zoom: {low:g} to {high:g}; the smaller positive number comes first")
        return self


#: Nothing is varied.
NONE = Augmentation(flips=False, turns=False, gain=0, noise=0)
