"""Places in object stores, used like `pathlib.Path` where both are meant.

An object is put as a whole or not at all; folders are what the names of objects have in common.
Errors are those of files on disk: a store that does not answer is never taken for a missing file.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import ObjectStore

from pipeline.errors import RecipeError
from pipeline.storage.stores import SCHEMES, as_os_errors, open_store, retried

#: Objects that are listed at once.
PAGE = 1000
URL = re.compile(r"^([a-z][a-z0-9+.-]*)://([^/]*)/*(.*)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a folder holds: a name in it, and whether that is a folder."""

    name: str
    is_folder: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """An object: its name from the folder that was listed, its size and its version."""

    name: str
    size: int
    version: str


@dataclass(frozen=True, slots=True, order=True)
class StorePath:
    """An object, or a folder of objects.

    Parameters
    ----------
    root : str
        "scheme://bucket".
    key : str
        The name in it, without "/" at either end; "" is the whole bucket.
    """

    root: str
    key: str

    @classmethod
    def of(cls, url: str) -> StorePath:
        """The place that a URL names; nothing in it is unescaped.

        Raises
        ------
        RecipeError
            Its scheme is not known, or it names no bucket.
        """
        found = URL.match(url)
        scheme, bucket, key = found.groups() if found else ("", "", "")
        if scheme not in SCHEMES or not bucket:
            raise RecipeError(
                f"{url}: is no address that is read. Known are {', '.join(SCHEMES)}, as in "
                '"s3://bucket/folder".'
            )
        key = posixpath.normpath(key).strip("/")
        if key == ".." or key.startswith("../"):
            raise RecipeError(f"{url}: leads out of its bucket.")
        return cls(f"{scheme}://{bucket}", "" if key == "." else key)

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    def __truediv__(self, other: str | Path) -> StorePath:
        key = posixpath.normpath(posixpath.join(self.key, str(other))).strip("/")
        return StorePath(self.root, "" if key == "." else key)

    @property
    def name(self) -> str:
        return posixpath.basename(self.key) or self.root.partition("://")[2]

    @property
    def suffix(self) -> str:
        return posixpath.splitext(self.name)[1]

    @property
    def stem(self) -> str:
        return posixpath.splitext(self.name)[0]

    @property
    def parent(self) -> StorePath:
        return StorePath(self.root, posixpath.dirname(self.key))

    @property
    def can_list(self) -> bool:
        """Whether folders can be listed, and objects written: not on the web."""
        return SCHEMES[self.root.partition("://")[0]]

    def with_name(self, name: str) -> StorePath:
        return self.parent / name

    def absolute(self) -> StorePath:
        return self

    def resolve(self, strict: bool = False) -> StorePath:
        """Itself: stores have no links. Whether it is there is seen when it is read."""
        return self

    def is_relative_to(self, other: StorePath) -> bool:
        inside = not other.key or self.key == other.key or self.key.startswith(f"{other.key}/")
        return self.root == other.root and inside

    def exists(self) -> bool:
        """Whether there is an object or a folder of this name."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        return self.key != "" and self.head() is not None

    def is_dir(self) -> bool:
        """Whether any object lies in it; on the web never known, and False."""
        if not self.can_list:
            return False
        with as_os_errors(str(self)):
            return retried(lambda: any(self._store.list(self._prefix, chunk_size=1)))

    def head(self) -> Stored | None:
        """Size and version of the object; None if there is none."""
        try:
            with as_os_errors(str(self)):
                meta: Any = retried(lambda: self._store.head(self.key))
        except FileNotFoundError:
            return None
        return Stored(self.name, int(meta["size"]), _version(meta))

    def read_bytes(self) -> bytes:
        with as_os_errors(str(self)):
            return retried(lambda: bytes(self._store.get(self.key).bytes()))

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def read_ranges(self, starts: Sequence[int], counts: Sequence[int]) -> list[bytes]:
        """So many bytes from each of some positions; less where the object ends."""
        if not any(counts):
            return [b""] * len(counts)
        with as_os_errors(str(self)):
            found = retried(lambda: self._store.get_ranges(self.key, starts=starts, lengths=counts))
            return [bytes(part) for part in found]

    def read_part(self, start: int, stop: int) -> tuple[bytes, int]:
        """The bytes from `start` up to `stop`, and how many the object has, in one request."""

        def ask() -> tuple[bytes, int]:
            found: Any = self._store.get(self.key, options={"range": (start, stop)})
            return bytes(found.bytes()), int(found.meta["size"])

        with as_os_errors(str(self)):
            return retried(ask)

    def write_bytes(self, data: bytes | memoryview) -> None:
        """Put the object, as a whole, in place of what there was."""
        self._require_writable()
        with as_os_errors(str(self)):
            # Never in parts: a repeated end of a put in parts is refused when its reply was lost.
            retried(lambda: self._store.put(self.key, data, use_multipart=False))

    def create(self, data: bytes) -> bool:
        """Put the object if there is none of its name; whether it was this call that did.

        When a reply is lost, the store is asked a second time and says that the object is there:
        whether it is ours, only `data` can tell.
        """
        self._require_writable()
        try:
            with as_os_errors(str(self)):
                try:
                    retried(
                        lambda: self._store.put(self.key, data, mode="create", use_multipart=False)
                    )
                except (AlreadyExistsError, PreconditionError):
                    return self.read_bytes() == data
        except FileNotFoundError:
            return False
        return True

    def unlink(self, missing_ok: bool = False) -> None:
        self._require_writable()
        if not missing_ok and not self.is_file():
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self))
        with as_os_errors(str(self)):
            try:
                retried(lambda: self._store.delete(self.key))
            except FileNotFoundError:
                return

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Nothing: folders of objects need not be made."""

    def entries(self) -> list[Entry]:
        """Files and folders in this folder, by name; asks the store once a thousand."""
        with as_os_errors(str(self)):
            found: Any = retried(lambda: self._store.list_with_delimiter(self.key or None))
        at = len(self._prefix)
        names = {item["path"][at:] for item in found["objects"]}
        folders = {prefix.rstrip("/")[at:] for prefix in found["common_prefixes"]}
        every = [Entry(name, False) for name in names - {""}] + [Entry(n, True) for n in folders]
        return sorted(every, key=lambda entry: (entry.name, entry.is_folder))

    def walk(self) -> Iterator[Stored]:
        """Every object in this folder, at any depth."""
        at, last = len(self._prefix), None
        while True:
            with as_os_errors(str(self)):
                page: Any = retried(lambda after=last: self._page(after))  # type: ignore[misc]
            for item in page:
                yield Stored(str(item["path"])[at:], int(item["size"]), _version(item))
            if len(page) < PAGE:
                return
            last = str(page[-1]["path"])

    def _page(self, after: str | None) -> Any:
        """The first objects behind a name."""
        return next(iter(self._store.list(self._prefix, offset=after, chunk_size=PAGE)), [])

    def copy_to(self, target: StorePath) -> None:
        """Copy the object within the store; its bytes do not travel."""
        self._require_writable()
        with as_os_errors(str(self)):
            retried(lambda: self._store.copy(self.key, target.key))

    @property
    def _store(self) -> ObjectStore:
        return open_store(self.root)

    @property
    def _prefix(self) -> str:
        return f"{self.key}/" if self.key else ""

    def _require_writable(self) -> None:
        if not self.can_list:
            raise PermissionError(errno.EROFS, "the web is only read from", str(self))


AnyPath = Path | StorePath


def is_url(text: str) -> bool:
    """Whether a path names an object store."""
    return "://" in text


def path_of(text: str) -> AnyPath:
    """The place that a path or a URL names."""
    return StorePath.of(text) if is_url(text) else Path(text)


def is_inside(place: AnyPath, folder: AnyPath) -> bool:
    """Whether a place is a folder or lies in it; neither may hold ".."."""
    if isinstance(place, StorePath) and isinstance(folder, StorePath):
        return place.is_relative_to(folder)
    if isinstance(place, Path) and isinstance(folder, Path):
        return place.is_relative_to(folder)
    return False


def absolute_path(path: AnyPath) -> AnyPath:
    """A path from the root of the disk, without ".."; links keep their names."""
    if isinstance(path, StorePath):
        return path
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would rename links


def _version(meta: Any) -> str:
    """What changes with the content: the entity tag, or else when it was changed."""
    return str(meta.get("e_tag") or meta["last_modified"])
