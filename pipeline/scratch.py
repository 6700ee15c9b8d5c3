"""Scratch arrays: what a tile keeps from one round to the next.

One file an array and tile, written by that tile alone and replaced as a whole, with a digest that
is checked at every read: a lost or damaged file is an error, never background. Scratch is no
store for users; published arrays are zarr.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from pipeline.errors import WorkError
from pipeline.files import digest, write_atomically
from pipeline.records import pack, unpack
from pipeline.storage import AnyPath

Array = NDArray[Any]


class Scratch(ABC):
    """Named arrays, one a tile."""

    @abstractmethod
    def put(self, name: str, tile: int, array: Array) -> None:
        """Keep an array; the last one counts."""

    @abstractmethod
    def get(self, name: str, tile: int) -> Array:
        """The array that was put, as a copy that the caller may overwrite.

        Raises
        ------
        WorkError
            If it is missing or damaged.
        """


class MemoryScratch(Scratch):
    """Scratch of an image that is processed by one process from beginning to end."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, int], Array] = {}

    def put(self, name: str, tile: int, array: Array) -> None:
        self._arrays[name, tile] = array.copy()

    def get(self, name: str, tile: int) -> Array:
        try:
            return self._arrays[name, tile].copy()
        except KeyError as error:
            raise WorkError(f"scratch {name} of tile {tile} is missing.") from error


class FileScratch(Scratch):
    """Scratch in a folder, on disk or in a store, that all workers see."""

    def __init__(self, folder: AnyPath) -> None:
        self._folder = folder

    def _path(self, name: str, tile: int) -> AnyPath:
        return self._folder / name / str(tile // 1000) / str(tile)

    def put(self, name: str, tile: int, array: Array) -> None:
        head = pack({"shape": np.array(array.shape), "dtype": np.array(array.dtype.str)})
        # LZ4 halves and more what labels take, at several GB/s.
        body = blosc.compress(np.ascontiguousarray(array), b"lz4", 1, blosc.SHUFFLE)
        sizes = len(head).to_bytes(8, "little")
        guard = bytes.fromhex(digest(sizes, head, body))
        write_atomically(self._path(name, tile), guard + sizes + head + body)

    def get(self, name: str, tile: int) -> Array:
        path = self._path(name, tile)
        try:
            data = memoryview(path.read_bytes())
        except OSError as error:
            raise WorkError(
                f"{path}: scratch of the unfinished run is missing ({error.strerror}). "
                "Run again with --fresh to start this request over."
            ) from error
        if len(data) < 24 or bytes.fromhex(digest(data[16:])) != data[:16]:
            raise WorkError(
                f"{path}: scratch of the unfinished run is damaged. "
                "Run again with --fresh to start this request over."
            )
        size = int.from_bytes(data[16:24], "little")
        head = unpack(bytes(data[24 : 24 + size]))
        dtype, shape = np.dtype(str(head["dtype"])), tuple(head["shape"])
        if 0 in shape:
            return np.empty(shape, dtype)  # blosc does not take its own empty blocks
        array = np.empty(shape, dtype)
        blosc.decompress(data[24 + size :], array)
        return array
