"""A Kafka topic of commands as a `CommandTopic`, and the writing of one command.

A thread of its own reads, so that a broker that is slow or away never holds up the loop which asks for commands.
Nothing is committed: the topic is short, and every reader begins at its beginning.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from connectors.errors import SinkError, SourceError
from connectors.kafka import client, rights
from connectors.kafka.clientlib import (
    Consumer,
    KafkaError,
    OffsetOutOfRangeError,
    TopicPartition,
    close_producer,
    incarnation,
)
from connectors.kafka.settings import Connection, KafkaSinkSettings
from connectors.records import Input, Queue, RawRecord

_ANSWER_MS = 10_000
_POLL_MS = 200
_CLOSE_MS = 2000
_PAUSE_SECONDS = 1.0
_CLOSE_SECONDS = 5.0
_MOST_WAITING = 1000
"""Records that may wait for the caller; the thread reads on when they are fetched."""
_MOST_BYTES = 16 * 2**20
"""Likewise in bytes; what one poll brings may come on top."""


class KafkaCommandTopic:
    """See `connectors.ports.CommandTopic`. One caller opens, polls and closes it.

    Args:
        settings: the cluster.
        topic: with one partition.
    """

    def __init__(self, settings: Connection, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._top = TopicPartition(topic, 0)
        self._waiting = deque[RawRecord]()
        self._end = 0
        self._input = Input(topic)
        self._next = 0  # the offset that the thread reads next
        self._trouble: str | None = None
        self._gone: SourceError | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> Input:
        """See `connectors.ports.CommandTopic`."""
        self.close()
        try:
            reader = client.consumer(self._settings)
        except KafkaError as error:
            raise self._cannot("cannot be read", error) from error
        try:
            self._check(reader)
            self._input = Input(self._topic, incarnation(reader, self._topic), 1)
            self._end = reader.end_offsets([self._top], timeout_ms=_ANSWER_MS)[self._top]
            self._next = reader.beginning_offsets([self._top], timeout_ms=_ANSWER_MS)[self._top]
        except KafkaError as error:
            raise self._cannot("cannot be read", error) from error
        finally:
            reader.close(autocommit=False, timeout_ms=_CLOSE_MS)
        self._stop.clear()
        self._thread = threading.Thread(target=self._read, name="nuwatch-commands", daemon=True)
        self._thread.start()
        return self._input

    def poll(self) -> Sequence[RawRecord]:
        """See `connectors.ports.CommandTopic`."""
        if self._gone is not None:
            raise self._gone
        return [self._waiting.popleft() for _ in range(len(self._waiting))]

    @property
    def end(self) -> int:
        """See `connectors.ports.CommandTopic`."""
        return max(self._end, self._next)

    @property
    def trouble(self) -> str | None:
        """See `connectors.ports.CommandTopic`."""
        return self._trouble

    @property
    def queue(self) -> Queue:
        """See `connectors.ports.CommandTopic`."""
        return Queue("commands", sum(map(_size, tuple(self._waiting))), _MOST_BYTES)

    def close(self) -> None:
        """See `connectors.ports.CommandTopic`."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
            self._thread = None
        self._waiting.clear()

    def _check(self, reader: Consumer) -> None:
        """One partition, so that commands have one order; and ours to read."""
        partitions = reader.partitions_for_topic(self._topic)
        if not partitions:
            raise self._cannot(
                "does not exist, or our user has no READ on it; hint: create it with one partition"
            )
        if len(partitions) != 1:
            raise self._cannot(f"has {len(partitions)} partitions, expected 1: commands must have one order")
        admin = client.admin(self._settings)
        try:
            (described,) = admin.describe_topics([self._topic])
        finally:
            admin.close()
        lacking = rights.missing(described, ("READ",))
        if lacking is not None:
            raise SourceError(client.explain(None, self._settings, lacking))

    # -- the thread -----------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Read until asked to stop; what fails is tried again with a new connection."""
        while not self._stop.is_set() and self._gone is None:
            try:
                reader = client.consumer(self._settings)
                try:
                    self._follow(reader)
                finally:
                    reader.close(autocommit=False, timeout_ms=_CLOSE_MS)
            except Exception as error:  # what cannot be unpacked raises errors of any library
                self._trouble = str(self._cannot("cannot be read", error))
                self._stop.wait(_PAUSE_SECONDS)

    def _follow(self, reader: Consumer) -> None:
        reader.assign([self._top])
        reader.seek(self._top, self._next)
        while not self._stop.is_set():
            if len(self._waiting) >= _MOST_WAITING or self.queue.size >= _MOST_BYTES:
                self._stop.wait(_POLL_MS / 1000)
                continue
            try:
                polled = reader.poll(timeout_ms=_POLL_MS)
            except OffsetOutOfRangeError:
                self._begin_again(reader)
                return
            for record in polled.get(self._top, ()):
                self._waiting.append(client.raw(record))
                self._next = record.offset + 1
            if polled:
                self._trouble = None

    def _begin_again(self, reader: Consumer) -> None:
        """Retention has passed us by; or it is another topic now, and what was done of the old one means nothing."""
        if incarnation(reader, self._topic) != self._input.incarnation:
            self._gone = self._cannot(
                "was made anew while it was read; hint: a restart goes on with the new one"
            )
        else:
            self._next = reader.beginning_offsets([self._top], timeout_ms=_ANSWER_MS)[self._top]

    def _cannot(self, what: str, error: BaseException | None = None) -> SourceError:
        return SourceError(client.explain(error, self._settings, f"control topic '{self._topic}' {what}"))


def _size(record: RawRecord) -> int:
    return len(record.key or b"") + len(record.value or b"")


def send_command(
    settings: KafkaSinkSettings, topic: str, key: bytes, value: bytes, timeout: float = 30.0
) -> int:
    """Write a command; returns its offset.

    Raises:
        SinkError: it was not acknowledged, or the topic has not exactly one partition.
        SettingsError: a secret or certificate cannot be read.
    """
    what = f"control topic '{topic}' did not take the command"
    try:
        producer = client.producer(settings)
    except KafkaError as error:
        raise SinkError(client.explain(error, settings, what)) from error
    try:
        partitions: Any = producer.partitions_for(topic)
        if len(partitions or ()) != 1:
            raise SinkError(
                client.explain(None, settings, f"{what}: got {len(partitions or ())} partitions, expected 1")
            )
        sent = producer.send(topic, key=key, value=value, partition=0)
        producer.flush(timeout=timeout)
        return int(sent.get(timeout=timeout).offset)
    except (KafkaError, ValueError) as error:
        raise SinkError(client.explain(error, settings, what)) from error
    finally:
        close_producer(producer, _CLOSE_SECONDS)
