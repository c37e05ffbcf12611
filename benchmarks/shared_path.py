"""What sharing a topic costs: alerts in transactions, beside a daemon with a state folder, in the same minutes.

Both daemons read one topic and publish to topics of their own. Readers wait for the alerts; latency is when a reader
has an alert, less the broker's stamp of the record that closed its window, on one clock. A transaction's alerts are in
the topic before they are committed; a reader that does not ask for committed records shows what that part alone takes.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from benchmarks.kafka_path import (
    PARTITIONS,
    Log,
    Topics,
    daemon_on,
    faulty,
    new_topics,
    records_of,
    send,
)
from benchmarks.measure import Figure, Scale
from benchmarks.plant import frames, normal
from tests.broker import AnyBroker, obtain

QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("largest", 1.0))


class Seen(NamedTuple):
    """An alert, and when a reader had it, in epoch milliseconds."""

    value: bytes
    ms: float


def run(scale: Scale) -> list[Figure]:
    """Latency of the three readers."""
    broker = obtain()
    try:
        return _measured(broker, scale)
    finally:
        broker.stop()


def _measured(broker: AnyBroker, scale: Scale) -> list[Figure]:
    alone = new_topics(broker)
    shared = new_topics(broker)._replace(sensors=alone.sensors)
    changelog = f"{shared.alerts}-state"
    broker.create_topic(changelog, PARTITIONS, {"cleanup.policy": "compact"})
    assets = max(2, scale.live_rate // 10)
    lead = frames(normal(scale, assets, 2 * scale.length), 0, 0)
    stream = frames(faulty(scale, assets, 10 * scale.live_seconds), 2 * scale.length, 0)
    with (
        daemon_on(broker, alone, scale, 1) as folder,
        daemon_on(broker, shared, scale, 1, f"{{interval: 1s, changelog: {changelog}}}") as member,
        _reading(broker, alone, committed=True) as of_folder,
        _reading(broker, shared, committed=False) as uncommitted,
        _reading(broker, shared, committed=True) as committed,
    ):
        for daemon in (folder, member):
            daemon.started()
        send(broker.bootstrap, alone.sensors, lead)
        for daemon in (folder, member):
            daemon.idle_for(3.0)
        send(broker.bootstrap, alone.sensors, stream, pace=scale.live_rate)
        for daemon in (folder, member):
            daemon.idle_for(2.0)
    sent = records_of(broker.bootstrap, alone.sensors)
    after = sorted(one.ms for one in sent.values())[len(lead)]
    case = f"{scale.live_rate} records/s, {assets} assets, for {scale.live_seconds} s; append to a reader's receipt"
    readers = (
        ("state folder", of_folder),
        ("changelog, any reader", uncommitted),
        ("changelog, committed reader", committed),
    )
    return [figure for name, seen in readers for figure in _figures(case, name, sent, seen, after)]


def _figures(case: str, name: str, sent: Log, seen: list[Seen], after: int) -> list[Figure]:
    latency: list[float] = []
    for alert in seen:
        event = json.loads(alert.value)
        closing = sent[event["nuwatchpartition"], event["nuwatchoffset"]]
        if closing.ms >= after:
            latency.append((alert.ms - closing.ms) / 1000)
    return [
        Figure(case, f"{name}, {word} of {len(latency)} alerts", "s", None, float(np.quantile(latency, q)))
        for word, q in QUANTILES
    ]


@contextmanager
def _reading(broker: AnyBroker, topics: Topics, *, committed: bool) -> Generator[list[Seen]]:
    """Collect alerts in the background, as they come."""
    seen: list[Seen] = []
    done = threading.Event()

    def read() -> None:
        consumer = KafkaConsumer(
            bootstrap_servers=broker.bootstrap,
            group_id=None,
            isolation_level="read_committed" if committed else "read_uncommitted",
            fetch_max_wait_ms=50,
        )
        top = TopicPartition(topics.alerts, 0)
        consumer.assign([top])
        consumer.seek(top, 0)
        while not done.is_set():
            for records in consumer.poll(100).values():
                now = time.time() * 1000
                seen.extend(Seen(one.value, now) for one in records)
        consumer.close()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield seen
    finally:
        done.set()
        reader.join()
