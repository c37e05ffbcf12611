"""State as records of a compacted topic: what is written is what is read, whatever the topic's limits and history."""

from __future__ import annotations

import random

import msgspec
import pytest

from connectors.errors import Aborted
from connectors.memory import MemorySink
from connectors.records import Channel, OutRecord
from monitor.changelog import assemble, marker_pair, row_pairs
from monitor.checkpoint import Damaged, Entry, Marker, Restored
from monitor.errors import ConfigurationError, StateError
from monitor.shared_checkpoint import ChangelogCheckpoint
from tests.memory_ledger import MemoryLedger

BUNDLES = {"unit": "bundle-1"}
Rows = dict[int, list[tuple[bytes, bytes | None]]]


def alert(name: str) -> OutRecord:
    return OutRecord(Channel.ALERTS, name, b"plant/0", b"{}")


def compacted(pairs: list[tuple[bytes, bytes | None]]) -> list[tuple[bytes, bytes | None]]:
    """What a broker may leave: the newest record of every key, at its place; removals may be gone too."""
    newest = {key: number for number, (key, _) in enumerate(pairs)}
    return [pair for number, pair in enumerate(pairs) if newest[pair[0]] == number and pair[1] is not None]


def restored(ledger: MemoryLedger, partition: int = 0) -> Restored:
    found = ChangelogCheckpoint(ledger).restore(partition)
    assert isinstance(found, Restored)
    return found


def test_a_row_larger_than_a_record_may_be_comes_back_whole_and_shrinks_without_a_trace() -> None:
    rows: Rows = {}
    ledger = MemoryLedger(MemorySink(), rows, largest=2000)
    checkpoint = ChangelogCheckpoint(ledger)
    for position, size in enumerate((10_000, 1, 0, 3000, 1488, 1489, 100)):
        content = random.Random(size).randbytes(size)
        checkpoint.commit(0, {"plant/0": content, "plant/1/2": b"small"}, Marker(position, BUNDLES))
        for history in (rows[0], compacted(rows[0])):
            found = assemble(history, "here")
            assert found is not None
            assert isinstance(found.state, Restored)
            assert found.state.rows == {"plant/0": content, "plant/1/2": b"small"}
            assert found.state.marker.position == position
    checkpoint.commit(0, {"plant/0": None}, Marker(9, BUNDLES))
    assert restored(ledger).rows == {"plant/1/2": b"small"}
    assert {key for key, _ in compacted(rows[0])} == {b"marker", b"row/plant/1/2/0"}


def test_parts_are_removed_by_whoever_comes_after_too() -> None:
    rows: Rows = {}
    first = ChangelogCheckpoint(MemoryLedger(MemorySink(), rows, largest=2000))
    first.commit(0, {"a": bytes(9000)}, Marker(1, BUNDLES))
    heir = ChangelogCheckpoint(MemoryLedger(MemorySink(), rows, largest=2000))
    heir.restore(0)
    heir.commit(0, {"a": b"short"}, Marker(2, BUNDLES))
    assert len(compacted(rows[0])) == 2


@pytest.mark.parametrize("lost", range(3))
def test_a_missing_part_is_damage_and_not_a_shorter_row(lost: int) -> None:
    pairs = [*row_pairs("a", bytes(4000), 1, 0, 2000), marker_pair(Marker(7, BUNDLES), {})]
    assert len(pairs) == 4
    del pairs[lost]
    found = assemble(pairs, "here")
    assert found is not None
    assert isinstance(found.state, Damaged)
    assert found.state.position == 7
    assert "expected" in found.state.reason


def test_a_flipped_bit_is_damage_wherever_it_is() -> None:
    pairs = [*row_pairs("a", bytes(range(200)), 1, 0, 2000), marker_pair(Marker(7, BUNDLES), {"alerts/0": 3})]
    for number, (key, value) in enumerate(pairs):
        assert value is not None
        for at in range(0, len(value), 3):
            flipped = bytearray(value)
            flipped[at] ^= 0x10
            try:
                found = assemble([*pairs[:number], (key, bytes(flipped)), *pairs[number + 1 :]], "here")
            except ConfigurationError:
                continue  # the version's own bits
            assert found is not None
            assert isinstance(found.state, Damaged), (key, at)


def test_a_damaged_state_is_replaced_by_the_next_commit_and_its_journal_kept() -> None:
    rows: Rows = {}
    checkpoint = ChangelogCheckpoint(MemoryLedger(MemorySink(), rows, largest=2000))
    checkpoint.commit(0, {"a": bytes(4000), "b": b"row"}, Marker(5, BUNDLES))
    checkpoint.journal(0, [Entry(5, f"entry {n}", b"") for n in range(12)])
    rows[0] = [
        (key, b"\x93\x01\x00\xc4\x00" if key in {b"row/a/1", b"entry/3"} else value) for key, value in rows[0]
    ]
    heir = ChangelogCheckpoint(MemoryLedger(MemorySink(), rows, largest=2000))
    damaged = heir.restore(0)
    assert isinstance(damaged, Damaged)
    assert damaged.position == 5
    names = [f"entry {n}" for n in range(12) if n != 3]
    assert [entry.id for entry in damaged.journal] == names
    heir.commit(0, {"b": b"rebuilt"}, Marker(2, BUNDLES, rebuilt_to=5))
    heir.journal(0, [Entry(6, "after", b"")])
    found = restored(MemoryLedger(MemorySink(), {0: compacted(rows[0])}))
    assert found.rows == {"b": b"rebuilt"}
    assert found.marker.rebuilt_to == 5
    assert [entry.id for entry in found.journal] == [*names, "after"]


def test_rows_of_a_newer_version_are_refused_with_the_reason() -> None:
    key, value = marker_pair(Marker(7, BUNDLES), {})
    version, *rest = msgspec.msgpack.decode(value or b"")
    newer = msgspec.msgpack.encode([version + 1, *rest])
    with pytest.raises(ConfigurationError, match=r"version 2, expected at most 1.*a newer nuwatch wrote it"):
        assemble([(key, newer)], "here")


def test_rows_without_a_marker_were_never_committed() -> None:
    assert assemble(row_pairs("a", b"row", 1, 0, 2000), "here") is None


def test_a_row_that_no_record_can_hold_is_an_error_with_its_partition() -> None:
    checkpoint = ChangelogCheckpoint(MemoryLedger(MemorySink(), {}, largest=600))
    with pytest.raises(StateError, match=r"partition 3: a record of 600 bytes cannot hold"):
        checkpoint.commit(3, {"a" * 100: b"row"}, Marker(1, BUNDLES))


def test_every_transaction_between_commits_sends_the_offsets_of_the_last_ones_again() -> None:
    ledger = MemoryLedger(MemorySink(), {})
    checkpoint = ChangelogCheckpoint(ledger)
    checkpoint.commit(0, {}, Marker(5, BUNDLES))
    checkpoint.commit(2, {}, Marker(8, BUNDLES))
    checkpoint.publish([alert("one")])
    checkpoint.publish([alert("two")])
    checkpoint.settle()
    assert [record.id for record in ledger.sink.records] == ["one", "two"]
    checkpoint.journal(2, [Entry(9, "id", b"")])
    checkpoint.settle()
    checkpoint.forget([0])
    checkpoint.publish([alert("three")])
    checkpoint.settle()
    assert ledger.offsets == [{0: 5}, {2: 8}, {0: 5, 2: 8}, {2: 8}, {2: 8}]


def test_what_was_aborted_is_not_sent_with_the_next_transaction() -> None:
    """It is folded again by whoever has the partition then."""
    sink = MemorySink()
    ledger = MemoryLedger(sink, {})
    checkpoint = ChangelogCheckpoint(ledger)
    checkpoint.commit(0, {}, Marker(1, BUNDLES))
    ledger.failure = Aborted("no longer yours")
    checkpoint.publish([alert("zombie")])
    with pytest.raises(Aborted):
        checkpoint.settle()
    checkpoint.publish([alert("mine")])
    checkpoint.commit(0, {}, Marker(2, BUNDLES))
    assert [record.id for record in sink.records] == ["mine"]
