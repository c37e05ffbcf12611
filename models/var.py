"""Ridge vector autoregression: how far the last sample lies from its one-step forecast.

x_t is forecast from the p samples before it; the score is the residual's Mahalanobis distance, per sensor: about
1 while all is normal. The sensors' dynamics are part of normal here, so a fault that breaks them shows as long
as it lasts; a slow drift that keeps them does not show.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from models.covariance import inverse, shrunk_covariance
from models.fitting import real_tail
from models.residuals import per_sensor, step_signatures, weighed
from models.scorer import Fitted, Params, Progress, Scorer, Scores, Windows


@dataclass(frozen=True)
class VarSpec:
    """Hyperparameters.

    Attributes:
        order: samples that the forecast looks back at (p).
        ridge: penalty on the coefficients, as a share of the number of rows.
    """

    order: int = 3
    ridge: float = 0.01


def fit(rng: jax.Array, windows: Windows, spec: VarSpec, progress: Progress) -> Fitted:
    """Fit on normal windows.

    Args:
        rng: unused: there is nothing random.
        windows: [N, T, D] with T > ``spec.order``.
        spec: hyperparameters.
        progress: called once.

    Returns:
        ``forecast`` [p D, D] (oldest sample first) and ``precision`` [D, D] of the residuals.

    Raises:
        FitRefused: too few fully real rows.
    """
    del rng
    tail = real_tail(windows, spec.order + 1)
    past, present = _past(tail, spec.order), tail[:, -1, :]
    gram = past.T @ past + spec.ridge * past.shape[0] * jnp.eye(past.shape[1], dtype=past.dtype)
    forecast = jax.scipy.linalg.solve(gram, past.T @ present, assume_a="pos")
    residuals = present - past @ forecast
    progress(1, 1, {"residual": float(jnp.mean(residuals**2))})
    return Fitted({"forecast": forecast, "precision": inverse(shrunk_covariance(residuals))}, {})


def _past(values: jax.Array, order: int) -> jax.Array:
    """The ``order`` samples before the last, [B, T, D] -> [B, order D], oldest first."""
    batch, length, sensors = values.shape
    return values[:, length - 1 - order : length - 1, :].reshape(batch, order * sensors)


def score(params: Params, spec: VarSpec, windows: Windows) -> Scores:
    """Score windows [B, T, D]; expected is the forecast of the last sample."""
    expected = _past(windows.values, spec.order) @ params["forecast"]
    observed = windows.mask[:, -1, :]
    residual = windows.values[:, -1, :] - expected
    signatures = step_signatures(params["forecast"])
    squared, contributions = weighed(residual, observed, params["precision"], signatures)
    return Scores(per_sensor(squared, residual.shape[1]), contributions, expected)


SCORER = Scorer("var", VarSpec, fit, score)
