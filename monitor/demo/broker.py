"""The demo's plant through a real broker: frames as JSON to one topic, alerts read back from another."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec

from connectors.codec import Codec
from connectors.kafka import KafkaSink, KafkaSinkSettings, KafkaSource, KafkaSourceSettings, SinkTopics
from connectors.kafka.feed import KafkaFeed
from connectors.ports import Sink, Source
from connectors.records import Decoded, Layout, RawRecord
from monitor.plant import Simulation, to_json

PARTITIONS = 2
CONNECT_SECONDS = 10.0


class BrokerFeed:
    """Topics of its own on a broker, with a prefix that nobody else has.

    Args:
        server: host:port of the broker.
        plant: what it sends.
        layout: what the codec must know.
        rows: of the plant, sent at a time.

    Raises:
        SinkError: no broker answers there, or it refuses.
    """

    def __init__(self, server: str, plant: Simulation, layout: Layout, rows: int) -> None:
        prefix = f"nuwatch-demo-{uuid.uuid4().hex[:8]}"
        self.topic = f"{prefix}-sensors"
        topics = SinkTopics(
            alerts=f"{prefix}-alerts",
            thresholds=f"{prefix}-thresholds",
            dead_letter=f"{prefix}-dead-letters",
        )
        writing = KafkaSinkSettings(
            bootstrap_servers=(server,),
            connect_seconds=CONNECT_SECONDS,
            topics=topics,
            create_topics=True,
            partitions=PARTITIONS,
        )
        self._reading = KafkaSourceSettings(
            bootstrap_servers=(server,), connect_seconds=CONNECT_SECONDS, topic=self.topic, group=None
        )
        self._alerts = topics.alerts
        self._portion = rows * len(plant.assets)
        self._frames = to_json(plant)
        self._feed = KafkaFeed(writing, self.topic)
        self._feed.open()
        self.where = f"topic {topics.alerts} on {server}"
        self.source: Source = KafkaSource(self._reading, Codec(layout))
        self.sink: Sink = KafkaSink(writing)

    def send(self) -> int:
        """Produce the next portion of the frames."""
        return self._feed.send(islice(self._frames, self._portion))

    def alerts(self) -> list[dict[str, Any]]:
        """Everything on the alert topic."""
        kept = _Kept()
        settings = msgspec.structs.replace(self._reading, topic=self._alerts, until="end")
        source = KafkaSource(settings, kept)
        try:
            source.open(lambda _: None, "earliest")
            while not source.exhausted:
                source.poll(0.5)
        finally:
            source.close()
        return [msgspec.json.decode(value) for value in kept.values]

    def close(self) -> None:
        """Leave the broker; the topics stay for whoever wants to look at them."""
        self._feed.close()


class _Kept:
    """A codec that keeps the records' values."""

    def __init__(self) -> None:
        self.values: list[bytes] = []

    def decode(self, records: Sequence[RawRecord]) -> Decoded:
        self.values += [record.value or b"" for record in records]
        return Decoded((), (), ())
