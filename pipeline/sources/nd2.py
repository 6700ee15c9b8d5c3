"""Nikon ND2 of version 2 and 3: rows of plain frames, whole frames of compressed ones.

Each stage position is an image of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from pipeline.box import Box
from pipeline.errors import DamageError, UnreadableError
from pipeline.sources.base import Source, SourceSpec, require_file
from pipeline.sources.cache import CACHE_BYTES, SegmentCache
from pipeline.sources.file_bytes import FileBytes
from pipeline.sources.fingerprint import fingerprint_file
from pipeline.sources.nd2_frames import AGAIN, Frames, frame_offsets
from pipeline.sources.nd2_info import read_layout
from pipeline.sources.rows import Part, read_rows
from pipeline.sources.scenes import scene_number, scene_specs
from pipeline.storage import path_of


class NikonSource(Source):
    """One stage position of an ND2 file.

    Raises
    ------
    UnreadableError
        No ND2 file, one of the old kind, lossy frames, or loops that are not read.
    DamageError
        The file is cut off, or frames that its loops promise are not in it.
    """

    _cache: SegmentCache

    def __init__(self, spec: SourceSpec) -> None:
        self.spec = spec
        require_file(spec)
        self._files, self._cache = FileBytes(), SegmentCache(CACHE_BYTES)
        try:
            offsets = frame_offsets(spec.path, self._files)
            self._open(offsets)
        except BaseException:
            self.close()
            raise

    @classmethod
    def list_images(cls, spec: SourceSpec) -> list[SourceSpec]:
        require_file(spec)
        files = FileBytes()
        try:
            frame_offsets(spec.path, files)
        finally:
            files.close()
        return scene_specs(spec, read_layout(spec.path).positions)

    def _open(self, offsets: dict[int, int]) -> None:
        path = self.spec.path
        found = read_layout(path)
        try:
            position = scene_number(self.spec, len(found.positions))
        except ValueError as error:
            raise UnreadableError(path, str(error)) from error
        self._nd2, self._first = found, position * found.strides["P"]
        self.info = found.describe(path, position)
        self._layout = found.rows
        self._frames = Frames(path, self._files, offsets, self._layout.plane_bytes)
        self._missing = {n for n in self._numbers() if n not in offsets}
        if self._missing and self.spec.missing_chunks != "fill":
            raise DamageError(
                path,
                f"{len(self._missing)} of {len(self._numbers())} frames of this position are not "
                f"in the file, the first is frame {min(self._missing)}",
                "If its acquisition was stopped, set source.missing_chunks: fill.",
            )
        self._require_end(offsets)

    def _numbers(self) -> list[int]:
        times, _, depth, *_ = self.info.shape
        return [self._number(t, z) for t in range(times) for z in range(depth)]

    def _number(self, t: int, z: int) -> int:
        strides = self._nd2.strides
        return self._first + t * strides["T"] + z * strides["Z"]

    def _require_end(self, offsets: dict[int, int]) -> None:
        """The last frame of the image must end within the file."""
        there = [n for n in self._numbers() if n not in self._missing]
        if not there or self._nd2.compressed:
            return
        last = max(there, key=offsets.__getitem__)
        end = self._frames.start(last) + self._layout.plane_bytes
        size = self._files.size(self.spec.path)
        if end > size:
            raise DamageError(
                self.spec.path, f"frame {last} ends at byte {end}, the file at byte {size}", AGAIN
            )

    def _fill(self, out: np.ndarray, t: int, channels: Sequence[int], box: Box) -> None:
        size = self._layout.dtype.itemsize
        wanted = [(position, channel * size) for position, channel in enumerate(channels)]
        _, rows, columns = zip(box.start, box.stop, strict=True)
        for k, z in enumerate(range(box.start[0], box.stop[0])):
            number, part = self._number(t, z), Part(wanted, rows, columns, out[:, k])
            if number in self._missing:
                out[:, k] = 0
            elif self._nd2.compressed:
                pixels = self._cache.get(number, partial(self._unpacked, number))
                out[:, k] = pixels[box.slices[1:]][..., channels].transpose(2, 0, 1)
            else:
                start = self._frames.start(number)
                path, what = self.spec.path, f"frame {number}"
                read_rows(self._files, path, start, self._layout, part, what)

    def _unpacked(self, number: int) -> np.ndarray:
        """A compressed frame, of shape (Y, X, C)."""
        at = self._layout
        shape = (at.height, at.width, self.info.shape[1])
        strides = (at.row_bytes, at.pixel_bytes, at.dtype.itemsize)
        return np.ndarray(shape, at.dtype, self._frames.unpacked(number), 0, strides)

    def fingerprint(self) -> str:
        return fingerprint_file(path_of(self.spec.path))

    def close(self) -> None:
        self._cache.clear()
        self._files.close()
