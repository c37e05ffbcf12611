"""New limits from newly collected scores: what a re-estimation would set, and whether the scores support it.

Pure functions over a collection in time order; what may be done with the result is decided in
`monitor.thresholds.judgement`. Shape letters: n windows, S scorers.

Units. ``u`` is a scorer's score on the bundle's ratio scale: 0 its calibration median, 1 its trained limit.
A version's scales map u to the scorer's ratio, and the combined, smoothed ratio to the final one. Factors
between limits are always read on one and the same windows: the limit in units of another version is the
nu-quantile of what that version would have called these windows. So 'the total' is the new limit in trained
ratios.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from scipy.special import stdtrit

from monitor.thresholds.ages import Ages
from monitor.thresholds.threshold import Estimate, estimate, limit_and_median, nu_quantile, ratio

Combine = Literal["any", "all"]
Floats = NDArray[np.float64]

_NO_AGES = Ages.of_no_effect()
SCALE_SHARE = 3
"""The first 1/3 of a collection sets the scorers' scales, the rest the limit of the combined ratio."""
_BLOCKS = 8
"""Blocks per half of the test for stationarity: each spans many autocorrelation times, so their means are
nearly independent, and 14 degrees of freedom are left to tell how they scatter."""
_FALSE_REFUSAL = 0.01
"""Chance that stationary scores are called moving; the price is a longer collection."""


class Scales(Struct, frozen=True):
    """What maps u to ratios, for one asset and version.

    Attributes:
        median: [S] u of ratio 0, by scorer.
        limit: [S] u of ratio 1.
        final_median: combined, smoothed ratio at which the final ratio is 0.
        final_limit: where it is 1.
    """

    median: tuple[float, ...]
    limit: tuple[float, ...]
    final_median: float
    final_limit: float


class Refit(NamedTuple):
    """What a collection would set.

    Attributes:
        scales: the new version's.
        estimate: of the new limit, in trained ratios: `threshold` is the total, with its interval.
        step: [S + 1] factor between the old limit and the new, by scorer and, last, combined.
        total: [S + 1] factor between the trained limit and the new, likewise.
    """

    scales: Scales
    estimate: Estimate
    step: Floats
    total: Floats


def combine(ratios: Floats, how: Combine) -> Floats:
    """One ratio of several: 'any' takes the largest, 'all' the smallest. [n, S] -> [n]."""
    return ratios.max(axis=-1) if how == "any" else ratios.min(axis=-1)


def smooth(values: Floats, breaks: NDArray[np.bool_], weight: float) -> Floats:
    """EWMA [n] of combined ratios [n], restarting at 0 where ``breaks`` [n], as the live stage does."""
    out, before = np.empty(len(values)), 0.0
    for index, (value, restart) in enumerate(zip(values.tolist(), breaks.tolist(), strict=True)):
        before = weight * value + (1.0 - weight) * (0.0 if restart else before)
        out[index] = before
    return out


def steady(
    u: Floats,
    breaks: NDArray[np.bool_],
    median: Sequence[float] | Floats,
    limit: Sequence[float] | Floats,
    how: Combine,
    weight: float,
    ages: Ages,
) -> Floats:
    """Combined, smoothed ratios [n] of a collection [n, S], young averages as steady ones, as the live stage does."""
    smoothed = smooth(combine(ratio(u, median, limit), how), breaks, weight)
    place = np.arange(len(breaks))
    restart = np.maximum.accumulate(np.where(breaks, place, 0))
    return ages.steady(smoothed, place - restart + 1)


def final_ratio(
    u: Floats,
    breaks: NDArray[np.bool_],
    scales: Scales,
    how: Combine,
    weight: float,
    ages: Ages = _NO_AGES,
) -> Floats:
    """What a version calls the windows of a collection: [n, S] -> [n], 1.0 is its limit."""
    values = steady(u, breaks, scales.median, scales.limit, how, weight, ages)
    return ratio(values, scales.final_median, scales.final_limit)


def refit(
    u: Floats,
    breaks: NDArray[np.bool_],
    *,
    trained: Scales,
    current: Scales,
    how: Combine,
    weight: float,
    scorer_nu: float,
    nu: float,
    enough: float,
    rng: np.random.Generator,
    start_ns: int,
    end_ns: int,
    ages: Ages = _NO_AGES,
) -> Refit:
    """New scales from the first third of a collection, the new limit from the rest.

    Args:
        u: [n, S] finite scores on the bundle's ratio scale, in time order.
        breaks: [n] True where the smoothing restarts.
        trained: the bundle's scales.
        current: the scales in force.
        how: how the scorers' ratios combine.
        weight: of the newest ratio in the EWMA.
        scorer_nu: fraction of normal windows allowed over a scorer's own limit.
        nu: fraction of normal windows allowed over the limit of the combined ratio.
        enough: n_eff * nu must reach this to be called calibrated.
        rng: source of the interval's bootstrap.
        start_ns: end of the first window.
        end_ns: end of the last window.
        ages: the bundle's limits by age: where averages restart often (batches), most windows are young, and their
            smaller spread would set too low a limit.

    Raises:
        ThresholdRefused: too few scores for nu, or a scorer's limit is not above its median.
    """
    split = len(u) // SCALE_SHARE
    points = [limit_and_median(column, scorer_nu) for column in u[:split].T]
    limit, median = (np.array(values) for values in zip(*points, strict=True))
    combined = steady(u, breaks, median, limit, how, weight, ages)[split:]
    final_limit, final_median = limit_and_median(combined, nu)
    in_trained = final_ratio(u, breaks, trained, how, weight, ages)[split:]
    result = estimate(
        in_trained,
        nu,
        rng=rng,
        enough=enough,
        runs=run_lengths(breaks[split:]),
        source="re-estimation",
        start_ns=start_ns,
        end_ns=end_ns,
    )
    step = nu_quantile(final_ratio(u, breaks, current, how, weight, ages)[split:], nu)
    return Refit(
        scales=Scales(tuple(median.tolist()), tuple(limit.tolist()), final_median, final_limit),
        estimate=result,
        step=np.append(ratio(limit, current.median, current.limit), step),
        total=np.append(ratio(limit, trained.median, trained.limit), result.threshold),
    )


def run_lengths(breaks: NDArray[np.bool_]) -> Sequence[int]:
    """Lengths of the runs of a collection [n] whose first windows are marked, as the very first need not be."""
    starts = np.flatnonzero(breaks)
    edges = np.concatenate([[0], starts[starts > 0], [len(breaks)]])
    return [int(length) for length in np.diff(edges)]


def stationary(u: Floats) -> bool:
    """Whether the first and the second half of a collection lie alike, by scorer.

    Ranks within the collection are averaged over 8 blocks per half, and the two sets of means compared by a
    t-test at 1 % over all scorers: single windows are autocorrelated, means of long blocks hardly.

    Args:
        u: [n, S] scores in time order, n >= 16.

    Returns:
        False if a scorer's location has moved.
    """
    n, scorers = u.shape
    ranks = np.argsort(np.argsort(u, axis=0, kind="stable"), axis=0, kind="stable") / n
    means = np.stack([block.mean(axis=0) for block in np.array_split(ranks, 2 * _BLOCKS)])  # [2 * blocks, S]
    first, second = means[:_BLOCKS], means[_BLOCKS:]
    spread = np.sqrt((first.var(axis=0, ddof=1) + second.var(axis=0, ddof=1)) / _BLOCKS)
    critical = float(stdtrit(2 * (_BLOCKS - 1), 1.0 - _FALSE_REFUSAL / scorers / 2))
    return bool(np.all(np.abs(second.mean(axis=0) - first.mean(axis=0)) <= critical * spread))
