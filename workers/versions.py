"""Whether workers of a running cluster compute what this process would."""

from __future__ import annotations

import importlib
import platform
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline import __version__
from pipeline.errors import TilewrightError

if TYPE_CHECKING:
    from distributed import Client


def check_versions(client: Client, address: str) -> None:
    """Refuse workers whose results could differ from those of this process.

    Workers that join later are not checked.
    """
    import numpy  # noqa: PLC0415

    ours = {"python": _minor(platform.python_version()), "numpy": str(numpy.__version__)}
    theirs = {
        worker: {
            "python": _minor(str(versions["host"]["python"])),
            "numpy": str(versions["packages"]["numpy"]),
        }
        for worker, versions in client.get_versions()["workers"].items()
    }
    _refuse_differences(address, ours, theirs)
    # Code goes over the wire by value below, which needs equal Pythons: hence two steps.
    answers: dict[str, object] = client.run(_version_probe(), on_error="return")
    tilewright = {worker: {"tilewright": str(found)} for worker, found in answers.items()}
    _refuse_differences(address, {"tilewright": __version__}, tilewright)


def _version_probe() -> object:
    """Return a function that tells the version of tilewright, even where there is none."""

    def version() -> str:
        try:
            return str(importlib.import_module("pipeline").__version__)
        except (ImportError, AttributeError):
            return "not installed"

    return version


def _refuse_differences(
    address: str, ours: Mapping[str, str], theirs: Mapping[str, Mapping[str, str]]
) -> None:
    """Raise one error that names each different package once, with a worker that has it."""
    differences = {
        (name, versions[name]): worker
        for worker, versions in theirs.items()
        for name in ours
        if versions[name] != ours[name]
    }
    if differences:
        listing = "; ".join(
            f"{name} is {found} on {worker} and {ours[name]} here"
            for (name, found), worker in sorted(differences.items())
        )
        raise TilewrightError(
            f"{address}: {listing}. Install the same versions on the workers and here."
        )


def _minor(version: str) -> str:
    """Return ``3.11`` of ``3.11.7.final.0``."""
    found = re.match(r"\d+\.\d+", version)
    return found.group() if found else version
