"""Compiled kernels never outlive the source that they were made from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pipeline.kernels

ASK = "import os, pipeline.kernels; print(os.environ['NUMBA_CACHE_DIR'])"


def folder_of(code: Path, **environment: str) -> Path:
    kept = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    found = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=code,
        env=kept | environment | {"PYTHONPATH": str(code), "PYTHONSAFEPATH": ""},
        check=True,
        capture_output=True,
        text=True,
    )
    return Path(found.stdout.strip())


def test_an_edit_moves_the_cache(tmp_path: Path) -> None:
    kernels = tmp_path / "pipeline" / "kernels"
    shutil.copytree(Path(pipeline.kernels.__file__).parent, kernels)
    (tmp_path / "pipeline" / "__init__.py").touch()
    before = folder_of(tmp_path)
    assert before == folder_of(tmp_path)
    assert before.parent == kernels / "__pycache__"
    with (kernels / "ordering.py").open("a") as file:
        file.write("\n# changed\n")
    assert folder_of(tmp_path) != before


def test_the_users_folder_is_kept(tmp_path: Path) -> None:
    code = Path(pipeline.kernels.__file__).parents[2]
    found = folder_of(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert found.parent == tmp_path
    # A child of such a process inherits the folder and does not go deeper.
    assert folder_of(code, NUMBA_CACHE_DIR=str(found)) == found


def test_is_in_use() -> None:
    import numba

    assert Path(numba.config.CACHE_DIR).name.startswith("kernels-")
