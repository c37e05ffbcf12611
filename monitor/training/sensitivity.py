"""How well scores tell planted faults from held-out normal: one measure for a scorer and for several combined.

What counts is the share of a fault's windows that are over the limit: it holds early detection and, as a fault that
stays must stay an open incident, persistence too. Everything is judged as it would be live: each scorer's ratio
scale comes from one held-out part, the ratios are combined and smoothed, and the limit is the nu-quantile. So that no
scorer looks sensitive only because its limit does not hold, the limit here is the higher of the two that the
held-out parts give by themselves: in neither is the share of normal windows over it greater than nu.

Shape letters: W held-out windows, C cases, Z sizes, F windows of a fault, S scorers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from monitor.settings import Scoring
from monitor.thresholds.reestimate import combine, run_lengths, smooth
from monitor.thresholds.threshold import autocorrelation_time, limit_and_median, nu_quantile, ratio
from monitor.training.history import LIMIT, SCALE
from monitor.training.planting import Case, Held

IN_A_ROW = 3
"""Consecutive windows over the limit that count as found."""
FEWEST_OVER = 5
"""Windows of a held-out part over its limit, at least: with a shorter history a larger nu is compared at."""

Floats = NDArray[np.float64]


class Scores(NamedTuple):
    """What one scorer, or several, say of the same windows.

    Attributes:
        normal: [W, S] of held-out windows.
        planted: [C, Z, F, S] of those with a fault.
    """

    normal: Floats
    planted: Floats


class Sensitivity(Struct, frozen=True):
    """How well planted faults are seen at the limit.

    Attributes:
        overall: mean over the kinds.
        kinds: share of a kind's windows over the limit, mean over its sizes, above chance: 0 as often as without a
            fault, 1 always.
        sizes: per kind, the share by size, as counted.
        by_chance: share of the same windows over the limit without a fault.
        found: share of faults with three windows in a row over the limit.
        delay: median windows from a fault's start to the third in a row; the span where not found.
        realised: share of normal windows over the limit that the other part gives: SCALE by LIMIT's, LIMIT by SCALE's.
        calibration_error: mean absolute log2 of realised over asked: 1 is twice, or half, as many as asked.
        tau: autocorrelation time of the smoothed ratio, in windows.
        noise: standard error of `overall` if nothing but chance is seen; the windows of a case count as one.
    """

    overall: float
    kinds: Mapping[str, float]
    sizes: Mapping[str, tuple[float, ...]]
    by_chance: float
    found: float
    delay: float
    realised: tuple[float, float]
    calibration_error: float
    tau: float
    noise: float


def comparable_nu(nu: float, held: Held) -> float:
    """The nu to compare at: the asked one, or the smallest that the smaller held-out part supports."""
    fewest = min(int(np.count_nonzero(held.part == part)) for part in (SCALE, LIMIT))
    return min(0.5, max(nu, FEWEST_OVER / fewest))


def on_scale(scores: Scores, held: Held, nu: float) -> Scores:
    """Raw scores of one scorer as ratios, on the scale of the SCALE part.

    Raises:
        ThresholdRefused: the scores hardly differ.
    """
    limit, median = limit_and_median(scores.normal[held.part == SCALE, 0], nu)
    return Scores(ratio(scores.normal, median, limit), ratio(scores.planted, median, limit))


def sensitivity(
    ratios: Sequence[Scores], held: Held, cases: Sequence[Case], scoring: Scoring, nu: float
) -> Sensitivity:
    """What scorers see together.

    Args:
        ratios: of each scorer, S = 1, as `on_scale` gives them.
        held: the held-out windows.
        cases: the faults.
        scoring: how ratios combine and how they are smoothed.
        nu: to compare at.

    Raises:
        ThresholdRefused: too few windows for nu.
    """
    normal = combine(np.concatenate([r.normal for r in ratios], axis=1), scoring.combine)
    planted = combine(np.concatenate([r.planted for r in ratios], axis=3), scoring.combine)
    smoothed = smooth(normal, held.breaks, scoring.smoothing)
    places = np.array([case.place for case in cases])
    before = np.where(held.breaks[places], 0.0, smoothed[places - 1])
    faulty = _smooth_on(planted, before[:, None], scoring.smoothing)
    limits = [nu_quantile(smoothed[held.part == part], nu) for part in (SCALE, LIMIT)]
    limit = max(limits)
    span = planted.shape[2]
    found, delay = _found(faulty > limit)
    chance = float(np.mean(smoothed[places[:, None] + np.arange(span)] > limit))
    sizes = _by_kind((faulty > limit).mean(axis=-1), cases)
    kinds = {kind: _above(float(np.mean(shares)), chance) for kind, shares in sizes.items()}
    realised = tuple(
        float(np.mean(smoothed[held.part == part] > limits[1 - k])) for k, part in enumerate((SCALE, LIMIT))
    )
    counts = [int(np.count_nonzero(held.part == part)) for part in (SCALE, LIMIT)]
    return Sensitivity(
        overall=float(np.mean(list(kinds.values()))),
        kinds=kinds,
        sizes=sizes,
        by_chance=chance,
        found=float(found.mean()),
        delay=float(np.median(delay)),
        realised=(realised[0], realised[1]),
        calibration_error=_error(realised, counts, nu),
        tau=autocorrelation_time(smoothed, run_lengths(held.breaks)),
        noise=_noise(chance, len(cases)),
    )


def _smooth_on(values: Floats, before: Floats, weight: float) -> Floats:
    """EWMA of values [C, Z, F] along F that goes on from ``before`` [C, 1]."""
    out = np.empty_like(values)
    for k in range(values.shape[2]):
        before = weight * values[..., k] + (1.0 - weight) * before
        out[..., k] = before
    return out


def _found(over: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether, and by which window, `IN_A_ROW` follow one another over the limit; [..., F] -> [...] each."""
    third = np.lib.stride_tricks.sliding_window_view(over, IN_A_ROW, axis=-1).all(axis=-1)
    found = np.asarray(third.any(axis=-1))
    return found, np.where(found, third.argmax(axis=-1) + IN_A_ROW, over.shape[-1])


def _by_kind(share: Floats, cases: Sequence[Case]) -> dict[str, tuple[float, ...]]:
    kind = np.array([case.kind for case in cases])
    return {
        name: tuple(share[kind == name].mean(axis=0).tolist())
        for name in dict.fromkeys(case.kind for case in cases)
    }


def _above(share: float, chance: float) -> float:
    """The share above chance: 0 as often as chance, 1 always; it may come out below 0 by chance."""
    return (share - chance) / (1.0 - chance) if chance < 1.0 else 0.0


def _noise(chance: float, cases: int) -> float:
    """Both the share and chance itself are counted on so many cases."""
    return math.sqrt(2.0 * chance / (1.0 - chance) / cases) if chance < 1.0 else 1.0


def _error(realised: Sequence[float], counts: Sequence[int], nu: float) -> float:
    """Half a window is added to both sides, so that none over the limit is not infinitely wrong."""
    rates = [(r * n + 0.5) / (nu * n + 0.5) for r, n in zip(realised, counts, strict=True)]
    return float(np.mean(np.abs(np.log2(rates))))
