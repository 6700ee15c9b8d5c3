"""PNG and JPEG: decoded whole, once, and kept while the source is open.

PNG of 16 bits a sample goes through libpng, as Pillow rounds 16-bit colour to 8 bits. Palettes
become colours, an alpha channel stays one; EXIF orientation and print resolution are ignored.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import ImageFile, JpegImagePlugin, PngImagePlugin

from pipeline.box import Box
from pipeline.errors import DamageError, ImageError, UnreadableError
from pipeline.image import ImageInfo
from pipeline.sources.base import Source, SourceSpec, os_reason, require_file
from pipeline.sources.fingerprint import fingerprint_file
from pipeline.storage import path_of
from pipeline.storage.reading import open_file

PICTURE_LIMIT_BYTES = 2 << 30
PNG_START, JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
# Byte 24 of a PNG is the bit depth of a sample; 25 its colour type, here as channel names.
PNG_DEPTH_AT, PNG_COLOUR_AT = 24, 25
PNG_CHANNELS = {
    0: ("gray",),
    2: ("red", "green", "blue"),
    4: ("gray", "alpha"),
    6: ("red", "green", "blue", "alpha"),
}
MODE_CHANNELS = {
    "1": ("gray",),
    "L": ("gray",),
    "I;16": ("gray",),
    "LA": ("gray", "alpha"),
    "RGB": ("red", "green", "blue"),
    "RGBA": ("red", "green", "blue", "alpha"),
    "CMYK": ("cyan", "magenta", "yellow", "black"),
}


class PictureSource(Source):
    """One PNG or JPEG file; the kind is told by its first bytes, not by its suffix.

    Raises
    ------
    UnreadableError
        It is neither, or larger than `PICTURE_LIMIT_BYTES` when decoded.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self.spec = spec
        require_file(spec)
        self._pixels: np.ndarray | None = None
        self._lock = threading.Lock()
        try:
            with open_file(spec.path) as file:
                self._head = file.read(PNG_COLOUR_AT + 1)
            with self._open() as image:
                self._describe(image)
        except ImageError:
            raise
        except Exception as error:  # Pillow's parsers raise SyntaxError, struct.error, ...
            raise UnreadableError(
                spec.path, f"its header is not understood: {error}", "Copy it again."
            ) from error

    @property
    def _is_deep_png(self) -> bool:
        head = self._head
        return head.startswith(PNG_START) and len(head) > PNG_COLOUR_AT and head[PNG_DEPTH_AT] == 16

    def _open(self) -> ImageFile.ImageFile:
        # The plug-ins themselves: Image.open refuses above a limit of its own, which is global.
        if self._head.startswith(PNG_START):
            return PngImagePlugin.PngImageFile(self._stream())
        if self._head.startswith(JPEG_START):
            return JpegImagePlugin.JpegImageFile(self._stream())
        raise UnreadableError(
            self.spec.path, "is neither a PNG nor a JPEG file", "Check its suffix and the copy."
        )

    def _stream(self) -> str | io.BytesIO:
        """What Pillow opens: a path, for it closes what it has opened itself."""
        path = path_of(self.spec.path)
        return str(path) if isinstance(path, Path) else io.BytesIO(path.read_bytes())

    def _describe(self, image: ImageFile.ImageFile) -> None:
        names, dtype = self._kind(image)
        width, height = image.size
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise UnreadableError(self.spec.path, f"is an animation of {frames} frames")
        size = width * height * len(names) * np.dtype(dtype).itemsize
        if size > PICTURE_LIMIT_BYTES:
            raise UnreadableError(
                self.spec.path,
                f"decodes to {size} bytes ({width} x {height} px, {len(names)} channels), "
                f"the limit for pictures is {PICTURE_LIMIT_BYTES}",
                "Convert it to tiled TIFF or OME-Zarr.",
            )
        channels = names if len(names) > 1 else ("0",)
        shape = (1, len(names), 1, height, width)
        axes = "cyx" if len(names) > 1 else "yx"
        self.info = ImageInfo(shape, dtype, axes, channels, (None, None, None), None, shape)

    def _kind(self, image: ImageFile.ImageFile) -> tuple[tuple[str, ...], str]:
        if self._is_deep_png:
            return PNG_CHANNELS[self._head[PNG_COLOUR_AT]], "uint16"
        mode = _mode(image)
        if mode not in MODE_CHANNELS:
            raise UnreadableError(self.spec.path, f"its pixels are {mode}, which is not read")
        return MODE_CHANNELS[mode], "uint16" if mode == "I;16" else "uint8"

    def _fill(self, out: np.ndarray, t: int, channels: Sequence[int], box: Box) -> None:
        with self._lock:
            if self._pixels is None:
                self._pixels = self._decode()
        _, rows, columns = box.slices
        for position, channel in enumerate(channels):
            out[position, 0] = self._pixels[rows, columns, channel]

    def _decode(self) -> np.ndarray:
        """The picture, of shape (Y, X, C)."""
        try:
            if self._head.startswith(PNG_START):
                with self._open() as image:
                    image.verify()  # decoding alone does not look at the checksums
            if self._is_deep_png:
                pixels = np.asarray(imagecodecs.png_decode(path_of(self.spec.path).read_bytes()))
            else:
                with self._open() as image:
                    mode = _mode(image)
                    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
        except Exception as error:
            reason = os_reason(error) if isinstance(error, OSError) else str(error)
            raise DamageError(
                self.spec.path, f"cannot be decoded: {reason}", "Copy it again from its origin."
            ) from error
        _, channels, _, height, width = self.info.shape
        if pixels.size != channels * height * width:
            raise DamageError(
                self.spec.path, f"decodes to {pixels.shape}, its header says {self.info.shape}"
            )
        return pixels.reshape(height, width, channels)

    def hold(self, limit_bytes: int, once: bool = False) -> None:
        """The picture is held whole, until it is let go."""
        if not limit_bytes:
            self._pixels = None

    def fingerprint(self) -> str:
        return fingerprint_file(path_of(self.spec.path))

    def close(self) -> None:
        self._pixels = None


def _mode(image: ImageFile.ImageFile) -> str:
    """Pillow's mode of the pixels as they are returned."""
    if image.mode in ("P", "PA"):
        return "RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB"
    return image.mode
