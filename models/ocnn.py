"""OC-NN on closeness features: how near to normal each whitened residual of the LSTM autoencoder is.

The network is judged by ``y = <w, g(V z)>`` (`models.ocnn_head`) with ``z_j = exp(-u_j^2 / 2 c^2) / sqrt(2
F)``; u are the autoencoder's residuals, whitened per sensor. On such features normal lies far from the
origin, which OC-NN needs: on z-scores it is near chance. The encoder's weights stay trainable, anchored by
the reconstruction loss.
Score: r - y.

What the network adds shows only beside two rows over the same features: `score_unweighted` (w = 1) and
`score_squares` (sum of squares).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from models import lstm_autoencoder
from models.covariance import as_if_all_observed
from models.imputation import fill
from models.lstm import LstmWeights
from models.lstm_autoencoder import LstmAutoencoderSpec, Residuals, in_chunks, residuals
from models.ocnn_head import ACTIVATIONS, Head, respond
from models.scorer import FitRefused, Fitted, Params, Progress, Scorer, Scores, Windows


@dataclass(frozen=True)
class OcnnSpec(LstmAutoencoderSpec):
    """Hyperparameters; those of the autoencoder that it starts from, and its own.

    Attributes:
        nu: share of training windows below r. Not the alert's nu.
        width: c, in standard deviations: beyond it a sensor counts as lost. Small values see many slightly
            wrong sensors, large ones a single very wrong sensor.
        activation: g, one of ``linear``, ``relu``, ``sigmoid`` (a hidden bias).
        alternations: epochs of gradient steps, each followed by Theorem 1's r.
        head_steps: steps on w alone before the rest is trained.
        head_learning_rate: Adam's, for w, V and the encoder together.
        reconstruction_weight: of the autoencoder's loss beside OC-NN's.
        min_spread: least standard deviation of y over r that is not a collapse.
    """

    nu: float = 0.05
    width: float = 4.0
    activation: str = "linear"
    alternations: int = 4
    head_steps: int = 1000
    head_learning_rate: float = 0.001
    reconstruction_weight: float = 1.0
    min_spread: float = 1e-5


class Whitening(NamedTuple):
    """Inverse covariances of the residuals and their symmetric roots, all [D, D]."""

    last_precision: jax.Array
    mean_precision: jax.Array
    last_root: jax.Array
    mean_root: jax.Array


def fit(
    rng: jax.Array, windows: Windows, spec: OcnnSpec, progress: Progress, pretrained: Params | None = None
) -> Fitted:
    """Train on normal windows.

    Args:
        rng: key.
        windows: [N, T, D] in order of time; NumPy views welcome.
        spec: hyperparameters.
        progress: called after every epoch, first of the autoencoder, then of the alternation.
        pretrained: parameters of an `lstm_autoencoder` of the same ``hidden`` and ``tail``; trained here if
            None.

    Returns:
        ``weights`` (`LstmWeights`), the `Whitening`, ``w`` [K], ``v`` [K, F], ``r`` []; curves ``loss``,
        ``r``, ``spread`` and the autoencoder's.

    Raises:
        FitRefused: too few windows, ``pretrained`` of another size, or the network collapsed (see
            `refuse_collapse`).
    """
    from models import ocnn_training  # here, so that flax and optax stay off the scoring path

    key_pretrain, key = jax.random.split(rng)
    curves: Mapping[str, tuple[float, ...]] = {}
    if pretrained is None:
        start = {one.name: getattr(spec, one.name) for one in fields(LstmAutoencoderSpec)}
        fitted = lstm_autoencoder.fit(key_pretrain, windows, LstmAutoencoderSpec(**start), progress)
        curves = {f"autoencoder_{name}": curve for name, curve in fitted.curves.items()}
        pretrained = fitted.params
    hidden = pretrained["weights"]["decoder_state"].shape[1]
    if hidden != spec.hidden:
        raise FitRefused(
            f"ocnn: got a pretrained autoencoder of {hidden} hidden units, expected {spec.hidden}; "
            "hint: give both scorers the same hidden"
        )
    trained = ocnn_training.train(key, pretrained, windows, spec, progress)
    return Fitted(trained.params, {**curves, **trained.curves})


def score(params: Params, spec: OcnnSpec, windows: Windows) -> Scores:
    """Score windows [B, T, D]; a contribution: how much the score falls when that sensor is corrected."""
    head, activation = Head(params["w"], params["v"]), ACTIVATIONS[spec.activation]
    off, whitening = _residuals(params, spec, windows), whitening_of(params)
    y = respond(head, features(off, whitening, spec.width), activation)
    gain = respond(head, _corrected(off, whitening, spec.width), activation) - y[:, None]
    return Scores(params["r"] - y, jnp.where(off.mean_real, jax.nn.relu(gain), 0.0), off.expected)


def score_unweighted(params: Params, spec: OcnnSpec, windows: Windows) -> jax.Array:
    """Baseline [B]: the same features, V = I and w = 1."""
    return -jnp.sum(features(_residuals(params, spec, windows), whitening_of(params), spec.width), axis=1)


def score_squares(params: Params, spec: OcnnSpec, windows: Windows) -> jax.Array:
    """Baseline [B]: the sum of squares of the same whitened residuals."""
    off, whitening = _residuals(params, spec, windows), whitening_of(params)
    return jnp.sum(_whitened(off, whitening) ** 2, axis=1)


def _residuals(params: Params, spec: OcnnSpec, windows: Windows) -> Residuals:
    return residuals(LstmWeights(**params["weights"]), windows, spec.tail)


def whitening_of(params: Params) -> Whitening:
    """The whitening among the parameters."""
    return Whitening(**{name: params[name] for name in Whitening._fields})


def features(off: Residuals, whitening: Whitening, width: float) -> jax.Array:
    """Closeness features z of residuals, [B, F] with F = 2 D; ||z||^2 <= 1/2."""
    return _closeness(_whitened(off, whitening), width)


def _closeness(whitened: jax.Array, width: float) -> jax.Array:
    return jnp.exp(-0.5 * (whitened / width) ** 2) / (2.0 * whitened.shape[-1]) ** 0.5


def _whitened(off: Residuals, whitening: Whitening) -> jax.Array:
    last, mean = _complete(off, whitening)
    return jnp.concatenate([last @ whitening.last_root, mean @ whitening.mean_root], axis=1)


def _complete(off: Residuals, whitening: Whitening) -> tuple[jax.Array, jax.Array]:
    """Residuals with masked sensors at their conditional mean, as long as if all were observed."""
    return (
        _complete_one(off.last, off.last_real, whitening.last_precision),
        _complete_one(off.mean, off.mean_real, whitening.mean_precision),
    )


def _complete_one(residual: jax.Array, real: jax.Array, precision: jax.Array) -> jax.Array:
    filled = fill(precision, residual, real)
    distance = jnp.sum(filled * (filled @ precision), axis=1)
    longer = as_if_all_observed(distance, real) / jnp.maximum(distance, 1e-12)
    factor = jnp.where(jnp.all(real, axis=1), 1.0, jnp.sqrt(jnp.maximum(longer, 0.0)))
    return filled * factor[:, None]


def _corrected(off: Residuals, whitening: Whitening, width: float) -> jax.Array:
    """Features after the best correction along each sensor alone, [B, D, F]."""
    last, mean = _complete(off, whitening)
    return _closeness(
        jnp.concatenate(
            [
                _correct(last, whitening.last_precision, whitening.last_root),
                _correct(mean, whitening.mean_precision, whitening.mean_root),
            ],
            axis=2,
        ),
        width,
    )


def _correct(residual: jax.Array, precision: jax.Array, root: jax.Array) -> jax.Array:
    """Whitened residuals [B, D (corrected sensor), D]."""
    step = (residual @ precision) / jnp.diagonal(precision)[None, :]  # [B, D]
    return (residual @ root)[:, None, :] - step[:, :, None] * root[None, :, :]


def refuse_collapse(
    loss: float, r: float, y: NDArray[np.float32], first: NDArray[np.float32], least: float
) -> None:
    """Refuse a fit that must not be used.

    Args:
        loss: OC-NN's loss at the end.
        r: Theorem 1's r at the end.
        y: [N] responses of held-out windows.
        first: [N] their responses before training.
        least: least standard deviation of y over r.

    Raises:
        FitRefused: loss >= 0, r <= 0, y hardly differs, or y ranks exactly as before training.
    """
    spread = float(np.std(y)) / r if r > 0.0 else 0.0
    findings = [
        (loss < 0.0, f"a loss of {loss:.3g}, expected less than 0"),
        (r > 0.0, f"r = {r:.3g}, expected more than 0"),
        (spread > least, f"responses that differ by {spread:.3g} of r, expected over {least:.3g}"),
        (not np.array_equal(np.argsort(y), np.argsort(first)), "the ranking it had before training"),
    ]
    wrong = [text for fine, text in findings if not fine]
    if wrong or not np.isfinite([loss, r, spread]).all():
        raise FitRefused(
            f"ocnn: collapsed: got {'; '.join(wrong) or 'values that are not finite'}; hint: lower "
            "head_learning_rate, raise reconstruction_weight, or leave this scorer out"
        )


def all_features(weights: LstmWeights, whitening: Whitening, spec: OcnnSpec, windows: Windows) -> jax.Array:
    """Features of any number of windows, [N, F]."""
    chunks = in_chunks(windows)
    return jnp.concatenate([_features_of(weights, whitening, one, spec.width, spec.tail) for one in chunks])


@partial(jax.jit, static_argnames=("width", "tail"))
def _features_of(
    weights: LstmWeights, whitening: Whitening, windows: Windows, width: float, tail: int
) -> jax.Array:
    return features(residuals(weights, windows, tail), whitening, width)


SCORER = Scorer("ocnn", OcnnSpec, fit, score, starts_from="lstm_autoencoder")
