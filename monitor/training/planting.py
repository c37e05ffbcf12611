"""Faults planted into the user's own held-out normal data: what a scorer finds before any fault was ever labelled.

A fault spans consecutive windows of one asset, so that smoothing and memory see it as they would live. Sizes are
graded in units of each sensor's own sigma (the history is in z-scores already) or, for faults without an
amplitude, in shares of the span. Most are one sensor that lies while the plant goes on; `disturbance` moves all
sensors as they normally move with one.

Shape letters: M slots, W windows, C cases (a kind, a sensor, a place), Z sizes, F windows of a fault, n samples of
it, T samples of a window, D scored sensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.settings import AssetClass
from monitor.thresholds.threshold import ThresholdRefused
from monitor.training.history import LIMIT, SCALE, Normal, Rows, windows_of

_SHORTEST, _SPAN, _LONGEST = 8, 32, 128
"""Windows that a fault lasts: at least, by default, and at most."""
_SETTLED = 4.0
"""A fault lasts that many times the memory of the smoothing: all but 2 % of a step has then gone through it."""
_MOST = 4096
"""Held-out windows of a part that are looked at, at most: evenly spaced blocks of consecutive ones."""
_BLOCK = 512

Floats = NDArray[np.float32]
Changed = NDArray[np.float64] | NDArray[np.float32]


class Held(NamedTuple):
    """Held-out windows, by part, asset and time.

    Attributes:
        closing: [W] index of the slot that each ends with.
        maturity: [W] samples.
        part: [W] SCALE or LIMIT.
        breaks: [W] True where smoothing starts anew.
        runs: [W] windows from here on that follow one another without a gap, this one included.
    """

    closing: NDArray[np.int64]
    maturity: NDArray[np.int32]
    part: NDArray[np.int8]
    breaks: NDArray[np.bool_]
    runs: NDArray[np.int64]


class Case(NamedTuple):
    """One fault, planted in every size.

    Attributes:
        kind: of fault.
        sensor: column that is planted.
        place: index of its first window among the held-out ones.
    """

    kind: str
    sensor: int
    place: int


class Stretch(NamedTuple):
    """What a kind of fault may look at.

    Attributes:
        now: [n, D] the z-scores of the fault's span.
        past: [n, D] those before it, as many, as far as the asset has any.
        other: [n, D] another stretch of the same asset.
        together: [D] how the sensors normally move with the planted one: its correlations.
    """

    now: Floats
    past: Floats
    other: Floats
    together: Floats


Change = Callable[[Stretch, int, float, np.random.Generator], Changed]
"""A fault of a size in a sensor: the column, or all columns, of the span."""


def _bias(stretch: Stretch, sensor: int, size: float, rng: np.random.Generator) -> Changed:
    return stretch.now[:, sensor] + size * _sign(rng)


def _ramp(stretch: Stretch, sensor: int, size: float, rng: np.random.Generator) -> Changed:
    rise = np.arange(1, len(stretch.now) + 1) / len(stretch.now)
    return stretch.now[:, sensor] + size * _sign(rng) * rise


def _gain(stretch: Stretch, sensor: int, size: float, rng: np.random.Generator) -> Changed:
    del rng
    return stretch.now[:, sensor] * (1.0 + size)


def _noise(stretch: Stretch, sensor: int, size: float, rng: np.random.Generator) -> Changed:
    return stretch.now[:, sensor] + size * rng.normal(size=len(stretch.now))


def _oscillation(stretch: Stretch, sensor: int, size: float, rng: np.random.Generator) -> Changed:
    period, phase = rng.uniform(4.0, 16.0), rng.uniform(0.0, 2.0 * np.pi)
    return stretch.now[:, sensor] + size * np.sin(2.0 * np.pi * np.arange(len(stretch.now)) / period + phase)


def _stuck(stretch: Stretch, sensor: int, size: float, rng: np.random.Generator) -> Changed:
    """Every value is held for ``size`` of the span."""
    del rng
    held = max(2, round(size * len(stretch.now)))
    return stretch.now[np.arange(len(stretch.now)) // held * held, sensor]


def _unrelated(stretch: Stretch, sensor: int, size: float, rng: np.random.Generator) -> Changed:
    """Broken correlation: a share of the sensor is its own course of another time."""
    del rng
    kept = np.sqrt(1.0 - size**2)
    return kept * stretch.now[:, sensor] + size * stretch.other[:, sensor]


def _lag(stretch: Stretch, sensor: int, size: float, rng: np.random.Generator) -> Changed:
    """The sensor comes late by ``size`` of the span."""
    del rng
    late = max(1, round(size * len(stretch.now)))
    joined = np.concatenate([stretch.past[:, sensor], stretch.now[:, sensor]])
    return joined[len(stretch.past) - late : len(joined) - late]


def _disturbance(stretch: Stretch, sensor: int, size: float, rng: np.random.Generator) -> Changed:
    del sensor
    return stretch.now + size * _sign(rng) * stretch.together


def _sign(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


_AMPLITUDES = (0.5, 1.0, 2.0, 4.0)
KINDS: Final[Mapping[str, tuple[Change, tuple[float, ...]]]] = {
    "bias": (_bias, _AMPLITUDES),
    "ramp": (_ramp, (1.0, 2.0, 4.0, 8.0)),
    "gain": (_gain, _AMPLITUDES),
    "noise": (_noise, _AMPLITUDES),
    "stuck": (_stuck, (0.125, 0.25, 0.5, 1.0)),
    "unrelated": (_unrelated, (0.25, 0.5, 0.75, 1.0)),
    "oscillation": (_oscillation, _AMPLITUDES),
    "lag": (_lag, (0.0625, 0.125, 0.25, 0.5)),
    "disturbance": (_disturbance, _AMPLITUDES),
}
"""Every kind of fault with its sizes; bias to disturbance in sigma, the others in shares."""


def held_windows(asset_class: AssetClass, rows: Rows, normal: Normal) -> Held:
    """The held-out windows, full-grown ones where there are any, at most some thousands of each part.

    Raises:
        ThresholdRefused: a part has none.
    """
    chunks = [(c.closing, c.maturity) for c in windows_of(asset_class, rows, normal)]
    closing, maturity = (np.concatenate(column) for column in zip(*chunks, strict=True))
    if (maturity == asset_class.window.length).any():
        grown = maturity == asset_class.window.length
        closing, maturity = closing[grown], maturity[grown]
    kept = np.concatenate([_blocks(np.flatnonzero(normal.part[closing] == part)) for part in (SCALE, LIMIT)])
    closing, maturity = closing[kept], maturity[kept]
    part = normal.part[closing]
    for number, name in ((SCALE, "scale"), (LIMIT, "limit")):
        if not (part == number).any():
            raise ThresholdRefused(
                f"got no held-out window in the {name} part; hint: give a longer history or a larger "
                "`calibration.holdout`"
            )
    step = np.diff(rows.slots.slot[closing], prepend=-1)
    same = [np.diff(column[closing], prepend=-1) == 0 for column in (rows.slots.row, normal.segment)]
    joined = same[0] & same[1] & (np.diff(part, prepend=-1) == 0) & (step > 0)
    follows = joined & (step == asset_class.window.stride)
    return Held(closing, maturity, part, ~joined | (step > asset_class.window.length), _runs(follows))


def _blocks(index: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(index) <= _MOST:
        return index
    starts = np.linspace(0, len(index) - _BLOCK, _MOST // _BLOCK).astype(np.int64)
    return index[(starts[:, None] + np.arange(_BLOCK)).ravel()]


def _runs(follows: NDArray[np.bool_]) -> NDArray[np.int64]:
    ends = np.append(np.flatnonzero(~follows)[1:], len(follows))
    return ends[np.cumsum(~follows) - 1] - np.arange(len(follows))


def span_of(held: Held, smoothing: float) -> int:
    """Windows that a fault lasts: long enough for the smoothing, if there are stretches as long.

    Raises:
        ThresholdRefused: no stretch is long enough for a fault.
    """
    longest = int(held.runs.max())
    if longest < _SHORTEST:
        raise ThresholdRefused(
            f"auto: got at most {longest} consecutive held-out windows, expected {_SHORTEST} to plant faults "
            "in; hint: give a longer history, or name the scorers"
        )
    return min(longest, max(_SPAN, min(_LONGEST, math.ceil(_SETTLED / smoothing))))


def cases_of(held: Held, span: int, sensors: int, count: int, seed: int) -> list[Case]:
    """``count`` cases of every kind; sensors take turns, places are drawn by chance."""
    rng = np.random.default_rng(seed)
    places = np.flatnonzero(held.runs >= span)
    turns = np.concatenate([rng.permutation(sensors) for _ in range(-(-count * len(KINDS) // sensors))])
    return [
        Case(kind, int(turns[number * count + k]), int(rng.choice(places)))
        for number, kind in enumerate(KINDS)
        for k in range(count)
    ]


class Planting:
    """Windows of held-out data, as they are or with a fault.

    Args:
        asset_class: its settings.
        rows: the history.
        normal: the history in z-scores.
        held: its held-out windows.
        span: F, windows that a fault lasts.
        seed: of noise, phases and stretches.
    """

    def __init__(
        self, asset_class: AssetClass, rows: Rows, normal: Normal, held: Held, span: int, seed: int
    ) -> None:
        self._length, self._stride = asset_class.window.length, asset_class.window.stride
        self._z, self._usable = normal.z, normal.usable
        self._asset = rows.slots.row
        self._held, self._span, self._seed = held, span, seed
        fitted = normal.z[(normal.part != SCALE) & (normal.part != LIMIT)]
        self._together = (fitted.T @ fitted / len(fitted)).astype(np.float32)

    def normal(self, which: NDArray[np.int64]) -> tuple[Floats, NDArray[np.bool_]]:
        """Values and mask [W, T, D] of held-out windows."""
        return self._windows(self._z, which, 0)

    def planted(self, case: Case) -> tuple[Floats, NDArray[np.bool_]]:
        """Values and mask [Z F, T, D] of a fault's windows, size by size."""
        which = case.place + np.arange(self._span)
        closing = self._held.closing[which]
        first, last = int(closing[0]) - self._stride + 1, int(closing[-1]) + 1
        low = max(0, min(first, int(closing[0]) - self._length + 1))
        change, sizes = KINDS[case.kind]
        parts: list[tuple[Floats, NDArray[np.bool_]]] = []
        for size in sizes:
            rng = np.random.default_rng([self._seed, *case.kind.encode(), case.sensor, case.place])
            stretch = self._stretch(first, last, case.sensor, rng)
            changed = change(stretch, case.sensor, size, rng)
            z = self._z[low:last].copy()
            if changed.ndim == 2:
                z[first - low :] = changed
            else:
                z[first - low :, case.sensor] = changed
            parts.append(self._windows(z, which, low))
        return np.concatenate([v for v, _ in parts]), np.concatenate([m for _, m in parts])

    def _stretch(self, first: int, last: int, sensor: int, rng: np.random.Generator) -> Stretch:
        samples = last - first
        begin = int(np.searchsorted(self._asset, self._asset[first]))
        before = np.maximum(np.arange(first - samples, first), begin)
        room = first - samples - begin
        at = begin + int(rng.integers(room)) if room > 0 else None
        other = self._z[first:last][::-1] if at is None else self._z[at : at + samples]
        return Stretch(self._z[first:last], self._z[before], other, self._together[sensor])

    def _windows(self, z: Floats, which: NDArray[np.int64], low: int) -> tuple[Floats, NDArray[np.bool_]]:
        back = np.arange(self._length - 1, -1, -1)
        index = np.maximum(self._held.closing[which][:, None] - back, low)
        grown = back < self._held.maturity[which][:, None]
        mask = self._usable[index] & grown[..., None]
        return np.where(mask, z[index - low], np.float32(0)).astype(np.float32), mask
