"""Learning curves as SVG that lies in the page; no script draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from pipeline.report.wording import escaped

Points = Sequence[tuple[float, float]]
Place = Callable[[float, float], tuple[float, float]]

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 34
COLORS = ("var(--accent)", "var(--open)", "var(--good)", "var(--bad)", "var(--soft)")
TICKS = 4


def chart(title: str, series: Mapping[str, Points], best: float | None = None) -> str:
    """Lines over steps.

    Parameters
    ----------
    title : str
    series : dict
        By name, points (step, value); those without points are left out.
    best : float, optional
        A step that is marked.
    """
    shown = {name: points for name, points in series.items() if points}
    if not shown:
        return ""
    steps = [x for points in shown.values() for x, _ in points]
    values = [y for points in shown.values() for _, y in points]
    low, high = min(0.0, min(values)), max(values)
    tick = _round_tick((high - low) / TICKS)
    low, high = tick * math.floor(low / tick), tick * math.ceil(high / tick - 1e-9)
    last = max(steps) or 1

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / last
        return across, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - low) / (high - low)

    parts = [_grid(low, high, tick, last, place)]
    if best is not None:
        x, _ = place(best, low)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" '
            'stroke="var(--soft)" stroke-dasharray="3 4"/>'
        )
    legend = []
    for (name, points), color in zip(shown.items(), COLORS * len(shown), strict=False):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        if len(points) < 40:
            parts += [_dot(*place(*point), color) for point in points]
        legend.append(f'<i class="swatch" style="background:{color}"></i>{escaped(name)}')
    drawn = "".join(parts)
    return (
        f'<div><h3>{escaped(title)}</h3><svg viewBox="0 0 {WIDTH} {HEIGHT}" width="100%" '
        f'role="img" aria-label="{escaped(title)} over steps" font-size="12" '
        f'fill="var(--soft)">{drawn}</svg><p class="note">{" ".join(legend)}</p></div>'
    )


def _dot(x: float, y: float, color: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>'


def _round_tick(least: float) -> float:
    """1, 2, 2.5 or 5 times a power of ten, not less than given; 1 for 0."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(k * power for k in (1, 2, 2.5, 5, 10) if k * power >= least * (1 - 1e-9))


def _grid(low: float, high: float, tick: float, last: float, place: Place) -> str:
    parts = []
    for k in range(round((high - low) / tick) + 1):
        _, y = place(0, low + k * tick)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="var(--line)"/><text x="{LEFT - 6}" y="{y + 4:.1f}" '
            f'text-anchor="end">{low + k * tick:.3g}</text>'
        )
    for k in range(TICKS + 1):
        x, _ = place(last * k / TICKS, low)
        anchor = "end" if k == TICKS else "middle"
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" '
            f'text-anchor="{anchor}">{last * k / TICKS:.0f}</text>'
        )
    return "".join(parts)
