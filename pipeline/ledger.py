"""What is known of the steps of an unfinished image; the engine asks it before it works."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from pipeline.methods.base import State
from pipeline.orders import Receipt


class Ledger(ABC):
    """Receipts and states of one image's steps."""

    #: Whether records and tables go to files, so that another process can continue.
    persistent: bool

    @abstractmethod
    def receipts(self, step: str) -> list[Receipt]:
        """What was finished of a step before."""

    @abstractmethod
    def add(self, step: str, receipt: Receipt) -> None:
        """Record a finished order; its data are in place."""

    @abstractmethod
    def state(self, step: str) -> State | None:
        """The state that a finished step left, or None."""

    @abstractmethod
    def close_step(self, step: str, state: State) -> None:
        """Record that a step is finished, and the state that it left."""


class MemoryLedger(Ledger):
    """Knows nothing from before: the image is worked on by one process in one go."""

    persistent = False

    def receipts(self, step: str) -> list[Receipt]:
        return []

    def add(self, step: str, receipt: Receipt) -> None:
        return None

    def state(self, step: str) -> State | None:
        return None

    def close_step(self, step: str, state: State) -> None:
        return None


def pending(numbers: Iterable[int], receipts: Iterable[Receipt]) -> list[int]:
    """Numbers that no receipt covers, in order."""
    done = {number for receipt in receipts for number in receipt.numbers}
    return [number for number in numbers if number not in done]
