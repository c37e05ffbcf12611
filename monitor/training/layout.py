"""One scorer's features of windows, laid out in two dimensions.

Principal components keep distances at large; t-SNE keeps neighbours (van der Maaten & Hinton 2008, JMLR 9:2579; by
scikit-learn). In the second neither the distance between clusters nor their size means anything, so every window's
nearest ones among the features themselves go beside the pictures.

Shape letters: n windows, T samples, D sensors, F features, K nearest.
"""

from __future__ import annotations

import jax
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from models.bundle import TrainedScorer
from models.imputation import Imputation, impute
from models.registry import get_scorer
from models.scorer import Params, Windows

NEAREST = 10
_PERPLEXITY = 30.0
_STEPS = 500

Floats = NDArray[np.float64]


class Layout(Struct, frozen=True, kw_only=True):
    """One scorer's windows in two dimensions.

    Attributes:
        scorer: its name.
        own: whether the features are its own; else they are what its sensors contribute.
        features: F.
        explained: share of the variance in the two principal components.
        components: [n, 2].
        neighbours: [n, 2] by t-SNE.
        nearest: [n, K] places of the nearest windows among the features.
    """

    scorer: str
    own: bool
    features: int
    explained: float
    components: Floats
    neighbours: Floats
    nearest: NDArray[np.int64]


def laid_out(
    imputation: Imputation,
    trained: TrainedScorer,
    values: NDArray[np.float32],
    mask: NDArray[np.bool_],
    seed: int,
) -> Layout:
    """The layouts of windows [n, T, D] by a trained scorer's features of them.

    Args:
        imputation: what replaces masked readings before the scorer looks.
        trained: the scorer.
        values: [n, T, D] z-scores.
        mask: [n, T, D] True where a reading stands.
        seed: of t-SNE.
    """
    scorer = get_scorer(trained.name)

    @jax.jit
    def features(params: Params, values: jax.Array, mask: jax.Array) -> jax.Array:
        return scorer.features_of(params, trained.spec, impute(imputation, Windows(values, mask)))

    found = np.asarray(features(trained.params, values, mask), np.float64).reshape(len(values), -1)
    found = found[:, np.isfinite(found).all(axis=0)]
    components, explained = principal(found)
    return Layout(
        scorer=trained.name,
        own=scorer.features is not None,
        features=found.shape[1],
        explained=explained,
        components=components,
        neighbours=neighbours(found, seed),
        nearest=nearest(found),
    )


def principal(features: Floats) -> tuple[Floats, float]:
    """Two principal components [n, 2] of features [n, F], and the share of the variance in them.

    Signs are fixed, so that the same features give the same picture: in each the largest entry by size is positive.
    """
    off = features - features.mean(axis=0)
    left, spread, _ = np.linalg.svd(off, full_matrices=False)
    out = np.zeros((len(features), 2))
    wide = min(2, len(spread))
    out[:, :wide] = left[:, :wide] * spread[:wide]
    signs = np.sign(out[np.abs(out).argmax(axis=0), np.arange(2)])
    total = float(np.square(spread).sum())
    share = float(np.square(spread[:2]).sum()) / total if total else 0.0
    return out * np.where(signs == 0.0, 1.0, signs), share


def neighbours(features: Floats, seed: int) -> Floats:
    """t-SNE [n, 2] of features [n, F], each to unit variance, from their principal components on.

    On one thread: so it gives the same picture on any machine, and does not wait for cores that are taken.
    """
    from sklearn.manifold import TSNE

    even = _standardised(features)
    if not even.size:
        return np.zeros((len(features), 2))
    start = principal(even)[0]
    start *= 1e-4 / float(start[:, 0].std())
    perplexity = min(_PERPLEXITY, (len(even) - 1) / 3.0)
    made = TSNE(perplexity=perplexity, init=start, random_state=seed, max_iter=_STEPS, n_jobs=1)  # type: ignore[arg-type] # the stubs know no array
    with threadpool_limits(1):
        return np.asarray(made.fit_transform(even), np.float64)


def nearest(features: Floats) -> NDArray[np.int64]:
    """Places [n, K] of the nearest windows among features [n, F], each to unit variance; never the window itself."""
    even = _standardised(features)
    square = np.square(even).sum(axis=1)
    distance = square[:, None] + square[None, :] - 2.0 * even @ even.T
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1, kind="stable")[:, : min(NEAREST, len(even) - 1)]


def _standardised(features: Floats) -> Floats:
    """Those that vary, to mean 0 and variance 1."""
    spread = features.std(axis=0)
    moves = spread > 1e-9 * max(1.0, float(np.abs(features).max(initial=0.0)))
    return (features[:, moves] - features[:, moves].mean(axis=0)) / spread[moves]
