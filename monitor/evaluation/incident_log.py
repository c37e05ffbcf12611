"""Incidents as reports and evaluation see them: one record per incident, read back from its alerts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from monitor.quantities import Instant

FAULT_KINDS: tuple[str, ...] = ("ANOMALY", "SENSOR_FAULT")
"""Kinds that say 'something is wrong with the plant'; the others speak of data and models."""


class Contribution(NamedTuple):
    """A sensor's part in an incident; values in the sensor's unit, None where masked or unknown."""

    sensor: str
    unit: str = ""
    share: float = 0.0
    observed: float | None = None
    expected: float | None = None
    sigma: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Incident:
    """One episode of one asset; times in ns since the epoch.

    Attributes:
        asset: the asset's name.
        kind: ANOMALY, SENSOR_FAULT, DATA_GAP, DRIFT, MODEL_STALE or BATCH_VERDICT.
        subject: '' for ANOMALY, the sensor, the scorer, 'silence' or 'coverage', or the batch.
        start_ns: the first bad instant.
        raised_ns: when the incident was raised: the start plus the on-delay.
        cleared_ns: when it cleared; None while it is open.
        severity: the highest of its alerts, 1 to 1000.
        message: that of its worst alert while it stood.
        contributions: likewise, largest share first.
        first_moved: sensors with the times (ns) at which they left their normal bands, the earliest first, as its
            latest alert that knows tells it.
        incident_id: the same in replay and live.
    """

    asset: str
    kind: str
    subject: str
    start_ns: int
    raised_ns: int
    cleared_ns: int | None
    severity: int
    message: str
    contributions: tuple[Contribution, ...] = ()
    first_moved: tuple[tuple[str, int], ...] = ()
    incident_id: str = ""


def incidents_from_alerts(alerts: Iterable[Mapping[str, Any]]) -> list[Incident]:
    """Fold alert CloudEvents (decoded JSON) into incidents, in order of when they were raised.

    Alerts may come in any order and more than once: an id counts once. An incident whose RAISED is missing is
    read from what there is.

    Raises:
        KeyError: an event lacks a field that the alert schema requires.
        ValueError: a time in it is no ISO 8601 time with an offset.
    """
    by_incident: dict[str, dict[str, Mapping[str, Any]]] = {}
    for alert in alerts:
        by_incident.setdefault(alert["data"]["incident_id"], {})[alert["id"]] = alert
    incidents = [_incident([events[k] for k in sorted(events)]) for events in by_incident.values()]
    return sorted(incidents, key=lambda i: (i.raised_ns, i.asset, i.kind, i.subject))


def _incident(alerts: list[Mapping[str, Any]]) -> Incident:
    first = alerts[0]["data"]
    # a CLEARED carries the worst severity, and shows a moment that is normal again
    telling = [a["data"] for a in alerts if a["data"]["event"] != "CLEARED"] or [first]
    worst = max(telling, key=_badness)
    raised = Instant.parse(first["raised_at"])
    cleared = [a["data"]["cleared_at"] for a in alerts if a["data"].get("cleared_at")]
    started = first.get("started_at")
    return Incident(
        asset=alerts[0]["subject"],
        kind=first["kind"],
        subject=first.get("subject") or "",
        start_ns=int(Instant.parse(started)) if started else int(raised),
        raised_ns=int(raised),
        cleared_ns=int(Instant.parse(cleared[-1])) if cleared else None,
        severity=max(alert["data"]["severity"] for alert in alerts),
        message=worst.get("message") or "",
        contributions=tuple(_contribution(c) for c in worst.get("contributions") or ()),
        first_moved=_first_moved(alerts),
        incident_id=first["incident_id"],
    )


def _first_moved(alerts: list[Mapping[str, Any]]) -> tuple[tuple[str, int], ...]:
    told = [alert["data"].get("first_moved") for alert in alerts]
    latest = next((each for each in reversed(told) if each), ())
    return tuple((each["sensor"], int(Instant.parse(each["at"]))) for each in latest)


def _badness(data: Mapping[str, Any]) -> tuple[float, int]:
    """How much an alert's moment tells: by its ratio; by severity where the kind has none."""
    ratio = (data.get("score") or {}).get("ratio")
    return (0.0 if ratio is None else ratio, data["severity"])


def _contribution(data: Mapping[str, Any]) -> Contribution:
    return Contribution(
        data["sensor"],
        data.get("unit") or "",
        data.get("share") or 0.0,
        data.get("observed"),
        data.get("expected"),
        data.get("sigma"),
        data.get("low"),
        data.get("high"),
    )
