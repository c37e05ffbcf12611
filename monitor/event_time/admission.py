"""Which rows have a believable time: a clock that jumps ahead is believed at the third row that says so."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.event_time.readings import Rows
from monitor.event_time.segments import Positions, numbers_of, prefix_maximum, shifted, starts_of
from monitor.table import Table

UNSEEN = -(2**62)
"""The highest accepted time of an asset that has none. Event times lie between 1824 and 2116."""
_AGREEING = 3
_COLUMNS = ("time", "values", "quality", "context")


class Arrivals(NamedTuple):
    """N rows sorted by asset, in order of arrival within each.

    Attributes:
        rows: the rows, quality as it came.
        offset: [N] int64, position of the record that brought the row.
        batch_row: [N] intp, the row of the pushed batch; -1 for one that was held since an earlier push.
        cause: [N] intp, the row of the pushed batch with whose arrival this row's fate was decided.
    """

    rows: Rows
    offset: NDArray[np.int64]
    batch_row: Positions
    cause: Positions

    def at(self, which: NDArray[np.bool_] | Positions) -> Arrivals:
        """Some of the arrivals, by mask or positions."""
        return Arrivals(self.rows.at(which), self.offset[which], self.batch_row[which], self.cause[which])


class FutureRow(NamedTuple):
    """A row refused as FUTURE_TIME: its position in the arrivals, its cause, and the highest time before."""

    position: int
    cause: int
    highest: int


class Admitted(NamedTuple):
    """What `Admission.admit` decided.

    Attributes:
        candidates: the arrivals together with the rows held from before.
        accepted: those that were accepted, each with its cause.
        refused: positions in ``candidates`` that were refused.
        held: how many rows began to be held.
    """

    candidates: Arrivals
    accepted: Arrivals
    refused: list[FutureRow]
    held: int


class Admission:
    """Holds rows that are more than ``max_future`` ahead until three in a row agree.

    Args:
        sensors: D.
        max_future: ns.
    """

    def __init__(self, sensors: int, max_future: int) -> None:
        self._max_future = max_future
        slots = _AGREEING - 1
        self.table = Table(
            [
                ("count", np.int64, ()),
                ("time", np.int64, (slots,)),
                ("offset", np.int64, (slots,)),
                ("values", np.float64, (slots, sensors)),
                ("quality", np.uint8, (slots, sensors)),
                ("context", np.int32, (slots,)),
            ]
        )

    def admit(self, arrivals: Arrivals, highest: NDArray[np.int64]) -> Admitted:
        """Decide on the arrivals of one push.

        Args:
            arrivals: sorted by asset.
            highest: [capacity] the highest accepted time of every asset so far, ns; `UNSEEN` without one.
        """
        candidates = self._with_held(arrivals)
        row = candidates.rows.row
        starts = starts_of(row)
        segment = numbers_of(starts, len(row))
        known = highest[row[starts]]
        running = np.maximum(prefix_maximum(segment, candidates.rows.time), known[segment])
        ahead = candidates.rows.time > shifted(running, starts, known) + self._max_future
        if not ahead.any():
            return Admitted(candidates, candidates, [], 0)
        return self._examine(candidates, starts, np.logical_or.reduceat(ahead, starts), known)

    def _with_held(self, arrivals: Arrivals) -> Arrivals:
        """The arrivals, each asset's preceded by its rows that were held before."""
        assets = arrivals.rows.row[starts_of(arrivals.rows.row)]
        assets = assets[self.table["count"][assets] > 0]
        if not len(assets):
            return arrivals
        holder = np.repeat(assets, self.table["count"][assets])
        place = np.concatenate([np.arange(count) for count in self.table["count"][assets]])
        held = Rows(holder, *(self.table[name][holder, place] for name in _COLUMNS))
        self.table["count"][assets] = 0
        rows = Rows.joined([held, arrivals.rows])
        order = np.argsort(rows.row, kind="stable")
        before = np.full(len(holder), -1)
        return Arrivals(
            rows,
            np.concatenate([self.table["offset"][holder, place], arrivals.offset]),
            np.concatenate([before, arrivals.batch_row]),
            np.concatenate([before, arrivals.cause]),
        ).at(order)

    def _examine(
        self, candidates: Arrivals, starts: Positions, doubtful: NDArray[np.bool_], known: NDArray[np.int64]
    ) -> Admitted:
        """Row by row, but only for assets with a row that is ahead."""
        accepted = np.ones(len(candidates.batch_row), np.bool_)
        cause = candidates.cause.copy()
        refused = list[FutureRow]()
        began = 0
        ends = np.append(starts[1:], len(accepted))
        for segment in np.flatnonzero(doubtful).tolist():
            span = slice(int(starts[segment]), int(ends[segment]))
            verdict = examine(candidates.rows.time[span].tolist(), int(known[segment]), self._max_future)
            decided_by = np.array(verdict.accepted_by)
            accepted[span] = decided_by >= 0
            cause[span] = candidates.cause[span][decided_by]
            for position, by, highest in verdict.refused:
                refused.append(FutureRow(span.start + position, int(candidates.cause[span][by]), highest))
            began += int(np.count_nonzero(candidates.batch_row[span][verdict.ahead] >= 0))
            if verdict.held:
                waiting = candidates.at(np.array(verdict.held) + span.start)
                self.hold(int(waiting.rows.row[0]), waiting.rows, waiting.offset)
        taken = candidates._replace(cause=cause).at(accepted)
        return Admitted(candidates, taken, refused, began)

    def held(self, row: int) -> tuple[Rows, NDArray[np.int64]]:
        """The rows of one asset that are held, and the offsets of their records."""
        places = slice(0, int(self.table["count"][row]))
        columns = (self.table[name][row, places].copy() for name in _COLUMNS)
        return Rows(np.full(places.stop, row, np.int32), *columns), self.table["offset"][row, places].copy()

    def hold(self, row: int, rows: Rows, offset: NDArray[np.int64]) -> None:
        """Hold these rows of one asset, and no others."""
        places = slice(0, len(offset))
        self.table["count"][row] = len(offset)
        self.table["offset"][row, places] = offset
        for name in _COLUMNS:
            self.table[name][row, places] = getattr(rows, name)


class Verdict(NamedTuple):
    """What became of the rows of one asset, by position.

    Attributes:
        accepted_by: the position with whose arrival each row was accepted, or -1.
        refused: (position, position with whose arrival it was refused, highest accepted time then).
        ahead: the rows that were too far ahead when they came.
        held: the rows that are still held.
    """

    accepted_by: list[int]
    refused: list[tuple[int, int, int]]
    ahead: list[int]
    held: list[int]


def examine(times: list[int], highest: int, max_future: int) -> Verdict:
    """Believe a row in range at once, and rows ahead when three in a row agree within ``max_future``."""
    verdict = Verdict([-1] * len(times), [], [], [])
    held = verdict.held
    for position, time in enumerate(times):
        if time <= highest + max_future:
            verdict.refused.extend((early, position, highest) for early in held)
            held.clear()
            verdict.accepted_by[position] = position
            highest = max(highest, time)
            continue
        verdict.ahead.append(position)
        held.append(position)
        if len(held) < _AGREEING:
            continue
        agreeing = [times[early] for early in held]
        if max(agreeing) - min(agreeing) <= max_future:
            for early in held:
                verdict.accepted_by[early] = position
            highest = max(highest, *agreeing)
            held.clear()
        else:
            verdict.refused.append((held.pop(0), position, highest))
    return verdict
