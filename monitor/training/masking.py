"""The effect of every single-sensor mask, measured on windows that fitted nothing.

Shape letters: n windows of the study, S scorers, T samples, D scored sensors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.program import Program
from monitor.settings import AssetClass
from monitor.thresholds.masks import Masks
from monitor.training.history import Normal, Rows, windows_of

Floats = NDArray[np.float64]

_MOST_READINGS = 2_000_000
"""Windows times sensors scored under masks, at most: the study costs seconds, however many sensors there are."""
_LEAST = 256
_HIGHEST = 0.95
_BEYOND = 12
"""Spreads are compared at the limit's quantile, but not above this one, nor with fewer windows beyond it: there they
would scatter."""
_LEAST_USUAL = 0.3
_PROFILED = 6
"""Sensors whose masks tell the profile over a window's samples."""


class Study(NamedTuple):
    """Scores of some windows, without and with masks.

    Attributes:
        plain: [n, S].
        masked: [D, n, S], each sensor masked throughout.
        newest: [J, n, S] mean distance from the plain score with a sensor's newest 1, 2, 4, ..., T samples masked.
        contributions: [n, S, D] of the plain scores.
        observed: [n, D] bool, the sensor's newest sample is real.
    """

    plain: Floats
    masked: Floats
    newest: Floats
    contributions: NDArray[np.float32]
    observed: NDArray[np.bool_]


def study(
    asset_class: AssetClass, rows: Rows, normal: Normal, program: Program, part: int, share: float = 1.0
) -> Study:
    """Score windows of a part under every single-sensor mask.

    Args:
        asset_class: its settings.
        rows: the history.
        normal: as the program's fit scales it.
        program: the scorers.
        part: whose windows.
        share: of the windows that all studies of the history may take.
    """
    values, mask = _some_windows(asset_class, rows, normal, part, share)
    sensors = values.shape[2]
    whole = program(values, mask)
    plain = whole.score.astype(np.float64)
    masked = [_scores(program, values, _without(mask, d, values.shape[1])) for d in range(sensors)]
    spans = _spans(values.shape[1])
    few = np.unique(np.linspace(0, sensors - 1, min(_PROFILED, sensors)).round().astype(int)).tolist()
    newest = [
        np.mean([np.abs(_scores(program, values, _without(mask, d, span)) - plain) for d in few], axis=0)
        for span in spans
    ]
    return Study(plain, np.stack(masked), np.stack(newest), whole.contributions, mask[:, -1])


class Missing:
    """What was masked in the history itself, window by window.

    Args:
        asset_class: its settings.
        rows: the history.
        normal: with the parts in which windows lie.
    """

    def __init__(self, asset_class: AssetClass, rows: Rows, normal: Normal) -> None:
        self._fixed = (asset_class, rows, normal)

    def taken_back(self, ratios: Floats, index: NDArray[np.int64], masks: Masks) -> Floats:
        """Ratios [W, S] of the windows that end with slots [W], as live: the effect of masked sensors taken back."""
        normal = self._fixed[2]
        if normal.usable.all():
            return ratios
        place = np.full(len(normal.part), -1, np.int64)
        place[index] = np.arange(len(index))
        out = ratios.copy()
        for chunk in windows_of(*self._fixed):
            at = place[chunk.closing]
            effect = masks.effect(chunk.mask[at >= 0], chunk.maturity[at >= 0])
            at = at[at >= 0]
            out[at] = (ratios[at] - effect.shift) / effect.stretch
        return out


def masks_of(studies: list[Study], length: int, ratios: Floats, nu: float) -> Masks:
    """Effects on ratio scales, from one study or those of several folds.

    A study's scores are taken in units of its own plain ones, so that models of several folds speak of one thing.

    Args:
        studies: one or more.
        length: T.
        ratios: [n, S] calibration ratios; a study's units become their spread.
        nu: fraction of normal windows allowed over the limit.
    """
    count = sum(len(one.plain) for one in studies)
    level = min(1.0 - nu, _HIGHEST, 1.0 - min(0.25, _BEYOND / count))
    plain = np.concatenate([_standard(one.plain, one.plain, level) for one in studies])
    masked = np.concatenate([_standard(one.masked, one.plain, level) for one in studies], axis=1)
    (middle, spread), (low, wide) = (_two_points(x, level) for x in (plain, masked))  # [S], [D, S]
    unit = _two_points(ratios, level)[1]
    shift = (low - middle) / spread * unit
    return Masks(_profile(studies, length), shift.T, np.maximum(wide / spread, 0.05).T)


def usual_of(studies: list[Study]) -> Floats:
    """Mean contributions [S, D] in normal operation, of windows in which the sensor is real.

    None is less than `_LEAST_USUAL` of the scorer's median one: who never contributed is not the first to blame.
    """
    contributions = np.concatenate([one.contributions for one in studies]).astype(np.float64)
    real = np.concatenate([one.observed for one in studies])[:, None, :]
    mean = np.sum(contributions, axis=0, where=real) / np.maximum(real.sum(axis=0), 1)
    middle = np.median(mean, axis=1, keepdims=True)
    middle = np.where(middle > 0.0, middle, mean.mean(axis=1, keepdims=True))
    return np.maximum(mean, np.where(middle > 0.0, _LEAST_USUAL * middle, 1.0))


def _profile(studies: list[Study], length: int) -> Floats:
    """Weight of each sample [S, T] in what a mask of the whole window does."""
    felt = np.concatenate([one.newest for one in studies], axis=1).mean(axis=1)  # [J, S]
    reached = np.maximum.accumulate(felt / np.maximum(felt[-1], 1e-12), axis=0)
    reached = np.where(felt[-1] > 1e-12, np.clip(reached, 0.0, 1.0), np.ones_like(reached))
    weights = np.zeros((felt.shape[1], length))
    for low, high, gain in zip(
        [0, *_spans(length)], _spans(length), np.diff(reached, axis=0, prepend=0.0), strict=False
    ):
        weights[:, length - high : length - low] = gain[:, None] / (high - low)
    return weights


def _spans(length: int) -> list[int]:
    """1, 2, 4, ... newest samples, and all of them."""
    return sorted({min(1 << power, length) for power in range(length.bit_length() + 1)})


def _some_windows(
    asset_class: AssetClass, rows: Rows, normal: Normal, part: int, share: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Windows of a part, evenly thinned."""
    stride, sensors = asset_class.window.stride, normal.z.shape[1]
    scorings = sensors + _PROFILED * len(_spans(asset_class.window.length)) + 1
    most = max(_LEAST, _MOST_READINGS // (scorings * sensors)) * share
    every = max(1, int(np.count_nonzero(normal.part == part) / stride / most))
    values: list[NDArray[np.float32]] = []
    masks: list[NDArray[np.bool_]] = []
    for chunk in windows_of(asset_class, rows, normal):
        turn = rows.slots.slot[chunk.closing] // stride
        kept = (normal.part[chunk.closing] == part) & (turn % every == 0)
        values.append(chunk.values[kept])
        masks.append(chunk.mask[kept])
    return np.concatenate(values), np.concatenate(masks)


def _without(mask: NDArray[np.bool_], sensor: int, newest: int) -> NDArray[np.bool_]:
    hidden = mask.copy()
    hidden[:, hidden.shape[1] - newest :, sensor] = False
    return hidden


def _scores(program: Program, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> Floats:
    return program(values, mask).score.astype(np.float64)


def _standard(scores: Floats, plain: Floats, level: float) -> Floats:
    middle, spread = _two_points(plain, level)
    return (scores - middle) / spread


def _two_points(scores: Floats, level: float) -> tuple[Floats, Floats]:
    """Median and distance from it to the upper quantile, over the windows [..., n, S] -> [..., S]."""
    middle, upper = np.quantile(scores, [0.5, level], axis=-2)
    return middle, np.maximum(upper - middle, 1e-12)
