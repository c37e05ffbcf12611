"""The methods that do not train by gradients, on flat images: NumPy and scikit-learn.

They run in processes of their own beside the networks, and must not import JAX there.

Shape letters: N learnt images, J judged images, L pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.ocnn_paper.mnist import Images, Trial, auc

Array = NDArray[np.floating]


class Asked(NamedTuple):
    """What a method is given: images, the known share of anomalies (or nu where there is none), and a seed."""

    trial: Trial
    nu: float
    seed: int


Scores = Mapping[str, Array]
"""By what follows the method's name, [J]: the higher, the more anomalous."""
Method = Callable[[Asked], Scores]

COMPONENTS: Final = 32
NEIGHBOURS: Final = 5
BANDWIDTHS: Final = tuple(float(h) for h in np.geomspace(0.25, 8.0, 16))
CODED_NU: Final = 0.1
CODED_GAMMAS: Final = tuple(float(gamma) for gamma in np.logspace(-10, -1, 10, base=2))
TREES: Final = 100
SAMPLES: Final = 256
_FOLDS: Final = 5
_BLOCK: Final = 2000


def pca(asked: Asked) -> Scores:
    """Squared length of what the first components leave over, and its share of the image's own about its background."""
    learn, judge = asked.trial.learn, asked.trial.judge
    mean = learn.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov((learn - mean).T))
    first = axes[:, -COMPONENTS:].astype(np.float32)
    off = judge - mean
    rest = np.sum((off - off @ first @ first.T) ** 2, axis=1)
    own = np.sum((judge - judge.min(axis=1, keepdims=True)) ** 2, axis=1)
    return {"": rest, "_relative": rest / own}


def neighbours(asked: Asked) -> Scores:
    """Mean squared distance to the nearest learnt images, other than itself where it is one of them."""
    learn, judge = asked.trial.learn, asked.trial.judge
    found = []
    for block in _blocks(judge):
        nearest = np.partition(squared_distances(block, learn), NEIGHBOURS + 1, axis=1)
        found.append(np.sort(nearest[:, : NEIGHBOURS + 1], axis=1))
    nearest, itself = np.concatenate(found), np.arange(len(judge)) < asked.trial.learnt
    return {"": np.where(itself, nearest[:, 1:].mean(axis=1), nearest[:, :-1].mean(axis=1))}


def ocsvm(asked: Asked) -> Scores:
    """One-class SVM with a Gaussian kernel of scikit-learn's width."""
    from sklearn.svm import OneClassSVM

    machine = OneClassSVM(nu=asked.nu, gamma="scale").fit(asked.trial.learn)
    return {"": -machine.decision_function(asked.trial.judge)}


def ocsvm_as_coded(asked: Asked) -> Scores:
    """The same as the paper's code chooses it: nu .1, the best of ten widths by the labels of a tenth of the judged."""
    from sklearn.svm import OneClassSVM

    judge, wrong = asked.trial.judge, asked.trial.anomalous
    some = _tenth_of_both(wrong, asked.seed)
    best, found = -1.0, None
    for gamma in CODED_GAMMAS:
        machine = OneClassSVM(nu=CODED_NU, gamma=gamma).fit(asked.trial.learn)
        reached = auc(-machine.decision_function(judge[some]), wrong[some])
        if reached > best:
            best, found = reached, machine
    assert found is not None
    return {"": -found.decision_function(judge)}


def _tenth_of_both(wrong: NDArray[np.bool_], seed: int) -> NDArray[np.integer]:
    """A tenth of the normal images and a tenth of the others, at least one."""
    rng = np.random.default_rng(seed)
    parts = (rng.permutation(np.flatnonzero(wrong == kind)) for kind in (False, True))
    return np.concatenate([part[: max(1, len(part) // 10)] for part in parts])


def isolation_forest(asked: Asked) -> Scores:
    """100 trees of 256 images each."""
    from sklearn.ensemble import IsolationForest

    forest = IsolationForest(n_estimators=TREES, max_samples=SAMPLES, random_state=asked.seed)
    return {"": -forest.fit(asked.trial.learn).score_samples(asked.trial.judge)}


def kde(asked: Asked) -> Scores:
    """Minus the log density; the bandwidth is that of the highest likelihood over five folds."""
    learn, judge = asked.trial.learn, asked.trial.judge
    width = best_bandwidth(squared_distances(learn, learn), learn.shape[1], BANDWIDTHS)
    parts = [log_density(squared_distances(block, learn), learn.shape[1], width) for block in _blocks(judge)]
    return {"": -np.concatenate(parts)}


def best_bandwidth(squared: Array, pixels: int, widths: tuple[float, ...]) -> float:
    """The width of the highest likelihood of held-out rows.

    Args:
        squared: [N, N] distances.
        pixels: L.
        widths: that are tried.
    """
    fold, likelihoods = np.arange(len(squared)) % _FOLDS, np.zeros(len(widths))
    for one in range(_FOLDS):
        held = squared[fold == one][:, fold != one]
        likelihoods += [log_density(held, pixels, width).sum() for width in widths]
    return widths[int(np.argmax(likelihoods))]


def log_density(squared: Array, pixels: int, width: float) -> Array:
    """Gaussian kernel density [J] of squared distances [J, N]."""
    exponents = squared * np.float32(-0.5 / width**2)
    top = exponents.max(axis=1, keepdims=True)
    near = np.log(np.exp(exponents - top).mean(axis=1)) + top[:, 0]
    return near - pixels * np.log(width * np.sqrt(2.0 * np.pi))


def squared_distances(rows: Images, points: Images) -> Array:
    """[R, P] of rows [R, L] and points [P, L]."""
    squared = (rows**2).sum(axis=1)[:, None] + (points**2).sum(axis=1)[None, :] - 2.0 * rows @ points.T
    return np.maximum(squared, 0.0)


def _blocks(rows: Images) -> list[Images]:
    return np.array_split(rows, -(-len(rows) // _BLOCK))


METHODS: Final[Mapping[str, Method]] = {
    "ocsvm": ocsvm,
    "ocsvm_as_coded": ocsvm_as_coded,
    "kde": kde,
    "isolation_forest": isolation_forest,
    "pca": pca,
    "neighbours": neighbours,
}
SEEDED: Final = ("isolation_forest", "ocsvm_as_coded")
"""Those whose result depends on the seed where the images do not."""
