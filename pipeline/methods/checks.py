"""Conditions that several methods put on an image."""

from __future__ import annotations

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


def or_full(connectivity: int | None, ndim: int) -> int:
    """The connectivity, or the one that joins pixels at corners."""
    return full_connectivity(ndim) if connectivity is None else connectivity
