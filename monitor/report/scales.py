"""Where values and times stand on an axis, and which of them are written there."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitor.quantities import NS_PER_S, iso_time

RATIO_TICKS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 100.0, 1e3, 1e4, 1e6, 1e9)
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
_MORE_STEPS_S = tuple(86_400 * days for days in (2, 7, 14, 30, 60, 120, 365, 3650))
TIME_STEPS_S = _STEPS_S + _MORE_STEPS_S
"""Distances of time ticks in seconds; the page's script has the same ones."""


class Linear(NamedTuple):
    """A straight scale from values low..high to pixels start..stop."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: ArrayLike) -> NDArray[np.float64]:
        """Pixels of values."""
        span = self.high - self.low or 1.0
        return self.start + (np.asarray(value, np.float64) - self.low) / span * (self.stop - self.start)


def bend(ratio: ArrayLike) -> NDArray[np.float64]:
    """Ratios as drawn: straight up to the limit, logarithmic above, with one slope where they meet.

    1 + ln(r) over the limit; below, r itself, but not under -1.
    """
    values = np.asarray(ratio, np.float64)
    return np.where(values > 1.0, 1.0 + np.log(np.maximum(values, 1.0)), np.maximum(values, -1.0))


class RatioScale(NamedTuple):
    """Ratios, bent, on a straight scale of pixels."""

    straight: Linear

    def __call__(self, value: ArrayLike) -> NDArray[np.float64]:
        """Pixels of ratios."""
        return self.straight(bend(value))


def padded(low: float, high: float, share: float = 0.06) -> tuple[float, float]:
    """The range with some air; a range of no width gets one."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 1.0
    width = (high - low) or abs(high) * 0.1 or 1.0
    return low - share * width, high + share * width


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About ``count`` round values inside low..high."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low] if math.isfinite(low) else []
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1.0, 2.0, 2.5, 5.0) if m * power >= raw * 0.999), 10.0 * power)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float, step: float) -> str:
    """A tick's label with as many decimals as its step needs."""
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.3g}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    if step > 0 and abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6:
        decimals += 1
    return f"{value:.{decimals}f}"


class TimeTick(NamedTuple):
    """A tick at a column: its time of day, and the date where that is new."""

    column: int
    text: str
    date: str


def time_ticks(ends: NDArray[np.int64], count: int = 8, apart: float = 0.08) -> list[TimeTick]:
    """Ticks at the columns where a round time is reached; gaps in time take no room.

    Args:
        ends: [N] time of each column, ns since the epoch, ascending.
        count: about so many ticks.
        apart: smallest distance of two ticks, as a share of the width.
    """
    if not len(ends):
        return []
    distance = np.diff(ends)
    usual = float(np.median(distance)) if len(distance) else float(NS_PER_S)
    span = np.minimum(distance, 10 * usual).sum() / NS_PER_S
    step = next((s for s in TIME_STEPS_S if s * count >= span), TIME_STEPS_S[-1])
    number = ends // (step * NS_PER_S)
    columns = np.flatnonzero(np.diff(number, prepend=number[0] - 1))
    ticks, date = list[TimeTick](), ""
    for column in columns:
        if ticks and column - ticks[-1].column < apart * len(ends):
            continue
        text = iso_time(_rounded(int(ends[column]), step * NS_PER_S, usual))
        shown = text[11:19] if step < 60 or text[17:19] != "00" else text[11:16]
        ticks.append(TimeTick(int(column), shown, "" if text[:10] == date else text[:10]))
        date = text[:10]
    return ticks


def _rounded(time: int, step: int, usual: float) -> int:
    """The round time that a column holds, or the column's own where time jumped over it."""
    return time - time % step if time % step < usual else time
