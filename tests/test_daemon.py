"""The daemon's loop when sink, disk, device or a scorer fails: what it does, and that nothing of it shows in events."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np
import pytest

from connectors.errors import SinkError
from connectors.memory import MemorySink, MemorySource
from connectors.records import Batch, Channel, OutRecord
from models.program import Scored
from monitor import devices
from monitor.activity import Activity
from monitor.alerting.alerts import Origin
from monitor.daemon import Daemon, Stop
from monitor.durable.checkpoint import SqliteCheckpoint
from monitor.engine import Engine
from monitor.errors import DeviceError, StateError
from monitor.health.vitals import Phase, Vitals
from monitor.health.watch import Watch
from monitor.quantities import Duration
from monitor.settings import Health, State
from tests.worlds import World, autoregressive, batch_of, configuration_text, world

SENSORS, LENGTH, ROWS, CUT = 3, 8, 220, 40
SICK, OTHER = "plant/0", "plant/1"
OF_THE_FOLD = (
    "alert",
    "watching",
    "threshold_set",
    "decision_wanted",
    "drift_detected",
    "re_estimation_refused",
)


@pytest.fixture(scope="module")
def trained() -> World:
    text = configuration_text(
        SENSORS, LENGTH, "{pca: {}}", "    alerting: {on_delay: 2s, off_delay: 5s, realert: 30s}"
    )
    return world(text, [batch_of({f"plant/{n}": autoregressive(n, 900, SENSORS, 0.5) for n in range(2)})])


@pytest.fixture(scope="module")
def stream() -> Batch:
    """Two assets; plant/0 steps away for good, plant/1 has a faulty sensor for a while."""
    values = {f"plant/{n}": autoregressive(50 + n, ROWS, SENSORS, 0.5) for n in range(2)}
    values[SICK][60:, 1] += 8.0
    values[OTHER][80:120, 2] = 5000.0
    return batch_of(values)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's pauses are for a real broker and a real device; here the next attempt may come at once."""
    monkeypatch.setattr("monitor.daemon.POLL_S", 0.0)
    monkeypatch.setattr(devices, "PAUSES", (0.0, 0.0, 0.0))


class Counting(MemorySource):
    """Counts pauses, and polls that brought something while paused."""

    pauses = resumes = 0

    def pause(self) -> None:
        self.pauses += 1
        super().pause()

    def resume(self) -> None:
        self.resumes += 1
        super().resume()


class Refusing(MemorySink):
    """Refuses a number of flushes from one of them on."""

    def __init__(self, first: int, count: int) -> None:
        super().__init__()
        self.flushes, self._first, self._count = 0, first, count
        self.largest = 0

    def flush(self, timeout: float) -> Mapping[str, int]:
        self.flushes += 1
        self.largest = max(self.largest, len(self._emitted))
        if self._first <= self.flushes < self._first + self._count:
            raise SinkError("topic 'alerts': TopicAuthorizationFailedError")
        return super().flush(timeout)


class Log:
    """Remembers lines of level INFO and above."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def debug(self, event: str, **fields: Any) -> None: ...

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    warning = error = info

    def events(self) -> list[str]:
        return [event for event, _ in self.lines if event not in OF_THE_FOLD]


class Run:
    """One life of a daemon over a stream, with everything that can be looked at afterwards."""

    def __init__(
        self,
        trained: World,
        stream: Batch,
        folder: Path,
        sink: MemorySink,
        *,
        state: dict[str, Any] | None = None,
        health: dict[str, Any] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        durations = {"interval": Duration.parse("1ns"), "drain": Duration.parse("5s")}
        settings = msgspec.structs.replace(
            trained.settings,
            state=State(**(durations | (state or {}))),
            health=Health(**({"delay": Duration.parse("1ns")} | (health or {}))),
        )
        self.sink, self.log, self.stop = sink, Log(), Stop()
        self.source = Counting([stream], cuts=(CUT,))
        activity = Activity()
        self.vitals = Vitals(settings.health, activity, lambda: self.stop.asked)
        self.watch = Watch(
            settings, self.vitals, self.log, lambda: 0, Origin("t", 0, 0, False, "0"), wall=wall
        )
        self.checkpoint = SqliteCheckpoint(folder, sink)
        self.engine = Engine(
            self.source,
            self.checkpoint,
            trained.pipeline,
            {"unit": trained.model.bundle_id},
            activity=activity,
        )
        self.daemon = Daemon(self.engine, settings.state, self.stop, self.log, self.watch)

    def go(self) -> Run:
        self.daemon.run("earliest")
        return self

    @property
    def contents(self) -> list[OutRecord]:
        return sorted(record for record in self.sink.records if not is_health(record))

    @property
    def health(self) -> list[tuple[str, str, str]]:
        """Subject, event and asset of what the daemon said of itself."""
        events = [
            msgspec.json.decode(record.value or b"") for record in self.sink.records if is_health(record)
        ]
        return [(event["data"]["subject"], event["data"]["event"], event["subject"]) for event in events]


def is_health(record: OutRecord) -> bool:
    return record.channel is Channel.ALERTS and b'"kind":"MONITOR_HEALTH"' in (record.value or b"")


@pytest.fixture(scope="module")
def expected(trained: World, stream: Batch, tmp_path_factory: pytest.TempPathFactory) -> list[OutRecord]:
    calm = Run(trained, stream, tmp_path_factory.mktemp("calm"), MemorySink()).go()
    assert calm.health == []
    assert calm.log.events() == ["started", "stopped"]
    assert len(calm.contents) > 4
    return calm.contents


# -- the sink and the disk ------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [1, 3], ids=["from the first flush on", "later"])
def test_a_sink_that_refuses_fills_the_outbox_pauses_the_input_and_loses_nothing(
    trained: World, stream: Batch, expected: list[OutRecord], tmp_path: Path, first: int
) -> None:
    sink = Refusing(first, count=40)
    run = Run(trained, stream, tmp_path, sink, state={"outbox": 2}).go()
    assert run.contents == expected
    assert run.source.pauses == run.source.resumes == 1
    assert sink.largest <= 2 + CUT, "the outbox, and what one poll may bring on top"
    assert run.source.committed == {0: 2 * ROWS}
    assert [event for event in run.log.events() if event != "health_raised"] == [
        "started",
        "sink_refuses",
        "input_paused",
        "snapshot_caught_up",
        "input_resumed",
        "stopped",
    ]
    assert run.health == [("sink", "RAISED", "nuwatch")]


def test_an_outbox_is_full_by_its_bytes_too(
    trained: World, stream: Batch, expected: list[OutRecord], tmp_path: Path
) -> None:
    run = Run(trained, stream, tmp_path, Refusing(first=3, count=40), state={"outbox_bytes": 1000}).go()
    assert run.contents == expected
    assert run.source.pauses == run.source.resumes == 1


def test_a_sink_that_refuses_for_too_long_ends_the_daemon_and_a_restart_publishes_everything(
    trained: World, stream: Batch, expected: list[OutRecord], tmp_path: Path
) -> None:
    run = Run(
        trained, stream, tmp_path, Refusing(first=4, count=10**6), state={"retry": Duration.parse("50ms")}
    )
    with pytest.raises(SinkError, match="TopicAuthorizationFailed"):
        run.go()
    assert run.vitals.phase is Phase.STOPPED
    again = Run(trained, stream, tmp_path, MemorySink())
    again.sink.records = list(run.sink.records)
    assert again.go().contents == expected


def test_a_state_that_cannot_be_written_for_a_while_is_written_later(
    trained: World,
    stream: Batch,
    expected: list[OutRecord],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(trained, stream, tmp_path, MemorySink())
    commit, attempts = run.checkpoint.commit, [0]

    def failing(*arguments: Any) -> None:
        attempts[0] += 1
        if 3 <= attempts[0] < 8:
            raise StateError("no space left on device")
        commit(*arguments)

    monkeypatch.setattr(run.checkpoint, "commit", failing)
    run.go()
    assert run.contents == expected
    assert run.source.committed == {0: 2 * ROWS}
    assert ("state_not_written", {"error": "no space left on device"}) in run.log.lines
    assert run.health == [("state_write", "RAISED", "nuwatch")]


def test_a_stop_while_the_sink_refuses_waits_for_it_only_as_long_as_a_stop_may_take(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    sink = Refusing(first=4, count=10**6)
    run = Run(trained, stream, tmp_path, sink, state={"outbox": 2, "drain": Duration.parse("100ms")})
    paused = run.source.pause

    def pause_and_stop() -> None:
        paused()
        run.stop.ask()

    run.source.pause = pause_and_stop
    with pytest.raises(SinkError):
        run.go()
    assert sink.flushes > 5, "it tried more than once"
    assert run.source.committed[0] < 2 * ROWS


# -- the device and the scorers -------------------------------------------------------------------------------


class Failing:
    """A compiled program whose calls fail where ``broken`` says so of the call's number."""

    def __init__(self, program: Any, broken: Callable[[int], bool]) -> None:
        self._program, self._broken = program, broken
        self.calls = 0

    def __call__(self, values: np.ndarray, mask: np.ndarray) -> Scored:
        self.calls += 1
        if self._broken(self.calls):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4096 bytes.")
        return self._program(values, mask)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._program, name)


def test_a_device_that_fails_now_and_then_is_asked_again_and_changes_nothing(
    trained: World,
    stream: Batch,
    expected: list[OutRecord],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trained.model, "program", Failing(trained.model.program, lambda call: call % 4 != 0))
    assert Run(trained, stream, tmp_path, MemorySink()).go().contents == expected


def test_a_device_that_is_gone_ends_the_daemon_without_a_snapshot_and_a_restart_yields_the_same_ids(
    trained: World,
    stream: Batch,
    expected: list[OutRecord],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(trained, stream, tmp_path, MemorySink())
    with monkeypatch.context() as broken:
        broken.setattr(trained.model, "program", Failing(trained.model.program, lambda call: call > 4))
        with pytest.raises(DeviceError, match=r"failed 4 times: .*RESOURCE_EXHAUSTED.*hint: ") as caught:
            run.go()
    assert caught.value.exit_code == 70
    assert run.source.committed == {0: 4 * CUT}, "the poll at which it failed is not covered"
    again = Run(trained, stream, tmp_path, MemorySink())
    again.sink.records = list(run.sink.records)
    assert again.go().contents == expected


class NotFinite:
    """A program that gives NaN for the windows of rows that are as far away as only one asset's are."""

    def __init__(self, program: Any) -> None:
        self._program = program

    def __call__(self, values: np.ndarray, mask: np.ndarray) -> Scored:
        scored = self._program(values, mask)
        far = (np.abs(values) > 500).any(axis=(1, 2))
        scored.score[far] = np.nan
        return scored

    def __getattr__(self, name: str) -> Any:
        return getattr(self._program, name)


def test_an_asset_whose_scores_are_not_finite_is_reported_and_the_others_go_on(
    trained: World,
    stream: Batch,
    expected: list[OutRecord],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = stream.values.copy()
    of_other = np.flatnonzero(stream.asset == 1)
    values[of_other[100:130], 0] = 900.0
    monkeypatch.setattr(trained.model, "program", NotFinite(trained.model.program))
    health = {"quiet": Duration.parse("1ns"), "repeat": Duration.parse("1h")}
    run = Run(trained, stream._replace(values=values), tmp_path, MemorySink(), health=health).go()
    assert run.health == [
        ("scores_not_finite", "RAISED", OTHER),
        ("scores_not_finite", "CLEARED", OTHER),
    ]
    assert run.log.events().count("scores_not_finite") >= 1

    def of_sick(records: list[OutRecord]) -> list[OutRecord]:
        return [record for record in records if record.key == SICK.encode()]

    assert len(of_sick(expected)) > 2
    assert of_sick(run.contents) == of_sick(expected)
    alerts = [msgspec.json.decode(r.value or b"") for r in run.contents if r.channel is Channel.ALERTS]
    judged = [alert["data"] for alert in alerts if alert["subject"] == OTHER]
    ratios = [data["worst_ratio"] for data in judged if "worst_ratio" in data]
    assert max(ratios) < 100, "a reading 500 sigma away was not judged"


# -- clocks, metrics, stops -----------------------------------------------------------------------------------


def test_a_wall_clock_that_is_stepped_by_an_hour_changes_no_event(
    trained: World,
    stream: Batch,
    expected: list[OutRecord],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, calls = time.time, [0]

    def stepped() -> float:
        calls[0] += 1
        return real() + (3600, 0, -3600, 7200)[calls[0] % 4]

    monkeypatch.setattr(time, "time", stepped)
    monkeypatch.setattr(time, "time_ns", lambda: int(stepped() * 1e9))
    run = Run(trained, stream, tmp_path, MemorySink(), wall=stepped).go()
    assert calls[0] > 10
    assert run.contents == expected


def test_the_metrics_tell_what_has_been_done(trained: World, stream: Batch, tmp_path: Path) -> None:
    from tests.test_health import value

    run = Run(trained, stream, tmp_path, Refusing(first=3, count=40), state={"outbox": 2}).go()
    metrics = run.watch.metrics
    assert value(metrics, "nuwatch_records_total") == 2 * ROWS
    assert value(metrics, "nuwatch_input_pauses_total") == 1
    assert value(metrics, "nuwatch_sink_errors_total") == 40
    assert value(metrics, "nuwatch_state_write_errors_total") == 0
    assert value(metrics, "nuwatch_outbox_events") == 0
    assert value(metrics, "nuwatch_assets", asset_class="unit") == 2
    assert value(metrics, "nuwatch_incidents_open", kind="ANOMALY") == 1
    assert value(metrics, "nuwatch_asset_ratio", asset=SICK, scorer="combined") > 1
    assert value(metrics, "nuwatch_asset_gate", asset=SICK, gate="STANDS") == 1
    assert value(metrics, "nuwatch_published_total", channel="alerts") == len(
        [record for record in run.contents if record.channel is Channel.ALERTS]
    )


def test_health_alerts_can_be_turned_off_and_the_log_still_tells(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    run = Run(trained, stream, tmp_path, Refusing(3, 40), health={"alerts": False}).go()
    assert run.health == []
    assert "health_raised" in run.log.events()


def test_an_aborted_transaction_is_told_and_not_taken_for_durable(
    trained: World, stream: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several daemons: the engine has forgotten, and folds again; here it only says so."""
    from tests.test_health import value

    run = Run(trained, stream, tmp_path, MemorySink())
    snapshot, calls = run.engine.snapshot, [0]

    def aborting() -> None:
        calls[0] += 1
        run.engine.trouble = "a transaction was aborted" if 3 <= calls[0] < 6 else None
        if run.engine.trouble is None:
            snapshot()

    monkeypatch.setattr(run.engine, "snapshot", aborting)
    run.go()
    assert value(run.watch.metrics, "nuwatch_sink_errors_total") == 3
    assert value(run.watch.metrics, "nuwatch_snapshot_seconds_count") == calls[0] - 3
    assert run.health == [("sink", "RAISED", "nuwatch")]
