"""Making all label images of one image, one after the other, in one staging folder.

Each is a run of the engine of its own. A later one reads the staged labels of an earlier one, so
what is joined, numbered and cleaned there is what it begins with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.engine import Engine, Published
from pipeline.label_states import state_of
from pipeline.ledger import Ledger
from pipeline.methods.base import State
from pipeline.orders import Receipt
from pipeline.steps import Executor, Watcher

if TYPE_CHECKING:
    from pipeline.plan import LabelPlan


class LabelLedger(Ledger):
    """The steps of one of several labels, in the ledger of their image."""

    def __init__(self, ledger: Ledger, label: str) -> None:
        self.persistent = ledger.persistent
        self._ledger = ledger
        self._label = label

    def _named(self, step: str) -> str:
        return f"{self._label}.{step}"

    def receipts(self, step: str) -> list[Receipt]:
        return self._ledger.receipts(self._named(step))

    def add(self, step: str, receipt: Receipt) -> None:
        self._ledger.add(self._named(step), receipt)

    def state(self, step: str) -> State | None:
        return self._ledger.state(self._named(step))

    def close_step(self, step: str, state: State) -> None:
        self._ledger.close_step(self._named(step), state)


def engines(
    parts: Sequence[LabelPlan],
    execute: Executor,
    ledger: Ledger,
    batch_tiles: int = 1,
    watch: Watcher = lambda step, tiles, pixels: None,
) -> list[Engine]:
    """The engines of an image's labels, to be run in this order.

    Parameters
    ----------
    parts : sequence of LabelPlan
    execute, ledger, batch_tiles, watch
        See `Engine`; the ledger is the image's.
    """
    several = len(parts) > 1
    return [
        Engine(
            part.job,
            part.output,
            execute,
            LabelLedger(ledger, part.job.recipe.label) if several else ledger,
            batch_tiles,
            watch,
        )
        for part in parts
    ]


def run_all(engines: Sequence[Engine], state: State) -> list[Published]:
    """Run the engines of an image.

    `state` is what dataset-wide rounds have found before, see `pipeline.label_states`.
    """
    several = len(engines) > 1
    return [engine.run(state_of(state, engine.job.recipe.label, several)) for engine in engines]
