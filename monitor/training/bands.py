"""Normal bands from the history: how far normal readings lie from what the other sensors let one expect."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from models.expectation import Bands
from models.imputation import Imputation, fill, fit_imputation
from monitor.training.history import FIT, Normal, few_lengths

INSIDE = 0.999
"""Share of held-out normal readings that lie within the band."""
_NORMAL_FACTOR = 3.2905
"""Standard deviations that hold this share of a normal distribution: what few rows cannot show, they do not narrow."""
_LEAST_SIGMA = 0.01
"""In z-scores: a sensor that never moved has a band too."""
_ROWS = 20_000
_FOLDS = 5
_BLOCK = 1024


def normal_bands(normal: Normal, imputation: Imputation) -> Bands:
    """Bands of observed less expected from rows that fitted nothing, and of the values themselves from all rows.

    Each is the interval that holds `INSIDE` of the real readings, half of the rest on either side, and at least as wide
    as for a normal distribution of their spread. Where all rows fitted the models, each of `_FOLDS` stretches is judged
    by the correlations of the others.
    """
    real = normal.usable & (normal.weight > 0)
    every = _thinned(np.flatnonzero(real.any(axis=1)))
    held_out = _thinned(np.flatnonzero((normal.part != FIT) & real.any(axis=1)))
    if len(held_out):
        off, mask = _off(imputation, normal.z[held_out], real[held_out]), real[held_out]
    else:
        off, mask = _out_of_fold(normal.z[every], real[every]), real[every]
    low, high, sigma = _interval(off, mask)
    least, most, _ = _interval(normal.z[every].astype(np.float64), real[every])
    return Bands(*(part.astype(np.float32) for part in (low, high, sigma, least, most)))


def _off(imputation: Imputation, rows: NDArray[np.float32], real: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Observed less expected [N, D] given the other sensors; masked ones at their conditional means."""
    precision = np.asarray(imputation.precision, np.float64)
    return _filled(imputation, rows, real).astype(np.float64) @ precision / np.diag(precision)


def _filled(
    imputation: Imputation, rows: NDArray[np.float32], real: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Rows in blocks of one size, the last one padded: one program for histories of every length."""
    out = rows.copy()
    for low in range(0, len(rows), _BLOCK):
        part, mask = rows[low : low + _BLOCK], real[low : low + _BLOCK]
        if not mask.all():
            pad = ((0, _BLOCK - len(part)), (0, 0))
            whole = np.pad(part, pad), np.pad(mask, pad, constant_values=True)
            out[low : low + _BLOCK] = _fill(imputation.precision, *whole)[: len(part)]
    return out


_fill = jax.jit(fill)


def _out_of_fold(rows: NDArray[np.float32], real: NDArray[np.bool_]) -> NDArray[np.float64]:
    off = np.zeros(rows.shape)
    for fold in np.array_split(np.arange(len(rows)), _FOLDS):
        others = few_lengths(np.setdiff1d(np.arange(len(rows)), fold))
        imputation = fit_imputation(jnp.asarray(rows[others]), jnp.asarray(real[others]))
        off[fold] = _off(imputation, rows[fold], real[fold])
    return off


def _thinned(index: NDArray[np.int64]) -> NDArray[np.int64]:
    return index[:: -(-len(index) // _ROWS) or 1]


def _interval(
    values: NDArray[np.float64], real: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Lower end, upper end and root mean square [D] of the real values [N, D]."""
    sensors = values.shape[1]
    low, high, sigma = np.empty(sensors), np.empty(sensors), np.empty(sensors)
    tails = [(1.0 - INSIDE) / 2.0, (1.0 + INSIDE) / 2.0]
    for d in range(sensors):
        mine = values[real[:, d], d]
        mine = mine if len(mine) else np.ones(1)
        sigma[d] = max(float(np.sqrt(np.mean(np.square(mine)))), _LEAST_SIGMA)
        low[d], high[d] = np.quantile(mine, tails)
    reach = _NORMAL_FACTOR * sigma
    return np.minimum(low, -reach), np.maximum(high, reach), sigma
