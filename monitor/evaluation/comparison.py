"""Planted against found: what a simulated plant's faults became in the list of incidents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

from msgspec import Struct

from monitor.evaluation.incident_log import FAULT_KINDS, Incident
from monitor.quantities import NS_PER_S, iso_time


class Planted(NamedTuple):
    """Something done to a simulated asset on purpose; both ends included, in ns since the epoch.

    Attributes:
        asset: the asset's name.
        name: of what was done, for people.
        start_ns: from when on.
        end_ns: until when.
        benign: True for a change that must raise nothing (a grade change); False for a fault.
    """

    asset: str
    name: str
    start_ns: int
    end_ns: int
    benign: bool = False


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of one planted thing.

    Attributes:
        asset: the asset's name.
        name: of what was planted.
        start: ISO 8601.
        end: ISO 8601.
        benign: whether nothing should have been raised.
        found: an incident was raised while it lasted.
        delay_s: from its start to the first such incident being raised, in seconds.
        kind: of that incident.
        subject: of that incident.
        sensor: the sensor that moved most, as that incident says.
        incident_id: of that incident.
        incidents: how many were raised while it lasted.
        open_before: an incident of the asset was already open when it began; finding it was no achievement.
    """

    asset: str
    name: str
    start: str
    end: str
    benign: bool
    found: bool
    delay_s: float | None
    kind: str
    subject: str
    sensor: str
    incident_id: str
    incidents: int
    open_before: bool


class FalseIncident(Struct, frozen=True, kw_only=True):
    """An incident that was raised while nothing bad was planted on its asset."""

    asset: str
    kind: str
    subject: str
    raised: str
    message: str
    incident_id: str


class Comparison(Struct, frozen=True, kw_only=True):
    """Planted against found.

    Attributes:
        outcomes: one per planted thing, in order of its start.
        faults: how many faults were planted.
        found: how many of them were found.
        benign: how many benign changes were planted.
        disturbed: during how many of them something was raised.
        false_incidents: raised while no fault was planted on the asset, benign changes included.
        median_delay_s: of the found faults, in seconds.
    """

    outcomes: tuple[Outcome, ...]
    faults: int
    found: int
    benign: int
    disturbed: int
    false_incidents: tuple[FalseIncident, ...]
    median_delay_s: float | None


def compare(
    planted: Iterable[Planted],
    incidents: Sequence[Incident],
    grace_ns: int = 0,
    kinds: Sequence[str] = FAULT_KINDS,
) -> Comparison:
    """Match incidents to what was planted, by asset and by when they were raised.

    Args:
        planted: faults and benign changes.
        incidents: of the same time.
        grace_ns: an incident raised this long after a fault's end is still its finding.
        kinds: the kinds of incident that count.
    """
    counted = sorted((i for i in incidents if i.kind in kinds), key=lambda i: i.raised_ns)
    ordered = sorted(planted, key=lambda p: (p.start_ns, p.asset))
    outcomes = tuple(_outcome(p, counted, grace_ns) for p in ordered)
    faults = [p for p in ordered if not p.benign]
    delays = [o.delay_s for o in outcomes if o.delay_s is not None and not o.benign]
    return Comparison(
        outcomes=outcomes,
        faults=len(faults),
        found=len(delays),
        benign=len(ordered) - len(faults),
        disturbed=sum(o.found for o in outcomes if o.benign),
        false_incidents=tuple(
            _false(i) for i in counted if not any(_belongs(i, fault, grace_ns) for fault in faults)
        ),
        median_delay_s=median(delays) if delays else None,
    )


def _belongs(incident: Incident, planted: Planted, grace_ns: int) -> bool:
    same_asset = incident.asset == planted.asset
    return same_asset and planted.start_ns <= incident.raised_ns <= planted.end_ns + grace_ns


def _outcome(planted: Planted, incidents: list[Incident], grace_ns: int) -> Outcome:
    mine = [i for i in incidents if _belongs(i, planted, grace_ns)]
    first = mine[0] if mine else None
    return Outcome(
        asset=planted.asset,
        name=planted.name,
        start=iso_time(planted.start_ns),
        end=iso_time(planted.end_ns),
        benign=planted.benign,
        found=first is not None,
        delay_s=(first.raised_ns - planted.start_ns) / NS_PER_S if first else None,
        kind=first.kind if first else "",
        subject=first.subject if first else "",
        sensor=first.contributions[0].sensor if first and first.contributions else "",
        incident_id=first.incident_id if first else "",
        incidents=len(mine),
        open_before=any(_open_at(i, planted) for i in incidents),
    )


def _open_at(incident: Incident, planted: Planted) -> bool:
    raised_before = incident.asset == planted.asset and incident.raised_ns < planted.start_ns
    return raised_before and (incident.cleared_ns is None or incident.cleared_ns > planted.start_ns)


def _false(incident: Incident) -> FalseIncident:
    return FalseIncident(
        asset=incident.asset,
        kind=incident.kind,
        subject=incident.subject,
        raised=iso_time(incident.raised_ns),
        message=incident.message,
        incident_id=incident.incident_id,
    )
