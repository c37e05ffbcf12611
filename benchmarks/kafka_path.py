"""Kafka: a real broker, the daemon as a process; records a second from a backlog, and append to alert.

Latency is the broker's own: both topics stamp records as they are appended (``LogAppendTime``), one clock for both.
An alert names the input record that closed its window (``nuwatchpartition``, ``nuwatchoffset``); latency is the
alert's stamp less that record's. It holds fetch, decode, window, score, alert, produce and the wait for all of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition
from numpy.typing import NDArray

from benchmarks.measure import Figure, Scale
from benchmarks.plant import configuration, frames, normal, trained
from connectors.records import RawRecord
from monitor.bundles import write_bundle
from tests.broker import AnyBroker, obtain

ROOT = Path(__file__).resolve().parent.parent
STAMPED = {"message.timestamp.type": "LogAppendTime"}
PARTITIONS = 2
PATIENCE_S = 300.0


class Topics(NamedTuple):
    """Names of one case's topics."""

    sensors: str
    alerts: str
    thresholds: str
    dead_letter: str


class Stamped(NamedTuple):
    """A record as it lies in a topic."""

    value: bytes
    ms: int


Log = dict[tuple[int, int], Stamped]
"""Records by (partition, offset)."""


def run(scale: Scale) -> list[Figure]:
    """Both cases on one broker."""
    broker = obtain()
    try:
        backlogs = [figure for stride in scale.strides for figure in _backlog(broker, scale, stride)]
        return backlogs + _live(broker, scale)
    finally:
        broker.stop()


def _backlog(broker: AnyBroker, scale: Scale, stride: int) -> list[Figure]:
    """Records wait before the daemon starts; the last of every asset is out of range and raises an alert."""
    topics = new_topics(broker)
    assets = min(scale.assets, scale.backlog // 40)
    rows = scale.backlog // assets
    values = normal(scale, assets, rows)
    values[-1, :, 0] = 5000.0
    send(broker.bootstrap, topics.sensors, frames(values, 0, 0))
    with daemon_on(broker, topics, scale, stride) as daemon:
        alerts = records_of(broker.bootstrap, topics.alerts, lambda found: _marked(found) >= assets)
        seconds = max(one.ms for one in alerts.values()) / 1000 - daemon.started()
        cpu = daemon.cpu()
    case = f"backlog of {rows * assets} records, {assets} assets, stride {stride}"
    total = rows * assets
    return [
        Figure(case, "through the daemon, 'started' to the last alert", "records/s", None, total / seconds),
        Figure(case, "the daemon's CPU time, start-up included", "s", cpu, None),
    ]


def _live(broker: AnyBroker, scale: Scale) -> list[Figure]:
    """A steady stream in which faults come and go, so that alerts are raised and cleared all the time."""
    topics = new_topics(broker)
    assets = max(2, scale.live_rate // 10)
    lead = frames(normal(scale, assets, 2 * scale.length), 0, 0)
    with daemon_on(broker, topics, scale, 1) as daemon:
        daemon.started()
        send(broker.bootstrap, topics.sensors, lead)
        daemon.idle_for(2.0)
        rows = 10 * scale.live_seconds
        stream = frames(faulty(scale, assets, rows), 2 * scale.length, 0)
        send(broker.bootstrap, topics.sensors, stream, pace=scale.live_rate)
        daemon.idle_for(2.0)
    sent = records_of(broker.bootstrap, topics.sensors)
    alerts = records_of(broker.bootstrap, topics.alerts)
    latency = _latencies(sent, alerts, after=sorted(one.ms for one in sent.values())[len(lead)])
    case = f"{scale.live_rate} records/s, {assets} assets, stride 1, for {scale.live_seconds} s"
    return [
        Figure(case, f"append to alert, {name} of {len(latency)} alerts", "s", None, float(value) / 1000)
        for name, value in zip(
            ("p50", "p90", "p99", "largest"), np.quantile(latency, [0.5, 0.9, 0.99, 1.0]), strict=True
        )
    ]


def faulty(scale: Scale, assets: int, rows: int) -> NDArray[np.float64]:
    """Every asset has a step for 1 s in every 4 s, and one of its sensors leaves its range likewise, by turns."""
    values = normal(scale, assets, rows)
    for asset in range(assets):
        for number, low in enumerate(range(asset % 40, rows - 10, 40)):
            if number % 2:
                values[low : low + 10, asset, 1] += 30.0
            else:
                values[low : low + 10, asset, 0] = 5000.0
    return values


def _latencies(sent: Log, alerts: Log, after: int) -> NDArray[np.float64]:
    """Milliseconds from the closing record's append to the alert's."""
    found: list[int] = []
    for alert in alerts.values():
        event = json.loads(alert.value)
        closing = sent[event["nuwatchpartition"], event["nuwatchoffset"]]
        if closing.ms >= after:
            found.append(alert.ms - closing.ms)
    return np.array(found, np.float64)


def _marked(found: Log) -> int:
    return sum(b'"SENSOR_FAULT"' in one.value for one in found.values())


def new_topics(broker: AnyBroker) -> Topics:
    """The topics of a case, stamped by the broker."""
    names = Topics(*(f"bench-{name}-{uuid.uuid4().hex[:8]}" for name in Topics._fields))
    broker.create_topic(names.sensors, PARTITIONS, STAMPED)
    for name in names[1:]:
        broker.create_topic(name, 1, STAMPED)
    return names


def send(bootstrap: str, topic: str, records: Sequence[RawRecord], pace: int | None = None) -> None:
    """Send records; with a pace, that many a second in portions of 20 ms."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=0 if pace else 20)
    portion = max(1, pace // 50) if pace else len(records)
    begun = time.monotonic()
    for low in range(0, len(records), portion):
        if pace:
            time.sleep(max(0.0, begun + low / pace - time.monotonic()))
        for record in records[low : low + portion]:
            partition = int((record.key or b"0")[-4:]) % PARTITIONS
            producer.send(topic, key=record.key, value=record.value, partition=partition)
    producer.flush()
    producer.close()


def records_of(bootstrap: str, topic: str, enough: Callable[[Log], bool] | None = None) -> Log:
    """A topic from its beginning to its present end, or until there is enough."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
    tops = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)]
    consumer.assign(tops)
    consumer.seek_to_beginning(*tops)
    found: Log = {}
    deadline = time.monotonic() + PATIENCE_S
    try:
        ends: dict[TopicPartition, int] = consumer.end_offsets(tops)
        while not enough(found) if enough else any(ends[top] > (consumer.position(top) or 0) for top in tops):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic}: waited {PATIENCE_S:.0f} s, got {len(found)} records")
            for records in consumer.poll(200).values():
                found |= {(one.partition, one.offset): Stamped(one.value, one.timestamp) for one in records}
        return found
    finally:
        consumer.close()


class Daemon:
    """`nuwatch run` in a process of its own."""

    def __init__(self, folder: Path, start: str) -> None:
        self._log = folder / "daemon.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "monitor", "run", "plant.yaml", "--start", start, "--verbose"],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stderr=log,
            )

    def started(self) -> float:
        """Epoch seconds at which it began to poll, by its own log."""
        return datetime.fromisoformat(str(self._wait_for("started")["timestamp"])).timestamp()

    def idle_for(self, seconds: float) -> None:
        """Wait until nothing waits at the source, and a little longer."""
        deadline = time.monotonic() + PATIENCE_S
        time.sleep(seconds)
        while self._events("snapshot")[-1:] and self._events("snapshot")[-1]["lag"]:
            self._check(deadline, "it has a lag")
            time.sleep(0.2)
        time.sleep(seconds)

    def cpu(self) -> float:
        """CPU seconds that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _wait_for(self, event: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := self._events(event)):
            self._check(deadline, f"no {event!r} yet")
            time.sleep(0.1)
        return found[0]

    def _check(self, deadline: float, what: str) -> None:
        if self.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the daemon: {what}; its log:\n{self._log.read_text()[-2000:]}")

    def _events(self, name: str) -> list[dict[str, Any]]:
        lines = [line for line in self._log.read_text().splitlines() if f'"event": "{name}"' in line]
        return [json.loads(line) for line in lines if line.endswith("}")]


@contextmanager
def daemon_on(
    broker: AnyBroker, topics: Topics, scale: Scale, stride: int, state: str = "{interval: 1s}"
) -> Generator[Daemon]:
    """A daemon on these topics, stopped in order at the end; its group has the name of its alert topic."""
    bootstrap = f"kind: kafka, bootstrap_servers: ['{broker.bootstrap}']"
    out = f"{{alerts: {topics.alerts}, thresholds: {topics.thresholds}, dead_letter: {topics.dead_letter}}}"
    text = configuration(
        scale,
        stride=stride,
        source=f"{{{bootstrap}, topic: {topics.sensors}, group: {topics.alerts}}}",
        sink=f"{{{bootstrap}, topics: {out}}}",
        state=state,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plant.yaml").write_text(text)
        write_bundle(trained(scale).bundle, folder / "bundle")
        daemon = Daemon(folder, "earliest")
        try:
            yield daemon
            daemon.process.send_signal(signal.SIGTERM)
            daemon.process.wait(timeout=60)
        finally:
            if daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.wait()
