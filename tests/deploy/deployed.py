"""What the files of deploy/ say, for the tests of each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.service.keys import make_keys
from flows.service.settings import Settings, load_settings
from flows.service.units import MAKERS, Unit, units

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def tool(name: str) -> str:
    """A validator of the development environment, or of the machine."""
    here = Path(sys.executable).parent
    found = shutil.which(name, path=os.pathsep.join([str(here), os.environ["PATH"]]))
    if found is None:
        pytest.skip(f"{name} is not here")
    return found


def passes(*command: object, cwd: Path | None = None) -> None:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=120, cwd=cwd
    )
    assert done.returncode == 0, done.stdout + done.stderr


def documents(path: Path) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


@contextmanager
def started_as(
    home: Path, config: Path, environment: Mapping[str, str], secrets: Mapping[str, str]
) -> Iterator[Settings]:
    """The configuration as a unit reads it that is deployed with these."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("TILEWRIGHT_")]:
            patch.delenv(name)
        folder = home / "secrets"
        folder.mkdir()
        for name, content in secrets.items():
            (folder / name).write_text(content)
        patch.setenv("TILEWRIGHT_SECRETS", str(folder))
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setenv("TILEWRIGHT_HOME", str(home))
        patch.setenv("TILEWRIGHT_CONFIG", str(config))
        yield load_settings()


def unit_of(settings: Settings, command: Sequence[str]) -> Unit:
    """The unit that a command starts, made as on a machine with one GPU."""
    *_, serve, name = command
    assert serve == "serve"
    assert name in MAKERS
    if not settings.keys.exists():
        make_keys(settings.keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TILEWRIGHT_GPUS", "0")
        (unit,) = units(settings, [name])
    return unit


def is_setting(name: str) -> bool:
    """Whether a variable is read: a field of the settings, or one that the code names."""
    if name in ("TILEWRIGHT_CONFIG", "TILEWRIGHT_SECRETS", "TILEWRIGHT_GPUS"):
        return True
    fields = Settings.model_fields
    *sections, last = re.sub("^TILEWRIGHT_", "", name).lower().split("__")
    for section in sections:
        if section not in fields:
            return False
        fields = getattr(fields[section].annotation, "model_fields", {})
    return last in fields
