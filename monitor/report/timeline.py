"""The timeline of one asset: incidents and labels as lanes, score ratio against the limit, every sensor.

All panels share one horizontal axis of columns. A column is one window, or several with their smallest and
largest value; gaps in time take no room and are marked. Each panel's plot is an inner ``<svg class="plot">``
whose viewBox counts columns, so the page's script zooms by setting viewBoxes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.evaluation.incident_log import Incident
from monitor.evaluation.labels import Interval
from monitor.quantities import NS_PER_S, iso_time
from monitor.report import paths
from monitor.report.charts import swatch
from monitor.report.columns import Columns, columns_of, flag_runs
from monitor.report.markup import Markup, data_block, join, tag
from monitor.report.plot import AXIS, HEADER, LEFT, PLOT, WIDTH, Drawn, Plot, grid, gutter, header
from monitor.report.scales import RATIO_TICKS, Linear, RatioScale, bend, nice_ticks, padded, tick_text
from monitor.trace import Trace

LANE, RATIO, SENSOR = 15, 120, 58
_GAP = 6
"""Pixels between two panels."""
Floats = NDArray[np.float64]


class Style(NamedTuple):
    """What is drawn of a timeline.

    Attributes:
        units: UCUM code by sensor.
        columns: at most so many columns.
    """

    units: Mapping[str, str]
    columns: int


class Picture(NamedTuple):
    """One timeline's windows and what is known of them.

    Attributes:
        identity: unique in the page, for the script.
        trace: the class's trace.
        rows: [N] int64, at least one: rows of one asset in order of their end.
        sensors: indices of the sensors to draw, in order.
        incidents: of the asset.
        faults: labelled intervals of the asset.
    """

    identity: str
    trace: Trace
    rows: NDArray[np.int64]
    sensors: Sequence[int]
    incidents: Sequence[Incident]
    faults: Sequence[Interval]


def timeline(picture: Picture, style: Style) -> Markup:
    """The picture as an SVG, with a JSON block beside it for the script's readout and zoom."""
    trace, rows = picture.trace, picture.rows
    faults = tuple((fault.start_ns, fault.end_ns) for fault in picture.faults)
    plot = Plot(columns_of(len(rows), style.columns), trace.end[rows], faults)
    drawn, top = list[Drawn](), 2.0
    for panel in _panels(plot, picture, style):
        drawn.append(panel(top))
        top += drawn[-1].height
    svg = tag(
        "svg",
        *(panel.markup for panel in drawn),
        plot.time_axis(top),
        tag("line", class_="cursor", x1=0, x2=0, y1=0, y2=top, visibility="hidden"),
        class_="timeline",
        id=picture.identity,
        viewBox=f"0 0 {WIDTH} {top + AXIS:g}",
        role="img",
        aria_label=f"timeline of {trace.assets[trace.asset[rows[0]]]}",
    )
    tracks = [panel.track for panel in drawn if panel.track]
    return join((svg, data_block(f"{picture.identity}-data", _data(plot, tracks, top))))


def _panels(plot: Plot, picture: Picture, style: Style) -> list[Callable[[float], Drawn]]:
    lanes = _lanes(plot, picture)
    panels: list[Callable[[float], Drawn]] = [
        lambda top, name=name, boxes=boxes: _lane(plot, name, boxes, top) for name, boxes in lanes
    ]
    panels.append(lambda top: _ratio_panel(plot, picture, top))
    panels += [lambda top, s=s: _sensor_panel(plot, picture, s, style, top) for s in picture.sensors]
    return panels


class _Box(NamedTuple):
    left: float
    right: float
    style: str
    title: str
    link: str | None = None


def _lanes(plot: Plot, picture: Picture) -> list[tuple[str, list[_Box]]]:
    by_kind: dict[str, list[_Box]] = {kind: [] for kind in sorted({i.kind for i in picture.incidents})}
    for incident in picture.incidents:
        by_kind[incident.kind] += _incident_boxes(plot, incident)
    lanes = {"batch": _batch_boxes(plot, picture), "label": _label_boxes(plot, picture), **by_kind}
    return [(name, boxes) for name, boxes in lanes.items() if boxes]


def _batch_boxes(plot: Plot, picture: Picture) -> list[_Box]:
    context = picture.trace.context[picture.rows]
    starts = np.flatnonzero(np.diff(context, prepend=context[0] - 1))
    boxes = list[_Box]()
    for k, start in enumerate(starts):
        told = picture.trace.contexts[context[start]]
        stop = starts[k + 1] - 1 if k + 1 < len(starts) else len(context) - 1
        span = plot.span(int(plot.ends[start]), int(plot.ends[stop]))
        words = " ".join(word for word in (told.batch_id, told.recipe, told.phase) if word)
        if span and words:
            boxes.append(_Box(*span, f"batch{k % 2}", words))
    return boxes


def _label_boxes(plot: Plot, picture: Picture) -> list[_Box]:
    spans = [(plot.span(f.start_ns, f.end_ns), f) for f in picture.faults]
    return [
        _Box(*span, "label", f"{f.name or 'label'}: {f.start_time} to {f.end_time}")
        for span, f in spans
        if span
    ]


def _incident_boxes(plot: Plot, incident: Incident) -> list[_Box]:
    end = incident.cleared_ns if incident.cleared_ns is not None else int(plot.ends[-1])
    span = plot.span(incident.start_ns, max(end, incident.raised_ns))
    if span is None:
        return []
    until = f"cleared {iso_time(incident.cleared_ns)}" if incident.cleared_ns is not None else "open"
    what = f"{incident.kind} {incident.subject}".strip()
    title = f"{what}: raised {iso_time(incident.raised_ns)}, {until}\n{incident.message}"
    return [_Box(*span, f"kind {incident.kind}", title, f"incident-{incident.incident_id}")]


def _lane(plot: Plot, name: str, boxes: Sequence[_Box], top: float) -> Drawn:
    height = LANE - 4
    drawn = join(_box(box, height) for box in boxes)
    text = tag(
        "text", name.replace("_", " ").lower(), class_="name", x=LEFT - 6, y=top + 9.5, text_anchor="end"
    )
    return Drawn(join((text, plot.inner(top, height, drawn))), LANE)


def _box(box: _Box, height: float) -> Markup:
    shape = tag(
        "rect",
        tag("title", box.title),
        class_=box.style,
        x=box.left,
        y=0,
        width=box.right - box.left,
        height=height,
    )
    return tag("a", shape, href=f"#{box.link}") if box.link else shape


def _ratio_panel(plot: Plot, picture: Picture, top: float) -> Drawn:
    trace, rows, columns = picture.trace, picture.rows, plot.columns
    scored = trace.scored[rows]
    ratio = np.where(scored, trace.ratio[rows], np.nan)
    high, low = columns.largest(ratio), columns.smallest(ratio)
    own = [columns.largest(np.where(scored, trace.scorer_ratio[rows, s], np.nan)) for s in _several(trace)]
    scale = _ratio_scale([high, low, *own])
    limit = float(scale(1.0))
    inner = plot.inner(
        top + HEADER,
        RATIO,
        plot.background(RATIO),
        _unscored(columns, scored),
        grid([tick for tick in RATIO_TICKS if tick != 1.0], scale, RATIO),
        *(tag("path", class_=f"scorer s{k % 4}", d=paths.line(scale(o))) for k, o in enumerate(own)),
        tag("path", class_="over", d=paths.area(scale(np.maximum(high, 1.0)), np.full(len(high), limit))),
        tag("path", class_="ratio", d=paths.envelope(scale(high), scale(low))),
        tag("line", class_="limit", x1=-0.5, x2=columns.count, y1=limit, y2=limit),
        _version_marks(plot, trace.version[rows]),
    )
    # the limit's label first: it may push others out, and none may push it out
    ticks = [(tick, f"{tick:g}") for tick in sorted(RATIO_TICKS, key=lambda tick: (tick != 1.0, tick))]
    name = header("score ratio (1 = limit)", "ratio", top, _scorer_legend(trace))
    track = {"name": "ratio", "unit": "", "low": _short(low, 4), "high": _short(high, 4)}
    markup = join((name, inner, gutter(ticks, scale, top + HEADER, RATIO)))
    return Drawn(markup, HEADER + RATIO + _GAP, track)


def _ratio_scale(values: Sequence[Floats]) -> RatioScale:
    bent = bend(np.concatenate(values))
    finite = bent[np.isfinite(bent)]
    low = min(-0.05, float(finite.min())) if len(finite) else -0.05
    high = max(1.5, float(finite.max())) if len(finite) else 1.5
    return RatioScale(Linear(*padded(low, high, 0.03), RATIO, 0.0))


def _several(trace: Trace) -> range:
    """Scorers worth a line of their own: none, where one scorer is the whole ratio."""
    return range(len(trace.scorers)) if len(trace.scorers) > 1 else range(0)


def _scorer_legend(trace: Trace) -> Markup:
    parts, x = list[Markup](), LEFT + 170.0
    for k in _several(trace):
        name = trace.scorers[k]
        parts.append(tag("line", class_=f"scorer s{k % 4}", x1=x, x2=x + 16, y1=8, y2=8))
        parts.append(tag("text", name, class_="legend", x=x + 20, y=11.5))
        x += 36 + 6.2 * len(name)
    return join(parts)


def _unscored(columns: Columns, scored: NDArray[np.bool_]) -> Markup:
    empty = ~columns.any(scored)
    return join(
        tag(
            "rect",
            tag("title", "not scored: too little coverage, or too early in a batch"),
            class_="unscored",
            x=first - 0.5,
            y=0,
            width=last - first + 1,
            height=RATIO,
        )
        for first, last in flag_runs(empty)
    )


def _version_marks(plot: Plot, version: NDArray[np.int32]) -> Markup:
    changed = np.flatnonzero(np.diff(version)) + 1
    return join(
        tag(
            "line",
            tag("title", f"threshold version {version[at]} from {iso_time(int(plot.ends[at]))}"),
            class_="version",
            x1=plot.column(int(at)) - 0.5,
            x2=plot.column(int(at)) - 0.5,
            y1=0,
            y2=RATIO,
        )
        for at in changed
    )


def _sensor_panel(plot: Plot, picture: Picture, sensor: int, style: Style, top: float) -> Drawn:
    trace, rows, columns = picture.trace, picture.rows, plot.columns
    observed, expected, least, most = (
        column[rows, sensor] for column in (trace.observed, trace.expected, trace.low, trace.high)
    )
    high, low, middle = columns.largest(observed), columns.smallest(observed), columns.mean(expected)
    upper, lower = columns.largest(most), columns.smallest(least)
    outside = columns.any((observed < least) | (observed > most))
    scale = Linear(*_sensor_range(high, low, upper, lower), SENSOR, 0.0)
    ticks = nice_ticks(scale.low, scale.high, 3)
    inner = plot.inner(
        top + HEADER,
        SENSOR,
        plot.background(SENSOR),
        grid(ticks, scale, SENSOR),
        tag("path", class_="band", d=paths.area(_clipped(scale(upper)), _clipped(scale(lower)))),
        tag("path", class_="expected", d=paths.line(_clipped(scale(middle)))),
        tag("path", class_="observed", d=paths.envelope(scale(high), scale(low))),
        tag(
            "path",
            class_="outside",
            d=paths.envelope(_where(outside, scale(high)), _where(outside, scale(low))),
        ),
    )
    name = trace.sensors[sensor]
    unit = style.units.get(name, "")
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 0.0
    labels = gutter([(tick, tick_text(tick, step)) for tick in ticks], scale, top + HEADER, SENSOR)
    title = header(f"{name} [{unit}]" if unit else name, f"s{sensor}", top)
    digits = _decimals(scale)
    values = {"low": low, "high": high, "expected": middle}
    track = {"name": f"s{sensor}", "unit": unit} | {key: _short(v, digits) for key, v in values.items()}
    return Drawn(join((title, inner, labels)), HEADER + SENSOR + _GAP, track)


def _where(flags: NDArray[np.bool_], pixels: Floats) -> Floats:
    return np.where(flags, pixels, np.nan)


def _sensor_range(high: Floats, low: Floats, upper: Floats, lower: Floats) -> tuple[float, float]:
    """What was observed and the usual normal band; a runaway expectation does not squash the rest."""
    seen = np.concatenate([high, low])
    usual = [np.nanquantile(v, q) for v, q in ((upper, 0.98), (lower, 0.02)) if np.isfinite(v).any()]
    values = np.concatenate([seen[np.isfinite(seen)], usual])
    return padded(float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)


def _clipped(pixels: Floats) -> Floats:
    return np.clip(pixels, -SENSOR, 2.0 * SENSOR)


def _decimals(scale: Linear) -> int:
    return max(0, min(8, 3 - int(np.floor(np.log10(scale.high - scale.low)))))


def _short(values: Floats, decimals: int) -> list[float | None]:
    return [None if v != v else v for v in np.round(values, decimals).tolist()]


def _data(plot: Plot, tracks: Sequence[dict[str, Any]], bottom: float) -> dict[str, Any]:
    """Times as whole milliseconds since the first column's."""
    ends = plot.ends[plot.columns.last] // (NS_PER_S // 1000)
    return {
        "left": LEFT,
        "width": PLOT,
        "bottom": bottom,
        "windows": len(plot.ends),
        "start": int(ends[0]),
        "ends": (ends - ends[0]).tolist(),
        "tracks": list(tracks),
    }


def legend() -> Markup:
    """What the lines of a timeline mean."""
    entries = [
        ("observed", "observed"),
        ("expected", "expected"),
        ("band", "normal band"),
        ("outside", "observed outside it"),
        ("limit", "limit"),
        ("over", "over the limit"),
        ("label-band", "labelled anomalous"),
    ]
    return tag("p", join(tag("span", swatch(style), text) for style, text in entries), class_="legend-row")
