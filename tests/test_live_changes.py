"""A configuration that changes while the daemon runs: what may, where it acts, and that a replay does the same."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from connectors.memory import MemorySink, MemorySource
from connectors.records import Batch, Channel, OutRecord
from monitor.checkpoint import Entry, Marker, MemoryCheckpoint
from monitor.configuration import parse
from monitor.durable.checkpoint import SqliteCheckpoint
from monitor.engine import Engine
from monitor.errors import ConfigurationError, StateError
from monitor.facts import Identity
from monitor.generation import Change, Generation
from monitor.journal import ExportedJournal
from monitor.live_changes import check_live
from monitor.model import Model
from monitor.pipeline import Pipeline
from monitor.replay import Journalled, replay
from tests.broker import AnyBroker
from tests.chaos import Launcher, Rig
from tests.test_broker_to_alerts import nuwatch
from tests.worlds import World, autoregressive, batch_of, configuration_text, world

SENSORS, LENGTH, ROWS, CUT = 3, 8, 220, 40
OLD = "    alerting: {on_delay: 2s, off_delay: 5s, realert: 30s}"
NEW = "    alerting: {on_delay: 4s, off_delay: 9s, realert: 10s}"


def text(extra: str) -> str:
    return configuration_text(SENSORS, LENGTH, "{pca: {}}", extra)


@pytest.fixture(scope="module")
def trained() -> World:
    return world(
        text(OLD), [batch_of({f"plant/{n}": autoregressive(n, 900, SENSORS, 0.5) for n in range(2)})]
    )


@pytest.fixture(scope="module")
def other() -> World:
    """The same plant, learnt from other days."""
    history = [batch_of({f"plant/{n}": autoregressive(70 + n, 900, SENSORS, 0.5) for n in range(2)})]
    return world(text(OLD), history)


@pytest.fixture(scope="module")
def stream() -> Batch:
    """Off in both halves, and across the middle."""
    values = {f"plant/{n}": autoregressive(50 + n, ROWS, SENSORS, 0.5) for n in range(2)}
    for low, high in ((30, 60), (90, 130), (160, 200)):
        values["plant/0"][low:high, 1] += 8.0
    values["plant/1"][70:140, 2] = 5000.0
    return batch_of(values)


def generation(trained: World, extra: str, name: str) -> Generation:
    settings = parse(text(extra), Path("world.yaml")).settings
    model = Model(trained.trained.bundle, settings.asset_classes["unit"], trained.model.program)
    identity = {"unit": Identity(model.bundle_id, None, name)}

    def make(partition: int) -> Pipeline:
        return Pipeline(settings, {"unit": model}, partition, identity, topic="t", replay=False, version="0")

    return Generation(Change(name, text(extra), {"unit": model.bundle_id}), make)


def engine(source: MemorySource, checkpoint: MemoryCheckpoint | SqliteCheckpoint, now: Generation) -> Engine:
    made = Engine(source, checkpoint, now.pipeline_of, now.bundles)
    made.in_force(now.change)
    made.open("earliest")
    return made


def finish(running: Engine) -> None:
    while not running.exhausted:
        running.step(0.0)
    running.snapshot()
    running.close()


def alerts(records: list[OutRecord]) -> list[tuple[str, bytes]]:
    return sorted((r.id, r.value or b"") for r in records if r.channel is Channel.ALERTS)


def configurations(records: list[OutRecord]) -> list[tuple[int, str]]:
    """Offset of the closing record and configuration of every alert, in order."""
    events = [msgspec.json.decode(r.value or b"") for r in records if r.channel is Channel.ALERTS]
    return sorted(
        (int(e["nuwatchoffset"]), e["data"]["model"]["config"]) for e in events if e["data"]["model"]
    )


# -- what may change ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("site: test", "site: elsewhere", "site"),
        ("source: {kind: memory}", "source: {kind: files}", "source"),
        ("sampling: 1s", "sampling: 2s", "asset_classes.unit.sampling"),
        ('assets: ["plant/*"]', 'assets: ["*"]', "asset_classes.unit.assets"),
        ("unit: 'bar'", "unit: 'kPa'", "asset_classes.unit.sensors.s1.unit"),
        ("s1: {", "s9: {", "asset_classes.unit.sensors (which there are, and their order)"),
        ("  unit:\n    assets", "  other:\n    assets", "asset_classes (which there are, and their order)"),
    ],
)
def test_what_reads_or_shapes_the_state_needs_a_restart(old: str, new: str, named: str) -> None:
    before = text(OLD)
    assert old in before
    settings = [parse(one, Path("p.yaml")).settings for one in (before, before.replace(old, new, 1))]
    with pytest.raises(ConfigurationError, match="cannot change while the daemon runs") as caught:
        check_live(*settings)
    assert f": {named};" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (OLD, NEW),
        ("range: [-1000, 1000]", "range: [-10, 10]"),
        ("lateness: 2s", "lateness: 4s"),
        ("silence: 2min", "silence: 1min"),
        (OLD, OLD + "\n    drift: {delta: 0.01}\n    bundle: elsewhere"),
    ],
)
def test_what_acts_behind_the_decoder_may_change(old: str, new: str) -> None:
    before = text(OLD)
    assert old in before
    check_live(*(parse(one, Path("p.yaml")).settings for one in (before, before.replace(old, new, 1))))


# -- where it acts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crash", [None, 3, 4, 6])
@pytest.mark.parametrize("bundle", ["the same bundle", "another bundle"])
def test_a_change_acts_from_one_place_on_also_after_a_crash_and_in_a_replay(
    trained: World, other: World, stream: Batch, tmp_path: Path, crash: int | None, bundle: str
) -> None:
    """Adopted between the fourth poll and the fifth: at row 160."""
    before = generation(trained, OLD, "old")
    after = generation(trained if bundle == "the same bundle" else other, NEW, "new")
    sink, place = MemorySink(), 4 * CUT
    running = engine(MemorySource([stream], cuts=(CUT,)), SqliteCheckpoint(tmp_path, sink), before)
    for _ in range(4):
        running.step(0.0)
    assert running.adopt(after) == {0: place}
    if crash is not None:
        for _ in range(crash - 3):
            running.step(0.0)
        running.close()
        again = MemorySource([stream], cuts=(CUT,))
        running = engine(again, SqliteCheckpoint(tmp_path, sink), after)
        assert running.discarded == []
    finish(running)
    named = configurations(sink.records)
    assert {name for at, name in named if at < place} == {"old"}
    assert {name for at, name in named if at >= place} == {"new"}

    checkpoint = SqliteCheckpoint(tmp_path, MemorySink())
    restored = checkpoint.restore(0)
    checkpoint.close()
    assert restored is not None
    assert [entry.position for entry in restored.journal] == [0, place]
    known = {one.change.id: one for one in (before, after)}
    done = replay(
        MemorySource([stream], cuts=(33,)),
        before.pipeline_of,
        before.bundles,
        commands=ExportedJournal({0: restored.journal}),
        journalled=Journalled(before.change, lambda change: known[change.id], {0: 0}),
    )
    assert alerts(done.records) == alerts(sink.records)


def test_a_crash_between_the_journal_of_a_change_and_its_snapshot_repeats_nothing_under_it(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    """What came before was made durable first: a restart, which has the new file, goes on where the change acts."""

    class Crash(BaseException):
        pass

    class Crashing(SqliteCheckpoint):
        def journal(self, partition: int, entries: Sequence[Entry]) -> None:
            super().journal(partition, entries)
            if any(b"realert: 10s" in entry.content for entry in entries):
                raise Crash

    sink, place = MemorySink(), 4 * CUT
    before, after = generation(trained, OLD, "old"), generation(trained, NEW, "new")
    running = engine(MemorySource([stream], cuts=(CUT,)), Crashing(tmp_path, sink), before)
    for _ in range(4):
        running.step(0.0)
    with pytest.raises(Crash):
        running.adopt(after)
    running.close()
    finish(engine(MemorySource([stream], cuts=(CUT,)), SqliteCheckpoint(tmp_path, sink), after))
    named = configurations(sink.records)
    assert {name for at, name in named if at < place} == {"old"}
    assert {name for at, name in named if at >= place} == {"new"}


def test_an_incident_that_is_open_at_a_change_goes_on_under_the_same_bundle(
    trained: World, stream: Batch
) -> None:
    sink = MemorySink()
    source = MemorySource([stream], cuts=(200,))
    running = engine(source, MemoryCheckpoint(sink), generation(trained, OLD, "old"))
    running.step(0.0)  # 100 seconds: the second shift has stood for ten
    running.adopt(generation(trained, NEW, "new"))
    finish(running)
    events = [msgspec.json.decode(r.value or b"") for r in sink.records if r.channel is Channel.ALERTS]
    lives: dict[str, list[tuple[int, str]]] = {}
    for event in events:
        if event["data"]["kind"] == "ANOMALY":
            life = lives.setdefault(event["data"]["incident_id"], [])
            life.append((int(event["nuwatchoffset"]), event["data"]["event"]))
    open_then = [life for life in lives.values() if life[0][0] < 200 and life[-1] > (200, "")]
    assert open_then
    assert all(life[-1][0] >= 200 for life in open_then), "it goes on being told of"


def test_a_change_whose_journal_cannot_be_written_does_not_act(trained: World, stream: Batch) -> None:
    class Full(MemoryCheckpoint):
        full = False

        def journal(self, partition: int, entries: list[Entry]) -> None:
            if self.full:
                raise StateError("no space")
            super().journal(partition, entries)

    sink = MemorySink()
    checkpoint = Full(sink)
    running = engine(MemorySource([stream], cuts=(CUT,)), checkpoint, generation(trained, OLD, "old"))
    running.step(0.0)
    checkpoint.full = True
    with pytest.raises(StateError, match="no space"):
        running.adopt(generation(trained, NEW, "new"))
    finish(running)
    assert {name for _, name in configurations(sink.records)} == {"old"}
    whole = MemorySink()
    finish(engine(MemorySource([stream]), MemoryCheckpoint(whole), generation(trained, OLD, "old")))
    assert alerts(whole.records) == alerts(sink.records)


def test_a_change_made_while_the_daemon_was_down_is_journalled_where_it_goes_on(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    sink = MemorySink()
    old, new = generation(trained, OLD, "old"), generation(trained, NEW, "new")
    running = engine(MemorySource([stream], cuts=(CUT,)), SqliteCheckpoint(tmp_path, sink), old)
    running.step(0.0)
    running.snapshot()
    running.close()
    for _ in range(2):
        checkpoint = SqliteCheckpoint(tmp_path, sink)
        running = engine(MemorySource([stream], cuts=(CUT,)), checkpoint, new)
        running.step(0.0)
        running.snapshot()
        running.close()
    checkpoint = SqliteCheckpoint(tmp_path, sink)
    restored = checkpoint.restore(0)
    checkpoint.close()
    assert restored is not None
    assert [(e.position, e.id.split(":")[1]) for e in restored.journal] == [(0, "old"), (CUT, "new")]
    assert restored.marker == Marker(3 * CUT, dict(new.bundles), new.change.id, restored.marker.input)


# -- the daemon -----------------------------------------------------------------------------------------------


@pytest.mark.kafka
def test_a_running_daemon_takes_up_a_good_file_on_sighup_and_keeps_the_old_one_against_a_bad_one(
    kafka_broker: AnyBroker, tmp_path: Path, launcher: Launcher
) -> None:
    plant = Rig(kafka_broker, tmp_path, launcher, 160, seed=5)
    folder = plant.disturbed.folder
    life = plant.start()
    config = folder / "plant.yaml"
    good = config.read_text()

    def told(event: str, then: Callable[[], None] = lambda: None) -> None:
        before = plant.disturbed.log.count(event)
        then()
        until = time.monotonic() + 60
        while plant.disturbed.log.count(event) == before:
            assert not life.over, plant.disturbed.log[-3000:]
            assert time.monotonic() < until, plant.disturbed.log[-3000:]
            time.sleep(0.05)

    def change(content: str) -> Callable[[], None]:
        def do() -> None:
            config.write_text(content)
            life.signal(signal.SIGHUP)

        return do

    told('"event": "snapshot"')
    plant.feed(80)
    told('"lag": 0')
    told("configuration_refused", change(good.replace("on_delay: 2s", "on_delay: soon")))
    told("configuration_refused", change(good.replace("sampling: 1s", "sampling: 2s")))
    assert "cannot change while the daemon runs" in plant.disturbed.log
    told("configuration_adopted", change(good.replace("on_delay: 2s", "on_delay: 6s")))
    plant.feed(80)
    told('"lag": 0')
    assert life.end(signal.SIGTERM) == 0, plant.disturbed.log[-3000:]
    plant.finish()

    nuwatch(folder, "state", "export", "journal.jsonl", "--config", "plant.yaml")
    entries = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert [list(entry["command"]) for entry in entries] == [["change"]] * 6, "a beginning and a change each"
    config.write_text(config.read_text().replace("max_poll_records: 25", "until: end"))
    nuwatch(folder, "replay", "plant.yaml", "--journal", "journal.jsonl", "--alerts", "replayed.jsonl")
    replayed = [json.loads(line) for line in (folder / "replayed.jsonl").read_text().splitlines()]
    live, _ = plant._published(plant.disturbed, "alerts")
    mine = {event["id"]: event["data"] for event in replayed}
    assert {name: json.loads(body)["data"] for name, body in live.items()} == {
        name: json.loads(plant.disturbed.plain(json.dumps(data).encode())) for name, data in mine.items()
    }
    assert len({data["model"]["config"] for data in mine.values() if data["model"]}) == 2
