"""YAML that is text written by hand: no tags, no aliases, not deep, not large."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ModelError

MAX_BYTES = 2**20
#: Time grows with the square of the depth.
MAX_DEPTH = 50


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the keys of a card.

    Raises
    ------
    ModelError
        If it cannot be read, or is no such YAML.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path}: the card cannot be read ({error}).") from error
    return parse_yaml(data, str(path))


def parse_yaml(data: bytes, where: str) -> dict[str, Any]:
    """The keys of a YAML text; `where` names it in messages.

    Raises
    ------
    ModelError
        If it is too large or deep, has tags or aliases, is no YAML or no mapping.
    """
    if len(data) > MAX_BYTES:
        raise ModelError(f"{where}: more than {MAX_BYTES:,} bytes, which is no card.")
    try:
        text = data.decode()
        _check_events(text, where)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ModelError(f"{where}: not plain YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{where}: a mapping of keys is wanted, not {type(content).__name__}.")
    return {str(key): value for key, value in content.items()}


def _check_events(text: str, where: str) -> None:
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ModelError(f"{where}: more than {MAX_DEPTH} brackets within each other.")
        if isinstance(event, yaml.AliasEvent):
            # Aliases of aliases fill the memory when they are written out.
            raise ModelError(f"{where}: YAML aliases (*name) are not read. Write the value out.")
