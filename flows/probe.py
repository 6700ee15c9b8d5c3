"""Looking at a server that starts: whether it answers, and what its log says."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

ANSWER_SECONDS = 5.0


def answers(url: str, through_proxy: bool = False) -> bool:
    """Tell whether a server is there; one that asks for a password is.

    Parameters
    ----------
    url : str
    through_proxy : bool
        Ask the proxy of the environment; it is not meant for a server of this machine.
    """
    handler = urllib.request.ProxyHandler(None if through_proxy else {})
    try:
        with urllib.request.build_opener(handler).open(url, timeout=ANSWER_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, ValueError):
        return False


def tail(path: Path, lines: int = 15) -> str:
    """Return the last lines of a log."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return f"(no log: {error.strerror})"
