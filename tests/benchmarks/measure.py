"""Run a command and account for all of it: the process and every descendant."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

RSS_PERIOD_S = 0.05
PSS_EVERY = 4  # reading PSS walks the page tables, so it is sampled less often
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Usage:
    """What one command used. Memory is the sum over the tree at its highest sample."""

    returncode: int
    wall_s: float
    cpu_s: float
    rss_peak_mb: float
    pss_peak_mb: float
    processes: int
    timed_out: bool
    stdout: str
    stderr: str


def adopt_orphans() -> None:
    """Make this process the parent of orphaned descendants, so that they are counted and ended."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _cpu_of_children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _pss_mb(process: psutil.Process) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


_SPARED: set[int] = set()


def spare_descendants() -> None:
    """Leave what runs now, such as a server for all runs, out of every measurement."""
    _SPARED.update(process.pid for process in psutil.Process().children(recursive=True))


def _descendants() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if p.pid not in _SPARED]


def _end_descendants() -> None:
    """Stop what the command left behind and reap it, so that its CPU time is counted."""
    left = _descendants()
    for sent in (signal.SIGTERM, signal.SIGKILL):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(sent)
        _, left = psutil.wait_procs(left, timeout=5)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def run_measured(command: list[str], log: Path, timeout_s: float, **environ: str) -> Usage:
    """Run `command` and sample its process tree until it ends.

    CPU seconds come from the kernel's account of reaped children, orphans included, so
    processes that live for less than a sampling period are counted too.
    """
    adopt_orphans()
    out, err = log.with_suffix(".out"), log.with_suffix(".err")
    cpu_before = _cpu_of_children_s()
    rss_peak = pss_peak = 0.0
    most = samples = 0
    timed_out = False
    with out.open("wb") as stdout, err.open("wb") as stderr:
        started = time.perf_counter()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **environ},
            start_new_session=True,
        )
        while True:
            try:
                child.wait(RSS_PERIOD_S)
                break
            except subprocess.TimeoutExpired:
                pass
            rss = 0.0
            tree = _descendants()
            for process in tree:
                with contextlib.suppress(psutil.NoSuchProcess):
                    rss += process.memory_info().rss / 2**20
            rss_peak = max(rss_peak, rss)
            most = max(most, len(tree))
            if samples % PSS_EVERY == 0:
                pss_peak = max(pss_peak, sum(map(_pss_mb, tree)))
            samples += 1
            if time.perf_counter() - started > timeout_s:
                timed_out = True
                break
        wall = time.perf_counter() - started
    _end_descendants()
    return Usage(
        returncode=child.poll() if child.poll() is not None else -signal.SIGKILL,
        wall_s=wall,
        cpu_s=_cpu_of_children_s() - cpu_before,
        rss_peak_mb=rss_peak,
        pss_peak_mb=pss_peak,
        processes=most,
        timed_out=timed_out,
        stdout=out.read_text(errors="replace"),
        stderr=err.read_text(errors="replace"),
    )
