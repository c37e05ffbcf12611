"""What every checkpoint promises; what the state file adds to it is in test_state_file.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from connectors.errors import SinkError
from connectors.memory import MemorySink
from connectors.records import Channel, Input, OutRecord
from monitor.checkpoint import (
    Checkpoint,
    Damaged,
    Entry,
    Marker,
    MemoryCheckpoint,
    Restored,
)
from monitor.durable.checkpoint import SqliteCheckpoint
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
        elif self._kind == "sqlite":
            self.stop()
            self._open = SqliteCheckpoint(self._folder, self.sink)
        elif self._open is None:
            self._open = MemoryCheckpoint(self.sink)
        return self._open

    def stop(self) -> None:
        if self._open is not None:
            self._open.close()


@pytest.fixture(params=["memory", "sqlite", "changelog"])
def place(request: pytest.FixtureRequest, tmp_path: Path):
    made = Place(request.param, tmp_path / "state")
    yield made
    made.stop()


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


def test_what_the_sink_had_behind_the_earliest_partition_is_not_sent_again(place: Place) -> None:
    checkpoint = place.restarted()
    checkpoint.commit(0, {}, Marker(1, BUNDLES))
    checkpoint.publish([event("of 0"), event("of 1")])
    checkpoint.commit(1, {}, Marker(1, BUNDLES))
    checkpoint.publish([event("of 1 again")])
    checkpoint.commit(1, {}, Marker(2, BUNDLES))
    again = place.restarted()
    for partition in (1, 0):
        again.restore(partition)
    again.publish([event("of 0"), event("new")])
    again.commit(0, {}, Marker(2, BUNDLES))
    assert ids(place.sink) == ["of 0", "of 1", "of 1 again", "new"]


class CountingSink(MemorySink):
    """Remembers from where it was read."""

    def __init__(self) -> None:
        super().__init__()
        self.read_from: list[dict[str, int]] = []

    def ids_after(self, ends: Mapping[str, int]) -> set[str]:
        self.read_from.append(dict(ends))
        return super().ids_after(ends)


def test_a_state_file_has_its_sink_read_once_for_all_partitions(tmp_path: Path) -> None:
    sink = CountingSink()
    first = SqliteCheckpoint(tmp_path, sink)
    for partition in range(4):
        first.publish([event(f"of {partition}")])
        first.commit(partition, {}, Marker(1, BUNDLES))
    first.close()
    again = SqliteCheckpoint(tmp_path, sink)
    for partition in range(4):
        again.restore(partition)
    again.close()
    (read_from,) = sink.read_from
    assert read_from["alerts/0"] == 1, "where the partition that was committed first stood"


def test_what_was_published_meanwhile_is_known_to_a_later_restore() -> None:
    sink = CountingSink()
    checkpoint = MemoryCheckpoint(sink)
    for partition in range(2):
        checkpoint.commit(partition, {}, Marker(1, BUNDLES))
    for partition in range(2):
        checkpoint.restore(partition)
    assert len(sink.read_from) == 1
    checkpoint.publish([event("a")])
    checkpoint.commit(0, {}, Marker(2, BUNDLES))
    checkpoint.restore(1)
    checkpoint.publish([event("a")])
    checkpoint.commit(1, {}, Marker(2, BUNDLES))
    assert ids(sink) == ["a"]
