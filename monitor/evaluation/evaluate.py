"""What a replay was worth, in figures: against labels where there are any, and only what can be said.

Every figure is causal and per window: a window counts by its own ratio and the label of its last sample.
Predictions are never 'point-adjusted' (one hit never counts for a whole fault interval). Windows that were
not scored raise nothing; they are left out of the rates and counted beside them (``share_scored``,
``anomalous_unscored``). What cannot be computed is None, and ``notes`` says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from monitor.evaluation.asset_view import AssetView, asset_views
from monitor.evaluation.figures import (
    Counts,
    Decisive,
    Delays,
    Evaluation,
    Figures,
    IncidentRates,
    Ranking,
    Rate,
    ScorerFigures,
)
from monitor.evaluation.incident_log import Incident
from monitor.evaluation.labels import UNLABELLED, Label, Labels
from monitor.evaluation.realised import Counted, realised
from monitor.quantities import NS_PER_S, iso_time
from monitor.thresholds.threshold import autocorrelation_time
from monitor.trace import Trace

_NS_PER_DAY = 86_400 * NS_PER_S


def evaluate(
    trace: Trace, incidents: Sequence[Incident], labels: Labels = UNLABELLED, *, nu: float
) -> Evaluation:
    """Judge a replay of one asset class.

    Args:
        trace: its windows.
        incidents: its incidents; those of other assets are left out.
        labels: what is known of when assets were not normal.
        nu: the asked fraction of normal windows over the limit.
    """
    views = list(asset_views(trace, incidents, labels))
    labelled = any(view.known.any() for view in views)
    pooled = _figures(views, nu)
    return Evaluation(
        asset_class=trace.asset_class,
        labelled=labelled,
        pooled=pooled,
        assets={view.asset: _figures([view], nu) for view in views},
        scorers=_scorer_figures(trace, views, nu),
        detections=tuple(d for view in views for d in view.detections),
        decisive=_decisive(views),
        notes=_notes(trace, views, labels, pooled),
        realised=realised(_counted(trace, views), nu),
    )


def rate_interval(hits: int, trials: int, tau: float) -> tuple[float | None, float | None]:
    """Wilson's 95 % interval of a rate with ``trials / tau`` independent trials; (None, None) without any."""
    if not trials:
        return None, None
    z, n, p = 1.959964, trials / tau, hits / trials
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def _counted(trace: Trace, views: Sequence[AssetView]) -> Counted:
    """The windows that are not known to be anomalous, for the rates by asset, recipe and phase."""
    rows = _joined([view.rows[view.ordinary] for view in views]).astype(np.int64)
    began = [np.isin(v.ends, [i.start_ns for i in v.incidents if i.kind == "ANOMALY"]) for v in views]
    usual = [int(np.median(np.diff(view.ends))) if len(view.ends) > 1 else 0 for view in views]
    return Counted(
        assets=trace.assets,
        asset=trace.asset[rows],
        contexts=trace.contexts,
        context=trace.context[rows],
        over=trace.ratio[rows] > 1.0,
        began=_joined([b[v.ordinary] for b, v in zip(began, views, strict=True)]).astype(np.bool_),
        period=np.repeat(np.array(usual, np.int64), [int(view.ordinary.sum()) for view in views]),
    )


def _figures(views: Sequence[AssetView], nu: float) -> Figures:
    windows = sum(len(view.ends) for view in views)
    scored = sum(int(view.scored.sum()) for view in views)
    truth = _joined([view.codes[view.known] == Label.ANOMALOUS for view in views]).astype(np.bool_)
    ratio = _joined([view.ratio[view.known] for view in views])
    counts = _counts(truth, ratio > 1.0) if len(truth) else None
    precision, recall, f1 = _precision_recall_f1(truth, ratio > 1.0)
    distances = [np.abs(view.ratio[view.scored] - 1.0) for view in views]
    return Figures(
        windows=windows,
        scored=scored,
        share_scored=_share(scored, windows),
        anomalous_unscored=sum(int((~v.scored & (v.codes == Label.ANOMALOUS)).sum()) for v in views),
        counts=counts,
        precision=precision,
        recall=recall,
        f1=f1,
        false_alarm_rate=_share(counts.false_positives, int((~truth).sum())) if counts else None,
        missed_alarm_rate=_share(counts.false_negatives, int(truth.sum())) if counts else None,
        ranking=_ranking(truth, ratio),
        rate=_rate(views, [view.ratio for view in views], nu),
        incidents=_incident_rates(views),
        delays=_delays(views),
        decisive_ratio=float(_joined(distances).min()) if scored else None,
    )


def _joined(parts: Sequence[NDArray]) -> NDArray:
    return np.concatenate(parts) if parts else np.zeros(0)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _counts(truth: NDArray[np.bool_], over: NDArray[np.bool_]) -> Counts:
    return Counts(
        true_positives=int((truth & over).sum()),
        false_positives=int((~truth & over).sum()),
        false_negatives=int((truth & ~over).sum()),
        true_negatives=int((~truth & ~over).sum()),
    )


def _precision_recall_f1(
    truth: NDArray[np.bool_], over: NDArray[np.bool_]
) -> tuple[float | None, float | None, float | None]:
    """The three, each None where its denominator is empty; F1 too where there is nothing to find."""
    return (
        float(precision_score(truth, over)) if over.any() else None,
        float(recall_score(truth, over)) if truth.any() else None,
        float(f1_score(truth, over)) if truth.any() else None,
    )


def _ranking(truth: NDArray[np.bool_], ratio: NDArray[np.float64]) -> Ranking:
    both = bool(len(truth)) and bool(truth.any()) and not bool(truth.all())
    return Ranking(
        roc_auc=float(roc_auc_score(truth, ratio)) if both else None,
        pr_auc=float(average_precision_score(truth, ratio)) if both else None,
        anomalous_share=_share(int(truth.sum()), len(truth)),
    )


def _rate(views: Sequence[AssetView], ratios: Sequence[NDArray[np.float64]], nu: float) -> Rate:
    counted = [view.ordinary & np.isfinite(ratio) for view, ratio in zip(views, ratios, strict=True)]
    over = [ratio > 1.0 for ratio in ratios]
    windows = sum(int(c.sum()) for c in counted)
    exceedances = sum(int((o & c).sum()) for o, c in zip(over, counted, strict=True))
    tau = _tau(over, counted) if 0 < exceedances < windows else None
    low, high = rate_interval(exceedances, windows, tau or 1.0)
    return Rate(
        basis=_basis(views),
        windows=windows,
        exceedances=exceedances,
        asked=nu,
        realised=_share(exceedances, windows),
        tau=tau,
        low=low,
        high=high,
    )


def _tau(over: Sequence[NDArray[np.bool_]], counted: Sequence[NDArray[np.bool_]]) -> float:
    """Autocorrelation time of exceedances in windows, over each asset's unbroken runs of counted ones."""
    exceeds = _joined([o[c] for o, c in zip(over, counted, strict=True)])
    edges = [np.flatnonzero(np.diff(c.astype(np.int8), prepend=0, append=0)) for c in counted]
    return autocorrelation_time(exceeds, _joined([e[1::2] - e[::2] for e in edges]).tolist())


def _basis(views: Sequence[AssetView]) -> str:
    labelled = [bool((view.codes != Label.UNKNOWN).any()) for view in views]
    if not any(labelled):
        return "unlabelled"
    return "normal" if all(labelled) else "normal and unlabelled"


def _incident_rates(views: Sequence[AssetView]) -> IncidentRates:
    days = sum(_monitored_ns(view.ends) for view in views) / _NS_PER_DAY
    kinds = [incident.kind for view in views for incident in view.incidents]
    labelled = [view for view in views if view.false is not None]
    false = sum(len(view.false or ()) for view in labelled) if labelled else None
    labelled_days = sum(_monitored_ns(view.ends) for view in labelled) / _NS_PER_DAY
    return IncidentRates(
        days=days,
        by_kind={kind: kinds.count(kind) for kind in sorted(set(kinds))},
        anomalies_per_day=kinds.count("ANOMALY") / days if days else None,
        false=false,
        false_per_week=7 * false / labelled_days if false is not None and labelled_days else None,
    )


def _monitored_ns(ends: NDArray[np.int64]) -> int:
    """Time under watch: distances of window ends; one over ten times the usual is a gap, and counts so."""
    if len(ends) < 2:
        return 0
    distance = np.diff(ends)
    usual = int(np.median(distance))
    return int(np.where(distance > 10 * usual, usual, distance).sum()) + usual


def _delays(views: Sequence[AssetView]) -> Delays | None:
    if not any((view.codes != Label.UNKNOWN).any() for view in views):
        return None
    detections = [d for view in views for d in view.detections]
    first = [d.first_delay_s for d in detections if d.first_delay_s is not None]
    third = [d.third_delay_s for d in detections if d.third_delay_s is not None]
    raised = [d.incident_delay_s for d in detections if d.incident_delay_s is not None]
    return Delays(
        faults=len(detections),
        detected=len(first),
        undetected=len(detections) - len(first),
        detected_by_three=len(third),
        raised=len(raised),
        median_first_s=median(first) if first else None,
        median_third_s=median(third) if third else None,
        median_incident_s=median(raised) if raised else None,
    )


def _scorer_figures(trace: Trace, views: Sequence[AssetView], nu: float) -> tuple[ScorerFigures, ...]:
    def one(index: int, name: str) -> ScorerFigures:
        ratios = [np.where(v.scored, trace.scorer_ratio[v.rows, index], np.nan) for v in views]
        known = [v.known & np.isfinite(r) for v, r in zip(views, ratios, strict=True)]
        truth = _joined([v.codes[k] == Label.ANOMALOUS for v, k in zip(views, known, strict=True)]).astype(
            np.bool_
        )
        ratio = _joined([r[k] for r, k in zip(ratios, known, strict=True)])
        return ScorerFigures(name=name, ranking=_ranking(truth, ratio), rate=_rate(views, ratios, nu))

    return tuple(one(index, name) for index, name in enumerate(trace.scorers))


def _decisive(views: Sequence[AssetView]) -> Decisive | None:
    nearest: Decisive | None = None
    for view in views:
        if not view.scored.any():
            continue
        at = int(np.nanargmin(np.abs(view.ratio - 1.0)))
        distance = float(abs(view.ratio[at] - 1.0))
        if nearest is None or distance < nearest.distance:
            nearest = Decisive(distance=distance, asset=view.asset, end=iso_time(int(view.ends[at])))
    return nearest


def _notes(trace: Trace, views: Sequence[AssetView], labels: Labels, pooled: Figures) -> tuple[str, ...]:
    notes = list[str]()
    if not pooled.scored:
        notes.append("no window was scored: nothing can be said of the scores")
    if pooled.counts is None:
        notes.append(
            "no labels for these windows: precision, recall, F1, alarm rates, areas under curves and delays "
            "cannot be said; the realised nu is over all scored windows, faults among them included"
        )
    else:
        notes += _label_notes(views, pooled)
    named = sum(len(labels.faults_of(asset)) for asset in trace.assets)
    outside = named - sum(len(view.detections) for view in views)
    if outside:
        notes.append(
            f"{outside} of {named} labelled faults lie outside the replayed time and are not counted"
        )
    return tuple(notes)


def _label_notes(views: Sequence[AssetView], pooled: Figures) -> list[str]:
    notes = list[str]()
    without = [view.asset for view in views if not (view.codes != Label.UNKNOWN).any()]
    if without:
        notes.append(f"without labels, so only in incidents and realised nu: {', '.join(without[:10])}")
    if pooled.ranking.roc_auc is None:
        notes.append("all labelled windows are of one kind: areas under curves cannot be said")
    if pooled.anomalous_unscored:
        notes.append(f"{pooled.anomalous_unscored} anomalous windows were not scored and could not be found")
    return notes
