"""Names that tell sources apart, for files that the user named alike, and that fit into folders."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from pipeline.files import digest
from pipeline.names import readable
from pipeline.sources.base import SourceSpec
from pipeline.sources.formats import split_suffix

__all__ = [
    "Given",
    "distinct_names",
    "fitting",
    "keep_plates",
    "plate_path",
    "split_suffix",
    "still_listed",
]

#: Bytes of one part of a name. File systems take 255, and our files have suffixes and, until they
#: are whole, more than 40 bytes around them.
LONGEST_BYTES = 180
#: Of a part that is shortened, what stays of its end: it tells the images of one file apart.
TAIL_BYTES = 40

#: Names that an output gave to images before: (path, series) -> name.
Given = Mapping[tuple[str, str], str]
NONE_GIVEN: Given = MappingProxyType({})


def distinct_names(specs: Sequence[SourceSpec], given: Given = NONE_GIVEN) -> list[SourceSpec]:
    """Rename sources whose names are equal, also but for case or Unicode form.

    All of them survive, in the order given: "a.tif" and "a.png" are called so where both would
    be "a"; what is then still equal gets "_2", "_3" in the order of their paths, so the result
    does not depend on the order given. Names that were given before stay with their images: who
    joins them later is called otherwise. What is too long is shortened, see `fitting`.
    """
    kept = {spec: given[_key(spec)] for spec in specs if _key(spec) in given}
    others = {spec: fitting(spec.name) for spec in specs if spec not in kept}
    before = {_same(name) for name in given.values()}
    before |= {_same(spec.site.plate) for spec in specs if spec.site and spec.site.row}
    count = Counter(map(_same, others.values()))
    taken = before | {name for name, n in count.items() if n == 1}
    final = dict(kept)
    for spec in sorted(others, key=lambda s: (s.path, s.series, s.name)):
        final[spec] = others[spec]
        if count[_same(final[spec])] > 1 or _same(final[spec]) in before:
            suffix = split_suffix(Path(spec.path).name)[1]
            final[spec] = _free(fitting(spec.name + suffix), taken)
            taken.add(_same(final[spec]))
    return [replace(spec, name=final[spec]) for spec in specs]


def still_listed(given: Given, specs: Iterable[SourceSpec]) -> Given:
    """The names that belong to files of an archive; those of files that are gone are free."""
    paths = {readable(spec.path) for spec in specs}
    return {key: name for key, name in given.items() if key[0] in paths}


def keep_plates(specs: Sequence[SourceSpec], given: Given) -> list[SourceSpec]:
    """Call plates of an archive as before, for fields of theirs that are new, too."""
    plates: dict[str, str] = {}
    for spec in specs:
        if spec.site is not None and (name := given.get(_key(spec))):
            plates[plate_path(spec)] = name.removesuffix(_within_plate(spec))
    return [
        _in_plate(spec, plates[p]) if (p := plate_path(spec)) in plates else spec for spec in specs
    ]


def plate_path(spec: SourceSpec) -> str:
    """Where the plate of a field lies; empty for other images."""
    return spec.path.removesuffix(_within_plate(spec)) if spec.site is not None else ""


def _within_plate(spec: SourceSpec) -> str:
    site = spec.site
    return f"/{site.row}/{site.column}/{site.field}" if site is not None else ""


def _in_plate(spec: SourceSpec, plate: str) -> SourceSpec:
    assert spec.site is not None
    name = plate + spec.name.removeprefix(spec.site.plate)
    return replace(spec, name=name, site=replace(spec.site, plate=plate))


def fitting(name: str, longest: int = LONGEST_BYTES) -> str:
    """The name with parts that files can be called; of a longer one the middle becomes a digest."""
    return "/".join(_short(part, longest) for part in name.split("/"))


def _short(part: str, longest: int) -> str:
    data = part.encode()
    if len(data) <= longest:
        return part
    tail = data[-TAIL_BYTES:].decode(errors="ignore")
    middle = f"-{digest(data)[:12]}-"
    head = data[: longest - len(middle) - len(tail.encode())].decode(errors="ignore")
    return f"{head}{middle}{tail}"


def _key(spec: SourceSpec) -> tuple[str, str]:
    return readable(spec.path), spec.series


def _free(name: str, taken: set[str]) -> str:
    candidate, number = name, 1
    while _same(candidate) in taken:
        number += 1
        candidate = fitting(f"{name}_{number}")
    return candidate


def _same(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
