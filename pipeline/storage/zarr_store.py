"""Zarr groups in object stores, through zarr's own adapter of obstore, but stricter.

1. Every object is put in one request: of a put in parts, a lost reply cannot be repeated.
2. Of an image that must not have holes, a chunk that is not there raises: zarr would read it as
   background without a word.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore

from pipeline.storage.paths import AnyPath, StorePath, path_of
from pipeline.storage.stores import as_os_errors, open_store, retried_async

#: Objects that zarr may look for in vain.
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


class FolderStore(ObjectStore[Any]):
    """A folder of objects as a zarr store.

    Parameters
    ----------
    folder : StorePath
    strict : bool
        Whether a chunk that is not there raises FileNotFoundError.
    """

    def __init__(self, folder: StorePath, *, read_only: bool = False, strict: bool = False) -> None:
        # The library unescapes its URL: "%2e%2e" in a name would lead out of the folder.
        url = f"{folder.root}/{quote(folder.key)}"
        super().__init__(open_store(url), read_only=read_only)
        self.folder = folder
        self.strict = strict

    def with_read_only(self, read_only: bool = False) -> FolderStore:
        return FolderStore(self.folder, read_only=read_only, strict=self.strict)

    def __str__(self) -> str:
        return str(self.folder)

    def __reduce__(self) -> Any:
        # Handles do not travel: who receives it opens its own.
        return _reopened, (self.folder, self.read_only, self.strict)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        with as_os_errors(f"{self.folder}/{key}"):
            found = await retried_async(lambda: self._get(key, prototype, byte_range))
        if found is None and self.strict and not key.endswith(METADATA):
            raise FileNotFoundError(errno.ENOENT, "no such object", f"{self.folder}/{key}")
        return found

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()
        with as_os_errors(f"{self.folder}/{key}"):
            data = value.as_buffer_like()
            await retried_async(lambda: self.store.put_async(key, data, use_multipart=False))

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        with as_os_errors(f"{self.folder}/{key}"):
            await retried_async(partial(super().set_if_not_exists, key, value))

    async def exists(self, key: str) -> bool:
        with as_os_errors(f"{self.folder}/{key}"):
            return await retried_async(partial(super().exists, key))

    async def delete(self, key: str) -> None:
        with as_os_errors(f"{self.folder}/{key}"):
            await retried_async(partial(super().delete, key))

    async def delete_dir(self, prefix: str) -> None:
        for name in [name async for name in self.list_prefix(prefix)]:
            await self.delete(name)

    async def list(self) -> AsyncGenerator[str, None]:
        async for name in self.list_prefix(""):
            yield name

    async def list_prefix(self, prefix: str) -> AsyncGenerator[str, None]:
        with as_os_errors(f"{self.folder}/{prefix}"):
            found = await retried_async(lambda: self.store.list(prefix or None).collect_async())
        for item in found:
            yield item["path"]

    async def list_dir(self, prefix: str) -> AsyncGenerator[str, None]:
        begin = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        with as_os_errors(f"{self.folder}/{prefix}"):
            found: Any = await retried_async(
                lambda: self.store.list_with_delimiter_async(begin.rstrip("/") or None)
            )
        for place in (*found["common_prefixes"], *(item["path"] for item in found["objects"])):
            yield place.rstrip("/").removeprefix(begin)

    async def _get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None
    ) -> Buffer | None:
        return await super().get(key, prototype, byte_range)


def _reopened(folder: StorePath, read_only: bool, strict: bool) -> FolderStore:
    return FolderStore(folder, read_only=read_only, strict=strict)


def zarr_place(path: AnyPath | str, *, strict: bool = False) -> str | FolderStore:
    """What zarr opens a group or an array by.

    Parameters
    ----------
    path : Path, StorePath or str
    strict : bool
        Whether a chunk that a store does not hold raises FileNotFoundError.
    """
    place = path_of(path) if isinstance(path, str) else path
    return str(place) if isinstance(place, Path) else FolderStore(place, strict=strict)
