"""OC-NN on closeness features: how near to its forecast each whitened residual of the LSTM autoencoder is.

    u   = P^1/2 (x_t - x^_t)                  the whitened one-step residual
    z_j = exp(-u_j^2 / 2 c^2) / sqrt(2 D)     closeness: normal lies far from the origin, which OC-NN needs
    y   = <w, g(V z)>                         (`models.ocnn_head`); a window is anomalous when y < r

On z-scores instead of closeness OC-NN is near chance. The encoder's weights stay trainable, anchored by the
autoencoder's own losses.
Score: ``d(y) - d(r)`` with ``d(y) = c sqrt(2 (1 - y / y0))``, y0 the response to no residual at all. It ranks as
r - y does and has its sign; d is a distance in standard deviations per sensor, as `models.var` scores are.

What the network adds shows only beside two rows over the same features: `score_unweighted` (w = 1) and
`score_squares` (sum of squares).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from models import lstm_autoencoder
from models.covariance import as_if_all_observed
from models.imputation import fill
from models.lstm import LstmWeights
from models.lstm_autoencoder import Forecast, LstmAutoencoderSpec, forecast
from models.ocnn_head import ACTIVATIONS, Head, respond
from models.residuals import per_sensor, step_signatures, weighed
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
        head_learning_rate: of the gradient steps on w and V.
        encoder_learning_rate: Adam's, for the encoder beside them.
        anchor_weight: of the autoencoder's losses beside OC-NN's.
        min_spread: least standard deviation of y over r that is not a collapse.
    """

    nu: float = 0.05
    width: float = 6.0
    activation: str = "linear"
    alternations: int = 4
    head_steps: int = 1000
    head_learning_rate: float = 0.02
    encoder_learning_rate: float = 0.001
    anchor_weight: float = 1.0
    min_spread: float = 1e-5


def fit(
    rng: jax.Array, windows: Windows, spec: OcnnSpec, progress: Progress, pretrained: Params | None = None
) -> Fitted:
    """Train on normal windows.

    Args:
        rng: key.
        windows: [N, T, D] in order of time; NumPy views welcome.
        spec: hyperparameters.
        progress: called after every epoch, first of the autoencoder, then of the alternation.
        pretrained: parameters of an `lstm_autoencoder` of the same ``hidden``; trained here if None.

    Returns:
        The autoencoder's parameters; ``root`` [D, D], which whitens its residuals; ``w`` [K], ``v`` [K, D], ``r``
        []; curves ``loss``, ``r``, ``spread`` and the autoencoder's.

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
    """Score windows [B, T, D]; a contribution: how much the head's squared distance falls by a correction."""
    head, activation = Head(params["w"], params["v"]), ACTIVATIONS[spec.activation]
    seen, real = _forecast(params, windows), windows.mask[:, -1, :]
    whole = complete(seen.residual, real, params["precision"])
    y = respond(head, closeness(whole @ params["root"], spec.width), activation)
    off = _distance(head, spec, y) - _distance(head, spec, params["r"])
    shares = weighed(
        whole, jnp.ones_like(real), _seen_by(head, params["root"]), step_signatures(params["forecast"])
    )
    return Scores(off, jnp.where(real, shares[1], 0.0), seen.expected)


def _distance(head: Head, spec: OcnnSpec, y: jax.Array) -> jax.Array:
    """``c sqrt(2 (1 - y / y0))``: for small residuals and equal weights the root mean square of u."""
    none = closeness(jnp.zeros(head.v.shape[1], y.dtype), spec.width)
    missing = 1.0 - y / respond(head, none, ACTIVATIONS[spec.activation])
    return spec.width * jnp.sqrt(2.0 * jnp.maximum(missing, 0.0))


def _seen_by(head: Head, root: jax.Array) -> jax.Array:
    """The quadratic form [D, D] of residuals that a linear head's response falls by, near normal."""
    weights = jnp.maximum(head.w @ head.v, 0.0)
    return (root * (weights / jnp.maximum(jnp.mean(weights), 1e-12))[None, :]) @ root


def score_unweighted(params: Params, spec: OcnnSpec, windows: Windows) -> jax.Array:
    """Baseline [B]: the same features, V = I and w = 1, on the same scale."""
    z = closeness(_whitened(params, windows), spec.width)
    same = Head(jnp.ones(z.shape[1], z.dtype), jnp.eye(z.shape[1], dtype=z.dtype))
    return _distance(same, replace(spec, activation="linear"), respond(same, z, ACTIVATIONS["linear"]))


def score_squares(params: Params, spec: OcnnSpec, windows: Windows) -> jax.Array:
    """Baseline [B]: the root of the mean square of the same whitened residuals."""
    del spec
    whitened = _whitened(params, windows)
    return per_sensor(jnp.sum(whitened**2, axis=1), whitened.shape[1])


def _forecast(params: Params, windows: Windows) -> Forecast:
    return forecast(LstmWeights(**params["weights"]), params["forecast"], windows)


def _whitened(params: Params, windows: Windows) -> jax.Array:
    residual = _forecast(params, windows).residual
    return complete(residual, windows.mask[:, -1, :], params["precision"]) @ params["root"]


def closeness(whitened: jax.Array, width: float) -> jax.Array:
    """Closeness features z [..., D] of whitened residuals; ||z||^2 <= 1/2."""
    return jnp.exp(-0.5 * (whitened / width) ** 2) / (2.0 * whitened.shape[-1]) ** 0.5


def complete(residual: jax.Array, real: jax.Array, precision: jax.Array) -> jax.Array:
    """Residuals with masked sensors at their conditional mean, as long as if all were observed."""
    filled = fill(precision, residual, real)
    distance = jnp.sum(filled * (filled @ precision), axis=1)
    longer = as_if_all_observed(distance, real) / jnp.maximum(distance, 1e-12)
    factor = jnp.where(jnp.all(real, axis=1), 1.0, jnp.sqrt(jnp.maximum(longer, 0.0)))
    return filled * factor[:, None]


def refuse_collapse(
    loss: float, r: float, y: NDArray[np.float32], first: NDArray[np.float32], least: float
) -> None:
    """Refuse a fit that must not be used.

    Args:
        loss: OC-NN's loss at the end.
        r: Theorem 1's r at the end.
        y: [N] responses of windows.
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
            "head_learning_rate, raise anchor_weight, or leave this scorer out"
        )


SCORER = Scorer("ocnn", OcnnSpec, fit, score, starts_from="lstm_autoencoder")
