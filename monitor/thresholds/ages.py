"""The limit of a smoothed ratio while its average is young.

An EWMA that restarts at 0 has, k samples later, only 1 - (1 - w)^(2 k) of its variance: under the limit of the steady
average it could hardly exceed, and a batch's or a restart's first minutes would be blind. So every age has its own
median and limit, from restarts simulated at every place of the calibration ratios: e_1[t] = w x[t], e_k[t] = (1 - w)
e_(k-1)[t - 1] + w x[t] (time-varying control limits of an EWMA: Lucas & Saccucci, Technometrics 32, 1990; theirs are
for independent normal values, these are read off the data).

Shape letters: W windows, A ages.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.thresholds.threshold import nu_quantile, smallest_sample

Floats = NDArray[np.float64]

_FORGOTTEN = 0.01
"""An average is steady when this much of what it restarted with is left."""
_LEFT = 0.5
"""Share of the windows that must have reached an age, for it to have a limit of its own."""


class Ages(NamedTuple):
    """Median and limit of the combined, smoothed ratio by age: windows since the average restarted.

    Attributes:
        median: [A], of ages 1 to A; the last is that of all older ones.
        limit: [A], likewise.
    """

    median: Floats
    limit: Floats

    @classmethod
    def of_no_effect(cls) -> Ages:
        """Every age is steady."""
        return cls(np.zeros(1), np.ones(1))

    def steady(self, smoothed: Floats, age: NDArray[np.int64]) -> Floats:
        """Smoothed ratios [W] of ages [W] >= 1 as a steady average would have them; the same bits if it is steady."""
        last = len(self.median) - 1
        at = np.minimum(age - 1, last)
        median, limit = self.median[at], self.limit[at]
        stretch = (self.limit[last] - self.median[last]) / (limit - median)
        return np.where(at == last, smoothed, self.median[last] + (smoothed - median) * stretch)


def fit_ages(combined: Floats, restarts: NDArray[np.bool_], weight: float, nu: float) -> Ages:
    """Median and nu-quantile by age, from restarts at every place.

    Args:
        combined: [W] combined ratios in time order.
        restarts: [W] True where the average restarts; an average never reaches back across one.
        weight: of the newest ratio in the EWMA, in (0, 1].
        nu: fraction of normal windows allowed over the limit.

    Returns:
        As many ages as the average needs to become steady, or as half of the windows reach.

    Raises:
        ThresholdRefused: too few windows for nu.
    """
    place = np.arange(len(combined))
    reach = place - np.maximum.accumulate(np.where(restarts | (place == 0), place, 0)) + 1
    medians, limits = list[float](), list[float]()
    young = np.zeros(len(combined))
    for age in range(1, _steady_age(weight) + 1):
        mine = reach >= age
        least = max(_LEFT * len(combined), smallest_sample(nu))
        if medians and np.count_nonzero(mine) < least:
            break
        before = np.concatenate([[0.0], young[:-1]])
        young = weight * combined + (1.0 - weight) * (before if age > 1 else 0.0)
        medians.append(float(np.median(young[mine])))
        limits.append(nu_quantile(young[mine], nu))
        if limits[-1] <= medians[-1]:
            return Ages.of_no_effect()
    return Ages(np.array(medians), np.array(limits))


def _steady_age(weight: float) -> int:
    """Windows until an average has forgotten what it restarted with."""
    return 1 if weight >= 1.0 else math.ceil(math.log(_FORGOTTEN) / math.log(1.0 - weight))
