"""The last samples, whitened: what distances, kernels, trees and small networks can be fitted to.

    x = the last lags + 1 samples, stacked [L], L = (lags + 1) D
    u = S^-1/2 x                              S the shrunk normal covariance of x

Normal windows lie around 0 with unit variance in every direction; u carries the sensors' levels and, with lags, what
their own past did not let expect. The symmetric root moves the sensors least, so u_j is still mostly sensor j.

To put in sensor j's place what all else lets expect (its conditional mean) is, in whitened coordinates, to project u
off the plane that j's samples span: ``u - Q_j Q_j' u``, Q_j an orthonormal basis of the columns ``S^-1/2 e_j``. So for
any score f the contribution of j can be how far the score falls without it, ``f(u) - f(u - Q_j Q_j' u)``; for
``f = ||u||^2`` that is its reconstruction-based contribution (Alcala & Qin 2009, Automatica 45:1593).

Shape letters: B windows, T samples, D sensors, L stacked entries, K = lags + 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from models.covariance import as_if_all_observed, inverse, root, shrunk_covariance
from models.fitting import real_tail
from models.imputation import fill
from models.scorer import Params, Scores, Windows


class Whitened(NamedTuple):
    """Windows in whitened coordinates.

    Attributes:
        u: [B, L].
        real: [B, D], sensors whose last sample is real.
        expected: [B, D], the last sample's conditional means given all else in x.
    """

    u: jax.Array
    real: jax.Array
    expected: jax.Array


def fit_whitening(windows: Windows, lags: int) -> tuple[Params, jax.Array]:
    """Learn the whitening from normal windows.

    Args:
        windows: [N, T, D], T > lags; NumPy views welcome.
        lags: samples before the last that are joined to it.

    Returns:
        ``precision`` [L, L], ``root`` [L, L] and ``planes`` [D, L, K]; and the whitened windows [M, L] whose last
        samples are wholly real, in order of time.

    Raises:
        FitRefused: too few of them.
    """
    tail = real_tail(windows, lags + 1)
    rows = tail.reshape(tail.shape[0], -1)
    each = jnp.eye(rows.shape[1], dtype=rows.dtype).reshape(rows.shape[1], lags + 1, tail.shape[2])
    whitening = whitening_of(rows, jnp.transpose(each, (2, 0, 1)))
    return whitening, rows @ whitening["root"]


def whitening_of(rows: jax.Array, columns: jax.Array) -> Params:
    """The whitening of any normal rows [N, L] about 0; columns [D, L, K] span what each sensor moves."""
    precision = inverse(shrunk_covariance(rows))
    whitens = root(precision)
    planes = jnp.linalg.qr(jnp.einsum("ml,dlk->dmk", whitens, columns))[0]
    return {"precision": precision, "root": whitens, "planes": planes}


def whiten(whitening: Params, windows: Windows) -> Whitened:
    """Whiten the last samples of windows [B, T, D].

    Masked entries count as their conditional mean, and u is then as long as if all were observed.
    """
    sensors, length, samples = whitening["planes"].shape
    count = windows.values.shape[0]
    rows = windows.values[:, -samples:, :].reshape(count, length)
    real = windows.mask[:, -samples:, :].reshape(count, length)
    filled = fill(whitening["precision"], rows, real)
    u = filled @ whitening["root"]
    pulled = (u @ whitening["root"]) / jnp.diagonal(whitening["precision"])[None, :]
    return Whitened(as_long(u, real), real[:, -sensors:], (filled - pulled)[:, -sensors:])


def whitened_samples(params: Params, spec: object, windows: Windows) -> jax.Array:
    """Features u [B, L] of a scorer that keeps its whitening under this name; see `models.scorer.Scorer`."""
    del spec
    return whiten(params["whitening"], windows).u


def as_long(u: jax.Array, real: jax.Array) -> jax.Array:
    """Whitened rows [B, L], as long as if all of their entries [B, L] were real."""
    distance = jnp.sum(u**2, axis=1)
    longer = as_if_all_observed(distance, real) / jnp.maximum(distance, 1e-12)
    factor = jnp.where(jnp.all(real, axis=1), 1.0, jnp.sqrt(jnp.maximum(longer, 0.0)))
    return u * factor[:, None]


def scores_of(judge: Callable[[jax.Array], jax.Array], whitening: Params, windows: Windows) -> Scores:
    """Scores of windows [B, T, D] by any function of u; see `judged`."""
    return judged(judge, whitening["planes"], whiten(whitening, windows))


def judged(judge: Callable[[jax.Array], jax.Array], planes: jax.Array, seen: Whitened) -> Scores:
    """Scores by a function of u [M, L] -> [M], with contributions by leaving each sensor out in turn."""
    without = without_each(planes, seen.u)
    count, sensors, length = without.shape
    together = jnp.concatenate([seen.u, without.reshape(count * sensors, length)])
    found = judge(together)
    score, others = found[:count], found[count:].reshape(count, sensors)
    falls = jnp.maximum(score[:, None] - others, 0.0)
    return Scores(score, jnp.where(seen.real, falls, 0.0), seen.expected)


def without_each(planes: jax.Array, u: jax.Array) -> jax.Array:
    """[B, D, L]: u with each sensor in turn where all else lets it expect to be."""
    along = jnp.einsum("dlk,bl->bdk", planes, u)
    return u[:, None, :] - jnp.einsum("dlk,bdk->bdl", planes, along)
