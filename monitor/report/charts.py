"""Small charts with two axes: lines (ROC, precision and recall, training curves) and histograms of ratios."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.report import paths
from monitor.report.markup import Markup, join, tag
from monitor.report.plot import Scale
from monitor.report.scales import RATIO_TICKS, Linear, RatioScale, bend, nice_ticks, padded, tick_text

WIDTH, HEIGHT = 360, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 10, 8, 40
_POINTS = 400
"""Points of a line at most; more are thinned evenly along the line, so that its corners stay."""
Floats = NDArray[np.float64]


class Line(NamedTuple):
    """A line: its style (a CSS class), its name in the legend, and its points [N]."""

    style: str
    name: str
    x: Floats
    y: Floats


class Group(NamedTuple):
    """A histogram's group: its style (a CSS class), its name in the legend, and its values [N]."""

    style: str
    name: str
    values: Floats


class Axis(NamedTuple):
    """An axis: what it shows, its scale to pixels, and its ticks."""

    title: str
    scale: Scale
    ticks: Sequence[tuple[float, str]]


def x_axis(title: str, low: float, high: float, count: int = 5) -> Axis:
    """A straight horizontal axis with round ticks."""
    return Axis(title, Linear(low, high, _LEFT, WIDTH - _RIGHT), _round_ticks(low, high, count))


def y_axis(title: str, low: float, high: float, count: int = 5) -> Axis:
    """A straight upright axis with round ticks."""
    return Axis(title, Linear(low, high, HEIGHT - _BOTTOM, _TOP), _round_ticks(low, high, count))


def ratio_axis(low: float, high: float) -> Axis:
    """A horizontal axis of ratios, logarithmic over the limit."""
    scale = RatioScale(Linear(float(bend(low)), float(bend(high)), _LEFT, WIDTH - _RIGHT))
    return Axis("score ratio (1 = limit)", scale, _apart(scale, low, high))


def line_chart(title: str, lines: Sequence[Line], x: Axis, y: Axis, extra: Markup | None = None) -> Markup:
    """Lines over two axes, with a legend below; ``extra`` is drawn beneath them."""
    drawn = [tag("path", class_=f"line {line.style}", d=_path(line, x, y)) for line in lines]
    entries = [(f"line {line.style}", line.name) for line in lines]
    return _figure(title, join((_frame(x, y), extra, *drawn)), entries)


def mark(style: str, x: Axis, y: Axis, at: tuple[float, float], title: str) -> Markup:
    """A point that says what it is when pointed at."""
    dot = (float(x.scale(at[0])), float(y.scale(at[1])))
    return tag("circle", tag("title", title), class_=style, cx=dot[0], cy=dot[1], r=4.5)


def histogram(title: str, groups: Sequence[Group], bins: int = 48) -> Markup:
    """Shares of ratios by group, with the limit; a group without finite values is left out."""
    finite = [group._replace(values=group.values[np.isfinite(group.values)]) for group in groups]
    finite = [group for group in finite if len(group.values)]
    if not finite:
        return _figure(title, tag("text", "no scores", class_="tick", x=WIDTH / 2, y=HEIGHT / 2), [])
    everything = np.concatenate([group.values for group in finite])
    low, high = max(-1.0, min(0.0, float(everything.min()))), max(1.5, float(everything.max()))
    x = ratio_axis(low, high)
    edges = np.linspace(float(bend(low)), float(bend(high)), bins + 1)
    heights = [np.histogram(bend(g.values), edges)[0] / len(g.values) for g in finite]
    y = y_axis("share of windows", 0.0, 1.05 * max(float(h.max()) for h in heights))
    pixels = Linear(float(edges[0]), float(edges[-1]), _LEFT, WIDTH - _RIGHT)(edges)
    steps = [
        tag("path", class_=f"hist {group.style}", d=_steps(pixels, y.scale(height), float(y.scale(0.0))))
        for group, height in zip(finite, heights, strict=True)
    ]
    at = float(x.scale(1.0))
    limit = tag("line", class_="limit", x1=at, x2=at, y1=_TOP, y2=HEIGHT - _BOTTOM)
    entries = [(f"hist {group.style}", f"{group.name} ({len(group.values):,})") for group in finite]
    return _figure(title, join((_frame(x, y), *steps, limit)), [*entries, ("limit", "limit")])


def training_curve(title: str, curves: Sequence[tuple[str, Sequence[float]]]) -> Markup:
    """Values by epoch; logarithmic where all are positive and span more than a factor of 20."""
    arrays = [(name, np.asarray(values, np.float64)) for name, values in curves]
    everything = np.concatenate([values for _, values in arrays])
    everything = everything[np.isfinite(everything)]
    x = x_axis("epoch", 1.0, float(max(2, *(len(values) for _, values in arrays))))
    logarithmic = bool(len(everything) and everything.min() > 0 and everything.max() > 20 * everything.min())
    y = _log_axis(everything) if logarithmic else _plain_axis(everything)
    shown = [(n, np.log10(v) if logarithmic else v) for n, v in arrays]
    lines = [Line(f"c{k % 4}", n, np.arange(1.0, len(v) + 1), v) for k, (n, v) in enumerate(shown)]
    return line_chart(title, lines, x, y)


def _plain_axis(values: Floats) -> Axis:
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    return y_axis("", *padded(low, high))


def _log_axis(values: Floats) -> Axis:
    low, high = np.log10(values.min()), np.log10(values.max())
    scale = Linear(*padded(float(low), float(high)), HEIGHT - _BOTTOM, _TOP)
    powers = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    within = [(p + np.log10(m), f"{m * 10.0**p:g}") for p in powers for m in (1, 2, 5)]
    ticks = [(value, text) for value, text in within if low - 0.05 <= value <= high + 0.05]
    return Axis(
        "logarithmic", scale, ticks if len(ticks) <= 7 else [t for t in ticks if t[1].startswith("1")]
    )


def _round_ticks(low: float, high: float, count: int) -> list[tuple[float, str]]:
    ticks = nice_ticks(low, high, count)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 0.0
    return [(tick, tick_text(tick, step)) for tick in ticks]


def _apart(scale: Scale, low: float, high: float) -> list[tuple[float, str]]:
    """Ratio ticks that do not touch; the limit's has the first choice."""
    taken = list[float]()
    chosen = list[tuple[float, str]]()
    for tick in sorted(RATIO_TICKS, key=lambda tick: (tick != 1.0, tick)):
        at = float(scale(tick))
        if low <= tick <= high and all(abs(at - other) >= 26 for other in taken):
            taken.append(at)
            chosen.append((tick, f"{tick:g}"))
    return chosen


def _frame(x: Axis, y: Axis) -> Markup:
    bottom, parts = HEIGHT - _BOTTOM, list[Markup]()
    for value, text in x.ticks:
        at = float(x.scale(value))
        parts.append(tag("path", class_="grid", d=f"M{at:.1f} {_TOP}V{bottom}"))
        parts.append(tag("text", text, class_="tick", x=at, y=bottom + 14, text_anchor="middle"))
    for value, text in y.ticks:
        at = float(y.scale(value))
        parts.append(tag("path", class_="grid", d=f"M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}"))
        parts.append(tag("text", text, class_="tick", x=_LEFT - 5, y=at + 3.5, text_anchor="end"))
    middle = (_TOP + bottom) / 2
    parts.append(
        tag("text", x.title, class_="axis-title", x=(_LEFT + WIDTH) / 2, y=HEIGHT - 8, text_anchor="middle")
    )
    turned = f"rotate(-90 11 {middle:g})"
    parts.append(
        tag("text", y.title, class_="axis-title", x=11, y=middle, text_anchor="middle", transform=turned)
    )
    parts.append(tag("path", class_="axis", d=f"M{_LEFT} {_TOP}V{bottom}H{WIDTH - _RIGHT}"))
    return join(parts)


def _path(line: Line, x: Axis, y: Axis) -> str:
    across, up = x.scale(line.x), y.scale(line.y)
    if len(across) > _POINTS:
        walked = np.append(0.0, np.cumsum(np.hypot(np.diff(across), np.diff(up))))
        keep = np.unique(np.searchsorted(walked, np.linspace(0.0, walked[-1], _POINTS)))
        across, up = across[keep], up[keep]
    return paths.line(up, across)


def _steps(edges: Floats, tops: Floats, base: float) -> str:
    tread = "".join(
        f"H{left:.1f}V{top:.1f}H{right:.1f}" for left, right, top in zip(edges, edges[1:], tops, strict=False)
    )
    return f"M{edges[0]:.1f} {base:.1f}{tread}V{base:.1f}Z"


def _figure(title: str, drawing: Markup, entries: Sequence[tuple[str, str]]) -> Markup:
    key = [tag("span", swatch(style), name) for style, name in entries]
    return tag(
        "figure",
        tag("figcaption", title),
        tag("svg", drawing, class_="chart", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title),
        tag("p", join(key), class_="legend-row"),
    )


def swatch(style: str) -> Markup:
    """A piece of a line or area, for a legend."""
    area = {"band", "label-band", "hist", "over"} & set(style.split())
    shape = (
        tag("rect", class_=style, x=0.5, y=1.5, width=17, height=9)
        if area
        else tag("line", class_=style, x1=0, x2=18, y1=6, y2=6)
    )
    return tag("svg", shape, width=18, height=12, class_="swatch")
