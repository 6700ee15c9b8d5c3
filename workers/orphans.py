"""Processes that must not outlive the one that answers for them."""

from __future__ import annotations

import ctypes
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h

# Loaded here, for `end_with_parent` may run between fork and exec, where little is safe.
_LIBC = ctypes.CDLL(None)


def end_with_parent(number: int) -> None:
    """Let the kernel send this process a signal when its parent ends, however that ends.

    It is tied to the thread that started this process. Elsewhere than on Linux it does nothing.

    Parameters
    ----------
    number : int
        Such as ``signal.SIGTERM``.
    """
    if sys.platform.startswith("linux"):
        _LIBC.prctl(PR_SET_PDEATHSIG, number)
