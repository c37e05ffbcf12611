"""The daemon's loop: poll, fold, publish, snapshot every few seconds, and drain on a stop.

Wall time lives here and nowhere deeper.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from connectors.ports import Start
from connectors.records import Channel
from monitor.engine import Engine, Step
from monitor.settings import State
from monitor.thresholds.adaptation_events import (
    AdaptationEvent,
    AwaitingApproval,
    DetectorReset,
    DriftDetected,
    Refused,
    VersionSet,
)

POLL_S = 0.5
REPORT_S = 60.0
"""Time between two lines of the log that say how the work goes."""
_ADAPTATIONS = {
    DriftDetected: "drift_detected",
    VersionSet: "threshold_set",
    AwaitingApproval: "decision_wanted",
    Refused: "re_estimation_refused",
    DetectorReset: "drift_detector_reset",
}


class Stop:
    """A flag that signal handlers set and the loop reads."""

    def __init__(self) -> None:
        self._asked = False

    def ask(self, *_: Any) -> None:
        """Ask the loop to end after the present step."""
        self._asked = True

    @property
    def asked(self) -> bool:
        """True once somebody asked."""
        return self._asked


class Daemon:
    """Runs an engine until it is stopped or its source is exhausted.

    Args:
        engine: source, pipelines and checkpoint.
        state: intervals.
        stop: the flag of the signal handlers.
        log: a structlog logger.
        recompiles: reads the number of compilations since warm-up; anything but 0 is worth a warning.
    """

    def __init__(self, engine: Engine, state: State, stop: Stop, log: Any, recompiles: Any) -> None:
        self._engine = engine
        self._interval = state.interval.seconds
        self._outbox = state.outbox
        self._stop = stop
        self._log = log
        self._recompiles = recompiles
        self._counts: Counter[str] = Counter()
        self._heard: dict[str, float] = {}
        self._reported = time.monotonic()

    def run(self, start: Start) -> None:
        """Open, work, and leave everything durable.

        Raises:
            StateError: state cannot be read or written.
            SourceError: the source cannot go on.
            SinkError: something published was not acknowledged; what follows the last snapshot is repeated.
        """
        self._engine.open(start)
        for partition in self._engine.discarded:
            self._log.warning("state_of_another_bundle_discarded", partition=partition)
        for partition, damaged in sorted(self._engine.damaged.items()):
            self._log.error(
                "state_damaged_rebuilding",
                partition=partition,
                reason=damaged.reason,
                position=damaged.position,
            )
        self._log.info("started", restored=sorted(self._engine.pipelines))
        due = time.monotonic() + self._interval
        try:
            while not self._stop.asked and not self._engine.exhausted:
                self._note(self._engine.step(POLL_S))
                if time.monotonic() >= due or self._engine.unacknowledged >= self._outbox:
                    self._tell_silences()
                    self._snapshot()
                    due = time.monotonic() + self._interval
            self._snapshot()
        finally:
            self._engine.close()
        self._log.info("stopped", reason="asked" if self._stop.asked else "exhausted", **self._said())

    def _said(self) -> dict[str, int]:
        """What has been counted so far, without what never happened."""
        return {name: int(count) for name, count in sorted(self._counts.items()) if count}

    def _note(self, steps: Sequence[Step]) -> None:
        for step in steps:
            heard = time.monotonic()
            for batch in step.polled.batches:
                self._heard.update((batch.assets[n], heard) for n in set(batch.asset.tolist()))
            if step.polled.lost is not None:
                lost = step.polled.lost._asdict()
                self._log.warning("records_lost", partition=step.polled.partition, **lost)
            self._counts["RECORDS"] += step.polled.records
            self._counts.update(step.outcome.counts)
            if step.outcome.counts["NON_FINITE_SCORE"]:
                self._log.warning("scores_not_finite", windows=step.outcome.counts["NON_FINITE_SCORE"])
            for asset, event in step.outcome.adaptations:
                self._log.warning(_ADAPTATIONS[type(event)], asset=asset, **_told(event))
            for record in step.outcome.records:
                self._counts[f"OUT_{record.channel.name}"] += 1
                if record.channel is Channel.ALERTS:
                    self._log.info("alert", id=record.id, asset=(record.key or b"").decode())

    def _tell_silences(self) -> None:
        """Assets not heard for their silence, told when nothing waits to be read."""
        if self._engine.lag:
            return
        now = time.monotonic()
        quiet: set[str] = set()
        for pipeline in self._engine.pipelines.values():
            for asset, silence in pipeline.silences.items():
                if now - self._heard.setdefault(asset, now) > silence:
                    quiet.add(asset)
        if quiet:
            self._counts["SILENCES_TOLD"] += self._engine.tell_silences(quiet)

    def _snapshot(self) -> None:
        begun = time.monotonic()
        self._engine.snapshot()
        self._log.debug("snapshot", seconds=round(time.monotonic() - begun, 4), lag=self._engine.lag)
        if begun - self._reported >= REPORT_S:
            self._reported = begun
            self._log.info("watching", lag=self._engine.lag, **self._said())
        if self._recompiles():
            self._log.warning("recompiled", count=self._recompiles())


def _told(event: AdaptationEvent) -> dict[str, Any]:
    """What a log line says of an event of a threshold's life."""
    if isinstance(event, AwaitingApproval):
        return {"reason": event.reason, "hint": "nuwatch decide approve|reject ASSET"}
    if isinstance(event, Refused):
        return {"reason": event.why}
    if isinstance(event, VersionSet):
        version = event.version
        return {"version": version.version, "trigger": version.trigger, "by": version.approved_by}
    return {"scorer": event.scorer}
