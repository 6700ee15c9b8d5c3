"""What pydantic found wrong, in our words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ValidationError

from pipeline.names import nearest


def _listed(given: object) -> object:
    if isinstance(given, str | int | float):
        wanted = f"a list of names or numbers, for example [{given}]"
        raise ValueError(f"must be {wanted}, not {given}")  # noqa: TRY004 - for pydantic
    return given


#: Channels of an image, by names or numbers.
Channels = Annotated[tuple[int | str, ...], BeforeValidator(_listed)]

#: What pydantic says in terms of Python, by its type of error.
PLAIN = {
    "tuple_type": "must be a list, for example [1, 2]",
    "list_type": "must be a list, for example [1, 2]",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "dict_type": "must be a mapping of keys",
    "model_type": "must be a mapping of keys",
}


def all_wrong(error: ValidationError, where: str, explain: Callable[[Any], str]) -> str:
    """All that is wrong with `where`, each as a line by `explain`."""
    lines = "\n".join(f"  {explain(item)}" for item in error.errors())
    return f"{where}:\n{lines}"


def unknown_key(location: Sequence[str], keys: Sequence[str]) -> str:
    """The error that the last of `location` is none of the section's keys, as a line."""
    known = f" Valid keys: {', '.join(keys)}." if keys else ""
    return f"{'.'.join(location)}: unknown key{nearest(location[-1], keys)}.{known}"


def explained(item: Any, whole: str) -> str:
    """One error that is not about an unknown key, as a line: key, what is wrong, what was given.

    Parameters
    ----------
    item : dict
        One of `ValidationError.errors()`.
    whole : str
        What to call the content itself, where the error is of no key.
    """
    key = ".".join(str(part) for part in item["loc"]) or whole
    if item["type"] == "missing":
        return f"{key}: missing."
    message, given = PLAIN.get(item["type"], item["msg"]), item.get("input")
    known = isinstance(given, dict)
    if item["type"] == "value_error":
        # One of our own, which says what is wrong with a section or a list.
        message = str(item["ctx"]["error"])
        known = not isinstance(given, str | int | float) or str(given) in message
    shown = "" if known else f" (given: {given!r})"
    return f"{key}: {message}{shown}." if item["loc"] else f"{message}{shown}."


def valid_keys(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Keys of the section at `location`, found by walking the models' annotations."""
    models: list[type[BaseModel]] = [model]
    for part in location:
        found = [
            candidate
            for current in models
            if part in current.model_fields
            for candidate in models_in(current.model_fields[part].annotation)
        ]
        tagged = [m for m in models if part in _tags(m)]
        models = found or tagged or models
    fields = (item for current in models for item in current.model_fields.items())
    return sorted({field.alias or name for name, field in fields})


def models_in(annotation: object) -> list[type[BaseModel]]:
    """Models that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def _tags(model: type[BaseModel]) -> set[str]:
    """Values of the literal fields that tell a union's members apart."""
    return {
        str(value) for field in model.model_fields.values() for value in get_args(field.annotation)
    }
