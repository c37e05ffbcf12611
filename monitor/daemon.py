"""The daemon's loop: poll, fold, publish, snapshot every few seconds, and drain on a stop.

Wall time lives here and nowhere deeper. A snapshot that the sink or the disk refuses is tried again: the outbox fills,
the input pauses, nothing is lost, and what was read is durable once they take it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from connectors.errors import Aborted, SinkError
from connectors.ports import Start
from monitor.engine import Engine, Step
from monitor.errors import ConfigurationError, StateError
from monitor.generation import Generation
from monitor.health.watch import Watch
from monitor.ledger import Ledger
from monitor.patience import Patience
from monitor.pressure import Pressure
from monitor.settings import State

POLL_S = 0.5
ACKNOWLEDGE_S = 5.0
"""Longest wait for the sink's acknowledgements at one attempt of a snapshot: the input waits as long."""


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


class Changes(Protocol):
    """Configurations that were read, checked and compiled while the loop went on."""

    def poll(self) -> Generation | None:
        """One that is ready to act, at once; the same one until it was adopted or refused."""
        ...

    def adopted(self, places: Mapping[int, int]) -> None:
        """It acts, from these positions on."""
        ...

    def refuse(self, error: Exception) -> None:
        """It does not, because of this; the old one stays."""
        ...


class Daemon:
    """Runs an engine until it is stopped or its source is exhausted.

    Args:
        engine: source, pipelines and checkpoint.
        state: intervals and bounds.
        stop: the flag of the signal handlers.
        log: a structlog logger.
        watch: is told how it goes.
        changes: configurations that are ready to act; None: none ever is.
    """

    def __init__(
        self, engine: Engine, state: State, stop: Stop, log: Any, watch: Watch, changes: Changes | None = None
    ) -> None:
        self._engine = engine
        self._interval = state.interval.seconds
        self._drain_s = state.drain.seconds
        self._pressure = Pressure(engine, state)
        self._patience = Patience(state.retry.seconds)
        self._stop = stop
        self._log = log
        self._watch = watch
        self._changes = changes
        self._ledger = Ledger(log, time.monotonic())
        self._heard: dict[str, float] = {}

    def run(self, start: Start) -> None:
        """Open, work, and leave everything durable.

        Raises:
            StateError: state cannot be read, or not be written for longer than `state.retry`.
            SourceError: the source cannot go on.
            SinkError: something published was not acknowledged for as long; what follows the last snapshot is
                repeated by the next start.
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
        self._watch.started(self._engine)
        try:
            self._work()
            self._watch.draining()
            self._drain()
        finally:
            self._engine.close()
            self._watch.stopped()
        self._ledger.stopped("asked" if self._stop.asked else "exhausted")

    def _work(self) -> None:
        """Turn after turn, until there is a reason to stop."""
        due = time.monotonic() + self._interval
        while not self._stop.asked and not self._engine.exhausted:
            steps = self._engine.step(POLL_S)
            self._hear(steps)
            self._ledger.note(steps)
            self._watch.stepped(steps)
            if time.monotonic() >= due or (self._pressure.full and not self._patience.tried):
                self._tell_silences()
                self._snapshot(self._patience.failed)
                due = time.monotonic() + self._interval
            self._take_up_change()
            self._press(waiting=not steps)
            self._engine.tell(self._watch.came_round(self._engine, self._pressure.paused))

    def _take_up_change(self) -> None:
        """A configuration that is ready acts from here on, or the old one stays."""
        if self._changes is None or self._patience.tried:
            return
        generation = self._changes.poll()
        if generation is None:
            return
        try:
            self._changes.adopted(self._engine.adopt(generation))
        except ConfigurationError as error:
            self._changes.refuse(error)
        except (SinkError, StateError) as error:  # it is taken up once they take what came before
            if not self._engine.repeatable and not isinstance(error, Aborted):
                raise
            self._log.warning("configuration_waits", error=str(error))

    def _drain(self) -> None:
        """Attempts of a last snapshot, within the time that a stop may take."""
        last = Patience(self._drain_s)
        last.failed()
        while not self._snapshot(last.failed):
            time.sleep(POLL_S)

    def _snapshot(self, gives_up: Callable[[], bool]) -> bool:
        """One attempt; False when it has to be tried again.

        Raises:
            SinkError: the sink has refused for too long.
            StateError: the disk has.
        """
        begun = time.monotonic()
        try:
            self._engine.snapshot()
        except (SinkError, StateError) as error:
            self._waits(error, first=not self._patience.tried)
            if not self._engine.repeatable or gives_up():
                raise
            return False
        if self._engine.trouble is not None:
            self._watch.not_durable(SinkError(self._engine.trouble))
            return True
        ended = time.monotonic()
        lasted = self._patience.succeeded()
        if lasted is not None:
            self._log.info("snapshot_caught_up", seconds=round(lasted, 1))
        self._ledger.durable(ended, ended - begun, self._engine.lag)
        self._watch.durable(self._engine, ended - begun)
        return True

    def _waits(self, error: SinkError | StateError, *, first: bool) -> None:
        """Tell of a snapshot that waits: the first time in the log, every time to the watch."""
        self._watch.not_durable(error)
        if first:
            name = "sink_refuses" if isinstance(error, SinkError) else "state_not_written"
            self._log.warning(name, error=str(error))

    def _press(self, *, waiting: bool) -> None:
        """Pause or resume the input; a paused input that does not wait by itself is not asked in haste."""
        if self._pressure.apply():
            paused = self._pressure.paused
            if paused is None:
                self._log.info("input_resumed")
            else:
                self._log.warning("input_paused", detail=paused)
        if self._pressure.paused is not None and waiting:
            time.sleep(POLL_S)

    def _hear(self, steps: Sequence[Step]) -> None:
        """When every asset was last heard of."""
        heard = time.monotonic()
        for step in steps:
            for batch in step.polled.batches:
                self._heard.update((batch.assets[n], heard) for n in set(batch.asset.tolist()))

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
            self._ledger.count("SILENCES_TOLD", self._engine.tell_silences(quiet))
