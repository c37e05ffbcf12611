"""What the simulated processes share: disturbances that wander, faults that grow, valves that stick, one step of time.

Shape letters: N rows, R runs side by side, Q disturbances or channels of noise, S states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Floats = NDArray[np.float64]


class Wander(NamedTuple):
    """A disturbance: a first-order autoregressive process of mean 0.

    Attributes:
        spread: standard deviation, in the unit of what it disturbs.
        rows: after so many rows its autocorrelation has fallen to 1 / e.
    """

    spread: float
    rows: float


class Chance(NamedTuple):
    """Everything random of some runs.

    Attributes:
        wander: [Q, N, R] disturbances.
        noise: [N, Q, R] standard normal numbers for the sensors.
    """

    wander: Floats
    noise: Floats


def chance(seeds: Sequence[int], rows: int, wanders: Sequence[Wander], noises: int) -> Chance:
    """Draw what is random.

    Args:
        seeds: one per run: a run's numbers depend on its own seed only, not on what runs beside it.
        rows: N.
        wanders: Q disturbances; each begins in its stationary distribution.
        noises: channels of white noise.
    """
    drawn = [_of_one_run(seed, rows, wanders, noises) for seed in seeds]
    return Chance(
        np.stack([wander for wander, _ in drawn], axis=2), np.stack([noise for _, noise in drawn], axis=2)
    )


def _of_one_run(seed: int, rows: int, wanders: Sequence[Wander], noises: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    lines = [_autoregressive(rng, rows, wander) for wander in wanders]
    return np.stack(lines), rng.standard_normal((rows, noises))


def _autoregressive(rng: np.random.Generator, rows: int, wander: Wander) -> Floats:
    kept = math.exp(-1.0 / wander.rows)
    shocks = rng.standard_normal(rows) * wander.spread * math.sqrt(1.0 - kept**2)
    before = rng.standard_normal() * wander.spread
    line, _ = lfilter([1.0], [1.0, -kept], shocks, zi=np.array([kept * before]))
    return np.asarray(line, np.float64)


def ramp(rows: int, begin: int, per_row: float, most: float) -> Floats:
    """[N] 0 up to row ``begin``, then growing by ``per_row`` a row up to ``most``."""
    return np.clip((np.arange(rows, dtype=np.float64) - begin) * per_row, 0.0, most)


def step(rows: int, begin: int, size: float) -> Floats:
    """[N] 0 before row ``begin``, ``size`` from then on."""
    return np.where(np.arange(rows) >= begin, size, 0.0)


def sticking(asked: Floats, at: Floats, band: Floats) -> Floats:
    """Where valves or drives stand, [R], that are asked to go from ``at`` to ``asked`` and stick within ``band``.

    With a band of 0 they always move.
    """
    return np.where(np.abs(asked - at) > band, asked, at)


def runge_kutta(change: Callable[[Floats], Floats], state: Floats, time_step: float) -> Floats:
    """State [S, R] after one step of the classical fourth-order method, inputs held.

    Args:
        change: [S, R] -> [S, R], per unit of time.
        state: [S, R].
        time_step: in the same unit.
    """
    half = time_step / 2.0
    k1 = change(state)
    k2 = change(state + half * k1)
    k3 = change(state + half * k2)
    k4 = change(state + time_step * k3)
    return state + time_step / 6.0 * (k1 + 2.0 * (k2 + k3) + k4)
