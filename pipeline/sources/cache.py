"""Decoded segments, the last used ones, bounded in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np

#: What a source keeps by itself.
CACHE_BYTES = 64 << 20


class SegmentCache:
    """Keep decoded blocks so that the tiles of a row do not decode the same strip again.

    Parameters
    ----------
    limit_bytes : int
        Blocks beyond it are dropped, oldest first. The newest block always stays, even a larger
        one: a page that is one single strip would otherwise be decoded for each of its tiles.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._blocks: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._bytes, self._once = 0, False
        self._lock = threading.Lock()

    def get(self, key: Hashable, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """The block of `key`; `decode` is called where it is not held. Read-only."""
        block = self.find(key)
        if block is None:
            block = decode()  # outside the lock: threads decode different segments at once
            self.keep(key, block)
        return block

    def find(self, key: Hashable) -> np.ndarray | None:
        """The block of `key`, if it is held. Read-only."""
        with self._lock:
            block = self._blocks.get(key)
            if block is not None:
                self._blocks.move_to_end(key)
        return block

    def keep(self, key: Hashable, block: np.ndarray, used_up: bool = False) -> None:
        """Hold a block, which is read-only from now on.

        One that a read has used up, all its pixels, is not held while pixels are read `once`.
        """
        block.flags.writeable = False
        if used_up and self._once:
            return
        with self._lock:
            if key in self._blocks:
                return
            self._blocks[key] = block
            self._bytes += block.nbytes
            while self._bytes > self._limit and len(self._blocks) > 1:
                _, old = self._blocks.popitem(last=False)
                self._bytes -= old.nbytes

    def limit(self, limit_bytes: int, once: bool = False) -> None:
        """Keep more or less from now on; `once`: no pixel will be wanted twice."""
        with self._lock:
            self._limit, self._once = limit_bytes, once

    def clear(self) -> None:
        with self._lock:
            self._blocks.clear()
            self._bytes = 0
