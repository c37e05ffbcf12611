"""Reading past records that cannot be unpacked.

When a batch of a topic is damaged (wrong checksum, broken compression, nonsense inside), kafka-python raises
from ``poll`` without saying where, and its consumer then never returns again. So the source leaves that
consumer, and here each partition is read once more, alone and one batch at a time, from where the source
stands. Only a partition that fails again is damaged. How far the damage goes is found by reading without the
checksum, which often still gives the records' bytes; else the error says it (`connectors.kafka.unpacking`), and
where it does not, by trying one offset after the other until one can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from connectors.kafka import client
from connectors.kafka.clientlib import (
    Consumer,
    CorruptRecordError,
    KafkaError,
    TopicPartition,
    UnsupportedCodecError,
)
from connectors.kafka.settings import KafkaSourceSettings
from connectors.kafka.unpacking import BatchError, UnpackedTooLargeError
from connectors.records import RawRecord, Reason, Rejected

_ANSWER_MS = 10_000
_MOST_AT_ONCE = 10_000


class Damage(NamedTuple):
    """What cannot be used: offsets from where the source stands up to ``end`` (excluded) of ``partition``."""

    partition: int
    end: int
    rejected: tuple[Rejected, ...]


def is_unpacking(error: Exception) -> bool:
    """Whether an error of ``poll`` can come from the bytes of a record.

    These are the library's own two kinds, and whatever our bounded unpacking, ``struct`` and text decoding raise. Its
    other kinds speak of the network, of rights and of positions.
    """
    return isinstance(error, CorruptRecordError | UnsupportedCodecError) or not isinstance(error, KafkaError)


def find(settings: KafkaSourceSettings, positions: Mapping[int, int]) -> list[Damage]:
    """Read every partition again at its position; returns those that fail again, with the extent of it.

    Raises:
        KafkaError: the broker did not answer, or refused: nothing is known then, and nothing may be skipped.
    """
    found: list[Damage] = []
    with _reader(settings, check_crcs=True) as strict, _reader(settings, check_crcs=False) as lenient:
        tops = [TopicPartition(settings.topic, partition) for partition in positions]
        ends = strict.end_offsets(tops, timeout_ms=_ANSWER_MS)
        for top in tops:
            first = positions[top.partition]
            error = _failure(strict, top, first) if first < ends[top] else None
            if error is not None:
                # Markers of transactions before the damage are passed by the reading itself.
                first = max(first, strict.position(top, timeout_ms=0))
                found.append(_extent(lenient, top, first, ends[top], error))
    return found


@contextmanager
def _reader(settings: KafkaSourceSettings, *, check_crcs: bool) -> Generator[Consumer]:
    consumer = client.consumer(settings, check_crcs=check_crcs, one_batch=True)
    try:
        yield consumer
    finally:
        consumer.close(autocommit=False)


def _read(consumer: Consumer, top: TopicPartition, offset: int) -> list[Any]:
    """The records of the one batch at ``offset``, those before it left out."""
    consumer.assign([top])
    consumer.seek(top, offset)
    return consumer.poll(timeout_ms=_ANSWER_MS).get(top, [])


def _failure(consumer: Consumer, top: TopicPartition, offset: int) -> Exception | None:
    """The error that the bytes at ``offset`` cause, or None.

    Raises:
        KafkaError: of any other kind.
    """
    try:
        _read(consumer, top, offset)
    except Exception as error:
        if not is_unpacking(error):
            raise
        return error
    return None


def _extent(lenient: Consumer, top: TopicPartition, first: int, last: int, cause: Exception) -> Damage:
    """How far the damage at ``first`` goes; ``last`` is the partition's end."""
    told = str(cause) if isinstance(cause, BatchError) else f"{type(cause).__name__}: {cause}"
    detail = f"the records cannot be unpacked, twice: {told}"[:500]
    error = _failure(lenient, top, first)
    if error is None:  # only the checksum is wrong
        records = [client.raw(record) for record in _read(lenient, top, first)]
        return _readable(top, first, records, lambda record: Rejected(record, Reason.CORRUPT, detail))
    reason = _reason(error)
    end = _unreadable(lenient, top, first, last, error)
    lost = (RawRecord(top.partition, offset, None, None) for offset in range(first, end))
    return Damage(top.partition, end, tuple(Rejected(record, reason, detail) for record in lost))


def _unreadable(lenient: Consumer, top: TopicPartition, first: int, last: int, error: Exception) -> int:
    """The offset behind what cannot be unpacked for the same reason, from ``first`` on; a bounded stretch of it.

    No offset is read twice: a consumer that has failed at one would spin there.
    """
    reason, end, again = _reason(error), first, error
    while again is not None and _reason(again) is reason:
        end = min(last, again.end) if isinstance(again, BatchError) else end + 1
        if end >= last or end - first >= _MOST_AT_ONCE:
            break
        again = _failure(lenient, top, end)
    return end


def _reason(error: Exception) -> Reason:
    return Reason.TOO_LARGE if isinstance(error.__cause__, UnpackedTooLargeError) else Reason.CORRUPT


def _readable(
    top: TopicPartition, first: int, records: list[RawRecord], reject: Callable[[RawRecord], Rejected]
) -> Damage:
    """Only the checksum is wrong: the bytes go to the dead letters as they were read."""
    if not records:
        return Damage(top.partition, first + 1, (reject(RawRecord(top.partition, first, None, None)),))
    if records[0].offset > first:  # compaction left a gap; what follows it is judged on its own
        return Damage(
            top.partition, records[0].offset, (reject(RawRecord(top.partition, first, None, None)),)
        )
    return Damage(top.partition, records[-1].offset + 1, tuple(reject(record) for record in records))
