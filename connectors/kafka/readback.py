"""Reading a topic's partitions up to their true end, committed records only.

The end that a read-committed reader is told lies before the first open transaction. Whoever takes partitions over
must not stop there: what a predecessor has written may still be committed. So the end is asked of an uncommitted
reader, and the reading waits until every transaction before it was committed or aborted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from connectors.kafka import client
from connectors.kafka.clientlib import Consumer, KafkaTimeoutError, TopicPartition
from connectors.kafka.settings import Connection

_ANSWER_MS = 10_000
_POLL_MS = 200


def ends(settings: Connection, tops: list[TopicPartition]) -> dict[TopicPartition, int]:
    """The offsets after the last records, those of open transactions included.

    Raises:
        KafkaError: the broker does not answer or refuses.
    """
    reader = client.consumer(settings, committed=False)
    try:
        return reader.end_offsets(tops, timeout_ms=_ANSWER_MS)
    finally:
        reader.close(autocommit=False)


def read(settings: Connection, begins: Mapping[TopicPartition, int], patience: float) -> Iterator[Any]:
    """The committed records from ``begins`` to the ends that the partitions have now, in order per partition.

    Args:
        settings: the cluster.
        begins: where to begin; earlier than the first offset that is left means that one.
        patience: longest wait without any progress, in seconds.

    Raises:
        KafkaError: the broker does not answer or refuses, or an open transaction was not ended in time.
    """
    last = ends(settings, list(begins))
    reader = client.consumer(settings)
    try:
        first = reader.beginning_offsets(list(begins), timeout_ms=_ANSWER_MS)
        begun = {top: max(first[top], at) for top, at in begins.items()}
        waiting = {top: last[top] for top, at in begun.items() if at < last[top]}
        reader.assign(list(begun))
        for top, at in begun.items():
            reader.seek(top, at)
        yield from _drain(reader, waiting, patience)
    finally:
        reader.close(autocommit=False)


def _drain(reader: Consumer, waiting: dict[TopicPartition, int], patience: float) -> Iterator[Any]:
    moved, at = time.monotonic(), dict.fromkeys(waiting, -1)
    while waiting:
        for records in reader.poll(timeout_ms=_POLL_MS).values():
            yield from records
        now = {top: reader.position(top, timeout_ms=0) for top in waiting}
        if now != at:
            moved, at = time.monotonic(), now
        elif time.monotonic() - moved > patience:
            names = ", ".join(f"{top.topic}/{top.partition}" for top in waiting)
            raise KafkaTimeoutError(f"no progress for {patience:.0f} s in reading {names} up to the end")
        waiting = {top: end for top, end in waiting.items() if now[top] < end}
        at = {top: at[top] for top in waiting}
