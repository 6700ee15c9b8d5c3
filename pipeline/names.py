"""Names for people: the one that was meant, and those of files."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest valid name, or an empty string."""
    found = difflib.get_close_matches(wrong, list(valid), n=1, cutoff=0.5)
    return f" (did you mean {found[0]!r}?)" if found else ""


def readable(text: str) -> str:
    r"""A file's name for records and people: bytes that are not UTF-8 become \xff and so on."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
