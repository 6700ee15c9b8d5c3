"""What was measured of models, kept between processes: measuring takes torch, and seconds."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from pipeline.files import digest, write_atomically

log = logging.getLogger(__name__)

T = TypeVar("T")


def kept(kind: type[T], model: str, measure: Callable[[], T]) -> T:
    """Facts of a model: those of an earlier process, else measured now.

    They hold for a model, this code and this torch. They lie in
    XDG_CACHE_HOME (~/.cache), and may be deleted at any time.

    Parameters
    ----------
    kind : dataclass
        Of numbers and tuples of numbers.
    model : str
        What facts depend on: that of the model and its zoom which decides them.
    measure : callable
        What it raises is raised, and nothing is kept.
    """
    torch = _torch()
    if torch is None:
        return measure()  # which says what is missing
    known = (kind.__name__, model, _code(), torch)
    key = digest(*(part.encode() for part in known))
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    path = home / "tilewright" / "models" / f"{key}.json"
    try:
        values = dict(json.loads(path.read_text()))
        return kind(**{name: _tuple(value) for name, value in values.items()})
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError) as error:
        log.debug("%s is measured again: %s", path, error)
    found = measure()
    with contextlib.suppress(OSError):  # no place of one's own: measured each time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(asdict(found)).encode())  # type: ignore[call-overload]
    return found


def _torch() -> str | None:
    """Version of the torch that would be imported."""
    try:
        return version("torch") if find_spec("torch") else None
    except (PackageNotFoundError, ValueError):  # parts of one are there
        return None


@functools.cache
def _code() -> str:
    """Digest of all that measures."""
    here = Path(__file__).parent
    return digest(*(path.read_bytes() for path in sorted(here.rglob("*.py"))))


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
