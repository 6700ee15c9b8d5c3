"""Small networks, of 0.1 to 1 million parameters, that train on a CPU in minutes.

They are arguments for `build`: fewer channels than the papers', the same layers and total strides
except where a comment says so.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Arguments by architecture; "unet_3d" is `unet` in three dimensions.
SMALL: Mapping[str, Mapping[str, object]] = {
    "fcn": {"stride": 8, "width": 8, "dense_channels": 128},
    # Three levels: nuclei are small, and the total stride is 8.
    "unet": {"depth": 3, "base_channels": 16},
    "unet_3d": {"dims": 3, "depth": 2, "base_channels": 8},
    "segnet": {"width": 8},
    "deeplab": {"backbone": "resnet18", "width": 12, "output_stride": 8},
    "pspnet": {"backbone": "resnet18", "width": 12},
    "refinenet": {"backbone": "resnet18", "width": 12, "block_channels": 16, "pooling_steps": 2},
    # Three blocks down, a total stride of 8.
    "fc_densenet": {"layout": (2, 3, 4, 5), "growth": 8, "first_channels": 16},
}

SMALL_DETECTORS: Mapping[str, Mapping[str, object]] = {
    # Anchors for objects of 10 to 100 px.
    "mask_rcnn": {
        "backbone": "resnet18",
        "backbone_width": 16,
        "anchor_px": (8, 16, 32, 64, 128),
        "width": 32,
        "head_width": 128,
    },
}


def architecture_of(preset: str) -> str:
    """Name of the architecture that a preset's arguments are for."""
    return "unet" if preset == "unet_3d" else preset
