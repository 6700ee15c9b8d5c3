"""The command that lists what this installation reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Annotated

import typer


def register(app: typer.Typer, end: Callable[[Callable[[], int]], None]) -> None:
    """Add the command to the application, see `flows.evaluate_command`."""

    @app.command()
    def formats(
        as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    ) -> None:
        """List the formats that are read here, what is missing, and which extra brings it."""

        def go() -> int:
            entries = describe()
            if as_json:
                typer.echo(json.dumps(entries, indent=1))
            else:
                for line in text(entries):
                    typer.echo(line)
            return 0

        end(go)


def describe() -> list[dict[str, object]]:
    """Every format, with its suffixes, what reads it, and what is missing."""
    from pipeline.sources.formats import FORMATS, SUFFIXES
    from pipeline.sources.plugins import plugin_suffixes

    found: list[dict[str, object]] = []
    for form in FORMATS:
        suffixes = list(form.suffixes)
        if form.reader == "bioio":
            suffixes = [suffix for suffix in plugin_suffixes() if suffix not in SUFFIXES]
        found.append(
            {
                "name": form.name,
                "reader": form.reader,
                "suffixes": suffixes,
                "cheap_reads": form.reads,
                "installed": not form.missing,
                "missing": list(form.missing),
                "extra": form.extra,
                "libraries": {m: _version(m) for m in form.needs if m not in form.missing},
            }
        )
    return found


def text(entries: list[dict[str, object]]) -> Iterator[str]:
    """The list for the terminal."""
    for entry in entries:
        suffixes = entry["suffixes"]
        libraries, missing = entry["libraries"], entry["missing"]
        assert isinstance(suffixes, list)
        assert isinstance(libraries, dict)
        assert isinstance(missing, list)
        mark = "yes" if entry["installed"] else "NO "
        used = ", ".join(f"{name} {number}" for name, number in libraries.items())
        yield f"{mark} {entry['name']}{f' ({used})' if used else ''}"
        kinds = " ".join(suffixes) or ("none" if entry["reader"] == "bioio" else "folders")
        yield f"    suffixes: {kinds}"
        yield f"    cheap reads: {entry['cheap_reads']}"
        if missing:
            yield (f"    missing: {', '.join(missing)}: pip install 'tilewright[{entry['extra']}]'")


def _version(module: str) -> str:
    names = packages_distributions().get(module, [module])
    try:
        return version(names[0])
    except PackageNotFoundError:
        return "?"
