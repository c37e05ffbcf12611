"""The paper's synthetic experiment: 190 normal rows of N(0, 2) and 10 anomalous ones of N(0, 10), of 512 entries each.

OC-NN is as printed: y = <w, g(V x)>, no biases, ``1/2 ||w||^2 + 1/2 ||V||^2 + 1/nu mean(max(0, r - y)) - r``, gradient
steps on w and V with r fixed, then r is the nu-quantile of y. nu is the known share of anomalies, 5 %.

Two figures: of the rows that were learnt from (transductive, the paper's), and of fresh rows of the same distributions
(`fresh`). The second is .5 for any w and V: y less a constant is odd in x for linear and sigmoid g, and x and -x are as
likely, so anomalies are as often above normal rows as below (docs/ocnn-paper.md).

Shape letters: N rows, L entries, K hidden units.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.ocnn_paper.kept import Kept, Result
from benchmarks.ocnn_paper.mnist import auc

NORMAL: Final = 190
ANOMALOUS: Final = 10
ENTRIES: Final = 512
FRESH: Final = 50
"""Times as many fresh rows as were learnt from."""
_HIDDEN: Final = 32
_STEPS: Final = 2000
_RATE: Final = 0.001
_NU: Final = ANOMALOUS / (NORMAL + ANOMALOUS)

Rows = NDArray[np.float32]


class Drawn(NamedTuple):
    """Rows [N, L] and which of them are anomalous [N]."""

    rows: Rows
    anomalous: NDArray[np.bool_]


Judge = Callable[[Rows], NDArray[np.floating]]
"""Scores of rows."""


def drawn(rng: np.random.Generator, times: int = 1) -> Drawn:
    """So many times the paper's rows."""
    normal = rng.normal(0.0, 2.0, (times * NORMAL, ENTRIES))
    anomalous = rng.normal(0.0, 10.0, (times * ANOMALOUS, ENTRIES))
    rows = np.concatenate([normal, anomalous]).astype(np.float32)
    return Drawn(rows, np.arange(len(rows)) >= len(normal))


def as_printed(activation: str, rows: Rows, seed: int) -> Judge:
    """OC-NN, fitted to rows."""
    import jax
    import jax.numpy as jnp

    from models.ocnn_head import ACTIVATIONS, Head, ocnn_loss, respond, theorem1_r

    g, learn = ACTIVATIONS[activation], jnp.asarray(rows)

    def loss(head: Head, r: jax.Array) -> jax.Array:
        return ocnn_loss(head, jnp.zeros_like(head.v), respond(head, learn, g), r, _NU)

    def step(_: int, state: tuple[Head, jax.Array]) -> tuple[Head, jax.Array]:
        head, r = state
        gradient = jax.grad(loss)(head, r)
        head = jax.tree.map(lambda weight, slope: weight - _RATE * slope, head, gradient)
        return head, theorem1_r(respond(head, learn, g), _NU)

    key_w, key_v = jax.random.split(jax.random.key(seed))
    w = _HIDDEN**-0.5 * jax.random.normal(key_w, (_HIDDEN,), jnp.float32)
    v = ENTRIES**-0.5 * jax.random.normal(key_v, (_HIDDEN, ENTRIES), jnp.float32)
    start = (Head(w, v), jnp.float32(0.0))
    head, r = jax.jit(lambda state: jax.lax.fori_loop(0, _STEPS, step, state))(start)
    return lambda rows: np.asarray(r - respond(head, jnp.asarray(rows), g))


def machine(kernel: str, rows: Rows, seed: int) -> Judge:
    """One-class SVM, fitted to rows."""
    from sklearn.svm import OneClassSVM

    del seed
    fitted = OneClassSVM(kernel=kernel, nu=_NU, gamma="scale").fit(rows)  # type: ignore[arg-type] # a name
    return lambda rows: -fitted.decision_function(rows)


METHODS: Final[Mapping[str, Callable[[Rows, int], Judge]]] = {
    "ocnn_linear": partial(as_printed, "linear"),
    "ocnn_sigmoid": partial(as_printed, "sigmoid"),
    "ocsvm_linear": partial(machine, "linear"),
    "ocsvm_rbf": partial(machine, "rbf"),
}


def run(seeds: tuple[int, ...], kept: Kept, tell: Callable[[str], None]) -> None:
    """Run what is not kept yet, and keep it."""
    for seed in seeds:
        for method, fit in METHODS.items():
            if ("synthetic", "fresh", method, 0, seed) not in kept:
                kept.put(judged(method, fit, seed))
        tell(f"synthetic: seed {seed}")


def judged(method: str, fit: Callable[[Rows, int], Judge], seed: int) -> list[Result]:
    """Both figures of a method."""
    rng, begun = np.random.default_rng(seed), time.monotonic()
    learnt, fresh = drawn(rng), drawn(rng, FRESH)
    judge = fit(learnt.rows, seed)
    spent = time.monotonic() - begun
    return [
        Result("synthetic", protocol, method, 0, seed, auc(judge(each.rows), each.anomalous), spent)
        for protocol, each in (("transductive", learnt), ("fresh", fresh))
    ]
