"""What is wrong with a recipe or its model is said in a line, before any tile runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs tilewright[nets]")

from torch import Tensor, nn  # noqa: E402

from pipeline.errors import MethodError, ModelError, RecipeError  # noqa: E402
from pipeline.recipe import parse_recipe  # noqa: E402
from pipeline.trial import Cut, run_tiled, run_untiled  # noqa: E402
from tests.nets.models import BORDER, CLASSES, scripted_model, tiny_model  # noqa: E402
from tests.nets.whole import picture, recipe_of  # noqa: E402


@pytest.fixture(scope="module")
def model() -> str:
    return tiny_model()


def test_channels_must_fit(model: str, tmp_path: Path) -> None:
    segment = {"method": "network", "model": model, "output": "classes"}
    recipe = parse_recipe({"source": {"channels": [0, 1]}, "segment": segment}, "recipe")
    image = np.stack([picture((20, 20), seed)[None] for seed in (0, 1)])
    with pytest.raises(MethodError, match=r"2 selected channels, .* takes 1 \(grey\)"):
        run_untiled(recipe, image, tmp_path)


def test_frames_must_fit(model: str, tmp_path: Path) -> None:
    with pytest.raises(MethodError, match=r"is for 2D, frames are 3D"):
        run_untiled(recipe_of(model, "3d"), picture((5, 20, 20)), tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"block_px": 15}, r"block_px.*greater than or equal to 16"),
        ({"model": "nothing"}, r"model 'nothing': neither a path nor a name"),
        ({"model": []}, r"there is none; name at least one"),
        ({"augment": ["turns"]}, r"augment.*'flips' or 'rotations'"),
        ({"object_classes": [4], "output": "labels"}, r"object_classes has 4; classes are 1 to 3"),
        ({"precision": "int8"}, r"precision.*'float32'"),
    ],
)
def test_wrong_fields(fields: dict[str, object], message: str, model: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        recipe_of(**{"model": model, **fields})  # type: ignore[arg-type]
    assert len(str(error.value).strip().splitlines()) <= 2


def test_models_of_an_ensemble_must_say_the_same(model: str) -> None:
    with pytest.raises(RecipeError, match=r"tiny unet and tiny unet differ in their heads"):
        recipe_of([model, tiny_model(heads=[BORDER])])


def test_blocks_are_rounded_up_to_the_stride(model: str, tmp_path: Path) -> None:
    recipe = recipe_of(model, block_px=17)
    assert run_untiled(recipe, picture((50, 60)), tmp_path).certificate["block_px"] == [20, 20]


def test_the_number_of_windows_at_once_is_part_of_the_recipe(model: str, tmp_path: Path) -> None:
    image = picture((100, 130))
    recipe = recipe_of(model, block_px=16, batch=3)
    whole = run_untiled(recipe, image, tmp_path)
    cut = run_tiled(recipe, image, tmp_path, Cut((30, 45), order=2))
    assert (cut.digest, cut.table_digest) == (whole.digest, whole.table_digest)
    assert whole.certificate["devices"] == ["CPU"]
    assert whole.certificate["halved_batches"] == 0
    assert recipe.identity() != recipe_of(model, block_px=16).identity()
    norms = recipe_of(tiny_model(arguments={"norm": "instance"}), batch=3)
    with pytest.raises(MethodError, match=r"batch is 3, .*statistics of the whole frame"):
        run_untiled(norms, image, tmp_path)


def test_weights_that_changed_after_planning(tmp_path: Path) -> None:
    path = Path(tiny_model(seed=77))
    recipe = recipe_of(str(path))
    weights = path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(ModelError, match=r"weights\.safetensors.*sha256"):
        run_untiled(recipe, picture((20, 20)), tmp_path)


class WholeMean(nn.Module):
    """Less the mean of all pixels and channels, in an operation that no rule knows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(x)
        return found - found.mean()


def test_layers_that_cannot_be_followed(tmp_path: Path) -> None:
    recipe = recipe_of(scripted_model(WholeMean(), "whole mean", [CLASSES]))
    with pytest.raises((ModelError, RecipeError), match=r"mean"):
        run_untiled(recipe, picture((20, 20)), tmp_path)


def test_without_torch(model: str) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pipeline.recipe import parse_recipe\n"
        "from pipeline.errors import ModelError\n"
        f"recipe = parse_recipe({{'segment': {{'method': 'network', 'model': {model!r}}}}}, 'r')\n"
        "try:\n    recipe.segment.facts\nexcept ModelError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert "needs torch, which is not installed: `pip install 'tilewright[nets]'`" in line
