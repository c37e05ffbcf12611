"""The daemon's watch over itself: pages, metrics, conditions, alerts and watchdog, with clocks held by hand."""

from __future__ import annotations

import ast
import json
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from connectors.records import Polled, Queue
from monitor.activity import Activity, Stage
from monitor.alerting.alerts import Origin, parse_alert
from monitor.alerting.incidents import EventName, Kind
from monitor.engine import Outbox, Step
from monitor.errors import ConfigurationError
from monitor.generation import Change, Told
from monitor.health.alerts import health_alert
from monitor.health.board import Board
from monitor.health.conditions import MOST, Condition, Conditions, Key
from monitor.health.metrics import Metrics
from monitor.health.server import Pages, PageServer
from monitor.health.vitals import NotReady, Phase, Vitals
from monitor.health.watchdog import Watchdog
from monitor.log_codes import CODES
from monitor.pipeline import empty_outcome
from monitor.quantities import Duration
from monitor.settings import Health, Http, State
from monitor.standing import Standing
from monitor.thresholds.adaptation import State as DriftState
from monitor.thresholds.tracking import Gate
from tests.traces import trace_of

ROOT = Path(__file__).resolve().parent.parent
ORIGIN = Origin("sensors", 0, 0, False, "1.2.3")


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vitals(clock: Clock) -> Vitals:
    made = Vitals(Health(max_lag=100, stuck=Duration.parse("60s")), Activity(clock), clock=clock)
    made.phase, made.partitions, made.lag = Phase.WATCHING, 4, 0
    return made


def codes(vitals: Vitals) -> set[NotReady]:
    return {reason.code for reason in vitals.not_ready()}


# -- live and ready -------------------------------------------------------------------------------------------


def test_a_daemon_that_reads_without_troubles_is_ready(vitals: Vitals) -> None:
    assert vitals.not_ready() == []


@pytest.mark.parametrize(
    ("attribute", "value", "code"),
    [
        ("phase", Phase.DRAINING, NotReady.DRAINING),
        ("phase", Phase.STOPPED, NotReady.DRAINING),
        ("partitions", 0, NotReady.UNASSIGNED),
        ("lag", 101, NotReady.LAG),
        ("source_trouble", "no broker", NotReady.SOURCE),
        ("sink_trouble", "no topic", NotReady.SINK),
        ("state_trouble", "disk full", NotReady.STATE),
        ("paused", "full", NotReady.PAUSED),
    ],
)
def test_each_trouble_is_a_reason_of_its_own_not_to_be_ready(
    vitals: Vitals, attribute: str, value: Any, code: NotReady
) -> None:
    setattr(vitals, attribute, value)
    assert codes(vitals) == {code}


def test_a_lag_at_its_bound_or_unknown_is_no_reason(vitals: Vitals) -> None:
    vitals.lag = 100
    assert vitals.not_ready() == []
    vitals.lag = None
    assert vitals.not_ready() == []


def test_a_stop_that_was_asked_for_is_a_reason_before_the_loop_has_seen_it(clock: Clock) -> None:
    asked = [False]
    vitals = Vitals(Health(), Activity(clock), lambda: asked[0], clock)
    vitals.phase, vitals.partitions = Phase.WATCHING, 1
    assert vitals.not_ready() == []
    asked[0] = True
    assert codes(vitals) == {NotReady.DRAINING}


def test_a_loop_is_stuck_after_its_time_in_one_stage_and_a_start_is_never(
    vitals: Vitals, clock: Clock
) -> None:
    clock.now += 60.0
    assert not vitals.stuck
    clock.now += 0.1
    assert vitals.stuck
    assert codes(vitals) == {NotReady.STUCK}
    vitals.phase = Phase.STARTING
    assert not vitals.stuck
    vitals.phase = Phase.WATCHING
    vitals.activity.enter(Stage.FOLD)
    assert not vitals.stuck


def test_the_age_of_the_last_poll_runs_from_its_return(clock: Clock) -> None:
    activity = Activity(clock)
    activity.enter(Stage.POLL)
    clock.now += 3.0
    activity.enter(Stage.FOLD)
    clock.now += 4.0
    activity.enter(Stage.COMMIT)
    clock.now += 5.0
    assert (activity.seconds_since_poll, activity.seconds_in_stage) == (9.0, 5.0)


# -- pages ----------------------------------------------------------------------------------------------------


def metrics_of(vitals: Vitals) -> Metrics:
    return Metrics(vitals, State(), "1.2.3")


@pytest.fixture
def server(vitals: Vitals) -> Iterator[PageServer]:
    made = PageServer(Http(port=0), Pages(vitals, metrics_of(vitals).registry))
    yield made
    made.close()


def fetch(server: PageServer, path: str, method: str = "GET") -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://{server.address}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def test_metrics_say_what_every_partition_stands_under_also_after_a_change(vitals: Vitals) -> None:
    metrics = metrics_of(vitals)
    told = Told("control:t:7", "t", 7, "J. Roe", "2026-07-01T09:00:00Z")
    old, new = Change("aaa", "", {"unit": "b1"}), Change("bbb", "", {"unit": "b1"}, told)

    def partitions(configuration: str, command: str = "") -> float | None:
        labels = {"configuration": configuration, "command": command}
        return metrics.registry.get_sample_value("nuwatch_configuration_partitions", labels)

    metrics.in_force({0: old, 1: new, 2: new})
    assert (partitions("aaa"), partitions("bbb", "control:t:7")) == (1.0, 2.0)
    metrics.in_force({0: new, 1: new, 2: new})
    assert (partitions("aaa"), partitions("bbb", "control:t:7")) == (None, 3.0)
    labels = {"asset_class": "unit", "bundle": "b1"}
    assert metrics.registry.get_sample_value("nuwatch_bundle_partitions", labels) == 3.0


def test_the_pages_answer_over_http_and_nothing_can_be_written(server: PageServer, vitals: Vitals) -> None:
    assert server.address.startswith("127.0.0.1:")
    assert fetch(server, "/readyz") == (200, b'{"ready": true, "reasons": []}\n')
    status, body = fetch(server, "/livez?verbose=1")
    assert (status, json.loads(body)["live"]) == (200, True)
    assert b"nuwatch_ready 1.0" in fetch(server, "/metrics")[1]
    assert fetch(server, "/readyz", "HEAD") == (200, b"")
    assert fetch(server, "/state")[0] == 404
    assert fetch(server, "/readyz", "POST")[0] == 501
    vitals.lag = 250
    status, body = fetch(server, "/readyz")
    told = [{"code": "LAG", "detail": "250 records wait, 100 are allowed"}]
    assert (status, json.loads(body)) == (503, {"ready": False, "reasons": told})


def test_a_loop_that_does_not_come_round_is_not_live(server: PageServer, clock: Clock) -> None:
    clock.now += 61.0
    status, body = fetch(server, "/livez")
    assert (status, json.loads(body)["seconds_in_stage"]) == (503, 61.0)


def test_readers_that_say_nothing_do_not_keep_others_from_the_pages(server: PageServer) -> None:
    host, _, port = server.address.rpartition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(8)]
    try:
        assert fetch(server, "/livez")[0] == 200
    finally:
        for one in silent:
            one.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "plant-gateway", "::"])
def test_an_address_that_others_can_reach_is_refused_unless_it_was_asked_for(
    vitals: Vitals, host: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"health\.http\.host: got .*hint: .*allow_remote: true"):
        PageServer(Http(host=host, port=0), Pages(vitals, metrics_of(vitals).registry))


def test_all_addresses_are_served_when_that_was_asked_for(vitals: Vitals) -> None:
    server = PageServer(
        Http(host="0.0.0.0", port=0, allow_remote=True), Pages(vitals, metrics_of(vitals).registry)
    )
    try:
        assert server.address.startswith("0.0.0.0:")
    finally:
        server.close()


# -- metrics --------------------------------------------------------------------------------------------------


def read(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by its name and labels, through the client's own parser."""
    from prometheus_client import generate_latest

    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return read(metrics)[name, tuple(sorted(labels.items()))]


def step(records: int = 5, newest_ms: int = 0, **counts: int) -> Step:
    outcome = empty_outcome()
    outcome.counts.update(counts)
    return Step(Polled(0, 9, (), records=records, newest_ms=newest_ms), outcome)


def test_the_fold_s_counts_arrive_under_their_own_names(vitals: Vitals) -> None:
    metrics = metrics_of(vitals)
    metrics.stepped([step(WINDOWS=7, OVER_LIMIT=2, SLOTS=9, LATE=3, DUPLICATE=4, GATE_BUSY=6)], 0.0)
    metrics.stepped([step(records=2, WINDOWS=1)], 0.0)
    assert value(metrics, "nuwatch_records_total") == 7
    assert value(metrics, "nuwatch_windows_total") == 8
    assert value(metrics, "nuwatch_windows_over_limit_total") == 2
    assert value(metrics, "nuwatch_slots_total") == 9
    assert value(metrics, "nuwatch_rejected_total", reason="LATE") == 3
    assert value(metrics, "nuwatch_rejected_total", reason="MALFORMED") == 0
    assert value(metrics, "nuwatch_counted_total", what="DUPLICATE") == 4
    assert value(metrics, "nuwatch_gate_windows_total", gate="BUSY") == 6
    assert value(metrics, "nuwatch_gate_windows_total", gate="OPEN") == 0
    assert ("nuwatch_counted_total", (("what", "WINDOWS"),)) not in read(metrics)


def test_the_latency_of_an_alert_runs_from_the_broker_s_time_of_the_newest_record(vitals: Vitals) -> None:
    from tests.kafka_reader import alert

    metrics = metrics_of(vitals)
    late = step(newest_ms=1_760_000_000_000)
    late.outcome.records.extend([alert(1), alert(2)])
    metrics.stepped([late, step(newest_ms=1)], 1_760_000_000.75)
    assert value(metrics, "nuwatch_append_to_alert_seconds_count") == 2
    assert value(metrics, "nuwatch_append_to_alert_seconds_sum") == pytest.approx(1.5)
    assert value(metrics, "nuwatch_append_to_alert_seconds_bucket", le="0.5") == 0
    assert value(metrics, "nuwatch_append_to_alert_seconds_bucket", le="1.0") == 2
    assert value(metrics, "nuwatch_published_total", channel="alerts") == 2


def standing(count: int) -> Standing:
    gates = np.full(count, Gate.OPEN, np.uint8)
    gates[0] = Gate.STANDS
    drift = np.zeros(count, np.uint8)
    drift[0] = DriftState.AWAITING
    names = tuple(f"plant/{n:03d}" for n in range(count))
    limit = np.linspace(1.0, 2.0, count)
    return Standing(
        "unit",
        names,
        np.arange(count, dtype=np.int32),
        limit,
        gates,
        drift,
        Counter({Kind.ANOMALY: 2}),
        640,
        6400,
    )


def test_the_assets_stand_in_bounded_labels(vitals: Vitals) -> None:
    """150 assets, of which 100 have figures of their own."""
    metrics, board = metrics_of(vitals), Board(100)
    board.note([trace_of({f"plant/{n:03d}": [9.0, 0.5 + n / 100, np.nan] for n in range(150)})])
    metrics.assets(board.figures([standing(150)]))
    samples = read(metrics)
    assert samples["nuwatch_gate_assets", (("gate", "STANDS"),)] == 1
    assert samples["nuwatch_gate_assets", (("gate", "OPEN"),)] == 149
    assert samples["nuwatch_drift_assets", (("state", "AWAITING"),)] == 1
    assert samples["nuwatch_incidents_open", (("kind", "ANOMALY"),)] == 2
    assert samples["nuwatch_incidents_open", (("kind", "DRIFT"),)] == 0
    assert samples["nuwatch_queue_bytes", (("queue", "open_slots"),)] == 640
    assert samples["nuwatch_queue_limit_bytes", (("queue", "open_slots"),)] == 6400
    largest = samples["nuwatch_ratio_largest", (("asset_class", "reactor"), ("scorer", "combined"))]
    assert largest == pytest.approx(1.99)
    own = {labels[0][1] for name, labels in samples if name == "nuwatch_asset_limit"}
    assert own == {f"plant/{n:03d}" for n in range(100)}
    assert samples["nuwatch_asset_gate", (("asset", "plant/000"), ("gate", "STANDS"))] == 1
    assert ("nuwatch_asset_gate", (("asset", "plant/000"), ("gate", "OPEN"))) not in samples
    assert samples["nuwatch_asset_threshold_version", (("asset", "plant/007"),)] == 7
    ratio = samples["nuwatch_asset_ratio", (("asset", "plant/007"), ("scorer", "combined"))]
    assert ratio == pytest.approx(0.57)


def test_the_outbox_and_its_bounds_are_there_and_so_is_the_process(vitals: Vitals) -> None:
    metrics = metrics_of(vitals)
    vitals.lag, vitals.paused = 12, "full"
    metrics.came_round(
        Outbox(3, 4096),
        1,
        2,
        [Key(Condition.SINK, ""), Key(Condition.SCORES_NOT_FINITE, "a")],
        (Queue("fetched", 5, 50), Queue("commands", 6, 60)),
    )
    for queue, size in (("fetched", 5), ("commands", 6)):
        assert value(metrics, "nuwatch_queue_bytes", queue=queue) == size
        assert value(metrics, "nuwatch_queue_limit_bytes", queue=queue) == 10 * size
    assert value(metrics, "nuwatch_outbox_events") == 3
    assert value(metrics, "nuwatch_outbox_limit_events") == 10_000
    assert value(metrics, "nuwatch_queue_bytes", queue="outbox") == 4096
    assert value(metrics, "nuwatch_queue_limit_bytes", queue="outbox") == 64 * 2**20
    assert value(metrics, "nuwatch_recompiles") == 1
    assert value(metrics, "nuwatch_source_reconnections") == 2
    assert value(metrics, "nuwatch_health_open", condition="sink") == 1
    assert value(metrics, "nuwatch_health_open", condition="lag") == 0
    assert value(metrics, "nuwatch_lag_records") == 12
    assert value(metrics, "nuwatch_ready") == 0
    assert value(metrics, "nuwatch_not_ready", reason="PAUSED") == 1
    assert value(metrics, "process_resident_memory_bytes") > 2**20
    assert value(metrics, "process_open_fds") > 2
    assert value(metrics, "nuwatch_info", version="1.2.3") == 1


# -- conditions -----------------------------------------------------------------------------------------------

HEALTH = Health(delay=Duration.parse("30s"), quiet=Duration.parse("60s"), repeat=Duration.parse("10min"))
WALL = 1_760_000_000.0


def life(seen: dict[Condition, list[tuple[float, float]]], until: float) -> list[tuple[str, str, float]]:
    """A second by second life; each condition is seen within its intervals."""
    conditions = Conditions(HEALTH)
    told: list[tuple[str, str, float]] = []
    for second in range(int(until) + 1):
        for condition, intervals in seen.items():
            if any(low <= second <= high for low, high in intervals):
                conditions.note(condition, "seen", float(second), WALL + second)
        changes = conditions.step(float(second), WALL + second)
        told += [(change.key.condition.value, change.event.value, second) for change in changes]
    return told


def test_a_lasting_condition_is_raised_after_its_delay_and_cleared_when_it_has_been_quiet() -> None:
    assert life({Condition.LAG: [(5, 100)]}, 200) == [("lag", "RAISED", 35), ("lag", "CLEARED", 160)]


def test_a_lasting_condition_that_is_short_is_never_told() -> None:
    assert life({Condition.SINK: [(5, 34)]}, 300) == []


def test_what_happens_once_is_told_at_once() -> None:
    told = life({Condition.STATE_WRITE: [(5, 5)]}, 100)
    assert told == [("state_write", "RAISED", 5), ("state_write", "CLEARED", 65)]


def test_a_condition_that_comes_and_goes_is_raised_once_in_the_time_between() -> None:
    flapping = [(start, start) for start in range(0, 1300, 100)]
    told = [each for each in life({Condition.STALL: flapping}, 1300) if each[1] == "RAISED"]
    assert told == [("stall", "RAISED", 0), ("stall", "RAISED", 600), ("stall", "RAISED", 1200)]


def test_conditions_of_assets_are_apart_and_bounded() -> None:
    conditions = Conditions(HEALTH)
    for number in range(3 * MOST):
        conditions.note(Condition.SCORES_NOT_FINITE, "NaN", 0.0, WALL, f"plant/{number}")
    changes = conditions.step(0.0, WALL)
    assert len(changes) == MOST + 1
    assert len({change.incident for change in changes}) == MOST + 1
    assert [change.text for change in changes if not change.key.asset] == [
        "NaN; more assets than are told one by one"
    ]
    assert conditions.open == [change.key for change in changes]


def test_a_health_alert_reads_like_any_alert_and_its_two_events_share_an_id() -> None:
    conditions = Conditions(HEALTH)
    conditions.note(Condition.STATE_WRITE, "disk full", 0.0, WALL)
    (raised,) = conditions.step(0.0, WALL + 0.25)
    (cleared,) = conditions.step(60.0, WALL + 60)
    first, last = (
        parse_alert(health_alert(change, source="/nuwatch/plant-a", origin=ORIGIN).value or b"")
        for change in (raised, cleared)
    )
    assert (first.data.kind, first.data.subject, first.data.state) == (
        Kind.MONITOR_HEALTH,
        "state_write",
        "OPEN",
    )
    assert (first.subject, first.time) == ("nuwatch", "2025-10-09T08:53:20.250Z")
    assert first.data.message == "nuwatch: disk full"
    assert (last.data.event, last.data.state, last.data.cleared_at) == (
        EventName.CLEARED,
        "CLOSED",
        "2025-10-09T08:54:20Z",
    )
    assert first.id == f"{raised.incident}:0001"
    assert last.id == f"{raised.incident}:0002"
    assert last.data.raised_at == first.data.raised_at


# -- watchdog -------------------------------------------------------------------------------------------------


class Log:
    """Remembers what was logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, _level: str) -> Any:
        return lambda event, **fields: self.lines.append((event, fields))


@pytest.mark.parametrize(("stage", "code"), [(Stage.POLL, 69), (Stage.FOLD, 70), (Stage.COMMIT, 74)])
def test_a_loop_that_does_not_come_round_ends_the_process_with_the_code_of_its_stage(
    stage: Stage, code: int, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    vitals = Vitals(Health(stuck=Duration.parse("100ms")), Activity(clock), clock=clock)
    vitals.phase = Phase.WATCHING
    vitals.activity.enter(stage)
    ended, codes_seen, log = threading.Event(), list[int](), Log()

    def end(exit_code: int) -> None:
        codes_seen.append(exit_code)
        ended.set()

    dog = Watchdog(vitals, 0.1, log, end)
    dog.start()
    assert not ended.wait(0.1), "it came round"
    clock.now += 0.2
    assert ended.wait(10)
    assert codes_seen == [code]
    assert [event for event, _ in log.lines] == ["stuck"]
    assert "test_health.py" in capfd.readouterr().err, "where the threads stand"


HANGS = """
import time
import structlog
from monitor.activity import Activity, Stage
from monitor.health.vitals import Phase, Vitals
from monitor.health.watchdog import Watchdog
from monitor.quantities import Duration
from monitor.settings import Health
vitals = Vitals(Health(stuck=Duration.parse("200ms")), Activity())
Watchdog(vitals, 0.2, structlog.get_logger()).start()
vitals.phase = Phase.WATCHING
vitals.activity.enter(Stage.POLL)
time.sleep(60)  # a poll that never returns
"""


def test_a_process_whose_poll_never_returns_ends_by_itself_with_a_message() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 69
    assert "stuck" in done.stdout + done.stderr
    assert "Current thread" in done.stderr or "Thread 0x" in done.stderr


# -- the vocabulary of the log --------------------------------------------------------------------------------


def logged_events() -> set[str]:
    """First arguments of structured log calls in the daemon's code, and the codes of the library's kind."""
    found: set[str] = set()
    sources = [*(ROOT / "monitor").rglob("*.py"), *(ROOT / "connectors").rglob("*.py")]
    for path in sources:
        if "demo" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                found |= {
                    v.value
                    for k, v in pairs
                    if isinstance(k, ast.Constant) and k.value == "code" and isinstance(v, ast.Constant)
                }
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner = ast.unparse(node.func.value)
            levels = ("debug", "info", "warning", "error", "critical", "exception")
            if owner in ("log", "self._log") and node.func.attr in levels:
                found |= names_in(node.args[0], path)
    return found


def names_in(argument: ast.expr, path: Path) -> set[str]:
    if isinstance(argument, ast.Constant):
        return {argument.value}
    if isinstance(argument, ast.Subscript):  # a table of names in the same module
        return names_of_table(ast.unparse(argument.value), path)
    if isinstance(argument, ast.Name):
        return {
            constant.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == argument.id
            for constant in ast.walk(node.value)
            if isinstance(constant, ast.Constant)
        }
    raise AssertionError(f"{path}: a log event that is no bounded name: {ast.unparse(argument)}")


def names_of_table(name: str, path: Path) -> set[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            assert isinstance(node.value, ast.Dict)
            return {value.value for value in node.value.values if isinstance(value, ast.Constant)}
    raise AssertionError(f"{path}: no table {name}")


def test_every_log_event_is_of_the_vocabulary_and_every_word_of_it_is_used() -> None:
    assert logged_events() | {"library"} == set(CODES)


def test_the_documentation_shows_the_vocabulary_and_every_metric_reason_and_condition(vitals: Vitals) -> None:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    assert [event for event, meaning in CODES.items() if f"| `{event}` | {meaning} |" not in page] == []
    assert [reason for reason in NotReady if f"| `{reason}` |" not in page] == []
    assert [condition for condition in Condition if f"| `{condition}` |" not in page] == []
    names = {name for name, _ in read(metrics_of(vitals)) if name.startswith("nuwatch_")}
    shown = {name for name in names if not name.endswith(("_created", "_bucket", "_sum", "_count"))}
    assert [name for name in sorted(shown) if f"`{name}`" not in page] == []
