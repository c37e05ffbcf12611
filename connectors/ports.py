"""The two ports to the outside. Every adapter (kafka, files, memory) passes one contract suite."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from connectors.records import Channel, Decoded, Input, OutRecord, Polled, Queue, RawRecord

Start = Literal["earliest", "latest"] | int
"""Where to begin a partition without a stored position: an end, or an event time in epoch ns."""


class Rewind(NamedTuple):
    """Where to begin a partition whose state is to be rebuilt: so much earlier than where it stood.

    Attributes:
        position: where it stood; None where only the outside may know (the last `Source.commit`), and where that does
            not know either it is the start.
        span_ns: how much earlier, by the times that the outside has (of a broker: those of its records), in ns.
    """

    position: int | None
    span_ns: int


Position = Callable[[int], int | Rewind | None]
"""Where to begin a partition, by its number; None where nothing is stored."""


class Codec(Protocol):
    """Turns the raw records of one poll of one partition into columnar batches and rejections."""

    def decode(self, records: Sequence[RawRecord]) -> Decoded:
        """Decode in order; a record that cannot be decoded is rejected, never raised."""
        ...


class Source(Protocol):
    """Yields decoded batches per partition, in order within each partition.

    A source never interprets times, never drops a record silently, and holds no position of its own that
    matters: the caller seeks to what its own store says, and `commit` is only a courtesy to lag monitors.
    """

    def open(self, position: Position, start: Start) -> None:
        """Connect and position every partition: at ``position(partition)``, else (None) at ``start``.

        ``input`` is known before the first position is asked for. What is gone at a position is passed, and told by
        the ``lost`` of a poll.

        Raises:
            SourceError: the outside cannot be reached or refuses.
            OffsetGone: a position lies behind the end: it cannot be of this input.
        """
        ...

    def poll(self, timeout: float) -> Sequence[Polled]:
        """What has come, at most one `Polled` per partition; empty after ``timeout`` seconds of nothing."""
        ...

    def commit(self, positions: Mapping[int, int]) -> None:
        """Tell the outside that everything before these positions is durable here."""
        ...

    def pause(self) -> None:
        """Stop fetching (polls go on and bring nothing), for back-pressure."""
        ...

    def resume(self) -> None:
        """Fetch again."""
        ...

    @property
    def input(self) -> Input:
        """What is read, as found by `open`."""
        ...

    @property
    def rewound(self) -> Mapping[int, int]:
        """Where partitions stood that `open` has rewound; without those of which it is not known."""
        ...

    @property
    def exhausted(self) -> bool:
        """True when nothing will ever come again (a file's end); a topic is never exhausted."""
        ...

    @property
    def lag(self) -> int | None:
        """Records between the positions and the end, or None where that is unknown."""
        ...

    def end(self, partition: int) -> int | None:
        """Where a partition to which others append ended when that was last asked; None where nobody appends."""
        ...

    @property
    def held(self) -> tuple[int, ...]:
        """The partitions that are read here, in order; none before `open`."""
        ...

    @property
    def trouble(self) -> str | None:
        """What stands in the way of reading just now, for a person; None while reading goes on."""
        ...

    @property
    def reconnections(self) -> int:
        """How often a connection that had stopped bringing records was replaced."""
        ...

    @property
    def queues(self) -> tuple[Queue, ...]:
        """What has been fetched and not been polled."""
        ...

    def close(self) -> None:
        """Leave the outside. Idempotent."""
        ...


class Keeper(Protocol):
    """Holds the state of partitions that come and go: what a `SharedSource` tells, while its caller waits in `poll`."""

    def begin(self, partition: int, position: int) -> None:
        """A partition without stored state begins here; must be durable when this returns.

        Raises:
            SinkError: it could not be made durable.
        """
        ...

    def finish(self, partitions: Collection[int]) -> None:
        """Partitions go to another member: make them durable, then forget them. Raises nothing."""
        ...

    def drop(self, partitions: Collection[int]) -> None:
        """Partitions were lost, and another member may have them: forget them, and write nothing."""
        ...


class SharedSource(Source, Protocol):
    """A source whose partitions are shared out between the members of a group.

    ``open`` only connects. A partition that is assigned is asked for its position, at the next `poll`, as ``open``
    was told to.
    """

    @property
    def partitions(self) -> tuple[int, ...]:
        """All partitions, whoever holds them."""
        ...

    def share(self, keeper: Keeper) -> None:
        """Whom to tell; called before `open`."""
        ...

    def again(self) -> None:
        """Position every partition that is held anew at the next `poll`, as if it had just been assigned."""
        ...


class Sink(Protocol):
    """Publishes records, at least once, in order per key."""

    def open(self) -> Mapping[str, int]:
        """Connect; returns the present end position per ``channel/partition`` (opaque to the caller)."""
        ...

    def ids_after(self, ends: Mapping[str, int]) -> set[str]:
        """Ids of the records published at or after these end positions: what a restart must not send again."""
        ...

    def published(self, channel: Channel) -> Iterable[bytes]:
        """Values of everything that a channel still has, in order per key.

        Raises:
            SinkError: it cannot be read.
        """
        ...

    def emit(self, records: Sequence[OutRecord]) -> None:
        """Hand over records; they are durable only after `flush` has returned.

        Raises:
            SinkError: the sink cannot take records at all. An outside that is away or refuses is told by `flush`.
        """
        ...

    def flush(self, timeout: float) -> Mapping[str, int]:
        """Wait until everything emitted is acknowledged; returns the new end positions.

        After an error, what was not acknowledged stays handed over: a later flush tries again.

        Raises:
            SinkError: a record was refused, or the time ran out.
        """
        ...

    def close(self) -> None:
        """Leave the outside. Idempotent."""
        ...


class CommandTopic(Protocol):
    """Commands for running monitors: records of one partition, each with a position that it keeps for ever.

    It is read from its first record on by everyone who opens it; who has done what of it is the caller's to know.
    """

    def open(self) -> Input:
        """Connect; returns what is read.

        Raises:
            SourceError: the outside cannot be reached or refuses, or there is more than one partition.
        """
        ...

    def poll(self) -> Sequence[RawRecord]:
        """What has come since the last call, in order, at once.

        Raises:
            SourceError: reading cannot go on.
        """
        ...

    @property
    def end(self) -> int:
        """The position behind the last record that is known to be there."""
        ...

    @property
    def trouble(self) -> str | None:
        """What stands in the way of reading just now, for a person; None while reading goes on."""
        ...

    @property
    def queue(self) -> Queue:
        """What has been read and not been polled."""
        ...

    def close(self) -> None:
        """Leave the outside. Idempotent."""
        ...
