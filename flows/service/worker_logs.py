"""What Dask's workers warn of, in the log of the run that they work for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

#: Loggers that Prefect shows in a run's log, see PREFECT_LOGGING_EXTRA_LOGGERS.
LOGGERS = ("pipeline", "workers", "flows")


def show_in_run(run_id: str, loggers: Sequence[str] = LOGGERS) -> None:
    """Let Prefect's handlers take records that Dask forwards from its workers.

    They come in a thread that knows of no run, so each is told whose it is. Where several runs
    share a cluster each gets the warnings of all: Dask does not say which asked.

    Parameters
    ----------
    run_id : str
        Of the flow run of this process.
    loggers : sequence of str
    """
    for name in loggers:
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(partial(_told, run_id))


def _told(run_id: str, record: logging.LogRecord) -> bool:
    """Add the run to a record of a worker, which Dask gives its address."""
    if hasattr(record, "worker") and not hasattr(record, "flow_run_id"):
        record.flow_run_id = run_id
    return True
