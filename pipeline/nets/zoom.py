"""How large a network sees an image: a power of two, given or chosen by sizes. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator

from pipeline.errors import MethodError
from pipeline.nets.card import ModelCard

#: A power of two resamples without rounding where pixels lie.
ZOOMS = tuple(2.0**k for k in range(-3, 4))
AUTO: Literal["auto"] = "auto"


def _checked(given: Any) -> Any:
    """A zoom, or one for each model, as floats."""
    if isinstance(given, list | tuple) and given:
        return tuple(_number(one) for one in given)
    return given if given == AUTO else _number(given)


def _number(given: Any) -> float:
    if isinstance(given, bool) or given not in ZOOMS:
        known = ", ".join(f"{zoom:g}" for zoom in ZOOMS)
        raise ValueError(f"{given!r} is none of {known}, and not auto")
    return float(given)


#: In a recipe: a number, "auto", or a number for each model.
AnyZoom: TypeAlias = Annotated[
    float | Literal["auto"] | tuple[float, ...], BeforeValidator(_checked)
]


def zoom_for_objects(card: ModelCard, object_px: float) -> float:
    """The zoom at which objects of a diameter have the sizes that a model was trained on.

    Raises
    ------
    ValueError
        If the card does not tell those sizes, or no zoom is large or small enough.
    """
    if card.object_px is None:
        raise ValueError(
            f"object_px: the card of {card.name} does not tell the object_px that it was trained "
            "on; add them, or give zoom"
        )
    low, high = card.object_px
    if low <= object_px <= high:
        return 1.0
    zoom = _nearest(math.sqrt(low * high) / object_px)
    if zoom not in ZOOMS:
        raise ValueError(
            f"object_px: {object_px:g}, and {card.name} was trained on {low:g} to {high:g}, which "
            f"takes a zoom of {zoom:g}; {ZOOMS[0]:g} to {ZOOMS[-1]:g} are made. Use another model"
        )
    return zoom


def check_pixel_size(card: ModelCard) -> None:
    """Raise ValueError if a card does not tell the size of the pixels that it was trained on."""
    if card.pixel_size_um is None:
        raise ValueError(
            f"zoom: auto, and the card of {card.name} does not tell its pixel_size_um; add it, or "
            "give object_px or a number in its place"
        )


def zoom_for_pixels(
    card: ModelCard, pixel_size_um: Sequence[float | None], image: str = "image"
) -> float:
    """The zoom at which an image's pixels have the size that a model was trained on.

    Planes decide: pixel sizes of y and x, by their geometric mean.

    Parameters
    ----------
    card : ModelCard
        With a pixel size.
    pixel_size_um : (z, y, x)
        Of the image, None where it is not known.
    image : str
        For messages.

    Raises
    ------
    MethodError
        If the image's pixel size is not known, or no zoom is large or small enough.
    """
    check_pixel_size(card)
    y, x = pixel_size_um[-2:]
    if not y or not x:
        raise MethodError(
            image,
            "zoom: auto, and the file does not tell its pixel size",
            "Give object_px or a number in its place.",
        )
    size = card.pixel_size_um
    own = math.sqrt(size[-2] * size[-1]) if isinstance(size, tuple) else float(size or 0)
    given = math.sqrt(y * x)
    zoom = _nearest(given / own)
    if zoom not in ZOOMS:
        raise MethodError(
            image,
            f"zoom: auto, pixels of {given:g} um, and {card.name} was trained on {own:g} um, which "
            f"takes a zoom of {zoom:g}; {ZOOMS[0]:g} to {ZOOMS[-1]:g} are made",
            "Use another model, or give a number if the file is wrong.",
        )
    return zoom


def _nearest(ratio: float) -> float:
    """The power of two whose logarithm is nearest; of two, the larger."""
    return 2.0 ** math.floor(math.log2(ratio) + 0.5)
