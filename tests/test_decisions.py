"""Persons' decisions as input of the fold: where they act, that they act once, and what the journal survives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest

from connectors.memory import MemorySink
from connectors.records import Batch, Polled, RawRecord, Reason, Rejected
from monitor.checkpoint import Entry, Marker, MemoryCheckpoint, Restored
from monitor.commands import NoCommands, Piece, TimedDecisions, command_of
from monitor.errors import ConfigurationError, StateError
from monitor.journal import FolderInbox, JournalledCommands
from monitor.thresholds.adaptation_events import Command
from monitor.thresholds.decisions import (
    INBOX,
    Decision,
    append_decision,
    parse_decision,
    read_decisions,
)
from tests.worlds import SECOND, START, batch_of, pick

A, B = "plant/a", "plant/b"
KNOWN = {A: "unit", B: "unit"}
ROWS = 12


def decision(second: float, asset: str = A, action: str = "approve", by: str = "J. Roe") -> Decision:
    """One that was taken so many seconds after START."""
    moment = datetime(2025, 10, 9, 8, 53, 20, tzinfo=UTC) + timedelta(seconds=second)
    return Decision(asset, action, by, moment.isoformat())  # type: ignore[arg-type] # one of three words


def stream() -> Batch:
    """a and b turn about, a row a second each: row 2s is a's and row 2s + 1 is b's of second s."""
    return batch_of({name: np.full((ROWS, 1), float(n)) for n, name in enumerate((A, B))})


def polls(cuts: Sequence[int] = (), batch: Batch | None = None) -> list[Polled]:
    batch = batch or stream()
    edges = [0, *cuts, len(batch.time)]
    return [
        Polled(0, int(batch.offset[high - 1]) + 1, (pick(batch, slice(low, high)),), records=high - low)
        for low, high in pairwise(edges)
    ]


Event = tuple[str, object]


def told(pieces: Iterable[Piece]) -> list[Event]:
    """What the fold would see, in order: decisions, and offsets of rows and rejected records."""
    events: list[Event] = []
    for piece in pieces:
        events += [("decision", one.command) for one in piece.acting]
        offsets = [int(o) for batch in piece.polled.batches for o in batch.offset]
        offsets += [rejected.record.offset for rejected in piece.polled.rejected]
        events += [("row", offset) for offset in sorted(offsets)]
    return events


def acted_before(events: Sequence[Event], one: Decision) -> int:
    """Offset of the row in front of which a decision acted; it must have acted exactly once."""
    (at,) = [n for n, event in enumerate(events) if event == ("decision", one)]
    return next(int(value) for kind, value in events[at:] if kind == "row")  # type: ignore[call-overload]


def test_start_is_the_time_that_decisions_of_these_tests_count_from() -> None:
    assert decision(0).command.at_ns == START
    assert decision(50.25).command.at_ns == START + 50_250_000_000
    assert decision(1).command == Command("approve", "J. Roe", START + SECOND)


def test_without_decisions_a_poll_is_one_piece() -> None:
    (polled,) = polls()
    assert list(NoCommands().pieces(polled, KNOWN)) == [Piece((), polled)]
    assert list(TimedDecisions([]).pieces(polled, KNOWN)) == [Piece((), polled)]


# -- by event time --------------------------------------------------------------------------------------------

CUTS = [(), (1,), (6,), (7,), (8,), (3, 6, 7, 8, 20), tuple(range(1, 2 * ROWS))]


@pytest.mark.parametrize("cuts", CUTS)
def test_a_timed_decision_acts_before_its_assets_first_later_row_whatever_the_cut(
    cuts: tuple[int, ...],
) -> None:
    early, late, other = decision(-5), decision(3), decision(3.5, B, "rollback")
    timed = TimedDecisions([other, late, early])
    events = told(piece for polled in polls(cuts) for piece in timed.pieces(polled, {}))
    assert [value for kind, value in events if kind == "row"] == list(range(2 * ROWS))
    assert acted_before(events, early) == 0
    assert acted_before(events, late) == 8  # second 3 is not later than 3; a's row of second 4 is
    assert acted_before(events, other) == 9


def test_decisions_at_one_place_act_in_order_of_their_time() -> None:
    first, second = decision(3.1, action="approve"), decision(3.2, action="rollback")
    timed = TimedDecisions([second, first])
    (polled,) = polls()
    acting = [[one.command for one in piece.acting] for piece in timed.pieces(polled, {}) if piece.acting]
    assert acting == [[first, second]]


def test_a_late_row_that_is_not_later_than_the_decision_does_not_set_it_off() -> None:
    order = np.array([0, 2, 10, 4, 6, 8])  # a's seconds 0, 1, 5, 2, 3, 4
    batch = pick(stream(), order)._replace(offset=np.arange(6))
    events = told(TimedDecisions([decision(2)]).pieces(polls(batch=batch)[0], {}))
    assert acted_before(events, decision(2)) == 2


def test_a_timed_decision_behind_the_last_row_never_acts() -> None:
    timed = TimedDecisions([decision(ROWS - 1)])
    assert [e for polled in polls((5,)) for e in told(timed.pieces(polled, {})) if e[0] == "decision"] == []


def test_pieces_add_up_to_the_poll_with_its_counts_and_rejected_records_once() -> None:
    rejected = tuple(Rejected(RawRecord(0, at, None, b"x"), Reason.MALFORMED, "") for at in (24, 25))
    (polled,) = polls()
    polled = polled._replace(position=26, records=26, counts=(("KEY_MISMATCH", 3),), rejected=rejected)
    pieces = list(TimedDecisions([decision(3), decision(7)]).pieces(polled, {}))
    assert [piece.polled.position for piece in pieces] == [8, 16, 26]
    assert sum(piece.polled.records for piece in pieces) == 26
    assert [count for piece in pieces for count in piece.polled.counts] == [("KEY_MISMATCH", 3)]
    assert told(pieces)[-2:] == [("row", 24), ("row", 25)]
    values = np.concatenate([batch.values for piece in pieces for batch in piece.polled.batches])
    assert values.tolist() == polled.batches[0].values.tolist()


# -- by the journal -------------------------------------------------------------------------------------------


class Life:
    """One process after another on the same state folder; the journal is what they have in common."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._checkpoint = MemoryCheckpoint(MemorySink())
        for partition in range(2):
            self._checkpoint.commit(partition, {}, Marker(0, {}))

    def begun(
        self, position: int | None = 0, refuse: Callable[[str], object] = lambda _: None
    ) -> JournalledCommands:
        """A new process, whose partitions were restored at this position."""
        commands = JournalledCommands([FolderInbox(self._folder, refuse)], self._checkpoint.journal)
        for partition in range(2):
            commands.restored(partition, position, self.journal(partition))
        return commands

    def journal(self, partition: int = 0) -> tuple[Entry, ...]:
        restored = self._checkpoint.restore(partition)
        assert isinstance(restored, Restored)
        return restored.journal


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path)


def test_a_decision_acts_before_the_next_records_and_is_journalled_before_it_acts(
    tmp_path: Path, life: Life
) -> None:
    decisions = life.begun()
    first, second, third = polls((6, 12))
    assert told(decisions.pieces(first, KNOWN)) == [("row", n) for n in range(6)]
    one = decision(1000)
    append_decision(tmp_path, one)
    acting = decisions.pieces(second, KNOWN)
    before = next(acting)
    (entry,) = life.journal()
    assert (entry.position, entry.id, command_of(entry)) == (6, "decisions.jsonl:0", one)
    assert acted_before(told([before, *acting]), one) == 6
    assert told(decisions.pieces(third, KNOWN)) == [("row", n) for n in range(12, 24)]


@pytest.mark.parametrize("snapshot", range(0, 2 * ROWS + 1, 3))
@pytest.mark.parametrize("cuts", CUTS)
def test_after_a_restart_a_decision_is_repeated_at_the_same_offset_or_is_in_the_snapshot(
    tmp_path: Path, life: Life, snapshot: int, cuts: tuple[int, ...]
) -> None:
    live = life.begun()
    one, two = decision(1), decision(2, B, "reject")
    append_decision(tmp_path, one)
    first, second = polls((10,))
    events = told(live.pieces(first, KNOWN))
    append_decision(tmp_path, two)
    events += told(live.pieces(second, KNOWN))
    assert acted_before(events, one) == 0
    assert acted_before(events, two) == 10

    again = life.begun(snapshot)
    rest = [p for p in polls(tuple(sorted({*cuts, snapshot} - {0, 2 * ROWS}))) if p.position > snapshot]
    repeated = told(piece for polled in rest for piece in again.pieces(polled, KNOWN))
    behind = events.index(("row", snapshot)) if snapshot < 2 * ROWS else len(events)
    expected = events[behind:]
    if snapshot in (0, 10):  # a snapshot is taken between two polls: what acts here is not yet in it
        expected = [("decision", {0: one, 10: two}[snapshot]), *expected]
    assert repeated == expected
    assert len(life.journal()) == 2


def test_a_decision_waits_until_the_partition_has_seen_its_asset(tmp_path: Path, life: Life) -> None:
    decisions = life.begun()
    one = decision(1, B)
    append_decision(tmp_path, one)
    first, second, third = polls((4, 8))
    assert [e for e in told(decisions.pieces(first, {A: "unit"})) if e[0] == "decision"] == []
    assert life.journal() == ()
    assert acted_before(told(decisions.pieces(second, KNOWN)), one) == 4
    assert [e for e in told(decisions.pieces(third, KNOWN)) if e[0] == "decision"] == []


def test_a_waiting_decision_survives_a_restart(tmp_path: Path, life: Life) -> None:
    append_decision(tmp_path, decision(1, B))
    first, second = polls((4,))
    list(life.begun().pieces(first, {A: "unit"}))
    again = life.begun(4)
    assert acted_before(told(again.pieces(second, KNOWN)), decision(1, B)) == 4


def test_a_decision_acts_on_the_partition_that_knows_its_asset_only(tmp_path: Path, life: Life) -> None:
    decisions = life.begun()
    append_decision(tmp_path, decision(1, B))
    (first,) = polls()
    other = first._replace(partition=1)
    assert [e for e in told(decisions.pieces(first, {A: "unit"})) if e[0] == "decision"] == []
    assert acted_before(told(decisions.pieces(other, {B: "unit"})), decision(1, B)) == 0
    assert [len(life.journal(partition)) for partition in range(2)] == [0, 1]

    again = life.begun()
    assert [e for e in told(again.pieces(first, {})) if e[0] == "decision"] == []
    assert acted_before(told(again.pieces(other, {})), decision(1, B)) == 0


def test_a_decision_waits_for_a_poll_that_brings_records(tmp_path: Path, life: Life) -> None:
    decisions = life.begun()
    append_decision(tmp_path, decision(1))
    assert told(decisions.pieces(Polled(0, 0, ()), KNOWN)) == []
    assert life.journal() == ()
    rejected = Rejected(RawRecord(0, 4, None, None), Reason.EMPTY, "")
    events = told(decisions.pieces(Polled(0, 5, (), (rejected,), 1), KNOWN))
    assert events == [("decision", decision(1)), ("row", 4)]


def test_a_half_written_line_waits_for_its_rest(tmp_path: Path, life: Life) -> None:
    decisions = life.begun()
    whole = msgspec.json.encode(decision(1)) + b"\n"
    inbox = tmp_path / INBOX
    first, second, third = polls((4, 8))
    inbox.write_bytes(whole[:20])
    assert [e for e in told(decisions.pieces(first, KNOWN)) if e[0] == "decision"] == []
    inbox.write_bytes(whole + b"\n" + whole[:-1])
    assert acted_before(told(decisions.pieces(second, KNOWN)), decision(1)) == 4
    assert [entry.id for entry in life.journal()] == ["decisions.jsonl:0"]
    inbox.write_bytes(whole + b"\n" + whole)
    list(decisions.pieces(third, KNOWN))
    assert [(entry.id, entry.position) for entry in life.journal()] == [
        ("decisions.jsonl:0", 4),
        ("decisions.jsonl:2", 8),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"approve plant/a", "expected a decision"),
        (b'{"asset": "plant/a", "action": "aprove", "by": "J", "at": "2025-10-09T08:53:20Z"}', "aprove"),
        (b'{"asset": "plant/a", "action": "approve", "by": "J", "at": "yesterday"}', "yesterday"),
        (b'{"asset": "plant/a", "action": "approve", "at": "2025-10-09T08:53:20Z"}', "`by`"),
        (
            b'{"asset": "plant/a", "action": "approve", "by": "J", "at": "2025-10-09T08:53:20Z", "x": 1}',
            "`x`",
        ),
    ],
)
def test_a_broken_line_is_refused_with_its_file_and_line_and_the_others_act(
    tmp_path: Path, life: Life, line: bytes, said: str
) -> None:
    append_decision(tmp_path, decision(1))
    with (tmp_path / INBOX).open("ab") as file:
        file.write(line + b"\n")
    append_decision(tmp_path, decision(2, B))
    refused: list[str] = []
    events = told(life.begun(refuse=refused.append).pieces(polls()[0], KNOWN))
    assert [value for kind, value in events if kind == "decision"] == [decision(1), decision(2, B)]
    (why,) = refused
    assert why.startswith(f"{tmp_path / INBOX}:2: expected a decision: ")
    assert said in why
    assert [entry.id for entry in life.journal()] == ["decisions.jsonl:0", "decisions.jsonl:2"]


def test_a_decision_that_cannot_be_journalled_does_not_act(tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise StateError("no space")

    append_decision(tmp_path, decision(1))
    with pytest.raises(StateError, match="no space"):
        next(JournalledCommands([FolderInbox(tmp_path)], full).pieces(polls()[0], KNOWN))


def test_a_partition_that_is_rebuilt_repeats_what_was_journalled_from_where_it_begins(
    tmp_path: Path, life: Life
) -> None:
    live = life.begun()
    first, second, third = polls((4, 12))
    append_decision(tmp_path, decision(1))
    list(live.pieces(first, KNOWN))
    list(live.pieces(second, KNOWN))
    append_decision(tmp_path, decision(2, B))
    list(live.pieces(third, KNOWN))
    events = told(life.begun(None).pieces(third, KNOWN))
    assert [value for kind, value in events if kind == "decision"] == [decision(2, B)]
    events = told(life.begun(None).pieces(first, KNOWN))
    assert acted_before(events, decision(1)) == 0


def test_two_equal_decisions_act_twice(tmp_path: Path, life: Life) -> None:
    append_decision(tmp_path, decision(1))
    append_decision(tmp_path, decision(1))
    events = told(life.begun().pieces(polls()[0], KNOWN))
    assert [value for kind, value in events if kind == "decision"] == [decision(1)] * 2


def test_a_journalled_command_of_another_version_is_a_state_error() -> None:
    for content in (b'{"something": 1}', b"{", b'{"decision": {"asset": 1}}'):
        with pytest.raises(StateError, match="journal entry it: "):
            command_of(Entry(0, "it", content))


# -- files ----------------------------------------------------------------------------------------------------


def test_decisions_of_a_file_are_read_in_its_order_with_blank_lines_passed_over(tmp_path: Path) -> None:
    both = [decision(9), decision(3, B, "reject")]
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(b"\n\n".join(msgspec.json.encode(one) for one in both))
    assert read_decisions(path) == both


def test_a_files_broken_line_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(msgspec.json.encode(decision(1)) + b"\n\nnot json\n")
    with pytest.raises(ConfigurationError) as caught:
        read_decisions(path)
    assert str(caught.value).startswith(f"{path}:3: expected a decision: ")
    with pytest.raises(ConfigurationError, match="cannot read decisions: No such file"):
        read_decisions(tmp_path / "none.jsonl")


def test_a_decision_that_cannot_be_written_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(StateError, match="cannot write the decision"):
        append_decision(tmp_path / "state", decision(1))


def test_times_of_decisions_must_say_their_offset_from_utc() -> None:
    line = b'{"asset": "a", "action": "approve", "by": "J", "at": "2025-10-09T10:53:20%s"}'
    assert parse_decision(line % b"+02:00", "here:1").command.at_ns == START
    with pytest.raises(ConfigurationError, match="here:1"):
        parse_decision(line % b"", "here:1")
