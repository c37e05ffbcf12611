"""Autoencoder features with a one-class SVM: what is left of a window, judged by a kernel.

    v = [encode(x), r]       the code of the whole window, and the last sample's residual, as `models.autoencoder`
    u = S^-1/2 (v - mean v)  S the shrunk normal covariance of v
    score = d(f(u)) - d(rho) as in `models.ocsvm`

The hybrid of Erfani, Rajasegarar, Karunasekera & Leckie 2016 (Pattern Recognition 58:121) and Andrews, Morton & Griffin
2016 takes the code alone. A code keeps what normal varies in and drops the rest, so a fault that breaks a correlation
does not show in it; the residual, as a feature beside the code (Zong et al. 2018, DAGMM), keeps it.

Contributions leave each sensor out of u: its plane is spanned by what a step in it was measured to change
(`models.signatures`).

Shape letters: B windows, T samples, D sensors, F features.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from msgspec import Meta

from models import autoencoder, dense_autoencoder
from models.autoencoder import AutoencoderSpec
from models.covariance import inverse, shrunk_covariance
from models.fitting import evenly
from models.hyperparameters import Count, Searched, Share
from models.imputation import fill
from models.ocsvm import outside, solved
from models.scorer import Fitted, Params, Progress, Scorer, Scores, Windows
from models.signatures import measured_signatures
from models.whitening import Whitened, judged, whitening_of

_KIND = dense_autoencoder.KIND
_SHOWN = 1024
"""Windows that signatures and growth are measured on."""
_FAR = 0.9
"""Quantile of the lengths that is kept when a sensor is masked."""
_CHUNK = 1024


@dataclass(frozen=True)
class AutoencoderOcsvmSpec(AutoencoderSpec):
    """Hyperparameters; those of the autoencoder, and of the machine.

    Attributes:
        nu: share of training windows outside the region, at most. Not the alert's nu.
        sharpness: gamma times the number of features; 1 is scikit-learn's 'scale'.
        points: windows that the machine is fitted to at most, evenly spaced: time grows with their square.
    """

    nu: Annotated[Share, Searched(0.01, 0.2)] = 0.05
    sharpness: Annotated[float, Meta(gt=0.0), Searched(0.1, 10.0)] = 1.0
    points: Count = 4000


def fit(rng: jax.Array, windows: Windows, spec: AutoencoderOcsvmSpec, progress: Progress) -> Fitted:
    """Train the autoencoder, then fit the machine to its features.

    Args:
        rng: key.
        windows: [N, T, D] in order of time; NumPy views welcome.
        spec: hyperparameters.
        progress: called after every epoch with the losses.

    Returns:
        The autoencoder's ``weights`` and residual ``precision`` [D, D]; ``mean`` [F], ``whitening`` (see
        `models.whitening`), ``machine`` (see `models.ocsvm.solved`) and ``growth`` [D], the factor by which u is too
        short without a sensor; the autoencoder's curves.

    Raises:
        FitRefused: as `models.autoencoder.fit`.
    """
    from models.training import on_device, spread

    start = {one.name: getattr(spec, one.name) for one in fields(AutoencoderSpec)}
    fitted = autoencoder.fit(_KIND, rng, windows, AutoencoderSpec(**start), progress)
    weights = fitted.params["weights"]
    rows = _features_of(weights, windows)
    mean = jnp.mean(rows, axis=0)
    shown = on_device(spread(windows, _SHOWN)).values
    signatures = jax.jit(lambda values: measured_signatures(lambda v: features(weights, v), values))(shown)
    whitening = whitening_of(rows - mean[None, :], jnp.transpose(signatures, (2, 1, 0)))
    u = (rows - mean[None, :]) @ whitening["root"]
    learnt = {
        "weights": weights,
        "precision": fitted.params["precision"],
        "mean": mean,
        "whitening": whitening,
        "machine": solved(evenly(u, spec.points), spec.nu, spec.sharpness),
    }
    return Fitted({**learnt, "growth": jax.jit(_growth)(learnt, shown)}, fitted.curves)


def features(weights: Params, values: jax.Array) -> jax.Array:
    """Code and residual [B, F] of windows [B, T, D]."""
    code = dense_autoencoder.encode(weights, values)
    rebuilt = dense_autoencoder.decode(weights, code, values.shape)
    return jnp.concatenate([code, (values - rebuilt)[:, -1, :]], axis=1)


def _features_of(weights: Params, windows: Windows) -> jax.Array:
    """Of all windows whose last sample is wholly real."""
    whole = np.flatnonzero(np.asarray(windows.mask[:, -1, :]).all(axis=1))
    compiled = jax.jit(features)
    parts = np.array_split(whole, -(-len(whole) // _CHUNK))
    return jnp.concatenate([compiled(weights, jnp.asarray(windows.values[part])) for part in parts])


def score(params: Params, spec: AutoencoderOcsvmSpec, windows: Windows) -> Scores:
    """Score windows [B, T, D]; expected is the last sample as rebuilt."""
    del spec
    last = windows.mask[:, -1, :]
    u, residual = _whitened(params, windows.values, last)
    factor = jnp.prod(jnp.where(last, 1.0, params["growth"][None, :]), axis=1, keepdims=True)
    seen = Whitened(u * factor, last, windows.values[:, -1, :] - residual)
    return judged(lambda each: outside(params["machine"], each), params["whitening"]["planes"], seen)


def _whitened(params: Params, values: jax.Array, last: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Features u [B, F] and residuals [B, D] of windows [B, T, D]; ``last`` [B, D]: where the last sample is real."""
    rows = features(params["weights"], values)
    code, residual = rows[:, : -last.shape[1]], rows[:, -last.shape[1] :]
    filled = jnp.concatenate([code, fill(params["precision"], residual, last)], axis=1)
    return (filled - params["mean"][None, :]) @ params["whitening"]["root"], residual


def _growth(params: Params, values: jax.Array) -> jax.Array:
    """[D]: how much longer u of normal windows [B, T, D] is than without each sensor.

    A window whose sensor is imputed throughout varies less, in its residual and in its code. By how much cannot be
    told by counting; it is measured, at the lengths that a limit would be set at.
    """
    sensors = values.shape[2]
    precision = inverse(shrunk_covariance(values.reshape(-1, sensors)))

    def long(values: jax.Array, last: jax.Array) -> jax.Array:
        u, _ = _whitened(params, values, last)
        return jnp.quantile(jnp.sum(u**2, axis=1), _FAR)

    def without(sensor: jax.Array) -> jax.Array:
        real = jnp.broadcast_to(jnp.arange(sensors) != sensor, values.shape)
        return long(fill(precision, values, real), real[:, -1, :])

    whole = long(values, jnp.ones(values[:, -1, :].shape, bool))
    return jnp.sqrt(whole / jnp.maximum(jax.lax.map(without, jnp.arange(sensors)), 1e-12))


def whitened_features(params: Params, spec: AutoencoderOcsvmSpec, windows: Windows) -> jax.Array:
    """What the machine is given [B, F] of windows [B, T, D]."""
    del spec
    return _whitened(params, windows.values, windows.mask[:, -1, :])[0]


SCORER = Scorer("autoencoder_ocsvm", AutoencoderOcsvmSpec, fit, score, features=whitened_features)
"""The scorer."""
