"""What this package takes from kafka-python 3.

Type checkers bring stubs of their own for this library, and those describe release 2. So its clients are
`Any`, here and once, instead of an ignored line at every call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import kafka
import kafka.errors
from kafka.admin import ConfigResource
from kafka.coordinator.assignors.cooperative_sticky import (  # pyright: ignore[reportMissingImports] - not in release 2
    CooperativeStickyAssignor,
)
from kafka.coordinator.base import MemberState
from kafka.net.compat import KafkaNetClient  # pyright: ignore[reportMissingImports] - not in release 2
from kafka.net.sasl.oauth import (  # pyright: ignore[reportMissingImports] - likewise
    AbstractTokenProvider as _TokenProvider,  # pyright: ignore[reportUnknownVariableType]
)
from kafka.structs import OffsetAndMetadata, TopicPartition

from connectors.kafka import unpacking

unpacking.install()
_kafka: Any = kafka
_errors: Any = kafka.errors
_NetClient: Any = KafkaNetClient
_Listener: Any = _kafka.AsyncConsumerRebalanceListener
_ConfigResource: Any = ConfigResource
COOPERATIVE: Any = CooperativeStickyAssignor
_STABLE: Any = MemberState.STABLE  # pyright: ignore[reportUnknownMemberType] - not in release 2
_REBALANCING: Any = MemberState.REBALANCING  # pyright: ignore[reportUnknownMemberType] - not in release 2

_JOIN_SECONDS = 2.0
_LOOK_SECONDS = 0.01

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
AuthorizationError: type[KafkaError] = _errors.AuthorizationError
LogTruncationError: type[KafkaError] = _errors.LogTruncationError
SaslAuthenticationFailedError: type[KafkaError] = _errors.SaslAuthenticationFailedError
TransactionalIdAuthorizationFailedError: type[KafkaError] = _errors.TransactionalIdAuthorizationFailedError
AbstractTokenProvider: Any = _TokenProvider


def fetched_bytes(consumer: Consumer) -> int:
    """Bytes of the answers that a client has fetched and not begun to unpack."""
    fetcher = consumer._fetcher
    answers = [*fetcher._completed_fetches.copy(), *fetcher._paused_completed_fetches.copy().values()]
    return sum(len(answer.partition_data.records or b"") for answer in answers)


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


def config_resource(topic: str, name: str) -> Any:
    """What to ask of a topic's configuration."""
    return _ConfigResource("topic", topic, {name: None})


def close_producer(producer: Producer, seconds: float) -> None:
    """Close; what cannot be sent within ``seconds`` is dropped.

    With unsent records ``close`` raises and leaves the sending thread running, and there is no public way to
    end that.
    """
    try:
        producer.close(timeout=seconds)
    except KafkaError:  # a time-out; or a batch that was split, which it takes for an error
        producer._sender.force_close()
        producer._sender.join(_JOIN_SECONDS)
        producer.close(timeout=_JOIN_SECONDS)


def send_offsets(producer: Producer, offsets: Mapping[Any, Any], member: Any, seconds: float) -> None:
    """Add a group's offsets to the open transaction. The library's own method would wait for ever.

    Raises:
        KafkaError: the broker refuses, for example because ``member`` is no longer in the group.
        KafkaTimeoutError: it did not answer in time.
    """
    _wait(producer, producer._transaction_manager.send_offsets_to_transaction(offsets, member), seconds)


def commit_transaction(producer: Producer, seconds: float) -> None:
    """Commit the open transaction. The library's own method would wait for ever.

    Raises:
        KafkaError: the broker refuses.
        KafkaTimeoutError: it did not answer in time: the transaction may have been committed, or not.
    """
    _wait(producer, producer._transaction_manager.begin_commit(), seconds)


def _wait(producer: Producer, result: Any, seconds: float) -> None:
    producer._sender.wakeup()
    if not result.wait(timeout_ms=seconds * 1000):
        raise KafkaTimeoutError(f"the transaction coordinator did not answer within {seconds:.0f} s")


def subscribe(
    consumer: Consumer,
    topic: str,
    *,
    assigned: Callable[[set[TopicPartition]], None],
    revoked: Callable[[set[TopicPartition]], None],
    lost: Callable[[set[TopicPartition]], None],
) -> None:
    """Join the group for a topic.

    The functions are called while the caller of ``poll`` or ``close`` is blocked inside. ``revoked`` may take its
    time: it has a thread of its own, and heartbeats go on; it must not use the consumer's blocking methods.
    """

    class Listener(_Listener):
        async def on_partitions_assigned(self, assigned_now: set[TopicPartition]) -> None:
            assigned(assigned_now)

        async def on_partitions_revoked(self, revoked_now: set[TopicPartition]) -> None:
            work = threading.Thread(target=revoked, args=(revoked_now,), name="nuwatch-revoked")
            work.start()
            while work.is_alive():
                await consumer._net.sleep(_LOOK_SECONDS)

        async def on_partitions_lost(self, lost_now: set[TopicPartition]) -> None:
            lost(lost_now)

    consumer.subscribe([topic], listener=Listener())


def is_stable(member: Any) -> bool:
    """Whether a `group_metadata` is that of a member with a generation.

    One without is a trap: in a transaction the broker takes it for a reader outside every group, and accepts its
    offsets unseen.
    """
    return member.generation_id >= 0 and member.state == _STABLE


def finish_join(consumer: Consumer) -> None:
    """See that the next poll goes on with a join that the last one has not seen the end of.

    The library asks at every poll anew whether it has a reason to join. A leader whose metadata have changed has none
    any more as soon as it has shared out the partitions: a poll that ended just then would be the last one to care,
    and the member would stay between two memberships, without heartbeats, until somebody ends it.
    """
    coordinator = consumer._coordinator
    if coordinator.state is _REBALANCING:
        coordinator.request_rejoin()


def stays(error: BaseException) -> bool:
    """Whether an error of writing comes again with the same records: a refusal of their size, or of our rights."""
    return isinstance(error, MessageSizeTooLargeError | AuthorizationError)


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
    "COOPERATIVE",
    "AbstractTokenProvider",
    "Admin",
    "AuthorizationError",
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
    "SaslAuthenticationFailedError",
    "TopicPartition",
    "TransactionalIdAuthorizationFailedError",
    "UnsupportedCodecError",
    "close_producer",
    "commit_transaction",
    "config_resource",
    "finish_join",
    "incarnation",
    "is_stable",
    "new_admin",
    "new_consumer",
    "new_producer",
    "send_offsets",
    "stays",
    "subscribe",
]
