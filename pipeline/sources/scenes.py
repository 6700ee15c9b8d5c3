"""Scenes, series and stage positions of one file become images with names that stay."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from pipeline.sources.base import SourceSpec
from pipeline.sources.names import fitting

#: What a name may not hold, as it becomes a part of a path on any system.
FORBIDDEN = re.compile(r'[\x00-\x1f/\\:*?"<>|]+')
#: Bytes of the name of one scene: that of its file comes before it.
LONGEST_BYTES = 100


def scene_specs(spec: SourceSpec, names: Sequence[str]) -> list[SourceSpec]:
    """One spec for each image of a file, numbered from 0 in the order of `names`.

    The only image is called as its file. Of several, each gets its own name behind the file's
    ("plate_A01") where the file names them all and no two alike; else its number ("plate_s0").
    So the names depend on the file alone.

    Parameters
    ----------
    names : sequence of str
        As the file has them; may be empty.
    """
    if len(names) == 1:
        return [spec]
    own = [_clean(name) for name in names]
    distinct = len({unicodedata.normalize("NFC", name).casefold() for name in own}) == len(own)
    endings = own if distinct and all(own) else [f"s{i}" for i in range(len(own))]
    return [
        replace(spec, name=f"{spec.name}_{ending}", series=str(i), scene=ending)
        for i, ending in enumerate(endings)
    ]


def scene_number(spec: SourceSpec, count: int) -> int:
    """The number that `spec.series` means; raises ValueError with the reason if there is none."""
    if not spec.series:
        if count != 1:
            raise ValueError(f"holds {count} images and none was chosen")
        return 0
    if not spec.series.isdecimal() or int(spec.series) >= count:
        raise ValueError(f"has no image {spec.series}; it has {count}")
    return int(spec.series)


def _clean(name: str) -> str:
    return fitting(FORBIDDEN.sub("-", name).strip(" .-"), LONGEST_BYTES)
