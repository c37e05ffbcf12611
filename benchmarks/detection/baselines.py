"""What every scorer must be measured against, each under the contract of `models.scorer`, so on the very same path.

Shape letters: B windows, T samples, D sensors, K centres, E trees, N nodes of a tree.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from models import ocnn, pca, registry
from models.registry import get_scorer
from models.scorer import FitRefused, Fitted, Params, Progress, Scorer, Scores, Windows


@dataclass(frozen=True)
class RandomSpec:
    """Hyperparameters.

    Attributes:
        seed: another one gives other scores.
    """

    seed: int = 0


def fit_random(rng: jax.Array, windows: Windows, spec: RandomSpec, progress: Progress) -> Fitted:
    """Learns nothing but a number that differs by the seed of training."""
    del spec
    progress(1, 1, {})
    salt = jax.random.randint(rng, (windows.values.shape[2],), 1, 2**30, jnp.int32)
    return Fitted({"salt": salt}, {})


def score_random(params: Params, spec: RandomSpec, windows: Windows) -> Scores:
    """A number that depends on the last sample, and on nothing that it means, uniform in [0, 1)."""
    last = windows.values[:, -1, :]
    bits = jax.lax.bitcast_convert_type(last, jnp.int32) ^ (params["salt"][None, :] + jnp.int32(spec.seed))
    number = jnp.zeros(last.shape[0], jnp.uint32)
    for sensor in range(last.shape[1]):
        number = (number ^ bits[:, sensor].astype(jnp.uint32)) * jnp.uint32(0x9E3779B1)
        number = number ^ (number >> jnp.uint32(15))
    uniform = (number >> jnp.uint32(8)).astype(jnp.float32) / jnp.float32(2**24)
    return Scores(uniform, jnp.zeros_like(last), jnp.zeros_like(last))


@dataclass(frozen=True)
class KMeansSpec:
    """Hyperparameters.

    Attributes:
        centres: K.
        samples: of a window's end that are compared.
    """

    centres: int = 8
    samples: int = 10


def fit_kmeans(rng: jax.Array, windows: Windows, spec: KMeansSpec, progress: Progress) -> Fitted:
    """K-means of the windows' ends; ``centres`` [K, samples, D]."""
    from sklearn.cluster import KMeans

    ends = _ends(windows, spec.samples)
    if len(ends) < 2 * spec.centres:
        raise FitRefused(f"kmeans: got {len(ends)} windows, expected at least {2 * spec.centres}")
    flat = ends.reshape(len(ends), -1)
    found = KMeans(spec.centres, n_init=3, random_state=_number(rng)).fit(flat)
    progress(1, 1, {})
    centres = found.cluster_centers_.reshape(spec.centres, *ends.shape[1:])
    return Fitted({"centres": jnp.asarray(centres, jnp.float32)}, {})


def score_kmeans(params: Params, spec: KMeansSpec, windows: Windows) -> Scores:
    """Distance to the nearest centre."""
    del spec
    centres = params["centres"]
    off = windows.values[:, None, -centres.shape[1] :, :] - centres[None]  # [B, K, samples, D]
    squares = jnp.sum(off**2, axis=2)  # [B, K, D]
    nearest = jnp.argmin(jnp.sum(squares, axis=2), axis=1)
    each = jnp.take_along_axis(squares, nearest[:, None, None], axis=1)[:, 0, :]
    return Scores(jnp.sqrt(jnp.sum(each, axis=1)), each, centres[nearest, -1, :])


@dataclass(frozen=True)
class DynamicPcaSpec(pca.PcaSpec):
    """`pca` with lags: Ku, Storer & Georgakis 1995."""

    lags: int = 2


@dataclass(frozen=True)
class IsolationForestSpec:
    """Hyperparameters.

    Attributes:
        trees: E.
        samples: rows that each tree sees, at most.
    """

    trees: int = 100
    samples: int = 256


def fit_forest(rng: jax.Array, windows: Windows, spec: IsolationForestSpec, progress: Progress) -> Fitted:
    """scikit-learn's isolation forest (Liu, Ting & Zhou 2008) on the last samples, as arrays [E, N]."""
    from sklearn.ensemble import IsolationForest

    rows = _ends(windows, 1)[:, 0, :]
    if len(rows) < 8:
        raise FitRefused(f"isolation_forest: got {len(rows)} windows, expected at least 8")
    samples = min(spec.samples, len(rows))
    found = IsolationForest(n_estimators=spec.trees, max_samples=samples, random_state=_number(rng)).fit(rows)
    progress(1, 1, {})
    trees = [tree.tree_ for tree in found.estimators_]
    nodes = max(tree.node_count for tree in trees)
    index = np.arange(nodes)
    stacked = {
        "feature": _padded([np.maximum(tree.feature, 0) for tree in trees], nodes).astype(np.int32),
        "threshold": _padded([tree.threshold for tree in trees], nodes).astype(np.float32),
        "left": _padded(
            [np.where(t.children_left < 0, index[: t.node_count], t.children_left) for t in trees], nodes
        ),
        "right": _padded(
            [np.where(t.children_right < 0, index[: t.node_count], t.children_right) for t in trees], nodes
        ),
        "path": _padded([_path_lengths(tree) for tree in trees], nodes).astype(np.float32),
    }
    arrays = {
        name: jnp.asarray(a.astype(np.int32) if a.dtype == np.int64 else a) for name, a in stacked.items()
    }
    steps = max(tree.max_depth for tree in trees)
    return Fitted(
        {
            **arrays,
            "steps": jnp.zeros(steps, jnp.float32),
            "typical": jnp.float32(_unsuccessful(np.array([samples]))[0]),
        },
        {},
    )


def score_forest(params: Params, spec: IsolationForestSpec, windows: Windows) -> Scores:
    """2^(-mean path length / typical path length); contributions are squared z-scores."""
    del spec
    last = windows.values[:, -1, :]

    def descend(node: jax.Array, row: jax.Array) -> jax.Array:
        tree = jnp.arange(node.shape[0], dtype=jnp.int32)
        goes_left = row[params["feature"][tree, node]] <= params["threshold"][tree, node]
        return jnp.where(goes_left, params["left"][tree, node], params["right"][tree, node])

    def of_row(row: jax.Array) -> jax.Array:
        node = jnp.zeros(params["feature"].shape[0], jnp.int32)
        for _ in range(params["steps"].shape[0]):
            node = descend(node, row)
        return jnp.mean(params["path"][jnp.arange(node.shape[0], dtype=jnp.int32), node])

    score = 2.0 ** (-jax.vmap(of_row)(last) / params["typical"])
    return Scores(score, last**2, jnp.zeros_like(last))


def _path_lengths(tree: Any) -> NDArray[np.float64]:
    """Depth of each node [N], with what an unsuccessful search among its rows would add at a leaf."""
    depth = np.zeros(tree.node_count)
    for node in range(tree.node_count):
        for child in (tree.children_left[node], tree.children_right[node]):
            if child >= 0:
                depth[child] = depth[node] + 1
    return depth + np.where(tree.children_left < 0, _unsuccessful(tree.n_node_samples), 0.0)


def _unsuccessful(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Mean path length of an unsuccessful search in a binary tree of so many rows."""
    n = np.maximum(np.asarray(rows, np.float64), 1.0)
    grown = 2.0 * (np.log(np.maximum(n - 1.0, 1.0)) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.where(n > 2, grown, np.where(n == 2, 1.0, 0.0))


def _padded(parts: list[NDArray[Any]], nodes: int) -> NDArray[Any]:
    return np.stack([np.pad(part, (0, nodes - len(part))) for part in parts])


def _ends(windows: Windows, samples: int) -> NDArray[np.float32]:
    """The last ``samples`` of all windows, masked entries as they are (0 or imputed)."""
    return np.asarray(windows.values)[:, -samples:, :]


def _number(rng: jax.Array) -> int:
    return int(jax.random.randint(rng, (), 0, 2**31 - 1, jnp.int32))


def untrained(name: str) -> Scorer:
    """A network before training: everything else (whitening, limits) is learnt as ever, its weights stay as drawn."""
    scorer = get_scorer(name)

    def fit(rng: jax.Array, windows: Windows, spec: Any, progress: Progress) -> Fitted:
        return scorer.fit(rng, windows, dataclasses.replace(spec, **_standing_still(spec)), progress)

    return Scorer(f"untrained_{name}", scorer.spec, fit, scorer.score)


def _standing_still(spec: Any) -> dict[str, Any]:
    rates = {one.name: 0.0 for one in dataclasses.fields(spec) if one.name.endswith("learning_rate")}
    if not rates:
        raise FitRefused("there is no learning rate that could be 0")
    return rates | {one.name: 1 for one in dataclasses.fields(spec) if one.name == "epochs"}


def same_features(name: str, function: str) -> Scorer:
    """OC-NN's own features without its network, by a function of `models.ocnn` that scores them otherwise."""
    scorer = get_scorer("ocnn")

    def score(params: Params, spec: Any, windows: Windows) -> Scores:
        return scorer.score(params, spec, windows)._replace(
            score=getattr(ocnn, function)(params, spec, windows)
        )

    return Scorer(name, scorer.spec, scorer.fit, score)


@functools.cache
def register_baselines() -> tuple[str, ...]:
    """Put the baselines into the registry of this process, unless nuwatch has a scorer of that name by now.

    Returns:
        The names of those that were put there.
    """
    scorers = (
        Scorer("random", RandomSpec, fit_random, score_random),
        Scorer("kmeans", KMeansSpec, fit_kmeans, score_kmeans),
        Scorer("dynamic_pca", DynamicPcaSpec, pca.fit, pca.score),
        Scorer("isolation_forest", IsolationForestSpec, fit_forest, score_forest),
        untrained("lstm_autoencoder"),
        untrained("ocnn"),
        same_features("ocnn_w1", "score_unweighted"),
        same_features("ocnn_squares", "score_squares"),
    )
    known = registry.scorer_names()
    added = [scorer for scorer in scorers if scorer.name not in known]
    for scorer in added:
        registry.register(scorer, listed=False)
    return tuple(scorer.name for scorer in added)
