"""One sub-block of a CZI file: where its pixels lie, and how they are unpacked."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import imagecodecs
import numpy as np

from pipeline.errors import DamageError, UnreadableError
from pipeline.sources.czi_directory import AGAIN, AXIS, ENTRY, SEGMENT, parse_entry
from pipeline.sources.end_marker import require_end
from pipeline.sources.file_bytes import FileBytes
from pipeline.sources.tiff_decode import first_line

#: Stored type, and byte of each sample in a pixel: colours are stored as blue, green, red.
PIXELS: dict[int, tuple[str, tuple[int, ...]]] = {
    0: ("<u1", (0,)),
    1: ("<u2", (0,)),
    2: ("<f4", (0,)),
    3: ("<u1", (2, 1, 0)),
    4: ("<u2", (4, 2, 0)),
    8: ("<f4", (8, 4, 0)),
    9: ("<u1", (2, 1, 0, 3)),
    12: ("<u4", (0,)),
}
PLAIN, JPEG, LZW, JPEG_XR, ZSTD, ZSTD_1 = 0, 1, 2, 4, 5, 6
CODECS = {PLAIN: "none", JPEG: "JPEG", LZW: "LZW", JPEG_XR: "JPEG XR", ZSTD: "zstd", ZSTD_1: "zstd"}
READ = (PLAIN, JPEG, JPEG_XR, ZSTD, ZSTD_1)
SIZES = struct.Struct("<iiq")  # bytes of metadata, attachment and pixels
#: The head of a sub-block takes at least this many bytes.
HEAD_BYTES = 256
BLOCK_LIMIT_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Block:
    """One sub-block, as the directory has it.

    Parameters
    ----------
    number : int
        In the directory.
    at : int
        Byte where its segment begins.
    codec : int
    rows, columns : tuple of int
        Half-open, in px of the file's plane.
    """

    number: int
    at: int
    codec: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    @property
    def name(self) -> str:
        """For messages."""
        return f"sub-block {self.number}"


def require_codecs(path: str, codecs: Sequence[int]) -> None:
    """Raise UnreadableError for a compression that is not read."""
    for codec in sorted(set(codecs)):
        if codec not in READ:
            name = CODECS.get(codec, "of a camera" if codec >= 100 else "unknown")
            raise UnreadableError(
                path, f"its compression {codec} ({name}) is not read", "Export it without."
            )


def find_pixels(path: str, files: FileBytes, block: Block) -> tuple[int, int]:
    """First byte of a sub-block's pixels, and their number of bytes.

    Raises
    ------
    DamageError
        Another segment is there, or another sub-block, or the file ends before.
    """
    what, size = block.name, files.size(path)
    head = files.read(path, block.at, SEGMENT.size + SIZES.size + ENTRY.itemsize, what)
    if head[:16].rstrip(b"\0") != b"ZISRAWSUBBLOCK":
        raise DamageError(path, f"{what} is not at byte {block.at}, where it should be", AGAIN)
    metadata, _, count = SIZES.unpack_from(head, SEGMENT.size)
    axes = int.from_bytes(head[-4:], "little")
    entry_bytes = ENTRY.itemsize + axes * AXIS.itemsize
    if not 0 <= axes < 64:
        raise DamageError(path, f"{what} claims {axes} axes", AGAIN)
    entry_at = block.at + SEGMENT.size + SIZES.size
    _, found = parse_entry(files.read(path, entry_at, entry_bytes, what))
    places = {a["name"]: (int(a["start"]), int(a["size"])) for a in found}
    height, width = block.shape
    if places.get(b"Y") != (block.rows[0], height) or places.get(b"X") != (block.columns[0], width):
        raise DamageError(path, f"{what} is not the one that the directory names", AGAIN)
    start = block.at + SEGMENT.size + max(HEAD_BYTES, SIZES.size + entry_bytes) + metadata
    if metadata < 0 or count < 0 or start + count > size:
        raise DamageError(
            path, f"{what} ends at byte {start + count}, the file at byte {size}", AGAIN
        )
    return start, count


def unpack(path: str, files: FileBytes, block: Block, kind: int) -> np.ndarray:
    """Read and unpack a compressed sub-block.

    Returns
    -------
    pixels : ndarray of shape (Y, X, S)
        Red, green, blue where there are three or four samples.

    Raises
    ------
    DamageError
        Its bytes cannot be unpacked to what the directory says.
    """
    start, count = find_pixels(path, files, block)
    if count > BLOCK_LIMIT_BYTES:
        raise DamageError(path, f"{block.name} claims {count} bytes", AGAIN)
    data = files.read(path, start, count, block.name)
    dtype, samples = PIXELS[kind]
    shape = (*block.shape, len(samples))
    try:
        pixels = _decode(data, block.codec, shape, np.dtype(dtype))
    except Exception as error:  # each codec has exceptions of its own
        raise DamageError(
            path, f"{block.name} cannot be unpacked: {first_line(error)}", AGAIN
        ) from error
    if pixels.size != np.prod(shape) or pixels.dtype.itemsize != np.dtype(dtype).itemsize:
        raise DamageError(
            path, f"{block.name} unpacks to {pixels.shape} {pixels.dtype}, not to {shape}", AGAIN
        )
    return pixels.reshape(shape)


def _decode(data: bytes, codec: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if codec in (ZSTD, ZSTD_1):
        count = int(np.prod(shape)) * dtype.itemsize
        packed = False
        if codec == ZSTD_1:
            data, packed = _without_header(data)
        raw = imagecodecs.zstd_decode(data, out=count)
        if len(raw) != count:
            raise ValueError(f"{len(raw)} bytes instead of {count}")
        pixels = (_joined(raw) if packed else np.frombuffer(raw, dtype)).reshape(shape)
        return pixels if shape[2] == 1 else pixels[..., [2, 1, 0, 3][: shape[2]]]
    if codec == JPEG_XR:
        return np.asarray(imagecodecs.jpegxr_decode(data))
    require_end(data)
    return np.asarray(imagecodecs.jpeg8_decode(data))


def _without_header(data: bytes) -> tuple[bytes, bool]:
    """Pixels of "zstd 1", and whether the bytes of 16-bit numbers are stored apart."""
    size = data[0]
    if size == 1:
        return data[1:], False
    if size != 3 or data[1] != 1:
        raise ValueError(f"a header of {size} bytes is not known")
    return data[3:], bool(data[2] & 1)


def _joined(raw: bytes | bytearray) -> np.ndarray:
    """16-bit numbers of which all low bytes come first, then all high ones."""
    low, high = np.frombuffer(raw, np.uint8).reshape(2, -1)
    joined = high.astype("<u2")
    joined <<= 8
    joined |= low
    return joined
