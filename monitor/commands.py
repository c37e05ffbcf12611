"""What enters a partition's stream from the side, and where in the stream it acts.

A command is tied to a place before it takes effect: live, to the input offset before which it acts (journalled first,
see `monitor.journal`); in a replay of files, to event time. Folding the same stream with the same commands gives the
same events.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from connectors.records import Batch, OutRecord, Polled, Queue
from monitor.checkpoint import Entry, Heard
from monitor.errors import StateError
from monitor.generation import CONFIGURATION, Change
from monitor.thresholds.decisions import Decision

CONTROL = "control:"
"""What the names of the control topic's commands begin with."""


class Acting(NamedTuple):
    """A command at its place.

    Attributes:
        position: the input offset before which it acts.
        command: what it is.
        name: which command of the control topic it is; '' where it came another way, and nobody waits for an answer.
    """

    position: int
    command: Decision | Change
    name: str = ""


class Piece(NamedTuple):
    """Commands to apply, then records to fold."""

    acting: Sequence[Acting]
    polled: Polled


class Commands(Protocol):
    """Cuts what a poll brought where commands take effect."""

    def restored(self, partition: int, position: int | None, journal: Sequence[Entry]) -> None:
        """A partition goes on from this position (None: from its next record), with what was journalled for it."""
        ...

    def pieces(self, polled: Polled, assets: Mapping[str, str], *, begun: bool = True) -> Iterator[Piece]:
        """The poll in order, each piece with the commands that come before it.

        Args:
            polled: what came.
            assets: the assets that the partition has seen.
            begun: whether what is new may act here: not where the poll repeats what may have been published already,
                and not before the partition's beginning is durable.
        """
        ...


class Control(Protocol):
    """Follows the control topic for the partitions that are held here, and answers what is not done."""

    def restored(self, partition: int, heard: Heard | None) -> None:
        """A partition goes on from where its holder had followed the topic; None: from here."""
        ...

    def forget(self, partitions: Collection[int]) -> None:
        """These are held no longer, or what was said for them since their last commit does not count."""
        ...

    def heard(self, partition: int) -> Heard | None:
        """What the partition's next marker says."""
        ...

    def answers(self) -> Sequence[OutRecord]:
        """Read on; what is to be published of commands that were refused."""
        ...

    @property
    def queues(self) -> tuple[Queue, ...]:
        """What has been read of the topic and not been taken."""
        ...


class NoControl:
    """There is no control topic."""

    def restored(self, partition: int, heard: Heard | None) -> None:
        """See `Control`."""

    def forget(self, partitions: Collection[int]) -> None:
        """See `Control`."""

    def heard(self, partition: int) -> Heard | None:
        """See `Control`."""
        del partition

    def answers(self) -> Sequence[OutRecord]:
        """See `Control`."""
        return ()

    @property
    def queues(self) -> tuple[Queue, ...]:
        """See `Control`."""
        return ()


class _Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """A journalled command as JSON: one of these."""

    decision: Decision | None = None
    change: Change | None = None


def content_of(command: Decision | Change) -> bytes:
    """A command as a journal keeps it."""
    if isinstance(command, Decision):
        return msgspec.json.encode(_Content(decision=command))
    return msgspec.json.encode(_Content(change=command))


def entry_of(position: int, change: Change) -> Entry:
    """A change of configuration as an entry of a journal."""
    return Entry(position, f"{change.id}@{position}", content_of(change))


def acting_of(entry: Entry) -> Acting:
    """A journal's entry where it acts."""
    command = command_of(entry)
    if isinstance(command, Change):
        return Acting(entry.position, command, command.told.name if command.told else "")
    return Acting(entry.position, command, entry.id if entry.id.startswith(CONTROL) else "")


def newest_change(journal: Iterable[Entry]) -> Change | None:
    """The configuration that a journal ends with; None where it names none."""
    named = [entry for entry in journal if entry.id.startswith(CONFIGURATION)]
    command = command_of(named[-1]) if named else None
    return command if isinstance(command, Change) else None


def name_of(incarnation: str, offset: int) -> str:
    """The name, for ever, of the command at this place of the control topic."""
    return f"{CONTROL}{incarnation}:{offset}"


def offset_of(name: str) -> int:
    """Where in the control topic a command of this name stands."""
    return int(name.rpartition(":")[2])


def command_of(entry: Entry) -> Decision | Change:
    """The command of a journal's entry.

    Raises:
        StateError: it is of another version.
    """
    try:
        content = msgspec.json.decode(entry.content, type=_Content)
    except msgspec.DecodeError as error:
        raise StateError(f"journal entry {entry.id}: expected a command: {error}") from None
    command = content.decision or content.change
    if command is None:
        raise StateError(
            f"journal entry {entry.id}: got {entry.content[:200]!r}, expected a command of this version"
        )
    return command


class NoCommands:
    """Nothing enters from the side."""

    def restored(self, partition: int, position: int | None, journal: Sequence[Entry]) -> None:
        """See `Commands`."""

    def pieces(self, polled: Polled, assets: Mapping[str, str], *, begun: bool = True) -> Iterator[Piece]:
        """See `Commands`."""
        del assets, begun
        yield Piece((), polled)


class TimedDecisions:
    """Decisions by event time: each acts before the asset's first row later than it.

    Args:
        decisions: in any order.
    """

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self._waiting = sorted(decisions, key=lambda d: (d.command.at_ns, d.asset, d.action))

    def restored(self, partition: int, position: int | None, journal: Sequence[Entry]) -> None:
        """See `Commands`."""

    def pieces(self, polled: Polled, assets: Mapping[str, str], *, begun: bool = True) -> Iterator[Piece]:
        """See `Commands`."""
        del assets, begun
        places = [(_first_later(polled, decision), decision) for decision in self._waiting]
        self._waiting = [decision for at, decision in places if at is None]
        yield from cut(polled, [Acting(at, decision) for at, decision in places if at is not None])


def cut(polled: Polled, due: Sequence[Acting]) -> Iterator[Piece]:
    """The poll cut in front of every due position; at one position commands act in the order given."""
    if not due:
        yield Piece((), polled)
        return
    bounds = [-1, *sorted({one.position for one in due}), polled.position]
    for low, high in pairwise(bounds):
        yield Piece([one for one in due if one.position == low], _between(polled, low, high))


def _first_later(polled: Polled, decision: Decision) -> int | None:
    """Position of the asset's first row later than the decision."""
    found: list[int] = []
    for batch in polled.batches:
        if decision.asset in batch.assets:
            mine = (batch.asset == batch.assets.index(decision.asset)) & (batch.time > decision.command.at_ns)
            found += batch.offset[mine][:1].tolist()
    return min(found, default=None)


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
