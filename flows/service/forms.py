"""The form of a recipe: a JSON schema with the bounds of its fields and what they mean.

Prefect shows it when a run is started by hand, and checks parameters by it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, create_model

from pipeline.methods.base import Method
from pipeline.validation import models_in

_NAMES = r"(?:`\w+`(?:, )?)+(?: \([^)]*\))?"
#: "`name`: what it means" at the beginning of a sentence, up to the next such sentence.
_HELP = re.compile(rf"(?:\A|(?<=\.\s)|(?<=\n))({_NAMES}):\s(.*?)(?=\.\s+{_NAMES}:\s|\Z)", re.DOTALL)


def recipe_schema(recipe: BaseModel) -> dict[str, Any]:
    """The schema of recipes with the methods of this one, whose values are the defaults.

    References are as Prefect has them, ``#/definitions/``; the definitions are under `definitions`.
    """
    model = _specialised(recipe)
    schema = model.model_json_schema(mode="validation", ref_template="#/definitions/{model}")
    schema["definitions"] = schema.pop("$defs", {})
    for content in (schema, *schema["definitions"].values()):
        # The rest tells of fields, and each has its own.
        content["description"] = _first_paragraph(content.get("description", ""))
    for part in _models(model):
        told = fields_help(part)
        place = schema if part is model else schema["definitions"].get(part.__name__, {})
        for name, content in place.get("properties", {}).items():
            if name in told:
                content.setdefault("description", told[name])
    values = recipe.model_dump(mode="json")
    for name, content in schema["properties"].items():
        content["default"] = values.get(name)
    return schema


def _specialised(value: BaseModel) -> type[BaseModel]:
    """The class of a value, with the classes of what it holds where it may hold several."""
    fields: dict[str, Any] = {}
    for name in type(value).model_fields:
        held = getattr(value, name)
        if isinstance(held, Method):
            fields[name] = (_specialised(held), held)
        elif isinstance(held, dict) and any(isinstance(one, BaseModel) for one in held.values()):
            fields[name] = (_section_of(held), ...)
    return (
        create_model(type(value).__name__, __base__=type(value), **fields)
        if fields
        else type(value)
    )


def _section_of(held: dict[str, BaseModel]) -> type[BaseModel]:
    """A model with a field for each entry: what the labels of a recipe are called is given."""
    fields: dict[str, Any] = {key: (_specialised(one), ...) for key, one in held.items()}
    return create_model("Labels", **fields)


def fields_help(model: type[BaseModel]) -> dict[str, str]:
    """What the docstrings of a model and its bases say of its fields."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        text = inspect.cleandoc(one.__doc__ or "") if issubclass(one, BaseModel) else ""
        for names, meaning in _HELP.findall(text):
            plain = " ".join(meaning.split("\n\n")[0].split()).rstrip(".")
            for name in re.findall(r"`(\w+)`", names):
                if name in model.model_fields:
                    found[name] = f"{plain[:1].upper()}{plain[1:]}."
    return found


def _first_paragraph(text: str) -> str:
    """What a docstring says before it comes to the fields."""
    first = " ".join(text.split("\n\n")[0].split())
    return "" if first.startswith("`") else first


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and all models that its fields may hold."""
    pending, seen = [model], set()
    while pending:
        one = pending.pop()
        if one in seen:
            continue
        seen.add(one)
        yield one
        for field in one.model_fields.values():
            pending += models_in(field.annotation)
