"""Files that only a plug-in of bioio reads; each of its scenes is an image.

What a read of a part costs, and whether damage is noticed, is the plug-in's matter. It is asked for
one part at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import bioio
import numpy as np

from pipeline.box import Box
from pipeline.errors import DamageError, UnreadableError
from pipeline.image import ImageInfo
from pipeline.sources.base import Source, SourceSpec, require_file
from pipeline.sources.channel_names import unique_names
from pipeline.sources.fingerprint import fingerprint_file
from pipeline.sources.pixel_type import pixel_type
from pipeline.sources.scenes import scene_number, scene_specs
from pipeline.sources.units import micrometres, seconds

AXES = "TCZYX"
COLOURS = ("red", "green", "blue", "alpha")


class BioioSource(Source):
    """One scene of a file.

    Raises
    ------
    UnreadableError
        No plug-in opens it.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self.spec = spec
        self._lock = threading.Lock()
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
            part = self._pixels[(t, c, *box.slices)]
            if part.ndim == 4:
                part = part[..., sample]
            try:
                with self._lock:
                    out[position] = part.compute(scheduler="synchronous")
            except Exception as error:
                raise DamageError(
                    self.spec.path, f"time {t}, channel {channel} cannot be read: {error}"
                ) from error

    def fingerprint(self) -> str:
        return fingerprint_file(Path(self.spec.path))

    def close(self) -> None:
        """Nothing is held: plug-ins open the file for each part."""


def _open(spec: SourceSpec) -> bioio.BioImage:
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
