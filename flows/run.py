"""`tilewright run`: brings the folder, the cluster and the server together around the flow."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.admission import list_sources
from flows.dataset import DatasetRun
from flows.devices import choose_device, own_gpus
from flows.progress import RunProgress
from flows.request import Request, claim
from flows.server import ServerHandle, start_server
from flows.stopping import StoppableSubmit
from pipeline.errors import OutputError, TilewrightError
from pipeline.manifest import Manifest
from pipeline.plan import Machine
from pipeline.run_folder import RunFolder
from workers.cluster import capacity, open_cluster
from workers.gpu import ORDERS_PER_GPU
from workers.submit import run_batches

if TYPE_CHECKING:
    from distributed.security import Security

log = logging.getLogger(__name__)

#: A user's database and log of the embedded Prefect server.
SERVER_HOME = Path("~/.tilewright/prefect")
#: What threads of a run that is stopped get to notice it.
STOP_SECONDS = 5.0


def run_request(request: Request, started: float | None = None) -> dict[str, Any]:
    """Run a request to its end.

    The cluster, the server and Prefect's own import (2 s) start beside each other.

    Parameters
    ----------
    request : Request
    started : float, optional
        When the command began, in seconds since 1970; now by default.

    Returns
    -------
    dict
        The content of run.json.

    Raises
    ------
    TilewrightError
        If the request was refused, or the run had to stop; images that fail do not raise.
    """
    # Since the process began, imports included: what the user waited.
    begun = time.time() if started is None else started
    with (
        claimed(request) as (folder, manifest),
        embedded_server(SERVER_HOME) as server,
        opened_run(request, folder, manifest, begun) as run,
    ):
        from flows.segment import segment_dataset

        server.wait()
        named = segment_dataset.with_options(
            flow_run_name=f"{request.recipe.label}: {request.archive.name}"
        )
        named(run)
        return folder.read_run()


@contextmanager
def claimed(request: Request) -> Iterator[tuple[RunFolder, Manifest]]:
    """Hold a request's folder for this process alone.

    Raises
    ------
    TilewrightError
        If there is nothing to do, or the folder is another request's or another process's.
    """
    _check_paths(request)
    folder = RunFolder(request.out, request.work)
    if request.fresh:
        folder.start_over()
    with folder.writing() as manifest:
        claim(request, folder, manifest)
        yield folder, manifest


@contextmanager
def opened_run(
    request: Request,
    folder: RunFolder,
    manifest: Manifest,
    begun: float,
    security: Security | None = None,
    before_images: Callable[[], None] = lambda: None,
) -> Iterator[DatasetRun]:
    """Hold a cluster for the stages of a request's run.

    When the context ends, nothing more is asked of the cluster.

    Parameters
    ----------
    request : Request
    folder, manifest : RunFolder, Manifest
        See `claimed`.
    begun : float
        When it was asked for, in seconds since 1970.
    security : Security, optional
        What is shown to the scheduler that the request names.
    before_images : callable
        See `DatasetRun`.
    """
    with log_file(folder.local / "run.log"):
        gpus = own_gpus(request)
        machine = Machine.of(request.recipe, request.workers, ORDERS_PER_GPU * len(gpus))
        with open_cluster(
            machine.workers, request.scheduler, gpus=gpus, security=security
        ) as client:
            use_gpus = choose_device(request, manifest, client, gpus) == "gpu"
            if request.scheduler is not None:
                threads, room = capacity(client)
                machine = Machine(threads, room or machine.bytes_per_worker)
            submit = StoppableSubmit(partial(run_batches, client, use_gpus=use_gpus))
            progress = RunProgress(request.recipe.label, artifact_key=_artifact_key(request))
            run = DatasetRun(
                request, folder, manifest, submit, machine, progress, begun, before_images
            )
            run.begin()
            try:
                yield run
            finally:
                submit.stop(STOP_SECONDS)


def _check_paths(request: Request) -> None:
    """Refuse a mistyped archive before anything is written, and an archive that is the output."""
    list_sources(request)
    if request.out.resolve() == request.archive.resolve():
        raise OutputError(
            f"{request.out}: is the archive itself. Choose another OUT; a folder inside the "
            "archive will do."
        )


@contextmanager
def embedded_server(home: Path) -> Iterator[ServerHandle]:
    """A Prefect server for one command, which keeps its own log lines out of the terminal."""
    # Prefect's own log lines would tear the progress bar, and what it says of a failure (with a
    # traceback) is said better by the error; the server and its pages still get all of it.
    if "PREFECT_LOGGING_LEVEL" not in os.environ:
        os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")
    handle = start_server(home)
    try:
        yield handle
    finally:
        handle.stop()


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Keep everything, tracebacks included, in a file for those who look into a failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in ("pipeline", "workers", "flows")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    except TilewrightError:
        raise
    except Exception as error:
        log.info("the run stopped", exc_info=True)
        raise TilewrightError(
            f"The run stopped for a reason that was not foreseen: {type(error).__name__}: {error}. "
            f"{path} has the traceback. What is finished is kept: the same command continues."
        ) from error
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()


def _artifact_key(request: Request) -> str:
    """Lower case, digits and dashes, the same for every run of a request."""
    plain = "".join(c if c.isalnum() and c.isascii() else "-" for c in request.recipe.label.lower())
    return f"{plain}-{request.plan[:8]}"
