"""Plates that are published: OME-Zarr 0.5, one field after the other.

A plate's metadata list its wells, a well's its fields. A field is listed when it is in place and
struck off before it leaves; a well likewise. So whoever reads at any moment, also after a crash,
finds a whole plate of the fields that are there. One process writes; its threads take turns.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.files import digest, write_atomically
from pipeline.sources.fields import natural
from pipeline.sources.names import LONGEST_BYTES, fitting
from pipeline.sources.parts import Site
from pipeline.storage import AnyPath

GROUP = "zarr.json"
#: Field of a well that was stitched.
WHOLE_WELL = "0"

_turn = threading.Lock()


def field_folder(images: AnyPath, site: Site) -> AnyPath:
    """Where the results of a field, or of a stitched well, are published.

    Parameters
    ----------
    images : Path or StorePath
        OUT/images.
    site : Site
    """
    names = (site.row, site.column, site.field or WHOLE_WELL)
    return images / f"{fitting(site.plate)}.ome.zarr" / "/".join(map(_plain, names))


def list_field(folder: AnyPath, site: Site) -> None:
    """List a field that is in place in its well, and the well in its plate."""
    with _turn:
        well, row = folder.parent, folder.parent.parent
        plate = row.parent
        kept = [item for item in _images(well) if item["path"] != folder.name]
        made: dict[str, Any] = {"path": folder.name}
        if site.acquisition is not None:
            made["acquisition"] = site.acquisition
        images = sorted([*kept, made], key=lambda item: natural(item["path"]))
        _write_group(well, {"well": {"images": images}})
        _write_group(row, {})
        before = _plate(plate)
        content = _plate_of(site.plate.rpartition("/")[2], _wells(before) | {_place(folder)})
        known = {item["id"] for item in before.get("acquisitions", [])}
        _count(content, max(before.get("field_count", 0), len(images)), known | _ids(images))
        if content != before:
            _write_group(plate, {"plate": content})


def strike_field(folder: AnyPath) -> None:
    """Take a field that will leave out of its well, and an empty well out of its plate."""
    with _turn:
        plate, well = _plate_folder(folder), folder.parent
        left = [item for item in _images(well) if item["path"] != folder.name]
        if left:
            _write_group(well, {"well": {"images": left}})
            return
        before = _plate(plate)
        wells = _wells(before) - {_place(folder)}
        if wells:
            content = _plate_of(before["name"], wells)
            fields = [_images(plate / row / column) for row, column in wells]
            _count(content, max(map(len, fields)), _ids([item for one in fields for item in one]))
            _write_group(plate, {"plate": content})
        else:  # a plate without wells is none
            (plate / GROUP).unlink(missing_ok=True)
        (well / GROUP).unlink(missing_ok=True)


def is_listed(folder: AnyPath) -> bool:
    """Whether a field is listed in its well, and the well in its plate."""
    listed = any(item["path"] == folder.name for item in _images(folder.parent))
    return listed and _place(folder) in _wells(_plate(_plate_folder(folder)))


def _plain(name: str) -> str:
    """Letters and digits, as the format wants them; other names' bytes in hexadecimal.

    Different names stay different: in what is written so, "x" has its number, too, so that a name
    which looks like it is another one's only if it is written so itself.
    """
    if not re.fullmatch(r"[A-Za-z0-9]+", name) or re.search(r"x[0-9A-F]{2}", name):
        plain = re.sub(rb"[^A-Za-wyz0-9]", lambda found: b"x%02X" % found[0][0], name.encode())
        name = plain.decode()
    if len(name) > LONGEST_BYTES:
        name = f"{name[: LONGEST_BYTES // 2]}{digest(name.encode())}"
    return name


def _place(folder: AnyPath) -> tuple[str, str]:
    return folder.parent.parent.name, folder.parent.name


def _plate_folder(folder: AnyPath) -> AnyPath:
    return folder.parent.parent.parent


def _plate_of(name: str, wells: set[tuple[str, str]]) -> dict[str, Any]:
    rows = sorted({row for row, _ in wells}, key=lambda row: (len(row), row))
    columns = sorted({column for _, column in wells}, key=natural)
    numbered = sorted((rows.index(row), columns.index(column)) for row, column in wells)
    return {
        "name": name,
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": [
            {"path": f"{rows[i]}/{columns[j]}", "rowIndex": i, "columnIndex": j}
            for i, j in numbered
        ],
        "version": "0.5",
    }


def _count(plate: dict[str, Any], fields: int, acquisitions: set[int]) -> None:
    plate["field_count"] = fields
    if acquisitions:
        plate["acquisitions"] = [{"id": number} for number in sorted(acquisitions)]


def _ids(images: Sequence[Mapping[str, Any]]) -> set[int]:
    return {item["acquisition"] for item in images if "acquisition" in item}


def _write_group(folder: AnyPath, ome: Mapping[str, Any]) -> None:
    attributes = {"ome": {"version": "0.5", **ome}} if ome else {}
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    if not ome and (folder / GROUP).is_file():
        return
    write_atomically(folder / GROUP, json.dumps(document, indent=2).encode(), durable=True)


def _plate(plate: AnyPath) -> dict[str, Any]:
    found: dict[str, Any] = _ome(plate).get("plate", {})
    return found


def _wells(plate: Mapping[str, Any]) -> set[tuple[str, str]]:
    places = (well["path"].split("/") for well in plate.get("wells", []))
    return {(row, column) for row, column in places}


def _images(well: AnyPath) -> Sequence[dict[str, Any]]:
    found: Sequence[dict[str, Any]] = _ome(well).get("well", {}).get("images", [])
    return found


def _ome(folder: AnyPath) -> dict[str, Any]:
    """What we wrote there; empty if it is gone or was damaged, for then it is written anew."""
    try:
        found: dict[str, Any] = json.loads((folder / GROUP).read_bytes())["attributes"]["ome"]
    except (OSError, ValueError, KeyError):
        return {}
    return found
