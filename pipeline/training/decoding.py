"""The recipe of runs that turns a network's outputs into labels: to score it, and to use it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from pipeline.errors import RecipeError
from pipeline.recipe import Recipe, parse_recipe
from pipeline.training.recipe import TrainingRecipe

SECTIONS = ("preprocess", "segment", "postprocess")
#: Methods that need a model.
OF_MODELS = ("network", "mask_rcnn")


def run_content(recipe: TrainingRecipe, model: Path | str) -> dict[str, Any]:
    """The content of the recipe that uses a model.

    Parameters
    ----------
    recipe : TrainingRecipe
    model : Path or str
        Its folder, or its name.

    Raises
    ------
    RecipeError
        If the training recipe's `decoding` has other sections.
    """
    given = dict(recipe.decoding)
    if unknown := [key for key in given if key not in SECTIONS]:
        raise RecipeError(f"decoding: {unknown[0]!r} is none of {', '.join(SECTIONS)}.")
    content = {"segment": _segment(recipe), **_post(recipe), **given}
    source: dict[str, Any] = {"dims": f"{recipe.ndim}d"}
    if recipe.source.channels is not None:
        source["channels"] = list(recipe.source.channels)
    if recipe.source.missing_chunks != "error":
        source["missing_chunks"] = recipe.source.missing_chunks
    filled: dict[str, Any] = _filled(copy.deepcopy(content), str(model))
    return {"source": source, **filled}


def run_recipe(recipe: TrainingRecipe, model: Path) -> Recipe:
    """The recipe that uses a model, on images of just its channels."""
    content = run_content(recipe, model)
    del content["source"]
    return parse_recipe(
        {"source": {"dims": f"{recipe.ndim}d"}, **content}, f"{recipe.name}: decoding"
    )


def _segment(recipe: TrainingRecipe) -> dict[str, Any]:
    kinds = {head.head for head in recipe.heads}
    if "objects" in kinds:
        return {"method": "mask_rcnn"}
    if recipe.data.objects is None:
        return {"method": "network", "output": "classes"}
    if kinds == {"classes"}:
        return {"method": "network"}
    return {
        "method": "watershed",
        "foreground": {"method": "network"},
        "landscape": "objectness",
        "markers": {"from": "h_minima", "h": 0.2},
    }


def _post(recipe: TrainingRecipe) -> dict[str, Any]:
    if recipe.data.objects is None or recipe.card().is_detector:
        return {}
    return {"postprocess": {"fill_holes": True, "min_size_px": 20}}


def _filled(content: Any, model: str) -> Any:
    """The same with the model where a method needs one."""
    if isinstance(content, dict):
        found = {key: _filled(value, model) for key, value in content.items()}
        if found.get("method") in OF_MODELS:
            found.setdefault("model", model)
        return found
    return content
