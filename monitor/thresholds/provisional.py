"""A limit from few scores: after a declared or approved change, until enough have come for the nu-quantile.

The nu-quantile needs some 16 tau / nu windows, hours after the change; until then an old limit would alarm on every
window. But where a scorer's normal lies, and how wide, is known from far fewer: its deciles. So the scorer's trained
scale is put on the new scores by the line ``location + scale * u`` that fits their deciles .1, .2, .. .9 to those of
its calibration best (least squares on a quantile-quantile plot: Chambers et al., 'Graphical Methods for Data
Analysis', 1983, chapter 6), which no fault's tail moves. Its ratios then lie as they did in calibration, and the
limit of the combined, smoothed ratio, which rests on them, stays the trained one.

What that assumes is that the change moved and stretched the scores and left their shape: it cannot be known yet.
Therefore the limit is PROVISIONAL, and lies high rather than low: location and scale are taken one standard error
above their estimates (of n / tau independent Gaussian values), for a limit that is too low is tracked up within
minutes, and one that is too high down within hours.

Shape letters: n windows, S scorers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.thresholds.threshold import ThresholdRefused

Floats = NDArray[np.float64]

LEVELS = np.linspace(0.1, 0.9, 9)
"""The deciles that are compared: the tails, where the limit lies and faults begin, are left out."""
FEWEST = 64
"""Windows that a provisional limit takes at least."""
MOST = 4096
"""More would not make it better: by then its shape is what is wrong."""


class Line(NamedTuple):
    """``location + scale * u``: where normal scores of one scale lie on another."""

    location: float
    scale: float

    def of(self, u: float) -> float:
        """The place of ``u``."""
        return self.location + self.scale * u


def deciles(values: Floats) -> Floats:
    """The deciles .1 to .9 [9] of values [n]."""
    return np.quantile(values, LEVELS)


def line(reference: Floats, found: Floats) -> Line:
    """The line that puts deciles ``reference`` [9] on deciles ``found`` [9].

    Raises:
        ThresholdRefused: either lie at one place.
    """
    x, y = reference - reference.mean(), found - found.mean()
    across = float(x @ x)
    scale = float(x @ y) / across if across > 0.0 else 0.0
    if scale <= 0.0:
        raise ThresholdRefused(
            "provisional limit: the scores hardly differ, so no scale can be read off them"
        )
    return Line(float(found.mean()) - scale * float(reference.mean()), scale)


def raised(fitted: Line, reference: Floats, n_eff: float, errors: float) -> Line:
    """A line so many standard errors higher in location and in scale.

    Args:
        fitted: the line.
        reference: [9] the deciles that it was fitted to.
        n_eff: independent scores that it rests on.
        errors: how many; below 0 the line lies lower.
    """
    sigma = float(reference[-1] - reference[0]) / _GAUSSIAN_WIDTH
    location = fitted.location + errors * fitted.scale * sigma / math.sqrt(n_eff)
    return Line(location, fitted.scale * max(0.0, 1.0 + errors / math.sqrt(2.0 * n_eff)))


_GAUSSIAN_WIDTH = 2.563
"""Between the deciles .1 and .9 of a Gaussian distribution, in standard deviations."""
