"""Which output folders the service has written to: a small file each, for metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flows.request import Request
from pipeline.files import write_atomically
from pipeline.run_folder import RunFolder
from pipeline.storage import path_of


def remember(request: Request, home: Path) -> None:
    """Note the folder of a run."""
    folder = home / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"out": str(request.out), "label": request.recipe.label}
    write_atomically(folder / f"{request.plan}.json", json.dumps(content).encode())


def known_outputs(home: Path) -> Iterator[tuple[RunFolder, str]]:
    """Folders whose records are on this machine, and the labels that runs write to them."""
    for path in sorted((home / "runs").glob("*.json")):
        with suppress(OSError, ValueError, KeyError):
            content = json.loads(path.read_text())
            folder = RunFolder(path_of(content["out"]))
            if folder.records.is_file():
                yield folder, str(content["label"])
