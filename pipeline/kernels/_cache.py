"""Where compiled kernels are kept: apart for every state of their source.

Numba's own cache looks at the file of a function and not at the files that it calls, so after an
edit or an upgrade it would run the old code of a function next to the new code of another.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"


def use_cache_of_this_code() -> None:
    """Point Numba, in this process and its children, to a folder named after the source.

    The folder lies where NUMBA_CACHE_DIR says, else beside the kernels, else, where that place
    cannot be written, in the user's cache.
    """
    here = Path(__file__).parent
    name = f"kernels-{_digest(here)}"
    given = os.environ.get(VARIABLE, "")
    if given and Path(given).name == name:
        return
    if given:
        base = Path(given)
    elif os.access(here, os.W_OK):
        base = here / "__pycache__"
    else:
        home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        base = home / "tilewright"
    os.environ[VARIABLE] = str(base / name)
    if "numba" in sys.modules:  # it has read its environment
        sys.modules["numba"].config.CACHE_DIR = os.environ[VARIABLE]


def _digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]
