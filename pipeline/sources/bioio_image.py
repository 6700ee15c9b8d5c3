"""Files that only a plug-in of bioio reads; each of its scenes is an image.

What a read of a part costs, and whether damage is noticed, is the plug-in's matter. It is asked for
one of its blocks at a time.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import bioio
import numpy as np

from pipeline.box import Box
from pipeline.errors import DamageError, UnreadableError
from pipeline.image import ImageInfo
from pipeline.sources.base import Source, SourceSpec, require_file, require_local
from pipeline.sources.cache import CACHE_BYTES, SegmentCache
from pipeline.sources.channel_names import unique_names
from pipeline.sources.fingerprint import fingerprint_file
from pipeline.sources.pixel_type import pixel_type
from pipeline.sources.scenes import scene_number, scene_specs
from pipeline.sources.units import micrometres, seconds
from pipeline.storage import path_of

AXES = "TCZYX"
COLOURS = ("red", "green", "blue", "alpha")


class BioioSource(Source):
    """One scene of a file.

    Raises
    ------
    UnreadableError
        No plug-in opens it.
    """

    _cache: SegmentCache

    def __init__(self, spec: SourceSpec) -> None:
        self.spec = spec
        self._lock, self._cache = threading.Lock(), SegmentCache(CACHE_BYTES)
        self._image = _open(spec)
        try:
            number = scene_number(spec, len(self._image.scenes))
            self._image.set_scene(number)
            has_samples = "S" in self._image.dims.order
            # (T, C, Z, Y, X, S); dask reads the parts that are asked for.
            self._pixels = self._image.get_image_dask_data(f"{AXES}{'S' if has_samples else ''}")
            self.info = self._describe(has_samples)
        except UnreadableError:
            raise
        except Exception as error:  # a plug-in raises what it likes
            raise UnreadableError(spec.path, f"a plug-in of bioio fails: {error}") from error

    @classmethod
    def list_images(cls, spec: SourceSpec) -> list[SourceSpec]:
        return scene_specs(spec, [str(scene) for scene in _open(spec).scenes])

    def _describe(self, has_samples: bool) -> ImageInfo:
        image, pixels = self._image, self._pixels
        t, c, z, y, x = (int(n) for n in pixels.shape[:5])
        self._samples = int(pixels.shape[5]) if has_samples else 1
        names = [str(name) for name in image.channel_names or []]
        if self._samples > 1:
            colours = COLOURS[: self._samples]
            names = [f"{n} {s}" if c > 1 else s for n in names or [""] for s in colours]
        chunks = tuple(max(sizes) for sizes in pixels.chunks)
        shape = (t, c * self._samples, z, y, x)
        block = (chunks[0], chunks[1] * self._samples, *chunks[2:5])
        axes = [a for a, n in zip("tcz", shape, strict=False) if n > 1]
        return ImageInfo(
            shape,
            pixel_type(self.spec.path, np.dtype(pixels.dtype)),
            "".join([*axes, "yx"]),
            unique_names(names, shape[1]),
            _sizes(image),
            _step(image),
            (block[0], block[1], block[2], block[3], block[4]),
        )

    def _fill(self, out: np.ndarray, t: int, channels: Sequence[int], box: Box) -> None:
        for position, channel in enumerate(channels):
            c, sample = divmod(channel, self._samples)
            ranges = [(t, t + 1), (c, c + 1), *zip(box.start, box.stop, strict=True)]
            ranges += [(sample, sample + 1)] * (self._pixels.ndim - len(ranges))
            spans = [
                list(_spans(sizes, *wanted))
                for sizes, wanted in zip(self._pixels.chunks, ranges, strict=True)
            ]
            for parts in itertools.product(*spans):
                index = tuple(part.number for part in parts)
                block = self._block(index)[tuple(part.inside for part in parts)]
                z, y, x = (part.target for part in parts[2:5])
                out[position, z, y, x] = block.reshape(block.shape[2:5])

    def _block(self, index: tuple[int, ...]) -> np.ndarray:
        """One block of the plug-in, read once as long as it is kept."""
        try:
            return self._cache.get(index, lambda: self._compute(index))
        except Exception as error:
            raise DamageError(
                self.spec.path, f"block {index} (t, c, z, y, x) cannot be read: {error}"
            ) from error

    def _compute(self, index: tuple[int, ...]) -> np.ndarray:
        with self._lock:
            return np.array(self._pixels.blocks[index].compute(scheduler="synchronous"))

    def fingerprint(self) -> str:
        return fingerprint_file(path_of(self.spec.path))

    def close(self) -> None:
        self._cache.clear()


class _Span(NamedTuple):
    """What a request takes of one block along one axis: where in the block, and where to."""

    number: int
    inside: slice
    target: slice


def _spans(sizes: Sequence[int], first: int, last: int) -> Iterator[_Span]:
    begin = 0
    for number, size in enumerate(sizes):
        a, b = max(first, begin), min(last, begin + size)
        if a < b:
            yield _Span(number, slice(a - begin, b - begin), slice(a - first, b - first))
        begin += size


def _open(spec: SourceSpec) -> bioio.BioImage:
    require_local(spec, "bioio")
    require_file(spec)
    try:
        return bioio.BioImage(spec.path, use_plugin_cache=True)
    except Exception as error:
        raise UnreadableError(
            spec.path,
            f"no plug-in of bioio opens it: {error}",
            "Check the copy, or convert it to OME-TIFF.",
        ) from error


def _sizes(image: Any) -> tuple[float | None, float | None, float | None]:
    try:
        sizes = image.physical_pixel_sizes
        z, y, x = (micrometres(n, "um") for n in (sizes.Z, sizes.Y, sizes.X))
    except Exception:  # metadata are not needed
        return None, None, None
    return z, y, x


def _step(image: Any) -> float | None:
    try:
        step = image.time_interval
    except Exception:
        return None
    return seconds(step.total_seconds(), "s") if isinstance(step, timedelta) else None
