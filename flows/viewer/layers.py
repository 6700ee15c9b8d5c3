"""What the viewer shows of one image: its channels, every label, the probabilities of classes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import zarr

from flows.viewer.contrast import Contrast, contrasts, is_color
from flows.viewer.images import Places
from flows.viewer.multiscale import Multiscale, color_of, open_multiscale
from pipeline.errors import ViewError
from pipeline.label_rows import label_rows
from pipeline.manifest import ImageRow
from pipeline.output import FRAGMENTS, LABELS, PROBABILITIES, place_of
from pipeline.sources.ome_zarr_metadata import ome_attributes
from pipeline.storage.folders import is_group
from pipeline.storage.zarr_store import zarr_place

log = logging.getLogger(__name__)

Layer = dict[str, Any]

#: Channels that are shown at first, one over the other, and their colours where nobody chose any.
COLORS = ("#0000ff", "#00ff00", "#ff0000", "#ffff00")
RED_GREEN_BLUE = ("#ff0000", "#00ff00", "#0000ff")
WHITE = "#ffffff"
#: What metadata of others raise that are not as the specification has them.
MALFORMED = (AttributeError, KeyError, TypeError, ValueError)
#: How much labels cover of the image.
OBJECTS_ALPHA = 0.35
CLASSES_ALPHA = 0.3

PROBABILITY = Contrast((0, 1), (0, 1))

SHADER = """#uicontrol invlerp contrast
#uicontrol vec3 color color(default="{color}")
void main() {{
  emitRGB(color * contrast());
}}
"""


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of one image.

    Parameters
    ----------
    shown : list of dict
        As the viewer's state has them.
    multiscale : Multiscale
        What gives all of them their space.
    left_out : list of str
        What cannot be shown, and why.
    """

    shown: list[Layer]
    multiscale: Multiscale
    left_out: list[str]


def make_layers(row: ImageRow, places: Places, missing_chunks: str, base: str) -> Layers:
    """Describe all that belongs to an image.

    Parameters
    ----------
    row : ImageRow
        A published image.
    places : Places
    missing_chunks : str
        As in the recipe.
    base : str
        URL of the image: its folders are served at image/ and results/ below it.

    Raises
    ------
    ViewError
        Nothing of it can be shown.
    """
    left_out: list[str] = []
    layers: list[Layer] = []
    spaces: list[Multiscale] = []
    try:
        image = _open_image(row, places, base)
        layers += _channels(image, row, contrasts(row, missing_chunks))
        spaces.append(image)
    except ViewError as error:
        left_out.append(f"The image is not shown: {error}.")
    for name in _label_names(row, places):
        try:
            labels = open_multiscale(places.results, f"{LABELS}/{name}", f"{base}results/")
            layers.append(_label(labels, name, base))
            spaces.append(labels)
        except (ViewError, *MALFORMED) as error:
            left_out.append(f"Labels {name} are not shown: {error}.")
    for one in label_rows(row):
        place = place_of(PROBABILITIES, one.details["label"])
        if not is_group(places.results / place):
            continue
        try:
            found = open_multiscale(places.results, place, f"{base}results/")
            layers += _probabilities(found, one)
        except ViewError as error:
            left_out.append(f"Probabilities are not shown: {error}.")
    if not spaces:
        raise ViewError(" ".join(left_out))
    return Layers(list(_named_apart(layers)), spaces[0], left_out)


def class_names(attributes: Mapping[str, Any]) -> dict[int, str]:
    """Names of label values, where a label image has any."""
    properties = attributes.get("image-label", {}).get("properties", [])
    return {int(one["label-value"]): str(one["name"]) for one in properties if "name" in one}


def _open_image(row: ImageRow, places: Places, base: str) -> Multiscale:
    if places.image is None:
        raise ViewError(
            "only the labels were written, and its source is no OME-Zarr that can be read"
        )
    image = open_multiscale(places.image, "", f"{base}image/")
    t, c, z, y, x = row.details["shape"]
    known = {"t": t, "c": c, "z": z, "y": y, "x": x}
    if any(image.sizes.get(axis, 1) != n for axis, n in known.items()):
        raise ViewError(f"{row.source} is not the image any more that was segmented")
    return image


def _channels(image: Multiscale, row: ImageRow, brightness: Sequence[Contrast]) -> Iterator[Layer]:
    """One layer a channel, added up: each has its own brightness and can be hidden."""
    names = [str(name) for name in row.details["channels"]]
    if len(names) == 1 and names[0].isdecimal():
        names = ["image"]
    colors = _channel_colors(image, len(names), is_color(row))
    for channel, name in enumerate(names):
        yield {
            **_channel(image, channel, name, colors[channel], brightness[channel]),
            "visible": channel < len(COLORS),
        }


def _channel(image: Multiscale, channel: int, name: str, color: str, brightness: Contrast) -> Layer:
    layer: Layer = {
        "type": "image",
        "name": name,
        "source": image.url,
        "shader": SHADER.format(color=color),
        "shaderControls": {
            "contrast": {"range": list(brightness.shown), "window": list(brightness.found)}
        },
        "codeVisible": False,
        "tab": "rendering",
        "blend": "additive",
        "opacity": 1.0,
    }
    if "c" in image.axes:  # which the viewer takes for a place on an axis of the layer's own
        layer |= {"localDimensions": {"c'": [1, ""]}, "localPosition": [channel]}
    return layer


def _channel_colors(image: Multiscale, count: int, in_color: bool) -> list[str]:
    if in_color:
        return [RED_GREEN_BLUE[i % 3] for i in range(count)]
    if count == 1:
        return [WHITE]
    given = _omero(image)
    return [
        f"#{given[i]['color']}"
        if i < len(given) and _is_color(given[i].get("color"))
        else COLORS[i % len(COLORS)]
        for i in range(count)
    ]


def _omero(image: Multiscale) -> list[dict[str, Any]]:
    """What the file says of its channels; another writer's may be anything."""
    omero = image.attributes.get("omero")
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    found = channels if isinstance(channels, list) else []
    return [one if isinstance(one, dict) else {} for one in found]


def _is_color(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) == 6
        and not set(value.lower()) - set("0123456789abcdef")
    )


def _label_names(row: ImageRow, places: Places) -> list[str]:
    """The run's own labels first, then all others that are listed beside it."""
    own = [str(one.details["label"]) for one in label_rows(row)]
    try:
        group = zarr.open_group(
            zarr_place(places.results / LABELS), mode="r", use_consolidated=False
        )
        found: Any = ome_attributes(dict(group.attrs)).get("labels", [])
    except Exception as error:  # the run's own is known without a list
        log.info("view: the labels of %s are not listed: %s", row.name, error)
        found = []
    return list(dict.fromkeys([*own, *map(str, found)]))


def _label(labels: Multiscale, name: str, base: str) -> Layer:
    """Objects in any colours; classes in their own, with their names."""
    layer: Layer = {
        "type": "segmentation",
        "name": name,
        "source": labels.url,
        "selectedAlpha": OBJECTS_ALPHA,
        "notSelectedAlpha": OBJECTS_ALPHA / 4,
        "visible": not name.endswith(f"_{FRAGMENTS}"),
        "tab": "rendering",
    }
    meta = labels.attributes.get("image-label", {})
    colors = {str(one["label-value"]): color_of(one["rgba"]) for one in meta.get("colors", [])}
    if colors:
        layer |= {"segmentColors": colors, "selectedAlpha": CLASSES_ALPHA}
    if class_names(labels.attributes):
        layer["tab"] = "segments"
        layer["source"] = [labels.url, f"{base}classes/{quote(name)}/|neuroglancer-precomputed:"]
    return layer


def _probabilities(found: Multiscale, row: ImageRow) -> Iterator[Layer]:
    """One hidden layer a class, in its colour."""
    for channel, (name, *color) in enumerate(row.details["classes"]):
        layer = _channel(found, channel, f"P({name})", color_of(color), PROBABILITY)
        yield {**layer, "visible": False}


def _named_apart(layers: Iterable[Layer]) -> Iterator[Layer]:
    """Layers whose names are different: a channel may be called as a label is."""
    taken: set[str] = set()
    for layer in layers:
        name, number = layer["name"], 1
        while name in taken:
            number += 1
            name = f"{layer['name']} ({number})"
        taken.add(name)
        yield {**layer, "name": name}
