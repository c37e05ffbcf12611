"""The most anomalous and the most normal windows of a replay: what the score rests on, to be judged by eye."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.evaluation.asset_view import AssetView
from monitor.evaluation.incident_log import Contribution
from monitor.evaluation.labels import Label, Labels
from monitor.quantities import iso_time
from monitor.report.incident_list import contribution_table
from monitor.report.markup import Markup, join, number, tag
from monitor.report.timeline import Picture, Style, timeline
from monitor.trace import Trace

SHOWN = 3
"""Windows of each kind; no two of one asset that overlap."""
SENSORS = 16
"""Sensors drawn in one window at most: those with the largest shares."""
_LISTED = 8


class _Window(NamedTuple):
    """One window: the row of the trace that ends it, and all rows that it spans."""

    trace: Trace
    view: AssetView
    row: int
    rows: NDArray[np.int64]


def window_gallery(
    assets: Sequence[tuple[Trace, AssetView]], spans: dict[str, int], labels: Labels, style: Style
) -> Markup:
    """A few windows of either kind, foldable, each with its score, contributions and every sensor's trace.

    Args:
        assets: with their classes' traces.
        spans: rows of the trace that a window spans, by asset class.
        labels: what is known of when assets were not normal.
        style: of the traces.
    """
    parts = [tag("h2", "Windows")]
    for name, sign in (("most anomalous", 1.0), ("most normal", -1.0)):
        entries = [
            _entry(f"{name.split()[1]}-{k}", window, labels, style)
            for k, window in enumerate(_picked(assets, spans, sign))
        ]
        parts += [tag("h3", f"The {name}"), *(entries or [tag("p", "No window was scored.", class_="muted")])]
    return join(parts)


def _picked(
    assets: Sequence[tuple[Trace, AssetView]], spans: dict[str, int], sign: float
) -> Iterator[_Window]:
    """Windows in order of ``sign`` times their ratio, the largest first; none that overlaps an earlier one."""
    ratio = np.concatenate([sign * view.ratio for _, view in assets] or [np.zeros(0)])
    asset = np.repeat(np.arange(len(assets)), [len(view.rows) for _, view in assets])
    place = np.concatenate([np.arange(len(view.rows)) for _, view in assets] or [np.zeros(0, np.int64)])
    left = np.isfinite(ratio)
    for _ in range(SHOWN):
        if not left.any():
            return
        best = int(np.argmax(np.where(left, ratio, -np.inf)))
        trace, view = assets[asset[best]]
        span, at = spans.get(trace.asset_class, 64), int(place[best])
        left &= (asset != asset[best]) | (np.abs(place - at) >= span)
        yield _Window(trace, view, int(view.rows[at]), view.rows[max(0, at - span + 1) : at + 1])


def _entry(name: str, window: _Window, labels: Labels, style: Style) -> Markup:
    trace, view, row, rows = window
    end = int(trace.end[row])
    scores = ", ".join(
        f"{scorer} {number(float(ratio))}"
        for scorer, ratio in zip(trace.scorers, trace.scorer_ratio[row], strict=True)
    )
    head = tag(
        "summary",
        tag("span", iso_time(end), class_="when"),
        f" {view.asset}: ratio {number(float(trace.ratio[row]))}, {_known(view, row, end, labels)}",
    )
    order = np.argsort(-trace.contributions[row], kind="stable")
    faults = labels.faults_of(view.asset)
    sensors = sorted(order[:SENSORS].tolist())
    picture = Picture(f"window-{name}", trace, rows, sensors, view.incidents, faults)
    return tag(
        "details",
        head,
        tag("p", f"Ratio by scorer: {scores}."),
        contribution_table([_part(trace, row, d, style) for d in order[:_LISTED].tolist()]),
        tag("div", timeline(picture, style), class_="scroll"),
        open="open" if name.endswith("-0") else None,
    )


def _known(view: AssetView, row: int, end: int, labels: Labels) -> str:
    """What labels and incidents say of a window's end."""
    label = Label(int(view.codes[int(np.flatnonzero(view.rows == row)[0])]))
    names = [fault.name for fault in labels.faults_of(view.asset) if fault.start_ns <= end <= fault.end_ns]
    told = {
        Label.NORMAL: "labelled normal",
        Label.ANOMALOUS: f"labelled anomalous{f' ({names[0]})' if names and names[0] else ''}",
        Label.UNKNOWN: "no label",
    }[label]
    inside = [
        incident.kind.replace("_", " ").lower()
        for incident in view.incidents
        if incident.start_ns <= end and (incident.cleared_ns is None or end < incident.cleared_ns)
    ]
    return f"{told}, {'during ' + ', '.join(dict.fromkeys(inside)) if inside else 'outside incidents'}"


def _part(trace: Trace, row: int, sensor: int, style: Style) -> Contribution:
    def value(column: NDArray[np.float64]) -> float | None:
        found = float(column[row, sensor])
        return found if np.isfinite(found) else None

    observed, expected = value(trace.observed), value(trace.expected)
    name, spread = trace.sensors[sensor], float(trace.sigma[row, sensor])
    return Contribution(
        name,
        style.units.get(name, ""),
        float(trace.contributions[row, sensor]),
        observed,
        expected,
        None if observed is None or expected is None else (observed - expected) / spread,
        value(trace.low),
        value(trace.high),
    )
