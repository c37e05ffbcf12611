"""What the demo knows of its plant at one moment: readings, ratios, incidents. No rendering, no clock."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.records import NO_CONTEXT, Batch, Channel, Context
from monitor.alerting.messages import quantity
from monitor.demo.live import Portion
from monitor.demo.performance import Performance
from monitor.evaluation.comparison import Planted
from monitor.quantities import NS_PER_S
from monitor.trace import Trace

RECENT = 50
_SINCE = re.compile(r",? \(?since ")


class Note(NamedTuple):
    """One alert, short enough for a line of a terminal.

    Attributes:
        incident_id: of its incident.
        time: event time, ISO 8601.
        asset: the asset's name.
        event: RAISED, UPDATED or CLEARED.
        kind: of the incident.
        text: what it says.
    """

    incident_id: str
    time: str
    asset: str
    event: str
    kind: str
    text: str


@dataclass
class Reactor:
    """One reactor now.

    Attributes:
        values: [D] latest readings, columns as configured.
        context: batch context of the latest frame.
        ratio: highest since the board was last told, NaN where nothing was scored.
    """

    values: NDArray[np.float64]
    context: Context = NO_CONTEXT
    ratio: float = float("nan")


@dataclass
class Board:
    """Everything that the view shows.

    Attributes:
        reactors: by asset name, in order.
        planted: what was done to them, for whoever looks on; the monitor does not know.
        begin_ns: of the live part.
        end_ns: of the live part.
        now_ns: event time reached.
        windows: scored so far.
        open: RAISED notes of open incidents, by incident id.
        recent: the last notes, newest last.
    """

    reactors: dict[str, Reactor]
    planted: Sequence[Planted]
    begin_ns: int
    end_ns: int
    now_ns: int
    windows: int = 0
    open: dict[str, Note] = field(default_factory=dict[str, Note])
    recent: deque[Note] = field(default_factory=lambda: deque[Note](maxlen=RECENT))

    @property
    def seconds(self) -> float:
        """Length of the live part."""
        return (self.end_ns - self.begin_ns) / NS_PER_S

    def take(self, portion: Portion) -> list[Note]:
        """Take in a portion; returns its notes."""
        self.now_ns = portion.now_ns
        for reactor in self.reactors.values():
            reactor.ratio = float("nan")
        notes: list[Note] = []
        for step in portion.steps:
            for batch in step.polled.batches:
                self._readings(batch)
            for trace in step.outcome.traces:
                self._ratios(trace)
            alerts = [r.value for r in step.outcome.records if r.channel is Channel.ALERTS]
            notes += [note_of(msgspec.json.decode(value or b"")) for value in alerts]
        for note in notes:
            self.note(note)
        return notes

    def acting(self) -> list[Planted]:
        """What acts on the plant now."""
        return [p for p in self.planted if p.start_ns <= self.now_ns < p.end_ns]

    def _readings(self, batch: Batch) -> None:
        for number, asset in enumerate(batch.assets):
            mine = np.flatnonzero(batch.asset == number)
            if len(mine):
                reactor = self.reactors[asset]
                reactor.values = batch.values[mine[-1]]
                reactor.context = batch.contexts[int(batch.context[mine[-1]])]

    def _ratios(self, trace: Trace) -> None:
        self.windows += int(trace.scored.sum())
        for number, asset in enumerate(trace.assets):
            ratios = trace.ratio[(trace.asset == number) & trace.scored]
            if len(ratios):
                reactor = self.reactors[asset]
                reactor.ratio = float(np.fmax(reactor.ratio, ratios.max()))

    def note(self, note: Note) -> None:
        """Open, change or close an incident."""
        if note.event == "CLEARED":
            self.open.pop(note.incident_id, None)
        else:
            self.open[note.incident_id] = note
        if note.event != "UPDATED":
            self.recent.append(note)


def board_of(performance: Performance) -> Board:
    """The board before anything has come."""
    live = performance.live
    blank = {asset: Reactor(np.full(live.values.shape[2], np.nan)) for asset in live.assets}
    begin, end = int(live.time[0]), int(live.time[-1])
    return Board(blank, performance.planted, begin, end, begin)


def note_of(alert: Mapping[str, Any]) -> Note:
    """An alert, as decoded from its CloudEvent."""
    data = alert["data"]
    return Note(
        data["incident_id"], alert["time"], alert["subject"], data["event"], data["kind"], _text(alert, data)
    )


def _text(alert: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    moved = data.get("contributions") or ()
    if data["event"] == "CLEARED" or not moved:
        words = str(data["message"]).removeprefix(f"{alert['subject']}: ")
        return _SINCE.split(words)[0]
    most = moved[0]
    return (
        f"{data['score']['ratio']:.3g} x limit, {most['sensor']} {quantity(most['observed'], most['unit'])} "
        f"instead of {quantity(most['expected'], most['unit'])}"
    )
