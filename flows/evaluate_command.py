"""The command that scores labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.options import Only, Workers

#: Exit status where some images could not be scored.
SOME_FAILED = 3


def register(app: typer.Typer, end: Callable[[Callable[[], int]], None]) -> None:
    """Add the command to the application.

    Parameters
    ----------
    app : Typer
    end : callable
        Runs a command's body, which returns an exit status, and turns errors into messages.
    """

    @app.command()
    def evaluate(
        labels: Annotated[
            Path, typer.Argument(help="Label images: a file, a folder, OME-Zarr, or OUT of a run.")
        ],
        truth: Annotated[Path, typer.Argument(help="Their truth: the same, with the same names.")],
        out: Annotated[
            Path | None, typer.Option("--out", help="Write tables and pictures of the worst there.")
        ] = None,
        threshold: Annotated[
            list[float] | None,
            typer.Option(
                "--threshold",
                help="Smallest IoU of a pair; repeatable; by default 0.5, 0.55 to 0.95.",
            ),
        ] = None,
        tolerance: Annotated[
            int, typer.Option("--tolerance", help="How far apart borders may lie, in px.")
        ] = 2,
        classes: Annotated[
            str | None,
            typer.Option(
                "--classes",
                help="Names of classes 1,2,..., if numbers are no objects. By default the run's.",
            ),
        ] = None,
        label: Annotated[
            str | None, typer.Option("--labels", help="Which labels of an OME-Zarr or a run.")
        ] = None,
        truth_label: Annotated[
            str | None, typer.Option("--truth-labels", help="Which labels of the truth's OME-Zarr.")
        ] = None,
        dims: Annotated[
            Literal["2d", "3d"] | None,
            typer.Option(
                "--dims",
                help="Objects lie in planes, or in volumes; by default as the run, else volumes.",
            ),
        ] = None,
        images: Annotated[
            Path | None, typer.Option("--images", help="The images, to be seen behind outlines.")
        ] = None,
        worst: Annotated[int, typer.Option("--worst", min=0, help="How many pictures.")] = 12,
        only: Only = None,
        workers: Workers = None,
        tile: Annotated[
            int | None, typer.Option("--tile", min=16, help="Side in px; changes no score.")
        ] = None,
    ) -> None:
        """Score labels against a truth: AP, F1, PQ, Rand, VOI, borders, pixels; with intervals.

        Exit status: 0 all scored, 3 some could not be, 2 refused.
        """

        def go() -> int:
            from flows.evaluate import EvaluateRequest
            from flows.evaluate import evaluate as score
            from pipeline.scores.text import result_text

            found = score(
                EvaluateRequest(
                    labels,
                    truth,
                    out,
                    label=label,
                    truth_label=truth_label,
                    images=images,
                    classes=classes,
                    dims=dims,
                    thresholds=tuple(threshold or ()),
                    tolerance_px=tolerance,
                    worst=worst,
                    only=only,
                    workers=workers,
                    tile_px=tile,
                )
            )
            typer.echo(result_text(found))
            if out is not None:
                typer.echo(f"Tables and pictures: {out}")
            return SOME_FAILED if found.failures else 0

        end(go)
