"""Finding methods by name: ours and those that other packages register."""

from __future__ import annotations

import functools
from contextlib import suppress
from importlib.metadata import entry_points

from pipeline.errors import RecipeError
from pipeline.methods.base import Method
from pipeline.names import nearest

GROUP = "tilewright.methods"


@functools.cache
def method_names() -> tuple[str, ...]:
    """Names of all methods of this installation, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def soft_methods() -> list[str]:
    """Names of the methods that can tell the probability of each class."""
    found = []
    for name in method_names():
        with suppress(RecipeError):  # another package is broken, which is not the matter here
            found += [name] * method_class(name).soft
    return found


@functools.cache
def method_class(name: str) -> type[Method]:
    """The model of a method.

    Raises
    ------
    RecipeError
        If no method has this name or its package cannot be imported.
    """
    for point in entry_points(group=GROUP):
        if point.name == name:
            try:
                loaded = point.load()
            except ImportError as error:
                raise RecipeError(
                    f"segment.method: {name!r} is registered as {point.value} but cannot be "
                    f"imported: {error}."
                ) from error
            if not (isinstance(loaded, type) and issubclass(loaded, Method)):
                raise RecipeError(
                    f"segment.method: {point.value} is not a subclass of pipeline.methods.base."
                    "Method."
                )
            return loaded
    raise RecipeError(
        f"segment.method: no method is called {name!r}{nearest(name, method_names())}. "
        f"Methods of this installation: {', '.join(method_names())}."
    )
