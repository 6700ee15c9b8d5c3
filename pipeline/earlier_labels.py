"""Label images that a recipe has made before, as later labels of the same recipe see them.

They lie in the staging folder, so they are read as companions are: a label image of the image's own
size. What they hold follows from the request alone, so they have no fingerprint of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipeline.companions import Companion
from pipeline.image import ImageInfo
from pipeline.output import LABELS, place_of
from pipeline.sources import SourceSpec
from pipeline.storage import AnyPath


def staged_labels(root: AnyPath, used: Mapping[str, str], info: ImageInfo) -> dict[str, Companion]:
    """The companions that earlier labels are.

    Parameters
    ----------
    root : Path or StorePath
        The staged group.
    used : dict
        What each is for -> name of the label, as `Method.earlier_labels` gives them.
    info : ImageInfo
        The image.
    """
    t, _, z, y, x = info.shape
    of_labels = replace(
        info,
        shape=(t, 1, z, y, x),
        dtype="uint32",
        axes=info.axes.replace("c", ""),
        channels=("0",),
    )
    return {key: _staged(root, name, of_labels) for key, name in used.items()}


def _staged(root: AnyPath, name: str, info: ImageInfo) -> Companion:
    path = str(root / place_of(LABELS, name))
    return Companion(path, "", SourceSpec("ome_zarr", path, name), info)
