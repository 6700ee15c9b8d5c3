"""The command line. Heavy imports come late, so that help and errors come at once."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from flows import evaluate_command, formats_command, inspect_command
from flows.options import Archive, Only, Out, Recipe, Tile, Work, Workers
from flows.service.commands import register
from pipeline.errors import (
    DataError,
    ModelError,
    PlanError,
    RecipeError,
    TilewrightError,
    ViewError,
)
from pipeline.errors import OutputError as _OutputError

#: When the command began; the interpreter itself takes another 20 ms.
STARTED = time.time()

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Segment microscopy archives; tiled equals untiled, bit for bit.",
)


class Device(StrEnum):
    """Where a model is trained."""

    AUTO = "auto"
    CPU = "cpu"
    GPU = "gpu"


class Exit(IntEnum):
    """Exit statuses."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    QUARANTINED = 3
    INTERRUPTED = 130


@app.command()
def run(
    recipe: Recipe,
    archive: Archive,
    out: Annotated[
        str,
        typer.Argument(help="Where results go, on disk or in a bucket; a rerun continues there."),
    ],
    tile: Tile = None,
    workers: Workers = None,
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", help="A running Dask scheduler; by default its own."),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh/--resume", help="Set aside what OUT holds and start over, or continue."
        ),
    ] = False,
    only: Only = None,
    work: Work = None,
) -> None:
    """Segment an archive: OME-Zarr labels, an object table, a report.

    Exit status: 0 all published, 3 some images quarantined, 2 refused, 1 stopped.
    """
    from workers.forkserver import start_forkserver
    from workers.preload import PRELOAD

    if scheduler is None:
        start_forkserver(PRELOAD)
    from flows.request import Request
    from pipeline.labels_recipe import load_any_recipe
    from pipeline.storage import absolute_path, path_of

    def go() -> Exit:
        request = Request(
            load_any_recipe(recipe),
            path_of(archive),
            path_of(out),
            tile,
            workers,
            scheduler,
            fresh,
            only,
            work=None if work is None else absolute_path(path_of(work)),
        )
        from flows.run import run_request

        record = run_request(request, STARTED)
        _say_result(record, out)
        return Exit.QUARANTINED if record["counts"]["quarantined"] else Exit.DONE

    _end(go)


@app.command()
def plan(
    recipe: Recipe,
    archive: Archive,
    out: Annotated[str, typer.Option("--out", help="Where results would go.")] = "out",
    tile: Tile = None,
    workers: Workers = None,
    only: Only = None,
) -> None:
    """Say what a run would do and take, and refuse what cannot fit; nothing is written."""

    def go() -> Exit:
        from flows.dry_run import dry_run
        from flows.request import Request
        from pipeline.labels_recipe import load_any_recipe
        from pipeline.storage import path_of

        asked = Request(
            load_any_recipe(recipe), path_of(archive), path_of(out), tile, workers, only=only
        )
        found = dry_run(asked)
        typer.echo(found.text())
        return Exit.QUARANTINED if found.refused else Exit.DONE

    _end(go)


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(help="A YAML file, or the name of a shipped training recipe.")
    ],
    data: Annotated[Path, typer.Argument(help="A folder with images and their labels.")],
    out: Annotated[Path, typer.Argument(help="Where the model goes; a rerun continues there.")],
    device: Annotated[
        Device, typer.Option("--device", help="GPUs if there are any (auto), or what is named.")
    ] = Device.AUTO,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh/--resume", help="Set aside what OUT holds and start over, or continue."
        ),
    ] = False,
) -> None:
    """Train a model on images and labels: a model folder, a recipe that uses it, a report.

    Exit status: 0 trained, 2 refused (bad data among others), 1 stopped.
    """

    # Read when torch is loaded. Threads that wait for others otherwise spin: beside another
    # training on two cores, one of 2 minutes took 10.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    def go() -> Exit:
        from flows.train import TrainRequest, run_training
        from pipeline.training.recipe import load_training_recipe

        request = TrainRequest(load_training_recipe(recipe), data, out, device.value, fresh)
        typer.echo(run_training(request))
        return Exit.DONE

    _end(go)


@app.command()
def status(out: Out) -> None:
    """Say what is done, running, failed, and quarantined and why."""

    def go() -> Exit:
        from pipeline.status import status_text
        from pipeline.storage import path_of

        text, quarantined = status_text(path_of(out))
        typer.echo(text)
        return Exit.QUARANTINED if quarantined else Exit.DONE

    _end(go)


@app.command()
def verify(out: Out) -> None:
    """Read everything that was published again, and check it against its digests."""

    def go() -> Exit:
        from pipeline.storage import path_of
        from pipeline.verify import verify_folder

        found = verify_folder(path_of(out))
        typer.echo(found.text())
        return Exit.FAILED if found.damaged else Exit.DONE

    _end(go)


@app.command()
def view(
    out: Out,
    port: Annotated[
        int,
        typer.Option(
            "--port", min=0, max=65535, help="Where to listen; by default any that is free."
        ),
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open a browser, or say the address.")
    ] = True,
) -> None:
    """Show images and labels of a run in the browser, however large they are."""

    def go() -> Exit:
        from flows.viewer import view_run
        from pipeline.storage import path_of

        view_run(path_of(out), port, browser, typer.echo)
        return Exit.DONE

    _end(go)


@app.command()
def model(
    path: Annotated[
        str, typer.Argument(help="A model's folder or file, or the name of a shipped one.")
    ],
) -> None:
    """Say what a model takes and gives, and check that it opens.

    Exit status: 0 it can be used, 2 it cannot, or its card is missing.
    """

    def go() -> Exit:
        from flows.model import card_to_write, model_text

        missing = card_to_write(path)
        typer.echo(missing if missing is not None else model_text(path))
        return Exit.DONE if missing is None else Exit.REFUSED

    _end(go)


def _end(action: Any) -> NoReturn:
    """Run a command's body; turn errors into a message and a status."""
    try:
        status = action()
    except (RecipeError, PlanError, ModelError, DataError, ViewError, _OutputError) as error:
        status = _complain(error, Exit.REFUSED)
    except TilewrightError as error:
        status = _complain(error, Exit.FAILED)
    except KeyboardInterrupt:
        print("Interrupted. The same command continues where it stopped.", file=sys.stderr)  # noqa: T201
        status = Exit.INTERRUPTED
    raise typer.Exit(int(status))


def _complain(error: Exception, status: Exit) -> Exit:
    typer.secho(str(error), fg=typer.colors.RED, err=True)
    return status


def _say_result(record: dict[str, Any], out: str) -> None:
    counts = record["counts"]
    classes = ", ".join(record["classes"])
    found = f"classes {classes}" if classes else f"{counts['objects']:,} objects"
    typer.echo(
        f"{counts['published']} of {counts['images']} images published, "
        f"{found}, {counts['pixels'] / 1e6:,.1f} Mpx "
        f"in {record['timings']['total_s']:.1f} s."
    )
    if counts["quarantined"]:
        typer.secho(
            f"{counts['quarantined']} quarantined: `tilewright status {out}` says why.",
            fg=typer.colors.YELLOW,
            err=True,
        )
    lines = [f"Labels:  {out}/images", f"Objects: {out}/objects.parquet"]
    if record.get("plates"):
        lines.append(f"Wells:   {out}/wells.parquet")
    if record["recipe"].get("output", {}).get("outlines"):
        lines.append(f"Outlines: {out}/outlines")
    typer.echo("\n".join([*lines, f"Report:  {out}/report.html"]))


register(app, _end)
evaluate_command.register(app, _end)
inspect_command.register(app, _end)
formats_command.register(app, _end)


class _MessageOnly(logging.Formatter):
    """For the terminal: tracebacks are for the log file."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage()


def main() -> None:
    """Entry point of the `tilewright` command."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_MessageOnly())
    handler.setLevel(logging.WARNING)
    for name in ("pipeline", "workers", "flows"):
        logging.getLogger(name).setLevel(logging.INFO)
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).propagate = False
    warnings.filterwarnings("ignore", category=UserWarning, module="zarr")
    app()
