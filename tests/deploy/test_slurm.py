"""deploy/slurm: the job scripts, run with a stand-in for srun."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from deployed import DEPLOY, passes, started_as, tool, unit_of

SCRIPTS = sorted((DEPLOY / "slurm").glob("*.sbatch"))

SRUN = """#!/bin/sh
env > "$SEEN/environment"
cat "$TILEWRIGHT_HOME/keys/ca.pem" > "$SEEN/key"
echo "$@" > "$SEEN/command"
"""


def directive(script: Path, name: str) -> str:
    return re.findall(rf"^#SBATCH --{name}=(\S+)", script.read_text(), re.MULTILINE)[0]


def minutes(walltime: str) -> float:
    hours, minute, seconds = map(int, walltime.split(":"))
    return 60 * hours + minute + seconds / 60


def test_scripts_are_found() -> None:
    assert [path.stem for path in SCRIPTS] == ["gpu-workers", "workers"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_shellcheck(script: Path) -> None:
    passes("bash", "-n", script)
    passes(tool("shellcheck"), "--shell", "bash", script)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_job_starts_its_unit_and_ends_before_the_walltime(script: Path, tmp_path: Path) -> None:
    home, seen, commands = (tmp_path / name for name in ("user", "seen", "bin"))
    for folder in (home, seen, commands):
        folder.mkdir()
    keys = home / ".tilewright" / "service" / "keys"
    keys.mkdir(parents=True)
    (keys / "ca.pem").write_text("a key")
    (commands / "srun").write_text(SRUN)
    (commands / "srun").chmod(0o755)
    memory_gib = int(directive(script, "mem").removesuffix("G"))
    cores = int(directive(script, "cpus-per-task"))
    given = {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "HOME": str(home),
        "TMPDIR": str(tmp_path),
        "SEEN": str(seen),
        "SLURM_CPUS_PER_TASK": str(cores),
        "SLURM_MEM_PER_NODE": str(1024 * memory_gib),
        "SLURM_GPUS_ON_NODE": "1",
    }
    subprocess.run(["bash", script], env=given, check=True, timeout=60)

    words = (seen / "command").read_text().split()
    assert words[:-3] == [f"--cpus-per-task={cores}"]
    lines = (seen / "environment").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines if line.startswith("TILEWRIGHT_"))
    own = Path(environment.pop("TILEWRIGHT_HOME"))
    assert (seen / "key").read_text() == "a key"
    # The folders of jobs are their own, and are gone with them; the keys stay.
    assert own.parent == tmp_path
    assert not own.exists()
    assert (keys / "ca.pem").exists()

    with started_as(tmp_path / "seen", DEPLOY / "slurm" / "service.yaml", environment, {}) as found:
        unit = unit_of(found, words[-2:])
        assert found.log_to == "output"
        assert found.cluster.address == "tls://10.0.0.1:8786"
        lifetime = found.cluster.lifetime_minutes
        memory = found.cluster.memory_gib
        workers = found.cluster.workers
    assert words[-3:] == ["tilewright", "serve", script.stem]
    assert unit.once
    assert lifetime is not None
    # The longest life, and time to hand over.
    assert 1.1 * lifetime + 5 < minutes(directive(script, "time"))
    processes = cores if script.stem == "workers" else 1
    assert workers == (cores if script.stem == "workers" else None)
    assert memory == pytest.approx(0.95 * memory_gib / processes)
