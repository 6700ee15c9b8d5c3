"""docs/evaluate.md: its commands run, and print what it says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "evaluate.md").read_text()


def block(language: str) -> list[str]:
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return [line.rstrip() for line in found.splitlines() if line.strip()]


def test_the_example_prints_what_the_page_says(
    tmp_path: Path, here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    run, evaluate = (shlex.split(line)[1:] for line in block("bash"))
    here(*run)
    said = here(*evaluate, "--worst", 1, expect=3).output
    printed = [line.rstrip() for line in said.splitlines() if line.strip()]
    assert printed[: len(block("text"))] == block("text")
    assert "No truth for 2 images" in said
    assert 'there are no labels of "histology/4590d7d47f52"' in " ".join(said.split())
    files = re.findall(r"^    (\w+\.\w+)  ", TEXT, re.MULTILINE)
    assert sorted(path.name for path in Path("demo-scores").iterdir()) == sorted(files)


def test_the_picture_is_there_and_small() -> None:
    (name,) = re.findall(r"\((images/\S+)\)", TEXT)
    assert (ROOT / "docs" / name).stat().st_size <= 250_000
    assert Image.open(ROOT / "docs" / name).width >= 600


def test_every_option_is_on_the_page(here: Callable[..., Result]) -> None:
    shown = set(re.findall(r"(--[a-z-]+)", here("evaluate", "--help").output)) - {"--help"}
    assert shown <= set(re.findall(r"`(--[a-z-]+)", TEXT))
