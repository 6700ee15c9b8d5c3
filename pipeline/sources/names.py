"""Names that tell sources apart, for files that the user named alike."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.sources.base import SourceSpec
from pipeline.sources.formats import split_suffix

__all__ = ["distinct_names", "split_suffix"]


def distinct_names(specs: Sequence[SourceSpec]) -> list[SourceSpec]:
    """Rename sources whose names are equal, also but for case or Unicode form.

    All of them survive, in the order given: "a.tif" and "a.png" are called so where both would
    be "a"; what is then still equal gets "_2", "_3" in the order of their paths, so the result
    does not depend on the order given.
    """
    count = Counter(_same(spec.name) for spec in specs)
    taken = {name for name, n in count.items() if n == 1}
    final: dict[SourceSpec, str] = {}
    for spec in sorted(specs, key=lambda s: (s.path, s.series, s.name)):
        final[spec] = spec.name
        if count[_same(spec.name)] > 1:
            suffix = split_suffix(Path(spec.path).name)[1]
            final[spec] = _free(spec.name + suffix, taken)
            taken.add(_same(final[spec]))
    return [replace(spec, name=final[spec]) for spec in specs]


def _free(name: str, taken: set[str]) -> str:
    candidate, number = name, 1
    while _same(candidate) in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def _same(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
