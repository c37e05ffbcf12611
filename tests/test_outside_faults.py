"""The daemon on a real broker that goes away, refuses, or is reached through bad weather: the same alerts as in calm.

Each row produces a stream in two halves. The first is read in calm; then the fault comes, the second half is produced
at the broker itself, the fault ends, and what was published must be what an undisturbed fold of the same records gives.
A fault lasts for seconds here, and for minutes with ``--chaos``.
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.codec import Codec
from connectors.kafka import KafkaSink, KafkaSinkSettings, KafkaSource, KafkaSourceSettings, SinkTopics
from connectors.kafka.settings import SecretFrom, Security
from connectors.memory import MemorySink, MemorySource
from connectors.records import RawRecord
from monitor.activity import Activity
from monitor.alerting.alerts import Origin
from monitor.alerting.short_form import shorter
from monitor.checkpoint import MemoryCheckpoint
from monitor.connect import layout_of
from monitor.daemon import Daemon, Stop
from monitor.durable.checkpoint import SqliteCheckpoint
from monitor.engine import Engine
from monitor.health.vitals import NotReady, Vitals
from monitor.health.watch import Watch
from monitor.quantities import Duration, iso_time
from monitor.settings import Health, Http, Settings, State
from tests.broker import (
    GUARDED,
    GUARDED_PASSWORD,
    AnyBroker,
    Broker,
    Rule,
    allow,
    delete_topic,
    forbid,
    produce,
)
from tests.kafka_reader import everything
from tests.proxy import CALM, Proxy, Weather
from tests.worlds import SECOND, START, World, autoregressive, batch_of, configuration_text, world

pytestmark = [pytest.mark.kafka, pytest.mark.chaos]

SENSORS, LENGTH, ROWS, ASSETS = 3, 8, 240, 3
HALF = ROWS * ASSETS // 2
REQUEST_TIMEOUT_S = 30.0
"""Of the Kafka clients: after a fault has ended, the first alert comes within twice this."""
LONG = 150.0


@cache
def trained() -> World:
    text = configuration_text(SENSORS, LENGTH, "{pca: {}}", "    alerting: {on_delay: 2s, off_delay: 5s}")
    return world(text, [batch_of({f"plant/{n}": autoregressive(n, 900, SENSORS, 0.5) for n in range(2)})])


@cache
def records() -> list[tuple[bytes, bytes, int]]:
    """Frames of all assets, one a second, keyed by asset, an asset in one partition; faults in both halves."""
    values = {f"plant/{n}": autoregressive(70 + n, ROWS, SENSORS, 0.5) for n in range(ASSETS)}
    for number, column in enumerate(values.values()):
        for at in range(30 + 5 * number, ROWS - 20, 40):
            column[at : at + 12, number % SENSORS] += 9.0
    found: list[tuple[bytes, bytes, int]] = []
    for row in range(ROWS):
        for number, (asset, column) in enumerate(values.items()):
            frame = {
                "asset": asset,
                "ts": iso_time(START + row * SECOND),
                "values": {f"s{d}": float(x) for d, x in enumerate(column[row])},
            }
            found.append((asset.encode(), msgspec.json.encode(frame), number % 2))
    return found


@cache
def expected(count: int = ROWS * ASSETS) -> dict[str, Any]:
    """Data by id of what a fold of the first records publishes, without any outside."""
    offsets, raw = [0, 0], list[RawRecord]()
    for key, value, partition in records()[:count]:
        raw.append(RawRecord(partition, offsets[partition], key, value))
        offsets[partition] += 1
    sink = MemorySink()
    source = MemorySource(raw, layout_of(trained().settings), cuts=(50,))
    engine = Engine(source, MemoryCheckpoint(sink), trained().pipeline, {"unit": trained().model.bundle_id})
    engine.open("earliest")
    while not engine.exhausted:
        engine.step(0.0)
    engine.snapshot()
    found = contents((record.id, record.value) for record in sink.records if record.channel == "alerts")
    assert len(found) >= 3
    return found


def contents(pairs: Any) -> dict[str, Any]:
    """Data by id, without what the daemon says of itself; one id has one body."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        data = msgspec.json.decode(value)["data"]
        if data["kind"] != "MONITOR_HEALTH":
            assert found.setdefault(name, data) == data
    return found


class Live:
    """A daemon in a thread, on real topics.

    Args:
        folder: of its state.
        sensors: its input topic.
        reading: connection of the source.
        writing: connection of the sink, with its topics.
        state: settings.
    """

    def __init__(
        self,
        folder: Path,
        sensors: str,
        reading: Mapping[str, Any],
        writing: Mapping[str, Any],
        **state: Any,
    ) -> None:
        plant = trained()
        settings = msgspec.structs.replace(
            plant.settings,
            state=State(**({"interval": Duration.parse("300ms")} | state)),
            health=Health(http=Http(enabled=False), delay=Duration.parse("1s")),
        )
        self.stop = Stop()
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.failure: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(folder, sensors, settings, reading, writing), daemon=True
        )
        self._thread.start()
        assert self._ready.wait(60), self.failure

    def _made(
        self,
        folder: Path,
        sensors: str,
        settings: Settings,
        reading: Mapping[str, Any],
        writing: Mapping[str, Any],
    ) -> Daemon:
        plant, activity = trained(), Activity()
        source = KafkaSource(
            KafkaSourceSettings(**reading, topic=sensors, group=None, check_seconds=1.0),
            Codec(layout_of(settings)),
        )
        sink = KafkaSink(KafkaSinkSettings(**writing), shorter)
        self.vitals = Vitals(settings.health, activity, lambda: self.stop.asked)
        self.watch = Watch(settings, self.vitals, self, lambda: 0, Origin(sensors, 0, 0, False, "0"))
        self.engine = Engine(
            source,
            SqliteCheckpoint(folder, sink, 2.0),
            plant.pipeline,
            {"unit": plant.model.bundle_id},
            activity=activity,
        )
        return Daemon(self.engine, settings.state, self.stop, self, self.watch)

    def __getattr__(self, level: str) -> Any:
        if level.startswith("_"):
            raise AttributeError(level)
        return lambda event, **fields: self.lines.append((event, fields))

    def _run(self, *arguments: Any) -> None:
        try:
            daemon = self._made(*arguments)
            self._ready.set()
            daemon.run("earliest")
        except BaseException as failure:  # told by the test's thread
            self.failure = failure

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.lines]

    def wait(self, enough: Callable[[], bool], seconds: float = LONG) -> None:
        deadline = time.monotonic() + seconds
        while not enough():
            assert self.failure is None, self.failure
            assert time.monotonic() < deadline, self.lines[-10:]
            time.sleep(0.05)

    def wait_until_done(self, count: int, seconds: float = LONG) -> None:
        """Until so many records are read, and everything of them is durable."""
        self.wait(lambda: self.read() >= count, seconds)
        before = self.vitals.durable_at
        self.wait(lambda: self.vitals.durable_at > before or self.engine.outbox.events == 0, seconds)

    def read(self) -> int:
        """Records read: offsets begin at 0."""
        return sum(dict(self.engine._positions).values())

    def end(self) -> None:
        self.stop.ask()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.failure is None, self.failure


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether faults last for minutes (``make chaos``) and not for seconds."""
    return bool(request.config.getoption("--chaos", 0))


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[..., Live]]:
    made: list[Live] = []

    def start(*arguments: Any, **named: Any) -> Live:
        made.append(Live(tmp_path / "state", *arguments, **named))
        return made[-1]

    yield start
    for one in made:
        one.stop.ask()
        one._thread.join(60)


@pytest.fixture
def broker(kafka_broker: AnyBroker) -> Broker:
    if not isinstance(kafka_broker, Broker):
        pytest.skip("only a broker of these tests has a listener for a proxy, and may be killed")
    return kafka_broker


@pytest.fixture
def proxy(broker: Broker) -> Iterator[Proxy]:
    with Proxy(broker.proxy_port, broker.proxied_port) as made:
        yield made


@pytest.fixture
def by_proxy(broker: Broker) -> dict[str, Any]:
    return {"bootstrap_servers": (f"127.0.0.1:{broker.proxy_port}",)}


def published(broker: Broker, topics: SinkTopics) -> dict[str, Any]:
    alerts = everything(broker.bootstrap, topics.alerts)
    return contents((dict(record.headers)["nuwatch-id"].decode(), record.value) for record in alerts)


def disturbed(
    running: Live,
    broker: Broker,
    sensors: str,
    come: Callable[[], None],
    go: Callable[[], None],
    hold_s: float,
) -> None:
    """Calm, fault, calm again, and a stop; after the fault the first news come within twice the time-out."""
    produce(broker.bootstrap, sensors, records()[:HALF])
    running.wait_until_done(HALF)
    come()
    try:
        produce(broker.bootstrap, sensors, records()[HALF:])
        time.sleep(hold_s)
    finally:
        go()
    before = running.read()
    if before < len(records()):
        running.wait(lambda: running.read() > before, 2 * REQUEST_TIMEOUT_S)
    running.wait_until_done(len(records()))
    running.end()


WEATHERS = {
    "500 ms late": Weather(delay_s=0.5),
    "1 % resets": Weather(reset_share=0.01),
    "20 % resets": Weather(reset_share=0.2),
    "swallowed": Weather(swallow=True),
    "1 KB/s": Weather(bytes_per_s=1024),
}


@pytest.mark.parametrize("name", WEATHERS)
def test_bad_weather_on_the_way_to_the_broker_changes_no_alert(
    broker: Broker,
    proxy: Proxy,
    by_proxy: dict[str, Any],
    new_topic: Callable[..., str],
    kafka_topics: SinkTopics,
    live: Callable[..., Live],
    long: bool,
    name: str,
) -> None:
    sensors = new_topic(2)
    running = live(sensors, by_proxy, by_proxy | {"topics": kafka_topics})

    def come() -> None:
        proxy.weather = WEATHERS[name]

    def go() -> None:
        proxy.weather = CALM

    disturbed(running, broker, sensors, come, go, hold_s=120.0 if long else 4.0)
    assert proxy.resets or name != "20 % resets"
    assert published(broker, kafka_topics) == expected()


def away(
    broker: Broker,
    new_topic: Callable[..., str],
    topics: SinkTopics,
    live: Callable[..., Live],
    seconds: float,
) -> None:
    """The broker is killed with records to come and alerts to publish, and stays away."""
    sensors = new_topic(2)
    direct = {"bootstrap_servers": (broker.bootstrap,)}
    running = live(sensors, direct, direct | {"topics": topics})
    produce(broker.bootstrap, sensors, records()[:HALF])
    running.wait_until_done(HALF)
    produce(broker.bootstrap, sensors, records()[HALF:])
    broker.kill()
    try:
        time.sleep(seconds)
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert running.failure is None
        if seconds > 5:
            assert NotReady.SOURCE in {reason.code for reason in running.vitals.not_ready()}
    finally:
        broker.revive()
    running.wait_until_done(len(records()))
    running.wait(lambda: running.engine.lag == 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 100 * 1024, "kB"
    running.end()
    assert published(broker, topics) == expected()


def test_a_broker_that_is_killed_and_away_for_a_while_costs_time_and_no_alert(
    broker: Broker,
    new_topic: Callable[..., str],
    kafka_topics: SinkTopics,
    live: Callable[..., Live],
    long: bool,
) -> None:
    away(broker, new_topic, kafka_topics, live, 180.0 if long else 8.0)


def test_an_alert_topic_that_is_missing_for_a_while_pauses_the_input_and_loses_nothing(
    broker: Broker, new_topic: Callable[..., str], kafka_topics: SinkTopics, live: Callable[..., Live]
) -> None:
    """What the topic had before it was deleted is lost with it; all that came later is there."""
    sensors = new_topic(2)
    direct = {"bootstrap_servers": (broker.bootstrap,)}
    running = live(sensors, direct, direct | {"topics": kafka_topics}, outbox=5)
    produce(broker.bootstrap, sensors, records()[:HALF])
    running.wait_until_done(HALF)
    first = published(broker, kafka_topics)
    delete_topic(broker.bootstrap, kafka_topics.alerts)
    produce(broker.bootstrap, sensors, records()[HALF:])
    running.wait(lambda: "input_paused" in running.events)
    assert {NotReady.SINK, NotReady.PAUSED} <= {reason.code for reason in running.vitals.not_ready()}
    broker.create_topic(kafka_topics.alerts, 2)
    running.wait_until_done(len(records()))
    running.end()
    assert "input_resumed" in running.events
    assert first | published(broker, kafka_topics) == expected()


def test_an_alert_topic_that_we_may_not_write_for_a_while_pauses_the_input_and_loses_nothing(
    broker: Broker,
    new_topic: Callable[..., str],
    kafka_topics: SinkTopics,
    live: Callable[..., Live],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not broker.secure_bootstrap:
        pytest.skip("this broker has no secured listeners")
    monkeypatch.setenv("NUWATCH_GUARDED", GUARDED_PASSWORD)
    sensors = new_topic(2)
    security = Security(
        protocol="SASL_SSL",
        ca_file=str(broker.ca_file),
        mechanism="SCRAM-SHA-512",
        username=GUARDED,
        password=SecretFrom(env="NUWATCH_GUARDED"),
    )
    names = (kafka_topics.alerts, kafka_topics.thresholds, kafka_topics.dead_letter)
    rules = [
        Rule("TOPIC", topic, operation) for topic in names for operation in ("WRITE", "READ", "DESCRIBE")
    ]
    allow(broker.bootstrap, GUARDED, rules)
    guarded = {"bootstrap_servers": (broker.secure_bootstrap,), "security": security}
    running = live(
        sensors,
        {"bootstrap_servers": (broker.bootstrap,)},
        guarded | {"topics": kafka_topics},
        outbox=5,
    )
    taken = [rule for rule in rules if rule.name == kafka_topics.alerts and rule.operation == "WRITE"]

    def paused() -> None:
        running.wait(lambda: "input_paused" in running.events)
        allow(broker.bootstrap, GUARDED, taken)

    disturbed(running, broker, sensors, lambda: forbid(broker.bootstrap, GUARDED, taken), paused, hold_s=0.0)
    told = dict(running.lines)["sink_refuses"]["error"]
    assert "TopicAuthorizationFailed" in told
    assert kafka_topics.alerts in told
    assert published(broker, kafka_topics) == expected()
    forbid(broker.bootstrap, GUARDED, rules)


def test_alerts_that_are_too_large_for_their_topic_arrive_in_short_forms(
    broker: Broker, new_topic: Callable[..., str], live: Callable[..., Live]
) -> None:
    alerts = new_topic(configs={"max.message.bytes": "2000"})
    topics = SinkTopics(alerts=alerts, thresholds=new_topic(), dead_letter=new_topic())
    direct = {"bootstrap_servers": (broker.bootstrap,)}
    sensors = new_topic(2)
    running = live(sensors, direct, direct | {"topics": topics})
    produce(broker.bootstrap, sensors, records()[: HALF // 2])
    running.wait_until_done(HALF // 2)
    running.end()
    found, whole = published(broker, topics), expected(HALF // 2)
    assert set(found) == set(whole)
    cut = [name for name, data in found.items() if data.get("truncated")]
    assert cut
    assert all(found[name]["incident_id"] == whole[name]["incident_id"] for name in cut)
    assert all(found[name] == whole[name] for name in found.keys() - cut)
