"""Architectures by name: each maps (N, C, *S) to logits (N, classes, *S).

==============  ======================  ============================  ==============
name            paper                   total stride, px              whole image
==============  ======================  ============================  ==============
`fcn`           Long 2015               32                            -
`unet`          Ronneberger 2015, 3D:   2 ** depth                    norm: instance
                Çiçek 2016                                            or group
`segnet`        Badrinarayanan 2017     32                            -
`deeplab`       Chen 2017 (DeepLabv3)   output_stride (8 or 16)       image_pooling
`pspnet`        Zhao 2017               8                             bins
`refinenet`     Lin 2017                32                            -
`fc_densenet`   Jégou 2017              2 ** blocks on the way down   -
==============  ======================  ============================  ==============

S is (Y, X) or, for `unet` of 3 dimensions, (Z, Y, X); its sides are multiples of the total stride
(`padding.pad_to_stride` makes them so). Where the last column is empty, a logit depends on pixels
near it alone, and on neither its position nor the size of the window. What looks at the whole
image is one of the layers `nn.AdaptiveAvgPool2d`, `nn.InstanceNorm*` and `nn.GroupNorm`.

`mask_rcnn` (He 2017) is a detector: it gives objects, see `mask_rcnn.MaskRCNN` and
`pipeline.nets.detector`.

Weights are drawn anew, from torch's generator: nothing is ever downloaded.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pipeline.errors import ModelError
from pipeline.names import nearest

if TYPE_CHECKING:
    from torch import nn

#: Where each class is, so that a network needs no more than its own imports.
ARCHITECTURES: Mapping[str, str] = {
    "fcn": "fcn:FCN",
    "unet": "unet:UNet",
    "segnet": "segnet:SegNet",
    "deeplab": "deeplab:DeepLab",
    "pspnet": "pspnet:PSPNet",
    "refinenet": "refinenet:RefineNet",
    "fc_densenet": "fc_densenet:FCDenseNet",
}
#: Those that find objects and have no output channels.
DETECTORS: Mapping[str, str] = {"mask_rcnn": "mask_rcnn:MaskRCNN"}


def build(name: str, in_channels: int, classes: int, arguments: Mapping[str, object]) -> nn.Module:
    """Make a network with weights drawn from torch's generator.

    Parameters
    ----------
    name : str
        A key of `ARCHITECTURES` or `DETECTORS`.
    in_channels, classes : int
        Channels of the image and of the logits; of a detector, the background and the kinds of
        objects.
    arguments : mapping
        Keyword arguments of the class; those left out have the paper's values.

    Returns
    -------
    nn.Module
        In training mode, on torch's default device.

    Raises
    ------
    ModelError
        The name or an argument is unknown, a value is out of range, or torch is not installed.
    """
    kind = architecture(name)
    known = [key for key in inspect.signature(kind.__init__).parameters if key != "self"][2:]
    for key in arguments:
        if key not in known:
            raise ModelError(
                f"architecture {name}: unknown argument {key!r}{nearest(key, known)}. "
                f"It takes {', '.join(known)}."
            )
    try:
        return kind(in_channels=in_channels, classes=classes, **arguments)
    except ValidationError as error:
        given = {"in_channels": in_channels, "classes": classes, **arguments}
        key = str(error.errors()[0]["loc"][0])
        wrong = ", or: ".join(each["msg"] for each in error.errors() if each["loc"][0] == key)
        raise ModelError(f"architecture {name}: {key} is {given[key]!r}: {wrong}.") from error
    except ValueError as error:
        raise ModelError(f"architecture {name}: {error}") from error


def architecture(name: str) -> type[nn.Module]:
    """Find the class of an architecture.

    Raises
    ------
    ModelError
        Nothing has this name, or torch or torchvision is not installed.
    """
    every = {**ARCHITECTURES, **DETECTORS}
    if name not in every:
        raise ModelError(
            f"unknown architecture {name!r}{nearest(name, every)}. Known are {', '.join(every)}."
        )
    file, _, kind = every[name].partition(":")
    try:
        module = importlib.import_module(f"{__name__}.{file}")
    except ModuleNotFoundError as error:
        raise ModelError(
            f"architecture {name} needs {error.name}, which is not installed: "
            "pip install 'tilewright[nets]'."
        ) from error
    found: type[nn.Module] = getattr(module, kind)
    return found
