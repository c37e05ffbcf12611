"""OC-NN on closeness features: how near to their forecasts the LSTM autoencoder's whitened errors are.

    u   = [P^1/2 r_T ; Q^1/2 z]               whitened forecast errors: the newest, and what the window's add up to
    z_j = (1 - u_j^2 / 2 c^2) / sqrt(2 F)     closeness: normal lies far from the origin, which OC-NN needs
    y   = <w, g(V z)>                         (`models.ocnn_head`); a window is anomalous when y < r

On z-scores instead of closeness OC-NN is near chance. The closeness is the Gaussian exp(-u^2 / 2 c^2) to first
order: it does not saturate, so that one very wrong sensor counts as much as it is wrong. What OC-NN learns by it:
a feature that strays in the worst windows of normal is worth little, and w is as large as closeness is reliable.
The encoder's weights stay trainable, anchored by the autoencoder's own losses.
Score: ``d(y) - d(r)`` with ``d(y) = c sqrt(2 (1 - y / y0))``, y0 the response to no error at all. It ranks as
r - y does and has its sign; d is a distance in standard deviations per sensor, as `models.var` scores are.

What the network adds shows only beside two rows over the same features: `score_unweighted` (w = 1) and
`score_squares` (sum of squares); with this closeness they rank alike.

Shape letters: B windows, L samples with a forecast, D sensors, F features (2 D; D without a memory), K hidden units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from models import lstm_autoencoder
from models.covariance import as_if_all_observed
from models.hyperparameters import Amount, Count, Searched, Share
from models.imputation import fill
from models.innovations import Band, Innovations, newest, onset_signatures, summed
from models.lstm import LstmWeights
from models.lstm_autoencoder import LstmAutoencoderSpec, innovations
from models.ocnn_head import ACTIVATIONS, Head, respond
from models.residuals import Weighed, per_sensor, step_signatures, weighed_together
from models.scorer import FitRefused, Fitted, Params, Progress, Scorer, Scores, Windows


@dataclass(frozen=True)
class OcnnSpec(LstmAutoencoderSpec):
    """Hyperparameters; those of the autoencoder that it starts from, and its own.

    Attributes:
        nu: share of training windows below r. Not the alert's nu.
        width: c, in standard deviations: beyond ``sqrt(2) c`` a feature counts against normal. Small values tell
            reliable features sharply from unreliable ones, large ones make all weights alike.
        activation: g, one of ``linear``, ``relu``, ``sigmoid`` (a hidden bias).
        alternations: epochs of gradient steps, each followed by Theorem 1's r.
        head_steps: steps on w alone before the rest is trained.
        head_learning_rate: of the gradient steps on w and V.
        encoder_learning_rate: Adam's, for the encoder beside them.
        anchor_weight: of the autoencoder's losses beside OC-NN's.
        min_spread: least standard deviation of y over r that is not a collapse.
    """

    nu: Annotated[Share, Searched(0.01, 0.2)] = 0.05
    width: Annotated[float, Meta(gt=0.0), Searched(1.0, 4.0)] = 2.0
    activation: Literal["linear", "relu", "sigmoid"] = "linear"
    alternations: Count = 4
    head_steps: Count = 1000
    head_learning_rate: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.02
    encoder_learning_rate: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.001
    anchor_weight: Amount = 1.0
    min_spread: Amount = 1e-5


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
        The autoencoder's parameters; ``root`` and ``slow_root`` [D, D], which whiten its errors; ``w`` [K], ``v``
        [K, F], ``r`` []; ``scale`` [] of whitened errors on rows that no forecast was fitted to; curves ``loss``,
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
    if ("slow_precision" in pretrained) != (spec.memory_weight < 1.0):
        raise FitRefused(
            f"ocnn: got memory_weight {spec.memory_weight:g} beside a pretrained autoencoder "
            f"{'with' if 'slow_precision' in pretrained else 'without'} a memory; hint: give both the same"
        )
    hidden = pretrained["weights"]["decoder_state"].shape[1]
    if hidden != spec.hidden:
        raise FitRefused(
            f"ocnn: got a pretrained autoencoder of {hidden} hidden units, expected {spec.hidden}; "
            "hint: give both scorers the same hidden"
        )
    trained = ocnn_training.train(key, pretrained, windows, spec, progress)
    return Fitted(trained.params, {**curves, **trained.curves})


class Whitening(NamedTuple):
    """Inverse normal covariances of the errors' bands and their roots, all [D, D].

    The slow band's are None without a memory.
    """

    precision: jax.Array
    root: jax.Array
    slow_precision: jax.Array | None
    slow_root: jax.Array | None


def _whitening(params: Params) -> Whitening:
    slow = (params["slow_precision"], params["slow_root"]) if "slow_root" in params else (None, None)
    return Whitening(params["precision"], params["root"], *slow)


def whole_bands(found: Innovations, by: Whitening, weight: float) -> list[jax.Array]:
    """The bands of innovations, each [B, D], masked sensors completed."""
    bands = [(newest(found), by.precision)]
    if by.slow_precision is not None:
        bands.append((summed(found, weight), by.slow_precision))
    return [complete(band, precision) for band, precision in bands]


def whitened(found: Innovations, by: Whitening, weight: float) -> jax.Array:
    """U [B, F]."""
    roots = [by.root] if by.slow_root is None else [by.root, by.slow_root]
    bands = whole_bands(found, by, weight)
    return jnp.concatenate([band @ root for band, root in zip(bands, roots, strict=True)], axis=1)


def score(params: Params, spec: OcnnSpec, windows: Windows) -> Scores:
    """Score windows [B, T, D]; a contribution: how much the head's squared distance falls by a correction."""
    head, by = Head(params["w"], params["v"]), _whitening(params)
    found = innovations(LstmWeights(**params["weights"]), params["forecast"], windows)
    features = closeness(whitened(found, by, spec.memory_weight) / params["scale"], spec.width)
    y = respond(head, features, ACTIVATIONS[spec.activation])
    off = _distance(head, params["scale"], spec, y) - _distance(head, params["scale"], spec, params["r"])
    contributions = jnp.where(windows.mask[:, -1, :], _contributions(params, spec, by, found), 0.0)
    return Scores(off, contributions, windows.values[:, -1, :] - found.residual[:, -1])


def _distance(head: Head, scale: jax.Array, spec: OcnnSpec, y: jax.Array) -> jax.Array:
    """``c sqrt(2 (1 - y / y0))``: with a linear g the root of the weighted mean square of u."""
    none = closeness(jnp.zeros(head.v.shape[1], y.dtype), spec.width)
    missing = 1.0 - y / respond(head, none, ACTIVATIONS[spec.activation])
    return scale * spec.width * jnp.sqrt(2.0 * jnp.maximum(missing, 0.0))


def _contributions(params: Params, spec: OcnnSpec, by: Whitening, found: Innovations) -> jax.Array:
    """By the quadratic form of the errors that a linear head's response falls by; [B, D]."""
    bands = whole_bands(found, by, spec.memory_weight)
    weights = jnp.maximum(params["w"] @ params["v"], 0.0)
    weights = weights / jnp.maximum(jnp.mean(weights), 1e-12)
    if by.slow_root is None:
        roots, signatures = [by.root], [step_signatures(params["forecast"])]
    else:
        length = found.residual.shape[1]
        roots = [by.root, by.slow_root]
        signatures = onset_signatures(params["forecast"], spec.memory_weight, length)
    shares = jnp.split(weights, len(bands))
    parts = [
        Weighed(band, jnp.ones_like(band, bool), (one * share[None, :]) @ one, signature)
        for band, one, share, signature in zip(bands, roots, shares, signatures, strict=True)
    ]
    return weighed_together(parts)[1]


def score_unweighted(params: Params, spec: OcnnSpec, windows: Windows) -> jax.Array:
    """Baseline [B]: the same features, V = I and w = 1, on the same scale."""
    z = closeness(_errors(params, spec, windows) / params["scale"], spec.width)
    same = Head(jnp.ones(z.shape[1], z.dtype), jnp.eye(z.shape[1], dtype=z.dtype))
    return _distance(
        same,
        params["scale"],
        replace(spec, activation="linear"),
        respond(same, z, ACTIVATIONS["linear"]),
    )


def score_squares(params: Params, spec: OcnnSpec, windows: Windows) -> jax.Array:
    """Baseline [B]: the root of the mean square of the same whitened errors."""
    u = _errors(params, spec, windows)
    return per_sensor(jnp.sum(u**2, axis=1), u.shape[1])


def _errors(params: Params, spec: OcnnSpec, windows: Windows) -> jax.Array:
    found = innovations(LstmWeights(**params["weights"]), params["forecast"], windows)
    return whitened(found, _whitening(params), spec.memory_weight)


def closeness(u: jax.Array, width: float) -> jax.Array:
    """Closeness features z [..., F] of whitened errors; 1 / sqrt(2 F) each where there is none."""
    return (1.0 - 0.5 * (u / width) ** 2) / (2.0 * u.shape[-1]) ** 0.5


def complete(band: Band, precision: jax.Array) -> jax.Array:
    """Errors [B, D] with masked sensors at their conditional mean, as long as if all were observed."""
    residual, real = band
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


def features(params: Params, spec: OcnnSpec, windows: Windows) -> jax.Array:
    """``g(V z)`` [B, K], what y is a weighted sum of."""
    z = closeness(_errors(params, spec, windows) / params["scale"], spec.width)
    return ACTIVATIONS[spec.activation](z @ params["v"].T)


SCORER = Scorer("ocnn", OcnnSpec, fit, score, starts_from="lstm_autoencoder", features=features)
