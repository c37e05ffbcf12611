"""What the daemon has counted, and the lines that it logs of it: for every snapshot, every minute, at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from connectors.records import Channel
from monitor.engine import Step
from monitor.thresholds.adaptation_events import (
    AdaptationEvent,
    AwaitingApproval,
    DetectorReset,
    DriftDetected,
    Recentred,
    Refused,
    VersionSet,
)

REPORT_S = 60.0
"""Time between two lines at level INFO that say how the work goes."""
_ADAPTATIONS = {
    DriftDetected: "drift_detected",
    VersionSet: "threshold_set",
    AwaitingApproval: "decision_wanted",
    Refused: "re_estimation_refused",
    DetectorReset: "drift_detector_reset",
    Recentred: "recentred",
}


class Ledger:
    """Counts by bounded name, in all and since the last snapshot.

    Args:
        log: a structlog logger.
        now: seconds; monotonic.
    """

    def __init__(self, log: Any, now: float) -> None:
        self._log = log
        self._total: Counter[str] = Counter()
        self._since: Counter[str] = Counter()
        self._reported = now

    def note(self, steps: Sequence[Step]) -> None:
        """What came of a turn."""
        for step in steps:
            if step.polled.lost is not None:
                lost = step.polled.lost._asdict()
                self._log.warning("records_lost", partition=step.polled.partition, **lost)
            self.count("RECORDS", step.polled.records)
            self._since.update(step.outcome.counts)
            for asset, event in step.outcome.adaptations:
                self._log.warning(_ADAPTATIONS[type(event)], asset=asset, **_told(event))
            for record in step.outcome.records:
                self.count(f"OUT_{record.channel.name}")
                if record.channel is Channel.ALERTS:
                    self._log.info("alert", id=record.id, asset=(record.key or b"").decode())

    def count(self, name: str, by: int = 1) -> None:
        """Something else has happened."""
        self._since[name] += by

    def durable(self, now: float, seconds: float, lag: int | None) -> None:
        """A snapshot is written: the one line of what it made durable, and every minute that of everything."""
        self._log.debug("snapshot", seconds=round(seconds, 4), lag=lag, **_said(self._since))
        self._settle()
        if now - self._reported >= REPORT_S:
            self._reported = now
            self._log.info("watching", lag=lag, **_said(self._total))

    def stopped(self, reason: str) -> None:
        """The last line."""
        self._settle()
        self._log.info("stopped", reason=reason, **_said(self._total))

    def _settle(self) -> None:
        self._total.update(self._since)
        self._since.clear()


def _said(counts: Counter[str]) -> dict[str, int]:
    """Without what never happened."""
    return {name: int(count) for name, count in sorted(counts.items()) if count}


def _told(event: AdaptationEvent) -> dict[str, Any]:
    """What a log line says of an event of a threshold's life."""
    if isinstance(event, AwaitingApproval):
        return {"reason": event.reason, "hint": "nuwatch decide approve|reject ASSET"}
    if isinstance(event, Refused):
        return {"reason": event.why}
    if isinstance(event, VersionSet):
        version = event.version
        return {"version": version.version, "trigger": version.trigger, "by": version.approved_by}
    if isinstance(event, Recentred):
        return {"sigma": {sensor: round(after, 3) for sensor, (_, after) in event.moved.items()}}
    return {"scorer": event.scorer}
