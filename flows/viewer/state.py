"""The viewer's state for one image: its layers in physical units, seen from its middle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flows.viewer.layers import Layer, Layers
from flows.viewer.multiscale import Multiscale
from pipeline.manifest import ImageRow

#: Width of the panel where brightness and opacity of a layer are set.
PANEL_PX = 300


@dataclass(frozen=True, slots=True)
class Start:
    """How the viewer begins.

    Parameters
    ----------
    state : dict
        In the viewer's own terms.
    extent : tuple of float
        Width and height of the image in the viewer's units of zoom; the page knows how large its
        window is, and zooms so that the image fills it.
    left_out : list of str
        What cannot be shown, and why.
    """

    state: dict[str, Any]
    extent: tuple[float, float]
    left_out: list[str]


def start_of(row: ImageRow, layers: Layers) -> Start:
    """Put layers together to what the viewer shows first."""
    space = layers.multiscale
    axes = [axis for axis in "xyzt" if axis in space.axes]
    displayed = [axis for axis in axes if axis != "t"]
    volume = len(row.details["tile_px"]) == 3
    finest = min(space.steps[axis][0] for axis in displayed)
    extent = {axis: space.sizes[axis] * space.steps[axis][0] / finest for axis in displayed}
    state = {
        "title": row.name,
        "dimensions": {axis: list(space.steps[axis]) for axis in axes},
        "displayDimensions": displayed,
        "position": [_middle(space, axis) for axis in axes],
        "projectionScale": 1.3 * max(extent.values()),
        "layers": layers.shown,
        "selectedLayer": {"layer": _selected(layers)["name"], "visible": True, "size": PANEL_PX},
        "layout": "4panel" if volume else "xy",
        "showAxisLines": False,
        "showDefaultAnnotations": False,
        "crossSectionBackgroundColor": "#000000",
        "projectionBackgroundColor": "#000000",
    }
    return Start(state, (extent["x"], extent["y"]), layers.left_out)


def _selected(layers: Layers) -> Layer:
    """What the panel begins with: the names of classes, or the brightness of the first channel."""
    named = (layer for layer in layers.shown if layer["tab"] == "segments")
    return next(named, layers.shown[0])


def _middle(space: Multiscale, axis: str) -> float:
    """Of the plane its middle, of planes the middle one, of times the first."""
    n, first = space.sizes[axis], space.first[axis]
    if axis in "xy":
        return first + (n - 1) / 2
    return first + (n // 2 if axis == "z" else 0)
