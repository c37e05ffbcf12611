"""The limit of normal: the nu-quantile rule, and how much a finite, autocorrelated sample can say of it.

The threshold is the k-th smallest of n calibration scores, k = ceil((n + 1)(1 - nu)): for exchangeable scores
the next one exceeds it with probability 1 - k/(n + 1) <= nu, for every distribution (the split-conformal
rule: Vovk, Gammerman & Shafer, "Algorithmic Learning in a Random World", 2005; Lei et al., JASA 113, 2018).
Scores of overlapping, smoothed windows are not exchangeable: then the guarantee is approximate, and n_eff = n
/ tau says roughly how many independent scores the n are worth (tau: Sokal, "Monte Carlo Methods in
Statistical Mechanics", 1997; the interval by moving blocks: Kuensch, Annals of Statistics 17, 1989).

n_eff independent scores resolve no probability below 1 / (n_eff + 1): it is that of exceeding the largest of them.
Where nu is smaller, the limit can be moved out along the tail of the scores (`beyond`): it is then extrapolated.

Everything here is pure: no clock, no state, the random generator is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_ROUNDING = 1e-9
"""Subtracted before ceil: 1000 * (1 - 0.059) is 941.0000000000001 in binary, and must not become 942."""
_SOKAL_WINDOW = 5.0
"""Autocorrelations are summed up to this many tau: the bias left is exp(-5), more would only add noise."""
_BLOCK_TAUS = 4.0
"""A bootstrap block spans this many tau, so that few correlated pairs are torn apart at its ends."""
_WHOLE_RUNS = 8
"""From this many runs on, whole runs are resampled; of fewer, too few different resamples could be made."""
_RESAMPLES = 400
_COVERAGE = 0.95
_TAIL = 0.5
"""The upper share of the scores whose mean excess is taken for the tail's. Of few independent scores a smaller share
holds too few for a mean: limits then scatter from history to history, and realise more."""


class ThresholdRefused(ValueError):  # noqa: N818 - names what happened, as the training report does
    """The scores do not support a threshold: too few for nu, not finite, or no spread above the median."""


class Estimate(Struct, frozen=True, kw_only=True):
    """A threshold with what is known of its uncertainty.

    Attributes:
        nu: the asked fraction of normal scores over the threshold.
        n: calibration scores used.
        tau: integrated autocorrelation time of the exceedances at the threshold, in scores; >= 1.
        n_eff: n / tau, the independent scores that they are worth.
        median: of the scores; ratio 0.
        threshold: the nu-quantile; ratio 1.
        low: lower end of the threshold's 95 % bootstrap interval.
        high: upper end; at most the largest score seen, or as far beyond it as the threshold was moved out.
        enough: n_eff * nu reached what was asked; only then is the threshold called calibrated.
        missing: further scores needed to reach it, at this tau; 0 if enough.
        smallest_p: the smallest p-value that n scores can give, 1 / (n + 1).
        source: where the scores came from, for people.
        start_ns: window end of the first score, ns since the epoch.
        end_ns: window end of the last score.
        label: 'CALIBRATED' if enough, else 'UNCALIBRATED'.
        extrapolated: the threshold lies beyond what the scores resolve; never where it is calibrated.
    """

    nu: float
    n: int
    tau: float
    n_eff: float
    median: float
    threshold: float
    low: float
    high: float
    enough: bool
    missing: int
    smallest_p: float
    source: str
    start_ns: int
    end_ns: int
    label: Literal["CALIBRATED", "UNCALIBRATED"]
    extrapolated: bool = False


def smallest_sample(nu: float) -> int:
    """The fewest scores from which a nu-quantile can be taken: the smallest n whose k is not above n."""
    _check_nu(nu)
    n = max(1, math.ceil(1 / nu - 1 - 1e-6))
    while _order(n, nu) > n:
        n += 1
    return n


def nu_quantile(scores: ArrayLike, nu: float) -> float:
    """The threshold: the k-th smallest of n scores, k = ceil((n + 1)(1 - nu)); never an interpolation.

    Args:
        scores: [n] finite calibration scores, any order.
        nu: fraction of normal scores allowed over the threshold, in (0, 1).

    Returns:
        The order statistic; a further exchangeable score is above it with probability at most nu.

    Raises:
        ThresholdRefused: too few scores (k > n), or a score is not finite.
        ValueError: nu is not in (0, 1).
    """
    values = _finite(scores)
    _check_nu(nu)
    n, k = len(values), _order(len(values), nu)
    if k > n:
        raise ThresholdRefused(
            f"threshold: {n} calibration scores cannot give a limit for nu = {nu:g}: expected at least"
            f" {smallest_sample(nu)}; hint: calibrate on a longer normal history, or ask for a larger nu"
        )
    return float(np.partition(values, k - 1)[k - 1])


def limit_and_median(scores: ArrayLike, nu: float) -> tuple[float, float]:
    """The nu-quantile and the median of calibration scores: the two points that fix a ratio.

    Args:
        scores: [n] finite calibration scores, any order.
        nu: as in `nu_quantile`.

    Raises:
        ThresholdRefused: too few scores, one is not finite, or the quantile is not above the median.
    """
    values = _finite(scores)
    limit, median = nu_quantile(values, nu), float(np.median(values))
    if limit <= median:
        raise ThresholdRefused(
            f"threshold: the {nu:g}-quantile of {len(values)} scores, {limit:g}, is not above their"
            f" median {median:g}: the scores hardly differ, so no ratio can be formed; hint: the scorer has"
            " collapsed, its input is constant, or nu is 0.5 or more"
        )
    return limit, median


def autocorrelation_time(values: ArrayLike, runs: Sequence[int] | None = None) -> float:
    """Integrated autocorrelation time tau = 1 + 2 sum rho_k, summed up to Sokal's self-consistent window.

    Args:
        values: [n] a stationary sequence, in time order.
        runs: lengths of the contiguous runs that `values` is made of, summing to n; pairs across two runs are
            never formed. Default: one run.

    Returns:
        tau >= 1 in steps of the sequence; 1 for a constant or an anticorrelated one.

    Raises:
        ValueError: the run lengths do not sum to n.
    """
    sequence = np.asarray(values, np.float64)
    lengths = _runs(runs, len(sequence))
    if len(sequence) < 2:
        return 1.0
    centred = sequence - sequence.mean()
    products, pairs = _lagged_products(centred, lengths)
    if products[0] <= 0.0:
        return 1.0
    return _summed((products / pairs) / (products[0] / pairs[0]))


def level_time(values: ArrayLike, runs: Sequence[int] | None = None) -> float:
    """How many values are worth one, for their mean: n var(mean) / var, runs being independent of each other.

    Each lag counts as often as it occurs (Bartlett, J. Royal Statistical Society Suppl. 8, 1946): of runs that differ
    in level and hardly within, such as folds of a history that wanders, it is their length; for runs far longer than
    the autocorrelation lasts it is `autocorrelation_time`.

    Args:
        values: [n] in time order.
        runs: as in `autocorrelation_time`.

    Raises:
        ValueError: the run lengths do not sum to n.
    """
    sequence = np.asarray(values, np.float64)
    lengths = _runs(runs, len(sequence))
    if len(sequence) < 2:
        return 1.0
    products, _ = _lagged_products(sequence - sequence.mean(), lengths)
    return 1.0 if products[0] <= 0.0 else _summed(products / products[0])


def _summed(correlation: Floats) -> float:
    """1 + 2 sum of correlations by lag from 0 on, up to Sokal's window; at least 1."""
    taus = 2.0 * np.cumsum(correlation) - 1.0
    settled = np.arange(len(taus)) >= _SOKAL_WINDOW * np.maximum(taus, 1.0)
    window = int(np.argmax(settled)) if settled.any() else len(taus) - 1
    return max(1.0, float(taus[window]))


def bootstrap_interval(
    scores: ArrayLike, nu: float, *, tau: float, runs: Sequence[int] | None, rng: np.random.Generator
) -> tuple[float, float]:
    """95 % percentile interval of the nu-quantile under resampling of contiguous blocks, or of whole runs.

    Args:
        scores: [n] finite calibration scores, in time order.
        nu: as in `nu_quantile`.
        tau: autocorrelation time of the exceedances; blocks are 4 tau long, at least n^(1/3).
        runs: lengths of the contiguous runs; 8 or more are resampled whole, among fewer no block straddles
            two.
        rng: source of the resampling; the same state gives the same interval.

    Returns:
        (low, high); high can be no more than the largest score.
    """
    values = _finite(scores)
    lengths = _runs(runs, len(values))
    starts, sizes = _blocks(lengths, tau)
    rank_of = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    ordered = np.sort(values)
    limits = np.empty(_RESAMPLES)
    for index in range(_RESAMPLES):
        rows = _resample(starts, sizes, len(values), rng)
        k = min(_order(len(rows), nu), len(rows))
        limits[index] = ordered[np.partition(rank_of[rows], k - 1)[k - 1]]
    tail = 50.0 * (1.0 - _COVERAGE)
    low, high = np.percentile(limits, [tail, 100.0 - tail], method="inverted_cdf")
    return float(low), float(high)


def beyond(scores: ArrayLike, nu: float, independent: float) -> float:
    """How far the nu-quantile lies beyond the order statistic that scores give, where they do not resolve nu.

    What the rule takes from n scores that are worth ``independent`` < 1 / nu - 1 of them is about the largest of
    those: a further score exceeds it with probability p = 1 / (independent + 1), not nu. Along an exponential tail
    (a generalised Pareto one of shape 0: from so few excesses a shape cannot be told; Coles, "An Introduction to
    Statistical Modeling of Extreme Values", 2001, ch. 4) of known mean, nu lies ``mean x log(p / nu)`` further out.
    The mean of k independent excesses is not known but estimated: a further one exceeds x with probability
    ``(1 + x / (k mean))^-k``, averaged over what the mean may be (the predictive distribution, a Lomax one: Aitchison &
    Dunsmore, "Statistical Prediction Analysis", 1975, ch. 2), and nu lies ``k mean ((p / nu)^(1 / k) - 1)`` out.

    Args:
        scores: [n] finite calibration scores, any order.
        nu: as in `nu_quantile`.
        independent: scores that they are worth, for the level of the scores as well as for single exceedances.

    Returns:
        0 where nu is resolved.
    """
    values, resolved = _finite(scores), 1.0 / (independent + 1.0)
    if resolved <= nu:
        return 0.0
    start = float(np.quantile(values, 1.0 - _TAIL))
    over = values[values > start]
    if not len(over):
        return 0.0
    worth = max(1.0, _TAIL * independent)
    return float(np.mean(over - start)) * worth * ((resolved / nu) ** (1.0 / worth) - 1.0)


def estimate(
    scores: ArrayLike,
    nu: float,
    *,
    rng: np.random.Generator,
    enough: float = 16.0,
    extrapolate: bool = False,
    least_tau: float = 1.0,
    runs: Sequence[int] | None = None,
    source: str = "",
    start_ns: int = 0,
    end_ns: int = 0,
) -> Estimate:
    """The threshold of calibration scores, with its sample size, interval and source.

    Args:
        scores: [n] finite calibration scores in time order.
        nu: fraction of normal scores allowed over the threshold.
        rng: source of the bootstrap.
        enough: n_eff * nu must reach this to be called calibrated (16: the realised rate is known to 25 %).
        extrapolate: move the limit out where the scores do not resolve nu, see `beyond`.
        least_tau: autocorrelation time that the scores have for sure, which few scores cannot show: 2 / w - 1 for an
            average of weight w. It counts for the extrapolation only.
        runs: lengths of the contiguous runs (batches, or stretches between gaps); default: one run.
        source: where the scores came from, for people.
        start_ns: window end of the first score, ns since the epoch.
        end_ns: window end of the last score.

    Raises:
        ThresholdRefused: too few or non-finite scores, or the threshold is not above the median.
        ValueError: nu is not in (0, 1), or the run lengths do not sum to n.
    """
    values = _finite(scores)
    threshold, median = limit_and_median(values, nu)
    tau = autocorrelation_time(values > threshold, runs)
    low, high = bootstrap_interval(values, nu, tau=tau, runs=runs, rng=rng)
    missing = max(0, required(nu, tau, enough) - len(values))
    further = 0.0
    if extrapolate and missing:
        longest = max(tau, level_time(values, runs), least_tau)
        further = beyond(values, nu, len(values) / longest)
    return Estimate(
        nu=nu,
        n=len(values),
        tau=tau,
        n_eff=len(values) / tau,
        median=median,
        threshold=threshold + further,
        low=low + further,
        high=high + further,
        enough=missing == 0,
        missing=missing,
        smallest_p=1.0 / (len(values) + 1),
        source=source,
        start_ns=start_ns,
        end_ns=end_ns,
        label="CALIBRATED" if missing == 0 else "UNCALIBRATED",
        extrapolated=further > 0.0,
    )


def required(nu: float, tau: float, enough: float) -> int:
    """Scores needed so that n_eff * nu reaches ``enough`` at an autocorrelation time of ``tau`` scores."""
    return max(smallest_sample(nu), math.ceil(enough / nu * tau - 1e-6))


def ratio(score: ArrayLike, median: ArrayLike, threshold: ArrayLike) -> Floats:
    """(score - median) / (threshold - median): 0 at the calibration median, 1 at the limit. Broadcasts."""
    centre = np.asarray(median, np.float64)
    return (np.asarray(score, np.float64) - centre) / (np.asarray(threshold, np.float64) - centre)


def p_value(sorted_calibration: Floats, score: ArrayLike) -> Floats:
    """(1 + #{calibration >= score}) / (n + 1), for reporting.

    Args:
        sorted_calibration: [n] calibration scores, ascending.
        score: [...] scores; NaN gives NaN.

    Returns:
        [...] p-values in [1/(n + 1), 1].
    """
    scores, n = np.asarray(score, np.float64), len(sorted_calibration)
    at_least = n - np.searchsorted(sorted_calibration, scores, side="left")
    return np.where(np.isnan(scores), np.nan, (1.0 + at_least) / (n + 1.0))


def rank(sorted_calibration: Floats, score: ArrayLike) -> Floats:
    """Share of the calibration scores below the score, ties counted half: uniform while nothing moves.

    Args:
        sorted_calibration: [n] calibration scores, ascending, n >= 1.
        score: [...] scores; NaN gives NaN.

    Returns:
        [...] ranks in [0, 1].
    """
    scores = np.asarray(score, np.float64)
    below = np.searchsorted(sorted_calibration, scores, side="left")
    not_above = np.searchsorted(sorted_calibration, scores, side="right")
    return np.where(np.isnan(scores), np.nan, (below + not_above) / (2.0 * len(sorted_calibration)))


def _order(n: int, nu: float) -> int:
    return max(1, math.ceil((n + 1) * (1.0 - nu) - _ROUNDING))


def _check_nu(nu: float) -> None:
    if not 0.0 < nu < 1.0:
        raise ValueError(
            f"nu: expected a fraction between 0 and 1, got {nu!r}; hint: 0.01 allows 1 % of windows"
        )


def _finite(scores: ArrayLike) -> Floats:
    values = np.asarray(scores, np.float64)
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise ThresholdRefused(
            f"threshold: {bad} of {len(values)} calibration scores are not finite; hint: find the scorer and"
            " the windows that gave them, they must not be dropped silently"
        )
    return values


def _runs(runs: Sequence[int] | None, n: int) -> list[int]:
    lengths = [n] if runs is None else [int(length) for length in runs if length]
    if sum(lengths) != n or any(length < 0 for length in lengths):
        raise ValueError(f"runs: expected lengths that sum to the {n} scores, got a sum of {sum(lengths)}")
    return lengths


def _each_run(values: Floats, lengths: Sequence[int]) -> Iterator[Floats]:
    start = 0
    for length in lengths:
        yield values[start : start + length]
        start += length


def _lagged_products(centred: Floats, lengths: Sequence[int]) -> tuple[Floats, Floats]:
    """Sums of x_t x_(t+k) within runs, and the number of such pairs, for k = 0 .. the longest run - 1."""
    longest = max(lengths)
    products, pairs = np.zeros(longest), np.zeros(longest)
    for part in _each_run(centred, lengths):
        size = len(part)
        spectrum = np.fft.rfft(part, 1 << (2 * size - 1).bit_length())
        products[:size] += np.fft.irfft(np.abs(spectrum) ** 2)[:size]
        pairs[:size] += np.arange(size, 0, -1)
    return products, pairs


def _blocks(lengths: Sequence[int], tau: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and sizes of the blocks that may be drawn: whole runs, or every place of a moving block."""
    ends = np.cumsum(lengths)
    begins = ends - np.asarray(lengths)
    if len(lengths) >= _WHOLE_RUNS:
        return begins.astype(np.int64), np.asarray(lengths, np.int64)
    n = int(ends[-1])
    size = min(max(math.ceil(_BLOCK_TAUS * tau), math.ceil(n ** (1 / 3))), max(1, n // 4))
    starts = [
        np.arange(begin, max(begin + 1, end - size + 1)) for begin, end in zip(begins, ends, strict=True)
    ]
    sizes = [np.full(len(part), min(size, length)) for part, length in zip(starts, lengths, strict=True)]
    return np.concatenate(starts).astype(np.int64), np.concatenate(sizes).astype(np.int64)


def _resample(
    starts: NDArray[np.int64], sizes: NDArray[np.int64], n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Row numbers of randomly drawn blocks, about n in all (within half a block)."""
    count = max(1, round(n / float(sizes.mean())))
    drawn = rng.integers(0, len(starts), count)
    chosen, size = starts[drawn], sizes[drawn]
    offsets = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
    return np.repeat(chosen, size) + offsets
