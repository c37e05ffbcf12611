"""From what the monitor says of every row to figures of a data set. Only rows of the test whose label is known count.

Rows without a score (their window is not full, or not real enough) count with the score 0, the median of normal, and
no alarm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from benchmarks.detection import tep
from benchmarks.detection.execute import Outcome
from monitor.evaluation.ranking import (
    Confusion,
    before_and_after,
    buffer_length,
    confusion,
    detection_delay,
    pooled,
    pr_auc,
    roc_auc,
    volume_under_surface,
)

NU_LIMIT = 0.01
"""Share of the scored rows of independent normal runs that the benchmark's own limit for TEP lets through."""
_DRAWS = 200


class SeriesFigures(Struct, frozen=True, kw_only=True):
    """Figures of one series; None where they cannot be said.

    Attributes:
        name: of the series.
        kind: of its fault.
        rows: judged.
        unscored: of them, without a score.
        roc: ROC-AUC.
        pr: average precision.
        vus_roc: volume under the ROC surface.
        vus_pr: volume under the precision-recall surface.
        buffer: the buffer length of both, rows.
        before: rows by label and alarm, before the first labelled anomaly.
        after: the same of all rows from it on.
        delays: of each labelled anomaly, rows to the third of three alarms in a row; None: not detected.
        refused: why there is no model.
    """

    name: str
    kind: str
    rows: int
    unscored: int
    roc: float | None
    pr: float | None
    vus_roc: float | None
    vus_pr: float | None
    buffer: int
    before: Confusion
    after: Confusion
    delays: tuple[int | None, ...]
    refused: str | None


class Fault(Struct, frozen=True, kw_only=True):
    """One TEP fault at the limit that lets 1 % of the independent normal runs' scored rows through, and at its own.

    Attributes:
        number: of the fault.
        roc: ROC-AUC of its run.
        rate: share of its rows over the benchmark's limit.
        delay: to the third row in a row over it.
        own_rate: share of its rows over the monitor's own threshold.
        own_delay: to the third alarm in a row.
    """

    number: int
    roc: float | None
    rate: float
    delay: int | None
    own_rate: float
    own_delay: int | None


class Faults(Struct, frozen=True, kw_only=True):
    """TEP's faults.

    Attributes:
        limit: the score that 1 % of the scored rows of the normal runs exceed; None: nothing was scored.
        realised: share of all normal runs' scored rows over the monitor's own threshold.
        faults: each fault.
    """

    limit: float | None
    realised: float | None
    faults: tuple[Fault, ...]


class SetFigures(Struct, frozen=True, kw_only=True):
    """Figures of one configuration and seed on a data set.

    Attributes:
        roc: mean over the series that have both kinds of rows; TEP: without the faults hardly anyone sees.
        pr: likewise.
        vus_roc: likewise.
        vus_pr: likewise.
        f1: of all rows pooled.
        far_before: share of pooled normal rows that alarm, before the first labelled anomaly of each series.
        far_after: likewise after it.
        mar: share of pooled anomalous rows without an alarm.
        delay: median over labelled anomalies, an undetected one being longer than any; None: most are undetected.
        undetected: labelled anomalies without three alarms in a row.
        anomalies: labelled anomalies.
        unscored: judged rows without a score.
        rows: judged rows.
        refused: series without a model, by reason.
        series: each series.
        tep: TEP's faults, on TEP only.
    """

    roc: float | None
    pr: float | None
    vus_roc: float | None
    vus_pr: float | None
    f1: float | None
    far_before: float | None
    far_after: float | None
    mar: float | None
    delay: float | None
    undetected: int
    anomalies: int
    unscored: int
    rows: int
    refused: dict[str, int]
    series: tuple[SeriesFigures, ...]
    tep: Faults | None = None


def series_figures(outcome: Outcome) -> SeriesFigures:
    """Figures of one series."""
    series, judged = outcome.series, outcome.series.judged
    truth, score, alarm = series.truth[judged], outcome.score[judged], outcome.alarm[judged]
    before, _ = before_and_after(truth)
    buffer = buffer_length(series.values[:, 0])
    volume = volume_under_surface(truth, score, buffer)
    return SeriesFigures(
        name=series.name,
        kind=series.kind,
        rows=len(truth),
        unscored=int(np.count_nonzero(~outcome.scored[judged])),
        roc=roc_auc(truth, score),
        pr=pr_auc(truth, score),
        vus_roc=None if volume is None else volume.roc,
        vus_pr=None if volume is None else volume.pr,
        buffer=buffer,
        before=confusion(truth[before], alarm[before]),
        after=confusion(truth[~before], alarm[~before]),
        delays=tuple(detection_delay(alarm[:last], first) for first, last in _anomalies(truth)),
        refused=outcome.refused,
    )


def set_figures(outcomes: Sequence[Outcome], *, is_tep: bool = False) -> SetFigures:
    """Figures of a data set."""
    each = tuple(series_figures(outcome) for outcome in outcomes)
    return summary(each, tep_faults(outcomes) if is_tep else None)


def summary(each: Sequence[SeriesFigures], faults: Faults | None = None) -> SetFigures:
    """Figures over series."""
    ranked = [one for one in each if not _is_hard(one)] if faults is not None else list(each)
    before, after = pooled([one.before for one in each]), pooled([one.after for one in each])
    delays = [delay for one in ranked for delay in one.delays]
    return SetFigures(
        roc=_mean(one.roc for one in ranked),
        pr=_mean(one.pr for one in ranked),
        vus_roc=_mean(one.vus_roc for one in ranked),
        vus_pr=_mean(one.vus_pr for one in ranked),
        f1=pooled([before, after]).f1,
        far_before=before.false_alarm_rate,
        far_after=after.false_alarm_rate,
        mar=after.missed_alarm_rate,
        delay=median_delay(delays),
        undetected=sum(delay is None for delay in delays),
        anomalies=len(delays),
        unscored=sum(one.unscored for one in each),
        rows=sum(one.rows for one in each),
        refused=_refused(each),
        series=tuple(each),
        tep=faults,
    )


def bootstrap(figures: SetFigures, names: Sequence[str], seed: int = 0) -> dict[str, float | None]:
    """Standard deviation of figures over data sets drawn from the series (and TEP's faults) with replacement.

    Args:
        figures: of the data set.
        names: fields of `SetFigures`, or of `headline`.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(_DRAWS if len(figures.series) > 1 else 0):
        values = headline(summary(_drawn(rng, figures.series), _drawn_faults(rng, figures.tep)))
        for name in names:
            value = values[name]
            if value is not None:
                drawn[name].append(value)
    return {name: float(np.std(values)) if len(values) > 1 else None for name, values in drawn.items()}


def headline(figures: SetFigures) -> dict[str, float | None]:
    """The figures that tables show, by name; TEP's own among them."""
    names = ("roc", "pr", "vus_roc", "vus_pr", "f1", "far_before", "far_after", "mar", "delay")
    values: dict[str, float | None] = {name: getattr(figures, name) for name in names}
    values["undetected"] = float(figures.undetected)
    seen = detectable(figures.tep.faults) if figures.tep is not None else []
    values["fdr"] = float(np.mean([fault.rate for fault in seen])) if seen else None
    values["fdr_delay"] = median_delay([fault.delay for fault in seen])
    values["own_fdr"] = float(np.mean([fault.own_rate for fault in seen])) if seen else None
    values["realised"] = figures.tep.realised if figures.tep is not None else None
    return values


def _drawn(rng: np.random.Generator, series: Sequence[SeriesFigures]) -> list[SeriesFigures]:
    return [series[place] for place in rng.integers(0, len(series), len(series)).tolist()]


def _drawn_faults(rng: np.random.Generator, faults: Faults | None) -> Faults | None:
    if faults is None or not faults.faults:
        return faults
    picked = rng.integers(0, len(faults.faults), len(faults.faults)).tolist()
    return Faults(
        limit=faults.limit, realised=faults.realised, faults=tuple(faults.faults[place] for place in picked)
    )


def median_delay(delays: Sequence[int | None]) -> float | None:
    """Median of delays, an undetected anomaly counting as endless; None: no anomaly, or most are undetected."""
    value = median([np.inf if delay is None else float(delay) for delay in delays]) if delays else np.inf
    return value if np.isfinite(value) else None


def tep_faults(outcomes: Sequence[Outcome]) -> Faults:
    """TEP's faults at the limit of the independent normal runs, and at the monitor's own."""
    normal = [outcome for outcome in outcomes if tep.is_normal(outcome.series)]
    scores = _joined([outcome.score[outcome.scored] for outcome in normal])
    limit = float(np.quantile(scores, 1.0 - NU_LIMIT)) if len(scores) else None
    return Faults(
        limit=limit,
        realised=float(np.mean(scores > 1.0)) if len(scores) else None,
        faults=tuple(
            _fault(outcome, number, limit)
            for outcome in outcomes
            if (number := tep.fault_of(outcome.series)) is not None
        ),
    )


def detectable(faults: Iterable[Fault]) -> list[Fault]:
    """All but those that classical methods hardly see."""
    return [fault for fault in faults if fault.number not in tep.HARD]


def _fault(outcome: Outcome, number: int, limit: float | None) -> Fault:
    truth = outcome.series.truth
    over = outcome.scored & (outcome.score > (np.inf if limit is None else limit))
    return Fault(
        number=number,
        roc=roc_auc(truth, outcome.score),
        rate=float(np.mean(over[truth])),
        delay=detection_delay(over, tep.FAULT_ROW),
        own_rate=float(np.mean(outcome.alarm[truth])),
        own_delay=detection_delay(outcome.alarm, tep.FAULT_ROW),
    )


def _is_hard(one: SeriesFigures) -> bool:
    return one.kind.isdecimal() and int(one.kind) in tep.HARD


def _anomalies(truth: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First row and the row after the last of each labelled anomaly."""
    edges = np.diff(truth.astype(np.int8), prepend=0, append=0)
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))


def _refused(each: Sequence[SeriesFigures]) -> dict[str, int]:
    reasons = [one.refused for one in each if one.refused is not None]
    return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _joined(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate(parts) if parts else np.zeros(0)
