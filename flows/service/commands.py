"""The commands that start the service, and those that talk to it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.options import Only, Recipe, Tile
from flows.service.names import Queue
from pipeline.errors import RecipeError

if TYPE_CHECKING:
    from flows.service.settings import Settings

Config = Annotated[
    Path | None,
    typer.Option("--config", help="By default ~/.tilewright/service.yaml."),
]
Archive = Annotated[
    str, typer.Argument(help="An image or a folder, as the service has it; on disk, or s3://...")
]
Out = Annotated[str, typer.Argument(help="Where results go, as the service has it.")]
Run = Annotated[str, typer.Argument(help="The run's id, as `submit` says it.")]
Name = Annotated[str, typer.Argument(help="The schedule's name.")]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def register(app: typer.Typer, end: Callable[[Callable[[], int]], None]) -> None:
    """Add the commands to the application.

    Parameters
    ----------
    app : Typer
    end : callable
        Runs a command's body, which returns an exit status, and turns errors into messages.
    """

    @app.command()
    def serve(
        unit: Annotated[
            list[str] | None,
            typer.Argument(help="server, scheduler, workers, gpu-workers, runner, pages; or all."),
        ] = None,
        config: Config = None,
    ) -> None:
        """Start the service on this machine: server, pages, schedules, cluster; Ctrl-C stops it."""

        def go() -> int:
            from flows.service.serve import serve
            from flows.service.settings import load_settings

            if config is not None:
                os.environ["TILEWRIGHT_CONFIG"] = str(config.absolute())  # for its processes
            for handler in logging.getLogger("flows").handlers:
                handler.setLevel(logging.INFO)  # what a process does that runs for weeks
            serve(load_settings(config), unit or (), typer.echo)
            return 0

        end(go)

    @app.command()
    def keys(config: Config = None) -> None:
        """Make the keys that the service's machines show each other, for several machines."""

        def go() -> int:
            from flows.service.keys import make_keys
            from flows.service.settings import load_settings

            settings = load_settings(config)
            for path in make_keys(settings.keys):
                typer.echo(f"made {path}")
            typer.echo(f"Copy {settings.keys} to every machine of the service, for it alone.")
            return 0

        end(go)

    @app.command()
    def submit(
        recipe: Recipe,
        archive: Archive,
        out: Out,
        only: Only = None,
        tile: Tile = None,
        fresh: Annotated[bool, typer.Option("--fresh", help="Start over.")] = False,
        priority: Annotated[Queue, typer.Option(help="Which runs come first.")] = "default",
        wait: Annotated[bool, typer.Option("--follow/--no-follow", help="Until it ends.")] = True,
        config: Config = None,
    ) -> None:
        """Ask the service for a run, and follow it.

        Exit status: 0 completed, 1 not. Ctrl-C ends the following, not the run.
        """

        def go() -> int:
            from flows.service.client import follow, submit
            from pipeline.labels_recipe import load_any_recipe

            settings, parsed = _service(config), load_any_recipe(recipe)
            parameters = {
                "archive": _place(archive),
                "out": _place(out),
                "only": only,
                "tile_px": tile,
                "fresh": fresh,
            }
            run_id, page = submit(settings, parsed, parameters, priority)
            typer.echo(f"Run {run_id}\n{page}")
            if not wait:
                return 0
            ended = follow(settings, run_id, typer.echo)
            typer.echo(f"{ended.state}. {ended.message}".strip())
            return 0 if ended.is_completed else 1

        end(go)

    @app.command()
    def cancel(run: Run, config: Config = None) -> None:
        """Stop a run of the service; what it finished is kept, and the same request continues."""
        _simple(end, config, lambda settings: _client().cancel(settings, run))

    @app.command()
    def pause(config: Config = None) -> None:
        """Let the service begin no more runs; those that go on are not touched."""
        _simple(end, config, lambda settings: _client().set_paused(settings, True))

    @app.command()
    def resume(config: Config = None) -> None:
        """Let the service begin runs again."""
        _simple(end, config, lambda settings: _client().set_paused(settings, False))

    app.add_typer(_schedule_commands(end), name="schedule")


def _schedule_commands(end: Callable[[Callable[[], int]], None]) -> typer.Typer:
    app = typer.Typer(no_args_is_help=True, help="Runs of the service that come again and again.")

    @app.command()
    def add(
        name: Name,
        recipe: Recipe,
        archive: Archive,
        out: Out,
        every: Annotated[
            str | None, typer.Option("--every", help="A time such as 30s, 10m, 6h, 1d.")
        ] = None,
        cron: Annotated[
            str | None, typer.Option("--cron", help='Such as "0 2 * * *": every night at two.')
        ] = None,
        rrule: Annotated[
            str | None, typer.Option("--rrule", help='Such as "FREQ=WEEKLY;BYDAY=MO,TH".')
        ] = None,
        timezone: Annotated[
            str | None, typer.Option("--timezone", help="Such as Europe/Vienna; by default UTC.")
        ] = None,
        watch: Annotated[
            bool,
            typer.Option(
                "--watch/--all", help="Take what is new or changed and has settled, or all."
            ),
        ] = True,
        settle: Annotated[
            float, typer.Option("--settle", min=0, help="Seconds that a file must not change.")
        ] = 60.0,
        config: Config = None,
    ) -> None:
        """Make a schedule: by default it watches an archive for new images."""

        def go(settings: Any) -> None:
            from flows.service.client import add_schedule
            from pipeline.labels_recipe import load_any_recipe

            parameters = {
                "archive": _place(archive),
                "out": _place(out),
                **({"settle_seconds": settle} if watch else {}),
            }
            times = _times(every, cron, rrule, timezone)
            add_schedule(settings, name, load_any_recipe(recipe), parameters, times, watch)

        _simple(end, config, go)

    @app.command("list")
    def list_(config: Config = None) -> None:
        """Say which schedules there are."""
        _simple(
            end, config, lambda settings: typer.echo("\n".join(_client().list_schedules(settings)))
        )

    @app.command()
    def pause(name: Name, config: Config = None) -> None:
        """Let a schedule rest."""
        _simple(end, config, lambda settings: _client().change_schedule(settings, name, False))

    @app.command()
    def resume(name: Name, config: Config = None) -> None:
        """Let a schedule go on."""
        _simple(end, config, lambda settings: _client().change_schedule(settings, name, True))

    @app.command()
    def remove(name: Name, config: Config = None) -> None:
        """Remove a schedule; runs and results stay."""
        _simple(end, config, lambda settings: _client().change_schedule(settings, name, None))

    return app


def _simple(
    end: Callable[[Callable[[], int]], None], config: Path | None, action: Callable[[Any], object]
) -> None:
    def go() -> int:
        action(_service(config))
        return 0

    end(go)


def _service(config: Path | None) -> Settings:
    """The configuration of the service, which Prefect in this process then talks to."""
    from flows.service.client import use
    from flows.service.settings import load_settings

    settings = load_settings(config)
    use(settings)
    return settings


def _place(text: str) -> str:
    """An absolute path, or an address."""
    from pipeline.storage import path_of

    return str(path_of(text).absolute())


def _client() -> Any:
    from flows.service import client

    return client


def _times(every: str | None, cron: str | None, rrule: str | None, timezone: str | None) -> Any:
    """The schedule of the options, of which there is one."""
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

    given = [
        name for name, value in (("--every", every), ("--cron", cron), ("--rrule", rrule)) if value
    ]
    if len(given) != 1:
        said = " and ".join(given) or "none of them"
        raise RecipeError(f"A schedule has one of --every, --cron and --rrule; given: {said}.")
    try:
        if every is not None:
            return IntervalSchedule(interval=duration(every))
        if cron is not None:
            return CronSchedule(cron=cron, timezone=timezone or "UTC")
        assert rrule is not None
        return RRuleSchedule(rrule=rrule, timezone=timezone or "UTC")
    except ValueError as error:
        raise RecipeError(f"{given[0]} {every or cron or rrule}: {_said(error)}.") from error


def _said(error: ValueError) -> str:
    """What is wrong with a value, in one line."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ").rstrip(".")
    return str(error).rstrip(".")


def duration(text: str) -> timedelta:
    """A time such as "90s", "10m", "6h" or "1d"."""
    number, unit = text.rstrip("smhd"), text[len(text.rstrip("smhd")) :]
    if unit not in _UNITS or not number.isdecimal() or int(number) == 0:
        raise RecipeError(f"--every {text}: a time is a number and s, m, h or d, such as 10m.")
    return timedelta(seconds=int(number) * _UNITS[unit])
