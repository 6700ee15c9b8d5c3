"""What pydantic found wrong, in our words."""

from __future__ import annotations

from typing import Any


def explained(item: Any, whole: str) -> str:
    """One error that is not about an unknown key, as a line: key, what is wrong, what was given.

    Parameters
    ----------
    item : dict
        One of `ValidationError.errors()`.
    whole : str
        What to call the content itself, where the error is of no key.
    """
    key = ".".join(str(part) for part in item["loc"]) or whole
    if item["type"] == "missing":
        return f"{key}: missing."
    message, given = item["msg"], item.get("input")
    known = isinstance(given, dict)
    if item["type"] == "value_error":
        # One of our own, which says what is wrong with a section or a list.
        message = str(item["ctx"]["error"])
        known = not isinstance(given, str | int | float) or str(given) in message
    shown = "" if known else f" (given: {given!r})"
    return f"{key}: {message}{shown}." if item["loc"] else f"{message}{shown}."
