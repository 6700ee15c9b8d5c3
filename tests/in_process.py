"""The stages of a request in this process: without a server, and with a cluster only if given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flows.dataset import DatasetRun
from flows.progress import RunProgress
from flows.request import Request, claim
from pipeline.plan import Machine
from pipeline.run_folder import RunFolder
from pipeline.table_file import table_digest
from workers.submit import run_serially

MACHINE = Machine(2, 4 * 2**30)


@contextmanager
def opened(request: Request, submit: Callable[..., Any] = run_serially) -> Iterator[DatasetRun]:
    """Hold the folder of a request; `submit` does its batches."""
    folder, progress = RunFolder(request.out, request.work), RunProgress("test")
    with folder.writing() as manifest:
        claim(request, folder, manifest)
        yield DatasetRun(request, folder, manifest, submit, MACHINE, progress, time.time())


def segment(
    request: Request, submit: Callable[..., Any] = run_serially, small: bool | None = None
) -> RunFolder:
    """Do all stages, but for a survey of the dataset.

    Parameters
    ----------
    request : Request
    submit : callable
    small : bool, optional
        Treat all images as small ones, or as large ones; by default each as its plan says.
    """
    with opened(request, submit) as run:
        plans = run.plan(run.admit())
        alone = [plan for plan in plans if (plan.small if small is None else small)]
        run.segment_small(alone, {})
        for plan in plans:
            if plan not in alone:
                run.segment_large(plan, {})
        run.finish()
    return run.folder


def digests(folder: RunFolder) -> tuple[list[str], str]:
    """Each image's name, status and digest of its labels; and the digest of the table."""
    manifest = folder.reading()
    try:
        labels = [f"{row.name} {row.status} {row.digest}" for row in manifest.images()]
    finally:
        manifest.close()
    return labels, table_digest(folder.objects)
