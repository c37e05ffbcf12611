"""A source with a tape behind it, and what else the Kafka tests share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from connectors.kafka import KafkaSource, KafkaSourceSettings
from connectors.records import Channel, Decoded, OutRecord, Polled, RawRecord, Reason, Rejected


def nowhere(_partition: int) -> None:
    """No stored position for any partition."""


class Tape:
    """A codec that keeps what it is given, and rejects the value ``bad``."""

    def __init__(self) -> None:
        self.records: list[RawRecord] = []

    def decode(self, records: Sequence[RawRecord]) -> Decoded:
        self.records.extend(records)
        bad = [Rejected(record, Reason.MALFORMED, "bad") for record in records if record.value == b"bad"]
        return Decoded((), tuple(bad), (("DECODED", len(records)),))

    def values(self, partition: int = 0) -> list[bytes | None]:
        return [record.value for record in self.records if record.partition == partition]


class Reader:
    """A source with its tape, polled until something holds."""

    def __init__(self, bootstrap: str, topic: str, **settings: Any) -> None:
        self.tape = Tape()
        self.polled: list[Polled] = []
        settings = {"bootstrap_servers": (bootstrap,), "topic": topic, "group": None, **settings}
        self.source = KafkaSource(KafkaSourceSettings(**settings), self.tape)

    def open(self, positions: Mapping[int, int] | None = None, start: Any = "earliest") -> Reader:
        self.source.open((positions or {}).get, start)
        return self

    def poll_until(self, enough: Callable[[], bool], seconds: float = 30.0) -> Reader:
        deadline = time.monotonic() + seconds
        while not enough():
            assert time.monotonic() < deadline, f"waited {seconds} s; got {self.tape.records}"
            self.polled.extend(self.source.poll(0.2))
        return self

    def poll_records(self, count: int, seconds: float = 30.0) -> Reader:
        return self.poll_until(lambda: len(self.tape.records) >= count, seconds)


def alert(number: int, key: bytes = b"R-101", value: bytes = b"{}") -> OutRecord:
    return OutRecord(Channel.ALERTS, f"incident:{number:04d}", key, value)


def everything(bootstrap: str, topic: str) -> list[Any]:
    """All records of a topic, read by the library alone."""
    return _read(bootstrap, topic, "read_uncommitted")


def committed(bootstrap: str, topic: str) -> list[Any]:
    """What a reader of committed records gets, up to where the topic ends now.

    The end that such a reader is told lies before the first transaction that is not over. A writer's commit is
    answered before the topics have heard of it, so what was committed just now may lie behind that end: the end is
    asked of a reader of everything, and the transactions before it are waited for.
    """
    return _read(bootstrap, topic, "read_committed")


def _read(bootstrap: str, topic: str, isolation: str) -> list[Any]:
    asker = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None)
    reader = KafkaConsumer(
        bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, isolation_level=isolation
    )
    try:
        tops = [TopicPartition(topic, partition) for partition in asker.partitions_for_topic(topic)]
        ends = asker.end_offsets(tops)
        reader.assign(tops)
        reader.seek_to_beginning(*tops)
        found: list[Any] = []
        while any(reader.position(top) < ends[top] for top in tops):
            found += [record for records in reader.poll(500).values() for record in records]
        return found
    finally:
        asker.close()
        reader.close()
