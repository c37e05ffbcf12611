"""Commands of a running daemon: taken from inboxes, journalled with the offset before which they act, then applied.

A command is taken up with the next records of the partition that knows its asset. The journal is part of the
partition's durable state (`Checkpoint.journal`); it is written before the command takes effect, so after a crash the
command acts again at the same place. What the journal has is not taken up a second time. What is new waits until a
restart has repeated what was there when it began: a life before may have published it, without the command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from connectors.records import Polled, first_position
from monitor.checkpoint import Entry
from monitor.commands import Piece, acting_of, content_of, cut
from monitor.errors import ConfigurationError, StateError
from monitor.generation import Change
from monitor.thresholds.decisions import INBOX, Decision, parse_decision


class Arrived(NamedTuple):
    """A command from an inbox, with a name that it has for ever."""

    id: str
    command: Decision


class Inbox(Protocol):
    """Where commands come from."""

    def poll(self) -> Sequence[Arrived]:
        """Those that have come since the last call, without waiting; what is no command is told by the inbox."""
        ...

    def concerns(self, name: str, partition: int) -> bool:
        """Whether a command of this name may act on a partition; True of another inbox's."""
        ...


class FolderInbox:
    """The file in the state folder to which `nuwatch decide` appends lines; their numbers are their names.

    Args:
        directory: the state folder.
        refuse: is told of a line that is no decision, and why.
    """

    def __init__(self, directory: Path, refuse: Callable[[str], object] = lambda _: None) -> None:
        self._path = directory / INBOX
        self._refuse = refuse
        self._read = 0
        self._lines = 0

    def poll(self) -> Sequence[Arrived]:
        """See `Inbox`. A line without an end waits for it."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                raw = file.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StateError(f"{self._path}: cannot read decisions: {error.strerror}") from error
        whole = raw[: raw.rfind(b"\n") + 1]
        self._read += len(whole)
        return [one for line in whole.splitlines() if (one := self._parsed(line)) is not None]

    def concerns(self, name: str, partition: int) -> bool:
        """See `Inbox`: the folder is begun anew with its state."""
        del name, partition
        return True

    def _parsed(self, line: bytes) -> Arrived | None:
        number, self._lines = self._lines, self._lines + 1
        if not line.strip():
            return None
        try:
            return Arrived(f"{INBOX}:{number}", parse_decision(line, f"{self._path}:{number + 1}"))
        except ConfigurationError as error:
            self._refuse(str(error))
            return None


class JournalledCommands:
    """The `Commands` of a running daemon.

    Args:
        inboxes: where commands come from.
        write: makes entries of a partition's journal durable; `Checkpoint.journal`.
    """

    def __init__(self, inboxes: Sequence[Inbox], write: Callable[[int, Sequence[Entry]], None]) -> None:
        self._inboxes = inboxes
        self._write = write
        self._journals: dict[int, list[Entry]] = {}
        self._taken: set[str] = set()
        self._waiting: dict[str, Decision] = {}
        self._folded: dict[int, int] = {}

    def restored(self, partition: int, position: int | None, journal: Sequence[Entry]) -> None:
        """See `Commands`: what acts from here on is repeated, what acted before is in the state."""
        self._journals[partition] = list(journal)
        self._taken |= {entry.id for entry in journal}
        # Of several daemons another may have taken it up, or we ourselves in a transaction that nobody answered.
        self._waiting = {name: one for name, one in self._waiting.items() if name not in self._taken}
        if position is not None:
            self._folded[partition] = position

    def pieces(self, polled: Polled, assets: Mapping[str, str], *, begun: bool = True) -> Iterator[Piece]:
        """See `Commands`.

        Raises:
            StateError: the journal cannot be written; what it was for does not act.
        """
        first = first_position(polled)
        if first is not None:
            self._folded.setdefault(polled.partition, first)
        if first is not None and begun:
            self._take_up(polled.partition, first, assets)
        low = self._folded.get(polled.partition, polled.position)
        due = [
            acting
            for entry in self._journals.get(polled.partition, [])
            if low <= entry.position < polled.position
            and not isinstance((acting := acting_of(entry)).command, Change)
        ]
        self._folded[polled.partition] = polled.position
        yield from cut(polled, due)

    def _take_up(self, partition: int, first: int, assets: Mapping[str, str]) -> None:
        for inbox in self._inboxes:
            self._waiting |= {one.id: one.command for one in inbox.poll() if one.id not in self._taken}
        mine = {
            name: one
            for name, one in self._waiting.items()
            if one.asset in assets and all(inbox.concerns(name, partition) for inbox in self._inboxes)
        }
        if not mine:
            return
        entries = [Entry(first, name, content_of(one)) for name, one in mine.items()]
        self._write(partition, entries)
        self._journals.setdefault(partition, []).extend(entries)
        self._taken |= mine.keys()
        self._waiting = {name: one for name, one in self._waiting.items() if name not in mine}


class ExportedJournal:
    """The `Commands` of a replay: what a daemon journalled, at the same places.

    Args:
        journals: entries by partition, as `nuwatch state export` wrote them.
    """

    def __init__(self, journals: Mapping[int, Sequence[Entry]]) -> None:
        self._journals = journals
        self._folded: dict[int, int] = {}

    def restored(self, partition: int, position: int | None, journal: Sequence[Entry]) -> None:
        """See `Commands`."""

    def pieces(self, polled: Polled, assets: Mapping[str, str], *, begun: bool = True) -> Iterator[Piece]:
        """See `Commands`."""
        del assets, begun
        low = self._folded.setdefault(polled.partition, first_position(polled) or 0)
        self._folded[polled.partition] = polled.position
        entries = self._journals.get(polled.partition, ())
        due = [acting_of(e) for e in entries if low <= e.position < polled.position]
        yield from cut(polled, due)


class _Line(msgspec.Struct, frozen=True):
    partition: int
    position: int
    id: str
    command: msgspec.Raw


def read_journal(path: Path) -> dict[int, list[Entry]]:
    """Entries by partition of a file that `nuwatch state export` wrote.

    Raises:
        ConfigurationError: the file cannot be read, or holds something else.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot read the journal: {error.strerror}") from None
    journals: dict[int, list[Entry]] = {}
    for number, text in enumerate(lines, 1):
        try:
            line = msgspec.json.decode(text, type=_Line)
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"{path}:{number}: expected an entry of a journal: {error}") from None
        journals.setdefault(line.partition, []).append(Entry(line.position, line.id, bytes(line.command)))
    return journals
