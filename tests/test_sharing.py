"""Daemons that share a topic on a real broker: whatever moves, dies or is cut off, the records that come out are those
of one undisturbed daemon, each once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import structlog

from connectors.codec import Codec
from connectors.errors import Aborted
from connectors.kafka import KafkaGroupSource, KafkaLedger, KafkaSinkSettings, KafkaSourceSettings, SinkTopics
from connectors.memory import MemorySink, MemorySource
from connectors.records import Channel, RawRecord
from monitor.checkpoint import MemoryCheckpoint
from monitor.connect import layout_of
from monitor.engine import Engine
from monitor.quantities import iso_time
from monitor.shared_checkpoint import ChangelogCheckpoint
from monitor.sharing import SharedEngine
from tests.broker import AnyBroker, produce
from tests.kafka_reader import committed
from tests.worlds import SECOND, START, World, autoregressive, batch_of, configuration_text, world

pytestmark = pytest.mark.kafka

SENSORS, LENGTH, ASSETS, PARTITIONS, ROWS = 3, 8, 8, 4, 240


@pytest.fixture(scope="module")
def trained() -> World:
    extra = "    drift: {samples: 60}\n    alerting: {on_delay: 2s, off_delay: 5s, realert: 20s}"
    text = configuration_text(SENSORS, LENGTH, "{pca: {}}", extra)
    return world(text, [batch_of({f"plant/{n}": autoregressive(n, 900, SENSORS, 0.5) for n in range(2)})])


@pytest.fixture(scope="module")
def stream(trained: World) -> list[RawRecord]:
    """Every asset steps away for a while, one after the other; every 40th record is broken. In order of time."""
    names = list(trained.asset_class.sensors)
    values = [autoregressive(50 + n, ROWS, SENSORS, 0.5) for n in range(ASSETS)]
    for n in range(ASSETS):
        values[n][30 + 20 * n : 60 + 20 * n, n % SENSORS] += 8.0
    records: list[RawRecord] = []
    offsets = [0] * PARTITIONS
    for row in range(ROWS):
        for n in range(ASSETS):
            reading = dict(zip(names, values[n][row].tolist(), strict=True))
            frame = {"asset": f"plant/{n}", "ts": iso_time(START + row * SECOND), "values": reading}
            value = b"{" if (row * ASSETS + n) % 40 == 39 else msgspec.json.encode(frame)
            partition = n % PARTITIONS
            records.append(RawRecord(partition, offsets[partition], f"plant/{n}".encode(), value))
            offsets[partition] += 1
    return records


Out = dict[tuple[str, str], bytes | None]


@pytest.fixture(scope="module")
def expected(trained: World, stream: list[RawRecord]) -> Out:
    """What one undisturbed daemon publishes, by channel and id."""
    sink = MemorySink()
    source = MemorySource(stream, layout_of(trained.settings), cuts=(50,))
    engine = Engine(source, MemoryCheckpoint(sink), trained.pipeline, {"unit": trained.model.bundle_id})
    engine.open("earliest")
    while not engine.exhausted:
        engine.step(0.0)
    engine.snapshot()
    found = {
        (record.channel.value, record.id): body(record.channel.value, record.value) for record in sink.records
    }
    raised = {key for key in found if key[0] == "alerts" and key[1].endswith(":0001")}
    assert len(raised) >= ASSETS
    assert {channel for channel, _ in found} >= {"alerts", "dead_letter"}
    return found


def body(channel: str, value: bytes | None) -> bytes | None:
    """What must be equal: an alert's data. Where it came from stands beside it."""
    if channel == "dead_letter" or value is None:
        return value
    return msgspec.json.encode(msgspec.json.decode(value)["data"], order="sorted")


class Plant:
    """A topic, its changelog and outputs, the daemons on them, and what came out."""

    def __init__(
        self, broker: AnyBroker, trained: World, new_topic: Callable[..., str], topics: SinkTopics
    ) -> None:
        self.bootstrap = broker.bootstrap
        self.topics = topics
        self.topic = new_topic(PARTITIONS)
        self.changelog = new_topic(PARTITIONS, {"cleanup.policy": "compact"})
        self.trained = trained
        self.fed: Counter[int] = Counter(dict.fromkeys(range(PARTITIONS), 0))
        self.running: list[SharedEngine] = []
        self.ledgers: list[KafkaLedger] = []

    def daemon(self, max_record_bytes: int = 2**20, **settings: Any) -> SharedEngine:
        servers, layout = (self.bootstrap,), layout_of(self.trained.settings)
        wanted = {"session_seconds": 6.0, "check_seconds": 1.0, "max_poll_records": 40, **settings}
        source = KafkaGroupSource(
            KafkaSourceSettings(
                bootstrap_servers=servers, topic=self.topic, group=f"{self.topic}-group", **wanted
            ),
            Codec(layout),
        )
        sink = KafkaSinkSettings(
            bootstrap_servers=servers,
            topics=self.topics,
            transaction_seconds=5.0,
            max_record_bytes=max_record_bytes,
        )
        ledger = KafkaLedger(sink, self.changelog, self.topic, lambda: source.member)
        bundles = {"unit": self.trained.model.bundle_id}
        engine = SharedEngine(
            source, ChangelogCheckpoint(ledger), self.trained.pipeline, bundles, structlog.get_logger()
        )
        engine.open("earliest")
        self.running.append(engine)
        self.ledgers.append(ledger)
        return engine

    def feed(self, records: list[RawRecord]) -> None:
        self.fed.update(r.partition for r in records)
        produce(self.bootstrap, self.topic, [(r.key, r.value, r.partition) for r in records])

    def folded(self, *daemons: SharedEngine) -> Callable[[], bool]:
        """Whether these hold all partitions between them and have folded everything."""

        def reached() -> bool:
            at = [pair for daemon in daemons for pair in (daemon._durable | daemon._positions).items()]
            return sorted(at) == sorted(self.fed.items())

        return reached

    def read(self) -> list[tuple[str, str, bytes | None]]:
        """What a reader of committed records gets of every output topic."""
        found: list[tuple[str, str, bytes | None]] = []
        for channel in Channel:
            for record in committed(self.bootstrap, self.topics.of(channel)):
                name = dict(record.headers)["nuwatch-id"].decode()
                found.append((channel.value, name, body(channel.value, record.value)))
        return found

    def check(self, expected: Out, *, once: bool = True) -> None:
        found = self.read()
        assert {(channel, name) for channel, name, _ in found} == set(expected)
        assert [f for f in found if expected[f[0], f[1]] != f[2]] == []
        twice = {key: n for key, n in Counter((channel, name) for channel, name, _ in found).items() if n > 1}
        assert not once or twice == {}


@pytest.fixture
def plant(
    kafka_broker: AnyBroker, trained: World, new_topic: Callable[..., str], kafka_topics: SinkTopics
) -> Iterator[Plant]:
    made = Plant(kafka_broker, trained, new_topic, kafka_topics)
    yield made
    for engine in made.running:
        engine.close()


def step(*daemons: SharedEngine) -> None:
    for daemon in daemons:
        daemon.step(0.1)


def until(enough: Callable[[], bool], *daemons: SharedEngine, seconds: float = 150.0) -> None:
    deadline = time.monotonic() + seconds
    while not enough():
        assert time.monotonic() < deadline, [(sorted(d.pipelines), d.lag) for d in daemons]
        step(*daemons)


def test_partitions_move_with_their_state_when_daemons_come_and_go(
    plant: Plant, stream: list[RawRecord], expected: Out
) -> None:
    third = len(stream) // 3
    one = plant.daemon()
    plant.feed(stream[:third])
    until(plant.folded(one), one)
    one.snapshot()
    two = plant.daemon()
    plant.feed(stream[third : third + 100])
    until(lambda: len(two.pipelines) == 2 and plant.folded(one, two)(), one, two)
    assert sorted(len(p.assets) for p in two.pipelines.values()) == [2, 2]
    plant.feed(stream[third + 100 : 2 * third])
    until(plant.folded(one, two), one, two)
    one.snapshot()
    one.close()
    plant.feed(stream[2 * third :])
    until(plant.folded(two), two)
    two.snapshot()
    plant.check(expected)


def test_a_daemon_that_was_cut_off_publishes_nothing_and_commits_nothing(
    plant: Plant, stream: list[RawRecord], expected: Out
) -> None:
    """It has folded what it has not published, believes that the partitions are its own, and goes on."""
    half = len(stream) // 2
    zombie = plant.daemon(max_poll_seconds=12.0)
    plant.feed(stream[:half])
    until(plant.folded(zombie), zombie)
    zombie.snapshot()

    heir = plant.daemon()
    until(plant.folded(heir), heir)
    plant.feed(stream[half:])
    until(plant.folded(heir), heir)
    heir.snapshot()
    before = plant.read()
    rows = {p: list(plant.ledgers[1].rows(p)) for p in range(PARTITIONS)}

    # What it would have folded meanwhile: it has fetched it before it was stopped.
    polled = _polled_of(plant, stream[half:])
    for one in polled:
        outcome = zombie.pipelines[one.partition].push(one)
        zombie._positions[one.partition] = one.position
        if outcome.records:
            zombie._checkpoint.publish(outcome.records)
            with pytest.raises(Aborted):
                zombie._shared_checkpoint.settle()
    with pytest.raises(Aborted):
        Engine.snapshot(zombie)
    assert plant.read() == before
    assert {p: list(plant.ledgers[1].rows(p)) for p in range(PARTITIONS)} == rows

    zombie.snapshot()  # this time the error is taken for what it is
    assert zombie.pipelines == {}
    until(lambda: len(zombie.pipelines) == 2 and plant.folded(zombie, heir)(), zombie, heir)
    plant.check(expected)


def _polled_of(plant: Plant, records: list[RawRecord]) -> list[Any]:
    codec = Codec(layout_of(plant.trained.settings))
    parts = [[r for r in records if r.partition == p] for p in range(PARTITIONS)]
    return [codec.poll(part) for part in parts]


@pytest.mark.parametrize("when", ["rows", "offsets", "commit"])
def test_an_aborted_transaction_is_folded_again_from_the_last_one(
    plant: Plant, stream: list[RawRecord], expected: Out, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Also where nobody can say whether it was committed."""
    from kafka.errors import KafkaTimeoutError

    from connectors.kafka import ledger

    failures = iter([False, True] * 4)
    name = {"rows": "suppress", "offsets": "send_offsets", "commit": "commit_transaction"}[when]
    real = getattr(ledger, name)

    def failing(*arguments: Any) -> Any:
        result = real(*arguments)
        if next(failures, False):
            raise KafkaTimeoutError("no answer")
        return result

    one = plant.daemon()
    until(plant.folded(one), one)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, name, failing)
        for at in range(0, len(stream), 400):
            plant.feed(stream[at : at + 400])
            until(plant.folded(one), one)
            one.snapshot()
    assert next(failures, None) is None, "not every failure was met"
    until(plant.folded(one), one)
    one.snapshot()
    plant.check(expected)


def test_rows_larger_than_a_record_may_be_move_in_parts(
    plant: Plant, stream: list[RawRecord], expected: Out
) -> None:
    half = len(stream) // 2
    one = plant.daemon(max_record_bytes=4000)
    plant.feed(stream[:half])
    until(plant.folded(one), one)
    one.snapshot()
    one.close()
    parts = [int(key.rpartition(b"/")[2]) for key, _ in plant.ledgers[0].rows(0) if key.startswith(b"row/")]
    assert max(parts) >= 1, "the rows of this test are too small to be cut"
    two = plant.daemon(max_record_bytes=4000)
    plant.feed(stream[half:])
    until(plant.folded(two), two)
    two.snapshot()
    plant.check(expected)


def test_a_partition_without_records_keeps_its_beginning_when_it_moves(
    plant: Plant, stream: list[RawRecord]
) -> None:
    """Begun at the end, it must not be begun at a later end by the next daemon: what came between would be lost."""
    one = plant.daemon()
    one._source._start = "latest"  # type: ignore[attr-defined]
    until(lambda: len(one._durable) == PARTITIONS, one)
    one.close()
    plant.feed(stream[:200])
    two = plant.daemon()
    two._source._start = "latest"  # type: ignore[attr-defined]
    until(plant.folded(two), two)
    assert sum(len(p.assets) for p in two.pipelines.values()) == ASSETS


def test_a_damaged_row_is_rebuilt_from_the_topic_and_replaced(plant: Plant, stream: list[RawRecord]) -> None:
    third = len(stream) // 3
    one = plant.daemon()
    plant.feed(stream[:third])
    until(plant.folded(one), one)
    one.snapshot()
    one.close()
    key = next(key for key, _ in plant.ledgers[0].rows(0) if key.startswith(b"row/"))
    produce(plant.bootstrap, plant.changelog, [(key, b"nonsense", 0)])
    two = plant.daemon()
    plant.feed(stream[third : 2 * third])
    until(plant.folded(two), two)
    assert set(two.damaged) == {0}
    assert "partition 0: row of 'plant/0': got b'nonsense', expected version" in two.damaged[0].reason
    two.snapshot()
    two.close()
    three = plant.daemon()
    plant.feed(stream[2 * third :])
    until(plant.folded(three), three)
    assert three.damaged == {}
    assert len(three.pipelines[0].assets) == 2
