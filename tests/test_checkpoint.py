"""Checkpoints in memory and on disk: one promise, and what the disk adds to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.errors import SinkError
from connectors.memory import MemorySink
from connectors.records import Channel, Input, OutRecord
from monitor.checkpoint import (
    Checkpoint,
    Damaged,
    Entry,
    FileCheckpoint,
    Marker,
    MemoryCheckpoint,
    Restored,
)
from monitor.errors import StateError
from monitor.shared_checkpoint import ChangelogCheckpoint
from tests.memory_ledger import MemoryLedger

BUNDLES = {"unit": "bundle-1"}
TOPIC = Input("sensors", "an id", 3)


def event(name: str, channel: Channel = Channel.ALERTS) -> OutRecord:
    return OutRecord(channel, name, b"plant/0", name.encode())


def ids(sink: MemorySink) -> list[str]:
    return [record.id for record in sink.records]


def restored_of(checkpoint: Checkpoint, partition: int) -> Restored:
    restored = checkpoint.restore(partition)
    assert restored is not None
    assert not isinstance(restored, Damaged)
    return restored


class Place:
    """Where state outlives a checkpoint: `restarted` is what a new process finds, `sink` what it wrote to."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.sink = MemorySink()
        self._kind = kind
        self._folder = folder
        self._rows: dict[int, list[tuple[bytes, bytes | None]]] = {}
        self._open: Checkpoint | None = None

    def restarted(self) -> Checkpoint:
        if self._kind == "changelog":
            self._open = ChangelogCheckpoint(MemoryLedger(self.sink, self._rows))
        elif self._kind == "file":
            self.stop()
            self._open = FileCheckpoint(self._folder, self.sink)
        elif self._open is None:
            self._open = MemoryCheckpoint(self.sink)
        return self._open

    def stop(self) -> None:
        if self._open is not None:
            self._open.close()


@pytest.fixture(params=["memory", "file", "changelog"])
def place(request: pytest.FixtureRequest, tmp_path: Path):
    made = Place(request.param, tmp_path / "state")
    yield made
    made.stop()


# -- one suite for all ---------------------------------------------------------------------------------------


def test_a_partition_without_a_commit_has_nothing_to_restore(place: Place) -> None:
    assert place.restarted().restore(0) is None


def test_what_was_committed_is_restored_by_partition(place: Place) -> None:
    checkpoint = place.restarted()
    checkpoint.publish([event("a"), event("b", Channel.THRESHOLDS)])
    checkpoint.commit(0, {"plant/0": b"\x00row", "plant/1": b""}, Marker(7, BUNDLES))
    checkpoint.commit(3, {"plant/9": b"other"}, Marker(2**40, {}))
    again = place.restarted()
    first, other = restored_of(again, 0), restored_of(again, 3)
    assert first.rows == {"plant/0": b"\x00row", "plant/1": b""}
    assert first.marker.position == 7
    assert first.marker.bundles == BUNDLES
    assert first.journal == ()
    assert (other.rows, other.marker.position, other.marker.bundles) == ({"plant/9": b"other"}, 2**40, {})
    assert again.restore(1) is None


def test_rows_of_several_commits_merge_also_over_a_restart(place: Place) -> None:
    checkpoint = place.restarted()
    checkpoint.commit(0, {"a": b"1", "b": b"1"}, Marker(1, BUNDLES))
    checkpoint.commit(0, {"b": b"2"}, Marker(2, BUNDLES))
    after = place.restarted()
    after.restore(0)
    after.commit(0, {"c": b"3"}, Marker(3, BUNDLES))
    restored = restored_of(place.restarted(), 0)
    assert restored.rows == {"a": b"1", "b": b"2", "c": b"3"}
    assert restored.marker.position == 3


def test_a_row_that_is_removed_is_gone_and_the_others_stay(place: Place) -> None:
    place.restarted().commit(0, {"a": b"old", "b": b"old", "c": b"old"}, Marker(1, BUNDLES))
    checkpoint = place.restarted()
    checkpoint.restore(0)
    checkpoint.commit(
        0, {"a": None, "b": b"new", "never": None}, Marker(2, {"unit": "bundle-2"}, "hash", TOPIC)
    )
    restored = restored_of(place.restarted(), 0)
    assert restored.rows == {"b": b"new", "c": b"old"}
    assert restored.marker == Marker(2, {"unit": "bundle-2"}, "hash", TOPIC)


def test_the_journal_is_restored_whole_in_order_and_by_partition(place: Place) -> None:
    checkpoint = place.restarted()
    for partition in range(2):
        checkpoint.commit(partition, {}, Marker(1, BUNDLES))
    checkpoint.journal(0, [Entry(5, "second", b"\x00"), Entry(5, "first", b"")])
    checkpoint.journal(1, [Entry(2**40, "other", b"x")])
    checkpoint.commit(0, {"a": b"1"}, Marker(9, BUNDLES))
    again = place.restarted()
    again.restore(0)
    again.journal(0, [Entry(3, "third", b"z")])
    after = place.restarted()
    assert restored_of(after, 0).journal == (
        Entry(5, "second", b"\x00"),
        Entry(5, "first", b""),
        Entry(3, "third", b"z"),
    )
    assert restored_of(after, 0).rows == {"a": b"1"}
    assert restored_of(after, 1).journal == (Entry(2**40, "other", b"x"),)


def test_nothing_is_written_when_the_sink_refuses(place: Place) -> None:
    checkpoint = place.restarted()
    checkpoint.commit(0, {"a": b"1"}, Marker(1, BUNDLES))
    checkpoint.publish([event("refused")])
    place.sink.failure = SinkError("no")
    with pytest.raises(SinkError, match="no"):
        checkpoint.commit(0, {"a": b"2", "b": b"2"}, Marker(2, BUNDLES))
    restored = restored_of(place.restarted(), 0)
    assert restored.rows == {"a": b"1"}
    assert restored.marker.position == 1


def test_a_commit_makes_durable_what_was_published_before_it(place: Place) -> None:
    checkpoint = place.restarted()
    checkpoint.publish([event("a"), event("b")])
    assert ids(place.sink) == []
    checkpoint.commit(0, {}, Marker(1, BUNDLES))
    assert ids(place.sink) == ["a", "b"]


def test_what_the_sink_has_behind_the_commit_is_not_published_again_after_a_restart(place: Place) -> None:
    checkpoint = place.restarted()
    checkpoint.publish([event("before")])
    checkpoint.commit(0, {}, Marker(1, BUNDLES))
    place.sink.emit([event("behind"), event("version", Channel.THRESHOLDS)])
    place.sink.flush(1.0)
    again = place.restarted()
    again.restore(0)
    again.publish([event("behind"), event("version", Channel.THRESHOLDS), event("new")])
    again.commit(0, {}, Marker(2, BUNDLES))
    assert ids(place.sink) == ["before", "behind", "version", "new"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_ids_behind_every_partitions_commit_are_skipped_when_all_are_restored(
    place: Place, order: tuple[int, int]
) -> None:
    checkpoint = place.restarted()
    checkpoint.commit(0, {}, Marker(1, BUNDLES))
    checkpoint.publish([event("of-1")])
    checkpoint.commit(1, {}, Marker(1, BUNDLES))
    again = place.restarted()
    for partition in order:
        again.restore(partition)
    again.publish([event("of-1")])
    again.commit(0, {}, Marker(2, BUNDLES))
    assert ids(place.sink) == ["of-1"]


def test_restored_rows_may_be_changed_without_changing_what_is_stored(place: Place) -> None:
    checkpoint = place.restarted()
    rows = {"a": b"1"}
    checkpoint.commit(0, rows, Marker(1, BUNDLES))
    rows["a"] = b"changed"
    again = place.restarted()
    restored = restored_of(again, 0)
    restored.rows["b"] = b"changed"
    again.commit(0, {}, Marker(2, BUNDLES))
    after = restored_of(place.restarted(), 0)
    assert after.rows == {"a": b"1"}


def test_closing_twice_is_closing_once(place: Place) -> None:
    checkpoint = place.restarted()
    checkpoint.close()
    checkpoint.close()


# -- on disk --------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(tmp_path: Path):
    """Opens file checkpoints on `tmp_path`, and closes them."""
    made: list[FileCheckpoint] = []

    def make(sink: MemorySink | None = None) -> FileCheckpoint:
        for one in made:
            one.close()
        made.append(FileCheckpoint(tmp_path, sink or MemorySink()))
        return made[-1]

    yield make
    for one in made:
        one.close()


Opened = Callable[..., FileCheckpoint]


class Crash(BaseException):
    """The process is gone: nothing of ours may catch it."""


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_crash_before_the_rename_leaves_the_old_snapshot(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    checkpoint = opened()
    checkpoint.commit(0, {"a": b"1"}, Marker(1, BUNDLES))
    before = (tmp_path / "partition-0.snapshot").read_bytes()

    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(*{"fsync": (os, "fsync", crash), "replace": (Path, "replace", crash)}[call])
        with pytest.raises(Crash):
            checkpoint.commit(0, {"a": b"2"}, Marker(2, BUNDLES))
    assert (tmp_path / "partition-0.tmp").exists()
    assert (tmp_path / "partition-0.snapshot").read_bytes() == before

    again = opened()
    restored = restored_of(again, 0)
    assert (restored.rows, restored.marker.position) == ({"a": b"1"}, 1)
    again.commit(0, {"a": b"3"}, Marker(3, BUNDLES))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lock", "partition-0.snapshot"]


def test_the_new_snapshot_is_on_disk_before_it_takes_the_old_ones_name(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(descriptor: int) -> None:
        order.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        order.append(f"rename {self.name} {Path(target).name}")
        return replace(self, target)

    checkpoint = opened()
    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    checkpoint.commit(0, {}, Marker(1, BUNDLES))
    assert order == [
        "sync partition-0.tmp",
        "rename partition-0.tmp partition-0.snapshot",
        f"sync {tmp_path.name}",
    ]


def damaged(raw: bytes) -> dict[str, bytes]:
    middle = len(raw) // 2
    return {
        "one bit": raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :],
        "cut": raw[:-1],
        "header only": raw[: len(b"nuwatch snapshot 1\n")],
        "longer": raw + b"\x00",
    }


@pytest.mark.parametrize("damage", ["one bit", "cut", "header only", "longer"])
def test_a_damaged_snapshot_is_refused_with_what_to_do(tmp_path: Path, opened: Opened, damage: str) -> None:
    opened().commit(0, {"plant/0": b"x" * 100}, Marker(1, BUNDLES))
    path = tmp_path / "partition-0.snapshot"
    path.write_bytes(damaged(path.read_bytes())[damage])
    with pytest.raises(StateError, match="checksum") as caught:
        opened().restore(0)
    assert str(caught.value).startswith(f"{path}: ")
    assert "hint: move the file away" in str(caught.value)
    assert caught.value.exit_code == 74


@pytest.mark.parametrize("raw", [b"", b"nuwatch snapshot 2\n" + b"\x00" * 40, b"PK\x03\x04"])
def test_a_foreign_format_is_refused_with_what_to_do(tmp_path: Path, opened: Opened, raw: bytes) -> None:
    path = tmp_path / "partition-0.snapshot"
    path.write_bytes(raw)
    with pytest.raises(StateError, match=r"expected a snapshot of format 1, got .*hint: move the file away"):
        opened().restore(0)
    assert path.read_bytes() == raw


def test_a_second_daemon_on_the_same_folder_is_refused(tmp_path: Path, opened: Opened) -> None:
    first = opened()
    with pytest.raises(StateError, match="another nuwatch uses this state folder") as caught:
        FileCheckpoint(tmp_path, MemorySink())
    assert str(tmp_path) in str(caught.value)
    first.close()
    FileCheckpoint(tmp_path, MemorySink()).close()


def test_a_sink_that_cannot_be_reached_leaves_the_folder_free(tmp_path: Path) -> None:
    class Gone(MemorySink):
        def open(self) -> dict[str, int]:
            raise SinkError("no broker")

    with pytest.raises(SinkError, match="no broker") as caught:
        FileCheckpoint(tmp_path, Gone())
    FileCheckpoint(tmp_path, MemorySink()).close()
    assert "no broker" in str(caught.value)


def test_a_state_folder_that_is_a_file_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("mine")
    with pytest.raises(StateError, match="cannot use the state folder") as caught:
        FileCheckpoint(tmp_path / "state", MemorySink())
    assert caught.value.exit_code == 74
    assert (tmp_path / "state").read_text() == "mine"


def test_a_read_only_folder_is_a_state_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(self: Path, *_: object) -> None:
        raise OSError(30, "Read-only file system", str(self))  # modes do not hold the superuser back

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", read_only)
        with pytest.raises(StateError, match="cannot use the state folder: Read-only file system") as caught:
            FileCheckpoint(tmp_path, MemorySink())
    assert caught.value.exit_code == 74


def test_a_disk_that_takes_no_more_is_a_state_error_and_the_next_commit_loses_nothing(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = opened()
    checkpoint.commit(0, {"a": b"1"}, Marker(1, BUNDLES))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StateError, match="No space left on device") as caught:
            checkpoint.commit(0, {"b": b"2"}, Marker(2, BUNDLES))
    assert caught.value.exit_code == 74
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lock", "partition-0.snapshot"]
    checkpoint.commit(0, {"c": b"3"}, Marker(3, BUNDLES))
    restored = restored_of(opened(), 0)
    assert restored.rows == {"a": b"1", "b": b"2", "c": b"3"}


def test_a_snapshot_that_cannot_be_read_is_a_state_error(tmp_path: Path, opened: Opened) -> None:
    (tmp_path / "partition-0.snapshot").mkdir()
    with pytest.raises(StateError, match="cannot read the snapshot"):
        opened().restore(0)
