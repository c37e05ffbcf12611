"""A process that starts daemons for the fault suite, each in a fork of its own that has already imported everything.

``python tests/chaos_daemon.py`` reads one JSON order a line from stdin and answers with the pid. Imports take seconds
and hundreds of lives would pay for them; nothing of JAX runs before the fork. What an order may ask for:

- ``point`` and ``count``: SIGKILL at the count-th time that a named point of `POINTS` is passed;
- ``config``: another configuration than ``plant.yaml``;
- ``journal``: decisions act where another daemon's exported journal has them, and not where they come;
- ``log``: another file of its folder than ``daemon.log``;
- ``environment``: variables to be set.

Every life appends to files in its folder: to ``ledger`` what it folded (asset, window end, bits of the ratio), and to
``polls`` the seconds of every poll that took longer than the ones before.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import river.drift

import connectors.kafka
import monitor.cli.jobs.run as run
import monitor.training
from connectors.ports import Sink, Source
from connectors.records import Channel, OutRecord, Polled
from monitor.checkpoint import Checkpoint, Entry, Marker
from monitor.commands import command_of
from monitor.configuration import Configuration
from monitor.engine import Engine, Step
from monitor.errors import NuwatchError
from monitor.journal import ExportedJournal, read_journal
from monitor.thresholds.decisions import Decision

POINTS = (
    "emitted",  # events are handed to the sink, and may or may not be there
    "before_snapshot",  # nothing of the snapshot has happened
    "acknowledged",  # the alert topic has everything, the state file not
    "snapshot_taken",  # the state file has it, Kafka's offset does not
    "committing",  # all partitions' state is written, no offset committed
    "committed",  # both
    "journalling",  # a decision has a place in the stream, and the journal does not have it
    "journalled",  # a decision is in the journal and has not acted
)


class Hook:
    """Passed at every named point; kills its process at one of them."""

    def __init__(self, point: str | None, count: int) -> None:
        self._point = point
        self._left = count

    def __call__(self, point: str) -> None:
        assert point in POINTS
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class _Watched:
    """Passes everything on, except what a subclass does itself."""

    def __init__(self, inner: Any, hook: Hook) -> None:
        self._inner = inner
        self._hook = hook

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Sink(_Watched):
    def emit(self, records: Sequence[OutRecord]) -> None:
        self._inner.emit(records)
        if any(record.channel is Channel.ALERTS for record in records):
            self._hook("emitted")

    def flush(self, timeout: float) -> Mapping[str, int]:
        ends = self._inner.flush(timeout)
        self._hook("acknowledged")
        return ends


class _Checkpoint(_Watched):
    def commit(self, partition: int, rows: Mapping[str, bytes | None], marker: Marker) -> None:
        self._hook("before_snapshot")
        self._inner.commit(partition, rows, marker)
        self._hook("snapshot_taken")

    def journal(self, partition: int, entries: Sequence[Entry]) -> None:
        decided = any(isinstance(command_of(entry), Decision) for entry in entries)
        if decided:  # what is in force is journalled too, when a partition begins
            self._hook("journalling")
        self._inner.journal(partition, entries)
        if decided:
            self._hook("journalled")


class _Source(_Watched):
    def __init__(self, inner: Any, hook: Hook, polls: Path) -> None:
        super().__init__(inner, hook)
        self._polls = polls
        self._longest = 0.0

    def poll(self, timeout: float) -> Sequence[Polled]:
        begun = time.monotonic()
        polled = self._inner.poll(timeout)
        took = time.monotonic() - begun
        if took > self._longest:
            self._longest = took
            with self._polls.open("a") as file:
                file.write(f"{took:.3f}\n")
        return polled

    def commit(self, positions: Mapping[int, int]) -> None:
        self._hook("committing")
        self._inner.commit(positions)
        self._hook("committed")


class HookedParts(run.Parts):
    """The daemon's own parts, with the hook between them and a ledger of what was folded."""

    def __init__(self, order: Mapping[str, Any], folder: Path) -> None:
        self._hook = Hook(order.get("point"), order.get("count", 1))
        self._journal = order.get("journal")
        self._polls = folder / "polls"
        self._ledger = os.open(folder / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def source(self, configuration: Configuration) -> Source:
        return _Source(super().source(configuration), self._hook, self._polls)

    def sink(self, configuration: Configuration) -> Sink:
        return _Sink(super().sink(configuration), self._hook)

    def checkpoint(self, folder: Path, sink: Sink, timeout: float) -> Checkpoint:
        return _Checkpoint(super().checkpoint(folder, sink, timeout), self._hook)

    def engine(self, engine: Engine) -> Engine:
        engine.step = self._noted(engine.step)  # type: ignore[method-assign]
        if self._journal is not None:
            engine._commands = ExportedJournal(read_journal(Path(self._journal)))
        return engine

    def _noted(self, step: Callable[[float], Sequence[Step]]) -> Callable[[float], Sequence[Step]]:
        def stepped(timeout: float) -> Sequence[Step]:
            steps = step(timeout)
            lines = "".join(
                f"{trace.assets[asset]} {end} {ratio.hex() if known else '-'}\n"
                for one in steps
                for trace in one.outcome.traces
                for asset, end, ratio, known in zip(
                    trace.asset.tolist(),
                    trace.end.tolist(),
                    trace.ratio.tolist(),
                    trace.scored.tolist(),
                    strict=True,
                )
            )
            os.write(self._ledger, lines.encode())
            return steps

        return stepped


def live(order: Mapping[str, Any]) -> int:
    """One daemon's life, in the child; returns its exit code."""
    folder = Path(order["folder"])
    log = os.open(folder / order.get("log", "daemon.log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.environ.update(order.get("environment", {}))
    os.dup2(log, 2)
    os.chdir(folder)
    parts = HookedParts(order, folder)
    try:
        run.run_command(Path(order.get("config", "plant.yaml")), "earliest", True, parts)
    except NuwatchError as error:
        sys.stderr.write(json.dumps({"event": "error", "text": str(error)}) + "\n")
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        return 70
    return 0


def main() -> None:
    """Fork a life for every order; answer ``exit PID`` orders with how it ended."""
    assert connectors.kafka.KafkaSource
    assert monitor.training.train
    assert river.drift.ADWIN
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            _, status = os.waitpid(order["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            try:
                code = live(order)
                sys.stderr.flush()
                os._exit(code)
            finally:  # whatever happens, this process must not go on with the parent's orders
                os._exit(70)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
