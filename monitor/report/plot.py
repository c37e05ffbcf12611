"""What every panel of a timeline shares: the axis of columns, gutter labels, grid lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitor.report.columns import Columns
from monitor.report.markup import Markup, join, tag
from monitor.report.scales import Linear, time_ticks

WIDTH, LEFT, RIGHT = 1100, 92, 8
PLOT = WIDTH - LEFT - RIGHT
HEADER, AXIS = 17, 34
_APART = 11.0
"""Smallest distance of two labels in the gutter, in pixels."""


class Scale(Protocol):
    """Pixels of values, from a panel's bottom up."""

    def __call__(self, value: ArrayLike) -> NDArray[np.float64]:
        """Pixels from the panel's top."""
        ...


class Drawn(NamedTuple):
    """A panel: its markup, its height, and its track for the script's readout (None: nothing to read)."""

    markup: Markup
    height: float
    track: dict[str, Any] | None = None


@dataclass(frozen=True)
class Plot:
    """The horizontal axis of one picture, and what stands behind every panel.

    Attributes:
        columns: how windows are cut.
        ends: [N] window ends, ns since the epoch.
        faults: (start_ns, end_ns) of labelled intervals.
    """

    columns: Columns
    ends: NDArray[np.int64]
    faults: tuple[tuple[int, int], ...]

    def column(self, window: int) -> int:
        """The column that holds a window."""
        return int(np.searchsorted(self.columns.edges, window, "right")) - 1

    def span(self, start_ns: int, end_ns: int) -> tuple[float, float] | None:
        """Edges of an interval in columns, at least one column apart; None outside the picture."""
        if end_ns < self.ends[0] or start_ns > self.ends[-1]:
            return None
        first = int(np.searchsorted(self.ends, start_ns, "left"))
        last = int(np.searchsorted(self.ends, end_ns, "right")) - 1
        return self.column(first) - 0.5, self.column(max(first, last)) + 0.5

    def inner(self, y: float, height: float, *children: object) -> Markup:
        """The zoomable part of a panel; x counts columns, y is in pixels."""
        return tag(
            "svg",
            *children,
            class_="plot",
            x=LEFT,
            y=y,
            width=PLOT,
            height=height,
            viewBox=f"-0.5 0 {self.columns.count} {height:g}",
            preserveAspectRatio="none",
        )

    def background(self, height: float) -> Markup:
        """Label bands, and a dotted line wherever time jumps."""
        spans = [span for fault in self.faults if (span := self.span(*fault))]
        bands = [
            tag("rect", class_="label-band", x=left, y=0, width=right - left, height=height)
            for left, right in spans
        ]
        gaps = "".join(f"M{x:g} 0V{height:g}" for x in self._jumps())
        return join((*bands, tag("path", class_="gap", d=gaps) if gaps else None))

    def time_axis(self, top: float) -> Markup:
        """Time ticks below the last panel; the script draws them anew when it zooms."""
        scale = Linear(-0.5, self.columns.count - 0.5, LEFT, WIDTH - RIGHT)
        ticks = list[Markup]()
        for tick in time_ticks(self.ends[self.columns.last]):
            x = float(scale(tick.column))
            ticks.append(tag("line", class_="tick-mark", x1=x, x2=x, y1=top, y2=top + 4))
            ticks.append(tag("text", tick.text, class_="tick", x=x, y=top + 15, text_anchor="middle"))
            ticks.append(tag("text", tick.date, class_="tick date", x=x, y=top + 28, text_anchor="middle"))
        base = tag("line", class_="axis", x1=LEFT, x2=WIDTH - RIGHT, y1=top, y2=top)
        return join((base, tag("g", join(ticks), class_="time-ticks", data_top=f"{top:g}")))

    def _jumps(self) -> NDArray[np.float64]:
        distance = np.diff(self.ends)
        if not len(distance):
            return np.zeros(0)
        jumps = np.flatnonzero(distance > 10 * np.median(distance)) + 1
        return np.unique(np.searchsorted(self.columns.edges, jumps, "right")).astype(np.float64) - 1.5


def grid(ticks: Sequence[float], scale: Scale, height: float) -> Markup:
    """Faint lines at the ticks that lie in the panel."""
    at = [float(scale(tick)) for tick in ticks]
    lines = "".join(f"M-1 {y:.1f}H100000" for y in at if 0 <= y <= height)
    return tag("path", class_="grid", d=lines) if lines else Markup("")


def gutter(ticks: Sequence[tuple[float, str]], scale: Scale, top: float, height: float) -> Markup:
    """Tick labels, earlier ones first: one that would touch another is left out."""
    drawn, taken = list[Markup](), list[float]()
    for value, text in ticks:
        y = float(scale(value))
        if -1 <= y <= height + 1 and all(abs(y - other) >= _APART for other in taken):
            taken.append(y)
            drawn.append(tag("text", text, class_="tick", x=LEFT - 6, y=top + y + 3.5, text_anchor="end"))
    return join(drawn)


def header(text: str, track: str, top: float, legend: Markup | None = None) -> Markup:
    """A panel's name on its left, and the place of the script's readout on its right."""
    name = tag("text", text, class_="name", x=LEFT, y=top + 12)
    readout = tag("text", class_="readout", data_track=track, x=WIDTH - RIGHT, y=top + 12, text_anchor="end")
    return join((name, tag("g", legend, transform=f"translate(0 {top:g})") if legend else None, readout))
