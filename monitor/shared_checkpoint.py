"""Durable state in a Kafka changelog, for several daemons in one group: a checkpoint is one transaction.

Rows that changed, the marker, what is published and the input offsets appear together or not at all, and the broker
refuses the transaction of a daemon that has lost its partitions. What is published between two checkpoints goes out
in short transactions that send the last checkpoint's offsets again: these change nothing, but are refused likewise.
So a daemon that was cut off can publish nothing and commit nothing, whatever it believes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from connectors.records import Channel, OutRecord, Row
from monitor import changelog
from monitor.checkpoint import Checkpoint, Damaged, Entry, Marker, Restored
from monitor.errors import StateError


class Ledger(Protocol):
    """What writes a transaction and reads it back: `connectors.kafka.KafkaLedger`."""

    @property
    def largest_row(self) -> int:
        """Bytes that fit into one row, key included."""
        ...

    def open(self, partitions: int) -> Mapping[str, int]:
        """See that everything is there for an input with so many partitions; returns the output topics' ends."""
        ...

    def ids_after(self, ends: Mapping[str, int]) -> set[str]:
        """Ids of the records published at or after these positions."""
        ...

    def published(self, channel: Channel) -> Iterable[bytes]:
        """Values of everything that an output topic has, in order per key."""
        ...

    def rows(self, partition: int) -> Iterable[tuple[bytes, bytes | None]]:
        """Every committed row of a partition, in order."""
        ...

    def transact(
        self, records: Sequence[OutRecord], rows: Sequence[Row], offsets: Mapping[int, int], timeout: float
    ) -> Mapping[str, int]:
        """Write all of it or nothing; returns the output topics' ends."""
        ...

    def close(self) -> None:
        """Leave. Idempotent."""
        ...


class SharedCheckpoint(Checkpoint, Protocol):
    """A checkpoint of partitions that come and go."""

    def open(self, partitions: int) -> None:
        """See that everything is there for an input with so many partitions.

        Raises:
            SinkError: it is not, or cannot be reached.
            PartitionsChanged: the stored state is that of an input with another number of partitions.
        """
        ...

    def forget(self, partitions: Collection[int]) -> None:
        """These are no longer ours: nothing more is written for them."""
        ...

    def settle(self) -> None:
        """Bring what was published to the sink; called after every step, so that nothing waits for a commit.

        Raises:
            Aborted: nothing of it is there, and the partitions may be another's.
            SinkError: the outside refuses it.
        """
        ...


class ChangelogCheckpoint:
    """State in a changelog; see `SharedCheckpoint`.

    Args:
        ledger: writes the transactions.
        timeout: longest time for each step of one, in seconds.
    """

    def __init__(self, ledger: Ledger, timeout: float = 30.0) -> None:
        self._ledger = ledger
        self._timeout = timeout
        self._seen: set[str] = set()
        self._offsets: dict[int, int] = {}  # of the last checkpoint, of the partitions that are ours
        self._parts: dict[int, dict[str, int]] = {}
        self._entries: dict[int, int] = {}
        self._replacing: dict[
            int, list[changelog.Pair]
        ] = {}  # what ends a damaged state, with the next commit
        self._ends: dict[str, int] = {}
        self._waiting: list[OutRecord] = []  # published since the last transaction

    def open(self, partitions: int) -> None:
        """See `SharedCheckpoint`."""
        self._ends = dict(self._ledger.open(partitions))

    def restore(self, partition: int) -> Restored | Damaged | None:
        """See `Checkpoint`."""
        found = changelog.assemble(self._ledger.rows(partition), f"changelog, partition {partition}")
        if found is None:
            self._parts[partition], self._entries[partition] = {}, 0
            return None
        self._seen |= self._ledger.ids_after(found.ends)
        self._parts[partition] = dict(found.parts)
        self._entries[partition] = len(found.state.journal)
        if isinstance(found.state, Restored):
            self._offsets[partition] = found.state.marker.position
        else:
            self._replacing[partition] = [
                *((key, None) for key in found.stale),
                *(changelog.entry_pair(entry, number) for number, entry in enumerate(found.state.journal)),
            ]
        return found.state

    def publish(self, events: Sequence[OutRecord]) -> None:
        """See `Checkpoint`; `settle` or the next commit brings them to the sink."""
        self._waiting += [event for event in events if event.id not in self._seen]

    def published(self, channel: Channel) -> Iterable[bytes]:
        """See `Checkpoint`."""
        return self._ledger.published(channel)

    def settle(self) -> None:
        """See `SharedCheckpoint`: one transaction for all partitions of a step."""
        if self._waiting and self._offsets:
            self._transact([], self._offsets)

    def journal(self, partition: int, entries: Sequence[Entry]) -> None:
        """See `Checkpoint`."""
        first = self._entries.get(partition, 0)
        pairs = [changelog.entry_pair(entry, first + n) for n, entry in enumerate(entries)]
        self._transact([Row(partition, *pair) for pair in pairs], {partition: self._offsets[partition]})
        self._entries[partition] = first + len(entries)

    def commit(self, partition: int, rows: Mapping[str, bytes | None], marker: Marker) -> None:
        """See `Checkpoint`."""
        before = self._parts.setdefault(partition, {})
        largest = self._ledger.largest_row
        try:
            pairs = [
                *self._replacing.get(partition, ()),
                *(
                    pair
                    for asset, row in rows.items()
                    for pair in changelog.row_pairs(
                        asset, row, marker.position, before.get(asset, 0), largest
                    )
                ),
            ]
        except ValueError as error:
            raise StateError(f"partition {partition}: {error}") from error
        # Ends of before this transaction: what it publishes itself is found again, which does no harm.
        pairs.append(changelog.marker_pair(marker, self._ends))
        self._transact([Row(partition, *pair) for pair in pairs], {partition: marker.position})
        self._offsets[partition] = marker.position
        self._replacing.pop(partition, None)
        before |= {asset: changelog.parts_of(row, asset, largest) for asset, row in rows.items()}

    def forget(self, partitions: Collection[int]) -> None:
        """See `SharedCheckpoint`."""
        for partition in partitions:
            for known in (self._offsets, self._parts, self._entries, self._replacing):
                known.pop(partition, None)

    def close(self) -> None:
        """See `Checkpoint`."""
        self._ledger.close()

    def _transact(self, rows: Sequence[Row], offsets: Mapping[int, int]) -> None:
        """One transaction with what waits; what is aborted is not kept: it will be folded again."""
        records, self._waiting = self._waiting, []
        self._ends = dict(self._ledger.transact(records, rows, offsets, self._timeout))
