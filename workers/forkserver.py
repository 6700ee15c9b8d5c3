"""The process that embedded workers are forked from.

Importing this module costs a few milliseconds: distributed (0.6 s) is imported by the cluster on
first use, so that `start_forkserver` can run before it. What is heavy is then imported twice at
the same time, here and in the fork server, and a worker is a fork (0.1 s) instead of a new
interpreter.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, get_context

WORKER_ENVIRONMENT: Mapping[str, str] = {
    # Dask sets the trim threshold to 64 KiB; 256 MiB made tiles 1.5x faster (RSS 297 -> 414 MB).
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    # A task runs in a thread, and the arenas of threads come in heaps of 64 MiB that few tiles'
    # arrays fit into: one arena made tiles 1.2x faster and the peak 20 % lower (375 -> 304 MB).
    "MALLOC_ARENA_MAX": "1",
    # One process per core: a thread pool in each would oversubscribe the machine.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    # A folder named `pipeline` in the user's working directory must not be imported for ours.
    "PYTHONSAFEPATH": "1",
}
"""What a worker process has in its environment before its first instruction."""

PRELOAD = ("distributed", "distributed.nanny", "distributed.worker", "numpy")
"""What the fork server always imports; distributed alone is 0.6 s of a worker's start."""

_started_here = False


def start_forkserver(preload: Sequence[str] = ()) -> None:
    """Start the process that embedded workers are forked from, and return at once (40 ms).

    Call it first of all, before anything heavy is imported; later calls do nothing.

    Parameters
    ----------
    preload : sequence of str
        Modules that tiles need, imported there once and shared by all workers copy-on-write. For
        zarr, numba, scikit-image and their like the first tile comes back 1.5-2 s earlier, and a
        worker has 24 MB of its own instead of 81. A module that cannot be imported is left out
        silently. None may start threads when imported, because a fork copies the locks that such
        a thread holds and not the thread (pyarrow's jemalloc does, and handles forks itself).
    """
    global _started_here
    if _started_here or _runs() or not sys.platform.startswith("linux"):
        return
    get_context("forkserver").set_forkserver_preload([*PRELOAD, *preload])
    # glibc reads MALLOC_* when a program starts, so they are set before this exec or never.
    with _environment(WORKER_ENVIRONMENT):
        forkserver.ensure_running()
    _started_here = True


def is_ours() -> bool:
    """Tell whether workers are forked from the process that `start_forkserver` made."""
    return _started_here


def _runs() -> bool:
    """Tell whether someone else started the fork server, without our environment."""
    server = getattr(forkserver, "_forkserver", None)
    return getattr(server, "_forkserver_pid", None) is not None


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and put back what was there."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
