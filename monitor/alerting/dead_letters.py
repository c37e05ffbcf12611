"""Dead letters: a record that is not wholly reflected in windows, with its original bytes and why."""

from __future__ import annotations

from connectors.records import Channel, OutRecord, RawRecord, Reason, headers_of
from monitor.alerting.alerts import ID_HEADER
from monitor.quantities import iso_time

REASON_HEADER = "x-error-reason"
DETAIL_HEADER = "x-error-detail"
TOPIC_HEADER = "x-error-topic"
PARTITION_HEADER = "x-error-partition"
OFFSET_HEADER = "x-error-offset"
TIME_HEADER = "x-error-time"
MAX_DETAIL = 500


def dead_letter(
    record: RawRecord, reason: Reason, detail: str, *, topic: str, number: int = 1, time_ns: int | None = None
) -> OutRecord:
    """A rejected record for the dead-letter channel.

    Value, key and headers are the original ones; ours follow them, so that where a name occurs twice (a dead
    letter that was fed in again) the last one is ours. No wall clock is read: same record, same bytes.

    Args:
        record: as it came; its value is None where the bytes could not be read.
        reason: the bounded reason code.
        detail: what was got and expected; cut to 500 characters.
        topic: name of the input.
        number: counts the rejections of one record from 1, where several of its rows are rejected.
        time_ns: event time of the rejected reading, ns since the epoch, where it is known.
    """
    name = f"dlq:{record.partition}:{record.offset}:{number}"
    ours = [
        (REASON_HEADER, reason.value),
        (DETAIL_HEADER, detail[:MAX_DETAIL].encode(errors="replace").decode()),
        (TOPIC_HEADER, topic),
        (PARTITION_HEADER, str(record.partition)),
        (OFFSET_HEADER, str(record.offset)),
        *([] if time_ns is None else [(TIME_HEADER, iso_time(time_ns))]),
        (ID_HEADER, name),
    ]
    return OutRecord(
        Channel.DEAD_LETTER, name, record.key, record.value, (*record.headers, *headers_of(ours))
    )
