"""Which label images an OME-Zarr image lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zarr

from pipeline.sources.ome_zarr_metadata import ome_attributes

LABELS = "labels"


def label_names(image: Path) -> list[str]:
    """Names of the labels of an OME-Zarr image; empty where it has none.

    Raises
    ------
    Exception
        Zarr's own, and those of JSON, if the metadata are damaged.
    """
    if not (image / LABELS).is_dir():
        return []
    group = zarr.open_group(image / LABELS, mode="r", use_consolidated=False)
    listed: Any = ome_attributes(dict(group.attrs)).get("labels", [])
    return [str(name) for name in listed] if isinstance(listed, list) else []
