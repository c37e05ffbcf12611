"""Dead letters: a record that is not wholly reflected in windows, with its original bytes and why.

Written by `dead_letter`, read again by `parse_letter`. Our headers follow the original ones and begin with
``x-error-reason``; where a dead letter was itself fed in again, the last ones are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from connectors.records import Channel, OutRecord, RawRecord, Reason, headers_of
from monitor.alerting.alerts import ID_HEADER
from monitor.quantities import Instant, iso_time

REASON_HEADER = "x-error-reason"
DETAIL_HEADER = "x-error-detail"
TOPIC_HEADER = "x-error-topic"
PARTITION_HEADER = "x-error-partition"
OFFSET_HEADER = "x-error-offset"
TIME_HEADER = "x-error-time"
RECEIVED_HEADER = "x-error-received"
REBUILT_HEADER = "x-error-rebuilt"
VERSION_HEADER = "x-error-version"
SIZE_HEADER = "x-error-original-size"
"""On a cut dead letter: the size of the original value, in bytes."""
NULL_HEADER = "nuwatch-null"
REPLAYED_HEADER = "nuwatch-replayed"
"""On a record that was sent to the input again: the id of the dead letter that it came from."""
MAX_DETAIL = 500
_NS_PER_MS = 1_000_000


def dead_letter(
    record: RawRecord,
    reason: Reason,
    detail: str,
    *,
    topic: str,
    version: str,
    number: int = 1,
    time_ns: int | None = None,
    rebuilt: bool = False,
    series: str = "",
) -> OutRecord:
    """A rejected record for the dead-letter channel.

    Value, key and headers are the original ones. No wall clock is read: same record, same bytes.

    Args:
        record: as it came; its value is None where the bytes could not be read.
        reason: the bounded reason code.
        detail: what was got and expected; cut to 500 characters.
        topic: name of the input.
        version: of nuwatch.
        number: counts the rejections of one record from 1, where several of its rows are rejected.
        time_ns: event time of the rejected reading, ns since the epoch, where it is known.
        rebuilt: the value is one row of a record, written anew as a frame.
        series: keeps the ids of another topic than the input's apart.
    """
    name = f"dlq:{series}{record.partition}:{record.offset}:{number}"
    ours = [
        (REASON_HEADER, reason.value),
        (DETAIL_HEADER, detail[:MAX_DETAIL].encode(errors="replace").decode()),
        (TOPIC_HEADER, topic),
        (PARTITION_HEADER, str(record.partition)),
        (OFFSET_HEADER, str(record.offset)),
        *([] if time_ns is None else [(TIME_HEADER, iso_time(time_ns))]),
        *([(RECEIVED_HEADER, iso_time(record.timestamp_ms * _NS_PER_MS))] if record.timestamp_ms > 0 else []),
        *([(REBUILT_HEADER, "row")] if rebuilt else []),
        (VERSION_HEADER, version),
        (ID_HEADER, name),
    ]
    return OutRecord(
        Channel.DEAD_LETTER, name, record.key, record.value, (*record.headers, *headers_of(ours))
    )


class Letter(NamedTuple):
    """A dead letter that was read back.

    Attributes:
        id: names the rejection.
        reason: the reason code, as it was written.
        detail: for a person.
        topic: the input that the record came from.
        partition: of the input.
        offset: there.
        time: event time of the rejected reading, ISO 8601; None where it is not known.
        received: the broker's time of the original record, ISO 8601; None where it is not known.
        version: of the nuwatch that wrote it; None of versions that did not say.
        rebuilt: the value is one row of a record, written anew as a frame.
        original_size: of a value that was cut, in bytes; None where it is whole.
        key: the original key.
        value: the original value.
        headers: the original headers.
    """

    id: str
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    time: str | None
    received: str | None
    version: str | None
    rebuilt: bool
    original_size: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def asset(self) -> str:
        """The asset that the record names, else its key; '' where neither says."""
        try:
            return _BODY.decode(self.value or b"").asset
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return (self.key or b"").decode(errors="replace")

    @property
    def at_ns(self) -> int | None:
        """Event time, else the broker's time, ns since the epoch; None where neither is known."""
        text = self.time or self.received
        return None if text is None else int(Instant.parse(text))


class _Body(msgspec.Struct):
    asset: str


_BODY = msgspec.json.Decoder(_Body)


def parse_letter(
    key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]
) -> Letter | None:
    """Read a record of the dead-letter channel; None for one that nuwatch did not write."""
    begin = max((at for at, (name, _) in enumerate(headers) if name == REASON_HEADER), default=None)
    if begin is None:
        return None
    ours = {name: content.decode(errors="replace") for name, content in headers[begin:]}
    try:
        return _letter(key, value, tuple(headers[:begin]), ours)
    except (KeyError, ValueError):
        return None


def _letter(
    key: bytes | None, value: bytes | None, original: tuple[tuple[str, bytes], ...], ours: Mapping[str, str]
) -> Letter:
    return Letter(
        id=ours[ID_HEADER],
        reason=ours[REASON_HEADER],
        detail=ours[DETAIL_HEADER],
        topic=ours[TOPIC_HEADER],
        partition=int(ours[PARTITION_HEADER]),
        offset=int(ours[OFFSET_HEADER]),
        time=ours.get(TIME_HEADER),
        received=ours.get(RECEIVED_HEADER),
        version=ours.get(VERSION_HEADER),
        rebuilt=REBUILT_HEADER in ours,
        original_size=int(ours[SIZE_HEADER]) if SIZE_HEADER in ours else None,
        key=key,
        value=None if NULL_HEADER in ours else value,
        headers=original,
    )


def obstacle(letter: Letter, topic: str) -> str | None:
    """Why a letter cannot be sent to the input ``topic`` again; None where it can."""
    if letter.value is None:
        return "it holds no bytes: a tombstone, or bytes that could not be read"
    if letter.original_size is not None:
        return f"it was cut to {len(letter.value)} of {letter.original_size} bytes"
    if letter.topic != topic:
        return f"it came from '{letter.topic}', the input is '{topic}'"
    return None


def sent_again(letter: Letter) -> RawRecord:
    """The original record for its partition of the input, marked with the letter's id.

    It goes to its own partition whatever the key would choose: an asset's readings belong together.
    """
    mark = headers_of([(REPLAYED_HEADER, letter.id)])
    return RawRecord(
        letter.partition, letter.offset, letter.key, letter.value, headers=(*letter.headers, *mark)
    )
