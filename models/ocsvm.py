"""One-class SVM on the whitened last samples: the smallest region that holds all but nu of normal.

    f(u) = sum_i a_i exp(-gamma ||u - s_i||^2) over the support vectors s_i;  anomalous where f < rho
    score = d(f) - d(rho), d as in `models.kernels`

Schoelkopf, Platt, Shawe-Taylor, Smola & Williamson 2001 (Neural Computation 13:1443). scikit-learn solves it; support
vectors, dual coefficients and rho are kept. The score ranks as scikit-learn's ``-decision_function`` and has its sign.

Shape letters: B windows, L entries, P support vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from msgspec import Meta

from models.fitting import evenly
from models.hyperparameters import Count, Lags, Searched, Share
from models.kernels import as_distance, log_kernel_mean
from models.scorer import Fitted, Params, Progress, Scorer, Scores, Windows
from models.whitening import fit_whitening, scores_of, whitened_samples


@dataclass(frozen=True)
class OcsvmSpec:
    """Hyperparameters.

    Attributes:
        nu: share of training windows outside the region, at most. Not the alert's nu.
        sharpness: gamma times the number of entries of u; 1 is scikit-learn's 'scale'.
        points: windows that it is fitted to at most, evenly spaced: time grows with their square.
        lags: samples before the last that are judged with it.
    """

    nu: Annotated[Share, Searched(0.01, 0.2)] = 0.05
    sharpness: Annotated[float, Meta(gt=0.0), Searched(0.1, 10.0)] = 1.0
    points: Count = 4000
    lags: Lags = 1


def fit(rng: jax.Array, windows: Windows, spec: OcsvmSpec, progress: Progress) -> Fitted:
    """Fit on normal windows.

    Args:
        rng: unused: there is nothing random.
        windows: [N, T, D] with T > ``spec.lags``.
        spec: hyperparameters.
        progress: called once.

    Returns:
        ``whitening`` (see `models.whitening`) and ``machine`` (see `solved`).

    Raises:
        FitRefused: too few fully real windows.
    """
    del rng
    whitening, rows = fit_whitening(windows, spec.lags)
    machine = solved(evenly(rows, spec.points), spec.nu, spec.sharpness)
    progress(1, 1, {"support_vectors": float(jnp.sum(machine["weights"] > 0.0))})
    return Fitted({"whitening": whitening, "machine": machine}, {})


def solved(rows: jax.Array, nu: float, sharpness: float) -> Params:
    """The machine of rows [N, L].

    Returns:
        ``support`` [P, L], ``weights`` [P] (dual coefficients, with zeros up to a power of two, so that machines of
        alike data share a compiled program), ``rho`` [] and ``gamma`` [].
    """
    from sklearn.svm import OneClassSVM

    gamma = sharpness / rows.shape[1]
    machine = OneClassSVM(nu=nu, gamma=gamma)  # type: ignore[arg-type] # the stubs know only 'scale' and 'auto'
    machine.fit(np.asarray(rows, np.float64))
    found = len(machine.support_vectors_)
    more = (1 << (found - 1).bit_length()) - found
    return {
        "support": jnp.asarray(np.pad(machine.support_vectors_, ((0, more), (0, 0))), jnp.float32),
        "weights": jnp.asarray(np.pad(machine.dual_coef_[0], (0, more)), jnp.float32),
        "rho": jnp.float32(machine.offset_[0]),
        "gamma": jnp.float32(gamma),
    }


def outside(machine: Params, rows: jax.Array) -> jax.Array:
    """``d(f) - d(rho)`` [B] of rows [B, L]; positive outside the region."""
    logs = log_kernel_mean(rows, machine["support"], machine["weights"], machine["gamma"])
    edge = jnp.log(machine["rho"] / jnp.sum(machine["weights"]))
    entries = rows.shape[1]
    return as_distance(logs, machine["gamma"], entries) - as_distance(edge, machine["gamma"], entries)


def score(params: Params, spec: OcsvmSpec, windows: Windows) -> Scores:
    """Score windows [B, T, D]; expected is the last sample's conditional mean."""
    del spec
    return scores_of(lambda rows: outside(params["machine"], rows), params["whitening"], windows)


SCORER = Scorer("ocsvm", OcsvmSpec, fit, score, features=whitened_samples)
"""The scorer."""
