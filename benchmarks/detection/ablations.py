"""The section ``ablations``: what each step of `lstm_autoencoder` and `ocnn` buys, on the path that users run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.detection.baselines import register_baselines
from benchmarks.detection.contenders import Contender
from benchmarks.detection.contract import Request, Section
from benchmarks.detection.detect import Task, work
from benchmarks.detection.result import Result, section_of
from benchmarks.detection.workers import each
from models import registry
from models.ocnn_head import theorem1_r
from models.scorer import Fitted, Params, Progress, Scorer, Scores, Windows

_DATA_SETS: Final = ("skab", "tep")

CONTENDERS: Final = (
    Contender("pca", {"pca": {}}, False),
    Contender("var", {"var": {}}, False),
    Contender("var, two bands", {"var": {"memory_weight": 0.2}}, False),
    Contender("lstm_autoencoder", {"lstm_autoencoder": {}}, True),
    Contender("lstm_autoencoder, newest error alone", {"lstm_autoencoder": {"memory_weight": 1.0}}, True),
    Contender("lstm_autoencoder, no decoder", {"lstm_autoencoder": {"reconstruction_weight": 0.0}}, True),
    Contender(
        "lstm_autoencoder, linear only", {"lstm_autoencoder": {"learning_rate": 0.0, "epochs": 1}}, True
    ),
    Contender("ocnn", {"ocnn": {}}, True),
    Contender("same features, w = 1", {"ocnn_w1": {}}, True),
    Contender("same features, sum of squares", {"ocnn_squares": {}}, True),
    Contender("ocnn, newest error alone", {"ocnn": {"memory_weight": 1.0}}, True),
    Contender("ocnn, encoder frozen", {"ocnn": {"encoder_learning_rate": 0.0}}, True),
    Contender("ocnn, w alone", {"ocnn": {"encoder_learning_rate": 0.0, "head_learning_rate": 0.0}}, True),
    Contender("ocnn as printed (sigmoid, z-scores)", {"ocnn_as_printed": {}}, True),
)
"""What is compared; always with the same smoother."""


def ablations(request: Request) -> Section:
    """The section; ``request.scorers`` chooses among `CONTENDERS` by name."""
    tasks = [
        Task(name, request.data, request.quick, contender, seed, None, request.keep)
        for name in request.datasets or _DATA_SETS
        for contender in CONTENDERS
        if not request.scorers or contender.name in request.scorers
        for seed in (request.seeds if contender.seeded else request.seeds[:1])
    ]
    request.teller.stage("ablations", len(tasks))
    done: dict[int, Result] = {}
    for place, result in each(ablated, [[task] for task in tasks], request.jobs):
        done[place] = result
        request.teller.step(f"{result.dataset} {result.contender} seed {result.seed}")
    found = section_of([done[place] for place in range(len(tasks))], ())
    return Section("ablations", found.tables, (), found.figures, found.notes)


def ablated(task: Task) -> Result:
    """Run one task, where the scorers that only this section knows are registered."""
    register_baselines()
    if "ocnn_as_printed" not in registry.scorer_names():
        registry.register(AS_PRINTED, listed=False)
    return work(task)


@dataclass(frozen=True)
class AsPrintedSpec:
    """Hyperparameters of OC-NN as the paper prints it.

    Attributes:
        hidden: K.
        nu: share of training rows below r.
        epochs: of gradient steps, each followed by Theorem 1's r.
        steps: gradient steps per epoch, each on all rows.
        learning_rate: Adam's.
    """

    hidden: int = 32
    nu: float = 0.05
    epochs: int = 20
    steps: int = 25
    learning_rate: float = 0.003


class _Layers(NamedTuple):
    w: jax.Array
    v: jax.Array


def fit_as_printed(rng: jax.Array, windows: Windows, spec: AsPrintedSpec, progress: Progress) -> Fitted:
    """Chalapathy, Menon & Chawla 2019: y = <w, sigmoid(V x)> on the last sample's z-scores, V and w penalised."""
    rows = jnp.asarray(np.asarray(windows.values)[:, -1, :])
    drawn = jax.random.normal(rng, (spec.hidden, rows.shape[1] + 1)) * rows.shape[1] ** -0.5
    layers = _Layers(drawn[:, 0], drawn[:, 1:])
    state: Any = optax.adam(spec.learning_rate).init(layers)
    for done in range(1, spec.epochs + 1):
        r = theorem1_r(_respond(layers, rows), spec.nu)
        layers, state = _epoch(spec, layers, state, r, rows)
        progress(done, spec.epochs, {"r": float(r)})
    return Fitted({**layers._asdict(), "r": theorem1_r(_respond(layers, rows), spec.nu)}, {})


def _respond(layers: _Layers, rows: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(rows @ layers.v.T) @ layers.w


@partial(jax.jit, static_argnums=0)
def _epoch(
    spec: AsPrintedSpec, layers: _Layers, state: Any, r: jax.Array, rows: jax.Array
) -> tuple[_Layers, Any]:
    def loss(layers: _Layers) -> jax.Array:
        hinge = jnp.mean(jax.nn.relu(r - _respond(layers, rows))) / spec.nu
        return 0.5 * jnp.sum(layers.w**2) + 0.5 * jnp.sum(layers.v**2) + hinge - r

    def step(carry: tuple[_Layers, Any], _: None) -> tuple[tuple[_Layers, Any], None]:
        layers, state = carry
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer count
            updates, state = optax.adam(spec.learning_rate).update(jax.grad(loss)(layers), state)
        moved: Any = optax.apply_updates(layers, updates)
        return (moved, state), None

    return jax.lax.scan(step, (layers, state), length=spec.steps)[0]


def score_as_printed(params: Params, spec: AsPrintedSpec, windows: Windows) -> Scores:
    """R - y; contributions are squared z-scores."""
    del spec
    last = windows.values[:, -1, :]
    y = _respond(_Layers(params["w"], params["v"]), last)
    return Scores(params["r"] - y, last**2, jnp.zeros_like(last))


AS_PRINTED: Final = Scorer("ocnn_as_printed", AsPrintedSpec, fit_as_printed, score_as_printed)
