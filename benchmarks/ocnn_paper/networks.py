"""The methods that train by gradients, on images: the objectives are those of the scorers in `models`.

Each is a function of keys, a fleet and the networks that were trained before it, and gives scores [K, J] by name. The
networks differ from the scorers' (images instead of windows); losses, optimisers, proximal step, centre, radius,
Theorem 1 and the search of AnoGAN are imported from there.

Shape letters: K networks, M images of a network, J judged images, B images of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import optax

from benchmarks.ocnn_paper import images
from benchmarks.ocnn_paper.fleet import Bound, Fleet, Keys, Length, Tell, each, train
from benchmarks.ocnn_paper.images import ImageSpec
from benchmarks.ocnn_paper.mnist import ANOMALOUS, SIDE
from models import anogan, dense_autoencoder
from models.adversary import seen_features
from models.anogan import AnoganSpec, Pair
from models.autoencoder import AutoencoderSpec, Descent, Kind
from models.deep_svdd import Ball, DeepSvddSpec, ball_around, distances, with_radius
from models.deep_svdd import Descent as SvddDescent
from models.layers import dense_layer
from models.ocnn_head import ACTIVATIONS, Head, ocnn_loss, respond, theorem1_r
from models.robust_autoencoder import RobustAutoencoderSpec, RobustDescent, sparse_part
from models.scorer import Params, Windows
from models.training import adam, descend


class Run(NamedTuple):
    """What a method is given.

    Attributes:
        keys: [K].
        fleet: images.
        tell: progress.
        pretrained: weights of the convolutional autoencoders [K, ..] of the same images and seeds.
        nu: known share of anomalies, for those that ask for one.
        quick: few epochs: shows that it works.
    """

    keys: Keys
    fleet: Fleet
    tell: Tell
    pretrained: Callable[[], Params]
    nu: float
    quick: bool

    def length(self, epochs: int, batch: int) -> Length:
        """So many epochs, or two where it is to be quick."""
        return Length(2 if self.quick else epochs, batch)

    def steps(self, epochs: int, batch: int) -> int:
        """In so many epochs."""
        return epochs * (self.fleet.least // min(batch, self.fleet.least))


Scores = Mapping[str, jax.Array]
"""By what follows the method's name, [K, J]: the higher, the more anomalous."""
Method = Callable[[Run], Scores]

RELATIVE: Final = "_relative"
"""The score of an autoencoder by the share that is not rebuilt: normalised, images of thin strokes are bright."""
TWO_SIDED: Final = "_two_sided"
"""The score of OC-NN by the distance from its middle."""

# -- autoencoders -------------------------------------------------------------------------------------------------

CONV: Final = ImageSpec(epochs=10)
LONG: Final = ImageSpec(epochs=150)
"""As many epochs as the paper's code begins with."""
SMALL: Final = ImageSpec(code=12)
DENSE: Final = AutoencoderSpec(
    code=16, width=256, epochs=20, batch=100, learning_rate=0.003, weight_decay=0.000001
)
WIDE: Final = replace(DENSE, code=32, width=1024, epochs=100, learning_rate=0.001)
"""Enough weights and epochs to learn its images by heart, as the paper's network has."""
ROBUST: Final = RobustAutoencoderSpec(**{**vars(CONV), "penalty": 2.0, "warm_up": 4})


def conv_weights(run: Run) -> Params:
    """Convolutional autoencoders (the paper's DCAE)."""
    return _descended(run, images.KIND, CONV)


def conv_autoencoder(run: Run) -> Scores:
    """What they do not rebuild."""
    return _rest(images.KIND, CONV, _settled(run.pretrained(), run.fleet), run.fleet)


def small_autoencoder(run: Run) -> Scores:
    """The same through a narrower code."""
    return _rest(images.KIND, SMALL, _settled(_descended(run, images.KIND, SMALL), run.fleet), run.fleet)


def long_autoencoder(run: Run) -> Scores:
    """The same for longer."""
    return _rest(images.KIND, LONG, _settled(_descended(run, images.KIND, LONG), run.fleet), run.fleet)


def plain_autoencoder(run: Run) -> Scores:
    """The scorer `dense_autoencoder`'s network."""
    return _rest(dense_autoencoder.KIND, DENSE, _descended(run, dense_autoencoder.KIND, DENSE), run.fleet)


def wide_autoencoder(run: Run) -> Scores:
    """The same with more weights, for longer."""
    return _rest(dense_autoencoder.KIND, WIDE, _descended(run, dense_autoencoder.KIND, WIDE), run.fleet)


def robust_autoencoder(run: Run) -> Scores:
    """Convolutional autoencoders of X - S: whole images may be left out (the paper's RCAE)."""
    windows = _windows(run.fleet.learn)
    core = _annealed(images.KIND, ROBUST, run)
    task, states = RobustDescent(core), each(Bound(_start, (core,)), run.keys)
    data = (windows, jnp.zeros_like(windows.values))
    warm = run.length(ROBUST.warm_up, ROBUST.batch)
    states = train(run.keys, task, states, data, run.fleet, warm, run.tell)
    rest = run.length(ROBUST.epochs - ROBUST.warm_up, ROBUST.batch)
    sparse = Bound(_renewed, (images.KIND, ROBUST))
    states = train(_next(run.keys), task, states, data, run.fleet, rest, run.tell, sparse)
    return _rest(images.KIND, ROBUST, _settled(states[0], run.fleet), run.fleet)


def _renewed(kind: Kind, spec: RobustAutoencoderSpec, state: Any, data: Any) -> Any:
    """S by the proximal step."""
    return state, (data[0], sparse_part(kind, spec, state[0], *data))


@dataclass(frozen=True)
class Annealed(Descent):
    """With a learning rate that falls to nothing along half a cosine within so many steps."""

    steps: int

    def optimiser(self) -> Any:
        """See `models.autoencoder.Descent`."""
        return _falling(self.spec, self.steps)


def _falling(spec: AutoencoderSpec | DeepSvddSpec, steps: int) -> optax.GradientTransformation:
    rate: Any = optax.cosine_decay_schedule(spec.learning_rate, steps)
    return adam(rate, spec.weight_decay)


def _annealed(kind: Kind, spec: AutoencoderSpec, run: Run) -> Annealed:
    return Annealed(kind, spec, run.steps(spec.epochs, spec.batch))


def _descended(run: Run, kind: Kind, spec: AutoencoderSpec) -> Params:
    core, windows = _annealed(kind, spec, run), _windows(run.fleet.learn)
    length = run.length(spec.epochs, spec.batch)
    states = each(Bound(_start, (core,)), run.keys)
    return train(run.keys, core, states, windows, run.fleet, length, run.tell)[0]


def _start(core: Descent, key: jax.Array) -> Any:
    return core.start(key, _windows(jnp.zeros((1, SIDE, SIDE))))


def _windows(learn: jax.Array) -> Windows:
    return Windows(learn, jnp.ones(learn.shape, bool))


def _settled(weights: Params, fleet: Fleet) -> Params:
    """Convolutional autoencoders with the moments of their encoders."""
    return {**weights, "encoder": each(Bound(images.settled), weights["encoder"], fleet.learn)}


def _rest(kind: Kind, spec: AutoencoderSpec, weights: Params, fleet: Fleet) -> Scores:
    return each(Bound(_not_rebuilt, (kind, spec)), weights, fleet.judge)


def _not_rebuilt(kind: Kind, spec: AutoencoderSpec, weights: Params, judge: jax.Array) -> Scores:
    """Summed squares [J] of what is not rebuilt, and their share of the image's own about its background."""
    rest = jnp.sum((kind.rebuild(weights, spec, judge) - judge) ** 2, axis=(1, 2))
    background = jnp.min(judge, axis=(1, 2), keepdims=True)
    return {"": rest, RELATIVE: rest / jnp.sum((judge - background) ** 2, axis=(1, 2))}


def _next(keys: Keys) -> Keys:
    return jax.vmap(partial(jax.random.fold_in, data=1_000_000))(keys)


# -- Deep SVDD ----------------------------------------------------------------------------------------------------

SVDD: Final = DeepSvddSpec(code=CONV.code, epochs=10, batch=100, learning_rate=0.001, weight_decay=0.000001)
SOFT: Final = replace(SVDD, objective="soft_boundary")
WARM_UP: Final = 5
"""Epochs with a radius of 0, after which it is the quantile, as in the authors' code."""
_CODED_R: Final = 0.1
_CODED_NU: Final = 0.2


@dataclass(frozen=True)
class AnnealedSvdd(SvddDescent):
    """The same as `Annealed`."""

    steps: int = 0

    def optimiser(self) -> Any:
        """See `models.deep_svdd.Descent`."""
        return _falling(self.spec, self.steps)


@dataclass(frozen=True)
class AsCoded(AnnealedSvdd):
    """What the OC-NN of the paper's code is on MNIST: a soft boundary entry by entry, of a radius that stays .1."""

    def loss(self, ball: Ball, rows: jax.Array) -> jax.Array:
        """See `models.deep_svdd.Descent`."""
        off = (images.encode(ball.layers, rows) - ball.centre[None, :]) ** 2
        return jnp.mean(_CODED_R**2 + jnp.sum(jax.nn.relu(off - _CODED_R**2), axis=1)) / self.spec.nu


def deep_svdd(run: Run) -> Scores:
    """One-class."""
    return _svdd(run, AnnealedSvdd, SVDD)


def svdd_from_scratch(run: Run) -> Scores:
    """One-class, from the encoder as it was drawn."""
    core = _annealed(images.KIND, CONV, run)
    drawn = each(Bound(_start, (core,)), run.keys)[0]
    return _svdd(run._replace(pretrained=lambda: drawn), AnnealedSvdd, SVDD)


def soft_svdd(run: Run) -> Scores:
    """Soft boundary."""
    return _svdd(run, AnnealedSvdd, replace(SOFT, nu=run.nu))


def soft_svdd_tenth(run: Run) -> Scores:
    """Soft boundary with the larger nu of Ruff et al. 2018."""
    return _svdd(run, AnnealedSvdd, replace(SOFT, nu=0.1))


def ocnn_as_coded(run: Run) -> Scores:
    """The paper's code under the name of OC-NN, with its nu and epochs."""
    return _svdd(run, AsCoded, replace(SVDD, nu=_CODED_NU))


def _svdd(run: Run, kind: type[AnnealedSvdd], spec: DeepSvddSpec) -> Scores:
    """From the encoder of the autoencoder, the centre from its first pass."""
    first = Bound(_first_ball, (run.fleet.least, spec.nu))
    balls = each(first, run.pretrained()["encoder"], run.fleet.learn)
    task = kind(spec, images.encode, run.steps(spec.epochs, spec.batch))
    states, learn = each(Bound(kind.start, (task,)), balls), run.fleet.learn
    if spec.objective == "one_class":
        length = run.length(spec.epochs, spec.batch)
        states = train(run.keys, task, states, learn, run.fleet, length, run.tell)
    else:
        states = (states[0]._replace(radius=jnp.zeros_like(states[0].radius)), states[1])
        warm = run.length(WARM_UP, spec.batch)
        states = train(run.keys, task, states, learn, run.fleet, warm, run.tell)
        new_radius = Bound(_new_radius, (run.fleet.least, spec.nu))
        states, _ = each(new_radius, states, learn)
        rest = run.length(spec.epochs - WARM_UP, spec.batch)
        states = train(_next(run.keys), task, states, learn, run.fleet, rest, run.tell, new_radius)
    return {"": each(Bound(_distances), states[0], run.fleet.learn, run.fleet.judge)}


def _first_ball(count: int, nu: float, layers: Params, learn: jax.Array) -> Ball:
    return ball_around(images.settled(layers, learn), learn[:count], nu, images.encode)._replace(
        layers=layers
    )


def _new_radius(count: int, nu: float, state: Any, learn: jax.Array) -> Any:
    found = with_radius(_at_rest(state[0], learn), learn[:count], nu, images.encode)
    return (state[0]._replace(radius=found.radius), state[1]), learn


def _distances(ball: Ball, learn: jax.Array, judge: jax.Array) -> jax.Array:
    return distances(_at_rest(ball, learn), judge, images.encode)


def _at_rest(ball: Ball, learn: jax.Array) -> Ball:
    """With the moments of its encoder."""
    return ball._replace(layers=images.settled(ball.layers, learn))


# -- OC-NN --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OcnnSpec:
    """Hyperparameters of OC-NN as printed.

    Attributes:
        hidden: K of V.
        activation: g.
        nu: share of images below r.
        epochs: of gradient steps, each followed by Theorem 1's r.
        batch: images per step.
        learning_rate: Adam's.
        encoder: whether the encoder's weights are trained too.
    """

    hidden: int = 32
    activation: str = "linear"
    nu: float = ANOMALOUS
    epochs: int = 10
    batch: int = 100
    learning_rate: float = 0.0001
    encoder: bool = True


class OneClass(NamedTuple):
    """What the steps move."""

    head: Head
    encoder: Params


@dataclass(frozen=True)
class Alternation:
    """Gradient steps on w, V and the encoder with r fixed; the state is they, the optimiser's memory and r."""

    spec: OcnnSpec

    def start(self, key: jax.Array, encoder: Params) -> Any:
        """The head as drawn, r = 0."""
        key_w, key_v = jax.random.split(key)
        code = encoder["code"]["kernel"].shape[1]
        v = dense_layer(key_v, code, self.spec.hidden, bias=False)["kernel"].T
        w = dense_layer(key_w, self.spec.hidden, 1, bias=False)["kernel"][:, 0]
        moved = OneClass(Head(w, v), encoder)
        return moved, adam(self.spec.learning_rate).init(moved), jnp.zeros(())  # type: ignore[arg-type] # a tree

    def step(self, state: Any, batch: jax.Array, key: jax.Array) -> tuple[Any, jax.Array]:
        """See `models.training.Task`."""
        del key
        moved, memory, r = state
        loss, gradient = jax.value_and_grad(lambda each: self.loss(each, batch, r))(moved)
        if not self.spec.encoder:
            gradient = gradient._replace(encoder=jax.tree.map(jnp.zeros_like, gradient.encoder))
        moved, memory = descend(adam(self.spec.learning_rate), gradient, memory, moved)
        return (moved, memory, r), loss

    def judge(self, state: Any, held: jax.Array) -> jax.Array:
        """The printed loss."""
        return self.loss(state[0], held, state[2])

    def loss(self, moved: OneClass, batch: jax.Array, r: jax.Array) -> jax.Array:
        """``1/2 ||w||^2 + 1/2 ||V||^2 + 1/nu mean(max(0, r - y)) - r``."""
        y = self.respond(moved, batch)
        return ocnn_loss(moved.head, jnp.zeros_like(moved.head.v), y, r, self.spec.nu)

    def respond(self, moved: OneClass, batch: jax.Array) -> jax.Array:
        """Y [B]."""
        return respond(moved.head, images.encode(moved.encoder, batch), ACTIVATIONS[self.spec.activation])


def ocnn(run: Run) -> Scores:
    """From the encoder of the autoencoder, whose weights stay trainable."""
    return _ocnn(run, OcnnSpec(nu=run.nu))


def ocnn_sigmoid(run: Run) -> Scores:
    """With a sigmoid g."""
    return _ocnn(run, OcnnSpec(nu=run.nu, activation="sigmoid"))


def ocnn_frozen(run: Run) -> Scores:
    """With the encoder as it was trained by the autoencoder."""
    return _ocnn(run, OcnnSpec(nu=run.nu, encoder=False))


def _ocnn(run: Run, spec: OcnnSpec) -> Scores:
    task = Alternation(spec)
    states = each(Bound(Alternation.start, (task,)), run.keys, run.pretrained()["encoder"])
    new_r = Bound(_new_r, (task, run.fleet.least))
    states, _ = each(new_r, states, run.fleet.learn)
    length = run.length(task.spec.epochs, task.spec.batch)
    states = train(run.keys, task, states, run.fleet.learn, run.fleet, length, run.tell, new_r)
    return each(Bound(_below, (task, run.fleet.least)), states, run.fleet.learn, run.fleet.judge)


def _new_r(task: Alternation, count: int, state: Any, learn: jax.Array) -> Any:
    y = _responses(task, state[0], learn, learn[:count])
    return (state[0], state[1], theorem1_r(y, task.spec.nu)), learn


def _below(task: Alternation, count: int, state: Any, learn: jax.Array, judge: jax.Array) -> Scores:
    """How far below r [J]; and how far from the learnt images' median, on either side, which OC-NN does not look at."""
    y, middle = (_responses(task, state[0], learn, rows) for rows in (judge, learn[:count]))
    return {"": state[2] - y, TWO_SIDED: jnp.abs(y - jnp.median(middle))}


def _responses(task: Alternation, moved: OneClass, learn: jax.Array, rows: jax.Array) -> jax.Array:
    """With the moments of the encoder."""
    return task.respond(moved._replace(encoder=images.settled(moved.encoder, learn)), rows)


# -- AnoGAN -------------------------------------------------------------------------------------------------------

ANOGAN: Final = AnoganSpec(noise=32, width=256, search_steps=30, epochs=20, batch=100, learning_rate=0.0005)


def ano_gan(run: Run) -> Scores:
    """Adversarial pairs of dense layers; the search for the nearest image that they can make."""
    task, entries = anogan.Turns(ANOGAN), SIDE * SIDE
    states = each(Bound(_first_pair, (task, entries)), run.keys)
    learn = run.fleet.learn.reshape(*run.fleet.learn.shape[:2], entries)
    length = run.length(ANOGAN.epochs, ANOGAN.batch)
    states = train(run.keys, task, states, learn, run.fleet, length, run.tell)
    return {"": each(Bound(_searched), states[0], run.fleet.judge)}


def _first_pair(task: anogan.Turns, entries: int, key: jax.Array) -> Any:
    return task.start(anogan.first_pair(key, entries, task.spec))


def _searched(pair: Pair, judge: jax.Array) -> jax.Array:
    """``.9 sum |x - G(z*)| + .1 sum |f(x) - f(G(z*))|`` [J], as printed."""
    rows = judge.reshape(judge.shape[0], -1)
    made = anogan.nearest(pair, rows, ANOGAN)
    gap = seen_features(pair.discriminator, rows) - seen_features(pair.discriminator, made)
    weight = ANOGAN.discrimination
    return (1.0 - weight) * jnp.sum(jnp.abs(rows - made), axis=1) + weight * jnp.sum(jnp.abs(gap), axis=1)


METHODS: Final[Mapping[str, Method]] = {
    "conv_autoencoder": conv_autoencoder,
    "deep_svdd": deep_svdd,
    "robust_autoencoder": robust_autoencoder,
    "deep_svdd_soft": soft_svdd,
    "ocnn": ocnn,
    "ocnn_as_coded": ocnn_as_coded,
    "anogan": ano_gan,
    "dense_autoencoder": plain_autoencoder,
    "conv_autoencoder_long": long_autoencoder,
    "conv_autoencoder_12": small_autoencoder,
    "dense_autoencoder_wide": wide_autoencoder,
    "deep_svdd_soft_tenth": soft_svdd_tenth,
    "deep_svdd_scratch": svdd_from_scratch,
    "ocnn_sigmoid": ocnn_sigmoid,
    "ocnn_frozen": ocnn_frozen,
}
"""In the order in which they are run."""
