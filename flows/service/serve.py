"""`tilewright serve`: the units of this machine, until a signal comes."""

from __future__ import annotations

import fcntl
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flows.service.keys import CA, make_keys
from flows.service.settings import Settings
from flows.service.supervisor import Supervisor
from flows.service.units import MAKERS, units
from pipeline.errors import ClusterError, OutputError, RecipeError


def serve(settings: Settings, wanted: Sequence[str], say: Callable[[str], object]) -> None:
    """Run units until SIGINT or SIGTERM, or until all have ended that end by themselves.

    Parameters
    ----------
    settings : Settings
    wanted : sequence of str
        Names of units, see `flows.service.units`; all if empty.
    say : callable
        Takes what the user is told.

    Raises
    ------
    RecipeError
        A unit is not known.
    OutputError
        The service runs already, or its home cannot be written.
    TilewrightError
        A unit does not start.
    """
    if unknown := [name for name in wanted if name not in MAKERS]:
        raise RecipeError(f"{unknown[0]}: no such unit. Units: {', '.join(MAKERS)}.")
    names = list(wanted) or list(MAKERS)
    with _held(settings.home, names):
        if set(names) == set(MAKERS) and not (settings.keys / CA).exists():
            make_keys(settings.keys)  # all is on this machine: nobody needs a copy of them
        found = units(settings, names)
        if not found:
            raise ClusterError(
                "This machine has no GPU that the driver tells of: there is nothing to start. "
                "Repair the driver, or name GPUs in `cluster.gpus`."
            )
        supervisor = Supervisor(found, settings.home / "logs", settings.log_to == "files")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, supervisor.stop)
        try:
            if supervisor.start():
                say(_greeting(settings, names))
                supervisor.watch()
        finally:
            supervisor.shut_down()


def _greeting(settings: Settings, names: Sequence[str]) -> str:
    """Where to look."""
    lines = {
        "server": f"Runs:       {settings.server.api_url.removesuffix('/api')}",
        "scheduler": f"Cluster:    {settings.cluster.dashboard_url}/status",
        "pages": f"Metrics:    {settings.pages.base_url}/metrics",
    }
    shown = [line for name, line in lines.items() if name in names]
    if settings.log_to == "files":
        shown.append(f"Logs:       {settings.home / 'logs'}")
    return "\n".join([*shown, "Ctrl-C stops the service."])


@contextmanager
def _held(home: Path, names: Sequence[str]) -> Iterator[None]:
    """Hold each unit of a home for this process; the kernel lets go however it ends."""
    with ExitStack() as stack:
        for name in names:
            try:
                home.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = stack.enter_context((home / f"{name}.lock").open("w"))
            except OSError as error:
                raise OutputError(
                    f"{home}: the service cannot write here ({error.strerror}). Set `home` of the "
                    "configuration to another folder, or correct its permissions."
                ) from error
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise OutputError(
                    f"{home}: its {name} runs already. Stop that service first, or set `home` to "
                    "another folder."
                ) from error
        yield
