"""GANomaly on the whitened last samples: how differently a window and its reconstruction are encoded.

    z = G_E(u),  u' = G_D(z),  z' = E(u')
    generator      `adversarial` ||mean f(u) - mean f(u')||^2 + `contextual` mean|u - u'| + `encoder` mean (z - z')^2
    discriminator  cross-entropy of telling u from u'; f its features
    score = sqrt((z - z')' S^-1 (z - z') / H),  S the normal covariance of z - z'

Akcay, Atapour-Abarghouei & Breckon 2018 (ACCV, arXiv:1805.06725). Two departures. The latent difference is whitened, so
that a latent that happens to be small counts as much as a large one. And the code has as many units as u has entries:
whitened rows have no direction that could be spared, and with fewer units faults along the spared ones are not seen.
What binds the generator is the bounded code, tanh: within normal it inverts itself, beyond it saturates, and z' stays
behind z.

Shape letters: B windows, L entries of u, H units of the code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from msgspec import Meta

from models.adversary import discriminator, discriminator_loss, feature_gap, optimiser
from models.covariance import inverse, shrunk_covariance
from models.hyperparameters import Amount, Count, Lags, Rate, Searched, Share
from models.layers import perceptron, perceptron_layers
from models.residuals import per_sensor
from models.scorer import FitRefused, Fitted, Params, Progress, Scorer, Scores, Windows
from models.whitening import fit_whitening, scores_of, whiten


@dataclass(frozen=True)
class GanomalySpec:
    """Hyperparameters.

    Attributes:
        code: units of the code (H); 0: as many as there are entries.
        width: units of the hidden layers.
        lags: samples before the last that are judged with it.
        adversarial: weight of the discriminator's feature gap.
        contextual: weight of the reconstruction.
        encoder: weight of the latent difference.
        epochs: at most so many.
        epoch_windows: windows drawn per epoch.
        batch: windows per gradient step.
        learning_rate: Adam's, of generator and discriminator.
        patience: epochs without a better validation loss before training stops.
        held_out: newest share of the windows, for validation.
    """

    code: Annotated[int, Meta(ge=0)] = 0
    width: Annotated[Count, Searched(16, 128)] = 64
    lags: Lags = 1
    adversarial: Annotated[Amount, Searched(0.1, 10.0)] = 1.0
    contextual: Annotated[Amount, Searched(5.0, 500.0)] = 50.0
    encoder: Annotated[Amount, Searched(0.1, 10.0)] = 1.0
    epochs: Count = 40
    epoch_windows: Count = 8192
    batch: Count = 64
    learning_rate: Rate = 0.002
    patience: Count = 5
    held_out: Share = 0.15


class Coded(NamedTuple):
    """A row through the generator; each [B, ..].

    Attributes:
        z: [B, H], its code.
        rebuilt: [B, L].
        again: [B, H], the code of what was rebuilt.
    """

    z: jax.Array
    rebuilt: jax.Array
    again: jax.Array


def generator(key: jax.Array, entries: int, spec: GanomalySpec) -> Params:
    """``encoder``, ``decoder`` and ``second``, the encoder of what was rebuilt."""
    keys, code = jax.random.split(key, 3), spec.code or entries
    return {
        "encoder": perceptron_layers(keys[0], (entries, spec.width, code)),
        "decoder": perceptron_layers(keys[1], (code, spec.width, entries)),
        "second": perceptron_layers(keys[2], (entries, spec.width, code)),
    }


def coded(weights: Params, rows: jax.Array) -> Coded:
    """Rows [B, L] through the generator."""
    z = perceptron(weights["encoder"], rows, jax.nn.leaky_relu)
    rebuilt = perceptron(weights["decoder"], jnp.tanh(z), jax.nn.leaky_relu)
    return Coded(z, rebuilt, perceptron(weights["second"], rebuilt, jax.nn.leaky_relu))


def generator_loss(weights: Params, judge: Params, rows: jax.Array, spec: GanomalySpec) -> jax.Array:
    """The three losses above, weighted."""
    seen = coded(weights, rows)
    return (
        spec.adversarial * feature_gap(judge, rows, seen.rebuilt)
        + spec.contextual * jnp.mean(jnp.abs(rows - seen.rebuilt))
        + spec.encoder * jnp.mean((seen.z - seen.again) ** 2)
    )


@dataclass(frozen=True)
class Turns:
    """A step of the generator, then one of the discriminator; the state is both and their optimisers' memories."""

    spec: GanomalySpec

    def start(self, key: jax.Array, entries: int) -> Any:
        """Both as drawn."""
        key_made, key_judge = jax.random.split(key)
        made = generator(key_made, entries, self.spec)
        judge = discriminator(key_judge, entries, self.spec.width)
        adam = optimiser(self.spec.learning_rate)
        return made, judge, adam.init(made), adam.init(judge)

    def step(self, state: Any, batch: jax.Array, key: jax.Array) -> tuple[Any, jax.Array]:
        """See `models.training.Task`."""
        from models.training import descend

        del key
        made, judge, memory_made, memory_judge = state
        adam = optimiser(self.spec.learning_rate)
        loss, gradient = jax.value_and_grad(generator_loss)(made, judge, batch, self.spec)
        made, memory_made = descend(adam, gradient, memory_made, made)
        gradient = jax.grad(discriminator_loss)(judge, batch, coded(made, batch).rebuilt)
        judge, memory_judge = descend(adam, gradient, memory_judge, judge)
        return (made, judge, memory_made, memory_judge), loss

    def judge(self, state: Any, held: jax.Array) -> jax.Array:
        """Mean absolute error [] of held-out rows rebuilt."""
        return jnp.mean(jnp.abs(held - coded(state[0], held).rebuilt))


def fit(rng: jax.Array, windows: Windows, spec: GanomalySpec, progress: Progress) -> Fitted:
    """Train on normal windows.

    Args:
        rng: key.
        windows: [N, T, D] in order of time, T > ``spec.lags``; NumPy views welcome.
        spec: hyperparameters.
        progress: called after every epoch with the losses.

    Returns:
        ``whitening`` (see `models.whitening`), ``generator`` (see `generator`), ``mean`` [H] and ``precision``
        [H, H] of normal latent differences; curves ``train`` and ``validation``.

    Raises:
        FitRefused: too few windows, a loss that is not finite, or a generator that rebuilds no better than 0.
    """
    from models import training  # here, so that optax stays off the scoring path

    whitening, rows = fit_whitening(windows, spec.lags)
    older, newest = training.rows_in_time(rows, windows.values.shape[1], spec.held_out)
    key_init, key_train = jax.random.split(rng)
    task = Turns(spec)
    state = task.start(key_init, rows.shape[1])
    schedule = training.Schedule(spec.epochs, spec.epoch_windows, spec.batch, spec.patience)
    trained = training.train(key_train, task, state, older, newest, schedule, progress)
    made = trained.state[0]
    refuse_useless(float(task.judge(trained.state, newest)), float(jnp.mean(jnp.abs(newest))))
    apart = difference(made, rows)
    mean = jnp.mean(apart, axis=0)
    precision = inverse(shrunk_covariance(apart - mean[None, :]))
    learnt = {"whitening": whitening, "generator": made, "mean": mean, "precision": precision}
    return Fitted(learnt, trained.curves)


def refuse_useless(error: float, nothing: float) -> None:
    """Refuse a generator that rebuilds held-out rows no better than their mean, 0.

    Raises:
        FitRefused: it does not.
    """
    if not error < nothing:
        raise FitRefused(
            f"ganomaly: collapsed: got a held-out error of {error:.3g}, expected less than the mean's {nothing:.3g}; "
            "hint: lower the learning rate, or use more epochs"
        )


def difference(made: Params, rows: jax.Array) -> jax.Array:
    """``z - z'`` [B, H] of rows [B, L]."""
    seen = coded(made, rows)
    return seen.z - seen.again


def score(params: Params, spec: GanomalySpec, windows: Windows) -> Scores:
    """Score windows [B, T, D]; expected is the last sample's conditional mean."""
    del spec

    def judge(rows: jax.Array) -> jax.Array:
        apart = difference(params["generator"], rows) - params["mean"][None, :]
        return per_sensor(jnp.sum(apart * (apart @ params["precision"]), axis=1), apart.shape[1])

    return scores_of(judge, params["whitening"], windows)


def features(params: Params, spec: GanomalySpec, windows: Windows) -> jax.Array:
    """The code z [B, H] of windows [B, T, D]."""
    del spec
    return coded(params["generator"], whiten(params["whitening"], windows).u).z


SCORER = Scorer("ganomaly", GanomalySpec, fit, score, features=features)
"""The scorer."""
