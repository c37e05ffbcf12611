"""Isolation forest on the whitened last samples: how few random cuts set a window apart.

    score = 2^(-E[h(u)] / c(n))     h the depth at which a tree isolates u, c(n) that of a random search among n rows

Liu, Ting & Zhou 2008 (ICDM). scikit-learn grows the trees; what is kept are their nodes, as arrays, and scoring walks
all trees in step. The score is scikit-learn's ``-score_samples``: about .5 for normal rows, at most 1.

Shape letters: B windows, E trees, N nodes of a tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from models.fitting import seed_of
from models.hyperparameters import Count, Lags, Searched
from models.scorer import Fitted, Params, Progress, Scorer, Scores, Windows
from models.whitening import fit_whitening, scores_of, whitened_samples


@dataclass(frozen=True)
class IsolationForestSpec:
    """Hyperparameters.

    Attributes:
        trees: E.
        samples: rows that each tree sees, at most.
        lags: samples before the last that are judged with it.
    """

    trees: Annotated[Count, Searched(50, 400)] = 100
    samples: Annotated[int, Meta(ge=2), Searched(64, 1024)] = 256
    lags: Lags = 1


def fit(rng: jax.Array, windows: Windows, spec: IsolationForestSpec, progress: Progress) -> Fitted:
    """Fit on normal windows.

    Args:
        rng: key.
        windows: [N, T, D] with T > ``spec.lags``.
        spec: hyperparameters.
        progress: called once.

    Returns:
        ``whitening`` (see `models.whitening`) and ``forest``: per node [E, N] ``feature``, ``threshold``, ``left``,
        ``right`` (a leaf's children are itself) and ``path``, the leaves' path lengths; ``typical`` [], c(n);
        ``steps`` [depth] of the deepest tree, for its length.

    Raises:
        FitRefused: too few fully real windows.
    """
    from sklearn.ensemble import IsolationForest

    whitening, rows = fit_whitening(windows, spec.lags)
    samples = min(spec.samples, len(rows))
    forest = IsolationForest(
        n_estimators=spec.trees,
        max_samples=samples,  # type: ignore[arg-type] # the stubs know only 'auto'
        random_state=seed_of(rng),
    )
    trees = [tree.tree_ for tree in forest.fit(np.asarray(rows)).estimators_]
    progress(1, 1, {"trees": float(len(trees))})
    return Fitted({"whitening": whitening, "forest": as_arrays(trees, samples)}, {})


def as_arrays(trees: list[Any], samples: int) -> dict[str, jax.Array]:
    """scikit-learn's trees over ``samples`` rows as arrays; see `fit`."""
    nodes = 2 * samples - 1  # at most: one shape whatever was grown
    return {
        "feature": _stacked([np.maximum(tree.feature, 0) for tree in trees], nodes, np.int32),
        "threshold": _stacked([_rounded_down(tree.threshold) for tree in trees], nodes, np.float32),
        "left": _stacked([_child(tree.children_left) for tree in trees], nodes, np.int32),
        "right": _stacked([_child(tree.children_right) for tree in trees], nodes, np.int32),
        "path": _stacked([_path_lengths(tree) for tree in trees], nodes, np.float32),
        "typical": jnp.asarray(_search_length(np.array([samples])), jnp.float32)[0],
        "steps": jnp.zeros(max(1, int(np.ceil(np.log2(samples)))), jnp.float32),
    }


def _stacked(parts: list[NDArray[Any]], nodes: int, dtype: type[Any]) -> jax.Array:
    return jnp.asarray(np.stack([np.pad(part, (0, nodes - len(part))) for part in parts]).astype(dtype))


def _child(children: NDArray[Any]) -> NDArray[Any]:
    return np.where(children < 0, np.arange(len(children)), children)


def _rounded_down(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not larger: float32 rows go the same way as at the float64 threshold."""
    near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near)


def _path_lengths(tree: Any) -> NDArray[np.float64]:
    """Depth of each node [N], at a leaf with what a search among its rows would add."""
    depth = np.zeros(tree.node_count)
    for node in range(tree.node_count):
        for child in (tree.children_left[node], tree.children_right[node]):
            if child >= 0:
                depth[child] = depth[node] + 1
    return depth + np.where(tree.children_left < 0, _search_length(tree.n_node_samples), 0.0)


def _search_length(rows: NDArray[Any]) -> NDArray[np.float64]:
    """c(n): mean path length of an unsuccessful search in a binary tree of n rows."""
    n = np.maximum(np.asarray(rows, np.float64), 1.0)
    grown = 2.0 * (np.log(np.maximum(n - 1.0, 1.0)) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.where(n > 2, grown, np.where(n == 2, 1.0, 0.0))


def isolation(forest: Params, rows: jax.Array) -> jax.Array:
    """Scores [B] of rows [B, L]."""
    tree = jnp.arange(forest["feature"].shape[0], dtype=jnp.int32)[None, :]
    row = jnp.arange(rows.shape[0], dtype=jnp.int32)[:, None]

    def descend(_: int, node: jax.Array) -> jax.Array:
        left = rows[row, forest["feature"][tree, node]] <= forest["threshold"][tree, node]
        return jnp.where(left, forest["left"][tree, node], forest["right"][tree, node])

    node = jnp.zeros((rows.shape[0], tree.shape[1]), jnp.int32)
    node = jax.lax.fori_loop(0, forest["steps"].shape[0], descend, node)
    return 2.0 ** (-jnp.mean(forest["path"][tree, node], axis=1) / forest["typical"])


def score(params: Params, spec: IsolationForestSpec, windows: Windows) -> Scores:
    """Score windows [B, T, D]; expected is the last sample's conditional mean."""
    del spec
    return scores_of(partial(isolation, params["forest"]), params["whitening"], windows)


SCORER = Scorer("isolation_forest", IsolationForestSpec, fit, score, features=whitened_samples)
"""The scorer."""
