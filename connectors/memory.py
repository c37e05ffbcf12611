"""A source and a sink in memory, for tests, notebooks and the demo; under the same contract as Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, repeat

from connectors.codec import Codec
from connectors.ports import Position, Rewind, Start
from connectors.records import Batch, Channel, Input, Layout, OutRecord, Polled, Queue, RawRecord
from connectors.rows import numbered, rows_from, rows_of


class MemorySource:
    """Serves records (through the codec) or batches (as they are) that are already in memory.

    Args:
        items: raw records of any partitions, each partition in order of offset; or batches, whose rows become
            the positions 0, 1, 2, ... of partition 0.
        layout: for the codec; records need it, batches do not.
        cuts: most records of the first, second, ... poll (of batches: rows; a poll never crosses the end of a
            batch); the last one holds for all later polls.
    """

    def __init__(
        self,
        items: Sequence[RawRecord] | Sequence[Batch],
        layout: Layout | None = None,
        cuts: Iterable[int] = (1000,),
    ) -> None:
        self._codec = None if layout is None else Codec(layout)
        self._records = [item for item in items if isinstance(item, RawRecord)]
        self._batches = numbered([item for item in items if isinstance(item, Batch)])
        if self._records and self._codec is None:
            raise TypeError("raw records need a layout to be decoded by")
        sizes = list(cuts)
        self._cuts: Iterator[int] = chain(sizes, repeat(sizes[-1]))
        self._next = 0
        self._paused = False
        self.held = tuple(sorted({record.partition for record in self._records})) or (0,)
        self.trouble: str | None = None
        self.reconnections = 0
        self.queues: tuple[Queue, ...] = ()
        self.committed: dict[int, int] = {}
        self._rewound: dict[int, int] = {}

    def open(self, position: Position, start: Start) -> None:
        """Position every partition; ``start`` as a time means the first record (row) at or after it."""
        begun: set[int] = set()
        position = cache(self._resolved(position))
        kept: list[RawRecord] = []
        for record in self._records:
            stored = position(record.partition)
            fresh = (
                record.timestamp_ms * 1_000_000 >= start if isinstance(start, int) else start == "earliest"
            )
            if record.partition in begun or (fresh if stored is None else record.offset >= stored):
                begun.add(record.partition)
                kept.append(record)
        self._records = kept
        self._batches = rows_from(self._batches, position(0), start)

    @property
    def rewound(self) -> Mapping[int, int]:
        """Where the partitions stood that were rewound: what was committed."""
        return self._rewound

    def _resolved(self, position: Position) -> Callable[[int], int | None]:
        """A partition that is to be rewound begins at its first record of the span before where it stood."""

        def resolve(partition: int) -> int | None:
            wanted = position(partition)
            if not isinstance(wanted, Rewind):
                return wanted
            stood = self.committed.get(partition, 0) if wanted.position is None else wanted.position
            self._rewound[partition] = stood
            times = self._times(partition)
            before = [time for offset, time in times if offset < stood]
            floor = max(before, default=0) - wanted.span_ns
            return min((offset for offset, time in times if time >= floor), default=0)

        return resolve

    def _times(self, partition: int) -> list[tuple[int, int]]:
        records = [(r.offset, r.timestamp_ms * 1_000_000) for r in self._records if r.partition == partition]
        rows = [pair for b in self._batches for pair in zip(b.offset.tolist(), b.time.tolist(), strict=True)]
        return records or rows

    def poll(self, timeout: float) -> Sequence[Polled]:
        """The next cut, at once: memory has no use for the timeout."""
        del timeout
        if self._paused or self.exhausted:
            return ()
        return self._next_rows(next(self._cuts)) if self._batches else self._next_records(next(self._cuts))

    def _next_records(self, size: int) -> list[Polled]:
        taken = self._records[self._next : self._next + size]
        self._next += len(taken)
        by_partition: dict[int, list[RawRecord]] = {}
        for record in taken:
            by_partition.setdefault(record.partition, []).append(record)
        return [self._codec.poll(records) for records in by_partition.values()] if self._codec else []

    def _next_rows(self, size: int) -> list[Polled]:
        batch = self._batches[0]
        if len(batch.time) > size:
            self._batches[0] = rows_of(batch, slice(size, None))
            batch = rows_of(batch, slice(0, size))
        else:
            del self._batches[0]
        return [Polled(0, int(batch.offset[-1]) + 1, (batch,), records=len(batch.time))]

    def commit(self, positions: Mapping[int, int]) -> None:
        """Remember the positions in ``committed``, where a test can see them."""
        self.committed.update(positions)

    def pause(self) -> None:
        """Serve nothing until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Serve again."""
        self._paused = False

    @property
    def input(self) -> Input:
        """Memory has one name and any number of partitions."""
        return Input("memory")

    @property
    def exhausted(self) -> bool:
        """Whether everything has been served."""
        return self.lag == 0

    @property
    def lag(self) -> int:
        """Records or rows not served yet."""
        return len(self._records) - self._next + sum(len(batch.time) for batch in self._batches)

    def end(self, partition: int) -> None:
        """Nobody appends."""

    def close(self) -> None:
        """Nothing to leave."""


class MemorySink:
    """Keeps what was flushed in ``records``; the next flush raises ``failure`` if a test has set it."""

    def __init__(self) -> None:
        self.records: list[OutRecord] = []
        self.failure: Exception | None = None
        self._emitted: list[OutRecord] = []

    def open(self) -> Mapping[str, int]:
        """Number of records per channel."""
        self._emitted.clear()
        return self._ends()

    def ids_after(self, ends: Mapping[str, int]) -> set[str]:
        """Ids of the records behind these ends."""
        return {
            record.id for channel in Channel for record in self._of(channel)[ends.get(f"{channel}/0", 0) :]
        }

    def published(self, channel: Channel) -> Iterable[bytes]:
        """What was flushed."""
        return [record.value for record in self._of(channel) if record.value is not None]

    def emit(self, records: Sequence[OutRecord]) -> None:
        """Hold records until the flush."""
        self._emitted += records

    def flush(self, timeout: float) -> Mapping[str, int]:
        """Publish what was emitted."""
        del timeout
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        self.records += self._emitted
        self._emitted.clear()
        return self._ends()

    def close(self) -> None:
        """Drop what was not flushed."""
        self._emitted.clear()

    def _of(self, channel: Channel) -> list[OutRecord]:
        return [record for record in self.records if record.channel is channel]

    def _ends(self) -> dict[str, int]:
        return {f"{channel}/0": len(self._of(channel)) for channel in Channel}


class MemoryCommandTopic:
    """Commands in memory, under the contract of `connectors.ports.CommandTopic`.

    Attributes:
        values: what was put on it; the position of each is its number.
    """

    def __init__(self, values: Iterable[bytes] = (), incarnation: str = "memory") -> None:
        self.values = list(values)
        self.trouble: str | None = None
        self.queue = Queue("commands", 0, 0)
        self._incarnation = incarnation
        self._next = 0

    def open(self) -> Input:
        """From its first record on."""
        self._next = 0
        return Input("control", self._incarnation, 1)

    def poll(self) -> Sequence[RawRecord]:
        """What has been put on it since."""
        begin, self._next = self._next, len(self.values)
        return [RawRecord(0, begin + n, None, value) for n, value in enumerate(self.values[begin:])]

    @property
    def end(self) -> int:
        """How many there are."""
        return len(self.values)

    def close(self) -> None:
        """Nothing to leave."""
