"""What the daemon knows of its own health, and what follows from it: is it live, is it ready.

The loop writes, other threads read. Every attribute is replaced as a whole, so that no lock is needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from monitor.activity import Activity
from monitor.settings import Health


class Phase(StrEnum):
    """Where the daemon is in its life."""

    STARTING = "starting"
    WATCHING = "watching"
    DRAINING = "draining"
    STOPPED = "stopped"


class NotReady(StrEnum):
    """Why the daemon is not ready (bounded: these are words of a page and labels of a metric)."""

    STARTING = "STARTING"
    DRAINING = "DRAINING"
    UNASSIGNED = "UNASSIGNED"
    LAG = "LAG"
    SOURCE = "SOURCE"
    SINK = "SINK"
    STATE = "STATE"
    PAUSED = "PAUSED"
    STUCK = "STUCK"


class Reason(NamedTuple):
    """One reason not to be ready, for programs and for people."""

    code: NotReady
    detail: str


class Vitals:
    """The daemon's own state.

    Args:
        settings: bounds.
        activity: what the loop is at.
        stopping: whether somebody asked the daemon to stop.
        clock: seconds; monotonic.

    Attributes:
        phase: where the daemon is in its life.
        partitions: how many are read.
        lag: records that wait at the source; None where that is unknown.
        source_trouble: what stands in the way of reading, or None.
        sink_trouble: why the sink does not acknowledge, or None.
        state_trouble: why the state cannot be written, or None.
        paused: why the input is paused, or None.
        durable_at: clock at the last snapshot, or at the start.
    """

    def __init__(
        self,
        settings: Health,
        activity: Activity,
        stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._stopping = stopping
        self._clock = clock
        self.activity = activity
        self.phase = Phase.STARTING
        self.partitions = 0
        self.lag: int | None = None
        self.source_trouble: str | None = None
        self.sink_trouble: str | None = None
        self.state_trouble: str | None = None
        self.paused: str | None = None
        self.durable_at = clock()

    @property
    def seconds_since_snapshot(self) -> float:
        """Age of the last snapshot, or of the daemon before its first."""
        return self._clock() - self.durable_at

    @property
    def stuck(self) -> bool:
        """True when the loop has been in one stage for longer than allowed; a start may take what it takes."""
        limited = self.phase in (Phase.WATCHING, Phase.DRAINING)
        return limited and self.activity.seconds_in_stage > self._settings.stuck.seconds

    def not_ready(self) -> list[Reason]:
        """Everything that stands in the way of being ready; empty when nothing does."""
        if self.phase is Phase.STARTING:
            return [Reason(NotReady.STARTING, "loading the models and restoring the state")]
        return [reason for reason in self._candidates() if reason.detail]

    def _candidates(self) -> list[Reason]:
        """Every possible reason once started; those that do not hold have no detail."""
        lag, most = self.lag, self._settings.max_lag
        draining = self.phase in (Phase.DRAINING, Phase.STOPPED) or self._stopping()
        stage = f"in {self.activity.stage} for {self.activity.seconds_in_stage:.0f} s"
        return [
            Reason(NotReady.DRAINING, "a stop was asked for" if draining else ""),
            Reason(NotReady.UNASSIGNED, "" if self.partitions else "no partition is read here"),
            Reason(NotReady.LAG, f"{lag} records wait, {most} are allowed" if lag and lag > most else ""),
            Reason(NotReady.SOURCE, self.source_trouble or ""),
            Reason(NotReady.SINK, self.sink_trouble or ""),
            Reason(NotReady.STATE, self.state_trouble or ""),
            Reason(NotReady.PAUSED, self.paused or ""),
            Reason(NotReady.STUCK, stage if self.stuck else ""),
        ]
