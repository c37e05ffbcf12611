"""A bundle that has heard verdicts: other weights and limits, the same network.

1. The windows of the verdicts and those of known-good history are scored by the bundle as it is.
2. Weights are learnt from the verdicts (`monitor.training.feedback`); some verdicts may be kept to judge.
3. Limits: every calibration quantile moves by as much as the same quantile of the history's windows does, from the old
   weights to the new, with the windows of verdicts 'false' counted as normal and those of 'real' left out. What of the
   history fitted the models is in it on both sides, so what that does to its scores cancels. Without verdicts nothing
   moves, to the last bit.

Shape letters: W windows, S scorers, D scored sensors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.bundle import Bundle
from monitor.evaluation.ranking import pr_auc, roc_auc
from monitor.evaluation.verdicts import Verdict
from monitor.model import Model, Scales
from monitor.settings import AssetClass
from monitor.thresholds.ages import Ages
from monitor.thresholds.reranking import Reranking
from monitor.thresholds.threshold import nu_quantile, ratio
from monitor.training.feedback import Manner, Scene, Told, combined, learn, weighted
from monitor.training.history import Rows, TrainingRefused, newest_rows
from monitor.training.progress import TrainingProgress
from monitor.training.recorded import Recorded, final_ratios, recorded, weights_of

_MOST = 65_536
"""Windows of the history that are looked at, at most: the newest of them."""

Floats = NDArray[np.float64]


class Judged(Struct, frozen=True, kw_only=True):
    """How verdicts' windows rank and where they lie.

    Attributes:
        verdicts: with at least one window.
        roc: ROC-AUC of windows of 'real' over those of 'false'; None where there is one kind only.
        pr: average precision, likewise.
        real_over: share of the windows of 'real' over the limit.
        false_over: share of those of 'false' over it.
    """

    verdicts: int
    roc: float | None
    pr: float | None
    real_over: float | None
    false_over: float | None


class Weight(Struct, frozen=True):
    """What a sensor adds to a scorer's ratio counts so much."""

    scorer: str
    sensor: str
    weight: float


class Feedback(Struct, frozen=True, kw_only=True):
    """What verdicts have changed.

    Attributes:
        used: verdicts that were learnt from.
        held_out: verdicts that judge.
        unseen: verdicts without a scored window, as text.
        used_before: the used ones before,
        used_after: and after.
        held_before: those held out before,
        held_after: and after.
        weights: that are not 1, furthest from it first.
        limit_before: of the combined, smoothed ratio,
        limit_after: and after.
        normal_windows: of the history that the limit rests on, beside the windows of 'false'.
    """

    used: int
    held_out: int
    unseen: tuple[str, ...]
    used_before: Judged
    used_after: Judged
    held_before: Judged
    held_after: Judged
    weights: tuple[Weight, ...]
    limit_before: float
    limit_after: float
    normal_windows: int

    @property
    def worse(self) -> bool:
        """Whether verdicts that were not learnt from rank worse than before."""
        before, after = self.held_before.roc, self.held_after.roc
        return before is not None and after is not None and after < before


def apply_verdicts(
    asset_class: AssetClass,
    bundle: Bundle,
    history: Rows,
    told_of: Rows,
    used: Sequence[Verdict],
    held: Sequence[Verdict],
    *,
    prior: float,
    told: TrainingProgress,
) -> tuple[Bundle, Feedback]:
    """Learn from verdicts.

    Args:
        asset_class: its settings.
        bundle: that was in force.
        history: known-good rows, such as the bundle was trained on.
        told_of: rows that the verdicts are about.
        used: verdicts to learn from.
        held: verdicts to judge by.
        prior: how strongly weights are held.
        told: of stages.

    Returns:
        The new bundle, and what has changed.

    Raises:
        TrainingRefused: no window of the history, or of the verdicts to learn from.
    """
    model = Model(bundle, asset_class)
    scales, settings = model.scales, asset_class.scoring
    told.stage("scoring history")
    calm = recorded(asset_class, model, newest_rows(history, _MOST * asset_class.window.stride), told)
    told.stage("scoring recordings")
    record = recorded(asset_class, model, told_of, told)
    manner = Manner(settings.combine, settings.smoothing, model.nu, prior)
    places = {one: _windows(record, one) for one in (*used, *held)}
    learnt_from = [Told(places[one], one.real) for one in used if len(places[one])]
    if used and not learnt_from:
        raise TrainingRefused(
            "verdicts: none of them has a scored window in the recordings; hint: check times and assets"
        )
    told.stage("weighing")
    before = weights_of(model)
    good = ~_mask(calm, [_windows(calm, one) for one in (*used, *held) if one.real])
    weights = learn(_part(calm.scene, good), record.scene, learnt_from, manner, before)
    false = _mask(record, [one.windows for one in learnt_from if not one.real])
    new = _recalibrated(model, manner, (calm, good), (record, false), weights) if learnt_from else scales

    def judged(verdicts: Sequence[Verdict], its: Scales, its_weights: Floats) -> Judged:
        return _judged(record, [(places[v], v.real) for v in verdicts], its, its_weights, manner)

    feedback = Feedback(
        used=len(used),
        held_out=len(held),
        unseen=tuple(one.text for one, at in places.items() if not len(at)),
        used_before=judged(used, scales, before),
        used_after=judged(used, new, weights),
        held_before=judged(held, scales, before),
        held_after=judged(held, new, weights),
        weights=_told(model, weights),
        limit_before=scales.final_limit,
        limit_after=new.final_limit,
        normal_windows=int(np.count_nonzero(good)),
    )
    return (_bundle(bundle, new, used, feedback) if learnt_from else bundle), feedback


def _windows(windows: Recorded, verdict: Verdict) -> NDArray[np.int64]:
    inside = (windows.end >= verdict.start_ns) & (windows.end <= verdict.end_ns)
    return np.flatnonzero((windows.asset == verdict.asset) & inside)


def _mask(windows: Recorded, places: Sequence[NDArray[np.int64]]) -> NDArray[np.bool_]:
    which = np.zeros(len(windows.end), np.bool_)
    for at in places:
        which[at] = True
    return which


def _part(scene: Scene, which: NDArray[np.bool_]) -> Scene:
    """Some windows; smoothing starts anew behind those that are left out."""
    gap = np.concatenate([[True], ~which[:-1]])
    return Scene(scene.on_scale[which], scene.shares[which], (scene.breaks | gap)[which])


def _recalibrated(
    model: Model,
    manner: Manner,
    calm: tuple[Recorded, NDArray[np.bool_]],
    false: tuple[Recorded, NDArray[np.bool_]],
    weights: Floats,
) -> Scales:
    """Calibration quantiles, moved as those of normal windows move."""
    scales = model.scales
    old = _normal_values((calm,), manner, weights_of(model), scales.ages)
    new = _normal_values((calm, false), manner, weights, scales.ages)
    limit = scales.final_limit + nu_quantile(new, manner.nu) - nu_quantile(old, manner.nu)
    median = scales.final_median + float(np.median(new) - np.median(old))
    raw = scales.final_median + scales.final_scores * (scales.final_limit - scales.final_median)
    if limit <= median:
        raise TrainingRefused(
            "verdicts: they leave no room between normal and the limit; hint: a larger --prior"
        )
    u_old, u_new = (
        _normal_ratios(parts, its) for parts, its in (((calm,), weights_of(model)), ((calm, false), weights))
    )
    return scales._replace(
        scores=tuple(_moved(known, u_old[:, s], u_new[:, s]) for s, known in enumerate(scales.scores)),
        final_scores=ratio(_moved(raw, old, new), median, limit),
        final_median=median,
        final_limit=limit,
        reranking=Reranking(weights),
    )


def _normal_values(
    parts: Sequence[tuple[Recorded, NDArray[np.bool_]]], manner: Manner, weights: Floats, ages: Ages
) -> Floats:
    every = [ages.steady(combined(w.scene, weights, manner), w.age)[which] for w, which in parts]
    return np.concatenate(every)


def _normal_ratios(parts: Sequence[tuple[Recorded, NDArray[np.bool_]]], weights: Floats) -> Floats:
    return np.concatenate([weighted(w.scene, weights)[which] for w, which in parts])


def _moved(known: Floats, old: Floats, new: Floats) -> Floats:
    """Sorted calibration scores, each quantile moved by as much as the same quantile of normal windows."""
    at = (np.arange(len(known)) + 0.5) / len(known)
    return np.maximum.accumulate(known + np.quantile(new, at) - np.quantile(old, at))


def _judged(
    record: Recorded,
    verdicts: Sequence[tuple[NDArray[np.int64], bool]],
    scales: Scales,
    weights: Floats,
    manner: Manner,
) -> Judged:
    seen = [(at, real) for at, real in verdicts if len(at)]
    if not seen:
        return Judged(verdicts=0, roc=None, pr=None, real_over=None, false_over=None)
    final = final_ratios(record, scales, weights, manner)
    score = np.concatenate([final[at] for at, _ in seen])
    truth = np.concatenate([np.full(len(at), real) for at, real in seen])
    return Judged(
        verdicts=len(seen),
        roc=roc_auc(truth, score),
        pr=pr_auc(truth, score),
        real_over=_over(score[truth]),
        false_over=_over(score[~truth]),
    )


def _over(score: Floats) -> float | None:
    return float(np.mean(score > 1.0)) if len(score) else None


def _told(model: Model, weights: Floats) -> tuple[Weight, ...]:
    found = [
        Weight(scorer, sensor, float(weights[s, d]))
        for s, scorer in enumerate(model.program.scorers)
        for d, sensor in enumerate(model.sensors)
        if weights[s, d] != 1.0
    ]
    return tuple(sorted(found, key=lambda one: -abs(one.weight - 1.0)))


def _bundle(bundle: Bundle, scales: Scales, used: Sequence[Verdict], feedback: Feedback) -> Bundle:
    known = dict(bundle.fields["calibration"])
    shift = scales.final_limit - feedback.limit_before
    for name in ("threshold", "low", "high"):
        known[name] += shift
    known["median"] = scales.final_median
    verdicts = {"from": bundle.id, "used": [one.text for one in used], "held_out": feedback.held_out}
    arrays = {**bundle.calibration, **scales.to_arrays()}
    fields = {**bundle.fields, "calibration": known, "verdicts": verdicts}
    return dataclasses.replace(bundle, calibration=arrays, fields=fields)
