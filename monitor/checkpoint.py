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
from connectors.records import OutRecord
from monitor.errors import StateError

_MAGIC = b"nuwatch snapshot 1\n"


class Marker(msgspec.Struct, frozen=True):
    """What a snapshot reflects.

    Attributes:
        position: the input offset after the last record that the rows reflect.
        sink: the sink's end positions when everything before was acknowledged.
        bundles: bundle id by asset class; another bundle cannot go on from these rows.
    """

    position: int
    sink: dict[str, int]
    bundles: dict[str, str]


class Restored(NamedTuple):
    """A stored checkpoint: opaque rows by asset, and their marker."""

    rows: dict[str, bytes]
    marker: Marker


class Checkpoint(Protocol):
    """Durable state of partitions together with what was published for them."""

    def restore(self, partition: int) -> Restored | None:
        """The last commit of a partition, or None; call it for every partition before the first `publish`.

        Raises:
            StateError: the stored state is damaged or cannot be read.
        """
        ...

    def publish(self, events: Sequence[OutRecord]) -> None:
        """Hand records to the sink, except those that it already had when the state was restored."""
        ...

    def commit(
        self, partition: int, rows: Mapping[str, bytes], position: int, bundles: Mapping[str, str]
    ) -> None:
        """Make durable: everything published is acknowledged, then the rows that changed and the position.

        Rows of earlier commits stay, unless they are of other ``bundles``: those end here.

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

    def restore(self, partition: int) -> Restored | None:
        """See `Checkpoint`."""
        restored = self._stored.get(partition)
        if restored is None:
            return None
        self._publishing.skip_known(restored.marker.sink)
        return restored._replace(rows=dict(restored.rows))

    def publish(self, events: Sequence[OutRecord]) -> None:
        """See `Checkpoint`."""
        self._publishing.publish(events)

    def commit(
        self, partition: int, rows: Mapping[str, bytes], position: int, bundles: Mapping[str, str]
    ) -> None:
        """See `Checkpoint`."""
        marker = Marker(position, self._publishing.acknowledge(), dict(bundles))
        self._stored[partition] = _merged(self._stored.get(partition), rows, marker)

    def close(self) -> None:
        """See `Checkpoint`."""
        self._publishing.close()


def _merged(before: Restored | None, rows: Mapping[str, bytes], marker: Marker) -> Restored:
    """Earlier rows and those that changed; rows of another bundle must not pass for rows of this one."""
    if before is None or before.marker.bundles != marker.bundles:
        return Restored(dict(rows), marker)
    return Restored({**before.rows, **rows}, marker)


class _Snapshot(msgspec.Struct, frozen=True):
    marker: Marker
    rows: dict[str, bytes]


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
        self._stored: dict[int, Restored] = {}
        self._lock: IO[bytes] | None = _locked(directory)
        try:
            self._publishing = _Publishing(sink, timeout)
        except BaseException:
            self._lock.close()
            raise

    def restore(self, partition: int) -> Restored | None:
        """See `Checkpoint`."""
        path = self._path(partition)
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{path}: cannot read the snapshot: {error.strerror}") from error
        snapshot = _unpack(raw, path)
        self._stored[partition] = Restored(snapshot.rows, snapshot.marker)
        self._publishing.skip_known(snapshot.marker.sink)
        return Restored(dict(snapshot.rows), snapshot.marker)

    def publish(self, events: Sequence[OutRecord]) -> None:
        """See `Checkpoint`."""
        self._publishing.publish(events)

    def commit(
        self, partition: int, rows: Mapping[str, bytes], position: int, bundles: Mapping[str, str]
    ) -> None:
        """See `Checkpoint`."""
        marker = Marker(position, self._publishing.acknowledge(), dict(bundles))
        merged = self._stored[partition] = _merged(self._stored.get(partition), rows, marker)
        self._write(self._path(partition), _pack(_Snapshot(merged.marker, merged.rows)))

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
