"""The demo's live part: send a portion, let the engine fold it, show it, wait until the next is due."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from monitor.demo.feed import Feed
from monitor.engine import Engine, Step
from monitor.plant import Simulation
from monitor.quantities import NS_PER_S

POLL_S = 0.5


class Portion(NamedTuple):
    """A stretch of the plant's time, and what the monitor made of it.

    Attributes:
        now_ns: event time at its end.
        steps: of the engine.
    """

    now_ns: int
    steps: tuple[Step, ...]


class Pace:
    """Plant time against wall time.

    Args:
        speed: plant seconds per second.
        clock: seconds; monotonic.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        speed: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._speed = speed
        self._clock = clock
        self._sleep = sleep
        self._start: tuple[int, float] | None = None

    def wait_for(self, now_ns: int) -> None:
        """Wait until a plant time is due; the first call is due at once."""
        if self._start is None:
            self._start = now_ns, self._clock()
        passed = (now_ns - self._start[0]) / NS_PER_S / self._speed
        left = self._start[1] + passed - self._clock()
        if left > 0.0:
            self._sleep(left)


def watch(engine: Engine, feed: Feed, plant: Simulation, rows: int, pace: Pace | None) -> Iterator[Portion]:
    """Run the plant past the engine, portion by portion; at the end everything is published.

    Args:
        engine: not opened yet.
        feed: whose source and sink the engine has.
        plant: what the feed sends.
        rows: of the plant, per portion: those of the feed.
        pace: None runs as fast as it goes.

    Raises:
        SourceError: the outside cannot be reached any more.
        SinkError: something published was not acknowledged.
    """
    engine.open("earliest")
    try:
        for first in range(0, len(plant.time), rows):
            now_ns = int(plant.time[min(first + rows, len(plant.time)) - 1])
            if pace is not None:
                pace.wait_for(now_ns)
            yield Portion(now_ns, tuple(_taken(engine, feed.send())))
        engine.snapshot()
    finally:
        engine.close()


def _taken(engine: Engine, sent: int) -> Iterator[Step]:
    """The engine's steps until it has had everything that was sent."""
    taken = 0
    while taken < sent:
        for step in engine.step(POLL_S):
            taken += step.polled.records
            yield step
