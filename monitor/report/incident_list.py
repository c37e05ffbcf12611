"""The incidents of a replay with the sensors that moved, and a close look at the most severe ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from monitor.evaluation.incident_log import Contribution, Incident
from monitor.evaluation.labels import Labels
from monitor.quantities import NS_PER_S, iso_time
from monitor.report.markup import Markup, duration, join, number, percent, tag
from monitor.report.page import table
from monitor.report.timeline import Picture, Style, timeline
from monitor.trace import Trace

LISTED = 300
"""Incidents in the list at most; beyond, the most severe ones."""
CLOSE_LOOKS = 20
_BEFORE, _AFTER = 60, 120
"""Windows drawn before an incident's start and, at least, after it."""
_SENSORS = 3


def incident_list(
    incidents: Sequence[Incident], traces: Mapping[str, Trace], labels: Labels, style: Style
) -> Markup:
    """All incidents in order of time, foldable.

    Args:
        incidents: in any order.
        traces: by asset, for the close looks.
        labels: drawn as bands.
        style: of the close looks.
    """
    by_severity = sorted(incidents, key=lambda i: (-i.severity, i.raised_ns, i.asset))
    close = {id(incident) for incident in by_severity[:CLOSE_LOOKS]}
    shown = sorted(by_severity[:LISTED], key=lambda i: (i.raised_ns, i.asset))
    entries = [
        _entry(incident, _close_look(k, incident, traces, labels, style) if id(incident) in close else None)
        for k, incident in enumerate(shown)
    ]
    fewer = f"Listed are the {len(shown)} most severe of {len(incidents)} incidents."
    return join(
        (
            tag("h2", "Incidents"),
            tag("p", "None.", class_="muted") if not incidents else None,
            tag("p", fewer, class_="note") if len(shown) < len(incidents) else None,
            *entries,
        )
    )


def _entry(incident: Incident, close_look: Markup | None) -> Markup:
    until = (
        "open"
        if incident.cleared_ns is None
        else f"cleared after {duration((incident.cleared_ns - incident.raised_ns) / NS_PER_S)}"
    )
    what = f"{incident.kind} {incident.subject}".strip().replace("_", " ").lower()
    head = tag(
        "summary",
        tag("span", class_=f"dot {incident.kind}"),
        tag("span", iso_time(incident.raised_ns), class_="when"),
        f" {incident.asset}: {what}, severity {incident.severity}, {until}",
    )
    return tag(
        "details",
        head,
        tag("p", incident.message) if incident.message else None,
        contribution_table(incident.contributions),
        _first_moved(incident.first_moved),
        close_look,
        id=f"incident-{incident.incident_id}",
    )


def contribution_table(contributions: Sequence[Contribution]) -> Markup | None:
    """Sensors with their shares, what they showed, and what would have been normal."""
    if not contributions:
        return None
    columns = ("sensor", "share of the score", "observed>", "expected>", "normal>", "deviation>", "unit")
    rows = [
        (
            part.sensor,
            _share(part.share),
            number(part.observed, 5),
            number(part.expected, 5),
            "\u2014" if part.low is None else f"{number(part.low, 5)} to {number(part.high, 5)}",
            "\u2014" if part.sigma is None else f"{part.sigma:+.1f} sigma",
            part.unit,
        )
        for part in contributions
    ]
    return table(columns, rows)


def _first_moved(moved: Sequence[tuple[str, int]]) -> Markup | None:
    """In which order sensors left their normal bands: the first with its time, the others with how much later."""
    if not moved:
        return None
    name, first = moved[0]
    later = [f"{other} {duration((at - first) / NS_PER_S)} later" for other, at in moved[1:]]
    told = "; ".join([f"{name} at {iso_time(first)}", *later])
    return tag("p", f"Left their normal bands, in this order: {told}.")


def _share(share: float) -> Markup:
    width = round(90 * min(1.0, max(0.0, share)))
    return tag("span", tag("span", class_="bar", style=f"width:{width}px"), percent(share), class_="share")


def _close_look(
    index: int, incident: Incident, traces: Mapping[str, Trace], labels: Labels, style: Style
) -> Markup | None:
    trace = traces.get(incident.asset)
    rows = _rows_around(trace, incident) if trace else None
    if trace is None or rows is None:
        return None
    sensors = _sensors(trace, rows, incident)
    faults = labels.faults_of(incident.asset)
    picture = Picture(f"close-{index}", trace, rows, sensors, [incident], faults)
    return tag("div", timeline(picture, style), class_="scroll")


def _rows_around(trace: Trace, incident: Incident) -> NDArray[np.int64] | None:
    rows = np.flatnonzero(trace.asset == trace.assets.index(incident.asset))
    ends = trace.end[rows]
    if not len(ends) or incident.start_ns > ends[-1]:
        return None
    start = int(np.searchsorted(ends, incident.start_ns))
    cleared = int(np.searchsorted(ends, incident.cleared_ns)) if incident.cleared_ns is not None else start
    last = max(start + _AFTER, min(cleared + _BEFORE, start + 4 * _AFTER))
    return rows[max(0, start - _BEFORE) : last]


def _sensors(trace: Trace, rows: NDArray[np.int64], incident: Incident) -> list[int]:
    """The sensors that the incident names, else those with the largest part in the scores drawn."""
    named = [incident.subject, *(part.sensor for part in incident.contributions)]
    known = [trace.sensors.index(name) for name in dict.fromkeys(named) if name in trace.sensors]
    if known:
        return known[:_SENSORS]
    mean = np.nan_to_num(trace.contributions[rows]).mean(axis=0)
    return np.argsort(-mean, kind="stable")[:_SENSORS].tolist()
