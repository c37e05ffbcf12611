"""The port that carries the delivery promise, and its implementations in memory and on disk.

A checkpoint pairs a partition's state with the input position that it reflects. Because the pipeline is
a deterministic fold, that pair is all the durable state there is: after a crash the fold is repeated from it
and yields the same records with the same ids, and those that the sink already has are skipped.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import msgspec

from connectors.ports import Sink
from connectors.records import Input, OutRecord
from monitor.errors import StateError

_MAGIC = b"nuwatch snapshot 1\n"


class Marker(msgspec.Struct, frozen=True):
    """What the rows of a partition reflect.

    Attributes:
        position: the input offset after the last record that they reflect.
        bundles: bundle id by asset class; rows of another bundle cannot be continued.
        configuration: hash of the configuration in force from ``position`` on; '' where it is not known.
        input: what the position is a position of; None where it is not known.
    """

    position: int
    bundles: dict[str, str]
    configuration: str = ""
    input: Input | None = None


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


class _Publishing:
    """What every implementation shares: a sink that is not told twice what it had before a restart."""

    def __init__(self, sink: Sink, timeout: float) -> None:
        sink.open()
        self._sink = sink
        self._timeout = timeout
        self._seen: set[str] = set()

    def skip_known(self, ends: Mapping[str, int]) -> None:
        self._seen |= self._sink.ids_after(ends)

    def publish(self, events: Sequence[OutRecord]) -> None:
        fresh = [event for event in events if event.id not in self._seen]
        if fresh:
            self._sink.emit(fresh)

    def acknowledge(self) -> dict[str, int]:
        return dict(self._sink.flush(self._timeout))

    def close(self) -> None:
        self._sink.close()


class MemoryCheckpoint:
    """State in memory: for replay, where a restart begins anew, and for tests."""

    def __init__(self, sink: Sink, timeout: float = 60.0) -> None:
        self._publishing = _Publishing(sink, timeout)
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


class _FileMarker(msgspec.Struct, frozen=True):
    position: int
    sink: dict[str, int]
    bundles: dict[str, str]
    configuration: str = ""
    input: Input | None = None


class _Snapshot(msgspec.Struct, frozen=True):
    marker: _FileMarker
    rows: dict[str, bytes]
    journal: tuple[Entry, ...] = ()


class FileCheckpoint:
    """One snapshot file per partition, replaced atomically: temp file, fsync, rename, fsync of the folder.

    Args:
        directory: folder of the snapshots; made if missing, and locked while open.
        sink: where records are published.
        timeout: longest wait for the sink's acknowledgements, in seconds.

    Raises:
        StateError: the folder cannot be used, or another daemon uses it.
        SinkError: the sink cannot be reached.
    """

    def __init__(self, directory: Path, sink: Sink, timeout: float = 60.0) -> None:
        self._directory = directory
        self._stored: dict[int, _Snapshot] = {}
        self._lock: IO[bytes] | None = _locked(directory)
        try:
            self._publishing = _Publishing(sink, timeout)
        except BaseException:
            self._lock.close()
            raise

    def restore(self, partition: int) -> Restored | Damaged | None:
        """See `Checkpoint`."""
        path = self._path(partition)
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{path}: cannot read the snapshot: {error.strerror}") from error
        snapshot = self._stored[partition] = _unpack(raw, path)
        self._publishing.skip_known(snapshot.marker.sink)
        stored = snapshot.marker
        marker = Marker(stored.position, stored.bundles, stored.configuration, stored.input)
        return Restored(dict(snapshot.rows), marker, snapshot.journal)

    def publish(self, events: Sequence[OutRecord]) -> None:
        """See `Checkpoint`."""
        self._publishing.publish(events)

    def journal(self, partition: int, entries: Sequence[Entry]) -> None:
        """See `Checkpoint`."""
        stored = self._stored[partition]
        self._keep(partition, _Snapshot(stored.marker, stored.rows, (*stored.journal, *entries)))

    def commit(self, partition: int, rows: Mapping[str, bytes | None], marker: Marker) -> None:
        """See `Checkpoint`."""
        ends = self._publishing.acknowledge()
        before = self._stored.get(partition)
        kept = _FileMarker(marker.position, ends, marker.bundles, marker.configuration, marker.input)
        merged = _merged(before.rows if before else {}, rows)
        self._keep(partition, _Snapshot(kept, merged, before.journal if before else ()))

    def _keep(self, partition: int, snapshot: _Snapshot) -> None:
        self._stored[partition] = snapshot
        self._write(self._path(partition), _pack(snapshot))

    def close(self) -> None:
        """See `Checkpoint`."""
        if self._lock is not None:
            self._publishing.close()
            self._lock.close()
            self._lock = None

    def _path(self, partition: int) -> Path:
        return self._directory / f"partition-{partition}.snapshot"

    def _write(self, path: Path, raw: bytes) -> None:
        temporary = path.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(self._directory)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise StateError(f"{path}: cannot write the snapshot: {error.strerror}") from error


def _pack(snapshot: _Snapshot) -> bytes:
    body = msgspec.msgpack.encode(snapshot)
    return _MAGIC + hashlib.sha256(body).digest() + body


def _unpack(raw: bytes, path: Path) -> _Snapshot:
    digest, body = raw[len(_MAGIC) : len(_MAGIC) + 32], raw[len(_MAGIC) + 32 :]
    if not raw.startswith(_MAGIC):
        raise StateError(f"{path}: expected a snapshot of format 1, got {raw[:20]!r}; hint: {_REMOVE}")
    if hashlib.sha256(body).digest() != digest:
        raise StateError(f"{path}: the snapshot's checksum does not fit its content; hint: {_REMOVE}")
    return msgspec.msgpack.decode(body, type=_Snapshot)


_REMOVE = (
    "move the file away to start this partition anew at `start`; alerts since the last snapshot may repeat"
)


def _sync_folder(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked(directory: Path) -> IO[bytes]:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / "lock").open("wb")
    except OSError as error:
        raise StateError(f"{directory}: cannot use the state folder: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StateError(f"{directory}: another nuwatch uses this state folder") from None
    return lock
