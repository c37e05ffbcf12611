"""What passes between the outside and the monitor: raw records, columnar batches, rejections, output records."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Quality(IntEnum):
    """Quality of one reading; the words of OPC UA, and why nuwatch itself calls a reading bad."""

    ABSENT = 0
    GOOD = 1
    UNCERTAIN = 2
    BAD = 3
    NON_FINITE = 4
    OUT_OF_RANGE = 5


class Reason(StrEnum):
    """Why a record, or a row of it, was not accepted (bounded: these are metric labels and header values)."""

    EMPTY = "EMPTY"
    TOO_LARGE = "TOO_LARGE"
    MALFORMED = "MALFORMED"
    WRONG_TYPE = "WRONG_TYPE"
    MISSING_FIELD = "MISSING_FIELD"
    UNKNOWN_ASSET = "UNKNOWN_ASSET"
    UNKNOWN_SENSOR = "UNKNOWN_SENSOR"
    UNIT_MISMATCH = "UNIT_MISMATCH"
    BAD_QUALITY_WORD = "BAD_QUALITY_WORD"
    BAD_TIME = "BAD_TIME"
    TIME_RANGE = "TIME_RANGE"
    FUTURE_TIME = "FUTURE_TIME"
    LATE = "LATE"
    CROWDED = "CROWDED"
    CORRUPT = "CORRUPT"


class Queue(NamedTuple):
    """What waits somewhere between the outside and the loop, in bytes.

    Attributes:
        name: bounded: a metric's label.
        size: of what waits now.
        limit: of what may wait.
    """

    name: str
    size: int
    limit: int


class RawRecord(NamedTuple):
    """One record as it came: ``offset`` is its position in ``partition``; ``timestamp_ms`` is the broker's."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


class Context(NamedTuple):
    """Batch context of a reading, in the words of ISA-88; ``phase_started`` is epoch ns or None."""

    batch_id: str | None = None
    recipe: str | None = None
    phase: str | None = None
    phase_started: int | None = None
    lot: str | None = None


NO_CONTEXT = Context()


class Batch(NamedTuple):
    """N rows (frames or single readings) of assets of one asset class, in the order in which they came.

    Attributes:
        asset_class: the class's name.
        assets: the names that ``asset`` points to.
        asset: [N] int32, index into ``assets``.
        time: [N] int64, event time in ns since the epoch, UTC.
        values: [N, D] float64 in the configured units; NaN where ``quality`` is ABSENT or NON_FINITE.
        quality: [N, D] uint8, codes of `Quality`; columns in the order of the class's sensors.
        contexts: the batch contexts that ``context`` points to; the first one is `NO_CONTEXT`.
        context: [N] int32, index into ``contexts``.
        offset: [N] int64, the position of the record that held the row.
    """

    asset_class: str
    assets: tuple[str, ...]
    asset: NDArray[np.int32]
    time: NDArray[np.int64]
    values: NDArray[np.float64]
    quality: NDArray[np.uint8]
    contexts: tuple[Context, ...]
    context: NDArray[np.int32]
    offset: NDArray[np.int64]


class Rejected(NamedTuple):
    """A record that is not (or not wholly) reflected in windows: it goes to the dead-letter channel.

    Attributes:
        record: the original record.
        reason: the bounded reason code.
        detail: what was got and what was expected, for a person; at most 500 characters.
    """

    record: RawRecord
    reason: Reason
    detail: str


class Input(NamedTuple):
    """What a source reads: what stored positions belong to.

    Attributes:
        name: of the topic, or of the kind of source.
        incarnation: another one where the same name was made anew, so that its positions mean something else; ''
            where that cannot be told.
        partitions: how many; keys move between partitions when it changes. 0 where that cannot be told.
    """

    name: str
    incarnation: str = ""
    partitions: int = 0


class Lost(NamedTuple):
    """Positions of a partition that were gone before they could be read.

    Attributes:
        first: the position that was wanted.
        end: where reading goes on. Not behind ``first`` where the input was made anew.
    """

    first: int
    end: int


class Polled(NamedTuple):
    """What one poll brought for one partition.

    Attributes:
        partition: the partition.
        position: the offset after the last record of this poll: where to go on.
        batches: decoded rows; at most one batch per asset class, rows in stream order.
        rejected: records that could not be decoded, in stream order.
        records: number of records read, rejected ones included.
        counts: quantities worth a metric, such as KEY_MISMATCH, by bounded name.
        newest_ms: broker timestamp of the newest record (0 where there is none), for latency metrics only.
        lost: what was gone before the first record of this poll; None as a rule.
    """

    partition: int
    position: int
    batches: tuple[Batch, ...]
    rejected: tuple[Rejected, ...] = ()
    records: int = 0
    counts: tuple[tuple[str, int], ...] = ()
    newest_ms: int = 0
    lost: Lost | None = None


def first_position(polled: Polled) -> int | None:
    """Position of the first record of a poll; None where it brought nothing that can be named."""
    offsets = [int(batch.offset[0]) for batch in polled.batches if len(batch.offset)]
    offsets += [rejected.record.offset for rejected in polled.rejected]
    if polled.lost is not None:
        return polled.lost.first
    return min(offsets, default=None)


class Channel(StrEnum):
    """The output channels; the Kafka sink maps each to a topic, the files sink to a file."""

    ALERTS = "alerts"
    THRESHOLDS = "thresholds"
    DEAD_LETTER = "dead_letter"


class OutRecord(NamedTuple):
    """One record to publish. ``id`` depends on the data alone: the same record sent twice has the same id."""

    channel: Channel
    id: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Row(NamedTuple):
    """A record of the changelog; without a value it removes its key."""

    partition: int
    key: bytes
    value: bytes | None


class SensorLayout(NamedTuple):
    """A column of a batch: the sensor's name, the tag it has in messages and files, and its UCUM unit."""

    name: str
    tag: str
    unit: str


class ClassLayout(NamedTuple):
    """What a codec must know of an asset class: its name, asset name patterns (fnmatch) and sensors in order."""

    name: str
    assets: tuple[str, ...]
    sensors: tuple[SensorLayout, ...]


class TimeLayout(NamedTuple):
    """How times are read.

    Attributes:
        unit: of integer times: 's', 'ms', 'us' or 'ns'.
        zone: IANA zone for times without an offset; None refuses them.
        earliest: epoch ns; earlier times are rejected as TIME_RANGE.
        latest: epoch ns; later times are rejected as TIME_RANGE.
    """

    unit: str = "ms"
    zone: str | None = None
    earliest: int = 0
    latest: int = 2**63 - 1


class Layout(NamedTuple):
    """What a codec must know of the configuration.

    Attributes:
        classes: the asset classes, in order; the first whose pattern fits an asset takes it.
        time: how times are read.
        ignore_unknown_sensors: True counts and skips unknown sensors, False rejects their record.
        max_bytes: a larger record is rejected as TOO_LARGE.
    """

    classes: tuple[ClassLayout, ...]
    time: TimeLayout = TimeLayout()
    ignore_unknown_sensors: bool = False
    max_bytes: int = 1_048_576


class Decoded(NamedTuple):
    """A codec's result for the records of one poll of one partition."""

    batches: tuple[Batch, ...]
    rejected: tuple[Rejected, ...]
    counts: tuple[tuple[str, int], ...]


def headers_of(pairs: Sequence[tuple[str, str]]) -> tuple[tuple[str, bytes], ...]:
    """Header pairs as bytes, in order."""
    return tuple((name, value.encode()) for name, value in pairs)
