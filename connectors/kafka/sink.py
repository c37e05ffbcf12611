"""Kafka topics as a `Sink`: one per output channel, keyed by the record's key, acknowledged by all replicas.

Every record carries its id in the header ``nuwatch-id``; by these `ids_after` finds what is already there.
Alerts and threshold versions are CloudEvents in structured mode and say so in their headers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from connectors.errors import ConnectorError, SinkError
from connectors.kafka import client
from connectors.kafka.clientlib import (
    Admin,
    Consumer,
    KafkaError,
    Producer,
    TopicPartition,
    close_producer,
)
from connectors.kafka.settings import KafkaSinkSettings
from connectors.records import Channel, OutRecord

ID_HEADER = "nuwatch-id"
NULL_HEADER = "nuwatch-null"
_CLOUD_EVENTS = (Channel.ALERTS, Channel.THRESHOLDS)
_STRUCTURED = b"application/cloudevents+json; charset=UTF-8"
_ANSWER_MS = 10_000
_CLOSE_SECONDS = 5.0


class _Sent(NamedTuple):
    """A record handed to the producer, and the future of its acknowledgement."""

    record: OutRecord
    future: Any


class KafkaSink:
    """Publishes records. Not safe for threads: one caller opens, emits, flushes and closes it.

    The producer is idempotent: its own retries, through the death of a broker too, neither duplicate nor
    reorder. What a restart sends again is found by id.
    """

    def __init__(self, settings: KafkaSinkSettings) -> None:
        self._settings = settings
        self._producer: Producer | None = None
        self._pending: list[_Sent] = []
        self._ends: dict[str, int] = {}
        self._channels: dict[str, Channel] = {settings.topics.of(channel): channel for channel in Channel}

    def open(self) -> Mapping[str, int]:
        """Connect; returns the present end position per ``channel/partition``.

        Raises:
            SinkError: no broker answers, it refuses, or a topic is missing and ``create_topics`` is off.
        """
        self.close()
        try:
            self._ends = self._prepare_topics()
            self._connect()
        except KafkaError as error:
            self.close()
            raise self._cannot("cannot be opened for writing", error) from error
        return dict(self._ends)

    def ids_after(self, ends: Mapping[str, int]) -> set[str]:
        """Ids of the records published at or after these positions, up to the present end.

        A partition that ``ends`` does not name is read from its beginning.

        Raises:
            SinkError: the topics cannot be read.
        """
        try:
            reader = client.consumer(self._settings)
            try:
                return self._read_ids(reader, ends)
            finally:
                reader.close(autocommit=False)
        except ConnectorError:
            raise
        except Exception as error:  # what cannot be unpacked raises errors of any library
            raise self._cannot("cannot be read for what is already published", error) from error

    def emit(self, records: Sequence[OutRecord]) -> None:
        """Hand over records; they are durable only after `flush` has returned.

        Raises:
            SinkError: a record is refused at once, for example because it is too large.
        """
        producer = self._opened()
        for record in records:
            try:
                future = producer.send(
                    self._settings.topics.of(record.channel),
                    key=record.key,
                    value=_value(record),
                    headers=_headers(record),
                )
            except (KafkaError, ValueError, TypeError) as error:
                raise self._refused(record, error) from error
            self._pending.append(_Sent(record, future))

    def flush(self, timeout: float) -> Mapping[str, int]:
        """Wait until everything emitted is acknowledged; returns the new end positions.

        Records that only ran out of time stay handed over: a later flush waits for them again.

        Raises:
            SinkError: a record was refused, or the time ran out; names the record, its topic and the cause.
        """
        deadline = time.monotonic() + timeout
        try:
            self._opened().flush(timeout=timeout)
        except KafkaError as error:
            waiting = [sent for sent in self._pending if not sent.future.is_done]
            if waiting:
                raise self._refused(waiting[0].record, error, others=len(waiting) - 1) from error
        return self._acknowledged(deadline)

    def close(self) -> None:
        """Leave; what is not acknowledged within seconds is not waited for. Idempotent."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            close_producer(producer, _CLOSE_SECONDS)
        self._pending = []

    # -- opening --------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        """A producer that knows its topics, so that `emit` never waits for them."""
        producer = self._producer = client.producer(self._settings)
        for topic in self._channels:
            producer.partitions_for(topic)

    def _prepare_topics(self) -> dict[str, int]:
        admin = client.admin(self._settings)
        try:
            partitions = self._partitions(admin)
            missing = sorted(topic for topic in self._channels if not partitions.get(topic))
            if missing and not self._settings.create_topics:
                raise self._missing(missing)
            if missing:
                self._create(admin, missing)
                partitions = self._partitions(admin)
        finally:
            admin.close()
        tops = [TopicPartition(topic, p) for topic in self._channels for p in partitions[topic]]
        reader = client.consumer(self._settings)
        try:
            ends = reader.end_offsets(tops, timeout_ms=_ANSWER_MS)
        finally:
            reader.close(autocommit=False)
        return {self._name(top): ends[top] for top in tops}

    def _partitions(self, admin: Admin) -> dict[str, list[int]]:
        described = admin.describe_topics(sorted(self._channels))
        return {
            topic["name"]: sorted(partition["partition_index"] for partition in topic["partitions"])
            for topic in described
            if topic["error_code"] == 0
        }

    def _create(self, admin: Admin, topics: list[str]) -> None:
        shape = {
            "num_partitions": self._settings.partitions,
            "replication_factor": self._settings.replication_factor,
        }
        admin.create_topics(dict.fromkeys(topics, shape), raise_errors=False)
        admin.wait_for_topics(topics)  # also when another process created one meanwhile

    # -- reading back ---------------------------------------------------------------------------------------

    def _read_ids(self, reader: Consumer, ends: Mapping[str, int]) -> set[str]:
        tops = [self._top(name) for name in self._names()]
        first = reader.beginning_offsets(tops, timeout_ms=_ANSWER_MS)
        last = reader.end_offsets(tops, timeout_ms=_ANSWER_MS)
        reader.assign(tops)
        waiting: dict[TopicPartition, int] = {}
        for top in tops:
            begin = max(first[top], ends.get(self._name(top), 0))
            reader.seek(top, begin)
            if begin < last[top]:
                waiting[top] = last[top]
        return self._collect(reader, waiting)

    def _collect(self, reader: Consumer, waiting: dict[TopicPartition, int]) -> set[str]:
        ids: set[str] = set()
        heard = time.monotonic()
        while waiting:
            polled = reader.poll(timeout_ms=500)
            for records in polled.values():
                ids.update(_ids_of(records))
            waiting = {top: end for top, end in waiting.items() if reader.position(top, timeout_ms=0) < end}
            if polled:
                heard = time.monotonic()
            elif waiting and time.monotonic() - heard > self._settings.connect_seconds:
                names = ", ".join(self._name(top) for top in waiting)
                raise self._cannot(f"no answer while reading {names} back")
        return ids

    def _names(self) -> list[str]:
        if not self._ends:
            self._ends = self._prepare_topics()
        return list(self._ends)

    # -- acknowledgements -----------------------------------------------------------------------------------

    def _acknowledged(self, deadline: float) -> Mapping[str, int]:
        pending, self._pending = self._pending, []
        refused: list[tuple[OutRecord, Exception]] = []
        for sent in pending:
            try:
                self._move_end(sent.future.get(timeout=max(0.0, deadline - time.monotonic())))
            except KafkaError as error:
                refused.append((sent.record, error))
        if refused:
            self._renew()
            record, error = refused[0]
            raise self._refused(record, error, others=len(refused) - 1) from error
        return dict(self._ends)

    def _renew(self) -> None:
        """Replace the producer: once the broker has refused a record, this one refuses all that follow."""
        producer, self._producer = self._opened(), None
        close_producer(producer, 0.0)
        try:
            self._connect()
        except KafkaError as error:
            raise self._cannot(
                "a record was refused, and after that the broker did not answer", error
            ) from error

    def _move_end(self, metadata: Any) -> None:
        name = self._name(TopicPartition(metadata.topic, metadata.partition))
        self._ends[name] = max(self._ends.get(name, 0), metadata.offset + 1)

    # -- small things ---------------------------------------------------------------------------------------

    def _opened(self) -> Producer:
        if self._producer is None:
            raise SinkError("the Kafka sink is not open; hint: call open() first")
        return self._producer

    def _name(self, top: TopicPartition) -> str:
        return f"{self._channels[top.topic].value}/{top.partition}"

    def _top(self, name: str) -> TopicPartition:
        channel, _, partition = name.partition("/")
        return TopicPartition(self._settings.topics.of(Channel(channel)), int(partition))

    def _missing(self, topics: list[str]) -> SinkError:
        names = ", ".join(f"'{topic}'" for topic in topics)
        return self._cannot(
            f"these topics do not exist, or we may not see them: {names}; hint: create them, or set "
            "create_topics: true to have them created"
        )

    def _refused(self, record: OutRecord, error: BaseException, others: int = 0) -> SinkError:
        topic = self._settings.topics.of(record.channel)
        more = f" (and {others} others)" if others else ""
        return self._cannot(f"record {record.id} was not accepted by topic '{topic}'{more}", error)

    def _cannot(self, what: str, error: BaseException | None = None) -> SinkError:
        return SinkError(client.explain(error, self._settings, what))


def _value(record: OutRecord) -> bytes | None:
    """The value; a record without key and value, which Kafka cannot hold, gets an empty one."""
    return b"" if record.key is None and record.value is None else record.value


def _headers(record: OutRecord) -> list[tuple[str, bytes]]:
    """The record's own headers, its id, and what CloudEvents ask for, unless the record has it."""
    added = {ID_HEADER: record.id.encode()}
    if record.channel in _CLOUD_EVENTS:
        added |= {"content-type": _STRUCTURED, "ce_id": record.id.encode()}
    if record.key is None and record.value is None:
        added[NULL_HEADER] = b"value"
    own = {name for name, _ in record.headers}
    return [*record.headers, *((name, value) for name, value in added.items() if name not in own)]


def _ids_of(records: list[Any]) -> set[str]:
    return {value.decode() for record in records for name, value in record.headers if name == ID_HEADER}
