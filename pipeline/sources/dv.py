"""DeltaVision files (.dv, .r3d): a header, and planes as they are. `mrc` reads the header."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import mrc

from pipeline.errors import DamageError, UnreadableError
from pipeline.image import ImageInfo
from pipeline.sources.base import SourceSpec, require_file, require_local
from pipeline.sources.channel_names import unique_names
from pipeline.sources.file_bytes import FileBytes
from pipeline.sources.fingerprint import fingerprint_file
from pipeline.sources.pixel_type import pixel_type
from pipeline.sources.rows import RowLayout, RowSource
from pipeline.sources.units import micrometres, seconds
from pipeline.storage import path_of

HEADER_BYTES = 1024
WAVES = 5
#: Whole numbers before the floats of a section, where mrc understands them.
KNOWN_INTS = 8


class _Header(mrc.DVFile):
    """The header alone: a map of the pixels would fail where a file is cut off."""

    def open(self) -> None:
        pass


class DeltaVisionSource(RowSource):
    """One DeltaVision file. All its stage positions, if there are several, are in its sections.

    Raises
    ------
    UnreadableError
        No DeltaVision file, or sections that are no stack of times, channels and planes.
    DamageError
        The file is shorter than it says.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self.spec = spec
        require_local(spec, "mrc")
        require_file(spec)
        self._files = FileBytes()
        header = self._header()
        try:
            self._open(header)
            self._require_whole()
        except BaseException:
            self.close()
            raise

    def _header(self) -> _Header:
        path = self.spec.path
        if self._files.size(path) < HEADER_BYTES:
            raise DamageError(path, "is cut off within its header", "Copy it again.")
        if not mrc.DVFile.is_supported_file(path):
            raise UnreadableError(
                path,
                "is not a DeltaVision file: it lacks the mark 0xC0A0",
                "Check its suffix and the copy.",
            )
        try:
            return _Header(path)
        except Exception as error:  # struct.error and ValueError, of whatever a header holds
            raise UnreadableError(path, f"its header is not understood: {error}") from error

    def _open(self, header: _Header) -> None:
        hdr, path = header.hdr, self.spec.path
        times, channels, depth = max(1, hdr.nt), max(1, hdr.nc), hdr.nz
        if times * channels * depth != hdr.n_sections or min(depth, hdr.width, hdr.height) < 1:
            raise UnreadableError(
                path,
                f"its {hdr.n_sections} sections are no stack of {times} times, {channels} "
                f"channels and whole planes of {hdr.width} x {hdr.height} px",
            )
        try:
            dtype = header.dtype
        except KeyError as error:
            raise UnreadableError(path, f"its pixels are of kind {hdr.pixel_type}") from error
        size = dtype.itemsize
        self._layout = RowLayout(hdr.height, hdr.width, hdr.width * size, size, dtype)
        self._order = hdr.sequence_order
        self._start = HEADER_BYTES + hdr.ext_hdr_len
        self.info = self._describe(header, (times, channels, depth, hdr.height, hdr.width))

    def _describe(self, header: _Header, shape: tuple[int, int, int, int, int]) -> ImageInfo:
        hdr, path = header.hdr, self.spec.path
        first = _section(header, 0)
        step, origin = None, (None, None, None)
        if first is not None:
            origin = (first.stageZCoord, first.stageYCoord, first.stageXCoord)
            later = _section(header, self._number(1, 0, 0, shape)) if shape[0] > 1 else None
            step = later and seconds(later.timeStampSeconds - first.timeStampSeconds, "s")
        z, y, x = (micrometres(f"{size:.7g}", "um") for size in (hdr.dz, hdr.dy, hdr.dx))
        return ImageInfo(
            shape,
            pixel_type(path, header.dtype),
            "".join(a for a, n in zip("tcz", shape, strict=False) if n > 1) + "yx",
            unique_names(_waves(hdr, shape[1]), shape[1]),
            (z, y, x),
            step,
            (1, 1, 1, 1, shape[4]),
            origin,
            packed=False,
        )

    def _number(self, t: int, channel: int, z: int, shape: Sequence[int]) -> int:
        sizes = dict(zip("TCZ", shape, strict=False))
        place = {"T": t, "C": channel, "Z": z}
        number = 0
        for axis in self._order:
            number = number * sizes[axis] + place[axis]
        return number

    def _place(self, t: int, channel: int, z: int) -> tuple[int, int]:
        number = self._number(t, channel, z, self.info.shape)
        return self._start + number * self._layout.plane_bytes, 0

    def fingerprint(self) -> str:
        return fingerprint_file(path_of(self.spec.path))


def _section(header: _Header, number: int) -> Any | None:
    """What the file says of one section; None where it says nothing that is understood."""
    extended = header.ext_hdr
    if extended is None or header.hdr.n_ints != KNOWN_INTS or header.dtype.byteorder == ">":
        return None
    try:
        return extended.frame(number)
    except (IndexError, struct.error):
        return None


def _waves(hdr: Any, channels: int) -> list[str]:
    """Emission wavelengths in nm, by which DeltaVision knows its channels."""
    waves = [getattr(hdr, f"wave{i + 1}") for i in range(min(channels, WAVES))]
    return [str(wave) if wave > 0 else "" for wave in waves]
