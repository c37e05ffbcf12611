"""Scores of windows that fitted nothing: of held-out parts, or of folds by models that were fitted without them.

Out-of-fold scores come from models of fewer rows than the bundle's, and from several of them. Each fold's scores
are therefore put on the bundle's scale by what both models say of the rows that they were fitted to, and the
factor by which they lie wider than those is reduced to what it is for a fit to all rows. With p parameters fitted to
n rows, new residuals are as (1 + p / n) / (1 - p / n) to fitted ones (final prediction error: Akaike, Annals of the
Institute of Statistical Mathematics 21, 1969), so that what is seen at n (K - 1) / K rows tells p, and p what it will
be at n. A fit that has learnt its rows by heart (a kernel density, which is highest at its own points) says nothing of
new ones on those: where the factor is beyond all such fits, out-of-fold scores are taken as they are.
Everything else is read off the scores, from location and spread, and is the same for a score that is shifted or
stretched.

Scores of one model per fold against new ones of another model are the setting of cross-conformal prediction and
of the jackknife+ (Vovk, Annals of Mathematics and Artificial Intelligence 74, 2015; Barber, Candes, Ramdas &
Tibshirani, Annals of Statistics 49, 2021), whose guarantee needs all K models at prediction; with one, coverage is
approximate.

Shape letters: M slots, W windows, S scorers, K folds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.program import Program, compile_program
from models.scorer import FitRefused, Windows
from monitor.settings import AssetClass
from monitor.thresholds.threshold import ThresholdRefused
from monitor.training.fit import Fit
from monitor.training.history import CHUNK, LIMIT, SCALE, Normal, Rows, folds_of, part_without, windows_of
from monitor.training.masking import Study, study
from monitor.training.progress import FoldProgress, TrainingProgress

_SPREAD = 0.9
"""The spread of scores is taken from the median to this quantile: far enough up to see the tail's scale, with
enough scores beyond it that it does not scatter."""
_TINY = 1e-3
_BY_HEART = 10.0
"""A factor beyond which fitted rows say nothing of new ones: nine parameters for every eleven rows."""
_IN_SAMPLE = 4096
"""Fitting windows that are scored at most, to learn how much lower their scores are."""

FitWithout = Callable[[NDArray[np.int8], TrainingProgress], Fit]
"""Fits what `part` [M] says, told of its progress."""


class Scored(NamedTuple):
    """Scored windows, sorted by asset and time.

    Attributes:
        closing: [W] index of the last slot.
        row: [W] the asset.
        slot: [W] the last slot.
        segment: [W] slot at which the unbroken stretch began: of the stream, or of the fold.
        end: [W] ns since the epoch.
        maturity: [W] samples.
        score: [W, S].
        fold: [W] number of the fold; 0 without folds.
    """

    closing: NDArray[np.int64]
    row: NDArray[np.int32]
    slot: NDArray[np.int64]
    segment: NDArray[np.int64]
    end: NDArray[np.int64]
    maturity: NDArray[np.int32]
    score: NDArray[np.float64]
    fold: NDArray[np.int8]


class OutOfFold(NamedTuple):
    """What the folds gave.

    Attributes:
        scored: all windows.
        studies: of masks, one per fold.
        folds: [M] fold of each slot.
    """

    scored: Scored
    studies: list[Study]
    folds: NDArray[np.int8]


def held_out(
    asset_class: AssetClass, rows: Rows, normal: Normal, program: Program, told: TrainingProgress
) -> dict[int, Scored]:
    """Scores of the windows of the SCALE and the LIMIT part.

    Raises:
        ThresholdRefused: a part has no window.
        FitRefused: a score is not finite.
    """
    return {part: _scored(asset_class, rows, normal, program, part, told) for part in (SCALE, LIMIT)}


def out_of_fold(
    asset_class: AssetClass, rows: Rows, full: Fit, fit_without: FitWithout, told: TrainingProgress
) -> OutOfFold:
    """Scores of all the history, each by models that were fitted without its fold, on the full fit's scale.

    Args:
        asset_class: its settings.
        rows: the history.
        full: fitted to all of it.
        fit_without: fits without a fold.
        told: of stages.

    Raises:
        ThresholdRefused: no fold has a window, or scores that hardly differ.
        FitRefused: a score is not finite, or a fold's fit is refused.
    """
    folds = folds_of(asset_class, rows.slots)
    held, program = np.unique(folds).tolist(), compile_program(full.draft)
    own = _location_and_spread(_in_sample(program, full.windows))
    parts: list[Scored] = []
    raw: list[NDArray[np.float64]] = []
    shares: list[float] = []
    studies: list[Study] = []
    for number in held:
        part = part_without(folds, number)
        fitted = fit_without(part, FoldProgress(told, number, len(held)))
        mine = program.given(fitted.draft)
        scored = _scored(asset_class, rows, fitted.normal, mine, LIMIT, told)
        centre, spread = _location_and_spread(_in_sample(mine, fitted.windows))
        parts.append(
            scored._replace(
                score=(scored.score - centre) / spread,
                segment=np.maximum(scored.segment, _fold_starts(rows, part)[scored.row]),
                fold=np.full(len(scored.row), number, np.int8),
            )
        )
        raw.append(scored.score)
        shares.append(fitted.available / full.available)
        studies.append(study(asset_class, rows, fitted.normal, mine, LIMIT, 1.0 / len(held)))
    scored = on_full_scale(_joined(parts), np.concatenate(raw), own, float(np.mean(shares)))
    return OutOfFold(_sorted(scored), studies, folds)


def on_full_scale(
    scored: Scored,
    raw: NDArray[np.float64],
    own: tuple[NDArray[np.float64], NDArray[np.float64]],
    share: float,
) -> Scored:
    """Scores in units of what their models say of the rows that they know, as the full fit would score them.

    Args:
        scored: of all folds: 0 is the median and 1 the spread of the fold model's fitting rows.
        raw: [W, S] the same scores as the fold models gave them.
        own: median and spread [S] of the full fit's scores of its fitting rows.
        share: of the full fit's windows that fitted the fold models.
    """
    centre, wider = _location_and_spread(scored.score)
    less = _optimism(wider, share)
    shift = np.where(wider > 1.0 + _TINY, (less - 1.0) / np.maximum(wider - 1.0, _TINY), share)
    standard = (scored.score - centre) / wider
    moved = own[0] + own[1] * (shift * centre + less * standard)
    return scored._replace(score=np.where(wider > _BY_HEART, raw, moved))


def _optimism(factor: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """The factor [S] by which new scores lie wider than fitted ones, of a fit to 1 / share as many rows."""
    above = np.maximum(factor, 1.0)
    parameters = share * (above - 1.0) / (above + 1.0)  # p / n of the fold models, and at the full fit's n
    return np.where(factor > 1.0, (1.0 + parameters) / (1.0 - parameters), factor**share)


def _in_sample(program: Program, windows: Windows) -> NDArray[np.float64]:
    values, mask = np.asarray(windows.values), np.asarray(windows.mask)
    every = -(-len(values) // _IN_SAMPLE)
    scores = program(values[::every], mask[::every]).score.astype(np.float64)
    _check_finite(scores)
    return scores


def _location_and_spread(scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median and distance to the upper decile, [S] each, of scores [n, S]."""
    centre, upper = np.quantile(scores, [0.5, _SPREAD], axis=0)
    if not (upper > centre).all():
        number = int(np.flatnonzero(upper <= centre)[0])
        raise ThresholdRefused(
            f"scorer {number}: got scores of which a tenth is not above the median, expected them to "
            "differ; hint: the scorer has collapsed, or its input is constant"
        )
    return centre, upper - centre


def _fold_starts(rows: Rows, part: NDArray[np.int8]) -> NDArray[np.int64]:
    """Slot [A] at which the held-out fold of each asset begins."""
    starts = np.zeros(len(rows.assets), np.int64)
    held = np.flatnonzero(part == LIMIT)
    assets, first = np.unique(rows.slots.row[held], return_index=True)
    starts[assets] = rows.slots.slot[held[first]]
    return starts


def _scored(
    asset_class: AssetClass,
    rows: Rows,
    normal: Normal,
    program: Program,
    part: int,
    told: TrainingProgress,
) -> Scored:
    """Scores of the windows of one part."""
    found: list[Scored] = []
    slots, done = rows.slots, 0
    for chunk in windows_of(asset_class, rows, normal):
        mine = normal.part[chunk.closing] == part
        index = chunk.closing[mine]
        if len(index):
            score = program(chunk.values[mine], chunk.mask[mine]).score.astype(np.float64)
            found.append(
                Scored(
                    index,
                    slots.row[index],
                    slots.slot[index],
                    normal.segment[index],
                    slots.end[index],
                    chunk.maturity[mine],
                    score,
                    np.zeros(len(index), np.int8),
                )
            )
        done += CHUNK
        told.step(min(done, len(normal.part)), len(normal.part), {})
    if not found:
        where = {SCALE: "in the scale part", LIMIT: "in the limit part, or the fold"}[part]
        raise ThresholdRefused(
            f"got no held-out window {where}; hint: give a longer history or a larger `calibration.holdout`"
        )
    joined = _joined(found)
    _check_finite(joined.score)
    return joined


def _check_finite(scores: NDArray[np.float64]) -> None:
    finite = np.isfinite(scores).all(axis=1)
    if not finite.all():
        raise FitRefused(f"{np.count_nonzero(~finite)} held-out windows got a score that is not a number")


def _joined(parts: list[Scored]) -> Scored:
    columns: list[Any] = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Scored(*columns)


def _sorted(scored: Scored) -> Scored:
    order = np.lexsort((scored.slot, scored.row))
    columns: list[Any] = [column[order] for column in scored]
    return Scored(*columns)
