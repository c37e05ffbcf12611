"""Fits by their content: what one contender has fitted, another one need not fit again.

A fit is a pure function of its key, windows, hyperparameters and start. So the same fit comes from memory: of the
default configuration for its scorers alone, of OC-NN for the baselines over its features.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import jax
import numpy as np

from models.scorer import Fitted, Params, Progress, Scorer, Windows

_MOST: Final = 2_000


class Remembered:
    """Fits of this process, the newest `_MOST` of them; stands in for calling ``scorer.fit``."""

    def __init__(self) -> None:
        self._fits: dict[Any, Fitted] = {}
        self.spared = 0

    def __call__(
        self,
        scorer: Scorer,
        key: jax.Array,
        windows: Windows,
        spec: Any,
        progress: Progress,
        **start: Params,
    ) -> Fitted:
        """As ``scorer.fit(key, windows, spec, progress, **start)``."""
        what = (scorer.fit, _digest(key, windows, spec, start))
        if what in self._fits:
            self.spared += 1
            return self._fits[what]
        if len(self._fits) >= _MOST:
            del self._fits[next(iter(self._fits))]
        fitted = self._fits[what] = scorer.fit(key, windows, spec, progress, **start)
        return fitted


def _digest(key: jax.Array, windows: Windows, spec: Any, start: dict[str, Params]) -> str:
    digest = hashlib.sha256(repr(spec).encode())
    leaves, tree = jax.tree.flatten(start)
    digest.update(str(tree).encode())
    for part in (jax.random.key_data(key), windows.values, windows.mask, *leaves):
        array = np.ascontiguousarray(part)
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
