"""Alerts in plain words: what, where, how much, which sensors moved, since when."""

from __future__ import annotations

import math
from collections.abc import Sequence

from monitor.alerting.alert_data import Contribution, Fault, FirstMoved, LostRecords, Score, Window
from monitor.alerting.incidents import EventName, Kind, Transition
from monitor.quantities import NS_PER_S, Duration, Instant, iso_time

SHOWN_SENSORS = 3

_FAULTS = {
    "STUCK": "does not move",
    "OUT_OF_RANGE": "is out of range",
    "SPIKE": "shows a spike",
    "BAD_QUALITY": "reports bad quality",
    "NON_FINITE": "sends values that are not numbers",
    "DEAD": "sends nothing",
}
_CONDITIONS = {
    Kind.DRIFT: ("normal scores of {subject} have moved", "normal scores of {subject} are steady again"),
    Kind.MODEL_STALE: (
        "the model of {subject} no longer fits normal",
        "the model of {subject} fits normal again",
    ),
    Kind.BATCH_VERDICT: ("batch {subject} stands out", "batch {subject} no longer stands out"),
    Kind.MONITOR_HEALTH: ("the monitor is degraded: {subject}", "the monitor is well again: {subject}"),
}
_SENSOR_DRIFT = (
    "sensor {subject} has left its trained centre",
    "sensor {subject} is at its trained centre again",
)
_UNITS = {"Cel": "°C", "[degF]": "°F", "1": "", "{ratio}": "", "deg": "°"}


def anomaly_message(
    transition: Transition,
    asset: str,
    score: Score | None,
    contributions: Sequence[Contribution],
    first_moved: Sequence[FirstMoved] = (),
) -> str:
    """An ANOMALY: how much over, which sensors moved, which was first, since when; at the end, how long and how bad."""
    if transition.event is EventName.CLEARED:
        return _joined(f"{asset}: anomaly cleared {_lasted(transition)}", _worst(transition))
    moved = ", ".join(_moved(each) for each in contributions[:SHOWN_SENSORS])
    return _joined(
        f"{asset}: anomaly{_still(transition)}, {_how_much(score)}, {_since(transition)}",
        f"moved most: {moved}" if moved else "",
        _first(first_moved),
        _worst(transition) if transition.event is EventName.UPDATED else "",
    )


def fault_message(transition: Transition, asset: str, sensor: str, fault: Fault | None) -> str:
    """A SENSOR_FAULT: the finding, the value and what would be right."""
    if transition.event is EventName.CLEARED:
        return f"{asset}: sensor {sensor} is well again {_lasted(transition)}"
    finding = "is faulty" if fault is None else _FAULTS[fault.code]
    return _joined(
        f"{asset}: sensor {sensor} {finding}{_still(transition)}, {_since(transition)}",
        "" if fault is None or fault.value is None else f"value {quantity(fault.value, fault.unit)}",
        "" if fault is None else _allowed(fault),
    )


def gap_message(
    transition: Transition, asset: str, subject: str, window: Window | None, lost: LostRecords | None = None
) -> str:
    """A DATA_GAP: silence, too few real readings, or records that were gone; and how long."""
    if lost is not None:
        return _lost(transition, asset, lost)
    if subject == "silence":
        return _silence(transition, asset)
    if transition.event is EventName.CLEARED:
        return f"{asset}: enough real readings again {_lasted(transition)}"
    share = (
        "" if window is None or window.coverage is None else f", {100 * window.coverage:.0f} % of the window"
    )
    return (
        f"{asset}: too few real readings{share}{_still(transition)}, {_since(transition)}; "
        "windows are not scored meanwhile"
    )


def condition_message(
    transition: Transition, asset: str, kind: Kind, subject: str, window: Window | None
) -> str:
    """DRIFT, MODEL_STALE and the other kinds without a measure; the drift of a sensor belongs to no window."""
    holds, over = _SENSOR_DRIFT if kind is Kind.DRIFT and window is None else _CONDITIONS[kind]
    if transition.event is EventName.CLEARED:
        return f"{asset}: {over.format(subject=subject)} {_lasted(transition)}"
    return f"{asset}: {holds.format(subject=subject)}{_still(transition)}, {_since(transition)}"


def quantity(value: float | None, unit: str) -> str:
    """A value with its unit for people: '183.4 °C'."""
    if value is None or not math.isfinite(value):
        return "no value"
    return f"{value:.4g} {unit_text(unit)}".rstrip()


def unit_text(unit: str) -> str:
    """A unit for people: '°C' for Cel."""
    return _UNITS.get(unit, unit)


def duration_text(ns: int) -> str:
    """A duration in its two largest units: '1d2h', '12min3s', '0.5s'."""
    if ns < NS_PER_S:
        return f"{ns / NS_PER_S:.3g}s"
    smallest = NS_PER_S * (3600 if ns >= 86_400 * NS_PER_S else 60 if ns >= 3600 * NS_PER_S else 1)
    return str(Duration(ns // smallest * smallest))


def _lost(transition: Transition, asset: str, lost: LostRecords) -> str:
    if transition.event is EventName.CLEARED:
        return f"{asset}: readings came again after lost records {_lasted(transition)}"
    if lost.end <= lost.first:
        what = f"the input was made anew: what followed offset {lost.first} of partition {lost.partition}"
    else:
        what = f"offsets {lost.first} to {lost.end - 1} of partition {lost.partition}"
    return f"{asset}: records were gone before they were read ({what}), {_since(transition)}"


def _silence(transition: Transition, asset: str) -> str:
    if transition.event is EventName.CLEARED:
        silent = duration_text(transition.at_ns - transition.start_ns)
        return (
            f"{asset}: readings came again after {silent} of silence (since {iso_time(transition.start_ns)})"
        )
    silent = duration_text(transition.raised_ns - transition.start_ns)
    return f"{asset}: no readings for {silent}, the last one at {iso_time(transition.start_ns)}"


def _how_much(score: Score | None) -> str:
    ratio = None if score is None else score.ratio
    if ratio is None or not math.isfinite(ratio):
        return "over its limit"
    if ratio >= 2:
        return f"{ratio:.3g} times its limit"
    if ratio >= 1:
        return f"{100 * (ratio - 1):.0f} % over its limit"
    if ratio > 0:
        return f"now at {100 * ratio:.0f} % of its limit"
    return "now below the normal median"


def _moved(part: Contribution) -> str:
    observed = quantity(part.observed, part.unit)
    if part.expected is None or not isinstance(part.low, float) or not isinstance(part.high, float):
        return f"{part.sensor} {observed}"
    digits = _decimals(part.high - part.low)
    if part.observed is not None and math.isfinite(part.observed):
        observed = f"{part.observed:.{digits}f} {unit_text(part.unit)}".rstrip()
    low, high, expected = (f"{value:.{digits}f}" for value in (part.low, part.high, part.expected))
    return f"{part.sensor} {observed} (expected {expected}, normal {low} to {high})"


def _decimals(width: float) -> int:
    """Decimals that show a band's width to two digits at least."""
    if not math.isfinite(width) or width <= 0:
        return 3
    return min(max(1 - math.floor(math.log10(width)), 0), 9)


def _first(moved: Sequence[FirstMoved]) -> str:
    """Who left its band first, where that says something: another one left later."""
    if len(moved) < 2 or moved[0].at == moved[1].at:
        return ""
    ahead = int(Instant.parse(moved[1].at)) - int(Instant.parse(moved[0].at))
    return f"{moved[0].sensor} moved first, {duration_text(ahead)} before {moved[1].sensor}"


def _allowed(fault: Fault) -> str:
    if fault.code != "OUT_OF_RANGE" or fault.low is None or fault.high is None:
        return ""
    return f"allowed {quantity(fault.low, fault.unit)} to {quantity(fault.high, fault.unit)}"


def _still(transition: Transition) -> str:
    if transition.event is EventName.RAISED:
        return ""
    return f" for {duration_text(transition.at_ns - transition.start_ns)}"


def _since(transition: Transition) -> str:
    return f"since {iso_time(transition.start_ns)}"


def _lasted(transition: Transition) -> str:
    lasted = duration_text(transition.at_ns - transition.start_ns)
    return f"after {lasted} (since {iso_time(transition.start_ns)})"


def _worst(transition: Transition) -> str:
    return (
        f"worst {transition.worst_ratio:.3g} times its limit" if math.isfinite(transition.worst_ratio) else ""
    )


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
