"""What an archive holds, without a recipe: each image as it would be ingested, each refusal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from pipeline.errors import ImageError
from pipeline.image import ImageInfo
from pipeline.sources.archive import expand
from pipeline.sources.base import SourceSpec, open_source
from pipeline.sources.formats import BY_READER, format_of, split_suffix
from pipeline.sources.names import distinct_names
from pipeline.sources.ome_xml import metadata_elsewhere
from pipeline.sources.refusal import refusal, require_pixels
from pipeline.sources.tiff import open_tiff
from pipeline.storage import AnyPath, StorePath, path_of

#: What a pyramid adds to level 0.
PYRAMID = 4 / 3


@dataclass(frozen=True, slots=True)
class Inspected:
    """One image of an archive.

    Parameters
    ----------
    spec : SourceSpec
    info : ImageInfo
    levels : tuple of (int, int)
        (Y, X) of the levels of the file's own pyramid.
    stored_bytes : int
        Of the file, or of the folder; of its first image only, where it holds several.
    lost : str
        What is known of the image elsewhere, and is not read; else empty.
    """

    spec: SourceSpec
    info: ImageInfo
    levels: tuple[tuple[int, int], ...]
    stored_bytes: int
    lost: str = ""

    @property
    def pixel_bytes(self) -> int:
        """Of all pixels of level 0."""
        return math.prod(self.info.shape) * np.dtype(self.info.dtype).itemsize

    @property
    def written_bytes(self) -> int:
        """Of the OME-Zarr that a run would write of it with its pyramid, before compression.

        An OME-Zarr is read where it is, unless the recipe says otherwise.
        """
        return 0 if self.spec.reader == "ome_zarr" else int(self.pixel_bytes * PYRAMID)

    @property
    def format_name(self) -> str:
        return (format_of(path_of(self.spec.path).name) or BY_READER[self.spec.reader]).name

    def as_json(self) -> dict[str, object]:
        """For machines."""
        info = self.info
        return {
            "name": self.spec.name,
            "path": self.spec.path,
            "series": self.spec.series,
            "reader": self.spec.reader,
            "axes": info.axes,
            "shape": dict(zip("tczyx", info.shape, strict=True)),
            "dtype": info.dtype,
            "channels": list(info.channels),
            "pixel_size_um": dict(zip("zyx", info.pixel_size_um, strict=True)),
            "time_step_s": info.time_step_s,
            "origin_um": dict(zip("zyx", info.origin_um, strict=True)),
            "levels": [list(level) for level in self.levels],
            "chunks": dict(zip("tczyx", info.chunks, strict=True)),
            "cheap_reads": BY_READER[self.spec.reader].reads,
            "stored_bytes": self.stored_bytes,
            "pixel_bytes": self.pixel_bytes,
            "written_bytes": self.written_bytes,
            "lost": self.lost,
        }


def inspect_files(specs: Iterable[SourceSpec]) -> list[Inspected | ImageError]:
    """Open every image of some files; a file that cannot be read gives its error.

    Images are called as a first run calls them, which names those that it refuses, too.
    """
    found = [item for spec in specs for item in _inspect_file(spec)]
    found.sort(key=lambda item: (item[0].path, item[0].series))
    named = distinct_names([spec for spec, _ in found])
    return [
        replace(item, spec=spec) if isinstance(item, Inspected) else item
        for spec, (_, item) in zip(named, found, strict=True)
    ]


def _inspect_file(spec: SourceSpec) -> list[tuple[SourceSpec, Inspected | ImageError]]:
    try:
        images = expand(spec)
        size = stored_bytes(path_of(spec.path))
    except Exception as error:  # as in a run, whatever a library raises costs this file alone
        return [(spec, refusal(spec, error))]
    return [(one, _inspect(one, 0 if number else size)) for number, one in enumerate(images)]


def _inspect(spec: SourceSpec, size: int) -> Inspected | ImageError:
    try:
        with open_source(spec) as source:
            require_pixels(source.info, spec.path)
            return Inspected(spec, source.info, source.level_sizes, size, _lost(spec))
    except Exception as error:
        return refusal(spec, error)


def _lost(spec: SourceSpec) -> str:
    """What a companion of an OME-TIFF says that has pixels only."""
    if spec.reader != "tiff" or not split_suffix(spec.path)[1].lower().startswith(".ome"):
        return ""
    with open_tiff(spec.path) as tif:
        elsewhere = metadata_elsewhere(tif.ome_metadata or "")
    return (
        f"channel names, sizes and order of planes in {elsewhere}, which is not read; each file "
        "of its set is an image of its own"
        if elsewhere
        else ""
    )


def stored_bytes(path: AnyPath) -> int:
    """Bytes of a file, or of all files in a folder; 0 where they cannot be listed."""
    if isinstance(path, StorePath):
        head = path.head()
        if head is not None:
            return head.size
        return sum(item.size for item in path.walk()) if path.can_list else 0
    if not path.is_dir():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
