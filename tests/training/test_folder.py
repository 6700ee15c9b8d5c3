"""The folder of a training: one at a time, of one recipe, and nothing is deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import BusyError, OutputError
from pipeline.training.folder import TrainingFolder

FACTS = {"recipe": "r", "data": "d"}


def test_it_is_that_of_one_recipe_and_its_data(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path / "out")
    with folder.writing():
        folder.claim("one", FACTS)
        folder.claim("one", FACTS)
        with pytest.raises(OutputError, match="the training of another recipe; they are never"):
            folder.claim("two", {**FACTS, "recipe": "s"})
        with pytest.raises(OutputError, match="the training of another recipe and data; they"):
            folder.claim("two", {"recipe": "s", "data": "e"})
        with pytest.raises(OutputError, match="the training of another version; they are never"):
            folder.claim("two", FACTS)


def test_one_training_holds_it(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path / "out")
    with folder.writing():
        folder.scratch.mkdir()
        with pytest.raises(BusyError, match="another training is writing"), folder.writing():
            pass
    assert not folder.scratch.exists()


def test_what_is_set_aside_is_kept(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path / "out")
    with folder.writing():
        folder.set_aside()  # nothing is there
        for text in ("1", "2"):
            folder.claim(text, FACTS)
            folder.model.mkdir()
            (folder.model / "card.yaml").write_text(text)
            folder.set_aside()
        kept = sorted((folder.hidden / "previous").glob("*/model/card.yaml"))
        assert [path.read_text() for path in kept] == ["1", "2"]
        assert not folder.facts.exists()


def test_history_is_a_table(tmp_path: Path) -> None:
    folder = TrainingFolder(tmp_path)
    folder.write_history([{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25, "score": 1 / 3}])
    assert folder.history.read_text().splitlines() == [
        "step,loss,score",
        "1,0.5,",
        "2,0.25,0.333333",
    ]
