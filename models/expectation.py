"""What each sensor should show, given the sensors that can be trusted, and the band that is normal there.

A model's own forecast or reconstruction follows a slow fault, because the fault is in its input. A sensor's
conditional mean given the others, ``x_j - (P x)_j / P_jj`` for a centred Gaussian row with precision P, does not use
the sensor itself. But it uses the others, and one that lies misleads the expectations of all. So sensors
that cannot be right are set aside one by one, and the rest is conditioned on what remains:

1. first whatever is outside what it has ever shown in normal operation, the furthest first;
2. then whatever is outside its band given the others; of two that accuse each other, such as a flow and its
   valve, the one further from its mean;
3. when more than half are aside there is nothing left to lean on: expected is the mean, normal what was ever
   shown.

Setting aside is the sweep operator (Goodnight 1979, Am. Stat. 33:149) on each window's precision: after
sweeping the set m the matrix holds ``-P_mm^-1``, ``P_mm^-1 P_mo`` and the precision of the rest alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

_Ends = NDArray[np.float32] | jax.Array
_ARRAYS = ("low", "high", "sigma", "least", "most")


class Bands(NamedTuple):
    """What normal rows show, in z-scores; each [D] float32.

    Attributes:
        low: lower end of observed less expected, where all other sensors can be trusted; < 0.
        high: its upper end; > 0.
        sigma: its standard deviation; > 0.
        least: lower end of the sensor's own values; < 0.
        most: their upper end; > 0.
    """

    low: _Ends
    high: _Ends
    sigma: _Ends
    least: _Ends
    most: _Ends

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Named arrays for a bundle."""
        return {f"band_{name}": np.asarray(getattr(self, name)) for name in _ARRAYS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], sensors: int) -> Bands:
        """Read what `to_arrays` gave; endless bands where a bundle is not calibrated yet."""
        if "band_low" not in arrays:
            endless, one = np.full(sensors, np.inf, np.float32), np.ones(sensors, np.float32)
            return cls(-endless, endless, one, -endless, endless)
        return cls(*(np.asarray(arrays[f"band_{name}"], np.float32) for name in _ARRAYS))


class Expected(NamedTuple):
    """What B rows should show, in z-scores; each [B, D] float32.

    Attributes:
        value: the expected value.
        low: lower end of the normal band around it.
        high: upper end.
        sigma: one standard deviation of normal around it.
    """

    value: jax.Array
    low: jax.Array
    high: jax.Array
    sigma: jax.Array


class _State(NamedTuple):
    """Where B rows stand while sensors are set aside; each [B, D].

    Attributes:
        trusted: sensors that the others' expectations may lean on.
        mean: expected, given the other trusted sensors.
        growth: how much wider the band is for lack of some.
        suspicion: how urgently a sensor is to be set aside; 0: it may stay.
    """

    trusted: jax.Array
    mean: jax.Array
    growth: jax.Array
    suspicion: jax.Array


def expect(precision: jax.Array, bands: Bands, values: jax.Array, mask: jax.Array) -> Expected:
    """What rows should show.

    A row's result does not depend, in any bit, on the rows beside it.

    Args:
        precision: [D, D] of normal z-scores.
        bands: what normal rows show.
        values: [B, D] z-scores; what stands at masked entries is ignored.
        mask: [B, D] True where observed.

    Returns:
        Expected values and bands, of masked sensors too.
    """
    values = jnp.where(mask, values, 0.0)
    bands = Bands(*(jnp.asarray(each)[None, :] for each in bands))

    def judged(trusted: jax.Array, mean: jax.Array, growth: jax.Array) -> _State:
        found = _suspicion(bands, values, mask, trusted, values - mean, growth)
        return _State(trusted, mean, growth, jnp.where(_lost(trusted, mask), 0.0, found))

    alone = values - values @ precision / jnp.diagonal(precision)[None, :]
    start = judged(jnp.ones(mask.shape, bool), alone, jnp.ones_like(values))
    end = jax.lax.cond(
        jnp.any(start.suspicion > 0.0),
        lambda state: _set_aside(precision, bands, values, judged, state),
        lambda state: state,
        start,
    )
    lost = _lost(end.trusted, mask)
    return Expected(
        jnp.where(lost, 0.0, end.mean),
        jnp.where(lost, bands.least, end.mean + end.growth * bands.low),
        jnp.where(lost, bands.most, end.mean + end.growth * bands.high),
        jnp.where(lost, 1.0, end.growth * bands.sigma),
    )


def _set_aside(
    precision: jax.Array,
    bands: Bands,
    values: jax.Array,
    judged: Callable[[jax.Array, jax.Array, jax.Array], _State],
    state: _State,
) -> _State:
    """Set suspects aside one by one, in all rows at once, until none is left."""
    sensors = values.shape[1]

    def step(loop: tuple[_State, jax.Array]) -> tuple[_State, jax.Array]:
        state, matrix = loop
        worst = jnp.argmax(state.suspicion, axis=1)
        aside = (jnp.arange(sensors)[None, :] == worst[:, None]) & (state.suspicion > 0.0)
        matrix, trusted = _sweep(matrix, aside), state.trusted & ~aside
        after = judged(trusted, *_given_trusted(precision, bands, values, matrix, trusted))
        moving = jnp.any(aside, axis=1, keepdims=True)  # rows that are done do not feel the others' rounds
        return _State(*(jnp.where(moving, new, old) for new, old in zip(after, state, strict=True))), matrix

    matrix = jnp.broadcast_to(precision, (*values.shape, sensors))
    return jax.lax.while_loop(lambda loop: jnp.any(loop[0].suspicion > 0.0), step, (state, matrix))[0]


def _lost(trusted: jax.Array, mask: jax.Array) -> jax.Array:
    """[B, 1] more than half of the observed sensors are set aside."""
    aside = jnp.sum(~trusted & mask, axis=1, keepdims=True)
    return 2 * aside > jnp.sum(mask, axis=1, keepdims=True)


def _given_trusted(
    precision: jax.Array, bands: Bands, values: jax.Array, matrix: jax.Array, trusted: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Means [B, D] given the other trusted sensors, by the swept matrices [B, D, D], and the bands' growth."""
    pulled = jnp.sum(matrix * jnp.where(trusted, values, 0.0)[:, None, :], axis=2)
    diagonal = jnp.diagonal(matrix, axis1=1, axis2=2)
    mean = jnp.where(trusted, values - pulled / diagonal, -pulled)
    variance = jnp.where(trusted, 1.0 / diagonal, -diagonal)
    more = jnp.maximum(variance - 1.0 / jnp.diagonal(precision)[None, :], 0.0)
    return mean, jnp.sqrt(1.0 + more / jnp.square(bands.sigma))


def _suspicion(
    bands: Bands, values: jax.Array, mask: jax.Array, trusted: jax.Array, off: jax.Array, growth: jax.Array
) -> jax.Array:
    """[B, D], 0 where a sensor may stay: first what was never seen, and what is masked, then what is out of band."""
    never = jnp.where(mask, _over(values, bands.least, bands.most), jnp.inf)
    outside = _over(off / growth, bands.low, bands.high)
    first = jnp.where(trusted & (never > 1.0), never, 0.0)
    then = jnp.where(trusted & (outside > 1.0), outside * (1.0 + jnp.abs(values)), 0.0)
    return jnp.where(jnp.any(first > 0.0, axis=1, keepdims=True), first, then)


def _over(values: jax.Array, low: _Ends, high: _Ends) -> jax.Array:
    """1 at the ends of an interval around 0."""
    return jnp.maximum(values / high, values / low)


def _sweep(matrix: jax.Array, pivot: jax.Array) -> jax.Array:
    """Sweep each matrix [B, D, D] at its pivot [B, D] (at most one True); without one it stays as it is."""
    column = jnp.sum(jnp.where(pivot[:, None, :], matrix, 0.0), axis=2)
    at = jnp.sum(jnp.where(pivot, column, 0.0), axis=1)[:, None]
    scaled = column / jnp.where(at == 0.0, 1.0, at)
    rest = matrix - column[:, :, None] * scaled[:, None, :]
    row, col = pivot[:, :, None], pivot[:, None, :]
    swept = jnp.where(row & col, -1.0 / jnp.where(at == 0.0, 1.0, at)[:, :, None], rest)
    swept = jnp.where(row & ~col, scaled[:, None, :], swept)
    swept = jnp.where(~row & col, scaled[:, :, None], swept)
    return jnp.where(jnp.any(pivot, axis=1)[:, None, None], swept, matrix)
