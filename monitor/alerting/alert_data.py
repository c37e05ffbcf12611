"""What alerts and threshold versions look like on the wire; the published schemas are generated from here.

Fields that may be null are always there; what only some kinds have is left out where it says nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from monitor.alerting.incidents import EventName, Kind, State

MAX_CONTRIBUTIONS = 8
MAX_TEXT = 500
"""Longest text in an event's data, in characters; longer ones are cut and ``truncated`` is set."""

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""An instant in RFC 3339, UTC, with 0, 3, 6 or 9 digits of a second."""
Severity = Annotated[int, Meta(ge=1, le=1000)]


class Data(Struct, frozen=True):
    """A part of an event: immutable; unknown fields are read over, so that readers survive additions."""


class Window(Data, frozen=True):
    """The window that the event was found in.

    Attributes:
        start: time of its first sample.
        end: time of its last sample.
        length: grid samples.
        coverage: share of real readings, 0 to 1.
    """

    start: Time
    end: Time
    length: int
    coverage: float | None


class ScorerScore(Data, frozen=True):
    """What one scorer said.

    Attributes:
        value: its raw score; higher is more anomalous.
        threshold: its limit.
        ratio: 1.0 is the limit.
        p_value: share of calibration scores at least as high; never below 1 / (n + 1).
    """

    value: float | None
    threshold: float | None
    ratio: float | None
    p_value: float | None


class Score(Data, frozen=True):
    """How far the window was over the limit.

    Attributes:
        ratio: of all scorers together, smoothed over time; 1.0 is the limit.
        threshold: the limit in force.
        threshold_version: its version; see the threshold events.
        p_value: share of calibration windows at least as high; never below 1 / (n + 1).
        nu: the fraction of normal windows allowed over the limit.
        per_scorer: each scorer by name.
    """

    ratio: float | None
    threshold: float | None
    threshold_version: int
    p_value: float | None
    nu: float | None
    per_scorer: dict[str, ScorerScore]


class Contribution(Data, frozen=True):
    """What one sensor had to do with it.

    Attributes:
        sensor: its name.
        unit: its UCUM code.
        share: in the score, 0 to 1: the leading scorer's contributions, relative to what is usual for the sensor,
            smoothed like the ratio, and weighted by how far the sensor is from what is expected of it.
        observed: its value at the window's end; null where masked.
        expected: what it should show there, given the sensors that can be trusted; its own value has no part in it.
        sigma: observed less expected, in standard deviations of normal.
        quality: of the reading.
        low: lower end of its normal band there, which holds 99.9 % of normal readings.
        high: upper end.
    """

    sensor: str
    unit: str
    share: float | None
    observed: float | None
    expected: float | None
    sigma: float | None
    quality: str
    low: float | UnsetType | None = UNSET
    high: float | UnsetType | None = UNSET


class FirstMoved(Data, frozen=True):
    """When a sensor left its normal band.

    Attributes:
        sensor: its name.
        at: end of the first window at which it was outside.
    """

    sensor: str
    at: Time


class Fault(Data, frozen=True):
    """What is wrong with a sensor.

    Attributes:
        code: the finding.
        unit: the sensor's UCUM code.
        value: the last value seen, null where there is none.
        low: lower end of the engineering range, null where none is declared.
        high: upper end.
    """

    code: Literal["STUCK", "OUT_OF_RANGE", "SPIKE", "BAD_QUALITY", "NON_FINITE", "DEAD"]
    unit: str
    value: float | None = None
    low: float | None = None
    high: float | None = None


class Drift(Data, frozen=True):
    """Whether normal has moved.

    Attributes:
        state: STABLE, DRIFT (normal has moved, the old threshold is in force), REFITTING, or AWAITING (a person
            has to decide).
        gate: whether the limit follows the scores: OPEN, CAPPED (open, but it has moved as far as it may), BUSY
            (closed, because over 25 % of the last 40 windows are over the limit, or half of the last few), STANDS
            (closed, because an ANOMALY stands), FAULT (closed, because a SENSOR_FAULT is open) or OFF.
        over: of the last 40 scored windows those over the limit: over 10 close the gate.
    """

    state: str
    gate: Literal["OFF", "OPEN", "BUSY", "STANDS", "FAULT", "CAPPED"] | UnsetType = UNSET
    over: int | UnsetType = UNSET


class Model(Data, frozen=True):
    """What judged.

    Attributes:
        bundle: SHA-256 of the bundle.
        trained_to: end of the training data; null where unknown.
        config: SHA-256 of the configuration.
    """

    bundle: str
    trained_to: Time | None
    config: str


class Batch(Data, frozen=True):
    """Batch context in the words of ISA-88; null where the readings carried none."""

    batch_id: str | None
    lot: str | None
    recipe: str | None
    phase: str | None


class LostRecords(Data, frozen=True):
    """Records that were gone before they could be read; any of the partition's assets may have had some.

    Attributes:
        partition: of the input.
        first: the offset that was wanted.
        end: the offset at which reading went on; at or below ``first`` where the topic was made anew.
    """

    partition: int
    first: int
    end: int


class Alert(Data, frozen=True):
    """One event of an incident's life.

    Attributes:
        incident_id: names the episode; the same in all its alerts.
        event: what happened.
        state: how the incident stands after it.
        kind: what the incident is about.
        severity: the worst so far, 1 to 1000; medium from 334, high from 667.
        message: the alert in plain words.
        raised_at: when the incident was raised.
        updated_at: when this event happened.
        cleared_at: when it was cleared; null while it is open.
        window: the window of this event; null where none belongs to it.
        score: null where the kind has none.
        contributions: the sensors that moved most, the largest share first; at most 8.
        drift: null where unknown.
        model: null where no model had a part.
        batch: null outside batches.
        subject: the sensor, the scorer, 'silence', 'coverage', 'offsets', the batch, or the condition of the monitor
            that the incident is about; left out for ANOMALY.
        fault: only for SENSOR_FAULT.
        started_at: when the condition began: the instant that names the incident.
        first_moved: the sensors that have left their normal bands, the earliest first; at most 8, only for ANOMALY.
        worst_ratio: the largest ratio of the incident so far; left out where it has none.
        lost: only for DATA_GAP of 'offsets'.
        truncated: true where a text was cut or a part left out to keep the event small.
    """

    incident_id: str
    event: EventName
    state: State
    kind: Kind
    severity: Severity
    message: str
    raised_at: Time
    updated_at: Time
    cleared_at: Time | None
    window: Window | None
    score: Score | None
    contributions: Annotated[tuple[Contribution, ...], Meta(max_length=MAX_CONTRIBUTIONS)]
    drift: Drift | None
    model: Model | None
    batch: Batch | None
    subject: str | UnsetType = UNSET
    fault: Fault | UnsetType = UNSET
    started_at: Time | UnsetType = UNSET
    first_moved: Annotated[tuple[FirstMoved, ...], Meta(max_length=MAX_CONTRIBUTIONS)] | UnsetType = UNSET
    worst_ratio: float | UnsetType = UNSET
    lost: LostRecords | UnsetType = UNSET
    truncated: bool | UnsetType = UNSET


class Threshold(Data, frozen=True):
    """One version of an asset's limit. Limits are ratios to the limit that the bundle was trained with.

    Attributes:
        version: rises by one with every new limit; the bundle's own is 0.
        nu: the fraction of normal windows allowed over it.
        n: calibration scores behind it.
        n_eff: their number after autocorrelation; null for the bundle's own limit.
        tau: their autocorrelation time at the limit, in windows; likewise.
        label: CALIBRATED, UNCALIBRATED (fewer scores than nu asks for), TRAINED (the bundle's own), TRACKED (it
            followed the scores) or PROVISIONAL (put on few scores after a declared or approved change, until enough
            have come).
        low: lower end of the limit's interval.
        high: upper end.
        start: window end of the first calibration score; null where unknown.
        end: window end of the last.
        trigger: why there is a new version.
        old_limit: the limit before.
        new_limit: the limit from now on.
        step: factor between the two, read on the new calibration scores; null for a rollback.
        approved_by: 'rule', or the person's name.
        scales: medians and limits of the combined ratio and of the scorers behind it.
        realised: share of windows over the limit since the version before; only where it followed the scores.
        truncated: true where a text was cut or a part left out to keep the event small.
    """

    version: int
    nu: float
    n: int
    n_eff: float | None
    tau: float | None
    label: Literal["CALIBRATED", "UNCALIBRATED", "TRAINED", "TRACKED", "PROVISIONAL"]
    low: float | None
    high: float | None
    start: Time | None
    end: Time | None
    trigger: str
    old_limit: float | None
    new_limit: float | None
    step: float | None
    approved_by: str
    scales: dict[str, Any]
    realised: float | UnsetType = UNSET
    truncated: bool | UnsetType = UNSET


class Decision(Data, frozen=True):
    """What a person should know of a limit that did not move, or not yet.

    Attributes:
        outcome: WANTED (a person has to decide), or REFUSED (a re-estimation or a person's command was not carried
            out).
        reason: why.
        version: the threshold version in force.
        proposed: the version that an approval puts in force at once; null where an approval allows collecting, and
            the limit follows when enough has come.
        limit: the proposed version's limit, in trained ratios; null likewise.
        truncated: true where a text was cut to keep the event small.
    """

    outcome: Literal["WANTED", "REFUSED"]
    reason: str
    version: int
    proposed: int | None
    limit: float | None
    truncated: bool | UnsetType = UNSET


class Recentred(Data, frozen=True):
    """A sensor whose centre has moved.

    Attributes:
        sensor: its name.
        before: distance from the trained centre until now, in standard deviations of normal.
        after: distance from now on; beyond 1 a DRIFT names the sensor.
    """

    sensor: str
    before: float
    after: float


class Recentring(Data, frozen=True):
    """Centres around which sensors are scored have followed them, for windows that end with this event's time or later.

    Attributes:
        sensors: those that moved.
        truncated: true where a text was cut or a part left out to keep the event small.
    """

    sensors: tuple[Recentred, ...]
    truncated: bool | UnsetType = UNSET


class Answer(Data, frozen=True):
    """What became of a command of the control topic.

    Attributes:
        command: its name; a command that acts on several partitions is answered for each.
        kind: of the command; null where it could not be read.
        outcome: APPLIED (it acts from ``offset`` on), or REFUSED (nothing has changed).
        reason: why it was refused; '' where it was applied.
        by: who gave it; null where that could not be read.
        action: of a decision: approve, reject or rollback; null otherwise.
        configuration: hash of the configuration that the command gave; null of a decision.
        bundles: bundle id by asset class, of a configuration that was applied; null otherwise.
        control: where the command stands in the control topic.
        partition: the input's partition on which it acts; of a refusal, that of whoever tells it.
        offset: the input offset before which it acts; null of what does not.
        truncated: true where a text was cut to keep the event small.
    """

    command: str
    kind: Literal["decision", "configuration"] | None
    outcome: Literal["APPLIED", "REFUSED"]
    reason: str
    by: str | None
    action: str | None
    configuration: str | None
    bundles: dict[str, str] | None
    control: int
    partition: int
    offset: int | None
    truncated: bool | UnsetType = UNSET


class Event(Struct, frozen=True, kw_only=True):
    """A CloudEvent 1.0 in structured JSON; where it came from (nuwatch...) is outside its identity.

    Attributes:
        specversion: of CloudEvents.
        source: /nuwatch/<site>.
        subject: the asset.
        id: unique within the source, and a function of the data: the same event sent twice has the same id.
        time: event time.
        sequence: number of the event within its subject's series, as text of ten digits.
        partitionkey: the asset; key of the Kafka record.
        datacontenttype: of ``data``.
        nuwatchtopic: where the closing record came from.
        nuwatchpartition: its partition.
        nuwatchoffset: its offset; as text beyond 2147483647, where an Integer of CloudEvents ends.
        nuwatchreplay: true when recorded data were replayed.
        nuwatchversion: of nuwatch.
        nuwatchrebuilt: true where lost state was being rebuilt: the event may repeat, under another id, one that
            was published before; see docs/daemon.md.
    """

    specversion: Literal["1.0"]
    source: str
    subject: str
    id: str
    time: Time
    sequence: Annotated[str, Meta(pattern="^[0-9]{10}$")]
    partitionkey: str
    datacontenttype: Literal["application/json"]
    nuwatchtopic: str
    nuwatchpartition: int
    nuwatchoffset: int | str
    nuwatchreplay: bool
    nuwatchversion: str
    nuwatchrebuilt: bool | UnsetType = UNSET


class AlertEvent(Event, frozen=True, kw_only=True):
    """An alert as a CloudEvent.

    Attributes:
        type: what ``data`` is.
        dataschema: file name of this schema.
        data: the alert.
    """

    type: Literal["nuwatch.alert.v1"]
    dataschema: Literal["alert.v1.json"]
    data: Alert


class ThresholdEvent(Event, frozen=True, kw_only=True):
    """A threshold version as a CloudEvent.

    Attributes:
        type: what ``data`` is.
        dataschema: file name of this schema.
        data: the threshold version.
    """

    type: Literal["nuwatch.threshold.v1"]
    dataschema: Literal["threshold.v1.json"]
    data: Threshold


class DecisionEvent(Event, frozen=True, kw_only=True):
    """A decision that is wanted or was refused, as a CloudEvent.

    Attributes:
        type: what ``data`` is.
        dataschema: file name of this schema.
        data: the decision.
    """

    type: Literal["nuwatch.decision.v1"]
    dataschema: Literal["decision.v1.json"]
    data: Decision


class RecentringEvent(Event, frozen=True, kw_only=True):
    """Centres that have moved, as a CloudEvent.

    Attributes:
        type: what ``data`` is.
        dataschema: file name of this schema.
        data: which, and how far.
    """

    type: Literal["nuwatch.recentring.v1"]
    dataschema: Literal["recentring.v1.json"]
    data: Recentring


class AnswerEvent(Event, frozen=True, kw_only=True):
    """What became of a command, as a CloudEvent; its subject is the asset, or 'nuwatch'.

    Attributes:
        type: what ``data`` is.
        dataschema: file name of this schema.
        data: the answer.
    """

    type: Literal["nuwatch.answer.v1"]
    dataschema: Literal["answer.v1.json"]
    data: Answer
