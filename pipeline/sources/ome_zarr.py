"""OME-Zarr 0.4 (zarr 2) and 0.5 (zarr 3) on disk, in buckets and on the web, by zarr-python.

zarr returns its fill value where a chunk does not exist, as nobody can tell an empty chunk that
was left out from one that was lost; so the chunk files of a box are looked for before it is read,
and a store that does not hold an object raises.
Of a sharded array these are the shards: what is missing inside one, its writer left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import zarr

from pipeline.box import Box
from pipeline.errors import DamageError, ImageError, UnreadableError
from pipeline.image import AXES, ImageInfo
from pipeline.sources.base import Source, SourceSpec, os_reason
from pipeline.sources.channel_names import unique_names
from pipeline.sources.fingerprint import fingerprint_zarr
from pipeline.sources.ome_zarr_metadata import MetadataError, Multiscale, read_multiscale
from pipeline.sources.pixel_type import pixel_type
from pipeline.storage import is_inside, path_of
from pipeline.storage.zarr_store import zarr_place

CHUNK_LIMIT_BYTES = 1 << 30
METADATA_FILES = ("zarr.json", ".zattrs", ".zgroup", ".zarray")


class OmeZarrSource(Source):
    """Level 0 of the first multiscale image of a group.

    Raises
    ------
    UnreadableError
        No OME-Zarr image, an HCS plate, axes or pixels that are not read.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self.spec = spec
        self._group = path_of(spec.path) / spec.series
        try:
            self._open()
        except ImageError:
            raise
        except MetadataError as error:
            raise UnreadableError(spec.path, str(error)) from error
        except OSError as error:
            raise UnreadableError(spec.path, f"cannot be opened: {os_reason(error)}") from error
        except Exception as error:  # zarr raises its own, and those of JSON and codecs
            said = "nested too deeply" if isinstance(error, RecursionError) else f"{error}"
            raise UnreadableError(
                spec.path, f"its zarr metadata are not understood: {said}"
            ) from error

    def _open(self) -> None:
        if isinstance(self._group, Path):
            if not self._group.is_dir():
                raise UnreadableError(self.spec.path, "is not a folder, or does not exist")
            list(self._group.iterdir())  # zarr takes a folder that it may not read for an empty one
        try:
            group = zarr.open_group(zarr_place(self._group), mode="r", use_consolidated=False)
        except FileNotFoundError as error:
            raise UnreadableError(
                self.spec.path,
                f"{self._group} holds no zarr group: zarr.json or .zgroup is missing",
            ) from error
        scale = read_multiscale(dict(group.attrs))
        # The attributes come from a file: a path in them must not lead out of the group.
        self._folder = (self._group / scale.path).resolve()
        if not is_inside(self._folder, self._group.resolve()):
            raise UnreadableError(self.spec.path, f'its level 0 "{scale.path}" is not inside it')
        strict = self.spec.missing_chunks == "error"
        try:
            self._array = zarr.open_array(zarr_place(self._folder, strict=strict), mode="r")
        except FileNotFoundError as error:
            raise UnreadableError(
                self.spec.path,
                f'its level 0, "{scale.path}", is not there: {self._folder} holds no zarr array',
                "Copy it again from its origin.",
            ) from error
        self._axes, self._levels = scale.axes, scale.levels
        self._require_readable()
        self.info = self._describe(scale)

    def _require_readable(self) -> None:
        array, path = self._array, self.spec.path
        if len(self._axes) != array.ndim or len(set(self._axes)) != array.ndim:
            raise UnreadableError(
                path, f"its axes {', '.join(self._axes)} do not fit an array of {array.ndim} axes"
            )
        for axis, n in zip(self._axes, array.shape, strict=True):
            if axis not in AXES and n > 1:
                raise UnreadableError(
                    path, f'axis "{axis}" of size {n} is none of time, channel, z, y, x'
                )
        if not {"y", "x"} <= set(self._axes):
            raise UnreadableError(path, f"its axes {', '.join(self._axes)} lack y or x")
        size = math.prod(array.chunks) * array.dtype.itemsize
        if size > CHUNK_LIMIT_BYTES:
            raise UnreadableError(
                path,
                f"one chunk decodes to {size} bytes, the limit is {CHUNK_LIMIT_BYTES}",
                "Write it again in smaller chunks.",
            )

    def _describe(self, scale: Multiscale) -> ImageInfo:
        t, c, z, y, x = self._canonical(self._array.shape)
        chunks = self._canonical(self._array.chunks)
        kt, kc, kz, ky, kx = (min(a, b) for a, b in zip(chunks, (t, c, z, y, x), strict=True))
        return ImageInfo(
            shape=(t, c, z, y, x),
            dtype=pixel_type(self.spec.path, self._array.dtype),
            axes="".join(axis for axis in AXES if axis in self._axes),
            channels=unique_names(scale.channels, c),
            pixel_size_um=scale.pixel_size_um(),
            time_step_s=scale.time_step_s(),
            chunks=(max(1, kt), max(1, kc), max(1, kz), max(1, ky), max(1, kx)),
            origin_um=scale.origin_um(),
        )

    def _canonical(self, sizes: Sequence[int]) -> tuple[int, ...]:
        by_axis = dict(zip(self._axes, sizes, strict=True))
        return tuple(int(by_axis.get(axis, 1)) for axis in AXES)

    def _fill(self, out: np.ndarray, t: int, channels: Sequence[int], box: Box) -> None:
        first = 0
        for run in _runs(channels):
            wanted = {
                "t": slice(t, t + 1),
                "c": slice(run[0], run[-1] + 1),
                **dict(zip("zyx", box.slices, strict=True)),
            }
            where = tuple(wanted.get(axis, slice(0, 1)) for axis in self._axes)
            if isinstance(self._folder, Path) and self.spec.missing_chunks == "error":
                self._require_chunks(self._folder, where)
            self._put(self._read(where), out[first : first + len(run)])
            first += len(run)

    def _put(self, block: np.ndarray, out: np.ndarray) -> None:
        """Bring a block from the order of the file to (C, Z, Y, X)."""
        known = [i for i, axis in enumerate(self._axes) if axis in AXES]
        order = sorted(known, key=lambda i: AXES.index(self._axes[i]))
        rest = [i for i in range(block.ndim) if i not in known]
        out[...] = block.transpose([*rest, *order]).reshape(out.shape)

    def _read(self, where: tuple[slice, ...]) -> np.ndarray:
        try:
            return np.asarray(self._array[where])
        except FileNotFoundError as error:
            key = str(error.filename).removeprefix(f"{self._folder}/")
            raise self._missing(key) from error
        except OSError as error:
            raise UnreadableError(self.spec.path, f"cannot be read: {os_reason(error)}") from error
        except Exception as error:  # each codec has exceptions of its own
            self._name_corrupt_chunk(where)
            raise DamageError(
                self.spec.path, f"pixels {_spell(self._axes, where)} cannot be read: {error}"
            ) from error

    def _name_corrupt_chunk(self, where: tuple[slice, ...]) -> None:
        """Read the chunks of a box that failed one by one, to tell which it is."""
        for index in _grid_indices(where, self._array.chunks):
            chunk = tuple(
                slice(i * n, min((i + 1) * n, whole))
                for i, n, whole in zip(index, self._array.chunks, self._array.shape, strict=True)
            )
            try:
                self._array[chunk]
            except Exception as error:
                raise DamageError(
                    self.spec.path,
                    f"chunk {'.'.join(map(str, index))} of {self._folder.name} "
                    f"({_spell(self._axes, chunk)}) cannot be decoded: {error}",
                    "Copy it again from its origin.",
                ) from error

    def _require_chunks(self, folder: Path, where: tuple[slice, ...]) -> None:
        for index in _grid_indices(where, self._array.shards or self._array.chunks):
            key = self._array.metadata.encode_chunk_key(index)
            if not (folder / key).is_file():
                raise self._missing(key)

    def _missing(self, key: str) -> DamageError:
        return DamageError(
            self.spec.path,
            f"chunk {key} of {self._folder.name} is missing",
            "If its writer leaves out empty chunks, set source.missing_chunks: fill.",
        )

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        sizes = [self.info.shape[3:]]
        for path in self._levels[1:]:
            try:
                level = zarr.open_array(zarr_place(self._group / path), mode="r")
                shape = self._canonical(level.shape)
            except Exception:  # what is not there is not counted: it is not read
                continue
            sizes.append((shape[3], shape[4]))
        return tuple(sizes)

    def fingerprint(self) -> str:
        """Bytes of the metadata of image and level 0, and size and time of each chunk file."""
        places = [
            folder / name for folder in (self._group, self._folder) for name in METADATA_FILES
        ]
        return fingerprint_zarr([place for place in places if place.is_file()], self._folder)

    def close(self) -> None:
        """Nothing is held: zarr opens files one read at a time."""


def _runs(channels: Sequence[int]) -> Iterator[list[int]]:
    """Ascending neighbours together, so that a chunk of several channels is decoded once."""
    run: list[int] = []
    for channel in channels:
        if run and channel != run[-1] + 1:
            yield run
            run = []
        run.append(int(channel))
    if run:
        yield run


def _grid_indices(where: tuple[slice, ...], chunks: Sequence[int]) -> Iterator[tuple[int, ...]]:
    spans = (range(s.start // n, -(-s.stop // n)) for s, n in zip(where, chunks, strict=True))
    return itertools.product(*spans)


def _spell(axes: Sequence[str], where: tuple[slice, ...]) -> str:
    return ", ".join(f"{a} {s.start}-{s.stop - 1}" for a, s in zip(axes, where, strict=True))
