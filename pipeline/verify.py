"""Reading what was published again, and checking it against the records of the run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import zarr

from pipeline.extra_files import damaged_files
from pipeline.files import digest, digest_of_file
from pipeline.flat_field.profiles import PROFILES, damaged_profiles
from pipeline.image import ImageInfo
from pipeline.label_rows import array_row, label_rows, table_label
from pipeline.manifest import ImageRow, Manifest
from pipeline.orders import digest_levels
from pipeline.output import FRAGMENTS, GRAPHS, LABELS, PROBABILITIES, place_of, probabilities_info
from pipeline.plate_layout import is_listed
from pipeline.pyramid import Pyramid, open_level, read_shard
from pipeline.run_folder import CSV, RunFolder, site_in_plate
from pipeline.storage import AnyPath, path_of
from pipeline.storage.reading import open_file
from pipeline.storage.zarr_store import zarr_place
from pipeline.table_file import table_digest


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found.

    Parameters
    ----------
    images, arrays, shards : int
        How much was read.
    damaged : list of str
        One line for each thing that is not as it was published.
    certificates : int
        Images whose certificate says exact, and whose labels are as certified.
    """

    images: int
    shards: int
    damaged: list[str]
    certificates: int

    def text(self) -> str:
        """For the terminal."""
        lines = [f"{self.images} images, {self.shards} shards and coarse levels read."]
        if self.damaged:
            lines += [f"DAMAGED {item}" for item in self.damaged]
            lines.append(f"{len(self.damaged)} damaged; run again to make them anew.")
        else:
            lines.append(
                "Everything is as it was published; the certificate of "
                f"{self.certificates} images says tiled equals untiled."
            )
        return "\n".join(lines)


def verify_folder(out: AnyPath) -> Verified:
    """Check all published images of a run.

    Raises
    ------
    OutputError
        If the folder holds no run.
    """
    folder = RunFolder(out)
    manifest = folder.reading()
    try:
        return _verify(folder, manifest)
    finally:
        manifest.close()


def _verify(folder: RunFolder, manifest: Manifest) -> Verified:
    images = shards = certified = 0
    damaged: list[str] = []
    damaged += damaged_profiles(folder.profiles, manifest.get(PROFILES))
    open_level.cache_clear()
    for row in manifest.images():
        if row.status != "published":
            continue
        images += 1
        found = list(_damage_of(folder, manifest, row))
        shards += sum(len(manifest.shards(row.name, array)) for array in manifest.arrays(row.name))
        damaged += [f"{row.name}: {item}" for item in found]
        certified += bool(not found and row.details["certificate"].get("exact"))
    damaged += _damaged_csv(folder, manifest)
    return Verified(images, shards, damaged, certified)


def _damaged_csv(folder: RunFolder, manifest: Manifest) -> Iterator[str]:
    expected = manifest.get(CSV)
    if expected is None:
        return
    try:
        with open_file(str(folder.objects_csv)) as stream:
            if digest_of_file(stream) != expected:
                yield f"{folder.objects_csv}: the table was changed"
    except OSError as error:
        yield f"{folder.objects_csv}: the table cannot be read ({error})"


def _damage_of(folder: RunFolder, manifest: Manifest, row: ImageRow) -> Iterator[str]:
    for array in manifest.arrays(row.name):
        labelled, kind = array_row(row, array)
        try:
            pyramid = published_pyramid(labelled, kind)
        except (OSError, KeyError, ValueError) as error:
            yield f"{array}: cannot be opened ({error})"
            continue
        known = manifest.shards(row.name, array)
        yield from _damaged_shards(pyramid, array, known)
        if kind == LABELS:
            level0 = [item.split(":")[0].encode() for item in known[:-1]]
            if digest(*level0) != labelled.digest:
                yield f"{array}: the records of its shards contradict the certified digest"
    if (site := site_in_plate(row)) and not is_listed(folder.image_path(row.name, site)):
        yield f"it is not listed in the metadata of its plate {site.plate}"
    tables: dict[AnyPath, str] = {}
    if quality := row.details.get("quality_digest"):
        tables[folder.quality_path(row.name)] = quality
    for one in label_rows(row):
        tables[folder.table_path(one.name, table_label(one))] = one.details["table_digest"]
        graph = path_of(one.details["location"]) / place_of(GRAPHS, one.details["label"])
        for name, expected in one.details.get("graph", {}).items():
            tables[graph / f"{name}.parquet"] = expected
    for path, expected in tables.items():
        try:
            if table_digest(path) != expected:
                yield f"{path}: the table was changed"
        except (OSError, pa.ArrowException) as error:
            yield f"{path}: the table cannot be read ({error})"
    for one in label_rows(row):
        yield from damaged_files(folder, one)


def _damaged_shards(pyramid: Pyramid, array: str, known: list[str]) -> Iterator[str]:
    for number, expected in enumerate(known[:-1]):
        try:
            levels = [
                read_shard(pyramid, number, level) for level in range(pyramid.levels_in_shard)
            ]
            found = digest_levels(levels)
        except Exception as error:  # zarr, its codecs and numcodecs have no common base
            yield f"{array}: shard {number} cannot be read ({error})"
            continue
        if found != expected:
            yield f"{array}: shard {number} is not what was published (missing or changed)"
    coarse = range(pyramid.levels_in_shard, pyramid.levels)
    try:
        rest = digest_levels([np.asarray(open_level(pyramid.path, level)[...]) for level in coarse])
    except Exception as error:  # as above
        yield f"{array}: the coarse levels cannot be read ({error})"
        return
    if rest != known[-1]:
        yield f"{array}: the coarse levels are not what was published"


def published_pyramid(row: ImageRow, array: str) -> Pyramid:
    """The pyramid of a published array, as its own metadata describe it."""
    details: dict[str, Any] = row.details
    path = path_of(details["location"])
    if array != "image":
        path = path / place_of(array, details["label"])
    group = zarr.open_group(zarr_place(path), mode="r")
    t, c, z, y, x = details["shape"]
    info = ImageInfo(
        (t, c, z, y, x),
        details["dtype"],
        details["axes"],
        tuple(details["channels"]),
        (None, None, None),
        None,
        (1, 1, 1, y, x),
    )
    if array == PROBABILITIES:
        info = probabilities_info(info, [name for name, *_ in details["classes"]])
    levels = sum(1 for _ in group.arrays())
    first: Any = group["0"]
    kind: Literal["image", "labels"] = "labels" if array in (LABELS, FRAGMENTS) else "image"
    ndim = len(details["tile_px"])
    return Pyramid(str(path), kind, info, str(first.dtype), ndim, levels)
