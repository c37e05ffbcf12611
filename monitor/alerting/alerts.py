"""Alerts: identity, contents, and their form as CloudEvents 1.0 (Kafka binding, structured JSON).

An alert's id and ``data`` are functions of input, bundle and configuration alone. Where it came from (topic,
partition, offset, replay, version) travels beside ``data`` and is no part of its identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast
from uuid import UUID, uuid5

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.records import Channel, OutRecord, Quality, headers_of
from monitor.alerting.alert_data import (
    MAX_CONTRIBUTIONS,
    MAX_TEXT,
    Alert,
    AlertEvent,
    Answer,
    AnswerEvent,
    Batch,
    Contribution,
    Decision,
    DecisionEvent,
    Drift,
    Event,
    Fault,
    FirstMoved,
    LostRecords,
    Model,
    Recentring,
    RecentringEvent,
    Score,
    ScorerScore,
    Threshold,
    ThresholdEvent,
    Window,
)
from monitor.alerting.canonical import canonical_json
from monitor.alerting.incidents import EventName, Kind, State, Transition
from monitor.alerting.messages import anomaly_message, condition_message, fault_message, gap_message
from monitor.alerting.severity import severity
from monitor.quantities import iso_time

__all__ = [
    "Alert",
    "AlertEvent",
    "Answer",
    "AnswerEvent",
    "Batch",
    "Contribution",
    "Decision",
    "DecisionEvent",
    "Drift",
    "EventName",
    "Facts",
    "Fault",
    "FirstMoved",
    "Kind",
    "LostRecords",
    "Model",
    "Origin",
    "Readings",
    "Score",
    "ScorerScore",
    "State",
    "Threshold",
    "ThresholdEvent",
    "Window",
    "alert_id",
    "answer_event",
    "build_alert",
    "cloudevent",
    "contributions_of",
    "decision_event",
    "incident_id",
    "parse_alert",
    "parse_decision",
    "parse_threshold",
    "severity",
    "threshold_event",
    "threshold_id",
]

NAMESPACE = UUID("a1b1bfe5-1168-5a5c-a04f-1d2193f934fb")
"""Namespace of all nuwatch ids, fixed for ever: UUIDv5 of the URL namespace and 'urn:nuwatch:incident'."""

MONITOR = "nuwatch"
"""Stands for the asset in events that are about none."""

CONTENT_TYPE = "application/cloudevents+json"
ID_HEADER = "nuwatch-id"
_LARGEST_INTEGER = 2**31 - 1
"""Integers of CloudEvents have 32 bits; some of its libraries refuse larger ones."""


class Origin(NamedTuple):
    """Where an event came from; outside its identity.

    Attributes:
        topic: name of the input.
        partition: partition of the closing record.
        offset: its position there.
        replay: True when recorded data are replayed.
        version: of nuwatch.
        rebuilt: True while lost state is rebuilt: the event may repeat, under another id, one that is already known.
    """

    topic: str
    partition: int
    offset: int
    replay: bool
    version: str
    rebuilt: bool = False


class Facts(NamedTuple):
    """What is known when an event happens; what does not belong to its kind stays None."""

    window: Window | None = None
    score: Score | None = None
    contributions: tuple[Contribution, ...] = ()
    first_moved: tuple[FirstMoved, ...] = ()
    drift: Drift | None = None
    model: Model | None = None
    batch: Batch | None = None
    fault: Fault | None = None
    lost: LostRecords | None = None


def incident_id(source: str, asset: str, kind: Kind, subject: str, start_ns: int) -> str:
    """UUIDv5 of canonical JSON [source, asset, kind, subject, start_ns].

    Args:
        source: the CloudEvents source, /nuwatch/<site>.
        asset: the asset's name.
        kind: of the incident.
        subject: '' for ANOMALY; the sensor, the scorer, 'silence', 'coverage', 'offsets' or the batch.
        start_ns: ns since the epoch: end of the first over-limit window of the run that satisfied the
            on-delay, the sensor's first bad slot, the last reading before a gap, or the batch's start.
    """
    return str(_name(source, asset, kind, subject, start_ns))


def alert_id(incident: str, sequence: int) -> str:
    """Id of one event of an incident: '<incident_id>:0001' for RAISED."""
    return f"{incident}:{sequence:04d}"


class Readings(NamedTuple):
    """What D sensors show and should show at a window's end, in their units; each [D].

    Attributes:
        observed: NaN where masked.
        expected: given the other sensors.
        low: lower end of the normal band.
        high: upper end.
        sigma: one standard deviation of normal.
        quality: codes of `Quality`.
    """

    observed: NDArray[np.floating[Any]]
    expected: NDArray[np.floating[Any]]
    low: NDArray[np.floating[Any]]
    high: NDArray[np.floating[Any]]
    sigma: NDArray[np.floating[Any]]
    quality: NDArray[np.uint8]


def contributions_of(
    sensors: Sequence[str], units: Sequence[str], share: NDArray[np.floating[Any]], readings: Readings
) -> tuple[Contribution, ...]:
    """The at most 8 sensors with the largest shares, largest first, in sensor order where equal.

    Args:
        sensors: D names.
        units: D UCUM codes.
        share: [D] share of each sensor in the score; sensors without a share are left out.
        readings: what they show.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = (readings.observed - readings.expected) / readings.sigma
    order = [int(d) for d in np.argsort(-share, kind="stable")[:MAX_CONTRIBUTIONS] if share[d] > 0]
    return tuple(
        Contribution(
            sensor=sensors[d],
            unit=units[d],
            share=float(share[d]),
            observed=float(readings.observed[d]),
            expected=float(readings.expected[d]),
            low=float(readings.low[d]),
            high=float(readings.high[d]),
            sigma=float(deviation[d]),
            quality=Quality(int(readings.quality[d])).name,
        )
        for d in order
    )


def build_alert(
    transition: Transition, *, source: str, asset: str, kind: Kind, subject: str, facts: Facts
) -> Alert:
    """The alert that tells of a transition."""
    cleared = transition.event is EventName.CLEARED
    return Alert(
        incident_id=incident_id(source, asset, kind, subject, transition.start_ns),
        event=transition.event,
        state=State.CLOSED if cleared else State.OPEN,
        kind=kind,
        severity=transition.severity,
        message=_message(transition, asset, kind, subject, facts),
        raised_at=iso_time(transition.raised_ns),
        updated_at=iso_time(transition.at_ns),
        cleared_at=iso_time(transition.at_ns) if cleared else None,
        window=facts.window,
        score=facts.score,
        contributions=facts.contributions[:MAX_CONTRIBUTIONS],
        drift=facts.drift,
        model=facts.model,
        batch=facts.batch,
        subject=subject or msgspec.UNSET,
        fault=facts.fault or msgspec.UNSET,
        started_at=iso_time(transition.start_ns),
        first_moved=facts.first_moved or msgspec.UNSET,
        worst_ratio=transition.worst_ratio if np.isfinite(transition.worst_ratio) else msgspec.UNSET,
        lost=facts.lost or msgspec.UNSET,
    )


def cloudevent(
    alert: Alert, *, source: str, asset: str, time_ns: int, sequence: int, origin: Origin
) -> OutRecord:
    """An alert as a record of the alert channel, keyed by asset.

    Args:
        alert: what to publish.
        source: /nuwatch/<site>.
        asset: the asset's name.
        time_ns: event time of the alert, ns since the epoch.
        sequence: number of the event within its incident; RAISED is 1.
        origin: where it came from.
    """
    event = AlertEvent(
        id=alert_id(alert.incident_id, sequence),
        type="nuwatch.alert.v1",
        dataschema="alert.v1.json",
        data=alert,
        **_envelope(source, asset, time_ns, sequence, origin),
    )
    return _record(Channel.ALERTS, event)


def threshold_id(source: str, asset: str, bundle: str, version: int) -> str:
    """Id of a threshold version: of the series of an asset's limits under a bundle, and its number there."""
    return alert_id(str(_name(source, asset, "THRESHOLD", bundle, 0)), version)


def threshold_event(
    version: msgspec.Struct | Mapping[str, Any],
    *,
    source: str,
    asset: str,
    bundle: str,
    time_ns: int,
    origin: Origin,
) -> OutRecord:
    """A threshold version as a record of the threshold channel, keyed by asset.

    Its id names source, asset, bundle and version.

    Args:
        version: the fields of `Threshold`, but ``start_ns`` and ``end_ns`` for ``start`` and ``end``.
        source: /nuwatch/<site>.
        asset: the asset's name.
        bundle: content hash of the bundle whose threshold it is.
        time_ns: event time from which the version is in force, ns since the epoch.
        origin: where it came from.

    Raises:
        msgspec.ValidationError: a field is missing or of a wrong type.
    """
    fields = dict(cast("Mapping[str, Any]", msgspec.to_builtins(version)))
    for name in ("start", "end"):
        ns = fields.pop(f"{name}_ns")
        fields[name] = None if ns is None else iso_time(ns)
    data = msgspec.convert(fields, Threshold)
    event = ThresholdEvent(
        id=threshold_id(source, asset, bundle, data.version),
        type="nuwatch.threshold.v1",
        dataschema="threshold.v1.json",
        data=data,
        **_envelope(source, asset, time_ns, data.version, origin),
    )
    return _record(Channel.THRESHOLDS, event)


def decision_event(decision: Decision, *, source: str, asset: str, time_ns: int, origin: Origin) -> OutRecord:
    """A decision that is wanted or was refused, as a record of the threshold channel, keyed by asset.

    Its id names source, asset, outcome, reason and time.

    Args:
        decision: what to publish.
        source: /nuwatch/<site>.
        asset: the asset's name.
        time_ns: event time, ns since the epoch.
        origin: where it came from.
    """
    name = _name(source, asset, "DECISION", decision.outcome, decision.reason, time_ns)
    event = DecisionEvent(
        id=alert_id(str(name), 1),
        type="nuwatch.decision.v1",
        dataschema="decision.v1.json",
        data=decision,
        **_envelope(source, asset, time_ns, 1, origin),
    )
    return _record(Channel.THRESHOLDS, event)


def answer_event(answer: Answer, *, source: str, asset: str, time_ns: int, origin: Origin) -> OutRecord:
    """What became of a command, as a record of the threshold channel, keyed by asset.

    Its id names source, command, outcome and partition.

    Args:
        answer: what to publish.
        source: /nuwatch/<site>.
        asset: the asset's name, or 'nuwatch'.
        time_ns: when the command was given, ns since the epoch.
        origin: where it acts.
    """
    name = _name(source, asset, "ANSWER", answer.command, answer.outcome, answer.partition)
    event = AnswerEvent(
        id=alert_id(str(name), 1),
        type="nuwatch.answer.v1",
        dataschema="answer.v1.json",
        data=answer,
        **_envelope(source, asset, time_ns, 1, origin),
    )
    return _record(Channel.THRESHOLDS, event)


def recentring_event(
    recentring: Recentring, *, source: str, asset: str, time_ns: int, origin: Origin
) -> OutRecord:
    """Centres that have moved, as a record of the threshold channel, keyed by asset.

    Its id names source, asset and time.

    Args:
        recentring: what to publish.
        source: /nuwatch/<site>.
        asset: the asset's name.
        time_ns: event time, ns since the epoch.
        origin: where it came from.
    """
    name = _name(source, asset, "RECENTRING", "", time_ns)
    event = RecentringEvent(
        id=alert_id(str(name), 1),
        type="nuwatch.recentring.v1",
        dataschema="recentring.v1.json",
        data=recentring,
        **_envelope(source, asset, time_ns, 1, origin),
    )
    return _record(Channel.THRESHOLDS, event)


def parse_alert(value: bytes) -> AlertEvent:
    """Read a record of the alert channel.

    Raises:
        msgspec.DecodeError: it is no JSON, or no alert of this version.
    """
    return _ALERTS.decode(value)


def parse_threshold(value: bytes) -> ThresholdEvent:
    """Read a record of the threshold channel.

    Raises:
        msgspec.DecodeError: it is no JSON, or no threshold version of this version.
    """
    return _THRESHOLDS.decode(value)


def parse_decision(value: bytes) -> DecisionEvent:
    """Read a decision of the threshold channel.

    Raises:
        msgspec.DecodeError: it is no JSON, or no decision of this version.
    """
    return _DECISIONS.decode(value)


_ALERTS = msgspec.json.Decoder(AlertEvent)
_THRESHOLDS = msgspec.json.Decoder(ThresholdEvent)
_DECISIONS = msgspec.json.Decoder(DecisionEvent)


def _name(*parts: str | int) -> UUID:
    return uuid5(NAMESPACE, canonical_json(parts).decode())


def _message(transition: Transition, asset: str, kind: Kind, subject: str, facts: Facts) -> str:
    if kind is Kind.ANOMALY:
        return anomaly_message(transition, asset, facts.score, facts.contributions, facts.first_moved)
    if kind is Kind.SENSOR_FAULT:
        return fault_message(transition, asset, subject, facts.fault)
    if kind is Kind.DATA_GAP:
        return gap_message(transition, asset, subject, facts.window, facts.lost)
    return condition_message(transition, asset, kind, subject, facts.window)


def _envelope(source: str, asset: str, time_ns: int, sequence: int, origin: Origin) -> dict[str, Any]:
    offset = origin.offset
    return {
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "source": source,
        "subject": asset,
        "partitionkey": asset,
        "time": iso_time(time_ns),
        "sequence": f"{sequence:010d}",
        "nuwatchtopic": origin.topic,
        "nuwatchpartition": origin.partition,
        "nuwatchoffset": offset if offset <= _LARGEST_INTEGER else str(offset),
        "nuwatchreplay": origin.replay,
        "nuwatchversion": origin.version,
        **({"nuwatchrebuilt": True} if origin.rebuilt else {}),
    }


def _record(channel: Channel, event: Event) -> OutRecord:
    """The event as canonical JSON with every text of its data capped."""
    body = cast("dict[str, Any]", msgspec.to_builtins(event))
    data, cut = _capped(body["data"])
    body["data"] = data | {"truncated": True} if cut else data
    return OutRecord(
        channel=channel,
        id=event.id,
        key=event.partitionkey.encode(),
        value=canonical_json(body),
        headers=headers_of([("content-type", CONTENT_TYPE), (ID_HEADER, event.id)]),
    )


def _capped(value: Any) -> tuple[Any, bool]:
    """The value with no text longer than `MAX_TEXT`, and whether one was cut."""
    if isinstance(value, str):
        return (value, False) if len(value) <= MAX_TEXT else (value[: MAX_TEXT - 1] + "…", True)
    if isinstance(value, dict):
        members = {name: _capped(each) for name, each in cast("dict[str, Any]", value).items()}
        return {name: each for name, (each, _) in members.items()}, any(cut for _, cut in members.values())
    if isinstance(value, list | tuple):
        items = [_capped(each) for each in cast("list[Any]", value)]
        return [each for each, _ in items], any(cut for _, cut in items)
    return value, False
