"""How urgent an incident is: 1 to 1000 as in OPC UA, from criticality, ratio and duration."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

MEDIUM = 334
"""The lowest severity of the class 'medium' (OPC UA Part 9)."""
HIGH = 667
"""The lowest severity of the class 'high'."""
AT_THE_LIMIT = 0.4
"""Share of the criticality that an incident has at ratio 1 and duration 0."""
HALF_DURATION_S = 8 * 3600.0
"""A standing incident goes half of the way to its asset's criticality in this time: one shift."""


def severity(criticality: ArrayLike, ratio: ArrayLike, duration_s: ArrayLike) -> NDArray[np.int64]:
    """Severity 1 to 1000 = 1000 x criticality x f(ratio, duration), f rising in both from 0.4 towards 1.

    With r = (ratio - 1) / ratio, the share of the ratio that lies over the limit, and d = t / (t + 8 h)::

        f = 1 - 0.6 (1 - r) (1 - d)

    So an asset of criticality 0.6 starts low (240) at the limit, is medium (420) at twice the limit and never
    high; 'high' needs a criticality above 0.667. Only +, -, x, / are used: one result everywhere.

    Args:
        criticality: of the asset, 0 to 1.
        ratio: score over threshold; under 1 and not-a-number count as 1 (a condition without a measure).
        duration_s: seconds since the condition began; negative counts as 0.

    Returns:
        int64 of the broadcast shape.
    """
    over = np.fmax(np.asarray(ratio, np.float64), 1.0)
    seconds = np.fmax(np.asarray(duration_s, np.float64), 0.0)
    left = (1.0 / over) * (HALF_DURATION_S / (seconds + HALF_DURATION_S))
    grade = np.clip(np.asarray(criticality, np.float64), 0.0, 1.0) * (1.0 - (1.0 - AT_THE_LIMIT) * left)
    return np.clip(np.floor(1000.0 * grade + 0.5), 1, 1000).astype(np.int64)


def severity_class(value: ArrayLike) -> NDArray[np.int64]:
    """The class of a severity: 0 low, 1 medium (from 334), 2 high (from 667)."""
    return np.searchsorted(np.array([MEDIUM, HIGH]), np.asarray(value), side="right")
