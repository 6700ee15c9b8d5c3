"""A file or an object, whole or a range of it, as the browser asked for it.

The bytes of stores pass through here: the browser gets neither their addresses nor any keys.
"""

from __future__ import annotations

import re

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from pipeline.storage import AnyPath, StorePath

TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".wasm": "application/wasm",
}
#: One range; several at once are answered with the whole, as a server may.
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def file_answer(place: AnyPath | None, request: Request) -> Response:
    """A file or a range of it; of chunks that do not exist the viewer must hear 404.

    Raises
    ------
    OSError
        The disk or the store fails.
    """
    if isinstance(place, StorePath):
        return _stored(place, request)
    if place is None or not place.is_file():
        raise HTTPException(404)
    return FileResponse(place, media_type=_type(place))


def _stored(place: StorePath, request: Request) -> Response:
    asked = RANGE.fullmatch(request.headers.get("range", ""))
    try:
        if request.method == "HEAD":
            return _answer(place, 200, b"", {"content-length": str(_size(place))})
        if asked is None or not _is_range(*asked.groups()):
            return _answer(place, 200, place.read_bytes(), {})
        return _part(place, *asked.groups())
    except (FileNotFoundError, ValueError) as error:  # a name that no object can have
        raise HTTPException(404) from error


def _part(place: StorePath, first: str, last: str) -> Response:
    """A range. The viewer names both ends, which takes one request of the store."""
    if first and last:
        start, stop = int(first), int(last) + 1
        try:
            return _range(place, start, *place.read_part(start, stop))
        except FileNotFoundError:
            raise
        except OSError:  # also where the object ends before the range begins
            size = _size(place)
            if start < size:
                raise
    else:
        size = _size(place)
        start = int(first) if first else max(0, size - int(last))
        if start < size:
            return _range(place, start, *place.read_part(start, size))
    return _answer(place, 416, b"", {"content-range": f"bytes */{size}"})


def _range(place: StorePath, start: int, data: bytes, size: int) -> Response:
    where = f"bytes {start}-{start + len(data) - 1}/{size}"
    return _answer(place, 206, data, {"content-range": where})


def _is_range(first: str, last: str) -> bool:
    return int(first) <= int(last) if first and last else bool(first or last)


def _size(place: StorePath) -> int:
    head = place.head()
    if head is None:
        raise FileNotFoundError(str(place))
    return head.size


def _answer(place: StorePath, status: int, data: bytes, headers: dict[str, str]) -> Response:
    return Response(data, status, {"accept-ranges": "bytes", **headers}, media_type=_type(place))


def _type(place: AnyPath) -> str:
    return TYPES.get(place.suffix, "application/octet-stream")
