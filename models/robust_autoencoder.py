"""Robust autoencoder: training windows are split into what a code explains, L, and what it need not explain, S.

    min  1/2 ||L - decode(encode(L))||^2 + penalty ||S||_2,1    with X = L + S

Zhou & Paffenroth 2017 (KDD) and, as an inductive scorer, Chalapathy, Menon & Chawla 2017 (RCAE, ECML-PKDD). In turns:
an epoch of gradient steps on L = X - S, then the proximal step ``S = prox(X - decode(encode(L)))``, which shortens
every group by the threshold and drops the shorter ones. A group is a whole window ('rows': some of the history is
wrong) or one sensor at one place of the window over all of the history ('columns': some of the inputs are wrong).
Windows that end up in S teach neither the network nor the covariance of its residuals.

The threshold is ``penalty`` times the median length of the groups, so that it means the same on any data.

Shape letters: N windows, T samples, D sensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from msgspec import Meta

from models import dense_autoencoder
from models.autoencoder import AutoencoderSpec, Descent, Kind, confirmed, described, features, score
from models.fitting import real_tail
from models.hyperparameters import Searched
from models.scorer import FitRefused, Fitted, Params, Progress, Scorer, Windows

GROUPS = ("rows", "columns")
_KIND = dense_autoencoder.KIND
_MOST = 0.5
"""Share of the windows that may be left out; with more, what is normal is not known."""


@dataclass(frozen=True)
class RobustAutoencoderSpec(AutoencoderSpec):
    """Hyperparameters; those of the core, and its own.

    Attributes:
        penalty: of a group in S, in median lengths of what is not rebuilt; the larger, the less is left out.
        groups: ``rows``: whole windows are left out; ``columns``: single entries of the window, in all of them.
        warm_up: epochs before anything is left out.
    """

    penalty: Annotated[float, Meta(gt=0.0), Searched(1.0, 4.0)] = 2.0
    groups: Literal["rows", "columns"] = "rows"
    warm_up: Annotated[int, Meta(ge=0)] = 3


def shortened(rest: jax.Array, groups: str, penalty: float) -> jax.Array:
    """The proximal step of the L2,1 norm on X - decode(encode(L)) [N, T, D]: S, of the same shape."""
    axes = (1, 2) if groups == "rows" else (0,)
    length = jnp.sqrt(jnp.sum(rest**2, axis=axes, keepdims=True))
    threshold = penalty * jnp.median(length)
    return rest * jnp.maximum(1.0 - threshold / jnp.maximum(length, 1e-12), 0.0)


@dataclass(frozen=True)
class RobustDescent:
    """Gradient steps on windows less what is left out of them; a batch is windows and their part of S."""

    core: Descent

    def step(self, state: Any, batch: tuple[Windows, jax.Array], key: jax.Array) -> tuple[Any, jax.Array]:
        """See `models.training.Task`."""
        windows, left_out = batch
        return self.core.step(state, Windows(windows.values - left_out, windows.mask), key)

    def judge(self, state: Any, held: Windows) -> jax.Array:
        """The median over held-out windows of the mean square of what is not rebuilt: they may be wrong too."""
        off = self.core.kind.rebuild(state[0], self.core.spec, held.values) - held.values
        real = held.mask.astype(off.dtype)
        each = jnp.sum(real * off**2, axis=(1, 2)) / jnp.maximum(jnp.sum(real, axis=(1, 2)), 1.0)
        return jnp.median(each)


def fit(rng: jax.Array, windows: Windows, spec: RobustAutoencoderSpec, progress: Progress) -> Fitted:
    """Train on windows that are mostly normal.

    Args:
        rng: key.
        windows: [N, T, D] in order of time; NumPy views welcome.
        spec: hyperparameters.
        progress: called after every epoch with the losses.

    Returns:
        What `models.autoencoder.fit` returns, and ``left_out`` [], the share of the groups in S.

    Raises:
        FitRefused: unknown groups, too few windows, more than half of them left out, or a useless network.
    """
    from models import training  # here, so that optax stays off the scoring path

    if spec.groups not in GROUPS:
        raise FitRefused(
            f"robust_autoencoder: got groups {spec.groups!r}, expected one of {', '.join(GROUPS)}"
        )
    real_tail(windows, 1)  # refuses a history that is too short
    older, newest = training.split_in_time(windows, spec.held_out)
    held = training.on_device(training.spread(newest, spec.epoch_windows // 4))
    data = training.on_device(older)
    key_init, key_train = jax.random.split(rng)
    core = Descent(_KIND, spec)
    state = core.start(key_init, data)
    epochs = iter(range(1, spec.epochs + 1))

    def between(state: Any, data: tuple[Windows, jax.Array]) -> tuple[Any, tuple[Windows, jax.Array]]:
        left_out = sparse_part(_KIND, spec, state[0], *data) if next(epochs) >= spec.warm_up else data[1]
        return state, (data[0], left_out)

    nothing = jnp.zeros_like(data.values)
    schedule = training.Schedule(spec.epochs, spec.epoch_windows, spec.batch, spec.patience)
    trained = training.train(
        key_train, RobustDescent(core), state, (data, nothing), held, schedule, progress, between
    )
    weights = confirmed(_KIND, trained.state[0], spec, held)
    return Fitted(_described(weights, spec, windows), trained.curves)


def _described(weights: Params, spec: RobustAutoencoderSpec, windows: Windows) -> Params:
    """What scoring needs, from the windows that are not left out."""
    from models.training import on_device

    whole = on_device(windows)
    left_out = np.asarray(sparse_part(_KIND, spec, weights, whole, jnp.zeros_like(whole.values)))
    axes = (1, 2) if spec.groups == "rows" else (0,)
    gone = (left_out != 0.0).any(axis=axes)
    if gone.mean() > _MOST:
        raise FitRefused(
            f"robust_autoencoder: got {gone.mean():.0%} of the {spec.groups} left out, expected at most {_MOST:.0%}; "
            "hint: raise penalty"
        )
    kept = np.flatnonzero(~gone) if spec.groups == "rows" else np.arange(len(left_out))
    clean = Windows(np.asarray(windows.values)[kept], np.asarray(windows.mask)[kept])  # type: ignore[arg-type] # NumPy until the device takes them
    return {**described(_KIND, weights, spec, clean), "left_out": jnp.float32(gone.mean())}


@partial(jax.jit, static_argnums=(0, 1))
def sparse_part(
    kind: Kind, spec: RobustAutoencoderSpec, weights: Params, windows: Windows, left_out: jax.Array
) -> jax.Array:
    """The next S [N, T, D]; what is masked is never left out."""
    rest = windows.values - kind.rebuild(weights, spec, windows.values - left_out)
    return shortened(jnp.where(windows.mask, rest, 0.0), spec.groups, spec.penalty)


SCORER = Scorer(
    "robust_autoencoder",
    RobustAutoencoderSpec,
    fit,
    partial(score, _KIND),
    features=partial(features, _KIND),
)
"""The scorer."""
