"""Limits from scores of windows that fitted nothing.

Shape letters: W windows, S scorers, K maturity classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.model import Scales
from monitor.settings import AssetClass
from monitor.thresholds.ages import Ages, fit_ages
from monitor.thresholds.masks import Masks
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
from monitor.training.budget import Budget, Calm, converted, judged
from monitor.training.history import least_maturity
from monitor.training.masking import Missing, Study, masks_of, usual_of
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
        windows: [W] their windows.
        budget: what came of a budget in incidents; None without one.
    """

    scales: Scales
    estimate: Estimate
    scorer_estimates: dict[str, Estimate]
    ratios: NDArray[np.float64]
    windows: Scored
    budget: Budget | None


class Evidence(NamedTuple):
    """What calibration rests on, besides scores.

    Attributes:
        studies: of masks.
        missing: what was masked in the history itself.
        names: of the scorers.
    """

    studies: list[Study]
    missing: Missing
    names: Sequence[str]


class _Ratios(NamedTuple):
    """Calibration ratios.

    Attributes:
        scales: the scorers' scales that they are on, without a limit yet.
        scale: the windows that set those scales.
        limit: the windows that set the limit.
        limit_ratios: [W, S] theirs; of a held-out part on scales that it did not fit.
        every: [n, S] all calibration ratios, for ranks.
        source: where they came from.
        share: of the history that sets the limit.
    """

    scales: Scales
    scale: Scored
    limit: Scored
    limit_ratios: NDArray[np.float64]
    every: NDArray[np.float64]
    source: str
    share: float


def from_parts(asset_class: AssetClass, scale: Scored, limit: Scored, evidence: Evidence) -> Calibrated:
    """Each scorer's scale from one held-out part, the limit of the combined, smoothed ratio from the other.

    Raises:
        ThresholdRefused: too few windows for nu, or scores that hardly differ.
    """
    scales = _with_masks(asset_class, _scorer_scales(asset_class, scale), scale, evidence)
    limit_ratios, scale_ratios = (_on_scale(scales, part, evidence) for part in (limit, scale))
    every = np.concatenate([scale_ratios, limit_ratios])
    share = asset_class.calibration.holdout / 2
    return _calibrated(
        asset_class, _Ratios(scales, scale, limit, limit_ratios, every, "held-out", share), evidence.names
    )


def from_folds(asset_class: AssetClass, scored: Scored, evidence: Evidence) -> Calibrated:
    """Scales and limit from the same out-of-fold scores.

    No score comes from a model that knew its window. The scales are two numbers per scorer, an affine map: of one
    scorer's they leave the final limit as it is, of several they decide which speaks louder. With scales from the other
    folds only, a disturbed fold would be measured by quiet ones and they by it, and the limit would hold the product of
    both.

    Raises:
        ThresholdRefused: too few windows for nu, or scores that hardly differ.
    """
    scales = _with_masks(asset_class, _scorer_scales(asset_class, scored), scored, evidence)
    every = _on_scale(scales, scored, evidence)
    source = f"out-of-fold ({len(np.unique(scored.fold))} folds)"
    return _calibrated(
        asset_class, _Ratios(scales, scored, scored, every, every, source, 1.0), evidence.names
    )


def _calibrated(asset_class: AssetClass, ratios: _Ratios, names: Sequence[str]) -> Calibrated:
    limit, settings = ratios.limit, asset_class.calibration
    smooth, age = smoothed(asset_class, limit, ratios.limit_ratios)
    combined = combine(ratios.limit_ratios, asset_class.scoring.combine)
    ages = fit_ages(combined, age == 1, asset_class.scoring.smoothing, settings.nu)
    steady = ages.steady(smooth, age)
    budget = converted(asset_class, Calm(limit.row, limit.end, steady, ratios.share))
    nu = settings.nu if budget is None else budget.nu
    overall = _estimate(
        asset_class,
        nu,
        steady,
        limit,
        f"{ratios.source} combined, smoothed ratios",
        extrapolate=settings.extrapolate and budget is None,
        least_tau=2.0 / asset_class.scoring.smoothing - 1.0,
    )
    overall = overall if budget is None else judged(overall, budget)
    final = ratio(steady, overall.median, overall.threshold)
    scales = ratios.scales._replace(
        scores=tuple(_kept(column) for column in ratios.every.T),
        final_median=overall.median,
        final_limit=overall.threshold,
        final_scores=_kept(final),
        tau=overall.tau,
        ages=ages,
    )
    scales = scales._replace(rank_tau=_rank_tau(scales.ranks(ratios.limit_ratios), limit))
    each = {
        name: _estimate(
            asset_class,
            settings.nu,
            ratios.scale.score[:, s],
            ratios.scale,
            f"{ratios.source} scores of {name}",
        )
        for s, name in enumerate(names)
    }
    return Calibrated(scales, overall, each, final, limit, budget)


def _with_masks(asset_class: AssetClass, scales: Scales, scored: Scored, evidence: Evidence) -> Scales:
    """The scales with the effects of masks, in units of these windows' ratios."""
    ratios = scales.on_scale(scored.score, scored.maturity)
    nu, length = asset_class.calibration.nu, asset_class.window.length
    return scales._replace(
        masks=masks_of(evidence.studies, length, ratios, nu), usual=usual_of(evidence.studies)
    )


def _on_scale(scales: Scales, scored: Scored, evidence: Evidence) -> NDArray[np.float64]:
    """Ratios [W, S] as live: the effect of masked sensors taken back."""
    ratios = scales.on_scale(scored.score, scored.maturity)
    return evidence.missing.taken_back(ratios, scored.closing, scales.masks)


def _scorer_scales(asset_class: AssetClass, scored: Scored) -> Scales:
    """Scales that know the scorers' medians and limits only."""
    maturity = _maturity_classes(asset_class, scored)
    median, limits = _scorer_limits(asset_class.calibration.nu, scored, maturity)
    none, usual = Masks.without_effect(len(median), 1, 1), np.ones((len(median), 1))
    return Scales(
        maturity, median, limits, (), 0.0, 1.0, np.zeros(0), 1.0, 1.0, Ages.of_no_effect(), none, usual
    )


def smoothed(
    asset_class: AssetClass, scored: Scored, ratios: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Combined, smoothed ratios [W] of sorted windows and their averages' ages [W], by the stage that runs live."""
    smoother = Smoother(asset_class.scoring.smoothing, asset_class.window.length)
    smoother.grow(int(scored.row.max()) + 1)
    combined = combine(ratios, asset_class.scoring.combine)
    out, age = np.empty(len(combined)), np.empty(len(combined), np.int64)
    for w in range(len(combined)):
        one = slice(w, w + 1)
        out[one] = smoother.step(scored.row[one], scored.slot[one], scored.segment[one], combined[one])
        age[one] = smoother.ages(scored.row[one])
    return out, age


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


def _estimate(
    asset_class: AssetClass,
    nu: float,
    scores: NDArray[np.float64],
    scored: Scored,
    source: str,
    *,
    extrapolate: bool = False,
    least_tau: float = 1.0,
) -> Estimate:
    settings = asset_class.calibration
    return estimate(
        scores,
        nu,
        rng=np.random.default_rng(asset_class.scoring.seed),
        enough=settings.enough,
        extrapolate=extrapolate,
        least_tau=least_tau,
        runs=runs_of(scored),
        source=source,
        start_ns=int(scored.end.min()),
        end_ns=int(scored.end.max()),
    )


def _rank_tau(ranks: NDArray[np.float64], scored: Scored) -> float:
    """The longest autocorrelation time of the scorers' ranks [W, S]: what drift detectors see is thinned to it."""
    return max(autocorrelation_time(ranks[:, s], runs_of(scored)) for s in range(ranks.shape[1]))


def runs_of(scored: Scored) -> list[int]:
    """Lengths of the unbroken runs of windows."""
    breaks = np.flatnonzero((np.diff(scored.row) != 0) | (np.diff(scored.segment) != 0)) + 1
    return np.diff(np.concatenate([[0], breaks, [len(scored.row)]])).tolist()


def _kept(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    ordered = np.sort(scores)
    if len(ordered) <= _MAX_KEPT:
        return ordered
    return ordered[np.linspace(0, len(ordered) - 1, _MAX_KEPT).round().astype(np.int64)]
