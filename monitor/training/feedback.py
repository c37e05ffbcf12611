"""Weights from verdicts: what each sensor adds to each scorer's ratio, moved by as little as the verdicts ask for.

With s_v(w) the mean over the windows of verdict v of the combined, smoothed ratio under weights w
(`monitor.thresholds.reranking`), and q the limit in force,

    min_w>=0  m / (R N) sum_(real r, false f) log(1 + exp(-k (s_r - s_f) / q))  +  prior / 2 ||w - w0||^2

Every verdict counts by its mean, however long; m, the number of verdicts, lets many of them outweigh the prior. With
verdicts of one kind only, s is compared with q instead. It is active anomaly discovery (Das, Wong, Dietterich, Fern &
Emmott 2016, ICDM; the prior is theirs, uniform weights; Siddiqui et al. 2018, KDD, take a likelihood as here) with
pairs in the place of their quantile: a loss against a limit that moves with w rewards shrinking all weights, and ranked
held-out verdicts worse. The leading scorer of a window and the sign of its ratio are held fixed for a step, and then s
is linear in w and the problem convex. Steps go half the way, so that turns do not swing.

Shape letters: W windows, S scorers, D scored sensors, F = S D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.signal import lfilter

from monitor.thresholds.reestimate import Combine
from monitor.thresholds.threshold import nu_quantile

SHARPNESS = 4.0
"""k: a pair half a limit apart in the right order costs a seventh of one in the wrong order."""
_ROUNDS = 12
_STRIDE = 0.5
"""Of the way to the solution of a turn."""
_SETTLED = 1e-3

Floats = NDArray[np.float64]


class Scene(NamedTuple):
    """Windows sorted by asset and time, with what weights act on.

    Attributes:
        on_scale: [W, S] ratios before any weight.
        shares: [W, S, D] of the sensors in them.
        breaks: [W] True where smoothing starts anew.
    """

    on_scale: Floats
    shares: NDArray[np.float32]
    breaks: NDArray[np.bool_]


class Manner(NamedTuple):
    """How ratios become one, and where the limit lies.

    Attributes:
        combine: the scorers' ratios.
        smoothing: weight of the newest ratio in the EWMA.
        nu: fraction of normal windows over the limit.
        prior: how strongly weights are held: the larger, the more verdicts it takes.
    """

    combine: Combine
    smoothing: float
    nu: float
    prior: float


class Told(NamedTuple):
    """A verdict's windows among those of the recordings.

    Attributes:
        windows: [n] their places.
        real: the verdict.
    """

    windows: NDArray[np.int64]
    real: bool


def weighted(scene: Scene, weights: Floats) -> Floats:
    """Ratios [W, S] under weights [S, D]."""
    factor = np.einsum("wsd,sd->ws", scene.shares, weights)
    return np.where(scene.on_scale > 0.0, scene.on_scale * factor, scene.on_scale)


def smoothed_rows(values: Floats, breaks: NDArray[np.bool_], weight: float) -> Floats:
    """EWMA of rows [W, F] along W, restarting at 0 where ``breaks``."""
    starts = np.flatnonzero(breaks)
    edges = [0, *starts[starts > 0].tolist(), len(values)]
    runs = [lfilter([weight], [1.0, weight - 1.0], values[low:high], axis=0) for low, high in pairwise(edges)]
    return np.concatenate(runs)


def combined(scene: Scene, weights: Floats, manner: Manner) -> Floats:
    """Combined, smoothed ratios [W] under weights [S, D]."""
    ratios = weighted(scene, weights)
    one = ratios.max(axis=1) if manner.combine == "any" else ratios.min(axis=1)
    return smoothed_rows(one[:, None], scene.breaks, manner.smoothing)[:, 0]


def learn(calm: Scene, recorded: Scene, told: Sequence[Told], manner: Manner, start: Floats) -> Floats:
    """Weights [S, D] that verdicts ask for; exactly ``start`` without any.

    Args:
        calm: normal windows, which say where the limit is.
        recorded: the windows that verdicts are about, with those around them.
        told: the verdicts.
        manner: how ratios become one.
        start: [S, D] w0, the weights in force; 1 before any verdict.
    """
    weights = start
    limit = max(nu_quantile(combined(calm, start, manner), manner.nu), 1e-6)
    for _ in range(_ROUNDS if told else 0):
        pairs = _pairs(*_linear(recorded, manner, weights), told, limit)
        away = _step(pairs, len(told), manner.prior, start) - weights
        weights = weights + _STRIDE * away
        if np.abs(away).max() < _SETTLED:
            break
    return weights


def _linear(scene: Scene, manner: Manner, weights: Floats) -> tuple[Floats, Floats]:
    """Features [W, F] and offset [W] whose s = offset + features w near these weights."""
    ratios = weighted(scene, weights)
    leading = ratios.argmax(axis=1) if manner.combine == "any" else ratios.argmin(axis=1)
    at = np.arange(len(leading))
    own = scene.on_scale[at, leading]
    above = own > 0.0
    rows = np.zeros(scene.shares.shape)
    rows[at, leading] = scene.shares[at, leading] * np.where(above, own, 0.0)[:, None]
    joined = np.concatenate([rows.reshape(len(at), -1), np.where(above, 0.0, own)[:, None]], axis=1)
    smooth = smoothed_rows(joined, scene.breaks, manner.smoothing)
    return smooth[:, :-1], smooth[:, -1]


class _Pairs(NamedTuple):
    """How far apart verdicts lie, in limits: offset [P] + features [P, F] w; right if positive."""

    features: Floats
    offset: Floats


def _pairs(rows: Floats, offset: Floats, told: Sequence[Told], limit: float) -> _Pairs:
    """Every real verdict less every false one; of one kind only, each against the limit."""
    means = np.array([np.append(rows[one.windows].mean(axis=0), offset[one.windows].mean()) for one in told])
    means /= limit
    bar = np.append(np.zeros(rows.shape[1]), 1.0)[None, :]
    real = means[[one.real for one in told]]
    false = means[[not one.real for one in told]]
    apart = ((real if len(real) else bar)[:, None] - (false if len(false) else bar)[None]).reshape(
        -1, bar.size
    )
    return _Pairs(apart[:, :-1], apart[:, -1])


def _step(pairs: _Pairs, verdicts: int, prior: float, start: Floats) -> Floats:
    """The convex problem: features fixed."""
    first, mass = start.ravel(), verdicts / len(pairs.offset)

    def cost(w: Floats) -> tuple[float, Floats]:
        wrong = -SHARPNESS * (pairs.offset + pairs.features @ w)
        away = w - first
        # d/dm log(1 + e^m) = 1 / (1 + e^-m)
        slope = -mass * SHARPNESS / (1.0 + np.exp(-np.clip(wrong, -500.0, 500.0)))
        value = mass * float(np.logaddexp(0.0, wrong).sum()) + 0.5 * prior * float(away @ away)
        return value, pairs.features.T @ slope + prior * away

    found = minimize(cost, first, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(first))
    return np.asarray(found.x, np.float64).reshape(start.shape)
