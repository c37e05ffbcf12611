"""What every scorer must be measured against, each under the contract of `models.scorer`, so on the very same path.

Shape letters: B windows, T samples, D sensors, K centres.
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
from models.fitting import seed_of
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
    found = KMeans(spec.centres, n_init=3, random_state=seed_of(rng)).fit(flat)
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


def _ends(windows: Windows, samples: int) -> NDArray[np.float32]:
    """The last ``samples`` of all windows, masked entries as they are (0 or imputed)."""
    return np.asarray(windows.values)[:, -samples:, :]


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
