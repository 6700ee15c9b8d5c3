"""Conditions that several methods put on an image."""

from __future__ import annotations

import numpy as np

from pipeline.errors import MethodError
from pipeline.kernels.components import AXES_APART, full_connectivity
from pipeline.methods.base import Context


def check_single_channel(context: Context) -> None:
    """Refuse an image of which several channels are selected."""
    if context.channels != 1:
        raise MethodError(
            context.name,
            f"the method takes one channel, {context.channels} are selected",
            "Choose one in the recipe, for example `source: {channels: [0]}`.",
        )


def check_connectivity(connectivity: int | None, context: Context) -> None:
    """Refuse a connectivity that the frame's dimensions do not have."""
    valid = AXES_APART[context.grid.ndim]
    if connectivity is not None and connectivity not in valid:
        raise MethodError(
            context.name,
            f"segment.connectivity {connectivity} does not exist in {context.grid.ndim}D",
            f"Use one of {', '.join(map(str, valid))}.",
        )


def check_label_image(key: str, context: Context) -> None:
    """Refuse a companion that is no label image of the same size."""
    companion = context.companions[key]
    if companion.info is None or np.dtype(companion.info.dtype).kind not in "iub":
        raise MethodError(
            context.name,
            f"its {key} file {companion.path} is no image of whole numbers",
            "Give a label image: 0 is nothing, every other number one object.",
        )
    t, c, *space = companion.info.shape
    own = context.info.shape
    if c != 1 or (t, *space) != (own[0], *own[2:]):
        raise MethodError(
            context.name,
            f"its {key} file {companion.path} has (T, C, Z, Y, X) = {companion.info.shape}, the "
            f"image has {own}",
            "They must be equal, with one channel of labels.",
        )


def check_spacing(field: str, spacing: tuple[float, ...] | None, context: Context) -> None:
    """Refuse sizes of a pixel that are not one an axis of a frame."""
    if spacing is not None and len(spacing) != context.grid.ndim:
        raise MethodError(
            context.name,
            f"{field} has {len(spacing)} entries, a frame has {context.grid.ndim} axes",
            "Give one entry an axis, or use other source.dims.",
        )


def or_full(connectivity: int | None, ndim: int) -> int:
    """The connectivity, or the one that joins pixels at corners."""
    return full_connectivity(ndim) if connectivity is None else connectivity
