"""What enters a partition's stream from the side, and where in the stream it acts.

A command is tied to a place before it takes effect: live, to the input offset before which it acts (journalled first,
see `monitor.journal`); in a replay of files, to event time. Folding the same stream with the same commands gives the
same events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from connectors.records import Batch, Polled
from monitor.checkpoint import Entry
from monitor.errors import StateError
from monitor.generation import Change
from monitor.thresholds.decisions import Decision


class Piece(NamedTuple):
    """Commands to apply, then records to fold."""

    acting: Sequence[Decision | Change]
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
            begun: whether what is new may act here; not where the poll repeats what may have been published already.
        """
        ...


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
        yield from cut(polled, [(at, decision) for at, decision in places if at is not None])


def cut(polled: Polled, due: Sequence[tuple[int, Decision | Change]]) -> Iterator[Piece]:
    """The poll cut in front of every due position; at one position commands act in the order given."""
    if not due:
        yield Piece((), polled)
        return
    bounds = [-1, *sorted({at for at, _ in due}), polled.position]
    for low, high in pairwise(bounds):
        yield Piece([command for at, command in due if at == low], _between(polled, low, high))


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
