"""Records that are gone before they were read, a topic that was made anew, and partitions that have changed: told with
their offsets, or a stop with an explanation; never passed over in silence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaAdminClient, TopicPartition

from connectors.codec import Codec
from connectors.errors import SourceError
from connectors.kafka import KafkaSource, KafkaSourceSettings
from connectors.memory import MemorySink, MemorySource
from connectors.records import Batch, Channel, Input, Lost, OutRecord, Polled
from monitor.checkpoint import Checkpoint, Entry
from monitor.commands import NoCommands
from monitor.connect import layout_of
from monitor.durable.checkpoint import SqliteCheckpoint
from monitor.engine import Engine
from monitor.errors import ConfigurationError
from monitor.quantities import iso_time
from tests.broker import AnyBroker, delete_topic, produce
from tests.worlds import SECOND, START, World, autoregressive, batch_of, configuration_text, world

ROWS = 60


@pytest.fixture(scope="module")
def trained() -> World:
    text = configuration_text(2, 8, "{pca: {}}")
    return world(text, [batch_of({f"plant/{n}": autoregressive(n, 700, 2) for n in range(2)})])


def stream(rows: int = ROWS) -> Batch:
    return batch_of({f"plant/{n}": autoregressive(70 + n, rows, 2) for n in range(2)})


class Torn(MemorySource):
    """A memory source that has lost what lies between two positions."""

    def __init__(self, batch: Batch, lost: Lost, input_: Input | None = None) -> None:
        super().__init__([batch], cuts=(10,))
        self._gap, self._input = lost, input_ or Input("memory")

    @property
    def input(self) -> Input:
        return self._input

    def poll(self, timeout: float) -> Sequence[Polled]:
        polled = list(super().poll(timeout))
        for at, part in enumerate(polled):
            if part.position > self._gap.first and self._gap.end > 0:
                kept = [self._kept(batch) for batch in part.batches]
                polled[at] = part._replace(batches=tuple(b for b in kept if len(b.time)))
                if part.position > self._gap.end:
                    polled.insert(at, Polled(0, self._gap.end, (), lost=self._gap))
                    self._gap = Lost(2**60, 0)
        return polled

    def _kept(self, batch: Batch) -> Batch:
        from connectors.rows import rows_of

        return rows_of(batch, (batch.offset < self._gap.first) | (batch.offset >= self._gap.end))


def gaps(records: Sequence[OutRecord]) -> list[dict[str, Any]]:
    """The data of the DATA_GAPs of offsets, in order."""
    data = [msgspec.json.decode(r.value or b"")["data"] for r in records if r.channel is Channel.ALERTS]
    return [one for one in data if one.get("subject") == "offsets"]


def finish(running: Engine) -> None:
    while not running.exhausted:
        running.step(0.0)
    running.snapshot()
    running.close()


def engine(trained: World, source: Any, checkpoint: Checkpoint) -> Engine:
    running = Engine(source, checkpoint, trained.pipeline, {"unit": trained.model.bundle_id})
    running.open("earliest")
    return running


def test_lost_records_are_a_data_gap_of_every_asset_with_the_offsets_until_it_is_heard_again(
    trained: World, tmp_path: Path
) -> None:
    """Rows 40 to 69 are gone: each asset's readings of the seconds 20 to 34."""
    sink = MemorySink()
    finish(engine(trained, Torn(stream(), Lost(40, 70)), SqliteCheckpoint(tmp_path, sink)))
    told = gaps(sink.records)
    before, after = iso_time(START + 19 * SECOND), iso_time(START + 35 * SECOND)
    raised = [one for one in told if one["event"] == "RAISED"]
    cleared = [one for one in told if one["event"] == "CLEARED"]
    assert len(raised) == len(cleared) == 2
    assert {one["lost"]["first"] for one in told} == {40}
    assert all(one["lost"] == {"partition": 0, "first": 40, "end": 70} for one in told)
    assert all(one["kind"] == "DATA_GAP" and one["raised_at"] == before for one in told)
    assert all(one["cleared_at"] == after for one in cleared)
    assert "offsets 40 to 69 of partition 0" in raised[0]["message"]
    assert {one["incident_id"] for one in raised} == {one["incident_id"] for one in cleared}


def test_a_crash_between_telling_and_snapshot_tells_the_same_again(trained: World, tmp_path: Path) -> None:
    sink = MemorySink()
    first = engine(trained, Torn(stream(), Lost(40, 70)), SqliteCheckpoint(tmp_path, sink))
    for _ in range(4):
        first.step(0.0)
    first.snapshot()
    while not any(step.polled.lost for step in first.step(0.0)):
        pass
    sink.flush(0.0)  # the broker has it, the snapshot does not
    assert len(gaps(sink.records)) >= 2
    first.close()
    finish(engine(trained, Torn(stream(), Lost(40, 70)), SqliteCheckpoint(tmp_path, sink)))
    ids = [record.id for record in sink.records]
    assert len(ids) == len(set(ids))
    whole = MemorySink()
    finish(engine(trained, Torn(stream(), Lost(40, 70)), SqliteCheckpoint(tmp_path / "other", whole)))
    assert sorted(sink.records) == sorted(whole.records)


def test_several_losses_before_an_asset_is_heard_are_one_gap(trained: World) -> None:
    pipeline = trained.pipeline()
    pipeline.push(Polled(0, 20, (stream(10),)))
    first = pipeline.push(Polled(0, 50, (), lost=Lost(20, 50)))
    second = pipeline.push(Polled(0, 90, (), lost=Lost(50, 90)))
    assert (len(gaps(first.records)), len(gaps(second.records))) == (2, 0)
    rows = batch_of({f"plant/{n}": autoregressive(n, 1, 2) for n in range(2)}, START + 30 * SECOND)
    cleared = gaps(pipeline.push(Polled(0, 92, (rows,))).records)
    assert [one["lost"] for one in cleared] == [{"partition": 0, "first": 20, "end": 90}] * 2


def test_a_topic_that_was_made_anew_is_read_from_its_beginning_and_told(
    trained: World, tmp_path: Path
) -> None:
    sink, nothing = MemorySink(), Lost(2**60, 0)
    finish(
        engine(trained, Torn(stream(30), nothing, Input("t", "first", 1)), SqliteCheckpoint(tmp_path, sink))
    )
    assert gaps(sink.records) == []
    later = batch_of({f"plant/{n}": autoregressive(n, 20, 2) for n in range(2)}, START + 40 * SECOND)
    anew = Torn(later, nothing, Input("t", "second", 1))
    finish(engine(trained, anew, SqliteCheckpoint(tmp_path, sink)))
    told = gaps(sink.records)
    assert [one["event"] for one in told] == ["RAISED", "RAISED", "CLEARED", "CLEARED"]
    assert all(one["lost"] == {"partition": 0, "first": 60, "end": 0} for one in told)
    assert "made anew" in told[0]["message"]
    assert anew.committed == {0: 40}
    again = Torn(later, nothing, Input("t", "second", 1))
    finish(engine(trained, again, SqliteCheckpoint(tmp_path, sink)))
    assert len(gaps(sink.records)) == 4, "told once"


class Heard(NoCommands):
    """Remembers the journal that it was given."""

    def __init__(self) -> None:
        self.journal: list[tuple[str, int]] = []

    def restored(self, partition: int, position: int | None, journal: Sequence[Entry]) -> None:
        del partition, position
        self.journal = [(entry.id, entry.position) for entry in journal]


def test_what_was_journalled_for_a_topic_does_not_act_in_one_that_was_made_anew(
    trained: World, tmp_path: Path
) -> None:
    """Offset 20 comes again, and means another record."""
    sink, nothing = MemorySink(), Lost(2**60, 0)

    def life(incarnation: str, *entries: Entry) -> list[tuple[str, int]]:
        heard = Heard()
        source = Torn(stream(30), nothing, Input("t", incarnation, 1))
        checkpoint = SqliteCheckpoint(tmp_path, sink)
        running = Engine(source, checkpoint, trained.pipeline, {"unit": trained.model.bundle_id}, heard)
        running.open("earliest")
        while not running.exhausted:
            running.step(0.0)
        running.snapshot()
        if entries:
            checkpoint.journal(0, entries)
        running.close()
        return heard.journal

    assert life("first", Entry(20, "old", b"{}")) == []
    assert life("first") == [("old", 20)]
    assert life("second", Entry(25, "new", b"{}")) == [("old", -1)]
    assert life("second") == [("old", -1), ("new", 25)]
    assert life("third") == [("old", -1), ("new", -1)]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Input("t", "a", 5), r"'t' has 5 partitions, and had 3 .*hint:"),
        (Input("u", "a", 3), r"got state of input 't', expected 'u'; hint:"),
    ],
)
def test_state_of_another_input_or_of_other_partitions_stops_the_start(
    trained: World, tmp_path: Path, found: Input, said: str
) -> None:
    sink, nothing = MemorySink(), Lost(2**60, 0)
    finish(engine(trained, Torn(stream(), nothing, Input("t", "a", 3)), SqliteCheckpoint(tmp_path, sink)))
    with pytest.raises(ConfigurationError, match=said) as stopped:
        reopened(trained, tmp_path, Torn(stream(), nothing, found), sink)
    assert stopped.value.exit_code == 78


def reopened(trained: World, folder: Path, source: Torn, sink: MemorySink) -> None:
    checkpoint = SqliteCheckpoint(folder, sink)
    try:
        engine(trained, source, checkpoint)
    finally:
        checkpoint.close()


# -- on a real broker -----------------------------------------------------------------------------------------


def frames(batch: Batch) -> list[tuple[bytes, bytes]]:
    return [
        (
            batch.assets[asset].encode(),
            msgspec.json.encode(
                {
                    "asset": batch.assets[asset],
                    "ts": iso_time(time),
                    "values": dict(zip(("s0", "s1"), row, strict=True)),
                }
            ),
        )
        for asset, time, row in zip(batch.asset, batch.time.tolist(), batch.values.tolist(), strict=True)
    ]


def on_topic(
    trained: World, broker: AnyBroker, topic: str, folder: Path, sink: MemorySink, **more: Any
) -> Engine:
    settings = KafkaSourceSettings(
        bootstrap_servers=(broker.bootstrap,), topic=topic, group=None, check_seconds=0.3, **more
    )
    source = KafkaSource(settings, Codec(layout_of(trained.settings)))
    checkpoint = SqliteCheckpoint(folder, sink)
    try:
        return engine(trained, source, checkpoint)
    except BaseException:
        checkpoint.close()
        raise


def read_all(running: Engine) -> list[Polled]:
    polled = [step.polled for step in running.step(0.5)]
    while running.lag:
        polled += [step.polled for step in running.step(0.5)]
    running.snapshot()
    running.close()
    return polled


def steps(running: Engine, count: int) -> None:
    for _ in range(count):
        running.step(0.2)


def remake(broker: AnyBroker, topic: str) -> None:
    delete_topic(broker.bootstrap, topic)
    broker.create_topic(topic)


@pytest.mark.kafka
def test_retention_that_overran_the_daemon_is_a_data_gap_with_the_offsets(
    trained: World, tmp_path: Path, kafka_broker: AnyBroker, new_topic: Callable[..., str]
) -> None:
    topic, sink, records = new_topic(), MemorySink(), frames(stream())
    produce(kafka_broker.bootstrap, topic, records[:40])
    read_all(on_topic(trained, kafka_broker, topic, tmp_path, sink))
    produce(kafka_broker.bootstrap, topic, records[40:])
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap)
    admin.delete_records({TopicPartition(topic, 0): 70})
    admin.close()
    polled = read_all(on_topic(trained, kafka_broker, topic, tmp_path, sink))
    assert polled[0].lost == Lost(40, 70)
    assert sum(part.records for part in polled) == 50
    told = gaps(sink.records)
    assert [one["event"] for one in told] == ["RAISED", "RAISED", "CLEARED", "CLEARED"]
    assert told[0]["lost"] == {"partition": 0, "first": 40, "end": 70}


@pytest.mark.kafka
def test_a_topic_made_anew_is_told_even_where_it_is_longer_than_it_was(
    trained: World, tmp_path: Path, kafka_broker: AnyBroker, new_topic: Callable[..., str]
) -> None:
    topic, sink, records = new_topic(), MemorySink(), frames(stream())
    produce(kafka_broker.bootstrap, topic, records[:40])
    read_all(on_topic(trained, kafka_broker, topic, tmp_path, sink))
    remake(kafka_broker, topic)
    produce(kafka_broker.bootstrap, topic, records[40:])  # 80 records, more than the 40 that were read
    polled = read_all(on_topic(trained, kafka_broker, topic, tmp_path, sink))
    assert polled[0].lost == Lost(40, 0)
    assert sum(part.records for part in polled) == 80
    assert gaps(sink.records)[0]["lost"] == {"partition": 0, "first": 40, "end": 0}


@pytest.mark.kafka
def test_a_topic_made_anew_while_it_is_read_stops_the_source_with_an_explanation(
    trained: World, tmp_path: Path, kafka_broker: AnyBroker, new_topic: Callable[..., str]
) -> None:
    topic, sink = new_topic(), MemorySink()
    produce(kafka_broker.bootstrap, topic, frames(stream(5)))
    running = on_topic(trained, kafka_broker, topic, tmp_path, sink)
    running.step(0.5)
    remake(kafka_broker, topic)
    produce(kafka_broker.bootstrap, topic, frames(stream(20)))
    with pytest.raises(SourceError, match="made anew while it was read; hint: start again"):
        steps(running, 200)
    running.close()


@pytest.mark.kafka
def test_partitions_added_between_two_runs_stop_the_second_with_exit_78(
    trained: World, tmp_path: Path, kafka_broker: AnyBroker, new_topic: Callable[..., str]
) -> None:
    topic, sink = new_topic(2), MemorySink()
    produce(kafka_broker.bootstrap, topic, frames(stream(5)))
    read_all(on_topic(trained, kafka_broker, topic, tmp_path, sink))
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap)
    admin.create_partitions({topic: 3})
    admin.close()
    with pytest.raises(ConfigurationError, match=r"has 3 partitions, and had 2 .*hint:") as stopped:
        on_topic(trained, kafka_broker, topic, tmp_path, sink)
    assert stopped.value.exit_code == 78
