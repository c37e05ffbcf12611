"""Merges the rows of several files by event time, keeping the order of the rows within each file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.records import Batch, Polled, Rejected
from connectors.rows import joined, rows_of

_NEVER = np.iinfo(np.int64).min
_NONE = np.zeros(0, dtype=np.int64)


def interleaved(polls: Iterable[tuple[int, Polled]], rows_per_poll: int) -> Iterator[Polled]:
    """Polls over all rows of all files, with the positions 0, 1, 2, ...

    A file's row never comes before the rows above it: it counts as having the highest time so far, so that
    late rows stay late. On ties the earlier file goes first.

    Args:
        polls: each with the number of its file; offsets are unique over all files.
        rows_per_poll: most positions of one poll.
    """
    taken = list(polls)
    order = _order(taken)
    batches = [_moved(same, order) for same in _by_class(polled for _, polled in taken)]
    rejected = [
        each._replace(record=each.record._replace(offset=int(order.places(each.record.offset))))
        for _, polled in taken
        for each in polled.rejected
    ]
    rejected.sort(key=lambda each: each.record.offset)
    counts: Counter[str] = Counter()
    for _, polled in taken:
        counts.update(dict(polled.counts))
    for start in range(0, order.size, rows_per_poll):
        polled = _window(batches, rejected, start, min(start + rows_per_poll, order.size))
        yield polled._replace(counts=tuple(sorted(counts.items())) if start == 0 else ())


class _Order(NamedTuple):
    """[N] offsets in ascending order, and the place of each in the merged stream."""

    offsets: NDArray[np.int64]
    rank: NDArray[np.int64]

    @property
    def size(self) -> int:
        return len(self.offsets)

    def places(self, offset: NDArray[np.int64] | int) -> NDArray[np.int64]:
        """Places of offsets that are there."""
        return self.rank[np.searchsorted(self.offsets, offset)]


def _order(polls: Sequence[tuple[int, Polled]]) -> _Order:
    offsets, keys, files = [_NONE], [_NONE], [_NONE]
    for number in dict.fromkeys(number for number, _ in polls):
        own, highest = _file_keys([polled for each, polled in polls if each == number])
        offsets.append(own)
        keys.append(highest)
        files.append(np.full(len(own), number, dtype=np.int64))
    offset = np.concatenate(offsets)
    merged = np.lexsort((offset, np.concatenate(files), np.concatenate(keys)))
    rank = np.empty(len(offset), dtype=np.int64)
    rank[merged] = np.arange(len(offset))
    return _Order(offset, rank)


def _file_keys(polls: Sequence[Polled]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A file's offsets, ascending, and at each the highest time so far."""
    rejected = [each.record.offset for polled in polls for each in polled.rejected]
    batches = [batch for polled in polls for batch in polled.batches]
    offset = np.concatenate([np.array(rejected, dtype=np.int64), *(batch.offset for batch in batches)])
    time = np.concatenate([np.full(len(rejected), _NEVER), *(batch.time for batch in batches)])
    by_offset = np.argsort(offset, kind="stable")
    own, last_row = np.unique(offset[by_offset][::-1], return_index=True)
    highest = np.maximum.accumulate(time[by_offset])
    return own, highest[len(offset) - 1 - last_row]


def _by_class(polls: Iterable[Polled]) -> list[list[Batch]]:
    by_class: dict[str, list[Batch]] = {}
    for polled in polls:
        for batch in polled.batches:
            by_class.setdefault(batch.asset_class, []).append(batch)
    return list(by_class.values())


def _moved(batches: Sequence[Batch], order: _Order) -> Batch:
    """Batches of one class as one, each row at its place."""
    batch = joined(batches)
    batch = batch._replace(offset=order.places(batch.offset))
    return rows_of(batch, np.argsort(batch.offset, kind="stable"))


def _window(batches: Sequence[Batch], rejected: Sequence[Rejected], start: int, stop: int) -> Polled:
    cut = [slice(*np.searchsorted(batch.offset, [start, stop]).tolist()) for batch in batches]
    chosen = [
        rows_of(batch, rows) for batch, rows in zip(batches, cut, strict=True) if rows.stop > rows.start
    ]
    bad = tuple(each for each in rejected if start <= each.record.offset < stop)
    return Polled(0, stop, tuple(chosen), bad, records=stop - start)
