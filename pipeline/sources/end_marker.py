"""Does a JPEG, or a bare stream of JPEG 2000, end as one?

Their decoders fill what is missing with grey, without a word. Both streams end with the bytes FF D9
(ITU-T T.81, table B.1, EOI; T.800, table A.2, EOC). Neither has a checksum: bytes that were
overwritten in the middle are noticed only where decoding fails.
"""

from __future__ import annotations

END = b"\xff\xd9"
#: First bytes of streams that end so; a JPEG 2000 in boxes (JP2) may have more behind it.
STARTS = (b"\xff\xd8", b"\xff\x4f\xff\x51")


def require_end(data: bytes) -> None:
    """Writers may pad a stream with zeros.

    Raises
    ------
    ValueError
        The stream is cut off, or its end was overwritten.
    """
    if data.startswith(STARTS) and not data.rstrip(b"\0").endswith(END):
        raise ValueError("it has no end: bytes are missing, or were overwritten")
