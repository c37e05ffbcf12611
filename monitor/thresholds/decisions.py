"""What persons decide about thresholds, as input of the fold.

A decision enters from the side, so it is tied to a place in the stream before it takes effect: live, to the input
offset before which it acts (written to a journal first); in a replay of files, to event time. Folding the same
stream with the same decisions gives the same events.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import msgspec
import numpy as np

from connectors.records import Batch, Polled, first_position
from monitor.errors import ConfigurationError, StateError
from monitor.quantities import Instant
from monitor.thresholds.adaptation_events import Command

INBOX = "decisions.jsonl"
JOURNAL = "journal.jsonl"


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One person's decision.

    Attributes:
        asset: whose threshold.
        action: approve: take present scores as the new normal; reject: drop the proposal; rollback: back to the
            version before.
        by: who decided; part of the threshold version's event.
        at: when, ISO 8601 with offset.
    """

    asset: str
    action: Literal["approve", "reject", "rollback"]
    by: str
    at: str

    @property
    def command(self) -> Command:
        """The decision as the fold takes it."""
        return Command(self.action, self.by, int(Instant.parse(self.at)))


class Piece(NamedTuple):
    """Decisions to apply, then records to fold."""

    decisions: Sequence[Decision]
    polled: Polled


class Decisions(Protocol):
    """Cuts what a poll brought where decisions take effect."""

    def restored(self, partition: int, position: int) -> None:
        """A partition goes on from this position."""
        ...

    def pieces(self, polled: Polled, assets: Mapping[str, str]) -> Iterator[Piece]:
        """The poll in order, each piece with the decisions that come before it.

        Args:
            polled: what came.
            assets: the assets that the partition has seen.
        """
        ...


class NoDecisions:
    """Nobody decides anything."""

    def restored(self, partition: int, position: int) -> None:
        """See `Decisions`."""

    def pieces(self, polled: Polled, assets: Mapping[str, str]) -> Iterator[Piece]:
        """See `Decisions`."""
        del assets
        yield Piece((), polled)


class TimedDecisions:
    """Decisions by event time: each acts before the asset's first row later than it.

    Args:
        decisions: in any order.
    """

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self._waiting = sorted(decisions, key=lambda d: (d.command.at_ns, d.asset, d.action))

    def restored(self, partition: int, position: int) -> None:
        """See `Decisions`."""

    def pieces(self, polled: Polled, assets: Mapping[str, str]) -> Iterator[Piece]:
        """See `Decisions`."""
        del assets
        due = {d: at for d in self._waiting if (at := _first_later(polled, d)) is not None}
        self._waiting = [d for d in self._waiting if d not in due]
        yield from _cut(polled, due)


class _Entry(msgspec.Struct, frozen=True):
    partition: int
    position: int
    line: int
    decision: Decision


class JournalledDecisions:
    """Decisions from the state folder's inbox, journalled with the offset before which they act.

    `nuwatch decide` appends a line to the inbox. A decision is taken up with the next records of the partition
    that knows its asset; the journal is written and synced before it takes effect.

    Args:
        directory: the state folder.
    """

    def __init__(self, directory: Path) -> None:
        self._inbox = directory / INBOX
        self._journal = directory / JOURNAL
        self._entries, self._journalled = _read_journal(self._journal)
        self._taken = {entry.line for entry in self._entries}
        self._read = 0
        self._unread: dict[int, Decision] = {}
        self._folded: dict[int, int] = {}

    def restored(self, partition: int, position: int) -> None:
        """See `Decisions`: what acts from here on is repeated, what acted before is in the state."""
        self._folded[partition] = position

    def pieces(self, polled: Polled, assets: Mapping[str, str]) -> Iterator[Piece]:
        """See `Decisions`."""
        self._take_up(polled, assets)
        floor = self._folded.get(polled.partition, 0)
        due = {
            entry.decision: entry.position
            for entry in self._entries
            if entry.partition == polled.partition and floor <= entry.position < polled.position
        }
        self._folded[polled.partition] = polled.position
        yield from _cut(polled, due)

    def _take_up(self, polled: Polled, assets: Mapping[str, str]) -> None:
        self._poll_inbox()
        first = first_position(polled)
        if first is None:
            return
        mine = {line: d for line, d in self._unread.items() if d.asset in assets}
        entries = [_Entry(polled.partition, first, line, d) for line, d in sorted(mine.items())]
        if entries:
            self._write(entries)
            self._entries += entries
            self._unread = {line: d for line, d in self._unread.items() if line not in mine}

    def _poll_inbox(self) -> None:
        try:
            raw = self._inbox.read_bytes() if self._inbox.stat().st_size > self._read else b""
        except FileNotFoundError:
            return
        whole = raw[: raw.rfind(b"\n") + 1]
        if not whole:
            return
        self._read = len(whole)
        for line, text in enumerate(whole.splitlines()):
            if line not in self._taken and line not in self._unread and text.strip():
                self._unread[line] = parse_decision(text, f"{self._inbox}:{line + 1}")
                self._taken.add(line)

    def _write(self, entries: Sequence[_Entry]) -> None:
        lines = b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
        try:
            with self._journal.open("ab") as file:
                file.truncate(self._journalled)  # of a line that a crash cut short, what it left
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            self._journalled += len(lines)
        except OSError as error:
            raise StateError(f"{self._journal}: cannot write the journal: {error.strerror}") from error


def parse_decision(text: bytes, where: str) -> Decision:
    """Read one line of JSON.

    Raises:
        ConfigurationError: it is no decision.
    """
    try:
        decision = msgspec.json.decode(text, type=Decision)
        Instant.parse(decision.at)
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigurationError(f"{where}: expected a decision: {error}") from None
    return decision


def read_decisions(path: Path) -> list[Decision]:
    """Decisions of a JSON Lines file, for a replay.

    Raises:
        ConfigurationError: the file cannot be read or holds something else.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot read decisions: {error.strerror}") from None
    return [parse_decision(line, f"{path}:{n}") for n, line in enumerate(lines, 1) if line.strip()]


def append_decision(directory: Path, decision: Decision) -> None:
    """Put a decision into a state folder's inbox.

    Raises:
        StateError: the folder cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / INBOX).open("ab") as file:
            file.write(msgspec.json.encode(decision) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StateError(f"{directory}: cannot write the decision: {error.strerror}") from error


def _read_journal(path: Path) -> tuple[list[_Entry], int]:
    """Its entries, and the size of their lines; a last line without an end never took effect."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    except OSError as error:
        raise StateError(f"{path}: cannot read the journal: {error.strerror}") from error
    whole = raw[: raw.rfind(b"\n") + 1]
    return [_entry(line, f"{path}:{n}") for n, line in enumerate(whole.splitlines(), 1)], len(whole)


def _entry(text: bytes, where: str) -> _Entry:
    try:
        return msgspec.json.decode(text, type=_Entry)
    except msgspec.DecodeError as error:
        raise StateError(
            f"{where}: expected a journalled decision: {error}; "
            "hint: remove the line; its decision is then taken up anew"
        ) from None


def _first_later(polled: Polled, decision: Decision) -> int | None:
    """Position of the asset's first row later than the decision."""
    found: list[int] = []
    for batch in polled.batches:
        if decision.asset in batch.assets:
            mine = (batch.asset == batch.assets.index(decision.asset)) & (batch.time > decision.command.at_ns)
            found += batch.offset[mine][:1].tolist()
    return min(found, default=None)


def _cut(polled: Polled, due: Mapping[Decision, int]) -> Iterator[Piece]:
    """The poll cut in front of every due position."""
    if not due:
        yield Piece((), polled)
        return
    cuts = sorted(set(due.values()))
    bounds = [-1, *cuts, polled.position]
    for low, high in pairwise(bounds):
        acting = [decision for decision, at in due.items() if at == low]
        yield Piece(acting, _between(polled, low, high))


def _between(polled: Polled, low: int, high: int) -> Polled:
    """The part of a poll at positions [low, high); metrics stay with the last part."""
    last = high == polled.position
    batches = (_rows(batch, (batch.offset >= low) & (batch.offset < high)) for batch in polled.batches)
    return polled._replace(
        position=high,
        batches=tuple(batch for batch in batches if len(batch.time)),
        rejected=tuple(r for r in polled.rejected if low <= r.record.offset < high),
        records=polled.records if last else 0,
        counts=polled.counts if last else (),
        lost=polled.lost if low < 0 else None,
    )


def _rows(batch: Batch, kept: np.ndarray) -> Batch:
    return batch._replace(
        asset=batch.asset[kept],
        time=batch.time[kept],
        values=batch.values[kept],
        quality=batch.quality[kept],
        context=batch.context[kept],
        offset=batch.offset[kept],
    )
