"""What the fits have in common: which windows may teach, and how much is enough."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from models.scorer import FitRefused, Windows

ROWS_PER_SENSOR = 2
"""Fewer rows than this per sensor say little of a covariance, however much it is shrunk."""


def real_tail(windows: Windows, rows: int, per_sensor: int | None = None) -> jax.Array:
    """The last ``rows`` samples of those windows in which all of them are real.

    Args:
        windows: [N, T, D], NumPy views welcome: only the tail is copied.
        rows: samples that are needed, at most T.
        per_sensor: windows that are needed for every sensor; one per sample, and two at least, unless given, as a
            regression on all of the samples asks for.

    Returns:
        [M, rows, D] float32.

    Raises:
        FitRefused: T is too short, or M is too small. From there on ridge and shrinkage keep a fit usable; that it is
            a rough one shows in the out-of-fold scores that set its limit.
    """
    _, length, sensors = windows.values.shape
    if length < rows:
        raise FitRefused(f"fit: got windows of {length} samples, expected at least {rows}")
    whole = np.asarray(windows.mask[:, length - rows :, :]).all(axis=(1, 2))
    needed = (per_sensor or max(ROWS_PER_SENSOR, rows)) * sensors
    if int(whole.sum()) < needed:
        raise FitRefused(
            f"fit: got {int(whole.sum())} of {whole.size} windows whose last {rows} samples are real in all "
            f"{sensors} sensors, expected at least {needed}; hint: widen the training interval, or leave out "
            "the sensors that are often missing"
        )
    return jnp.asarray(np.asarray(windows.values[:, length - rows :, :])[whole])


def evenly(rows: jax.Array, most: int) -> jax.Array:
    """At most so many rows [N, ..], evenly spaced over all of them."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]


def seed_of(rng: jax.Array) -> int:
    """A key as a seed for libraries that take numbers."""
    return int(jax.random.randint(rng, (), 0, 2**31 - 1, jnp.int32))
