"""Arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Recipe = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe.")]
Archive = Annotated[Path, typer.Argument(help="An image, or a folder that is searched.")]
Out = Annotated[Path, typer.Argument(help="The output folder of a run.")]
Tile = Annotated[
    int | None,
    typer.Option("--tile", min=16, help="Side of a tile's core in px; by default from memory."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes; by default one a core.")
]
Only = Annotated[
    str | None, typer.Option("--only", help="Only images whose name matches this glob.")
]
