"""Kernel density of the whitened last samples: how far the nearest normal windows are.

    log p(u) = log mean_i exp(-||u - p_i||^2 / 2 h^2) - L log(h sqrt(2 pi))
    score    = d(u) as in `models.kernels`, with gamma = 1 / 2 h^2

Parzen 1962 (Ann. Math. Stat. 33:1065). The bandwidth h is the one of the highest likelihood of held-out rows over 5
folds, by scikit-learn; the folds are contiguous, because neighbouring windows are nearly the same.

Shape letters: B windows, L entries, P points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from msgspec import Meta

from models.fitting import evenly
from models.hyperparameters import Count, Lags, Searched
from models.kernels import as_distance, log_kernel_mean
from models.scorer import Fitted, Params, Progress, Scorer, Scores, Windows
from models.whitening import fit_whitening, scores_of, whitened_samples

_FOLDS = 5


@dataclass(frozen=True)
class KdeSpec:
    """Hyperparameters.

    Attributes:
        points: normal windows that the density is made of at most, evenly spaced; time grows with their square.
        smallest: bandwidth that is tried, in standard deviations.
        largest: likewise.
        tried: bandwidths between them, evenly in their logarithm.
        lags: samples before the last that are judged with it.
    """

    points: Annotated[Count, Searched(250, 4000)] = 1000
    smallest: Annotated[float, Meta(gt=0.0)] = 0.1
    largest: Annotated[float, Meta(gt=0.0)] = 2.0
    tried: Count = 16
    lags: Lags = 1


def fit(rng: jax.Array, windows: Windows, spec: KdeSpec, progress: Progress) -> Fitted:
    """Fit on normal windows.

    Args:
        rng: unused: there is nothing random.
        windows: [N, T, D] with T > ``spec.lags``.
        spec: hyperparameters.
        progress: called once.

    Returns:
        ``whitening`` (see `models.whitening`), ``points`` [P, L] and ``bandwidth`` [].

    Raises:
        FitRefused: too few fully real windows.
    """
    del rng
    whitening, rows = fit_whitening(windows, spec.lags)
    points = evenly(rows, spec.points)
    bandwidth = best_bandwidth(points, np.geomspace(spec.smallest, spec.largest, spec.tried).tolist())
    progress(1, 1, {"bandwidth": bandwidth})
    return Fitted({"whitening": whitening, "points": points, "bandwidth": jnp.float32(bandwidth)}, {})


def best_bandwidth(rows: jax.Array, bandwidths: list[float]) -> float:
    """The bandwidth of the highest held-out likelihood of rows [N, L]."""
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.neighbors import KernelDensity

    search = GridSearchCV(KernelDensity(), {"bandwidth": bandwidths}, cv=KFold(_FOLDS))
    return float(search.fit(np.asarray(rows)).best_params_["bandwidth"])


def score(params: Params, spec: KdeSpec, windows: Windows) -> Scores:
    """Score windows [B, T, D]; expected is the last sample's conditional mean."""
    del spec
    points, gamma = params["points"], 0.5 / params["bandwidth"] ** 2
    alike = jnp.ones(points.shape[0], points.dtype)

    def judge(rows: jax.Array) -> jax.Array:
        return as_distance(log_kernel_mean(rows, points, alike, gamma), gamma, rows.shape[1])

    return scores_of(judge, params["whitening"], windows)


SCORER = Scorer("kde", KdeSpec, fit, score, features=whitened_samples)
"""The scorer."""
