"""Multivariate EWMA of the sensors' levels (Lowry, Woodall, Champ & Rigdon 1992, Technometrics 34:46).

    z = sum_k weight (1 - weight)^k x_(t-k) over the window;  score = the Mahalanobis distance of z, per sensor

It sees small shifts of level that stay, and is the classic for them. It takes every slow change of level for a
fault: where normal wanders, its limit is wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from msgspec import Meta

from models.covariance import inverse, root, shrunk_covariance
from models.fitting import real_tail
from models.hyperparameters import Searched
from models.imputation import fill
from models.residuals import per_sensor, weighed
from models.scorer import Fitted, Params, Progress, Scorer, Scores, Windows


@dataclass(frozen=True)
class MewmaSpec:
    """Hyperparameters.

    Attributes:
        weight: of the newest sample, in (0, 1]; the average reaches back about 2 / weight samples, at most the
            window.
    """

    weight: Annotated[float, Meta(gt=0.0, le=1.0), Searched(0.03, 0.5)] = 0.2


def fit(rng: jax.Array, windows: Windows, spec: MewmaSpec, progress: Progress) -> Fitted:
    """Fit on normal windows.

    Args:
        rng: unused: there is nothing random.
        windows: [N, T, D].
        spec: hyperparameters.
        progress: called once.

    Returns:
        ``precision`` [D, D] of the average z on normal windows.

    Raises:
        FitRefused: too few fully real rows.
    """
    del rng
    last = real_tail(windows, 1)
    whole = Windows(jnp.asarray(windows.values), jnp.asarray(windows.mask))
    average, real = _average(whole, spec.weight)
    rows = average[jnp.all(real, axis=1)]
    progress(1, 1, {"rows": float(len(last))})
    return Fitted({"precision": inverse(shrunk_covariance(rows))}, {})


def _average(windows: Windows, weight: float) -> tuple[jax.Array, jax.Array]:
    """The average z [B, D], and whether most of its weight [B, D] is real."""
    length = windows.values.shape[1]
    weights = weight * (1.0 - weight) ** jnp.arange(length - 1, -1, -1, dtype=windows.values.dtype)
    average = jnp.einsum("t,btd->bd", weights, windows.values)
    share = jnp.einsum("t,btd->bd", weights, windows.mask.astype(weights.dtype)) / jnp.sum(weights)
    return average, share >= 0.5


def score(params: Params, spec: MewmaSpec, windows: Windows) -> Scores:
    """Score windows [B, T, D]; expected is the last sample less what its sensor alone would have to give up."""
    average, real = _average(windows, spec.weight)
    precision = params["precision"]
    squared, contributions = weighed(average, real, precision)
    alone = (average @ precision) / jnp.diagonal(precision)[None, :]
    return Scores(per_sensor(squared, average.shape[1]), contributions, windows.values[:, -1, :] - alone)


def features(params: Params, spec: MewmaSpec, windows: Windows) -> jax.Array:
    """The average z [B, D], whitened: its mean square is the score's."""
    average, real = _average(windows, spec.weight)
    return fill(params["precision"], average, real) @ root(params["precision"])


SCORER = Scorer("mewma", MewmaSpec, fit, score, features=features)
