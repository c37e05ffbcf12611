"""MONITOR_HEALTH alerts: what the daemon says of itself on the alert topic.

They come from wall time and not from the data. Their ids are random, and no promise on ids holds for them.
"""

from __future__ import annotations

from connectors.records import OutRecord
from monitor.alerting.alert_data import Alert
from monitor.alerting.alerts import MONITOR, Origin, cloudevent
from monitor.alerting.incidents import EventName, Kind, State
from monitor.health.conditions import Change, Condition
from monitor.quantities import NS_PER_S, iso_time

SEVERITY = {
    Condition.STALL: 500,
    Condition.LAG: 400,
    Condition.SOURCE: 600,
    Condition.SINK: 600,
    Condition.STATE_WRITE: 700,
    Condition.SCORES_NOT_FINITE: 600,
    Condition.RECOMPILED: 200,
}
"""Medium from 334, high from 667: state that cannot be written is what ends the daemon next."""


def health_alert(change: Change, *, source: str, origin: Origin) -> OutRecord:
    """The alert that tells of a change of a condition.

    Args:
        change: of which condition, and how.
        source: /nuwatch/<site>.
        origin: where the daemon reads.
    """
    cleared = change.event is EventName.CLEARED
    asset = change.key.asset or MONITOR
    alert = Alert(
        incident_id=change.incident,
        event=change.event,
        state=State.CLOSED if cleared else State.OPEN,
        kind=Kind.MONITOR_HEALTH,
        severity=SEVERITY[change.key.condition],
        message=f"{asset}: {'over: ' if cleared else ''}{change.text}",
        raised_at=_time(change.raised),
        updated_at=_time(change.now),
        cleared_at=_time(change.now) if cleared else None,
        window=None,
        score=None,
        contributions=(),
        drift=None,
        model=None,
        batch=None,
        subject=change.key.condition.value,
        started_at=_time(change.began),
    )
    return cloudevent(
        alert,
        source=source,
        asset=asset,
        time_ns=_ns(change.now),
        sequence=2 if cleared else 1,
        origin=origin,
    )


def _ns(seconds: float) -> int:
    """Wall time to the millisecond."""
    return round(seconds * 1000) * (NS_PER_S // 1000)


def _time(seconds: float) -> str:
    return iso_time(_ns(seconds))
