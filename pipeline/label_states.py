"""What rounds over the whole dataset have found for each label, in one record.

Of a recipe of one label it is the state itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.methods.base import State

#: Between a label and a key of its state; no label has it in its name.
SEPARATOR = ":"


def put_together(states: Mapping[str, State]) -> State:
    """One record of all labels' states, by the labels' names."""
    if len(states) == 1:
        return dict(next(iter(states.values())))
    return {
        f"{label}{SEPARATOR}{key}": value
        for label, state in states.items()
        for key, value in state.items()
    }


def state_of(together: State, label: str, several: bool) -> State:
    """The state of one label, of `several` or the only one."""
    if not several:
        return dict(together)
    start = f"{label}{SEPARATOR}"
    return {key[len(start) :]: value for key, value in together.items() if key.startswith(start)}
