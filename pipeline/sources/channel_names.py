"""Names of channels: unique, never empty."""

from __future__ import annotations

from collections.abc import Sequence


def unique_names(names: Sequence[str], count: int) -> tuple[str, ...]:
    """`count` different names: those given, "0", "1", ... where one is missing or empty.

    A name that appears twice keeps its first place and gets "_2", "_3" behind it after that.
    """
    given = [names[i].strip() if i < len(names) else "" for i in range(count)]
    wanted = [name or str(i) for i, name in enumerate(given)]
    taken: set[str] = set()
    result = []
    for name in wanted:
        unique, number = name, 1
        while unique in taken or (number > 1 and unique in wanted):
            number += 1
            unique = f"{name}_{number}"
        taken.add(unique)
        result.append(unique)
    return tuple(result)
