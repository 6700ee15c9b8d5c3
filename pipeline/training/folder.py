"""The output folder of a training: what lies where, whose it is, and setting it aside."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import OutputError
from pipeline.files import write_atomically
from pipeline.hold import held
from pipeline.training.state import Row

FACTS = "training.json"


class TrainingFolder:
    """Paths of an output folder.

    Parameters
    ----------
    root : Path
        Need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would rename links
        self.hidden = self.root / ".tilewright"
        self.facts = self.root / FACTS
        self.model = self.root / "model"
        self.checkpoints = self.root / "checkpoints"
        self.history = self.root / "history.csv"
        self.report = self.root / "report.html"
        self.recipe = self.root / "recipe.yaml"
        self.scratch = self.hidden / "scratch"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the folder for the one training that may write to it.

        Raises
        ------
        BusyError
            If another one holds it.
        OutputError
            If it cannot be written.
        """
        with held(self.root, self.hidden, "training"):
            shutil.rmtree(self.scratch, ignore_errors=True)
            try:
                yield
            finally:
                shutil.rmtree(self.scratch, ignore_errors=True)

    def check_free(self) -> None:
        """Raise OutputError if the folder holds something that is no training."""
        there = {path.name for path in self.root.iterdir()} - {self.hidden.name}
        if there and not self.facts.is_file():
            raise OutputError(
                f"{self.root}: holds something else ({sorted(there)[0]}). Choose another OUT."
            )

    def claim(self, identity: str, facts: dict[str, Any]) -> None:
        """Make the folder that of a recipe and its data, or refuse.

        Raises
        ------
        OutputError
            If it holds the training of others.
        """
        if self.facts.is_file():
            before = json.loads(self.facts.read_text("utf-8"))
            if before.get("identity") != identity:
                what = " and ".join(
                    name
                    for key, name in (("recipe", "recipe"), ("data", "data"))
                    if before.get(key) != facts[key]
                )
                raise OutputError(
                    f"{self.root}: holds the training of another {what or 'version'}; they are "
                    f"never mixed. Choose another OUT, or use --fresh to move it to "
                    f"{self.hidden / 'previous'} and start over."
                )
            return
        self.write_facts({"identity": identity, **facts})

    def write_facts(self, facts: dict[str, Any]) -> None:
        """Write training.json."""
        data = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.facts, data.encode(), durable=True)

    def set_aside(self) -> None:
        """Move everything of an earlier training to a folder of its own; nothing is deleted."""
        if not self.facts.is_file():
            return
        found = [path for path in self.root.iterdir() if path != self.hidden]
        target = self.hidden / "previous" / time.strftime("%Y%m%dT%H%M%S")
        while target.exists():
            target = target.with_name(target.name + "x")
        target.mkdir(parents=True)
        for path in found:
            path.rename(target / path.name)

    def write_history(self, rows: Sequence[Row]) -> None:
        """Write history.csv: a row an interval, columns in the order of their first rows."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{x:.6g}" for key, x in row.items()} for row in rows)
        write_atomically(self.history, text.getvalue().encode())
