"""What is measured of a model is kept for the next process, and only for the same model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs tilewright[nets]")

from pipeline.errors import ModelError
from pipeline.nets import facts, measured
from pipeline.nets.facts import DetectorFacts, Facts
from pipeline.nets.measured import kept
from pipeline.nets.model_folder import model_digest
from pipeline.nets.reference import ModelReference
from tests.nets.models import OBJECTS, tiny_model

FOUND = Facts((4, 4), (20, 20), 1, 100.5, 2000.0, 4_000)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def files(home: Path) -> list[Path]:
    return sorted((home / "tilewright" / "models").glob("*.json"))


def never() -> Facts:
    raise AssertionError("measured again")


def test_what_was_measured_comes_back() -> None:
    assert kept(Facts, "0123", lambda: FOUND) == FOUND
    assert kept(Facts, "0123", never) == FOUND


@pytest.mark.parametrize("change", ["model", "kind", "torch", "code"])
def test_it_holds_for_the_same_model_code_and_torch(
    change: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(Facts, "0123", lambda: FOUND)
    digest = "4567" if change == "model" else "0123"
    kind = DetectorFacts if change == "kind" else Facts
    if change == "torch":
        monkeypatch.setattr(measured, "version", lambda name: "0.1")
    if change == "code":
        monkeypatch.setattr(measured, "_code", lambda: "other")
    other = DetectorFacts(1.0, 2.0, 3, 4) if change == "kind" else FOUND
    assert kept(kind, digest, lambda: other) == other
    assert len(files(home)) == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"halo_px": [1]}', "\0\xff"])
def test_a_damaged_file_is_measured_again(damage: str, home: Path) -> None:
    model = "0123"
    kept(Facts, model, lambda: FOUND)
    files(home)[0].write_text(damage, encoding="latin-1")
    assert kept(Facts, model, lambda: FOUND) == FOUND
    assert kept(Facts, model, never) == FOUND


def test_errors_are_not_kept_and_a_place_is_not_needed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = "0123"
    with pytest.raises(AssertionError, match="measured again"):
        kept(Facts, model, never)
    assert not files(home)
    (home / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "a file"))
    assert kept(Facts, model, lambda: FOUND) == FOUND


def test_the_next_process_plans_without_torch(home: Path) -> None:
    boxes = tiny_model("mask_rcnn", channels=["red", "green"], heads=[OBJECTS])
    for path, find in [(tiny_model(), facts.facts_of), (boxes, facts.detector_facts_of)]:
        find.cache_clear()
        find(ModelReference(path, model_digest(Path(path))))
        code = (
            "import sys; from pathlib import Path\n"
            "from pipeline.nets import facts\n"
            "from pipeline.nets.model_folder import model_digest\n"
            "from pipeline.nets.reference import ModelReference\n"
            f"path = {path!r}\n"
            f"facts.{find.__name__}(ModelReference(path, model_digest(Path(path))))\n"
            "print('torch' in sys.modules)"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert ran.stdout.strip() == "False", ran.stderr


def test_networks_of_equal_layers_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also at each zoom; and weights that the card was not written for are found all the same."""
    first, second = (Path(tiny_model(name=name, seed=k)) for k, name in enumerate("ab"))
    models = [ModelReference(str(path), model_digest(path)) for path in (first, second)]
    assert models[0].digest != models[1].digest
    found = facts._layers(models[0])
    assert facts._layers(models[1]) == found
    assert facts._layers(models[0].at(0.5)) != found
    wide = Path(tiny_model(arguments={"depth": 1, "base_channels": 8}))
    assert facts._layers(ModelReference(str(wide), model_digest(wide))) != found
    weights = second / "weights.safetensors"
    weights.write_bytes((first / "weights.safetensors").read_bytes())
    with pytest.raises(ModelError, match=r"weights are damaged, or those of another model"):
        facts._layers(models[1])
