"""The quality of the images as a section of the page: what is flagged, the worst first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipeline.quality.flags import (
    BLURRED_DEVIATIONS,
    BLURRED_SLOPE,
    EMPTY_NOISE,
    ENOUGH,
    SATURATED,
)
from pipeline.report.wording import escaped, plural, whole
from pipeline.run_folder import RunFolder
from pipeline.table_file import open_table

#: Rows of the table: those with flags first.
LISTED = 200
#: Median of a channel's corners over its centre, beyond which its light is called uneven.
EVEN = (0.85, 1.15)

HEADS = {
    "image": "Image",
    "channel": "Channel",
    "plane": "t, z",
    "flags": "Remarkable",
    "power_slope": "Power slope",
    "focus": "Focus",
    "at_max": "At the maximum",
    "background": "Background",
    "noise": "Noise",
    "p50": "Median",
    "p999": "99.9 %",
    "corner_to_centre": "Corner / centre",
}


def image_quality(folder: RunFolder) -> str:
    """The section; empty where no quality was measured."""
    if not folder.quality.is_file():
        return ""
    table = pq.read_table(open_table(folder.quality))
    rows = [_with_plane(row) for row in table.to_pylist()]
    rows.sort(key=_worst_first)
    flagged = sum(bool(row["flags"]) for row in rows)
    head = "".join(
        f"<th{'' if name in _WORDS else ' class=n'}><button>{words}</button></th>"
        for name, words in HEADS.items()
    )
    body = "".join(_line(row) for row in rows[:LISTED])
    return f"""<section><h2>Image quality</h2>
<p>{whole(flagged)} of {plural(len(rows), "plane")} are remarkable. {_illumination(rows)}</p>
<div class="wide"><table class="sortable"><thead><tr>{head}</tr></thead>
<tbody>{body}</tbody></table></div>
<p class="note"><em>Out of focus</em>: the power spectrum falls by {BLURRED_SLOPE} more than in the
median plane of the channel, and by {BLURRED_DEVIATIONS:g} robust deviations; told of channels with
at least {ENOUGH} planes. <em>Saturated</em>: more than {100 * SATURATED:g} % of the pixels have the
largest value, and that is full scale (255, 4095, ...). <em>Empty</em>: the contrast is below
{EMPTY_NOISE:g} times the noise. Nothing is left out because of a flag. The worst {LISTED} planes at
most are listed; all numbers of all planes are in <code>images.parquet</code>.</p></section>"""


_WORDS = ("image", "channel", "plane", "flags")


def _with_plane(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "plane": f"{row['t']}, {row['z']}"}


def _worst_first(row: Mapping[str, Any]) -> tuple[int, float, str, str, str]:
    count = len(row["flags"].split(", ")) if row["flags"] else 0
    slope = row["power_slope"]
    order = math.inf if math.isnan(slope) else slope
    return -count, order, row["image"], row["plane"], row["channel"]


def _line(row: Mapping[str, Any]) -> str:
    cells = []
    for name in HEADS:
        value = row[name]
        if name in _WORDS:
            cells.append(f"<td>{escaped(value)}</td>")
        else:
            shown = "" if math.isnan(value) else f"{value:.4g}"
            order = -math.inf if math.isnan(value) else value
            cells.append(f'<td class="n" data-v="{order!r}">{shown}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _illumination(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the medians over all planes of a channel say of its light."""
    uneven = []
    for channel in sorted({row["channel"] for row in rows}):
        ratios = [row["corner_to_centre"] for row in rows if row["channel"] == channel]
        known = [ratio for ratio in ratios if not math.isnan(ratio)]
        middle = float(np.median(known)) if len(known) >= ENOUGH else 1.0
        if not EVEN[0] <= middle <= EVEN[1]:
            uneven.append(f"{escaped(channel)} ({middle:.2f})")
    if not uneven:
        return ""
    return (
        "The corners are not as bright as the centre, in the median of all planes, in channel "
        f"{', '.join(uneven)}: see <code>flat_field</code> in the recipes."
    )
