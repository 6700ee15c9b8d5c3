"""deploy/Dockerfile, and what of the repository it sees."""

from __future__ import annotations

import json
import re
import tomllib

from deployed import DEPLOY, ROOT, passes, tool

TEXT = (DEPLOY / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def copied() -> list[str]:
    """What is copied from the repository."""
    lines = [line.split() for line in TEXT.splitlines() if line.startswith("COPY ")]
    return [name for _, *names, _ in lines if not names[0].startswith("--") for name in names]


def test_hadolint() -> None:
    passes(tool("hadolint"), DEPLOY / "Dockerfile")


def test_shellcheck() -> None:
    passes("bash", "-n", DEPLOY / "prepare.sh")
    passes(tool("shellcheck"), DEPLOY / "prepare.sh")


def test_all_that_is_copied_is_there_and_not_ignored() -> None:
    seen = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    assert set(copied()) == seen
    assert all((ROOT / name).exists() for name in seen)


def test_all_that_the_wheel_needs_is_copied() -> None:
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    assert needed | {*wheel["packages"], *wheel["force-include"]} <= set(copied())


def test_it_runs_the_command_as_a_normal_user() -> None:
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", TEXT, re.MULTILINE)
    assert json.loads(entry)[-1] in PROJECT["project"]["scripts"]
    assert re.findall(r"^USER (.*)$", TEXT, re.MULTILINE) == ["1000:1000"]


def test_image_has_the_version_of_the_package() -> None:
    for path in (DEPLOY / "compose.yaml", DEPLOY / "kubernetes" / "kustomization.yaml"):
        assert PROJECT["project"]["version"] in path.read_text()
