"""Zeiss CZI, by its sub-blocks: plain ones row by row, compressed ones whole and kept.

Where sub-blocks of a mosaic overlap, that of the higher mosaic number is on top (of equal numbers
the later one in the file), as in Zeiss' own libCZI. Pixels that no sub-block covers are background
and read as 0. Every scene, view, phase and rotation is an image of its own.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from pipeline.box import Box
from pipeline.errors import DamageError, UnreadableError
from pipeline.image import ImageInfo
from pipeline.sources.base import Source, SourceSpec, require_file
from pipeline.sources.cache import CACHE_BYTES, SegmentCache
from pipeline.sources.channel_names import unique_names
from pipeline.sources.czi_blocks import PIXELS, PLAIN, Block, find_pixels, require_codecs, unpack
from pipeline.sources.czi_directory import Directory, read_directory, read_metadata
from pipeline.sources.czi_info import CziInfo, read_info
from pipeline.sources.file_bytes import FileBytes
from pipeline.sources.fingerprint import fingerprint_file
from pipeline.sources.rows import Part, RowLayout, read_rows
from pipeline.sources.scenes import scene_number, scene_specs
from pipeline.storage import path_of

#: Axes along which images are told apart, with the letter of their names.
IMAGE_AXES = {"S": "s", "V": "v", "R": "r", "I": "i", "H": "h", "B": "b"}
COLOURS = ("red", "green", "blue", "alpha")
Plane = tuple[int, int, int]


class CziSource(Source):
    """One image of a CZI file.

    Raises
    ------
    UnreadableError
        No CZI file, or pixels or a compression that are not read.
    DamageError
        The file is cut off, or planes that it should have are not in it.
    """

    _cache: SegmentCache

    def __init__(self, spec: SourceSpec) -> None:
        self.spec = spec
        require_file(spec)
        self._files, self._cache = FileBytes(), SegmentCache(CACHE_BYTES)
        try:
            directory = read_directory(spec.path, self._files)
            images = _images(directory)
            try:
                chosen = list(images.values())[scene_number(spec, len(images))]
            except ValueError as error:
                raise UnreadableError(spec.path, str(error)) from error
            info = read_info(read_metadata(spec.path, self._files, directory.metadata_at))
            self._open(directory, chosen, info)
        except BaseException:
            self.close()
            raise

    @classmethod
    def list_images(cls, spec: SourceSpec) -> list[SourceSpec]:
        require_file(spec)
        files = FileBytes()
        try:
            directory = read_directory(spec.path, files)
            info = read_info(read_metadata(spec.path, files, directory.metadata_at))
        finally:
            files.close()
        return scene_specs(spec, _names(_images(directory), info))

    def _open(self, directory: Directory, chosen: np.ndarray, info: CziInfo) -> None:
        path = self.spec.path
        kinds = set(directory.pixels[chosen].tolist())
        if len(kinds) > 1 or not kinds <= PIXELS.keys():
            raise UnreadableError(
                path, f"its pixels are of types {sorted(kinds)}, which are not read"
            )
        self._kind = kinds.pop()
        require_codecs(path, directory.codec[chosen].tolist())
        rows, columns = directory.rows[chosen], directory.columns[chosen]
        self._top, self._left = int(rows.min()), int(columns.min())
        height, width = int(rows.max()) - self._top, int(columns.max()) - self._left
        axes = {a: np.unique(directory.planes[a][chosen]).tolist() for a in "TCZ"}
        self._planes = self._by_plane(directory, chosen, axes)
        dtype, samples = PIXELS[self._kind]
        self._samples = len(samples)
        shape = (
            len(axes["T"]),
            len(axes["C"]) * self._samples,
            len(axes["Z"]),
            height,
            width,
        )
        self._packed = bool((directory.codec[chosen] != PLAIN).any())
        self.info = self._describe(info, axes, shape, np.dtype(dtype).newbyteorder("=").name)
        self._require_planes(axes)
        self._require_end()

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        *_, height, width = self.info.shape
        return tuple((-(-height // n), -(-width // n)) for n in (1, *self._directory.reductions))

    def _by_plane(
        self, directory: Directory, chosen: np.ndarray, axes: dict[str, list[int]]
    ) -> dict[Plane, np.ndarray]:
        """Sub-blocks of each (t, c, z), from the lowest to the one on top."""
        self._directory = directory
        order = chosen[np.lexsort((chosen, directory.mosaic[chosen]))]
        places = [np.searchsorted(axes[a], directory.planes[a][order]) for a in "TCZ"]
        found: dict[Plane, list[int]] = {}
        for number, *plane in zip(order.tolist(), *(p.tolist() for p in places), strict=True):
            found.setdefault((plane[0], plane[1], plane[2]), []).append(number)
        return {plane: np.array(numbers) for plane, numbers in found.items()}

    def _require_planes(self, axes: dict[str, list[int]]) -> None:
        every = itertools.product(*(range(len(axes[a])) for a in "TCZ"))
        missing = [plane for plane in every if plane not in self._planes]
        if missing and self.spec.missing_chunks != "fill":
            t, c, z = missing[0]
            raise DamageError(
                self.spec.path,
                f"{len(missing)} of its planes have no pixels, the first is time {t}, channel {c}, "
                f"plane {z}",
                "If its acquisition was stopped, set source.missing_chunks: fill.",
            )

    def _require_end(self) -> None:
        """The last sub-block of the image must end within the file."""
        numbers = np.concatenate(list(self._planes.values()))
        last = numbers[np.argmax(self._directory.at[numbers])]
        find_pixels(self.spec.path, self._files, self._block(int(last)))

    def _describe(
        self,
        info: CziInfo,
        axes: dict[str, list[int]],
        shape: tuple[int, int, int, int, int],
        dtype: str,
    ) -> ImageInfo:
        names = [info.channels.get(c, "") for c in axes["C"]]
        if self._samples > 1:
            several = len(names) > 1
            colours = COLOURS[: self._samples]
            names = [
                f"{n or i} {c}" if several else c for i, n in enumerate(names) for c in colours
            ]
        z, y, x = info.pixel_size_um
        rows, columns = self._usual_block()
        return ImageInfo(
            shape,
            dtype,
            "".join(a for a, n in zip("tcz", shape, strict=False) if n > 1) + "yx",
            unique_names(names, shape[1]),
            (z, y, x),
            info.time_step_s,
            (1, self._samples, 1, min(rows, shape[3]), min(columns, shape[4])),
            (None, None if y is None else self._top * y, None if x is None else self._left * x),
            self._packed,
        )

    def _usual_block(self) -> tuple[int, int]:
        """(Y, X) of what is read together: a sub-block, or a row of it where all are plain."""
        numbers = np.concatenate(list(self._planes.values()))
        blocks = [self._block(n) for n in numbers[:1000].tolist()]
        rows, columns = Counter(block.shape for block in blocks).most_common(1)[0][0]
        if not self._packed:
            return 1, columns
        d = self._directory
        return (
            _period(d.rows[numbers, 0] - self._top, rows),
            _period(d.columns[numbers, 0] - self._left, columns),
        )

    def _block(self, number: int) -> Block:
        d = self._directory
        (top, bottom), (left, right) = d.rows[number].tolist(), d.columns[number].tolist()
        codec = int(d.codec[number])
        return Block(number, int(d.at[number]), codec, (top, bottom), (left, right))

    def _fill(self, out: np.ndarray, t: int, channels: Sequence[int], box: Box) -> None:
        for k, z in enumerate(range(box.start[0], box.stop[0])):
            for c in sorted({channel // self._samples for channel in channels}):
                wanted = [
                    (i, channel % self._samples)
                    for i, channel in enumerate(channels)
                    if channel // self._samples == c
                ]
                self._fill_plane(out[:, k], (t, c, z), wanted, box)

    def _fill_plane(
        self, out: np.ndarray, plane: Plane, wanted: list[tuple[int, int]], box: Box
    ) -> None:
        for target, _ in wanted:
            out[target] = 0
        if plane not in self._planes:
            return
        _, y, x = zip(box.start, box.stop, strict=True)
        y0, y1, x0, x1 = y[0] + self._top, y[1] + self._top, x[0] + self._left, x[1] + self._left
        numbers, d = self._planes[plane], self._directory
        rows, columns = d.rows[numbers], d.columns[numbers]
        meets = (rows[:, 0] < y1) & (rows[:, 1] > y0) & (columns[:, 0] < x1) & (columns[:, 1] > x0)
        for number in numbers[meets].tolist():
            block = self._block(number)
            top, bottom = max(y0, block.rows[0]), min(y1, block.rows[1])
            left, right = max(x0, block.columns[0]), min(x1, block.columns[1])
            part = Part(
                wanted,
                (top - block.rows[0], bottom - block.rows[0]),
                (left - block.columns[0], right - block.columns[0]),
                out[:, top - y0 : bottom - y0, left - x0 : right - x0],
            )
            self._copy(block, part)

    def _copy(self, block: Block, part: Part) -> None:
        if block.codec == PLAIN:
            self._copy_rows(block, part)
            return
        pixels = self._cache.get(
            block.number, partial(unpack, self.spec.path, self._files, block, self._kind)
        )
        cut = pixels[slice(*part.rows), slice(*part.columns)]
        for target, sample in part.wanted:
            part.out[target] = cut[:, :, sample]

    def _copy_rows(self, block: Block, part: Part) -> None:
        dtype, samples = PIXELS[self._kind]
        height, width = block.shape
        pixel = len(samples) * np.dtype(dtype).itemsize
        layout = RowLayout(height, width, width * pixel, pixel, np.dtype(dtype))
        start, count = find_pixels(self.spec.path, self._files, block)
        if count < layout.plane_bytes:
            raise DamageError(
                self.spec.path,
                f"{block.name} has {count} bytes, its pixels take {layout.plane_bytes}",
            )
        wanted = [(target, samples[sample]) for target, sample in part.wanted]
        rows = replace(part, wanted=wanted)
        read_rows(self._files, self.spec.path, start, layout, rows, block.name)

    def fingerprint(self) -> str:
        return fingerprint_file(path_of(self.spec.path))

    def close(self) -> None:
        self._cache.clear()
        self._files.close()


def _period(starts: np.ndarray, size: int) -> int:
    """Distance of neighbours along an axis; an odd number where they overlap or lie irregularly.

    Such blocks hang together across any border of a power of two, see `pipeline.shared_blocks`.
    """
    places = np.unique(starts)
    if len(places) < 2:
        return size
    step = min(size, int(np.diff(places).max()))
    return step if step == size and not (places % step).any() else step | 1


def _images(directory: Directory) -> dict[tuple[int, ...], np.ndarray]:
    """Sub-blocks of each image, by its place along `IMAGE_AXES`."""
    places = np.stack([directory.planes[axis] for axis in IMAGE_AXES], axis=1)
    keys, which = np.unique(places, axis=0, return_inverse=True)
    which = which.reshape(-1)
    return {tuple(key): np.flatnonzero(which == i) for i, key in enumerate(keys.tolist())}


def _names(images: dict[tuple[int, ...], np.ndarray], info: CziInfo) -> list[str]:
    """Scenes by their own names, if they have some; other axes by letter and number."""
    keys = list(images)
    varies = {axis for k, axis in enumerate(IMAGE_AXES) if len({key[k] for key in keys}) > 1}
    scenes = {key[0] for key in keys}
    own = {s: info.scenes.get(s, "") for s in scenes}
    named = all(own.values()) and len(set(own.values())) == len(own)
    names = []
    for key in keys:
        parts = [f"{IMAGE_AXES[a]}{n}" for a, n in zip(IMAGE_AXES, key, strict=True) if a in varies]
        if named and "S" in varies:
            parts[0] = own[key[0]]
        names.append("_".join(parts))
    return names
