"""The frames of an ND2 file: where the map of its chunks says that they lie.

The package nd2 reads the metadata; its frames are not used, as it gives zeros where one is missing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from pipeline.errors import DamageError, UnreadableError
from pipeline.sources.file_bytes import FileBytes

MAGIC, OLD_MAGIC = 0x0ABECEDA, 0x0C000000
HEADER = struct.Struct("<IIQ")  # magic, bytes of the name, bytes of the data
PLACE = struct.Struct("<QQ")  # offset and size
MAP_NAME, MAP_MARK = b"ND2 FILEMAP SIGNATURE NAME 0001!", b"ND2 CHUNK MAP SIGNATURE 0000001!"
FRAME = b"ImageDataSeq|"
#: A frame's pixels come after its time.
TIME_BYTES = 8
MAP_LIMIT_BYTES = 1 << 30
AGAIN = "Copy the file again from its origin."


def frame_offsets(path: str, files: FileBytes) -> dict[int, int]:
    """Number of each frame to the byte where its chunk begins.

    Raises
    ------
    UnreadableError
        No ND2 file, or one of the kind before 2006 (JPEG 2000).
    DamageError
        The map at its end is missing or damaged, as in a file that is cut off.
    """
    size = files.size(path)
    magic = struct.unpack("<I", files.read(path, 0, 4, "its first bytes"))[0] if size >= 4 else 0
    if magic == OLD_MAGIC:
        raise UnreadableError(
            path, "is an ND2 file of the old kind (JPEG 2000)", "Save it again by NIS-Elements."
        )
    if magic != MAGIC:
        raise UnreadableError(path, "is not an ND2 file", "Check its suffix and the copy.")
    tail = files.read(path, size - 40, 40, "its end") if size > 40 else b""
    if not tail.startswith(MAP_MARK):
        raise DamageError(path, "is cut off: the map of its chunks is not at its end", AGAIN)
    start = struct.unpack("<Q", tail[32:])[0]
    name_bytes, count = _header(path, files, start, MAP_NAME)
    if count > min(MAP_LIMIT_BYTES, size):
        raise DamageError(path, f"the map of its chunks claims {count} bytes", AGAIN)
    return _frames(path, files.read(path, start + HEADER.size + name_bytes, count, "its map"))


def _frames(path: str, data: bytes) -> dict[int, int]:
    found: dict[int, int] = {}
    position = 0
    while True:
        end = data.find(b"!", position) + 1
        name = data[position:end]
        if name == MAP_MARK:
            return found
        if not end or end + PLACE.size > len(data):
            raise DamageError(path, "the map of its chunks breaks off", AGAIN)
        if name.startswith(FRAME):
            number = name[len(FRAME) : -1]
            if not number.isdigit():
                said = number[:20].decode("ascii", "backslashreplace")
                raise DamageError(
                    path,
                    f'the map of its chunks numbers a frame "{said}", which is no number',
                    AGAIN,
                )
            found[int(number)] = PLACE.unpack_from(data, end)[0]
        position = end + PLACE.size


def _header(path: str, files: FileBytes, start: int, name: bytes) -> tuple[int, int]:
    """Bytes of a chunk's name and data; the chunk must be the one that is meant."""
    what = f"chunk {name.decode()}"
    magic, name_bytes, count = HEADER.unpack(files.read(path, start, HEADER.size, what))
    if magic != MAGIC or name_bytes < len(name):
        raise DamageError(path, f"{what} does not begin at byte {start}", AGAIN)
    if files.read(path, start + HEADER.size, len(name), what) != name:
        raise DamageError(
            path, f"byte {start} belongs to another chunk than {name.decode()}", AGAIN
        )
    return name_bytes, count


class Frames:
    """The frames of one file.

    Parameters
    ----------
    path : str
    files : FileBytes
    offsets : mapping of int to int
        As `frame_offsets` gives them.
    frame_bytes : int
        Of the pixels of one frame.
    """

    def __init__(
        self, path: str, files: FileBytes, offsets: Mapping[int, int], frame_bytes: int
    ) -> None:
        self._path, self._files, self._offsets = path, files, offsets
        self._bytes = frame_bytes
        self._starts: dict[int, tuple[int, int]] = {}

    def start(self, number: int) -> int:
        """First byte of the pixels of a frame that is stored as it is."""
        start, count = self._place(number)
        if count < self._bytes:
            raise DamageError(
                self._path,
                f"frame {number} has {count} bytes, its pixels take {self._bytes}",
                AGAIN,
            )
        return start

    def unpacked(self, number: int) -> bytes:
        """The pixels of a frame that is compressed without loss.

        Raises
        ------
        DamageError
            They cannot be unpacked, or are fewer than the file says.
        """
        start, count = self._place(number)
        data = self._files.read(self._path, start, count, f"frame {number}")
        try:
            unpack = zlib.decompressobj()
            pixels = unpack.decompress(data, self._bytes)
        except zlib.error as error:
            raise DamageError(
                self._path, f"frame {number} cannot be unpacked: {error}", AGAIN
            ) from error
        if len(pixels) < self._bytes:
            raise DamageError(
                self._path,
                f"frame {number} unpacks to {len(pixels)} bytes, its pixels take {self._bytes}",
                AGAIN,
            )
        return pixels

    def _place(self, number: int) -> tuple[int, int]:
        """Where the pixels of a frame begin, and how many bytes are there."""
        if number not in self._starts:
            offset = self._offsets[number]
            name_bytes, count = _header(self._path, self._files, offset, b"%s%d!" % (FRAME, number))
            start = offset + HEADER.size + name_bytes + TIME_BYTES
            self._starts[number] = (start, count - TIME_BYTES)
        return self._starts[number]
