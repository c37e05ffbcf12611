"""Recordings as a trained bundle scores them: what a verdict is about, or a look inside.

Windows are those that may teach (`monitor.training.history.windows_of`): on a gapless stream, the ones that run live.

Shape letters: W windows, S scorers, D scored sensors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.model import Model, Scales
from monitor.settings import AssetClass
from monitor.thresholds.reranking import shares
from monitor.thresholds.threshold import ratio
from monitor.training.feedback import Manner, Scene, combined
from monitor.training.history import FIT, Normal, Rows, TrainingRefused, as_trained, windows_of
from monitor.training.progress import TrainingProgress

Floats = NDArray[np.float64]


class Recorded(NamedTuple):
    """Scored windows, sorted by asset and time.

    Attributes:
        closing: [W] index of the slot that each ends with.
        asset: [W] their assets' names.
        end: [W] ns since the epoch.
        age: [W] windows since smoothing restarted.
        scene: their ratios, and what the sensors add.
    """

    closing: NDArray[np.int64]
    asset: NDArray[np.str_]
    end: NDArray[np.int64]
    age: NDArray[np.int64]
    scene: Scene


def scaled_by(asset_class: AssetClass, model: Model, rows: Rows) -> Normal:
    """Rows on the scale that the bundle was trained with, all of one part."""
    part = np.full(len(rows.slots.row), FIT, np.int8)
    return as_trained(asset_class, rows, model.grouping, model.trajectory, part)


def recorded(asset_class: AssetClass, model: Model, rows: Rows, told: TrainingProgress) -> Recorded:
    """Score recordings.

    Raises:
        TrainingRefused: they have no window that can be scored.
    """
    normal = scaled_by(asset_class, model, rows)
    found: list[tuple[NDArray[Any], ...]] = []
    done = 0
    for chunk in windows_of(asset_class, rows, normal):
        if len(chunk.closing):
            scored = model.score(chunk.values, chunk.mask)
            effect = model.scales.masks.effect(chunk.mask, chunk.maturity)
            ratios = model.scales.on_scale(scored.score, chunk.maturity)
            each = shares(scored.contributions).astype(np.float32)
            found.append((chunk.closing, (ratios - effect.shift) / effect.stretch, each))
        done += len(chunk.closing)
        told.step(done, len(normal.part), {})
    if not found:
        raise TrainingRefused(
            "recordings: got no window that can be scored, expected some of this asset class"
        )
    closing, ratios, each = (np.concatenate(column) for column in zip(*found, strict=True))
    breaks = _breaks(asset_class, rows, normal, closing)
    count = np.arange(len(closing))
    age = count - np.maximum.accumulate(np.where(breaks, count, 0)) + 1
    names = np.asarray(rows.assets, np.str_)[rows.slots.row[closing]]
    return Recorded(closing, names, rows.slots.end[closing], age, Scene(ratios, each, breaks))


def _breaks(
    asset_class: AssetClass, rows: Rows, normal: Normal, closing: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """[W] True where smoothing starts anew: another asset or stretch, or a gap longer than a window."""
    row, slot, segment = rows.slots.row[closing], rows.slots.slot[closing], normal.segment[closing]
    same = (np.diff(row, prepend=-1) == 0) & (np.diff(segment, prepend=-1) == 0)
    breaks = ~same | (np.diff(slot, prepend=0) > asset_class.window.length)
    breaks[0] = True
    return breaks


def weights_of(model: Model) -> Floats:
    """Weights [S, D] that verdicts have left; 1 without any."""
    shape = (len(model.program.scorers), len(model.sensors))
    return np.ones(shape) if model.scales.reranking is None else model.scales.reranking.weights


def final_ratios(found: Recorded, scales: Scales, weights: Floats, manner: Manner) -> Floats:
    """Combined, smoothed ratios [W] under weights [S, D]; 1 is the limit."""
    steady = scales.ages.steady(combined(found.scene, weights, manner), found.age)
    return ratio(steady, scales.final_median, scales.final_limit)
