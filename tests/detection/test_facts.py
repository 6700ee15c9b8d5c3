"""Facts of objects reach the table, whole, whatever the tiles."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest

import pipeline.recipe
from pipeline.conformance import check_conformance, check_image
from pipeline.kernels.components import components
from pipeline.methods.base import Context, EmittingRound, Method, Output, Round, State, TileLabels
from pipeline.recipe import parse_recipe
from pipeline.trial import Cut, Result, run_untiled
from pipeline.view import TileView


@dataclasses.dataclass(frozen=True)
class Values(EmittingRound):
    """Components of equal value; the value and its negative half are facts."""

    name: ClassVar[str] = "values"
    done: ClassVar[str] = "done"

    def map(self, view: TileView, state: State) -> Output:
        image = view.image()[0].astype(np.int64)
        labels, count = components(image, 8)
        value = np.zeros(count, np.int64)
        value[labels[labels > 0] - 1] = image[labels > 0]
        facts = {"value": value, "half": -value / 2}
        return Output({}, TileLabels(labels, keys=value + 2**15, facts=facts))


class Valued(Method):
    method: Literal["valued"]

    def next_round(self, state: State, context: Context) -> Round | None:
        return None if "done" in state else Values()

    def fact_columns(self) -> dict[str, str]:
        return {"value": "int32", "half": "float32"}

    def halo_px(self) -> int:
        return 0

    def peak_bytes_per_px(self) -> float:
        return 20.0


@pytest.fixture(autouse=True)
def valued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.recipe, "method_class", lambda name: Valued)


def image() -> np.ndarray:
    """Rings around objects of larger and smaller values, over several tiles."""
    found = np.zeros((60, 70), np.uint8)
    found[3:40, 5:50] = 5
    found[8:30, 10:40] = 0
    found[12:20, 15:30] = 9  # in the hole of 5
    found[45:58, 2:66] = 7
    found[48:52, 30:60] = 0
    found[49:51, 40:44] = 2  # in the hole of 7
    return found


@pytest.mark.parametrize("filled", [False, True])
def test_facts_are_those_of_the_outer_object(filled: bool, tmp_path: Path) -> None:
    content = {"segment": {"method": "valued"}, "postprocess": {"fill_holes": filled}}
    recipe = parse_recipe(content, "recipe")
    cuts = [Cut(16, 1), Cut((7, 30), 2, 3), Cut((60, 9), 3)]
    found = check_image(recipe, image(), cuts, tmp_path)
    assert isinstance(found, Result)
    assert found.table["value"].to_pylist() == ([5, 7] if filled else [5, 9, 7, 2])
    assert found.table["half"].to_pylist() == [-v / 2 for v in found.table["value"].to_pylist()]
    assert str(found.table["value"].type) == "int32"
    assert str(found.table["half"].type) == "float"


def test_facts_of_hard_images(tmp_path: Path) -> None:
    check_conformance({"segment": {"method": "valued"}}, [], [8], [1], tmp_path)


def test_other_methods_have_no_more_columns(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    recipe = parse_recipe({"segment": {"method": "threshold"}}, "recipe")
    table = run_untiled(recipe, image(), tmp_path).table
    last = ["touches_border", "min_0", "mean_0", "max_0", "std_0", "sum_0"]
    assert table.column_names[-6:] == last
