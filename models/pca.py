"""Principal components of a window's last samples: Hotelling's T^2 and the residual's Q in one index.

Score: ``T^2 / T^2_limit + Q / Q_limit`` (Yue & Qin 2001, Ind. Eng. Chem. Res. 40:4403), each limit the normal
quantile of its part, so that both speak with one voice. It is one quadratic form ``x' M x``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from models.covariance import as_if_all_observed, quadratic, root, shrunk_covariance
from models.fitting import real_tail
from models.hyperparameters import Lags, Searched, Share
from models.scorer import Fitted, Params, Progress, Scorer, Scores, Windows


@dataclass(frozen=True)
class PcaSpec:
    """Hyperparameters.

    Attributes:
        explained: share of the variance that the kept components explain, in (0, 1).
        lags: earlier samples that are joined to the last one (0: static PCA).
        limit: the normal quantile at which T^2 and Q each count 1.
    """

    explained: Annotated[Share, Searched(0.5, 0.99, linear=True)] = 0.9
    lags: Lags = 0
    limit: Share = 0.99


def fit(rng: jax.Array, windows: Windows, spec: PcaSpec, progress: Progress) -> Fitted:
    """Fit on normal windows.

    Args:
        rng: unused: there is nothing random.
        windows: [N, T, D] with T > ``spec.lags``.
        spec: hyperparameters.
        progress: called once.

    Returns:
        ``index`` [L, L] (the quadratic form M) and ``model`` [L, L] (the projection on the kept components),
        with L = (lags + 1) D, the last sample first; ``mean`` [], the index of a typical row.

    Raises:
        FitRefused: too few fully real rows.
    """
    del rng
    rows = _lagged(real_tail(windows, spec.lags + 1), spec.lags)
    variances, axes = jnp.linalg.eigh(shrunk_covariance(rows))
    kept = _kept(variances, spec.explained)
    model = (axes * kept[None, :]) @ axes.T
    hotelling = (axes * (kept / variances)[None, :]) @ axes.T
    # Of the axes that are left, not the identity less the model: where all are kept that is rounding, and no zero.
    residual = (axes * (1.0 - kept)[None, :]) @ axes.T
    index = hotelling / _limit(rows, hotelling, spec.limit) + residual / _limit(rows, residual, spec.limit)
    progress(1, 1, {"components": float(jnp.sum(kept))})
    mean = jnp.maximum(jnp.mean(quadratic(rows, index)[0]), 1e-6)
    return Fitted({"index": 0.5 * (index + index.T), "model": 0.5 * (model + model.T), "mean": mean}, {})


def _kept(variances: jax.Array, explained: float) -> jax.Array:
    """1 for the largest variances that together explain the wanted share, else 0; [L], ascending."""
    smaller_or_equal = jnp.cumsum(variances)
    return (smaller_or_equal > (1.0 - explained) * smaller_or_equal[-1]).astype(variances.dtype)


def _limit(rows: jax.Array, matrix: jax.Array, level: float) -> jax.Array:
    return jnp.maximum(jnp.quantile(quadratic(rows, matrix)[0], level), 1e-6)


def _lagged(values: jax.Array, lags: int) -> jax.Array:
    """[B, T, D] -> [B, (lags + 1) D], the last sample first."""
    return jnp.concatenate([values[:, values.shape[1] - 1 - lag, :] for lag in range(lags + 1)], axis=1)


def score(params: Params, spec: PcaSpec, windows: Windows) -> Scores:
    """Score windows [B, T, D]; expected is the last sample's projection on the kept components."""
    sensors = windows.values.shape[2]
    rows = _lagged(windows.values, spec.lags)
    index, shares = quadratic(rows, params["index"])
    contributions = jnp.sum(shares.reshape(rows.shape[0], spec.lags + 1, sensors), axis=1)
    expected = (rows @ params["model"])[:, :sensors]
    observed = windows.mask[:, -1, :]
    typical = params["mean"] / sensors  # puts the index on the scale of a squared distance, and back
    comparable = as_if_all_observed(index / typical, observed) * typical
    return Scores(comparable, jnp.where(observed, contributions, 0.0), expected)


def features(params: Params, spec: PcaSpec, windows: Windows) -> jax.Array:
    """``M^1/2 x`` [B, L] of windows [B, T, D]: its squared length is the index."""
    return _lagged(windows.values, spec.lags) @ root(params["index"])


SCORER = Scorer("pca", PcaSpec, fit, score, features=features)
