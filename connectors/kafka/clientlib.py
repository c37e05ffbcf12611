"""What this package takes from kafka-python 3.

Type checkers bring stubs of their own for this library, and those describe release 2. So its clients are
`Any`, here and once, instead of an ignored line at every call.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import kafka
import kafka.errors
from kafka.net.compat import KafkaNetClient  # pyright: ignore[reportMissingImports] - not in release 2
from kafka.structs import OffsetAndMetadata, TopicPartition

_kafka: Any = kafka
_errors: Any = kafka.errors
_NetClient: Any = KafkaNetClient

_JOIN_SECONDS = 2.0

Consumer: TypeAlias = Any
Producer: TypeAlias = Any
Admin: TypeAlias = Any


KafkaError = kafka.errors.KafkaError
CorruptRecordError = kafka.errors.CorruptRecordError
KafkaConnectionError = kafka.errors.KafkaConnectionError
KafkaTimeoutError = kafka.errors.KafkaTimeoutError
MessageSizeTooLargeError = kafka.errors.MessageSizeTooLargeError
OffsetOutOfRangeError = kafka.errors.OffsetOutOfRangeError
UnsupportedCodecError = kafka.errors.UnsupportedCodecError
LogTruncationError: type[KafkaError] = _errors.LogTruncationError


def new_consumer(**config: Any) -> Consumer:
    """A connected consumer."""
    return _connected(_kafka.KafkaConsumer, config)


def new_producer(**config: Any) -> Producer:
    """A connected producer."""
    return _connected(_kafka.KafkaProducer, config)


def new_admin(**config: Any) -> Admin:
    """A connected administration client."""
    return _connected(_kafka.KafkaAdminClient, config)


def incarnation(consumer: Consumer, topic: str) -> str:
    """The id that the cluster gave a topic when it was made; '' of brokers before 2.8, which give none.

    There is no public way to it from a consumer.
    """
    return str(consumer._cluster.topic_id(topic) or "")


def close_producer(producer: Producer, seconds: float) -> None:
    """Close; what cannot be sent within ``seconds`` is dropped.

    With unsent records ``close`` raises and leaves the sending thread running, and there is no public way to
    end that.
    """
    try:
        producer.close(timeout=seconds)
    except KafkaTimeoutError:
        producer._sender.force_close()
        producer._sender.join(_JOIN_SECONDS)
        producer.close(timeout=_JOIN_SECONDS)


def _connected(kind: Any, config: dict[str, Any]) -> Any:
    """Create a client, and leave nothing behind if it cannot connect.

    The constructors connect. When that fails they leave a thread behind that goes on trying for ever.
    """
    opened: list[Any] = []

    def network(**settings: Any) -> Any:
        opened.append(_NetClient(**settings))
        return opened[-1]

    try:
        return kind(**config, kafka_client=network)
    except BaseException:
        for one in opened:
            one.close()
        raise


__all__ = [
    "Admin",
    "Consumer",
    "CorruptRecordError",
    "KafkaConnectionError",
    "KafkaError",
    "KafkaTimeoutError",
    "LogTruncationError",
    "MessageSizeTooLargeError",
    "OffsetAndMetadata",
    "OffsetOutOfRangeError",
    "Producer",
    "TopicPartition",
    "UnsupportedCodecError",
    "close_producer",
    "incarnation",
    "new_admin",
    "new_consumer",
    "new_producer",
]
