"""Arguments that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Recipe = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe.")]
Archive = Annotated[
    str,
    typer.Argument(help="An image, or a folder that is searched; on disk, or s3:// gs:// https://"),
]
Out = Annotated[str, typer.Argument(help="The output folder of a run, on disk or in a bucket.")]
Tile = Annotated[
    int | None,
    typer.Option("--tile", min=16, help="Side of a tile's core in px; by default from memory."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes; by default one a core.")
]
Work = Annotated[
    str | None,
    typer.Option(
        "--work",
        help="Where unfinished work is kept, a folder or bucket that all workers see; by default "
        "in OUT, or on this machine where OUT is a bucket.",
    ),
]
Only = Annotated[
    str | None, typer.Option("--only", help="Only images whose name matches this glob.")
]
