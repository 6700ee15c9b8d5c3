"""Plates as maps: one square a well, as dark as its value is high."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.report.wording import decimal, escaped, plural, whole
from pipeline.run_folder import RunFolder
from pipeline.sources.fields import natural
from pipeline.table_file import open_table

log = logging.getLogger(__name__)

#: Rows and columns of plates that are sold; the smallest that holds all wells is drawn.
FORMATS = ((2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48))
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#: Plates and maps a plate that are drawn.
DRAWN, MAPS = 20, 3
#: Side of a well and room for names, in px of the drawing.
WELL, EDGE = 22, 22
PLATE_STYLE = """
.plates { display: flex; flex-wrap: wrap; gap: 24px; margin-bottom: 24px; }
.plates figure { margin: 0; } .plates figcaption { color: var(--soft); font-size: .86rem; }
.plate { display: block; max-width: 100%; height: auto; }
.plate text { fill: var(--soft); font: 10px system-ui, sans-serif; text-anchor: middle; }
.plate rect { fill: var(--card); stroke: var(--line); }
.plate rect.on { fill: var(--accent); stroke: none; }
.plate rect.bad { stroke: var(--bad); stroke-width: 2; }
"""


@dataclass(frozen=True, slots=True)
class _Grid:
    """Names of the rows and columns that are drawn."""

    rows: Sequence[str]
    columns: Sequence[str]


def plates(folder: RunFolder) -> str:
    """A map or a few of each plate; empty where the archive has none."""
    if not folder.wells.is_file():
        return ""
    try:
        table = pq.read_table(open_table(folder.wells))
    except (OSError, pa.ArrowException) as error:  # the rest of the report is worth having
        log.warning("report: %s cannot be read: %s", folder.wells, error)
        return ""
    wells: dict[str, list[dict[str, Any]]] = {}
    for well in table.to_pylist():
        wells.setdefault(_called(well), []).append(well)
    shown = list(wells)[:DRAWN]
    body = "".join(_plate(name, wells[name], _chosen(table.column_names)) for name in shown)
    more = len(wells) - len(shown)
    rest = f'<p class="note">{plural(more, "more plate")} not drawn here.</p>' if more else ""
    return f"""<section><h2>{plural(len(set(table["plate"].to_pylist())), "plate")}</h2>
<p class="note">One square a well, the darker the higher; white wells were not imaged, those with a
red edge have images that were quarantined. Point at a well to read its value. The numbers of all
wells are in <code>wells.parquet</code>.</p>{body}{rest}</section>"""


def _called(well: dict[str, Any]) -> str:
    """Of which plate, acquisition and label a row is: each is a map of its own."""
    number, label = well.get("acquisition"), well.get("label_image")  # a well may have neither
    said = [well["plate"], "" if number is None else f"acquisition {number}", label or ""]
    return " · ".join(part for part in said if part)


def _chosen(names: Sequence[str]) -> list[tuple[str, str]]:
    """Columns that are drawn, and how they are called."""
    areas = [name for name in names if name.startswith("area_px_") and not _is_statistic(name)]
    found = [(name, f"pixels of {name.removeprefix('area_px_')}") for name in areas]
    if not found:
        found = [("objects", "objects")]
        found += [("area_px_median", "median area, px")] * ("area_px_median" in names)
    channel = next((n for n in names if n.startswith("mean_") and n.endswith("_mean")), None)
    if channel is not None:
        shown = channel.removeprefix("mean_").removesuffix("_mean")
        found.append((channel, f"mean of {shown} in objects"))
    return found[:MAPS]


def _is_statistic(name: str) -> bool:
    return name.endswith(("_mean", "_median", "_std"))


def _plate(name: str, wells: Sequence[dict[str, Any]], columns: Sequence[tuple[str, str]]) -> str:
    grid = _grid(wells)
    maps = "".join(_map(wells, grid, column, called) for column, called in columns)
    return f'<h3>{escaped(name)}</h3><div class="plates">{maps}</div>'


def _grid(wells: Sequence[dict[str, Any]]) -> _Grid:
    """The whole plate, where its wells are named as usual; else what there is."""
    rows = sorted({well["row"] for well in wells}, key=lambda row: (len(row), row))
    columns = sorted({well["column"] for well in wells}, key=natural)
    usual = [*LETTERS, *(f"A{letter}" for letter in LETTERS[:6])]
    if all(row in usual for row in rows) and all(c.isdecimal() and int(c) > 0 for c in columns):
        last, right = usual.index(rows[-1]) + 1, max(map(int, columns))
        for height, width in FORMATS:
            if last <= height and right <= width:
                known = {int(column): column for column in columns}
                return _Grid(usual[:height], [known.get(n, str(n)) for n in range(1, width + 1)])
    return _Grid(rows, columns)


def _map(wells: Sequence[dict[str, Any]], grid: _Grid, column: str, called: str) -> str:
    values = [float(well[column]) for well in wells if well.get(column) is not None]
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    width, height = EDGE + WELL * len(grid.columns), EDGE + WELL * len(grid.rows)
    shapes = "".join(_shapes(wells, grid, column, (low, high)))
    return f"""<figure><svg class="plate" width="{width}" height="{height}"
viewBox="0 0 {width} {height}" role="img" aria-label="{escaped(called)}">{shapes}</svg>
<figcaption>{escaped(called)}, {_number(low)} to {_number(high)}</figcaption></figure>"""


def _shapes(
    wells: Sequence[dict[str, Any]], grid: _Grid, column: str, span: tuple[float, float]
) -> Iterator[str]:
    for j, name in enumerate(grid.columns):
        x = EDGE + (j + 0.5) * WELL
        yield f'<text x="{x}" y="{EDGE - 7}">{escaped(name)}</text>'
    for i, name in enumerate(grid.rows):
        y = EDGE + (i + 0.5) * WELL + 3
        yield f'<text x="{EDGE / 2}" y="{y}">{escaped(name)}</text>'
    by_place = {(well["row"], well["column"]): well for well in wells}
    for i, row in enumerate(grid.rows):
        for j, name in enumerate(grid.columns):
            at = f'x="{EDGE + j * WELL + 1}" y="{EDGE + i * WELL + 1}"'
            yield _well(at, by_place.get((row, name)), column, span)


def _well(at: str, well: dict[str, Any] | None, column: str, span: tuple[float, float]) -> str:
    size = f'{at} width="{WELL - 2}" height="{WELL - 2}" rx="3"'
    if well is None:
        return f"<rect {size}/>"
    value, (low, high) = well.get(column), span
    bad = int(well["fields_quarantined"])
    text = f"{well['well']}: {'no value' if value is None else _number(value)}"
    if bad:
        text += f", {plural(bad, 'image')} quarantined"
    drawn = f"<rect {size}/>"
    if value is not None:
        share = (value - low) / (high - low) if high > low else 1.0
        drawn = f'<rect class="on" {size} fill-opacity="{0.08 + 0.92 * share:.3f}"/>'
    edge = f'<rect class="bad" {size} fill-opacity="0"/>' if bad else ""
    return f"<g><title>{escaped(text)}</title>{drawn}{edge}</g>"


def _number(value: float) -> str:
    if math.isfinite(value) and value == int(value):
        return whole(int(value))
    return f"-{decimal(-value)}" if value < 0 else decimal(value)
