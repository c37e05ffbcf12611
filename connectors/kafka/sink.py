"""Kafka topics as a `Sink`: one per output channel, keyed by the record's key, acknowledged by all replicas.

Every record carries its id in the header ``nuwatch-id``; by these `ids_after` finds what is already there.
Alerts and threshold versions are CloudEvents in structured mode and say so in their headers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from connectors.errors import ConnectorError, SinkError
from connectors.kafka import client
from connectors.kafka.clientlib import (
    Admin,
    Consumer,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
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


@dataclass
class _Entry:
    """A record of the outbox, and the future of its acknowledgement once the producer has it."""

    record: OutRecord
    future: Any = None


class KafkaSink:
    """Publishes records. Not safe for threads: one caller opens, emits, flushes and closes it.

    The producer is idempotent: its own retries, through the death of a broker too, neither duplicate nor
    reorder. What a topic refuses (it is gone, or we may not write it) stays in the outbox, and every flush tries
    it again with a new producer, in the old order: then a record that the broker had after all is there twice,
    with one id. What a restart sends again is found by id.

    Args:
        settings: the connection and the topics.
        shorter: a shorter form of a record that is too large for its topic, or None where there is none; without
            it such a record is refused for ever.
    """

    def __init__(
        self, settings: KafkaSinkSettings, shorter: Callable[[OutRecord], OutRecord | None] | None = None
    ) -> None:
        self._settings = settings
        self._shorter = shorter
        self._open = False
        self._producer: Producer | None = None
        self._outbox: list[_Entry] = []
        self._handed = 0  # entries of the outbox that the producer has
        self._obstacle: SinkError | None = None  # why it does not have the others
        self._singly = False  # one record is too large, and which one is found by sending them one by one
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
        self._open = True
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

        A broker that is away or refuses is no error here: the next flush tells of it.

        Raises:
            SinkError: the sink is not open.
        """
        if not self._open:
            raise SinkError("the Kafka sink is not open; hint: call open() first")
        self._outbox += [_Entry(record) for record in records]
        if self._obstacle is None and self._producer is not None and not self._singly:
            self._hand_over(self._producer, len(self._outbox))

    def flush(self, timeout: float) -> Mapping[str, int]:
        """Wait until everything emitted is acknowledged; returns the new end positions.

        What was not acknowledged stays handed over: a later flush waits for it, or sends it, again.

        Raises:
            SinkError: a record was refused, or the time ran out; names the record, its topic and the cause.
        """
        if not self._open:
            raise SinkError("the Kafka sink is not open; hint: call open() first")
        deadline = time.monotonic() + timeout
        while self._outbox:
            self._deliver(deadline)
        self._singly = False
        return dict(self._ends)

    def close(self) -> None:
        """Leave; what is not acknowledged within seconds is not waited for. Idempotent."""
        self._drop_producer(_CLOSE_SECONDS)
        self._outbox, self._handed, self._obstacle, self._singly = [], 0, None, False
        self._open = False

    # -- opening --------------------------------------------------------------------------------------------

    def _connect(self) -> Producer:
        """A producer that knows its topics, so that `emit` does not wait for them."""
        producer = self._producer = client.producer(self._settings)
        for topic in self._channels:
            producer.partitions_for(topic)
        return producer

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

    # -- the outbox -----------------------------------------------------------------------------------------

    def _deliver(self, deadline: float) -> None:
        """Bring the outbox to the broker; returns when some of it is there, or when the rest is worth a next try.

        Raises:
            SinkError: something is not acknowledged; what is not stays in the outbox.
        """
        producer = self._producer or self._reconnect()
        self._obstacle = None
        before = len(self._outbox)
        self._hand_over(producer, 1 if self._singly else before)
        with suppress(KafkaError):  # the futures know better: it also gives up at a batch that was split
            producer.flush(timeout=max(0.0, deadline - time.monotonic()))
        refused = self._keep_unacknowledged(deadline)
        if refused:
            self._send_again()
            if not self._make_fit(*refused[0]):
                entry, error = refused[0]
                raise self._refused(entry.record, error, others=len(self._outbox) - 1) from error
        elif self._obstacle is not None:
            raise self._obstacle
        elif self._outbox and (len(self._outbox) == before or time.monotonic() >= deadline):
            late = KafkaTimeoutError("no acknowledgement in time")
            raise self._refused(self._outbox[0].record, late, others=len(self._outbox) - 1)

    def _hand_over(self, producer: Producer, limit: int) -> None:
        """Give the producer what it has not had of the first ``limit`` entries, in order, up to an obstacle."""
        while self._handed < limit:
            entry = self._outbox[self._handed]
            try:
                entry.future = producer.send(
                    self._settings.topics.of(entry.record.channel),
                    key=entry.record.key,
                    value=_value(entry.record),
                    headers=_headers(entry.record),
                )
            except (KafkaError, ValueError) as error:  # a topic without partitions is a ValueError
                if isinstance(error, MessageSizeTooLargeError) and self._shorten(entry):
                    continue
                self._obstacle = self._refused(entry.record, error, others=len(self._outbox) - 1)
                return
            self._handed += 1

    def _keep_unacknowledged(self, deadline: float) -> list[tuple[_Entry, Exception]]:
        """Take what is acknowledged out of the outbox; returns what was refused."""
        kept: list[_Entry] = []
        refused: list[tuple[_Entry, Exception]] = []
        for entry in self._outbox[: self._handed]:
            try:
                self._move_end(entry.future.get(timeout=max(0.0, deadline - time.monotonic())))
            except KafkaError as error:
                kept.append(entry)
                if entry.future.is_done:
                    refused.append((entry, error))
        self._outbox[: self._handed] = kept
        self._handed = len(kept)
        return refused

    def _make_fit(self, entry: _Entry, error: Exception) -> bool:
        """After a refusal: whether the outbox is worth another try, because one record was too large.

        The producer passes that refusal on to the records behind, so only one that was sent alone is known to be
        too large.
        """
        if self._shorter is None or not isinstance(error, MessageSizeTooLargeError):
            return False
        if not self._singly:
            self._singly = True
            return True
        self._singly = False
        return self._shorten(entry)

    def _shorten(self, entry: _Entry) -> bool:
        """Put a shorter form in the place of a record, if there is one."""
        shorter = self._shorter(entry.record) if self._shorter is not None else None
        if shorter is None:
            return False
        entry.record = shorter
        return True

    def _send_again(self) -> None:
        """Leave the producer: once the broker has refused a record, it refuses all that follow."""
        self._drop_producer(0.0)
        for entry in self._outbox:
            entry.future = None
        self._handed = 0

    def _reconnect(self) -> Producer:
        try:
            return self._connect()
        except KafkaError as error:
            self._drop_producer(0.0)
            raise self._refused(self._outbox[0].record, error, others=len(self._outbox) - 1) from error

    def _drop_producer(self, seconds: float) -> None:
        if self._producer is not None:
            producer, self._producer = self._producer, None
            close_producer(producer, seconds)

    def _move_end(self, metadata: Any) -> None:
        name = self._name(TopicPartition(metadata.topic, metadata.partition))
        self._ends[name] = max(self._ends.get(name, 0), metadata.offset + 1)

    # -- small things ---------------------------------------------------------------------------------------

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
