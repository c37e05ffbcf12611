"""A scorer in an installed package of its own, for tests: real metadata in a folder on ``sys.path``."""

from __future__ import annotations

from pathlib import Path

MODULE = '''
"""How far the last sample lies from the mean of the window."""

from dataclasses import dataclass

import jax.numpy as jnp

from models.scorer import Fitted, Scorer, Scores


@dataclass(frozen=True)
class Spec:
    """Hyperparameters.

    Attributes:
        power: of the distance.
    """

    power: float = 2.0


def fit(rng, windows, spec, progress):
    return Fitted({"scale": jnp.ones(windows.values.shape[2])}, {})


def score(params, spec, windows):
    expected = jnp.mean(windows.values, axis=1)
    each = jnp.abs(windows.values[:, -1, :] - expected) ** spec.power * params["scale"][None, :]
    return Scores(jnp.sum(each, axis=1), each, expected)


SCORER = Scorer("their_scorer", Spec, fit, score)
WRONG = "not a scorer"
'''


def install(folder: Path, points: str = "their_scorer = their_package:SCORER") -> None:
    """Put ``their_package`` and its entry points into a folder."""
    (folder / "their_package.py").write_text(MODULE)
    info = folder / "their_package-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[nuwatch.scorers]\n{points}\n")
