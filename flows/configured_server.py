"""Which Prefect server the user has set."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path


def configured_url() -> str | None:
    """Return the server that the user has set, without importing Prefect (2 s).

    The order is Prefect's: environment, ``prefect.toml``, ``pyproject.toml``, profile. A ``.env``
    file is not read.
    """
    url = os.environ.get("PREFECT_API_URL")
    if url:
        return url
    for name, keys in (("prefect.toml", ("api",)), ("pyproject.toml", ("tool", "prefect", "api"))):
        found = _from_toml(Path(name), (*keys, "url"))
        if found:
            return found
    return _profile_url()


def _profile_url() -> str | None:
    """Return PREFECT_API_URL of the active profile."""
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    active = os.environ.get("PREFECT_PROFILE") or _from_toml(path, ("active",))
    return _from_toml(path, ("profiles", active, "PREFECT_API_URL")) if active else None


def _from_toml(path: Path, keys: tuple[str, ...]) -> str | None:
    """Return one string of a TOML file, None if the file or the string is not there."""
    try:
        value: object = tomllib.loads(path.read_text())
    except (OSError, ValueError):
        return None
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) and value else None
