"""Slides that tifffile does not put together, through OpenSlide: MIRAX, VMS, Ventana, Sakura.

Level 0 is read. Where the scanner took no picture, and through the half-transparent border of one,
the slide's own background shows, white if it names none.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openslide

from pipeline.box import Box
from pipeline.errors import DamageError, UnreadableError
from pipeline.image import ImageInfo
from pipeline.sources.base import Source, SourceSpec, require_file, require_local
from pipeline.sources.cache import CACHE_BYTES
from pipeline.sources.fingerprint import fingerprint_file, fingerprint_files
from pipeline.sources.formats import belongs_to_slide
from pipeline.sources.units import micrometres

#: Rows that are read at once: OpenSlide gives four bytes a pixel.
BAND_ROWS = 512
CHANNELS = ("red", "green", "blue")
DEFAULT_TILE = 512


class SlideSource(Source):
    """One slide.

    Raises
    ------
    UnreadableError
        OpenSlide does not know it, or a file that belongs to it is missing.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self.spec = spec
        require_local(spec, "OpenSlide")
        require_file(spec)
        self._lock, self._cache_bytes = threading.Lock(), CACHE_BYTES
        self._slide: openslide.OpenSlide | None = self._open()
        properties = dict(self._slide.properties)
        width, height = self._slide.dimensions
        self._levels = tuple((h, w) for w, h in self._slide.level_dimensions)
        colour = properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "ffffff")
        self._background = np.frombuffer(bytes.fromhex(colour), np.uint8).astype(np.uint16)
        tile = [
            int(properties.get(f"openslide.level[0].tile-{side}", DEFAULT_TILE))
            for side in ("height", "width")
        ]
        y = micrometres(properties.get(openslide.PROPERTY_NAME_MPP_Y), "um")
        x = micrometres(properties.get(openslide.PROPERTY_NAME_MPP_X), "um")
        self.info = ImageInfo(
            (1, len(CHANNELS), 1, height, width),
            "uint8",
            "cyx",
            CHANNELS,
            (None, y, x),
            None,
            (1, len(CHANNELS), 1, min(tile[0], height), min(tile[1], width)),
        )

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        return self._levels

    def hold(self, limit_bytes: int, once: bool = False) -> None:
        self._cache_bytes = limit_bytes or CACHE_BYTES
        with self._lock:
            if self._slide is not None:
                self._slide.set_cache(openslide.OpenSlideCache(self._cache_bytes))

    def _open(self) -> openslide.OpenSlide:
        path = self.spec.path
        try:
            slide = openslide.OpenSlide(path)
        except (openslide.OpenSlideError, OSError) as error:
            known = not isinstance(error, openslide.OpenSlideUnsupportedFormatError)
            reason = f"cannot be opened by OpenSlide: {error}" if known else "is no slide it knows"
            raise UnreadableError(
                path, reason, "Copy it again, with the files and the folder that belong to it."
            ) from error
        slide.set_cache(openslide.OpenSlideCache(self._cache_bytes))
        return slide

    def _fill(self, out: np.ndarray, t: int, channels: Sequence[int], box: Box) -> None:
        (_, y0, x0), (_, y1, x1) = box.start, box.stop
        for top in range(y0, y1, BAND_ROWS):
            bottom = min(y1, top + BAND_ROWS)
            pixels = self._read(x0, top, x1 - x0, bottom - top)
            for position, channel in enumerate(channels):
                out[position, 0, top - y0 : bottom - y0] = pixels[..., channel]

    def _read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Red, green, blue of a rectangle, on the background."""
        with self._lock:
            if self._slide is None:
                self._slide = self._open()
            slide = self._slide
        try:
            seen = np.asarray(slide.read_region((x, y), 0, (width, height)))
        except openslide.OpenSlideError as error:
            with self._lock:  # it answers nothing any more
                self._slide = None
            raise DamageError(
                self.spec.path,
                f"rows {y}-{y + height - 1}, columns {x}-{x + width - 1} cannot be read: {error}",
                "Copy it again, with the files and the folder that belong to it.",
            ) from error
        alpha = seen[..., 3:].astype(np.uint16)
        mixed = seen[..., :3] * alpha + self._background * (255 - alpha)
        return ((mixed + 127) // 255).astype(np.uint8)

    def fingerprint(self) -> str:
        """Size, time and ends of all files of the slide."""
        path = Path(self.spec.path)
        folder = path.with_suffix("")
        others = list(folder.iterdir()) if folder.is_dir() else []
        beside = [p for p in path.parent.iterdir() if belongs_to_slide(p.name, path.name)]
        files = [p for p in (*others, *beside) if p.is_file()]
        if not files:
            return fingerprint_file(path)
        return fingerprint_files([path, *files])

    def close(self) -> None:
        with self._lock:
            if self._slide is not None:
                self._slide.close()
                self._slide = None
