"""Loading what joins and writes tables while the workers are still at the tiles.

Numba's tables, the kernels of the union-find and Arrow's compute functions take 0.8 s at their
first use, which the command would otherwise spend when the last tile is done.
"""

from __future__ import annotations

import functools
import logging
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.kernels.unionfind import DisjointSets
from pipeline.shape import axes_and_direction

log = logging.getLogger(__name__)


@functools.cache
def load_in_background() -> threading.Thread:
    """Start loading, once a process; nobody has to wait for it."""
    thread = threading.Thread(target=_load, name="tilewright-warm", daemon=True)
    thread.start()
    return thread


def _load() -> None:
    try:
        sets = DisjointSets(2)
        sets.unite(np.array([0]), np.array([1]))
        sets.names()
        axes_and_direction(np.eye(2)[None], "px")
        with pa.BufferOutputStream() as stream:
            pq.write_table(pa.table({"label": [1]}), stream, compression="zstd")
    except Exception:
        # The run does the same things later and reports what is wrong with them.
        log.debug("loading ahead failed", exc_info=True)
