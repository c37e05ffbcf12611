"""Limits from held-out windows that fitted nothing.

Shape letters: W windows, S scorers, K maturity classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.program import Program
from models.scorer import FitRefused
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
from monitor.training.history import CHUNK, LIMIT, SCALE, Normal, Rows, least_maturity, windows_of

_MAX_KEPT = 65_536
"""Calibration scores kept in a bundle per scorer; more are thinned to evenly spaced order statistics."""


class TrainingProgress:
    """What is told while training; the default tells nothing."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        """Progress within the stage."""


class Scored(NamedTuple):
    """Scored windows of one part, sorted by asset and time."""

    row: NDArray[np.int32]
    slot: NDArray[np.int64]
    segment: NDArray[np.int64]
    end: NDArray[np.int64]
    maturity: NDArray[np.int32]
    score: NDArray[np.float32]


def score_held_out(
    asset_class: AssetClass, rows: Rows, normal: Normal, program: Program, told: TrainingProgress
) -> dict[int, Scored]:
    """Scores of the held-out windows, by part."""
    found: dict[int, list[Scored]] = {SCALE: [], LIMIT: []}
    done = 0
    for chunk in windows_of(asset_class, rows, normal):
        for part in (SCALE, LIMIT):
            mine = normal.part[chunk.closing] == part
            if not mine.any():
                continue
            index = chunk.closing[mine]
            score = program(chunk.values[mine], chunk.mask[mine]).score
            slots = rows.slots
            found[part].append(
                Scored(
                    slots.row[index],
                    slots.slot[index],
                    normal.segment[index],
                    slots.end[index],
                    chunk.maturity[mine],
                    score,
                )
            )
        done += CHUNK
        told.step(min(done, len(normal.part)), len(normal.part), {})
    return {part: _joined(part, parts) for part, parts in found.items()}


def _joined(part: int, parts: list[Scored]) -> Scored:
    if not parts:
        where = {SCALE: "scale", LIMIT: "limit"}[part]
        raise ThresholdRefused(
            f"got no held-out window in the {where} part; hint: give a longer history or a larger "
            "`calibration.holdout`"
        )
    columns: list[Any] = [np.concatenate(column) for column in zip(*parts, strict=True)]
    joined = Scored(*columns)
    finite = np.isfinite(joined.score).all(axis=1)
    if not finite.all():
        raise FitRefused(f"{np.count_nonzero(~finite)} held-out windows got a score that is not a number")
    return joined


def calibrate(
    asset_class: AssetClass, scored: Mapping[int, Scored], program: Program
) -> tuple[Scales, Estimate, dict[str, Estimate], NDArray[np.float64]]:
    """Each scorer's scale from one part, the limit of the combined, smoothed ratio from the other.

    Args:
        asset_class: its settings.
        scored: the held-out windows by part.
        program: the compiled scorers, for their names.

    Returns:
        The scales, the estimate of the limit, of each scorer's own limit by name, and the limit part's final
        ratios [W].

    Raises:
        ThresholdRefused: too few windows for nu, or scores that hardly differ.
    """
    settings, scale, limit = asset_class.calibration, scored[SCALE], scored[LIMIT]
    maturity = _maturity_classes(asset_class, scale)
    median, limits = _scorer_limits(settings.nu, scale, maturity)
    blank = Scales(maturity, median, limits, (), 0.0, 1.0, np.zeros(0), 1.0, 1.0)
    on_scale = blank.on_scale(limit.score, limit.maturity)
    smooth = smoothed(asset_class, limit.row, limit.slot, limit.segment, on_scale)
    overall = _estimate(asset_class, smooth, limit, "held-out combined, smoothed ratios")
    both = np.concatenate([blank.on_scale(scale.score, scale.maturity), on_scale])
    final = ratio(smooth, overall.median, overall.threshold)
    scales = blank._replace(
        scores=tuple(_kept(both[:, s]) for s in range(both.shape[1])),
        final_median=overall.median,
        final_limit=overall.threshold,
        final_scores=_kept(final),
        tau=overall.tau,
    )
    scales = scales._replace(rank_tau=_rank_tau(scales.ranks(on_scale), limit))
    each = {
        name: _estimate(
            asset_class, scale.score[:, s].astype(np.float64), scale, f"held-out scores of {name}"
        )
        for s, name in enumerate(program.scorers)
    }
    return scales, overall, each, final


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
    scores = scored.score.astype(np.float64)
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
