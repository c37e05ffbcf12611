"""Kafka topics as a `Sink`: one per output channel, keyed by the record's key, acknowledged by all replicas."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from connectors.errors import SinkError
from connectors.kafka import client
from connectors.kafka.clientlib import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    Producer,
    close_producer,
)
from connectors.kafka.outputs import OutputTopics
from connectors.kafka.settings import KafkaSinkSettings
from connectors.records import Channel, OutRecord

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
        self._topics = OutputTopics(settings)

    def open(self) -> Mapping[str, int]:
        """Connect; returns the present end position per ``channel/partition``.

        Raises:
            SinkError: no broker answers, it refuses, or a topic is missing and ``create_topics`` is off.
        """
        self.close()
        try:
            self._topics.prepare()
            self._connect()
        except KafkaError as error:
            self.close()
            raise self._cannot("cannot be opened for writing", error) from error
        self._open = True
        return dict(self._topics.ends)

    def ids_after(self, ends: Mapping[str, int]) -> set[str]:
        """Ids of the records published at or after these positions, up to the present end.

        A partition that ``ends`` does not name is read from its beginning.

        Raises:
            SinkError: the topics cannot be read.
        """
        return self._topics.ids_after(ends, self._settings.connect_seconds)

    def published(self, channel: Channel) -> Iterable[bytes]:
        """See `connectors.ports.Sink`."""
        return self._topics.values(channel, self._settings.connect_seconds)

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
        return dict(self._topics.ends)

    def close(self) -> None:
        """Leave; what is not acknowledged within seconds is not waited for. Idempotent."""
        self._drop_producer(_CLOSE_SECONDS)
        self._outbox, self._handed, self._obstacle, self._singly = [], 0, None, False
        self._open = False

    # -- opening --------------------------------------------------------------------------------------------

    def _connect(self) -> Producer:
        """A producer that knows its topics, so that `emit` does not wait for them."""
        producer = self._producer = client.producer(self._settings)
        for topic in self._topics.names:
            producer.partitions_for(topic)
        return producer

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
                entry.future = producer.send(**self._topics.message(entry.record))
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
                self._topics.acknowledged(entry.future.get(timeout=max(0.0, deadline - time.monotonic())))
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

    # -- small things ---------------------------------------------------------------------------------------

    def _refused(self, record: OutRecord, error: BaseException, others: int = 0) -> SinkError:
        topic = self._settings.topics.of(record.channel)
        more = f" (and {others} others)" if others else ""
        return self._cannot(f"record {record.id} was not accepted by topic '{topic}'{more}", error)

    def _cannot(self, what: str, error: BaseException | None = None) -> SinkError:
        return SinkError(client.explain(error, self._settings, what))
