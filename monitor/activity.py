"""What the daemon's loop is at, and since when: written by the loop, read by the threads that watch it."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple


class Stage(StrEnum):
    """A part of the loop that may take long."""

    POLL = "poll"
    FOLD = "fold"
    COMMIT = "commit"


class Present(NamedTuple):
    """A stage and when it began, in seconds of the clock."""

    stage: Stage
    since: float


class Activity:
    """The present stage, and when `poll` last returned.

    Every attribute is replaced as a whole, so that other threads need no lock.

    Args:
        clock: seconds; monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._present = Present(Stage.POLL, clock())
        self._polled = clock()

    def enter(self, stage: Stage) -> None:
        """The loop begins a stage."""
        now = self._clock()
        if self._present.stage is Stage.POLL:
            self._polled = now
        self._present = Present(stage, now)

    @property
    def stage(self) -> Stage:
        """The present stage."""
        return self._present.stage

    @property
    def seconds_in_stage(self) -> float:
        """How long the present stage has taken."""
        return self._clock() - self._present.since

    @property
    def seconds_since_poll(self) -> float:
        """How long ago `poll` last returned."""
        return self._clock() - self._polled
