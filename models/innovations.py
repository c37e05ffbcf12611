"""Forecast errors of a whole window, seen in two bands: the newest alone, and what they add up to.

    r_t = x_t - x^_t                                one-step residuals, the process's innovations
    z   = sum_k v_k r_(T-k) / sqrt(sum_k v_k^2)     v_k = (1 - weight)^k, k = 0 .. L - 1
    d^2 = (r_T' P r_T + z' Q z) / 2D                P, Q: inverse normal covariances of r_T and of z

The newest residual shows what breaks the dynamics. A fault that is small beside the noise of one sample, but stays,
leaves the same mean in every residual: the sum z gathers it, a multivariate EWMA (Lowry, Woodall, Champ & Rigdon
1992, Technometrics 34:46) of residuals instead of levels (Montgomery & Mastrangelo 1991, J. Quality Technology
23:179). On levels such a chart takes all slow wandering of normal for a fault; residuals hold as much of a level's
departure as normal's own wandering leaves significant, because z is weighed by its own normal covariance.

Residuals of a right forecast are white, so z has their variance whatever its weights: windows that are not full yet,
or have masked readings, are on one scale with the others.

Shape letters: B windows, T samples, L = T - p samples that have p samples before them, D sensors, K onsets.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from models.covariance import root
from models.imputation import fill
from models.residuals import Weighed, step_signatures, weighed_together


class Innovations(NamedTuple):
    """One-step residuals of a window's samples.

    Attributes:
        residual: [B, L, D].
        real: [B, L, D] bool: the sample is real, and no row that its forecast rests on is padding.
        present: [B, D] bool: the last sample is real, whatever stands before it.
    """

    residual: jax.Array
    real: jax.Array
    present: jax.Array


class Band(NamedTuple):
    """One look at the innovations: what they come to, and for which sensors that is real; both [B, D]."""

    value: jax.Array
    real: jax.Array


def linear_forecasts(forecast: jax.Array, values: jax.Array) -> jax.Array:
    """Forecasts of all samples that have p samples before them.

    Args:
        forecast: [p D, D], coefficients by lag, the oldest first.
        values: [B, T, D].

    Returns:
        [B, L, D].
    """
    sensors, length = values.shape[2], values.shape[1]
    lags = forecast.reshape(-1, sensors, sensors)
    parts = [values[:, lag : length - len(lags) + lag] @ lags[lag] for lag in range(len(lags))]
    return sum(parts, start=jnp.zeros((), values.dtype))


def innovations(residual: jax.Array, mask: jax.Array) -> Innovations:
    """Residuals with what is real of them.

    Args:
        residual: [B, L, D].
        mask: [B, T, D] bool, True where a reading stands.
    """
    row = jnp.any(mask, axis=2)  # [B, T]
    count = residual.shape[1]
    order = mask.shape[1] - count
    whole = jnp.stack([jnp.all(row[:, at : at + order + 1], axis=1) for at in range(count)], axis=1)
    return Innovations(residual, mask[:, order:] & whole[:, :, None], mask[:, -1])


def newest(innovations: Innovations) -> Band:
    """The last residual alone; in a window's first samples the padding stands for its past, at the mean."""
    return Band(innovations.residual[:, -1], innovations.present)


@partial(jax.jit, static_argnums=1, inline=True)
def summed(innovations: Innovations, weight: float) -> Band:
    """The sum z; a sensor counts where half of the weight that its window can have is real.

    None counts in a window that is too young for a residual with a past of its own.

    Args:
        innovations: of windows.
        weight: of the newest residual in the average that z is, in (0, 1).
    """
    length = innovations.residual.shape[1]
    weights = (1.0 - weight) ** jnp.arange(length - 1, -1, -1, dtype=innovations.residual.dtype)
    held = jnp.where(innovations.real, weights[None, :, None], 0.0)
    power = jnp.sqrt(jnp.maximum(jnp.sum(held**2, axis=1), 1e-12))
    value = jnp.sum(held * innovations.residual, axis=1) / power
    possible = jnp.sum(jnp.max(held, axis=2), axis=1)  # [B]
    real = (jnp.sum(held, axis=1) >= 0.5 * possible[:, None]) & jnp.any(innovations.real, axis=1)
    return Band(value, real)


def judged(
    innovations: Innovations,
    forecast: jax.Array,
    precision: jax.Array,
    slow_precision: jax.Array | None,
    weight: float,
) -> tuple[jax.Array, jax.Array]:
    """How rare innovations are in both bands, and which sensors make them so.

    Args:
        innovations: of windows.
        forecast: [p D, D], the linear forecast: it tells what a step in a sensor leaves in the residuals.
        precision: [D, D], P.
        slow_precision: [D, D], Q; None: the newest residual alone is judged.
        weight: see `summed`.

    Returns:
        Squared distance [B], mean of both bands', and contributions [B, D]: see `models.residuals`.
    """
    if slow_precision is None:
        band = newest(innovations)
        return weighed_together([Weighed(band.value, band.real, precision, step_signatures(forecast))])
    fast, slow = newest(innovations), summed(innovations, weight)
    onset, total = onset_signatures(forecast, weight, innovations.residual.shape[1])
    return weighed_together(
        [
            Weighed(fast.value, fast.real, precision, onset),
            Weighed(slow.value, slow.real, slow_precision, total),
        ]
    )


def whitened_bands(
    innovations: Innovations, precision: jax.Array, slow_precision: jax.Array | None, weight: float
) -> jax.Array:
    """Both bands, whitened, side by side [B, 2D]; without a slow one the newest residual alone [B, D].

    Args:
        innovations: of windows.
        precision: see `judged`.
        slow_precision: see `judged`.
        weight: see `summed`.
    """
    bands = [(newest(innovations), precision)]
    if slow_precision is not None:
        bands.append((summed(innovations, weight), slow_precision))
    return jnp.concatenate([fill(by, band.value, band.real) @ root(by) for band, by in bands], axis=1)


def onset_signatures(forecast: jax.Array, weight: float, length: int) -> tuple[jax.Array, jax.Array]:
    """What a unit step in each sensor leaves in either band, by how long ago it began.

    Args:
        forecast: [p D, D].
        weight: see `summed`.
        length: L.

    Returns:
        Two arrays [K, D, D], in column j that of sensor j: of the newest residual, and of z. The onsets are 0, 1,
        2, 4, ... samples ago, the window's beginning last.
    """
    steps = step_signatures(forecast)  # [p + 1, D, D], constant from p on
    weights = (1.0 - weight) ** jnp.arange(length, dtype=forecast.dtype)
    share = weights / jnp.sqrt(jnp.sum(weights**2))
    oldest = len(steps) - 1
    onsets = _onsets(length)
    newest_ones = jnp.stack([steps[min(onset, oldest)] for onset in onsets])
    age = jnp.asarray([[min(max(onset - lag, -1), oldest) for lag in range(length)] for onset in onsets])
    begun = jnp.where(age >= 0, share[None, :], 0.0)  # [K, L]
    by_step = jnp.stack(
        [jnp.sum(jnp.where(age == step, begun, 0.0), axis=1) for step in range(oldest + 1)], axis=1
    )
    return newest_ones, jnp.einsum("ks,sij->kij", by_step, steps)


def _onsets(length: int) -> list[int]:
    """0, 1, 2, 4, ... and the last that is possible, ``length - 1``."""
    powers = [1 << exponent for exponent in range(length.bit_length()) if 1 << exponent < length - 1]
    return sorted({0, *powers, length - 1})
