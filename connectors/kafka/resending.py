"""Sending records to their input again, each to its own partition: an asset's readings belong together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from connectors.errors import SinkError
from connectors.kafka import client
from connectors.kafka.clientlib import KafkaError, close_producer
from connectors.kafka.settings import Connection, KafkaSinkSettings
from connectors.records import RawRecord

_CLOSE_SECONDS = 5.0
_LARGEST = 64 * 2**20
"""Bytes of a record that we try to send; what the topic takes is for the broker to say."""


def resend(settings: Connection, topic: str, records: Iterable[RawRecord], timeout: float = 30.0) -> int:
    """Write records with their bytes, keys and headers; returns how many were acknowledged.

    Args:
        settings: of the input's cluster.
        topic: the input.
        records: ``partition`` says where each goes; ``offset`` and ``timestamp_ms`` are not used.
        timeout: seconds to wait for the acknowledgements.

    Raises:
        SinkError: a record was refused or not acknowledged; those before it may have been written.
        SettingsError: a secret or certificate cannot be read.
    """
    shared = {name: getattr(settings, name) for name in Connection.__struct_fields__}
    written = KafkaSinkSettings(**shared, max_record_bytes=_LARGEST)
    try:
        producer = client.producer(written)
    except KafkaError as error:
        raise SinkError(client.explain(error, settings, f"topic '{topic}' cannot be written")) from error
    try:
        sent = [_send(producer, topic, record) for record in records]
        producer.flush(timeout=timeout)
        for future in sent:
            future.get(timeout=timeout)
    except (KafkaError, ValueError, AssertionError) as error:  # the client asserts that a partition exists
        raise SinkError(
            client.explain(error, settings, f"topic '{topic}' did not take the records")
        ) from error
    finally:
        close_producer(producer, _CLOSE_SECONDS)
    return len(sent)


def _send(producer: Any, topic: str, record: RawRecord) -> Any:
    return producer.send(
        topic,
        key=record.key,
        value=record.value,
        partition=record.partition,
        headers=list(record.headers),
    )
