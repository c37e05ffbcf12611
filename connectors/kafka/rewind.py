"""Where to begin a partition whose state is to be rebuilt: some time, by the broker's clock, before it stood."""

from __future__ import annotations

from typing import Any

from connectors.kafka.clientlib import Consumer, TopicPartition

_ANSWER_MS = 2000


def rewound(consumer: Consumer, top: TopicPartition, stood: int, first: int, span_ms: int) -> int:
    """The offset of the first record that is at most ``span_ms`` older than the last one before ``stood``.

    Times of a broker are not event times. Where data come with a delay, or many at once, this goes back further than
    it needs to; it goes back too little only where event time runs slower than the clock.

    Args:
        consumer: connected; is left with this one partition.
        top: the partition.
        stood: an offset of it, at most its end.
        first: the first offset that it holds.
        span_ms: how far back.
    """
    last = _time_before(consumer, top, stood, first)
    if last is None:
        return first
    wanted = {top: max(0, last - span_ms)}
    found: Any = consumer.offsets_for_times(wanted, timeout_ms=_ANSWER_MS * 5)[top]
    return stood if found is None else max(first, min(found.offset, stood))


def _time_before(consumer: Consumer, top: TopicPartition, stood: int, first: int) -> int | None:
    """Time of the last record before an offset, ms; None where there is none. Not every offset holds a record."""
    back = 1
    consumer.assign([top])
    while stood > first:
        at = max(first, stood - back)
        consumer.seek(top, at)
        records = consumer.poll(timeout_ms=_ANSWER_MS).get(top, [])
        before = [record.timestamp for record in records if record.offset < stood]
        if before:
            return before[-1]
        if at == first:
            return None
        back *= 10
    return None
