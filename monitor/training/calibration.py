"""Limits from scores of windows that fitted nothing.

Shape letters: W windows, S scorers, K maturity classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.model import Scales
from monitor.settings import AssetClass
from monitor.thresholds.reestimate import combine
from monitor.thresholds.smoothing import Smoother
from monitor.thresholds.threshold import (
    Estimate,
    ThresholdRefused,
    autocorrelation_time,
    estimate,
    nu_quantile,
    ratio,
)
from monitor.training.history import least_maturity
from monitor.training.scores import Scored

_MAX_KEPT = 65_536
"""Calibration scores kept in a bundle per scorer; more are thinned to evenly spaced order statistics."""


class Calibrated(NamedTuple):
    """What calibration gives.

    Attributes:
        scales: the scorers' scales and the limit, for the bundle.
        estimate: of the limit of the combined, smoothed ratio.
        scorer_estimates: of each scorer's own limit, by name.
        ratios: [W] the final ratios that set the limit, in time order per asset.
    """

    scales: Scales
    estimate: Estimate
    scorer_estimates: dict[str, Estimate]
    ratios: NDArray[np.float64]


def from_parts(asset_class: AssetClass, scale: Scored, limit: Scored, names: Sequence[str]) -> Calibrated:
    """Each scorer's scale from one held-out part, the limit of the combined, smoothed ratio from the other.

    Raises:
        ThresholdRefused: too few windows for nu, or scores that hardly differ.
    """
    blank = _scorer_scales(asset_class, scale)
    on_scale = blank.on_scale(limit.score, limit.maturity)
    both = np.concatenate([blank.on_scale(scale.score, scale.maturity), on_scale])
    return _calibrated(asset_class, blank, scale, names, limit, on_scale, both, "held-out")


def from_folds(asset_class: AssetClass, scored: Scored, names: Sequence[str]) -> Calibrated:
    """Scales and limit from out-of-fold scores, cross-fitted.

    Live, all of them set the scorers' scales. But a fold's ratios, which set the limit, are on the scale of the
    other folds' scores: they fitted neither models nor scales.

    Raises:
        ThresholdRefused: too few windows for nu, or scores that hardly differ.
    """
    blank = _scorer_scales(asset_class, scored)
    on_scale = np.empty(scored.score.shape)
    for fold in np.unique(scored.fold):
        mine = scored.fold == fold
        others = _scorer_scales(asset_class, _some(scored, ~mine))
        on_scale[mine] = others.on_scale(scored.score[mine], scored.maturity[mine])
    every = blank.on_scale(scored.score, scored.maturity)
    source = f"out-of-fold ({len(np.unique(scored.fold))} folds)"
    return _calibrated(asset_class, blank, scored, names, scored, on_scale, every, source)


def _calibrated(
    asset_class: AssetClass,
    blank: Scales,
    scale: Scored,
    names: Sequence[str],
    limit: Scored,
    on_scale: NDArray[np.float64],
    every: NDArray[np.float64],
    source: str,
) -> Calibrated:
    """Put together.

    Args:
        asset_class: its settings.
        blank: the scorers' scales.
        scale: the windows that set them.
        names: of the scorers.
        limit: the windows that set the limit.
        on_scale: [W, S] their ratios, on scales that they did not fit.
        every: [n, S] all calibration ratios, for ranks.
        source: where the windows came from.
    """
    smooth = smoothed(asset_class, limit.row, limit.slot, limit.segment, on_scale)
    overall = _estimate(asset_class, smooth, limit, f"{source} combined, smoothed ratios")
    final = ratio(smooth, overall.median, overall.threshold)
    scales = blank._replace(
        scores=tuple(_kept(column) for column in every.T),
        final_median=overall.median,
        final_limit=overall.threshold,
        final_scores=_kept(final),
        tau=overall.tau,
    )
    scales = scales._replace(rank_tau=_rank_tau(scales.ranks(on_scale), limit))
    each = {
        name: _estimate(asset_class, scale.score[:, s], scale, f"{source} scores of {name}")
        for s, name in enumerate(names)
    }
    return Calibrated(scales, overall, each, final)


def _scorer_scales(asset_class: AssetClass, scored: Scored) -> Scales:
    """Scales that know the scorers' medians and limits only."""
    maturity = _maturity_classes(asset_class, scored)
    median, limits = _scorer_limits(asset_class.calibration.nu, scored, maturity)
    return Scales(maturity, median, limits, (), 0.0, 1.0, np.zeros(0), 1.0, 1.0)


def _some(scored: Scored, kept: NDArray[np.bool_]) -> Scored:
    columns: list[Any] = [column[kept] for column in scored]
    return Scored(*columns)


def smoothed(
    asset_class: AssetClass,
    row: NDArray[np.int32],
    slot: NDArray[np.int64],
    segment: NDArray[np.int64],
    ratios: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Combined, smoothed ratios [W] of windows sorted by asset and time, by the stage that runs live."""
    smoother = Smoother(asset_class.scoring.smoothing, asset_class.window.length)
    smoother.grow(int(row.max()) + 1)
    combined = combine(ratios, asset_class.scoring.combine)
    out = np.empty(len(row))
    for w in range(len(row)):
        one = slice(w, w + 1)
        out[one] = smoother.step(row[one], slot[one], segment[one], combined[one])
    return out


def _maturity_classes(asset_class: AssetClass, scored: Scored) -> NDArray[np.int64]:
    """Smallest maturity of each class: young, half grown, full; classes too small for nu join their elders."""
    length = asset_class.window.length
    edges = [length]
    for edge in (math.ceil(length / 2), least_maturity(asset_class)):
        members = np.count_nonzero((scored.maturity >= edge) & (scored.maturity < edges[0]))
        if edge < edges[0] and members * asset_class.calibration.nu >= 2.0:
            edges.insert(0, edge)
    if (scored.maturity < edges[0]).any():
        edges[0] = least_maturity(asset_class)
    return np.array(edges, np.int64)


def _scorer_limits(
    nu: float, scored: Scored, maturity: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    kind = np.searchsorted(maturity, scored.maturity, side="right") - 1
    scores = scored.score
    shape = (scores.shape[1], len(maturity))
    median, limit = np.empty(shape), np.empty(shape)
    for s in range(shape[0]):
        for k in range(shape[1]):
            mine = scores[kind == k, s]
            median[s, k], limit[s, k] = float(np.median(mine)), nu_quantile(mine, nu)
            if limit[s, k] <= median[s, k]:
                raise ThresholdRefused(
                    f"scorer {s}: its limit is not above its median: the scorer has collapsed"
                )
    return median, limit


def _estimate(asset_class: AssetClass, scores: NDArray[np.float64], scored: Scored, source: str) -> Estimate:
    settings = asset_class.calibration
    return estimate(
        scores,
        settings.nu,
        rng=np.random.default_rng(asset_class.scoring.seed),
        enough=settings.enough,
        runs=_runs(scored),
        source=source,
        start_ns=int(scored.end.min()),
        end_ns=int(scored.end.max()),
    )


def _rank_tau(ranks: NDArray[np.float64], scored: Scored) -> float:
    """The longest autocorrelation time of the scorers' ranks [W, S]: what drift detectors see is thinned to it."""
    return max(autocorrelation_time(ranks[:, s], _runs(scored)) for s in range(ranks.shape[1]))


def _runs(scored: Scored) -> list[int]:
    """Lengths of the unbroken runs of windows."""
    breaks = np.flatnonzero((np.diff(scored.row) != 0) | (np.diff(scored.segment) != 0)) + 1
    return np.diff(np.concatenate([[0], breaks, [len(scored.row)]])).tolist()


def _kept(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    ordered = np.sort(scores)
    if len(ordered) <= _MAX_KEPT:
        return ordered
    return ordered[np.linspace(0, len(ordered) - 1, _MAX_KEPT).round().astype(np.int64)]
