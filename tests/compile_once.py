"""Kernels are compiled by one of the processes that run tests; the others wait and load them."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from numba import config
from numba.core.caching import NullCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

import pipeline.kernels  # noqa: F401  says where compiled kernels are kept


@contextmanager
def kernels_compiled_once() -> Iterator[None]:
    """Hold a lock of each kernel that is compiled; it is looked for in the cache under the lock.

    A process that waits computes nothing, while several that compile the same take each other's
    cores, and the last one that writes an index of the cache forgets what the others wrote.
    """
    folder = Path(config.CACHE_DIR) / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    real, held = Dispatcher.compile, set[str]()

    def compile_or_load(self: Any, signature: Any) -> Any:
        name = f"{self.py_func.__module__}.{self.py_func.__qualname__}"
        if isinstance(self._cache, NullCache):
            return real(self, signature)
        # The lock of this process comes first, so that its threads never wait for its files.
        with global_compiler_lock:
            if name in held:
                return real(self, signature)
            with (folder / name).open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                held.add(name)
                try:
                    return real(self, signature)
                finally:
                    held.remove(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dispatcher, "compile", compile_or_load)
        yield
