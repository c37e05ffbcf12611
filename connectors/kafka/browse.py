"""Everything that a topic holds now, for people who look into it: dead letters, alerts."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from connectors.errors import SourceError
from connectors.kafka import client
from connectors.kafka.clientlib import KafkaError, TopicPartition
from connectors.kafka.settings import Connection
from connectors.records import RawRecord

_ANSWER_MS = 10_000


def history(settings: Connection, topic: str) -> Iterator[RawRecord]:
    """Every record of a topic, in order within each partition, up to the ends that it has when this begins.

    Nothing is committed and no group is joined.

    Raises:
        SourceError: the topic does not exist, cannot be read, or holds bytes that cannot be unpacked.
        SettingsError: a secret or certificate cannot be read.
    """
    try:
        with _reader(settings) as reader:
            yield from _records(reader, settings, topic)
    except KafkaError as error:
        raise _cannot(settings, topic, "cannot be read", error) from error


@contextmanager
def _reader(settings: Connection) -> Generator[Any]:
    reader = client.consumer(settings)
    try:
        yield reader
    finally:
        reader.close(autocommit=False)


def _records(reader: Any, settings: Connection, topic: str) -> Iterator[RawRecord]:
    partitions = reader.partitions_for_topic(topic)
    if not partitions:
        raise _cannot(settings, topic, "does not exist, or we may not see it")
    tops = [TopicPartition(topic, partition) for partition in sorted(partitions)]
    first = reader.beginning_offsets(tops, timeout_ms=_ANSWER_MS)
    ends = reader.end_offsets(tops, timeout_ms=_ANSWER_MS)
    reader.assign(tops)
    for top in tops:
        reader.seek(top, first[top])
    heard = time.monotonic()
    while any(reader.position(top, timeout_ms=0) < ends[top] for top in tops):
        polled = reader.poll(timeout_ms=500)
        for top, records in polled.items():
            yield from (client.raw(record) for record in records if record.offset < ends[top])
        if polled:
            heard = time.monotonic()
        elif time.monotonic() - heard > settings.connect_seconds:
            raise _cannot(settings, topic, "no longer answers")


def _cannot(settings: Connection, topic: str, what: str, error: BaseException | None = None) -> SourceError:
    return SourceError(client.explain(error, settings, f"topic '{topic}' {what}"))
