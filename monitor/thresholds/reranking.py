"""What persons' verdicts make of scores: a weight for what each sensor adds to each scorer's ratio.

A scorer says how far a window is from normal, u (0 the median of normal, 1 its trained limit), and which sensors that
is due to, the shares c_1 .. c_D, which sum to 1. Weighted it is

    u' = u (w_1 c_1 + .. + w_D c_D)   where u > 0,   u' = u elsewhere

All weights 1 is no change. It is linear in the weights, so few verdicts can tell them (`monitor.training.feedback`); it
needs nothing of the scorer but what its contract says; and the network stays as it is.

Shape letters: W windows, S scorers, D scored sensors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def shares(contributions: NDArray[np.floating[Any]]) -> Floats:
    """Contributions [.., D] as shares that sum to 1; equal ones where nothing contributes."""
    whole = np.maximum(np.asarray(contributions, np.float64), 0.0)
    total = whole.sum(axis=-1, keepdims=True)
    even = np.full_like(whole, 1.0 / whole.shape[-1])
    return np.divide(whole, total, out=even, where=total > 0)


class Reranking(NamedTuple):
    """Weights that verdicts have left.

    Attributes:
        weights: [S, D] >= 0.
    """

    weights: Floats

    def factor(self, on_scale: Floats, contributions: NDArray[np.floating[Any]]) -> Floats:
        """What ratios [W, S] are multiplied by, given contributions [W, S, D]; 1 where a ratio is not positive.

        A window's factor does not depend, in any bit, on those beside it.
        """
        weighted = np.zeros(on_scale.shape)
        each = shares(contributions)
        for d in range(each.shape[-1]):
            weighted += each[..., d] * self.weights[:, d]
        return np.where(on_scale > 0.0, weighted, 1.0)
