"""How many windows a network takes at once."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import PlanError
from pipeline.nets.device import GPU_LOCK

log = logging.getLogger(__name__)

Shape = tuple[int, ...]

#: Part of the free memory that a batch may take: the next one's windows come meanwhile.
MEMORY_PART = 0.7
#: Pixels of a batch that keep a GPU busy: larger ones take memory and give no speed.
ENOUGH_PX = 2**21
#: Windows of a batch at most.
MOST = 64


class BatchSizes:
    """Batch sizes of one network, by the shape of its windows; kept with it from task to task.

    Parameters
    ----------
    batch : int, optional
        Fixed. By default 1 on a CPU, and on a GPU found by the first window of a shape: a power of
        two, so that a little more or less free memory finds the same size again.
    """

    def __init__(self, batch: int | None = None) -> None:
        if batch is not None and batch < 1:
            raise PlanError(f"batch is {batch}: at least 1 window is computed at once.")
        self._batch = batch
        self._found: dict[Shape, int] = {}
        self._lock = threading.Lock()

    def of(self, shape: Shape) -> int | None:
        """Windows of `shape` (C, \\*S) at once; None where it is not known yet."""
        return self._found.get(shape, self._batch)

    def find(self, window: Tensor, compute: Callable[[Tensor], Any], device: torch.device) -> int:
        """The size for windows like this one (C, \\*S); on a GPU one is computed to see."""
        shape = tuple(window.shape)
        known = self.of(shape)
        if known is not None:
            return known
        if device.type != "cuda":
            return self._keep(shape, 1)
        with GPU_LOCK:
            known = self.of(shape)  # the other order of this GPU may have found it
            if known is not None:
                return known
            size = fitting(*_measure(window, compute, device), math.prod(shape[1:]))
            log.info("batches of %d windows %s on %s", size, "x".join(map(str, shape)), device)
            return self._keep(shape, size)

    def halve(self, shape: Shape, size: int) -> None:
        """A batch of `size` did not fit.

        Raises
        ------
        PlanError
            If it was a single window.
        """
        what = "x".join(map(str, shape))
        if size == 1:
            raise PlanError(
                f"a window of {what} takes more memory than the GPU has free{_free()}. Choose "
                "smaller blocks or 16-bit precision, or end what else uses the GPU."
            )
        log.warning("%d windows of %s do not fit into the GPU's memory: halved", size, what)
        self._keep(shape, size // 2)

    def _keep(self, shape: Shape, size: int) -> int:
        with self._lock:
            self._found[shape] = min(size, self._found.get(shape, size))
            return self._found[shape]


def fitting(free_bytes: int, window_bytes: int, window_px: int) -> int:
    """Windows that fit and keep a GPU busy: a power of two, at least 1 and at most `MOST`."""
    by_memory = int(MEMORY_PART * free_bytes / max(1, window_bytes))
    size = max(1, min(by_memory, ENOUGH_PX // window_px, MOST))
    return 1 << (size.bit_length() - 1)


def _measure(
    window: Tensor, compute: Callable[[Tensor], Any], device: torch.device
) -> tuple[int, int]:
    """Free bytes of the GPU, and the bytes that one window takes beside the weights."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    try:
        compute(window[None].to(device))
        torch.cuda.synchronize(device)
    except torch.cuda.OutOfMemoryError:
        log.debug("a single window does not fit", exc_info=True)
    used = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(device)[0], used


def _free() -> str:
    if not torch.cuda.is_available():
        return ""
    free, total = torch.cuda.mem_get_info()
    return f" ({free / 2**30:.1f} of {total / 2**30:.1f} GiB)"
