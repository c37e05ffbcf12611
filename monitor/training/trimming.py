"""What of a history is not like the rest of it: estimated, left out up to an asked share, and told with its reason.

What was in the history is learnt as normal, a fault too. Here rows are judged before anything is fitted:

1. Rows as robust z-scores (median and median absolute deviation per sensor), masked ones 0.
2. Mean and shrunk covariance of the rows that lie nearest to them, in concentration steps (Rousseeuw & Van Driessen
   1999, A Fast Algorithm for the Minimum Covariance Determinant Estimator, Technometrics 41:212) from the
   coordinate-wise median on: few wrong rows then have no part in what they are judged by.
3. Distances sqrt(x' P x / D), smoothed over time as scores are, so that stretches stand out and single rows do not.
4. The logarithm of these distances against an empirical null: median and lower spread, which few wrong rows cannot move
   (Efron 2004, Large-Scale Simultaneous Hypothesis Testing, JASA 99:96). What lies `FENCE` spreads above the median
   is called contaminated; that is a lower bound, as what hides among normal rows is not seen.

What is called so is left out of everything, scaling, scorers and limits, with the rows just before it, because a
smoothed distance comes late; windows do not reach across. At most `scoring.trim` of the rows are called so, the worst
first.

Shape letters: M slots, D scored sensors.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from monitor.event_time.grid import Slots
from monitor.model import Grouping, scored_columns
from monitor.quantities import iso_time
from monitor.settings import AssetClass
from monitor.training.feedback import smoothed_rows
from monitor.training.history import FIT, Rows, groups_of, scaled, without_rows

FENCE = 5.0
"""Spreads of the logarithm above its median: of a normal distribution 3 in 10 million lie there."""
_STEPS = 20
_BULK = 0.5
"""Share of the rows that concentration steps rest on."""
_LOWER = 0.1587
"""Quantile one standard deviation below the median of a normal distribution."""
_CAPPED = 3.0
"""Robust z-scores count as no more than this in the first step: one wild sensor does not decide."""
_RIDGE = 0.05

Floats = NDArray[np.float64]


class Stretch(Struct, frozen=True, kw_only=True):
    """Consecutive rows that were left out.

    Attributes:
        asset: theirs.
        start: time of the first, ISO 8601.
        end: time of the last.
        rows: how many.
        score: the largest smoothed distance among them, in units of the limit.
        sensor: that is furthest from what the others let expect,
        sigma: by so many standard deviations, on average.
    """

    asset: str
    start: str
    end: str
    rows: int
    score: float
    sensor: str
    sigma: float

    @property
    def reason(self) -> str:
        """Why they were left out."""
        return (
            f"unlike the rest: {self.score:.1f} times the limit of the distance; most of it {self.sensor}, "
            f"{self.sigma:+.1f} standard deviations from what the other sensors let expect"
        )


class Trimming(Struct, frozen=True, kw_only=True):
    """What was found, and what was left out.

    Attributes:
        most: share of the rows that may be left out.
        contamination: estimated share of rows unlike the rest, a lower bound.
        rows: of the history.
        left_out: of them, those just before a stretch among them.
        capped: more is contaminated than may be left out.
        stretches: what was left out, in order of asset and time.
    """

    most: float
    contamination: float
    rows: int
    left_out: int
    capped: bool
    stretches: tuple[Stretch, ...]


def capped_text(trimming: Trimming) -> list[str]:
    """A warning where more is contaminated than may be left out; nothing elsewhere."""
    if not trimming.capped:
        return []
    return [
        f"{trimming.contamination:.1%} of the history is unlike the rest, and `scoring.trim` lets only "
        f"{trimming.most:.1%} be left out; hint: look at it, and choose a history without it"
    ]


class _Shape(NamedTuple):
    """What rows are judged by."""

    mean: Floats
    precision: Floats


def trim(asset_class: AssetClass, rows: Rows) -> tuple[Rows, Trimming | None]:
    """The history without what is unlike the rest of it; the very same where `scoring.trim` is 0."""
    most = asset_class.scoring.trim
    if not most:
        return rows, None
    grouping = Grouping(groups_of(asset_class, rows))
    normal, _, _ = scaled(asset_class, rows, grouping, np.full(len(rows.slots.row), FIT, np.int8))
    values = _robust(normal.z.astype(np.float64), normal.usable)
    shape = _concentrated(values)
    breaks = _breaks(rows.slots, normal.segment, asset_class.window.length)
    distance = smoothed_rows(_distances(values, shape)[:, None], breaks, asset_class.scoring.smoothing)[:, 0]
    settled = _settled(breaks, asset_class.scoring.smoothing)
    limit = _fence(distance[settled])
    found = distance > limit
    contamination = float(np.mean(found))
    capped = contamination > most
    if capped:
        found = distance > float(np.quantile(distance, 1.0 - most))
    out = _with_before(found, breaks, math.ceil(2.0 / asset_class.scoring.smoothing))
    names = list(asset_class.sensors)
    sensors = [names[c] for c in scored_columns(asset_class)]
    stretches = _stretches(rows, out, breaks, distance / limit, _off(values, shape), sensors)
    trimming = Trimming(
        most=most,
        contamination=contamination,
        rows=len(out),
        left_out=int(np.count_nonzero(out)),
        capped=capped,
        stretches=stretches,
    )
    return without_rows(rows, out), trimming


def _robust(z: Floats, usable: NDArray[np.bool_]) -> Floats:
    """Robust z-scores [M, D]; 0 where masked, and of sensors that hardly ever move their plain ones."""
    known = np.where(usable, z, np.nan)
    seen = usable.any(axis=0)
    centre = np.zeros(z.shape[1])
    centre[seen] = np.nanmedian(known[:, seen], axis=0)
    spread = np.ones(z.shape[1])
    spread[seen] = 1.4826 * np.nanmedian(np.abs(known[:, seen] - centre[seen]), axis=0)
    spread = np.where(spread > 1e-3, spread, 1.0)
    return np.where(usable, (z - centre) / spread, 0.0)


def _concentrated(values: Floats) -> _Shape:
    """Mean and precision of the half of the rows that lies nearest to them."""
    count = max(int(_BULK * len(values)), 1)
    order = np.argsort(np.square(np.clip(values, -_CAPPED, _CAPPED)).sum(axis=1), kind="stable")
    kept = np.sort(order[:count])
    shape = _shape(values[kept])
    for _ in range(_STEPS):
        nearest = np.sort(np.argsort(_distances(values, shape), kind="stable")[:count])
        if np.array_equal(nearest, kept):
            break
        kept, shape = nearest, _shape(values[nearest])
    return shape


def _shape(values: Floats) -> _Shape:
    """Mean and precision, the covariance shrunk towards its diagonal."""
    mean = values.mean(axis=0)
    off = values - mean
    covariance = off.T @ off / len(off)
    spread = np.maximum(np.diag(covariance), 1e-6)
    shrunk = (1.0 - _RIDGE) * covariance + _RIDGE * np.diag(spread)
    return _Shape(mean, np.linalg.inv(shrunk + 1e-6 * np.eye(len(shrunk))))


def _distances(values: Floats, shape: _Shape) -> Floats:
    off = values - shape.mean
    return np.sqrt(np.einsum("md,de,me->m", off, shape.precision, off, optimize=True) / values.shape[1])


def _off(values: Floats, shape: _Shape) -> Floats:
    """Observed less expected given the other sensors [M, D], in standard deviations."""
    return (values - shape.mean) @ shape.precision / np.sqrt(np.diag(shape.precision))


def _breaks(slots: Slots, segment: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
    same = (np.diff(slots.row, prepend=-1) == 0) & (np.diff(segment, prepend=-1) == 0)
    return ~same | (np.diff(slots.slot, prepend=0) > length)


def _settled(breaks: NDArray[np.bool_], smoothing: float) -> NDArray[np.bool_]:
    """Rows whose average no longer knows that it began at 0; all, where none is."""
    place = np.arange(len(breaks))
    age = place - np.maximum.accumulate(np.where(breaks, place, 0))
    settled = age >= math.ceil(3.0 / smoothing)
    return settled if settled.any() else np.ones(len(breaks), np.bool_)


def _fence(distance: Floats) -> float:
    """The distance beyond which rows are unlike the rest."""
    logarithm = np.log(np.maximum(distance, 1e-12))
    middle, lower = np.quantile(logarithm, [0.5, _LOWER])
    return float(np.exp(middle + FENCE * max(middle - lower, 0.02)))


def _with_before(found: NDArray[np.bool_], breaks: NDArray[np.bool_], before: int) -> NDArray[np.bool_]:
    """Rows [M] that were found, with so many before them in the same stretch."""
    out = found.copy()
    number = np.cumsum(breaks)
    for back in range(1, before + 1):
        out[:-back] |= found[back:] & (number[back:] == number[:-back])
    return out


def _stretches(
    rows: Rows,
    out: NDArray[np.bool_],
    breaks: NDArray[np.bool_],
    score: Floats,
    off: Floats,
    sensors: list[str],
) -> tuple[Stretch, ...]:
    begins = np.flatnonzero(out & (breaks | ~np.concatenate([[False], out[:-1]])))
    found: list[Stretch] = []
    for first in begins.tolist():
        last = first
        while last + 1 < len(out) and out[last + 1] and not breaks[last + 1]:
            last += 1
        mean = off[first : last + 1].mean(axis=0)
        d = int(np.argmax(np.abs(mean)))
        found.append(
            Stretch(
                asset=rows.assets[int(rows.slots.row[first])],
                start=iso_time(int(rows.slots.end[first])),
                end=iso_time(int(rows.slots.end[last])),
                rows=last - first + 1,
                score=float(score[first : last + 1].max()),
                sensor=sensors[d],
                sigma=float(mean[d]),
            )
        )
    return tuple(found)
