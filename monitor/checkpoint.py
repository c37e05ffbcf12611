"""The port that carries the delivery promise, and its implementation in memory.

A checkpoint pairs a partition's state with the input position that it reflects. Because the pipeline is
a deterministic fold, that pair is all the durable state there is: after a crash the fold is repeated from it
and yields the same records with the same ids, and those that the sink already has are skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from connectors.ports import Sink
from connectors.records import Channel, Input, OutRecord


class Heard(msgspec.Struct, frozen=True):
    """How far a partition has followed the control topic.

    Attributes:
        incarnation: of the control topic; positions of another one mean nothing here.
        begun: commands before this position came before the partition began, and never act on it.
        decided: every command before this position was decided: it acts where the journal says, or was refused.
    """

    incarnation: str
    begun: int
    decided: int


class Marker(msgspec.Struct, frozen=True):
    """What the rows of a partition reflect.

    Attributes:
        position: the input offset after the last record that they reflect.
        bundles: bundle id by asset class; rows of another bundle cannot be continued.
        configuration: name of what is in force from ``position`` on; '' where it is not known.
        input: what the position is a position of; None where it is not known.
        rebuilt_to: where the partition stood when its state was lost; up to there it is being rebuilt. 0: it was not.
        forgotten: so many of the journal's first entries are of an input that was made anew since: their positions mean
            nothing now.
        heard: how far the control topic was followed; None where there was none.
    """

    position: int
    bundles: dict[str, str]
    configuration: str = ""
    input: Input | None = None
    rebuilt_to: int = 0
    forgotten: int = 0
    heard: Heard | None = None


class Entry(msgspec.Struct, frozen=True):
    """Something that entered from the side, with the place in the stream at which it acts.

    Attributes:
        position: the input offset before which it acts.
        id: its name; the same thing has the same name in every partition, and whoever hands it in.
        content: what it is, as its owner encodes it.
    """

    position: int
    id: str
    content: bytes


class Restored(NamedTuple):
    """A partition as it was committed last: opaque rows by asset, their marker, and the whole journal in order."""

    rows: dict[str, bytes]
    marker: Marker
    journal: tuple[Entry, ...] = ()


class Damaged(NamedTuple):
    """A partition whose state was given up: it is set aside where it lay, and must be rebuilt from the source.

    Attributes:
        reason: what was found, for a person.
        position: that of the last commit, where it could still be read.
        journal: what could still be read of it.
    """

    reason: str
    position: int | None = None
    journal: tuple[Entry, ...] = ()


class Checkpoint(Protocol):
    """Durable state of partitions together with what was published for them.

    Every implementation passes one suite (`tests/test_checkpoint.py`).
    """

    def restore(self, partition: int) -> Restored | Damaged | None:
        """The last commit of a partition, or None where there is none.

        Called when a partition comes: on start, or on assignment; always before something of it is published.

        Raises:
            StateError: the stored state cannot be read.
            ConfigurationError: it was written by a newer version.
        """
        ...

    def publish(self, events: Sequence[OutRecord]) -> None:
        """Hand records to the sink, except those that it already had when the state was restored."""
        ...

    def published(self, channel: Channel) -> Iterable[bytes]:
        """Values of everything that the sink still has of a channel, in order per key.

        Raises:
            SinkError: it cannot be read.
        """
        ...

    def journal(self, partition: int, entries: Sequence[Entry]) -> None:
        """Make durable what is about to act; when this returns, a restart finds it. Nothing is ever removed.

        Raises:
            StateError: the state cannot be written; nothing of it may act.
        """
        ...

    def commit(self, partition: int, rows: Mapping[str, bytes | None], marker: Marker) -> None:
        """Make durable: everything published is acknowledged, then the rows that changed and the marker, as one.

        Args:
            partition: whose.
            rows: those that changed, by asset; None removes one. Rows of earlier commits stay.
            marker: what the rows reflect from here on.

        Raises:
            SinkError: something published was not acknowledged; nothing is written.
            StateError: the state cannot be written.
        """
        ...

    def close(self) -> None:
        """Release what is held. Idempotent."""
        ...


class Publishing:
    """What implementations share: a sink that is not told twice what it had before a restart.

    Args:
        sink: where records are published; opened here.
        timeout: longest wait for its acknowledgements, in seconds.

    Raises:
        SinkError: the sink cannot be reached.
    """

    def __init__(self, sink: Sink, timeout: float) -> None:
        sink.open()
        self._sink = sink
        self._timeout = timeout
        self._seen: set[str] = set()
        self._read_from: Mapping[str, int] | None = None  # nothing was published since

    def skip_known(self, ends: Mapping[str, int]) -> None:
        """What the sink has from these end positions on will not be sent again; it is read where it was not yet."""
        before = self._read_from
        if before is not None and all(ends.get(name, 0) >= at for name, at in before.items()):
            return
        self._seen |= self._sink.ids_after(ends)
        self._read_from = dict(ends)

    def publish(self, events: Sequence[OutRecord]) -> None:
        """Hand over what the sink has not."""
        fresh = [event for event in events if event.id not in self._seen]
        if fresh:
            self._read_from = None
            self._sink.emit(fresh)

    def published(self, channel: Channel) -> Iterable[bytes]:
        """What the sink still has."""
        return self._sink.published(channel)

    def acknowledge(self) -> dict[str, int]:
        """Wait until all of it is acknowledged; the new end positions.

        Raises:
            SinkError: something was not.
        """
        return dict(self._sink.flush(self._timeout))

    def close(self) -> None:
        """Leave the sink."""
        self._sink.close()


class MemoryCheckpoint:
    """State in memory: for replay, where a restart begins anew, and for tests."""

    def __init__(self, sink: Sink, timeout: float = 60.0) -> None:
        self._publishing = Publishing(sink, timeout)
        self._stored: dict[int, Restored] = {}
        self._ends: dict[int, dict[str, int]] = {}
        self._journal: dict[int, tuple[Entry, ...]] = {}

    def restore(self, partition: int) -> Restored | Damaged | None:
        """See `Checkpoint`."""
        restored = self._stored.get(partition)
        if restored is None:
            return None
        self._publishing.skip_known(self._ends[partition])
        return restored._replace(rows=dict(restored.rows), journal=self._journal.get(partition, ()))

    def publish(self, events: Sequence[OutRecord]) -> None:
        """See `Checkpoint`."""
        self._publishing.publish(events)

    def published(self, channel: Channel) -> Iterable[bytes]:
        """See `Checkpoint`."""
        return self._publishing.published(channel)

    def journal(self, partition: int, entries: Sequence[Entry]) -> None:
        """See `Checkpoint`."""
        self._journal[partition] = (*self._journal.get(partition, ()), *entries)

    def commit(self, partition: int, rows: Mapping[str, bytes | None], marker: Marker) -> None:
        """See `Checkpoint`."""
        self._ends[partition] = self._publishing.acknowledge()
        before = self._stored.get(partition)
        self._stored[partition] = Restored(_merged(before.rows if before else {}, rows), marker)

    def close(self) -> None:
        """See `Checkpoint`."""
        self._publishing.close()


def _merged(before: Mapping[str, bytes], rows: Mapping[str, bytes | None]) -> dict[str, bytes]:
    """Earlier rows, those that changed, and without those that were removed."""
    return {asset: row for asset, row in {**before, **rows}.items() if row is not None}
