"""How far the k nearest normal windows are: score = sqrt(mean_k ||u - p_k||^2 / L), u the whitened last samples [L]."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from models.fitting import evenly
from models.hyperparameters import Count, Lags, Searched
from models.scorer import Fitted, Scorer
from models.whitening import fit_whitening, scores_of, whitened_samples


@dataclass(frozen=True)
class NearestNeighbourSpec:
    """Hyperparameters.

    Attributes:
        neighbours: k.
        points: normal windows that are kept, evenly spaced; more cost time at every window.
        lags: samples before the last that are judged with it.
    """

    neighbours: Annotated[Count, Searched(1, 32)] = 5
    points: Annotated[Count, Searched(250, 4000)] = 1000
    lags: Lags = 1


def fit(rng, windows, spec, progress):  # noqa: ARG001 - nothing is random
    """Keep some normal windows [N, T, D], whitened: ``points`` [P, L]."""
    whitening, rows = fit_whitening(windows, spec.lags)
    progress(1, 1, {})
    return Fitted({"whitening": whitening, "points": evenly(rows, spec.points)}, {})


def distance(points, u, count):
    """Root mean square distance [B] of rows u [B, L] from the nearest of points [P, L], per entry."""
    square = jnp.sum(points**2, axis=1)[None, :] - 2.0 * u @ points.T + jnp.sum(u**2, axis=1)[:, None]
    nearest = -jax.lax.top_k(-square, min(count, len(points)))[0]
    return jnp.sqrt(jnp.maximum(jnp.mean(nearest, axis=1), 0.0) / u.shape[1])


def score(params, spec, windows):
    """Score windows [B, T, D]; a contribution is how far the score falls without the sensor."""
    return scores_of(lambda u: distance(params["points"], u, spec.neighbours), params["whitening"], windows)


SCORER = Scorer("nearest_neighbour", NearestNeighbourSpec, fit, score, features=whitened_samples)
