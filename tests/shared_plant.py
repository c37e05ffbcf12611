"""A plant of twelve assets on a topic of four partitions, daemons on it as processes, and what must come out of it."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from connectors.kafka import KafkaSinkSettings, SinkTopics, send_command
from connectors.memory import MemorySink, MemorySource
from connectors.records import Channel, RawRecord
from models.bundle import Bundle
from monitor import changelog
from monitor.bundles import write_bundle
from monitor.checkpoint import Entry, MemoryCheckpoint
from monitor.cli.common import load_models, pipeline_factory
from monitor.cli.jobs.reload import Generations, Shelf, generation_of
from monitor.configuration import parse, read
from monitor.connect import layout_of
from monitor.control import Command
from monitor.engine import Engine
from monitor.journal import ExportedJournal
from monitor.quantities import iso_time
from monitor.training import train
from tests.chaos import Launcher
from tests.kafka_reader import committed
from tests.worlds import SECOND, START, autoregressive, batch_of

SENSORS, ASSETS, PARTITIONS = 3, 12, 4
CONFIG = """
site: test
source:
  kind: kafka
  {connection}
  topic: {topic}
  group: {topic}-group
  session_seconds: 6
  max_poll_seconds: 10
  check_seconds: 2
  max_poll_records: 200
sink:
  kind: kafka
  {connection}
  topics: {{alerts: {alerts}, thresholds: {thresholds}, dead_letter: {dead_letter}}}
  transaction_seconds: 4
state: {{interval: 500ms, changelog: {changelog}}}
asset_classes:
  unit:
    assets: ["plant/*"]
    sampling: 1s
    sensors:
      s0: {{unit: Cel}}
      s1: {{unit: bar}}
      s2: {{unit: kg/h}}
    window: {{length: 8}}
    time: {{lateness: 2s, max_age: 3s, silence: 10min}}
    scoring: {{scorers: {{pca: {{}}}}, fit_windows: 1024, block: 32}}
    calibration: {{nu: 0.02, enough: 1}}
    drift: {{samples: 60}}
    alerting: {{on_delay: 2s, off_delay: 5s, realert: 20s}}
"""

Out = dict[tuple[str, str], bytes | None]


@cache
def trained() -> Bundle:
    """One bundle for every plant."""
    text = CONFIG.format(
        connection="bootstrap_servers: [x]",
        topic="x",
        changelog="x",
        alerts="a",
        thresholds="b",
        dead_letter="c",
    )
    history = batch_of({f"plant/{n}": autoregressive(n, 900, SENSORS, 0.5) for n in range(2)})
    asset_class = parse(text, Path("plant.yaml")).settings.asset_classes["unit"]
    return train(asset_class, "unit", [history], config_hash="config").bundle


def body(channel: str, value: bytes | None) -> bytes | None:
    """What must be equal: an alert's data. Where it came from stands beside it."""
    if channel == "dead_letter" or value is None:
        return value
    return msgspec.json.encode(msgspec.json.decode(value)["data"], order="sorted")


def stream(rows: int, seed: int) -> list[RawRecord]:
    """Rows of every asset in order of time; each asset steps away again and again; some records are broken."""
    values = [autoregressive(seed + n, rows, SENSORS, 0.5) for n in range(ASSETS)]
    for n in range(ASSETS):
        for begin in range(20 + 7 * n, rows, 90):
            values[n][begin : begin + 30, n % SENSORS] += 8.0
    records: list[RawRecord] = []
    offsets = [0] * PARTITIONS
    for row in range(rows):
        for n in range(ASSETS):
            reading = {f"s{d}": float(values[n][row, d]) for d in range(SENSORS)}
            frame = {"asset": f"plant/{n}", "ts": iso_time(START + row * SECOND), "values": reading}
            value = b"{" if (row * ASSETS + n) % 97 == 96 else msgspec.json.encode(frame)
            at = n % PARTITIONS
            records.append(RawRecord(at, offsets[at], f"plant/{n}".encode(), value))
            offsets[at] += 1
    return records


class Process:
    """`nuwatch run` as a process of its own, with a log of its own."""

    def __init__(self, folder: Path, name: str, launcher: Launcher, environment: Mapping[str, str]) -> None:
        self.path = folder / f"{name}.log"
        self._begun = self.path.stat().st_size if self.path.exists() else 0
        self.life = launcher.start(folder, log=self.path.name, environment=environment)

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log with this event; those of an earlier process of its name are left out."""
        raw = self.path.read_bytes() if self.path.exists() else b""
        lines = raw[self._begun :].decode().splitlines()
        found = [msgspec.json.decode(line) for line in lines if line.startswith("{")]
        return [line for line in found if line.get("event") == event]

    def signal(self, number: signal.Signals) -> None:
        self.life.signal(number)

    def end(self, number: signal.Signals) -> int:
        return self.life.end(number, 90)


class SharedPlant:
    """Topics, a trained configuration in ``folder``, a feed, and processes.

    ``connection`` is how the processes come to the broker, as lines of YAML, with ``environment``; the plant itself
    comes to ``bootstrap``.
    """

    def __init__(
        self,
        folder: Path,
        bootstrap: str,
        new_topic: Callable[..., str],
        topics: SinkTopics,
        launcher: Launcher,
        connection: str = "",
        environment: Mapping[str, str] | None = None,
        control: str | None = None,
    ) -> None:
        self.control = control
        self.folder, self.bootstrap, self.topics = folder, bootstrap, topics
        self._launcher, self._environment = launcher, environment or {}
        self._connection = connection or f"bootstrap_servers: [{bootstrap}]"
        self.topic = new_topic(PARTITIONS)
        self.changelog = new_topic(PARTITIONS, {"cleanup.policy": "compact"})
        self.processes: list[Process] = []
        self._configure()

    def _configure(self) -> None:
        names = {name: getattr(self.topics, name) for name in ("alerts", "thresholds", "dead_letter")}
        text = CONFIG.format(connection=self._connection, topic=self.topic, changelog=self.changelog, **names)
        if self.control is not None:
            text += f"control: {{topic: {self.control}}}\n"
        (self.folder / "plant.yaml").write_text(text)
        write_bundle(trained(), read(self.folder / "plant.yaml").bundle_path("unit"))

    def expected(
        self, records: Sequence[RawRecord], journals: Mapping[int, Sequence[Entry]] | None = None
    ) -> Out:
        """What one undisturbed daemon publishes, by channel and id, with the commands that act where journals say."""
        configuration = read(self.folder / "plant.yaml")
        models = load_models(configuration)
        sink = MemorySink()
        engine = Engine(
            MemorySource(list(records), layout_of(configuration.settings), cuts=(100,)),
            MemoryCheckpoint(sink),
            pipeline_factory(configuration, models, self.topic, replay=False),
            {name: model.bundle_id for name, model in models.items()},
            None if journals is None else ExportedJournal(journals),
        )
        if journals is not None:
            made = Generations(configuration, Shelf(models, self.folder / "state"), replay=False)
            engine.in_force(generation_of(configuration, models, replay=False).change, made)
        engine.open("earliest")
        while not engine.exhausted:
            engine.step(0.0)
        engine.snapshot()
        return {
            (record.channel.value, record.id): body(record.channel.value, record.value)
            for record in sink.records
        }

    def start(self, name: str) -> Process:
        self.processes.append(Process(self.folder, name, self._launcher, self._environment))
        return self.processes[-1]

    def feed(self, records: Iterable[RawRecord], per_second: float = 0.0) -> threading.Thread:
        """Send in the background, at a rate."""

        def send() -> None:
            producer = KafkaProducer(bootstrap_servers=self.bootstrap)
            begun = time.monotonic()
            for number, record in enumerate(records):
                producer.send(self.topic, key=record.key, value=record.value, partition=record.partition)
                if per_second and number % 20 == 0:
                    time.sleep(max(0.0, begun + number / per_second - time.monotonic()))
            producer.close()

        thread = threading.Thread(target=send)
        thread.start()
        return thread

    def command(self, command: Command) -> int:
        """Put a command on the control topic; returns its offset."""
        settings = KafkaSinkSettings(bootstrap_servers=(self.bootstrap,))
        return send_command(settings, str(self.control), b"key", msgspec.json.encode(command))

    def positions(self) -> dict[int, int]:
        """What the group has committed, without joining it."""
        asker = KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=f"{self.topic}-group")
        try:
            return {p: asker.committed(TopicPartition(self.topic, p)) or 0 for p in range(PARTITIONS)}
        finally:
            asker.close(autocommit=False)

    def wait_until_folded(self, records: Sequence[RawRecord], seconds: float) -> None:
        want = Counter(record.partition for record in records)
        self.wait(lambda: self.positions() == want, seconds, f"the group to reach {dict(want)}")

    def wait(self, enough: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not enough():
            assert time.monotonic() < deadline, (
                f"waited {seconds} s for {what}; {self.positions()}\n{self.logs()}"
            )
            time.sleep(0.3)

    def logs(self) -> str:
        return "\n".join(
            f"{one.path.name} ({'over' if one.life.over else 'running'}):\n{one.path.read_text()[-1500:]}"
            for one in self.processes
        )

    def published(self) -> list[tuple[str, str, bytes | None]]:
        """Channel, id and body of what a committed reader gets; what daemons say of their own health is left out."""
        found: list[tuple[str, str, bytes | None]] = []
        for channel in Channel:
            for record in committed(self.bootstrap, self.topics.of(channel)):
                content = body(channel.value, record.value)
                if b"MONITOR_HEALTH" not in (content or b""):
                    found.append((channel.value, dict(record.headers)["nuwatch-id"].decode(), content))
        return found

    def check(self, expected: Out) -> int:
        """The same ids with the same bodies, and one writer per partition at a time; returns how many came twice."""
        found = self.published()
        assert {(channel, name) for channel, name, _ in found} == set(expected)
        assert [f for f in found if expected[f[0], f[1]] != f[2]] == []
        positions = self.markers()
        assert {p: sorted(at) for p, at in positions.items()} == positions, (
            "two wrote a partition's state in turns"
        )
        assert set(positions) == set(range(PARTITIONS))
        return len(found) - len(expected)

    def markers(self) -> dict[int, list[int]]:
        """The positions of every checkpoint, by partition, in the order in which they were committed."""
        found: dict[int, list[int]] = {}
        rows = (r for r in committed(self.bootstrap, self.changelog) if r.key == b"marker")
        for record in rows:
            state = changelog.assemble([(record.key, record.value)], "test")
            assert state is not None
            found.setdefault(record.partition, []).append(state.state.marker.position)  # type: ignore[union-attr]
        return found

    def close(self) -> None:
        for one in self.processes:
            one.end(signal.SIGKILL)
