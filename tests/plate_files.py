"""Tiny OME-Zarr plates for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pipeline.sources.ome_zarr_metadata import ome_attributes

Place = tuple[str, str, str]


def write_plate(
    path: Path,
    fields: Mapping[Place, np.ndarray],
    version: str = "0.4",
    positions: Mapping[Place, tuple[float, float]] | None = None,
    size_um: float = 0.5,
    acquisitions: Mapping[str, int] | None = None,
) -> Path:
    """Write a plate whose fields are planes, (Y, X) or (C, Y, X).

    Parameters
    ----------
    path : Path
    fields : dict
        (row, column, field) -> pixels.
    version : {"0.4", "0.5"}
    positions : dict, optional
        (row, column, field) -> (y, x) on the stage in um.
    size_um : float
        Of a pixel.
    acquisitions : dict, optional
        field -> number of its acquisition.
    """
    wells: dict[tuple[str, str], list[str]] = {}
    for (row, column, name), pixels in fields.items():
        wells.setdefault((row, column), []).append(name)
        at = (positions or {}).get((row, column, name))
        write_image(path / row / column / name, pixels, version, at, size_um)
    rows, columns = (sorted({well[k] for well in wells}) for k in (0, 1))
    for (row, column), names in wells.items():
        known = acquisitions or {}
        images = [{"path": n, **({"acquisition": known[n]} if n in known else {})} for n in names]
        write_group(path / row / column, {"well": {"images": images}}, version)
    listed = [
        {"path": f"{r}/{c}", "rowIndex": rows.index(r), "columnIndex": columns.index(c)}
        for r, c in wells
    ]
    plate: dict[str, Any] = {
        "name": path.name,
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": listed,
    }
    if acquisitions:
        plate["acquisitions"] = [{"id": number} for number in sorted(set(acquisitions.values()))]
    for row in rows:
        write_group(path / row, {}, version)
    return write_group(path, {"plate": plate}, version)


def write_image(
    path: Path,
    pixels: np.ndarray,
    version: str,
    at: tuple[float, float] | None = None,
    size_um: float = 0.5,
) -> None:
    """Write an OME-Zarr image of one level."""
    axes = "cyx"[-pixels.ndim :]
    kind = {"c": "channel", "y": "space", "x": "space"}
    steps: list[dict[str, Any]] = [
        {"type": "scale", "scale": [1.0 if a == "c" else size_um for a in axes]}
    ]
    if at is not None:
        steps.append({"type": "translation", "translation": [0.0] * (len(axes) - 2) + [*at]})
    multiscale = {
        "axes": [
            {"name": a, "type": kind[a], **({} if a == "c" else {"unit": "micrometer"})}
            for a in axes
        ],
        "datasets": [{"path": "0", "coordinateTransformations": steps}],
    }
    if version == "0.4":
        multiscale["version"] = "0.4"
    write_group(path, {"multiscales": [multiscale]}, version)
    form: Any = 2 if version == "0.4" else 3
    separate: Any = {"name": "v2", "separator": "/"} if form == 2 else None
    zarr.create_array(
        path / "0",
        data=pixels,
        chunks=tuple(min(n, 64) for n in pixels.shape),
        zarr_format=form,
        chunk_key_encoding=separate,
        dimension_names=list(axes) if form == 3 else None,
        config={"write_empty_chunks": True},
    )


def write_group(path: Path, ome: Mapping[str, Any], version: str) -> Path:
    """Write a group and its OME attributes."""
    form: Any = 2 if version == "0.4" else 3
    group = zarr.open_group(path, mode="a", zarr_format=form)
    if not ome:
        return path
    if form == 3:
        marked = {k: {"version": version, **v} if k == "plate" else v for k, v in ome.items()}
        group.attrs["ome"] = {"version": version, **marked}
    else:
        marked = {
            k: {"version": version, **v} if isinstance(v, dict) else v for k, v in ome.items()
        }
        group.attrs.update(marked)
    return path


def ome_of(path: Path) -> dict[str, Any]:
    """The OME attributes of a group."""
    return dict(ome_attributes(dict(zarr.open_group(path, mode="r").attrs)))


def change(path: Path, ome: Any) -> None:
    """Write other OME attributes of a group of 0.4, valid or not."""
    (path / ".zattrs").write_text(ome if isinstance(ome, str) else json.dumps(ome))
