"""The daemon's watch over itself: what its loop tells, as vitals, metrics, conditions and log lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from connectors.errors import SinkError
from connectors.records import OutRecord
from monitor.alerting.alerts import Origin
from monitor.alerting.incidents import EventName
from monitor.engine import Engine, Step
from monitor.health.alerts import health_alert
from monitor.health.board import Board
from monitor.health.conditions import Change, Condition, Conditions
from monitor.health.metrics import Metrics
from monitor.health.vitals import Phase, Vitals
from monitor.settings import Settings


class Watch:
    """Everything that the loop tells of its health. Only the loop's thread calls it.

    Args:
        settings: the whole configuration.
        vitals: what other threads read.
        log: a structlog logger.
        recompiles: reads the number of compilations since warm-up.
        origin: where the daemon reads, for alerts.
        clock: seconds; monotonic.
        wall: seconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        vitals: Vitals,
        log: Any,
        recompiles: Callable[[], int],
        origin: Origin,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings.health
        self._source = f"/nuwatch/{settings.site}"
        self._log = log
        self._read_recompiles = recompiles
        self._origin = origin
        self._clock = clock
        self._wall = wall
        self._recompiles = self._reconnections = 0
        self._board = Board(settings.health.assets)
        self._conditions = Conditions(settings.health)
        self.vitals = vitals
        self.metrics = Metrics(vitals, settings.state, origin.version)

    def started(self, engine: Engine) -> None:
        """Models are loaded, state is restored, the source is positioned."""
        self._look(engine, None)
        self.vitals.phase = Phase.WATCHING

    def stepped(self, steps: Sequence[Step]) -> None:
        """What came of one turn."""
        self.metrics.stepped(steps, self._wall())
        for step in steps:
            self._board.note(step.outcome.traces)
            for asset, windows in step.outcome.not_finite.items():
                self._log.warning("scores_not_finite", asset=asset, windows=windows)
                text = f"{windows} windows got scores that are not finite numbers; they are not judged"
                self._note(Condition.SCORES_NOT_FINITE, text, asset)

    def came_round(self, engine: Engine, paused: str | None) -> list[OutRecord]:
        """At the end of a turn; returns the alerts to publish."""
        self._look(engine, paused)
        self.metrics.came_round(
            engine.outbox, self._recompiles, self._reconnections, self._conditions.open, engine.queues
        )
        changes = self._conditions.step(self._clock(), self._wall())
        for change in changes:
            self._tell(change)
        if not self._settings.alerts:
            return []
        return [health_alert(change, source=self._source, origin=self._origin) for change in changes]

    def durable(self, engine: Engine, seconds: float) -> None:
        """A snapshot is written, ``seconds`` after it was begun."""
        vitals = self.vitals
        vitals.durable_at = self._clock()
        vitals.sink_trouble = vitals.state_trouble = None
        self.metrics.snapshot_took(seconds)
        standings = [each for pipeline in engine.pipelines.values() for each in pipeline.standing()]
        self.metrics.assets(self._board.figures(standings))
        self.metrics.in_force(engine.standing_under)

    def not_durable(self, error: Exception) -> None:
        """A snapshot waits for the sink or for the disk."""
        if isinstance(error, SinkError):
            self.vitals.sink_trouble = str(error)
            self.metrics.sink_failed()
        else:
            self.vitals.state_trouble = str(error)
            self.metrics.state_failed()

    def draining(self) -> None:
        """A stop was asked for, or the source is exhausted."""
        self.vitals.phase = Phase.DRAINING

    def stopped(self) -> None:
        """Everything is durable, or is given up."""
        self.vitals.phase = Phase.STOPPED

    def _look(self, engine: Engine, paused: str | None) -> None:
        source, vitals = engine.source, self.vitals
        if paused is not None and vitals.paused is None:
            self.metrics.paused()
        vitals.partitions, vitals.lag = len(source.held), source.lag
        vitals.source_trouble, vitals.paused = source.trouble, paused
        self._levels()
        self._counters(source.reconnections)

    def _levels(self) -> None:
        """Conditions that hold as long as they are seen."""
        vitals, most = self.vitals, self._settings.max_lag
        if vitals.lag is not None and vitals.lag > most:
            self._note(Condition.LAG, f"{vitals.lag} records wait at the source, {most} are allowed")
        for condition, trouble in (
            (Condition.SOURCE, vitals.source_trouble),
            (Condition.SINK, vitals.sink_trouble),
            (Condition.STATE_WRITE, vitals.state_trouble),
        ):
            if trouble is not None:
                self._note(condition, trouble)

    def _counters(self, reconnections: int) -> None:
        """Conditions that are seen when a count has risen."""
        if reconnections > self._reconnections:
            self._note(
                Condition.STALL, "the source stood still with records behind it, and was connected again"
            )
        self._reconnections = reconnections
        recompiles = self._read_recompiles()
        if recompiles > self._recompiles:
            self._log.warning("recompiled", count=recompiles)
            self._note(Condition.RECOMPILED, "a scorer was compiled again: a shape or a type has changed")
        self._recompiles = recompiles

    def _note(self, condition: Condition, text: str, asset: str = "") -> None:
        self._conditions.note(condition, text, self._clock(), self._wall(), asset)

    def _tell(self, change: Change) -> None:
        condition, asset = change.key
        if change.event is EventName.RAISED:
            self._log.warning("health_raised", condition=condition.value, asset=asset, detail=change.text)
        else:
            self._log.info("health_cleared", condition=condition.value, asset=asset)
