"""What a masked sensor does to each scorer's scores, measured on normal windows, and taken back.

A masked reading is imputed, and scorers account for the missing degree of freedom; what that leaves depends on the
sensor: how well the others tell it, and how much of the score was its own. So training scores calibration windows
once more under every single-sensor mask, and keeps how far the scores' median moves (shift) and by what factor
their spread changes (stretch). Live, ratios are taken back by what is masked, in proportion to how much the masked
part of the window means to the scorer (profile): measured too, by masks of the newest 1, 2, 4, ... samples.

Several masked sensors: shifts add up and stretches multiply, as if each acted by itself. That is measured for no
pair, so beyond one sensor the rate of false alarms is not promised, and such windows are counted as DEGRADED.

Shape letters: W windows, S scorers, T samples of a window (oldest first), D scored sensors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_MOST_MASKED = 3.0
"""More masked sensors than this count as this many: a sum of effects means less with every one."""
_DEGRADED = 1.5
"""Masked sensors, each by the part of the window that counts, from which a window is DEGRADED."""


class Effect(NamedTuple):
    """What is masked of windows does to their ratios: u under the mask is shift + stretch * u.

    Attributes:
        shift: [W, S].
        stretch: [W, S] > 0.
        degraded: [W] True where so many sensors are masked that the asked rate is not promised.
    """

    shift: Floats
    stretch: Floats
    degraded: Bools


class Masks(NamedTuple):
    """Effects of single-sensor masks on ratios of unmasked windows: u under the mask is shift + stretch * u.

    Attributes:
        profile: [S, T] >= 0, summing to 1 per scorer: how much a sample's mask counts.
        shift: [S, D] on each scorer's ratio scale.
        stretch: [S, D] > 0.
    """

    profile: Floats
    shift: Floats
    stretch: Floats

    @classmethod
    def without_effect(cls, scorers: int, length: int, sensors: int) -> Masks:
        """Masks that change nothing."""
        shape = (scorers, sensors)
        return cls(np.full((scorers, length), 1.0 / length), np.zeros(shape), np.ones(shape))

    def masked(self, mask: Bools, maturity: NDArray[np.int32]) -> Floats:
        """How much of each sensor is masked to each scorer, [W, S, D] in [0, 1]; what lies before a stretch is not.

        Only elementwise arithmetic: a window's figures do not depend, in any bit, on those beside it.
        """
        windows, length, sensors = mask.shape
        out = np.zeros((windows, len(self.shift), sensors))
        for t in range(length):
            missing = ~mask[:, t, :] & (maturity >= length - t)[:, None]
            out += self.profile[:, t][None, :, None] * missing[:, None, :]
        return out

    def effect(self, mask: Bools, maturity: NDArray[np.int32]) -> Effect:
        """What masks [W, T, D] of windows with maturities [W] do; nothing, to the last bit, where none is masked."""
        shift = np.zeros((len(mask), len(self.shift)))
        found = Effect(shift, np.ones(shift.shape), np.zeros(len(mask), np.bool_))
        some = np.flatnonzero(~mask.all(axis=(1, 2)))
        if len(some):
            share = self.masked(mask[some], maturity[some])
            total = share.sum(axis=2, keepdims=True)
            share *= np.minimum(1.0, _MOST_MASKED / np.maximum(total, 1.0))
            found.shift[some] = (share * self.shift).sum(axis=2)
            found.stretch[some] = np.exp((share * np.log(self.stretch)).sum(axis=2))
            found.degraded[some] = (total[..., 0] >= _DEGRADED).any(axis=1)
        return found
