"""State that was lost is rebuilt from the source: nothing is skipped, and what is published meanwhile says so."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from connectors.codec import Codec
from connectors.kafka import KafkaSource, KafkaSourceSettings
from connectors.memory import MemorySink, MemorySource
from connectors.ports import Rewind
from connectors.records import Batch, Channel, OutRecord
from monitor.commands import TimedDecisions
from monitor.durable.checkpoint import SqliteCheckpoint
from monitor.engine import Engine
from monitor.quantities import NS_PER_S, iso_time
from monitor.thresholds.decisions import Decision
from monitor.thresholds.reestimate import Scales
from monitor.thresholds.versions import Scale, Versions
from monitor.warm_up import warm_up_ns
from tests.broker import AnyBroker, produce
from tests.kafka_reader import everything
from tests.payloads import LAYOUT
from tests.worlds import START, World, autoregressive, batch_of, configuration_text, world

SENSORS, LENGTH, ROWS, CUT = 3, 8, 300, 40


@pytest.fixture(scope="module")
def trained() -> World:
    extra = "    alerting: {on_delay: 2s, off_delay: 5s, realert: 30s}"
    text = configuration_text(SENSORS, LENGTH, "{pca: {}}", extra)
    return world(text, [batch_of({f"plant/{n}": autoregressive(n, 900, SENSORS, 0.5) for n in range(2)})])


@pytest.fixture(scope="module")
def stream() -> Batch:
    """Two assets; plant/0 is off twice for a while, the second time across the middle."""
    values = {f"plant/{n}": autoregressive(50 + n, ROWS, SENSORS, 0.5) for n in range(2)}
    for low, high in ((40, 70), (140, 170), (220, 240)):
        values["plant/0"][low:high, 1] += 8.0
    return batch_of(values)


def started(trained: World, source: MemorySource, folder: Path, sink: MemorySink) -> Engine:
    made = Engine(
        source,
        SqliteCheckpoint(folder, sink),
        trained.pipeline,
        {"unit": trained.model.bundle_id},
        warm_up_ns=warm_up_ns(trained.settings),
    )
    made.open("latest")
    return made


def half_way(trained: World, stream: Batch, folder: Path, sink: MemorySink) -> dict[int, int]:
    """A first life up to the middle; returns what it committed to the source."""
    source = MemorySource([stream], cuts=(CUT,))
    running = Engine(
        source, SqliteCheckpoint(folder, sink), trained.pipeline, {"unit": trained.model.bundle_id}
    )
    running.open("earliest")
    for _ in range(ROWS // CUT):
        running.step(0.0)
    running.snapshot()
    running.close()
    return source.committed


def finish(running: Engine) -> None:
    while not running.exhausted:
        running.step(0.0)
    running.snapshot()
    running.close()


def alerts(records: list[OutRecord]) -> list[dict]:
    return [msgspec.json.decode(r.value or b"") for r in records if r.channel is Channel.ALERTS]


def test_the_warm_up_is_two_windows_and_what_averages_and_delays_remember(trained: World) -> None:
    samples = 2 * 8 + 25 * 1  # smoothing is 0.2: 5 / 0.2 windows
    seconds = samples + 2 + 3 + max(2, 0) + max(5, 30)  # lateness, max_age, on-delay, off-delays
    assert warm_up_ns(trained.settings) == seconds * NS_PER_S


def marker_of(folder: Path) -> None:
    connection = sqlite3.connect(folder / "state.sqlite")
    connection.execute("DELETE FROM assets")
    connection.commit()
    connection.close()


def everything_of(folder: Path) -> None:
    (folder / "state.sqlite").write_bytes(b"\x00" * 5000)


@pytest.mark.parametrize("damage", [marker_of, everything_of])
def test_after_damage_every_record_is_folded_from_a_warm_up_before_and_alerts_say_so(
    trained: World, stream: Batch, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    sink, whole = MemorySink(), MemorySink()
    committed = half_way(trained, stream, tmp_path / "state", sink)
    (stood,) = committed.values()
    before = len(alerts(sink.records))
    damage(tmp_path / "state")

    source = MemorySource([stream], cuts=(CUT,))
    source.committed = dict(committed)
    running = started(trained, source, tmp_path / "state", sink)
    assert running.damaged.keys() == {0}
    assert running.damaged[0].position in (stood, None)
    first = source.poll(0.0)[0]
    span = stream.time[stood - 1] - first.batches[0].time[0]
    assert span >= warm_up_ns(trained.settings) - NS_PER_S
    running.close()

    running = started(trained, MemorySource([stream], cuts=(CUT,)), tmp_path / "state", sink)
    running.close()
    source = MemorySource([stream], cuts=(CUT,))
    source.committed = dict(committed)
    finish(started(trained, source, tmp_path / "state", sink))
    half_way(trained, stream, tmp_path / "whole", whole)
    source = MemorySource([stream], cuts=(CUT,))
    finish(started(trained, source, tmp_path / "whole", whole))

    ids = [record.id for record in sink.records]
    assert len(ids) == len(set(ids)), "what the topic had was not sent again"
    late = {
        e["data"]["started_at"]
        for e in alerts(whole.records)
        if e["data"]["kind"] == "ANOMALY" and int(e["nuwatchoffset"]) >= stood + 60
    }
    assert late
    found = {e["data"]["started_at"] for e in alerts(sink.records) if e["data"]["kind"] == "ANOMALY"}
    assert late <= found, "an anomaly after the damage was missed"
    flagged = [e.get("nuwatchrebuilt", False) for e in alerts(sink.records)]
    places = [int(e["nuwatchoffset"]) for e in alerts(sink.records)]
    assert not any(flagged[:before])
    again = list(zip(places, flagged, strict=True))[before:]
    assert not any(yes for at, yes in again if at >= stood + CUT)
    assert [at for at, _ in again if at < stood - CUT] == [], (
        "what happened in the stretch has the ids that it had"
    )


def test_a_rebuild_that_is_cut_short_goes_on_where_it_was_and_still_says_so(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    sink = MemorySink()
    committed = half_way(trained, stream, tmp_path, sink)
    everything_of(tmp_path)
    source = MemorySource([stream], cuts=(20,))
    source.committed = dict(committed)
    running = started(trained, source, tmp_path, sink)
    running.step(0.0)
    running.snapshot()
    assert running.pipelines[0].rebuilding
    running.close()
    again = started(trained, MemorySource([stream], cuts=(20,)), tmp_path, sink)
    assert again.damaged == {}
    again.step(0.0)
    assert again.pipelines[0].rebuilding
    while not again.exhausted:
        again.step(0.0)
    assert not again.pipelines[0].rebuilding
    again.close()


@pytest.mark.kafka
@pytest.mark.parametrize("known", [True, False])
def test_on_kafka_a_rewind_goes_by_the_brokers_times_from_the_position_or_the_groups(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], known: bool
) -> None:
    topic = new_topic(2)
    times = [1_760_000_000_000 + 1000 * n for n in range(50)]
    for partition in range(2):
        records = [(b"k", b"%d" % n, partition) for n in range(50)]
        produce(kafka_broker.bootstrap, topic, records, timestamps_ms=times)
    settings = KafkaSourceSettings(
        bootstrap_servers=(kafka_broker.bootstrap,), topic=topic, group=f"group-of-{topic}", until="end"
    )
    first = KafkaSource(settings, Codec(LAYOUT))
    first.open(lambda _: None, "earliest")
    first.commit({0: 30, 1: 50})
    first.close()

    source = KafkaSource(settings, Codec(LAYOUT))
    wanted = {0: Rewind(30 if known else None, 10 * NS_PER_S), 1: Rewind(50 if known else None, 0)}
    source.open(wanted.get, "latest")
    assert source.rewound == {0: 30, 1: 50}
    found: dict[int, list[int]] = {0: [], 1: []}
    while not source.exhausted:
        for polled in source.poll(0.5):
            found[polled.partition] += [r.record.offset for r in polled.rejected]
    source.close()
    assert (found[0][0], found[0][-1]) == (19, 49), "the record before 30 is of second 29"
    assert found[1] == [49]
    assert len(everything(kafka_broker.bootstrap, topic)) == 100


@pytest.mark.kafka
def test_on_kafka_without_position_and_group_a_rewind_counts_from_the_start(
    kafka_broker: AnyBroker, new_topic: Callable[..., str]
) -> None:
    topic = new_topic()
    times = [1_760_000_000_000 + 1000 * n for n in range(50)]
    produce(kafka_broker.bootstrap, topic, [(b"k", b"x")] * 50, timestamps_ms=times)
    settings = KafkaSourceSettings(
        bootstrap_servers=(kafka_broker.bootstrap,), topic=topic, group=None, until="end"
    )
    source = KafkaSource(settings, Codec(LAYOUT))
    source.open(lambda _: Rewind(None, 20 * NS_PER_S), "latest")
    assert source.rewound == {}
    assert source.poll(5.0)[0].rejected[0].record.offset == 29
    source.close()


# -- what the topics still tell -------------------------------------------------------------------------------


def lives(records: list[OutRecord]) -> dict[str, list[str]]:
    """Events of every ANOMALY, in order."""
    found: dict[str, list[str]] = {}
    for event in alerts(records):
        if event["data"]["kind"] == "ANOMALY":
            found.setdefault(event["data"]["incident_id"], []).append(event["data"]["event"])
    return found


def versions(records: list[OutRecord]) -> list[dict]:
    events = [msgspec.json.decode(r.value or b"") for r in records if r.channel is Channel.THRESHOLDS]
    return [event for event in events if event["type"] == "nuwatch.threshold.v1"]


@pytest.mark.parametrize("damage", [marker_of, everything_of])
def test_an_incident_that_was_open_before_the_rewound_stretch_is_cleared_under_its_own_id(
    trained: World, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    values = {f"plant/{n}": autoregressive(50 + n, ROWS, SENSORS, 0.5) for n in range(2)}
    values["plant/0"][20:190, 1] += 8.0  # the stretch begins a minute before the middle
    stream, sink = batch_of(values), MemorySink()
    committed = half_way(trained, stream, tmp_path, sink)
    (opened,) = [name for name, events in lives(sink.records).items() if events[-1] != "CLEARED"]
    before = len(lives(sink.records)[opened])
    damage(tmp_path)
    source = MemorySource([stream], cuts=(CUT,))
    source.committed = dict(committed)
    finish(started(trained, source, tmp_path, sink))
    after = lives(sink.records)
    assert after[opened][before:][-1] == "CLEARED"
    numbers = [int(r.id.rpartition(":")[2]) for r in sink.records if r.id.startswith(opened)]
    assert numbers == list(range(1, len(numbers) + 1)), "the next number each time, and none twice"
    of_plant = [
        e for e in alerts(sink.records) if e["subject"] == "plant/0" and e["data"]["kind"] == "ANOMALY"
    ]
    overlapping = {
        e["data"]["incident_id"] for e in of_plant if "T08:53:45" < e["data"]["started_at"][10:] < "T08:56:25"
    }
    assert overlapping <= {opened}, "the same episode is not told of under another id"


@pytest.fixture(scope="module")
def adapting() -> World:
    extra = (
        "    drift: {samples: 60, settle: 1min, tracking: {enabled: false}}\n"
        "    alerting: {on_delay: 2s, off_delay: 5s, realert: 30s}"
    )
    text = configuration_text(SENSORS, LENGTH, "{pca: {}}", extra)
    return world(text, [batch_of({f"plant/{n}": autoregressive(n, 900, SENSORS, 0.5) for n in range(2)})])


def test_limits_that_had_moved_stay_and_their_versions_go_on_counting(
    adapting: World, tmp_path: Path
) -> None:
    """A person approves a shift; the state is lost; the new normal is still normal, and a rollback knows its way."""
    rows = 500
    values = {f"plant/{n}": autoregressive(50 + n, rows, SENSORS, 0.5) for n in range(2)}
    values["plant/0"][40:, 1] += 8.0
    stream, sink = batch_of(values), MemorySink()

    def life(source: MemorySource, decisions: list[Decision]) -> Engine:
        made = Engine(
            source,
            SqliteCheckpoint(tmp_path, sink),
            adapting.pipeline,
            {"unit": adapting.model.bundle_id},
            TimedDecisions(decisions),
            warm_up_ns=warm_up_ns(adapting.settings),
        )
        made.open("earliest")
        return made

    def word(action: str, second: int) -> Decision:
        return Decision("plant/0", action, "J. Roe", iso_time(START + second * NS_PER_S))  # type: ignore[arg-type]

    first = MemorySource([stream], cuts=(CUT,))
    running = life(first, [word("approve", 90)])
    for _ in range(18):
        running.step(0.0)
    running.snapshot()
    before = versions(sink.records)
    assert [event["data"]["approved_by"] for event in before][:1] == ["J. Roe"]
    (standing,) = running.pipelines[0].standing()
    limit, number = standing.limit[0], standing.version[0]
    assert number >= 1
    running.close()
    everything_of(tmp_path)

    again = MemorySource([stream], cuts=(CUT,))
    again.committed = dict(first.committed)
    running = life(again, [word("rollback", 420)])
    running.step(0.0)
    (standing,) = running.pipelines[0].standing()
    assert (standing.limit[0], standing.version[0]) == (pytest.approx(limit, rel=1e-5), number)
    assert standing.version[1] == 0
    finish(running)
    (rolled,) = [e["data"] for e in versions(sink.records) if e["data"]["trigger"] == "rollback"]
    assert rolled["version"] == number + 1
    ids = [event["id"] for event in versions(sink.records)]
    assert len(ids) == len(set(ids)), "no number stands for two limits"
    late = [e for e in alerts(sink.records) if e["subject"] == "plant/0" and e.get("nuwatchrebuilt")]
    assert [e for e in late if e["data"]["kind"] == "ANOMALY"] == [], "the new normal is normal still"


def test_a_version_whose_scales_were_cut_from_its_event_goes_on_counting_from_the_trained_limit() -> None:
    table = Versions(("a", "b"), Scale(0.0, 1.0, 1.0), 0.01, 3.0)
    table.grow(1)
    full = {
        "combined": {"median": 0.1, "limit": 2.0},
        "scorers": {"a": {"median": 0.2, "limit": 3.0}, "b": {"median": 0.3, "limit": 4.0}},
    }
    first = msgspec.structs.replace(
        table.current(0).version,
        version=4,
        scales=full,
        new_limit=2.5,
        label="CALIBRATED",
        trigger="approved",
    )
    cut = msgspec.structs.replace(first, version=5, scales={})
    table.recall(0, [first])
    assert table.current(0).scales == Scales((0.2, 0.3), (3.0, 4.0), 0.1, 2.0)
    assert (table.total(0), table.next_number(0)) == (2.5, 5)
    table.recall(0, [first, cut])
    assert table.current(0).scales == table.trained
    assert table.next_number(0) == 6
    rolled = table.roll_back(0, "J. Roe")
    assert rolled is not None
    assert (rolled.version, rolled.new_limit) == (6, 2.5)
    tracked = msgspec.structs.replace(first, version=6, label="TRACKED", new_limit=2.6)
    table.recall(0, [first, tracked])
    rolled = table.roll_back(0, "J. Roe")
    assert rolled is not None
    assert (rolled.version, rolled.new_limit) == (7, 1.0), (
        "what tracking did goes, and the version that it followed"
    )
