"""The life of incidents: on-delay, off-delay, hysteresis, re-alert and escalation, for many assets at once.

A track is one condition that may become an incident of an asset, such as its ANOMALY or one sensor's fault.
The life of a track, in the words of OPC UA Part 9 and ISA-18.2::

    IDLE --over--> PENDING --over for on_delay--> OPEN --under for off_delay--> IDLE
                      |                            |  |
                      +--no longer over--> IDLE    |  +-- re-alert, higher severity class: UPDATED
                                                   +-- RAISED on the way in, CLEARED on the way out

Between 'over' and 'under' lies the hysteresis band, which the caller draws. Where nothing is known (an
unscored window) nothing happens: states hold, and on-delay and off-delay do not run. Only the re-alert time,
which is the reader's and not the evidence's, goes on. Everything is a function of the asset's own windows, in
order of their end.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.alerting.severity import severity, severity_class
from monitor.quantities import NS_PER_S
from monitor.table import Table


class Kind(StrEnum):
    """What an incident is about."""

    ANOMALY = "ANOMALY"
    SENSOR_FAULT = "SENSOR_FAULT"
    DATA_GAP = "DATA_GAP"
    DRIFT = "DRIFT"
    MODEL_STALE = "MODEL_STALE"
    BATCH_VERDICT = "BATCH_VERDICT"
    MONITOR_HEALTH = "MONITOR_HEALTH"


class EventName(StrEnum):
    """What happened to an incident; an alert tells of one event."""

    RAISED = "RAISED"
    UPDATED = "UPDATED"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    SUSPENDED = "SUSPENDED"
    CLEARED = "CLEARED"
    SHELVED = "SHELVED"
    UNSHELVED = "UNSHELVED"


class State(StrEnum):
    """How an incident stands after an event."""

    OPEN = "OPEN"
    SUSPENDED = "SUSPENDED"
    SHELVED = "SHELVED"
    CLOSED = "CLOSED"


class Track(NamedTuple):
    """One condition that may become an incident.

    Attributes:
        kind: of the incident.
        subject: what it is about within the asset: '' (ANOMALY), a sensor, a scorer, 'coverage'.
        on_delay_ns: the condition must hold this long before RAISED; 0 raises at once.
        off_delay_ns: it must be cleared this long before CLEARED; 0 clears at once.
        realert_ns: an UPDATED is due this long after the last alert; None: never.
        criticality: of the asset for this condition, 0 to 1; scales severity.
    """

    kind: Kind
    subject: str
    on_delay_ns: int
    off_delay_ns: int
    realert_ns: int | None
    criticality: float = 0.6


class Transition(NamedTuple):
    """One event of an incident's life.

    Attributes:
        position: place in the arrays given to `Incidents.step` or `Incidents.run`; -1 from elsewhere.
        row: the asset's row.
        track: index of the track; `SILENCE` for silences, `LOSS` for lost records.
        event: RAISED, UPDATED or CLEARED.
        at_ns: when it happened.
        start_ns: end of the first window of the run that satisfied the on-delay; names the incident.
        raised_ns: when RAISED happened.
        sequence: number of the event within its incident; RAISED is 1.
        severity: the worst of the incident so far, 1 to 1000.
        worst_ratio: the largest ratio of the incident so far; NaN where the condition has none.
    """

    position: int
    row: int
    track: int
    event: EventName
    at_ns: int
    start_ns: int
    raised_ns: int
    sequence: int
    severity: int
    worst_ratio: float


class Episode(NamedTuple):
    """An incident as its last event told of it.

    Attributes:
        kind: of its track.
        subject: of its track.
        start_ns: see `Transition`.
        raised_ns: likewise.
        sequence: number of that event.
        severity: the worst so far.
        worst_ratio: likewise; NaN where it has none.
        told_ns: end of the window of that event.
    """

    kind: Kind
    subject: str
    start_ns: int
    raised_ns: int
    sequence: int
    severity: int
    worst_ratio: float
    told_ns: int


SILENCE = -1
"""The track index of silences, which hold no state."""

LOSS = -2
"""The track index of losses of records, whose state lies elsewhere."""

_IDLE, _PENDING, _OPEN = 0, 1, 2
_NO_TIMER = np.iinfo(np.int64).min
_NEVER = np.iinfo(np.int64).max
_NOTHING, _RAISED, _UPDATED, _CLEARED = 0, 1, 2, 3
_EVENTS = (None, EventName.RAISED, EventName.UPDATED, EventName.CLEARED)

_CELL = np.dtype(
    [
        ("phase", np.int8),
        ("sequence", np.int32),
        ("severity", np.int32),  # the worst so far
        ("ratio", np.float64),  # the worst so far
        ("start", np.int64),
        ("raised", np.int64),
        ("alerted", np.int64),
        ("timer", np.int64),  # where the running delay began, moved on by the time in which nothing was known
        ("seen", np.int64),  # end of the last window
    ]
)
"""State of one track of one asset; all zero while idle, so that equal states are equal bytes. Times in ns."""


class _Now(NamedTuple):
    """What the present windows say of C cells; every array is [C], delays in ns."""

    end: NDArray[np.int64]
    over: NDArray[np.bool_]
    under: NDArray[np.bool_]
    known: NDArray[np.bool_]
    ratio: NDArray[np.float64]
    on_delay: NDArray[np.int64]
    off_delay: NDArray[np.int64]
    realert: NDArray[np.int64]
    criticality: NDArray[np.float64]


class Incidents:
    """The incidents of the assets of one class.

    Shape letters: A assets, K tracks, n assets of one step, m windows of one asset.

    Args:
        tracks: the K tracks that every asset has.
    """

    def __init__(self, tracks: Sequence[Track]) -> None:
        self.tracks = tuple(tracks)
        self._on_delay = np.array([t.on_delay_ns for t in tracks], np.int64)
        self._off_delay = np.array([t.off_delay_ns for t in tracks], np.int64)
        self._realert = np.array([_NEVER if t.realert_ns is None else t.realert_ns for t in tracks], np.int64)
        self._criticality = np.array([t.criticality for t in tracks], np.float64)
        self._table = Table([("cells", _CELL, (len(self.tracks),))])
        self._busy = 0  # cells that are not idle

    def step(
        self,
        rows: NDArray[np.int32],
        end_ns: NDArray[np.int64],
        over: NDArray[np.bool_],
        under: NDArray[np.bool_],
        known: NDArray[np.bool_],
        ratio: NDArray[np.float64],
    ) -> list[Transition]:
        """One window of each of n assets, later than every window of that asset before.

        Costs one reduction where nothing is over and nothing is pending or open; else the work is
        proportional to the cells that are over, pending or open.

        Args:
            rows: [n] distinct rows of assets.
            end_ns: [n] the windows' ends.
            over: [n, K] the condition holds.
            under: [n, K] it is clearly cleared (hysteresis applied); never together with ``over``.
            known: [n, K] False where the window says nothing.
            ratio: [n, K] score over threshold, for severity; NaN where the condition has no measure.

        Returns:
            The events, in order of position, then of track.
        """
        if not self._busy and not over.any():
            return []
        live = over & known
        if self._busy:
            live |= self._table["cells"]["phase"][rows] != _IDLE
        index, track = np.nonzero(live)
        if not len(index):
            return []
        cells: NDArray[np.void] = self._table["cells"][rows[index], track]
        was_busy = int(np.count_nonzero(cells["phase"]))
        event = _advance(cells, self._now(index, track, end_ns, over, under, known, ratio))
        told = np.flatnonzero(event)
        transitions = [
            _transition(int(index[i]), int(rows[index[i]]), int(track[i]), int(event[i]), cells[i])
            for i in told
        ]
        cells[event == _CLEARED] = 0
        self._table["cells"][rows[index], track] = cells
        self._busy += int(np.count_nonzero(cells["phase"])) - was_busy
        return transitions

    def run(
        self,
        row: int,
        end_ns: NDArray[np.int64],
        over: NDArray[np.bool_],
        under: NDArray[np.bool_],
        known: NDArray[np.bool_],
        ratio: NDArray[np.float64],
    ) -> list[Transition]:
        """Many windows of one asset: the same as one `step` after the other, passing over quiet stretches.

        Args:
            row: the asset's row.
            end_ns: [m] the windows' ends, rising.
            over: [m, K], and so are the rest; see `step`.
            under: [m, K].
            known: [m, K].
            ratio: [m, K].

        Returns:
            The events in order; ``position`` is the place in ``end_ns``.
        """
        rows = np.array([row], np.int32)
        starts = np.flatnonzero((over & known).any(axis=1))
        transitions: list[Transition] = []
        at = 0
        while at < len(end_ns):
            if not self.busy(row):
                following = int(np.searchsorted(starts, at))
                if following == len(starts):
                    break
                at = int(starts[following])
            one = slice(at, at + 1)
            events = self.step(rows, end_ns[one], over[one], under[one], known[one], ratio[one])
            transitions += [event._replace(position=at) for event in events]
            at += 1
        return transitions

    def close(self, row: int, track: int, at_ns: int) -> Transition | None:
        """End a track's incident because of something else, such as a data gap; a pending run is forgotten.

        Returns:
            CLEARED if an incident was open, else None.
        """
        cell = self._table["cells"][row, track].copy()
        if cell["phase"] == _IDLE:
            return None
        self._table["cells"][row, track] = 0
        self._busy -= 1
        if cell["phase"] == _PENDING:
            return None
        cell["seen"] = at_ns
        cell["sequence"] += 1
        return _transition(-1, row, track, _CLEARED, cell)

    def recall(self, row: int, episode: Episode) -> None:
        """Open an incident anew that was open when its state was lost; one of another class's tracks is passed over."""
        for number, track in enumerate(self.tracks):
            cell = self._table["cells"][row, number]
            if (track.kind, track.subject) != (episode.kind, episode.subject) or cell["phase"] != _IDLE:
                continue
            cell["phase"], cell["timer"] = _OPEN, _NO_TIMER
            cell["sequence"], cell["severity"] = episode.sequence, episode.severity
            cell["ratio"], cell["start"], cell["raised"] = (
                episode.worst_ratio,
                episode.start_ns,
                episode.raised_ns,
            )
            cell["alerted"] = cell["seen"] = episode.told_ns
            self._busy += 1

    def open(self, rows: NDArray[np.int32]) -> NDArray[np.bool_]:
        """[n, K], True where an incident is open."""
        return self._table["cells"]["phase"][rows] == _OPEN

    def open_by_kind(self) -> dict[Kind, int]:
        """Open incidents of all assets, by the kinds of the tracks."""
        counts = dict.fromkeys((track.kind for track in self.tracks), 0)
        if self._busy:
            of_track = (self._table["cells"]["phase"] == _OPEN).sum(axis=0).tolist()
            for track, count in zip(self.tracks, of_track, strict=True):
                counts[track.kind] += count
        return counts

    def open_any(self, rows: NDArray[np.int32], *kinds: Kind) -> NDArray[np.bool_]:
        """[n], True where an incident of one of these kinds is open."""
        if not self._busy:
            return np.zeros(len(rows), np.bool_)
        of_kind = np.array([track.kind in kinds for track in self.tracks], np.bool_)
        return np.any(self.open(rows) & of_kind, axis=1)

    def busy(self, row: int) -> bool:
        """True while a track of the asset is pending or open."""
        return bool(self._busy) and bool(self._table["cells"]["phase"][row].any())

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets; new ones are idle."""
        self._table.grow(capacity)

    def dump(self, row: int) -> bytes:
        """The state of one asset."""
        return self._table.dump(row)

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave.

        Raises:
            ValueError: the bytes are of another layout, for example of other tracks.
        """
        before = np.count_nonzero(self._table["cells"]["phase"][row])
        self._table.load(row, data)
        self._busy += int(np.count_nonzero(self._table["cells"]["phase"][row]) - before)

    def _now(
        self,
        index: NDArray[np.intp],
        track: NDArray[np.intp],
        end_ns: NDArray[np.int64],
        over: NDArray[np.bool_],
        under: NDArray[np.bool_],
        known: NDArray[np.bool_],
        ratio: NDArray[np.float64],
    ) -> _Now:
        return _Now(
            end=end_ns[index],
            over=over[index, track],
            under=under[index, track],
            known=known[index, track],
            ratio=ratio[index, track],
            on_delay=self._on_delay[track],
            off_delay=self._off_delay[track],
            realert=self._realert[track],
            criticality=self._criticality[track],
        )


def silence_raised(
    rows: NDArray[np.int32], last_ns: NDArray[np.int64], silence_ns: int, rank: int
) -> list[Transition]:
    """RAISED of silences, at last + silence: a function of the last reading alone, so it may be told early.

    Args:
        rows: [n] the assets' rows.
        last_ns: [n] time of the last accepted reading before the gap.
        silence_ns: the longest gap that is no silence.
        rank: the incident's severity, 1 to 1000.
    """
    return [
        Transition(
            i,
            row,
            SILENCE,
            EventName.RAISED,
            last + silence_ns,
            last,
            last + silence_ns,
            1,
            rank,
            float("nan"),
        )
        for i, (row, last) in enumerate(zip(rows.tolist(), last_ns.tolist(), strict=True))
    ]


def silence_alerts(
    rows: NDArray[np.int32],
    last_ns: NDArray[np.int64],
    now_ns: NDArray[np.int64],
    silence_ns: int,
    rank: int,
) -> list[Transition]:
    """RAISED and CLEARED of the silences that have ended with these readings. Holds no state.

    Args:
        rows: [n] the assets' rows.
        last_ns: [n] time of the accepted reading before.
        now_ns: [n] time of the new reading.
        silence_ns: the longest gap that is no silence.
        rank: the incident's severity, 1 to 1000.

    Returns:
        For every gap longer than ``silence_ns``: RAISED at last + silence, CLEARED at the new reading.
    """
    gaps = np.flatnonzero(now_ns - last_ns > silence_ns)
    transitions: list[Transition] = []
    for gap, raised in zip(
        gaps.tolist(), silence_raised(rows[gaps], last_ns[gaps], silence_ns, rank), strict=True
    ):
        cleared = raised._replace(event=EventName.CLEARED, at_ns=int(now_ns[gap]), sequence=2)
        transitions += [raised._replace(position=gap), cleared._replace(position=gap)]
    return transitions


def loss_raised(row: int, last_ns: int, rank: int) -> Transition:
    """RAISED of a loss of records, at the last reading before it.

    Args:
        row: the asset's row.
        last_ns: time of the last accepted reading; names the incident.
        rank: the incident's severity, 1 to 1000.
    """
    return Transition(-1, row, LOSS, EventName.RAISED, last_ns, last_ns, last_ns, 1, rank, float("nan"))


def loss_cleared(row: int, last_ns: int, now_ns: int, rank: int) -> Transition:
    """CLEARED of the same loss, at the first accepted reading after it."""
    return loss_raised(row, last_ns, rank)._replace(event=EventName.CLEARED, at_ns=now_ns, sequence=2)


def _advance(cells: NDArray[np.void], now: _Now) -> NDArray[np.int8]:
    """Move C cells on by one window, in place; returns the event of each, [C]."""
    _begin(cells, now)
    _hold(cells, now)
    before = severity_class(cells["severity"])
    _note_worst(cells, now)
    was_open = now.known & (cells["phase"] == _OPEN)
    event = np.zeros(len(cells), np.int8)
    event[_resolve_pending(cells, now)] = _RAISED
    cleared = _run_off_timer(cells, now, was_open)
    due = now.end - cells["alerted"] >= now.realert
    risen = severity_class(cells["severity"]) > before
    event[was_open & (due | risen)] = _UPDATED
    event[cleared] = _CLEARED
    cells["sequence"] += event != _NOTHING
    cells["alerted"] = np.where(event != _NOTHING, now.end, cells["alerted"])
    return event


def _begin(cells: NDArray[np.void], now: _Now) -> None:
    """An over-limit window of an idle cell starts a run."""
    fresh = now.known & now.over & (cells["phase"] == _IDLE)
    cells["phase"][fresh] = _PENDING
    cells["ratio"][fresh] = np.nan
    for name in ("start", "timer", "seen"):
        cells[name][fresh] = now.end[fresh]


def _hold(cells: NDArray[np.void], now: _Now) -> None:
    """Time in which nothing was known moves a running delay's beginning on."""
    held = ~now.known & (cells["timer"] != _NO_TIMER)
    cells["timer"][held] += (now.end - cells["seen"])[held]
    cells["seen"] = now.end


def _note_worst(cells: NDArray[np.void], now: _Now) -> None:
    rank = severity(now.criticality, now.ratio, (now.end - cells["start"]) / NS_PER_S)
    cells["severity"] = np.where(now.known, np.maximum(rank, cells["severity"]), cells["severity"])
    cells["ratio"] = np.where(now.known, np.fmax(now.ratio, cells["ratio"]), cells["ratio"])


def _resolve_pending(cells: NDArray[np.void], now: _Now) -> NDArray[np.bool_]:
    """Open the pending cells that were over for long enough, forget the others; returns the opened."""
    pending = now.known & (cells["phase"] == _PENDING)
    raised = pending & now.over & (now.end - cells["timer"] >= now.on_delay)
    cells["phase"][raised] = _OPEN
    cells["raised"][raised] = now.end[raised]
    cells["timer"][raised] = _NO_TIMER
    cells[pending & ~now.over] = 0
    return raised


def _run_off_timer(cells: NDArray[np.void], now: _Now, was_open: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Start, hold or stop the off-delay of open cells; returns those that it has cleared."""
    under = was_open & now.under
    cells["timer"][was_open & ~now.under] = _NO_TIMER
    starting = under & (cells["timer"] == _NO_TIMER)
    cells["timer"][starting] = now.end[starting]
    return under & (now.end - cells["timer"] >= now.off_delay)


def _transition(position: int, row: int, track: int, event: int, cell: Any) -> Transition:
    name = _EVENTS[event]
    assert name is not None
    return Transition(
        position=position,
        row=row,
        track=track,
        event=name,
        at_ns=int(cell["seen"]),
        start_ns=int(cell["start"]),
        raised_ns=int(cell["raised"]),
        sequence=int(cell["sequence"]),
        severity=int(cell["severity"]),
        worst_ratio=float(cell["ratio"]),
    )
