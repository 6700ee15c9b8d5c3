"""OME-Zarr plates (HCS), 0.4 and 0.5: their wells and fields, as their metadata list them.

Folders are not searched: what is not listed does not belong to the plate, and what is listed and
not there is a fault of that well or field alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.sources.ome_zarr_metadata import in_words, ome_attributes
from pipeline.sources.parts import Site
from pipeline.storage import AnyPath

#: Names of rows, columns and fields become folders: none may lead elsewhere.
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class PlateImage:
    """A field of a plate; or what of it cannot be read.

    Parameters
    ----------
    place : str
        In the plate, "A/1/0"; "" is the plate.
    site : Site or None
        None where it is no field.
    fault : str
        Why it cannot be read; else empty.
    """

    place: str
    site: Site | None
    fault: str = ""


def group_attributes(folder: AnyPath) -> Mapping[str, Any]:
    """The OME part of the attributes of a zarr group of either format.

    Raises
    ------
    OSError, ValueError
        They are not there, or no JSON object.
    """
    path = folder / "zarr.json"
    if path.is_file():
        document = json.loads(path.read_bytes())
        attributes = document.get("attributes", {}) if isinstance(document, dict) else None
    if not path.is_file() or (attributes == {} and (folder / ".zattrs").is_file()):
        attributes = json.loads((folder / ".zattrs").read_bytes())
    if not isinstance(attributes, dict):
        raise ValueError("its attributes are no JSON object")  # noqa: TRY004 - as json's own
    return ome_attributes(attributes)


def plate_images(folder: AnyPath, plate: str) -> Iterator[PlateImage]:
    """The fields of a plate, well by well in the order of its metadata.

    Parameters
    ----------
    folder : Path or StorePath
    plate : str
        How the plate is called.
    """
    try:
        found = _object(group_attributes(folder)["plate"], "its plate")
        wells = _listed(found["wells"], "wells")
    except (OSError, ValueError, KeyError, RecursionError) as error:
        yield PlateImage("", None, f"its plate metadata are not understood: {in_words(error)}")
        return
    seen: set[str] = set()
    for number, well in enumerate(wells):
        path = str(well.get("path") if isinstance(well, Mapping) else well)
        names = path.split("/")
        if len(names) != 2 or not all(PLAIN.fullmatch(name) for name in names):
            fault = f"its plate metadata call well {number} {path!r:.40}, which is no row/column"
            yield PlateImage("", None, fault)
        elif path not in seen:
            seen.add(path)
            yield from _well_images(folder / path, Site(plate, names[0], names[1]))


def _well_images(folder: AnyPath, well: Site) -> Iterator[PlateImage]:
    place = f"{well.row}/{well.column}"
    try:
        images = _object(group_attributes(folder)["well"], "its well")["images"]
        fields = [_field(_object(image, "an image")) for image in _listed(images, "images")]
    except (OSError, ValueError, KeyError, RecursionError) as error:
        fault = f"well {well.well} is listed in its plate, and its metadata are not understood: "
        yield PlateImage(place, None, fault + in_words(error))
        return
    for name, acquisition in dict(fields).items():
        site = Site(well.plate, well.row, well.column, name, acquisition)
        # A store is not asked for each of thousands: opening the field says the same.
        there = not isinstance(folder, Path) or (folder / name).is_dir()
        fault = "" if there else f"field {name} is listed in well {well.well}, and is not there"
        yield PlateImage(f"{place}/{name}", site, fault)


def _listed(items: object, what: str) -> Sequence[Any]:
    if not isinstance(items, Sequence) or isinstance(items, str) or not items:
        raise ValueError(f"it lists no {what}")
    return items


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} is {value!r:.40}, no JSON object")  # noqa: TRY004
    return value


def _field(image: Mapping[str, Any]) -> tuple[str, int | None]:
    name, acquisition = image["path"], image.get("acquisition")
    if not isinstance(name, str) or not PLAIN.fullmatch(name):
        raise ValueError(f"{name!r:.40} is no name of a field")
    return name, acquisition if isinstance(acquisition, int) else None
