"""The durable `Checkpoint` of one daemon: an SQLite file in the state folder, and any sink."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

from connectors.ports import Sink
from connectors.records import Channel, OutRecord
from monitor.checkpoint import Damaged, Entry, Marker, Publishing, Restored
from monitor.durable.database import Unsound
from monitor.durable.folder import lock, open_store
from monitor.durable.store import Store


class SqliteCheckpoint:
    """Rows that changed, marker and sink positions in one transaction of the state file.

    A file that is damaged is set aside and begun anew, and every partition without a marker is then `Damaged`; where
    only one partition's rows do not fit their checksums, that one is. Either is remembered until its next commit.

    Args:
        directory: the state folder; made if missing, and locked while open.
        sink: where records are published.
        timeout: longest wait for the sink's acknowledgements, in seconds.

    Raises:
        StateError: the folder cannot be used, or another daemon uses it.
        ConfigurationError: a newer version wrote the state.
        SinkError: the sink cannot be reached.
    """

    def __init__(self, directory: Path, sink: Sink, timeout: float = 60.0) -> None:
        self._lock: IO[bytes] | None = lock(directory)
        store: Store | None = None
        try:
            self._store = store = open_store(directory)
            self._publishing = Publishing(sink, timeout)
            self._ends: dict[str, int] | None = None
        except BaseException:
            if store is not None:
                store.close()
            self._lock.close()
            raise

    def restore(self, partition: int) -> Restored | Damaged | None:
        """See `Checkpoint`."""
        try:
            stored = self._store.read(partition)
        except Unsound as damage:
            self._store.give_up(partition, self._store.salvaged(partition, str(damage)))
            stored = None
        if stored is not None:
            self._skip_known()
            return stored.restored
        lost = self._store.lost(partition)
        if lost is not None:
            self._publishing.skip_known(
                {}
            )  # what is repeated goes back further than any position that is known
        return lost

    def _skip_known(self) -> None:
        """Read the sink once for all partitions, and not once for each: a start would take a while for many."""
        if self._ends is None:
            self._ends = self._store.ends()
        self._publishing.skip_known(self._ends)

    def publish(self, events: Sequence[OutRecord]) -> None:
        """See `Checkpoint`."""
        self._publishing.publish(events)

    def published(self, channel: Channel) -> Iterable[bytes]:
        """See `Checkpoint`."""
        return self._publishing.published(channel)

    def journal(self, partition: int, entries: Sequence[Entry]) -> None:
        """See `Checkpoint`."""
        self._store.append(partition, entries)

    def commit(self, partition: int, rows: Mapping[str, bytes | None], marker: Marker) -> None:
        """See `Checkpoint`."""
        self._store.write(partition, rows, marker, self._publishing.acknowledge())

    def close(self) -> None:
        """See `Checkpoint`."""
        if self._lock is not None:
            self._publishing.close()
            self._store.close()
            self._lock.close()
            self._lock = None
