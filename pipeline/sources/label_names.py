"""Which label images an OME-Zarr image lists."""

from __future__ import annotations

from typing import Any

import zarr

from pipeline.sources.ome_zarr_metadata import ome_attributes
from pipeline.storage import AnyPath
from pipeline.storage.zarr_store import zarr_place

LABELS = "labels"


def label_names(image: AnyPath) -> list[str]:
    """Names of the labels of an OME-Zarr image; empty where it has none.

    Raises
    ------
    Exception
        Zarr's own, and those of JSON, if the metadata are damaged.
    """
    if not (image / LABELS).is_dir():
        return []
    group = zarr.open_group(zarr_place(image / LABELS), mode="r", use_consolidated=False)
    listed: Any = ome_attributes(dict(group.attrs)).get("labels", [])
    return [str(name) for name in listed] if isinstance(listed, list) else []
