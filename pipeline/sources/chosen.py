"""Images of an archive that a glob means, by their names and those of their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.sources.archive import matches, none_matches
from pipeline.sources.base import SourceSpec
from pipeline.sources.fields import relative_name
from pipeline.sources.formats import split_suffix
from pipeline.storage import AnyPath


def chosen(specs: Sequence[SourceSpec], only: str, root: AnyPath) -> list[SourceSpec]:
    """Those whose name, or one of whose files, is meant by a glob; they keep their names.

    Raises
    ------
    RecipeError
        None is.
    """
    kept = [spec for spec in specs if matches(_texts(spec, root), only)]
    if specs and not kept:
        first = specs[0].name if specs[0].site else relative_name(specs[0].path, root)
        raise none_matches(str(root), only, len(specs), first)
    return kept


def _texts(spec: SourceSpec, root: AnyPath) -> Iterator[str]:
    yield spec.name
    for path in spec.paths:
        relative = relative_name(path, root)
        yield relative
        folder, _, last = relative.rpartition("/")
        stem = split_suffix(last)[0]
        yield f"{folder}/{stem}" if folder else stem
