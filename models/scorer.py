"""The one contract of every scorer.

A scorer is a pair of pure functions over windows::

    fit(rng, windows, spec, progress) -> Fitted(params, curves)
    score(params, spec, windows)      -> Scores(score, contributions, expected)

Shape letters: B windows, T samples of a window (oldest first), D sensors, H hidden units. A higher score is
more anomalous, for every scorer. ``score`` keeps no state between windows and computes each row of the block
by itself, so that a window's score does not depend on its neighbours in the block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

Params = Mapping[str, Any]
"""Nested mapping of names to arrays: a scorer's learnt parameters, ready for safetensors."""


class Windows(NamedTuple):
    """A block of windows.

    Attributes:
        values: [B, T, D] float32 z-scores; where ``mask`` is False the entry holds 0 or an imputed value.
        mask: [B, T, D] bool, True where a real reading stands (padding before a batch's start is False).
    """

    values: jax.Array
    mask: jax.Array


class Scores(NamedTuple):
    """What a scorer says of a block of windows.

    Attributes:
        score: [B] float32, higher is more anomalous.
        contributions: [B, D] float32, >= 0, each sensor's share of the score (not normalised).
        expected: [B, D] float32, the z-score expected of each sensor at the window's last sample.
    """

    score: jax.Array
    contributions: jax.Array
    expected: jax.Array


class Fitted(NamedTuple):
    """A fit's result: parameters, and one named curve per recorded quantity (one value per epoch)."""

    params: Params
    curves: Mapping[str, tuple[float, ...]]


class Progress(Protocol):
    """Called after every epoch with the epochs done and to do, and the quantities to show."""

    def __call__(self, done: int, total: int, values: Mapping[str, float]) -> None:
        """Show progress."""
        ...


def silent(done: int, total: int, values: Mapping[str, float]) -> None:
    """A progress callback that shows nothing."""
    del done, total, values


@dataclass(frozen=True)
class Scorer:
    """A named scorer: its spec type (a frozen dataclass with documented defaults) and its two functions.

    Attributes:
        name: the name used in configurations and bundles.
        spec: the frozen dataclass of its hyperparameters.
        fit: ``fit(rng, windows, spec, progress)``; raises `FitRefused` when the result must not be used.
        score: ``score(params, spec, windows)``, pure and jittable; ``spec`` is static.
        starts_from: name of the scorer whose parameters ``fit`` also takes, as the keyword ``pretrained``, to
            spare training them again; None for most.
        features: ``features(params, spec, windows) -> [B, F]``, what the scorer makes of a window before it judges
            it (a code, a map, whitened residuals), for people to look at; pure, jittable and row by row, as
            ``score``. None: see `features_of`.
    """

    name: str
    spec: type[Any]
    fit: Callable[..., Fitted]
    score: Callable[[Params, Any, Windows], Scores]
    starts_from: str | None = None
    features: Callable[[Params, Any, Windows], jax.Array] | None = None

    def features_of(self, params: Params, spec: Any, windows: Windows) -> jax.Array:
        """The scorer's features [B, F]; without its own, the roots [B, D] of what its sensors contribute."""
        if self.features is not None:
            return self.features(params, spec, windows)
        return jnp.sqrt(jnp.maximum(self.score(params, spec, windows).contributions, 0.0))


class FitRefused(ValueError):  # noqa: N818 - names what happened, as the training report does
    """A fit ended in parameters that must not be used (collapse, no better than untrained, too few data)."""
