"""Writing plain records to an input topic: what a plant's gateway does. For demos, benchmarks and tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from connectors.errors import SinkError
from connectors.kafka import client
from connectors.kafka.clientlib import KafkaError, Producer, close_producer
from connectors.kafka.settings import KafkaSinkSettings

_CLOSE_SECONDS = 5.0


class KafkaFeed:
    """Writes one topic that it creates. Not safe for threads.

    Args:
        settings: the connection, and the shape of the topic; the output topics are not used.
        topic: the topic; must not exist yet.
    """

    def __init__(self, settings: KafkaSinkSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._producer: Producer | None = None

    def open(self) -> None:
        """Connect and create the topic.

        Raises:
            SinkError: no broker answers, it refuses, or the topic exists.
        """
        shape = {
            "num_partitions": self._settings.partitions,
            "replication_factor": self._settings.replication_factor,
        }
        try:
            admin = client.admin(self._settings)
            try:
                admin.create_topics({self._topic: shape})
                admin.wait_for_topics([self._topic])
            finally:
                admin.close()
            self._producer = client.producer(self._settings)
        except KafkaError as error:
            self.close()
            raise self._cannot(f"topic '{self._topic}' cannot be created", error) from error

    def send(self, records: Iterable[tuple[bytes, bytes]], timeout: float = 30.0) -> int:
        """Send (key, value) records and wait for their acknowledgement; returns how many they were.

        Raises:
            SinkError: a record was not acknowledged.
        """
        if self._producer is None:
            raise SinkError("the Kafka feed is not open; hint: call open() first")
        try:
            sent: list[Any] = [
                self._producer.send(self._topic, key=key, value=value) for key, value in records
            ]
            self._producer.flush(timeout=timeout)
            for future in sent:
                future.get(timeout=timeout)
        except KafkaError as error:
            raise self._cannot(f"topic '{self._topic}' did not take the records", error) from error
        return len(sent)

    def close(self) -> None:
        """Leave. Idempotent."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            close_producer(producer, _CLOSE_SECONDS)

    def _cannot(self, what: str, error: BaseException) -> SinkError:
        return SinkError(client.explain(error, self._settings, what))
