"""The state file: what a crash, a full disk, a damaged or foreign file and older formats leave of it."""

from __future__ import annotations

import hashlib
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from connectors.errors import SinkError
from connectors.memory import MemorySink
from connectors.records import Channel, OutRecord
from monitor.checkpoint import Damaged, Entry, Marker, Restored
from monitor.commands import command_of
from monitor.durable.checkpoint import SqliteCheckpoint
from monitor.durable.seals import changed, seal
from monitor.errors import ConfigurationError, StateError
from monitor.thresholds.decisions import Decision

BUNDLES = {"unit": "bundle-1"}
FILE = "state.sqlite"
Opened = Callable[..., SqliteCheckpoint]


@pytest.fixture
def opened(tmp_path: Path):
    """Opens checkpoints on `tmp_path` one after the other, and closes them."""
    made: list[SqliteCheckpoint] = []

    def make(sink: MemorySink | None = None) -> SqliteCheckpoint:
        for one in made:
            one.close()
        made.append(SqliteCheckpoint(tmp_path, sink or MemorySink()))
        return made[-1]

    yield make
    for one in made:
        one.close()


def rows(count: int, size: int = 200, salt: int = 0) -> dict[str, bytes]:
    return {f"plant/{n}": random.Random(salt * 1000 + n).randbytes(size) for n in range(count)}


def restored(checkpoint: SqliteCheckpoint, partition: int = 0) -> Restored:
    found = checkpoint.restore(partition)
    assert isinstance(found, Restored), found
    return found


def filled(opened: Opened, folder: Path) -> dict[int, Restored]:
    """Two partitions with rows and a journal, closed; the same in a copy of the folder's file named 'good'."""
    checkpoint = opened()
    for partition in range(2):
        checkpoint.commit(partition, rows(30, salt=partition), Marker(7 + partition, BUNDLES, "hash"))
        checkpoint.journal(partition, [Entry(5, f"one-{partition}", b"{}"), Entry(6, "two", b"x" * 300)])
        checkpoint.commit(partition, {"plant/3": b"changed"}, Marker(9 + partition, BUNDLES, "hash"))
    expected = {partition: restored(checkpoint, partition) for partition in range(2)}
    checkpoint.close()
    shutil.copy(folder / FILE, folder / "good")
    return expected


# -- seals ----------------------------------------------------------------------------------------------------


def test_a_seal_covers_key_and_content_and_their_lengths() -> None:
    raw = b"\x01\0\0\0\0\0\0\0" + b"3" + b"\x02\0\0\0\0\0\0\0" + b"ab"
    assert seal(3, "ab") == int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")
    assert len({seal("a", "bc"), seal("ab", "c"), seal("abc"), seal("a", b"bd"), seal("", "abc")}) == 5


def test_the_sum_of_seals_is_the_same_however_it_was_come_by() -> None:
    seals = [seal(n) for n in range(100)]
    total = changed(0, (), seals)
    assert total == sum(seals) % 2**64
    assert changed(changed(0, (), seals[:60]), seals[:10], seals[60:]) == changed(0, (), seals[10:])
    assert changed(total, seals, ()) == 0


# -- what is durable ------------------------------------------------------------------------------------------

_KILLED = """
import os, signal, sys
from pathlib import Path
from connectors.memory import MemorySink
from monitor.checkpoint import Entry, Marker
from monitor.durable.checkpoint import SqliteCheckpoint
checkpoint = SqliteCheckpoint(Path(sys.argv[1]), MemorySink())
checkpoint.commit(0, {"a": b"1"}, Marker(1, {}))
checkpoint.journal(0, [Entry(1, "one", b"")])
checkpoint._store._connection.set_trace_callback(
    lambda statement: statement.startswith("COMMIT") and os.kill(os.getpid(), signal.SIGKILL)
)
print("ready", flush=True)
checkpoint.commit(0, {"a": b"2", "b": b"2"}, Marker(2, {}))
"""


def test_a_process_killed_as_it_commits_leaves_the_commit_before(tmp_path: Path, opened: Opened) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path.cwd(),
    )
    assert (done.stdout, done.returncode) == ("ready\n", -9), done.stderr
    found = restored(opened())
    assert found == Restored({"a": b"1"}, Marker(1, {}), (Entry(1, "one", b""),))


def test_a_commit_is_on_the_disk_when_it_returns(opened: Opened) -> None:
    checkpoint = opened()
    connection = checkpoint._store._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,), "2 is FULL"


def test_only_rows_that_changed_are_written(opened: Opened) -> None:
    checkpoint = opened()
    checkpoint.commit(0, rows(50), Marker(1, BUNDLES))
    written: list[str] = []
    checkpoint._store._connection.set_trace_callback(written.append)
    checkpoint.commit(0, {"plant/7": b"new", "plant/8": None}, Marker(2, BUNDLES))
    touched = [statement for statement in written if " assets " in statement]
    assert len(touched) == 2
    assert "plant/7" in touched[0]
    assert "plant/8" in touched[1]


def test_a_removed_and_renewed_row_keeps_the_books_right(opened: Opened) -> None:
    checkpoint = opened()
    checkpoint.commit(0, {"a": b"1", "b": b"1"}, Marker(1, {}))
    for change in ({"a": None}, {"a": None}, {"a": b"2", "c": b""}, {"b": None, "x": None}):
        checkpoint.commit(0, change, Marker(2, {}))
    assert restored(opened()).rows == {"a": b"2", "c": b""}


def test_names_and_positions_of_any_size_come_back(opened: Opened) -> None:
    odd = {"": b"", "a\x00b": b"\x00", "\u202eplant/\U0001f525": b"\xff" * 3, "x" * 10_000: b"1"}
    checkpoint = opened()
    checkpoint.commit(2**31 - 1, odd, Marker(2**62, {"a": "b"}))
    assert restored(opened(), 2**31 - 1) == Restored(odd, Marker(2**62, {"a": "b"}))


# -- who may use it -------------------------------------------------------------------------------------------


def test_a_second_daemon_on_the_same_folder_is_refused(tmp_path: Path, opened: Opened) -> None:
    first = opened()
    with pytest.raises(StateError, match="another nuwatch uses this state folder") as caught:
        SqliteCheckpoint(tmp_path, MemorySink())
    assert str(tmp_path) in str(caught.value)
    first.close()
    SqliteCheckpoint(tmp_path, MemorySink()).close()


def test_a_sink_that_cannot_be_reached_leaves_the_folder_free(tmp_path: Path) -> None:
    class Gone(MemorySink):
        def open(self) -> dict[str, int]:
            raise SinkError("no broker")

    with pytest.raises(SinkError, match="no broker"):
        SqliteCheckpoint(tmp_path, Gone())
    SqliteCheckpoint(tmp_path, MemorySink()).close()


def test_a_state_folder_that_is_a_file_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("mine")
    with pytest.raises(StateError, match="cannot use the state folder") as caught:
        SqliteCheckpoint(tmp_path / "state", MemorySink())
    assert caught.value.exit_code == 74
    assert (tmp_path / "state").read_text() == "mine"


# -- damage ---------------------------------------------------------------------------------------------------


def check_nothing_is_silently_wrong(folder: Path, expected: dict[int, Restored]) -> int:
    """Each partition is as it was, or said to be damaged; returns how many are damaged, also after a restart."""
    damaged: list[int] = []
    for _ in range(2):
        checkpoint = SqliteCheckpoint(folder, MemorySink())
        try:
            for partition, whole in expected.items():
                found = checkpoint.restore(partition)
                if isinstance(found, Damaged):
                    assert found.reason
                    assert found.position in (None, whole.marker.position)
                    assert found.journal in ((), whole.journal)
                    damaged.append(partition)
                else:
                    assert found == whole
        finally:
            checkpoint.close()
    assert damaged[: len(damaged) // 2] == damaged[len(damaged) // 2 :], "a restart forgot what was damaged"
    return len(damaged) // 2


def test_a_flipped_bit_anywhere_is_found_or_touches_nothing(tmp_path: Path, opened: Opened) -> None:
    expected = filled(opened, tmp_path)
    whole, place, found = (tmp_path / "good").read_bytes(), random.Random(4), 0
    for trial in range(100):
        folder = tmp_path / str(trial)
        folder.mkdir()
        raw = bytearray(whole)
        raw[place.randrange(len(raw) if trial > 30 else 100)] ^= 1 << place.randrange(8)
        (folder / FILE).write_bytes(raw)
        try:
            found += check_nothing_is_silently_wrong(folder, expected) > 0
        except ConfigurationError as error:
            raise AssertionError("a flipped bit passed for a newer version") from error
    assert found > 30, "the flips hit nothing that matters"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9])
def test_a_truncated_file_is_set_aside_and_every_partition_told_damaged(
    tmp_path: Path, opened: Opened, share: float
) -> None:
    expected = filled(opened, tmp_path)
    whole = (tmp_path / "good").read_bytes()
    kept = whole[: int(len(whole) * share)]
    (tmp_path / FILE).write_bytes(kept)
    assert check_nothing_is_silently_wrong(tmp_path, expected) == 2
    assert (tmp_path / f"{FILE}.damaged-1").read_bytes() == kept


def test_a_file_that_lacks_its_last_bytes_is_found_out(tmp_path: Path, opened: Opened) -> None:
    expected = filled(opened, tmp_path)
    for lacking in (1, 200, 3000):
        (tmp_path / FILE).write_bytes((tmp_path / "good").read_bytes()[:-lacking])
        assert check_nothing_is_silently_wrong(tmp_path, expected) > 0


@pytest.mark.parametrize("raw", [b"PK\x03\x04 something else" * 100, b"\x00" * 8192])
def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path, opened: Opened, raw: bytes) -> None:
    (tmp_path / FILE).write_bytes(raw)
    found = opened().restore(5)
    assert isinstance(found, Damaged)
    assert f"{tmp_path / FILE}: " in found.reason
    assert "was set aside as state.sqlite.damaged-1" in found.reason
    (tmp_path / FILE).write_bytes(raw[::-1])
    assert isinstance(opened().restore(5), Damaged)
    assert (tmp_path / f"{FILE}.damaged-2").read_bytes() == raw[::-1]


def test_another_programs_database_is_set_aside_untouched(tmp_path: Path, opened: Opened) -> None:
    other = sqlite3.connect(tmp_path / FILE)
    other.execute("CREATE TABLE mine (x)")
    other.commit()
    other.close()
    raw = (tmp_path / FILE).read_bytes()
    assert isinstance(opened().restore(0), Damaged)
    assert (tmp_path / f"{FILE}.damaged-1").read_bytes() == raw


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE assets SET state = x'00' WHERE partition = 1 AND asset = 'plant/4'",
        "UPDATE assets SET asset = 'plant/99' WHERE partition = 1 AND asset = 'plant/4'",
        "DELETE FROM assets WHERE partition = 1 AND asset = 'plant/4'",
        "INSERT INTO assets VALUES (1, 'plant/99', x'00')",
        "UPDATE partitions SET kept = (SELECT kept FROM partitions WHERE partition = 0) WHERE partition = 1",
        "UPDATE journal SET place = 9 WHERE partition = 1 AND place = 0",
        "DELETE FROM journal WHERE partition = 1",
    ],
)
def test_damage_of_one_partition_leaves_the_others_and_is_over_with_its_next_commit(
    tmp_path: Path, opened: Opened, tampering: str
) -> None:
    expected = filled(opened, tmp_path)
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute(tampering)
    connection.commit()
    connection.close()
    checkpoint = opened()
    assert restored(checkpoint, 0) == expected[0]
    damaged = checkpoint.restore(1)
    assert isinstance(damaged, Damaged)
    assert isinstance(opened().restore(1), Damaged), "a restart must not take it for a new partition"
    checkpoint = opened()
    assert checkpoint.restore(1) == damaged
    checkpoint.commit(1, {"plant/0": b"rebuilt"}, Marker(3, BUNDLES))
    found = restored(opened(), 1)
    assert (found.rows, found.marker) == ({"plant/0": b"rebuilt"}, Marker(3, BUNDLES))
    assert found.journal == damaged.journal


def test_what_can_still_be_read_of_a_damaged_partition_is_told(tmp_path: Path, opened: Opened) -> None:
    expected = filled(opened, tmp_path)
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("DELETE FROM assets WHERE partition = 1 AND asset = 'plant/4'")
    connection.commit()
    connection.close()
    damaged = opened().restore(1)
    assert isinstance(damaged, Damaged)
    assert damaged.reason == "the 29 rows of partition 1 do not fit their checksum of 30 rows"
    assert damaged.position == expected[1].marker.position == 10
    assert damaged.journal == expected[1].journal


def test_a_partition_that_comes_after_a_file_was_set_aside_is_damaged_too(
    tmp_path: Path, opened: Opened
) -> None:
    filled(opened, tmp_path)
    (tmp_path / FILE).write_bytes(b"gone")
    checkpoint = opened()
    checkpoint.restore(0)
    checkpoint.commit(0, {"a": b"1"}, Marker(1, BUNDLES))
    checkpoint = opened()
    assert restored(checkpoint, 0).rows == {"a": b"1"}
    assert isinstance(checkpoint.restore(1), Damaged)


def test_everything_on_the_topics_is_skipped_while_a_damaged_partition_is_rebuilt(
    tmp_path: Path, opened: Opened
) -> None:
    sink = MemorySink()
    checkpoint = opened(sink)
    checkpoint.publish([OutRecord(Channel.ALERTS, "long ago", b"k", b"v")])
    checkpoint.commit(0, {}, Marker(1, BUNDLES))
    (tmp_path / FILE).write_bytes(b"gone")
    checkpoint = opened(sink)
    checkpoint.restore(0)
    checkpoint.publish([OutRecord(Channel.ALERTS, name, b"k", b"v") for name in ("long ago", "new")])
    checkpoint.commit(0, {}, Marker(2, BUNDLES))
    assert [record.id for record in sink.records] == ["long ago", "new"]


def test_a_crash_while_a_damaged_file_is_replaced_never_looks_like_a_first_start(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(opened, tmp_path)
    raw = b"damaged" * 1000
    for kept in range(6):
        (tmp_path / FILE).write_bytes(raw)
        calls = 0

        def crash(name: str, original: Callable[..., object], kept: int = kept) -> Callable[..., object]:
            def call(*arguments: object, **named: object) -> object:
                nonlocal calls
                calls += 1
                if calls > kept:
                    raise KeyboardInterrupt(name)
                return original(*arguments, **named)

            return call

        with monkeypatch.context() as patch:
            for owner, name in (("os", "fsync"), ("os", "link")):
                module = sys.modules[owner]
                patch.setattr(module, name, crash(name, getattr(module, name)))
            patch.setattr(Path, "replace", crash("replace", Path.replace))
            with suppress(KeyboardInterrupt):
                opened().close()
        assert isinstance(opened().restore(0), Damaged), kept


def test_a_log_without_its_file_is_not_taken_for_the_new_files(tmp_path: Path, opened: Opened) -> None:
    checkpoint = opened()
    checkpoint.commit(0, rows(30), Marker(1, BUNDLES))
    log = (tmp_path / f"{FILE}-wal").read_bytes()
    checkpoint.close()
    (tmp_path / FILE).unlink()
    (tmp_path / f"{FILE}-wal").write_bytes(log)
    assert opened().restore(0) is None


# -- formats --------------------------------------------------------------------------------------------------


def test_state_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path, opened: Opened) -> None:
    filled(opened, tmp_path)
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("PRAGMA user_version=3")
    connection.execute("UPDATE about SET value = '3' WHERE name = 'format'")
    connection.commit()
    connection.close()
    with pytest.raises(
        ConfigurationError, match=r"got state of format 3, expected at most 2; hint: "
    ) as caught:
        opened()
    assert caught.value.exit_code == 78
    assert not list(tmp_path.glob("*.damaged-*"))


def old_snapshot(position: int, its: dict[str, bytes], ends: dict[str, int]) -> bytes:
    """A snapshot file as version 0.1 wrote it."""
    marker = {"position": position, "sink": ends, "bundles": BUNDLES}
    body = msgspec.msgpack.encode({"marker": marker, "rows": its})
    return b"nuwatch snapshot 1\n" + hashlib.sha256(body).digest() + body


def test_snapshot_files_become_the_state_file(tmp_path: Path, opened: Opened) -> None:
    (tmp_path / "partition-0.snapshot").write_bytes(old_snapshot(40, rows(3), {"alerts/0": 1}))
    (tmp_path / "partition-12.snapshot").write_bytes(old_snapshot(2**40, {}, {}))
    sink = MemorySink()
    sink.emit([OutRecord(Channel.ALERTS, name, b"k", b"v") for name in ("before", "behind")])
    sink.flush(1.0)
    checkpoint = opened(sink)
    assert restored(checkpoint, 0) == Restored(rows(3), Marker(40, BUNDLES))
    assert restored(checkpoint, 12) == Restored({}, Marker(2**40, BUNDLES))
    checkpoint.publish([OutRecord(Channel.ALERTS, "behind", b"k", b"v")])
    checkpoint.commit(0, {"plant/0": b"new"}, Marker(41, BUNDLES))
    assert [record.id for record in sink.records] == ["before", "behind"]
    assert {path.name for path in (tmp_path / "format-1").iterdir()} == {
        "partition-0.snapshot",
        "partition-12.snapshot",
    }
    assert restored(opened(), 0).rows == {**rows(3), "plant/0": b"new"}


def test_the_journal_beside_snapshot_files_goes_along(tmp_path: Path, opened: Opened) -> None:
    decision = {"asset": "plant/0", "action": "approve", "by": "J. Roe", "at": "2025-10-09T08:53:20Z"}
    lines = [
        msgspec.json.encode({"partition": p, "position": at, "line": line, "decision": decision})
        for p, at, line in ((0, 30, 0), (1, 7, 2))
    ]
    (tmp_path / "journal.jsonl").write_bytes(b"\n".join(lines) + b'\n{"partition": 0, "posi')
    for partition in range(2):
        (tmp_path / f"partition-{partition}.snapshot").write_bytes(old_snapshot(40, {}, {}))
    checkpoint = opened()
    journals = [restored(checkpoint, partition).journal for partition in range(2)]
    assert [[(e.position, e.id) for e in one] for one in journals] == [
        [(30, "decisions.jsonl:0")],
        [(7, "decisions.jsonl:2")],
    ]
    assert command_of(journals[0][0]) == msgspec.convert(decision, Decision)


def test_a_damaged_snapshot_file_is_told_and_the_others_are_taken_over(
    tmp_path: Path, opened: Opened
) -> None:
    raw = old_snapshot(40, rows(3), {})
    (tmp_path / "partition-0.snapshot").write_bytes(raw)
    for number, broken in enumerate((raw[:-1], raw + b"\x00", raw[:19], b"", b"PK\x03\x04"), 1):
        (tmp_path / f"partition-{number}.snapshot").write_bytes(broken)
    checkpoint = opened()
    assert restored(checkpoint, 0).rows == rows(3)
    for number in range(1, 6):
        found = checkpoint.restore(number)
        assert isinstance(found, Damaged)
        assert f"it lies in {tmp_path / 'format-1'}" in found.reason
    assert checkpoint.restore(6) is None


def test_a_migration_that_a_crash_cut_short_is_finished(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "partition-0.snapshot").write_bytes(old_snapshot(40, rows(3), {}))

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("replace", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, crash)
            with pytest.raises(KeyboardInterrupt):
                opened()
    assert restored(opened(), 0).rows == rows(3)
    assert not list(tmp_path.glob("*.snapshot"))


# -- a disk that does not take it -----------------------------------------------------------------------------


def test_a_refused_write_is_a_state_error_and_the_next_commit_loses_nothing(opened: Opened) -> None:
    checkpoint = opened()
    checkpoint.commit(0, {"a": b"1"}, Marker(1, BUNDLES))
    checkpoint._store._connection.execute("PRAGMA max_page_count=20")
    with pytest.raises(StateError, match=r"state.sqlite: cannot write the state: .*full") as caught:
        checkpoint.commit(0, rows(100, 10_000), Marker(2, BUNDLES))
    assert caught.value.exit_code == 74
    assert restored(checkpoint) == Restored({"a": b"1"}, Marker(1, BUNDLES))
    with pytest.raises(StateError, match="cannot write the state"):
        checkpoint.journal(0, [Entry(1, "one", b"x" * 200_000)])
    checkpoint._store._connection.execute("PRAGMA max_page_count=2000")
    checkpoint.commit(0, {"c": b"3"}, Marker(3, BUNDLES))
    assert restored(opened()) == Restored({"a": b"1", "c": b"3"}, Marker(3, BUNDLES))
