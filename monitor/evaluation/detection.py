"""How well the ratios of a replay find labelled faults: the figures of `nuwatch models compare`.

Areas are means over assets that have both kinds of windows; rates are of all windows pooled. A window that was not
scored counts with the ratio 0, the median of normal, and no alarm. Nothing is point-adjusted.

Shape letter: W windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from monitor.evaluation.labels import Label, Labels
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
from monitor.quantities import NS_PER_S
from monitor.trace import Trace


class Detection(Struct, frozen=True, kw_only=True):
    """Figures against labels; None where they cannot be said.

    Attributes:
        windows: judged: labelled, and not learnt from.
        anomalous: of them.
        unscored: of them.
        roc: ROC-AUC.
        pr: average precision.
        vus_pr: volume under the precision-recall surface.
        f1: of windows over the limit.
        far_before: share of normal windows over the limit, before the first labelled fault of each asset.
        far_after: likewise after it.
        delay_s: median over labelled faults of the time to the third window in a row over the limit, in seconds; an
            undetected fault is longer than any.
        faults: labelled.
        undetected: of them.
    """

    windows: int
    anomalous: int
    unscored: int
    roc: float | None
    pr: float | None
    vus_pr: float | None
    f1: float | None
    far_before: float | None
    far_after: float | None
    delay_s: float | None
    faults: int
    undetected: int


class _OfAsset(Struct, frozen=True):
    truth: NDArray[np.bool_]
    unscored: int
    roc: float | None
    pr: float | None
    vus_pr: float | None
    before: Confusion
    after: Confusion
    delays_s: list[float | None]


def detection(trace: Trace, labels: Labels, judged_from: Mapping[str, int]) -> Detection:
    """Judge a replay against labels.

    Args:
        trace: its windows.
        labels: when assets were not normal; windows without a label do not count.
        judged_from: by asset, in ns since the epoch: windows that end before were learnt from; default: none were.
    """
    each = [_of_asset(trace, number, labels, judged_from) for number in range(len(trace.assets))]
    truth = np.concatenate([np.zeros(0, np.bool_), *(one.truth for one in each)])
    before, after = pooled([one.before for one in each]), pooled([one.after for one in each])
    delays = [delay for one in each for delay in one.delays_s]
    return Detection(
        windows=len(truth),
        anomalous=int(np.count_nonzero(truth)),
        unscored=sum(one.unscored for one in each),
        roc=_mean(one.roc for one in each),
        pr=_mean(one.pr for one in each),
        vus_pr=_mean(one.vus_pr for one in each),
        f1=pooled([before, after]).f1 if truth.any() else None,
        far_before=before.false_alarm_rate,
        far_after=after.false_alarm_rate,
        delay_s=_median(delays),
        faults=len(delays),
        undetected=sum(delay is None for delay in delays),
    )


def _of_asset(trace: Trace, number: int, labels: Labels, judged_from: Mapping[str, int]) -> _OfAsset:
    asset = trace.assets[number]
    rows = np.flatnonzero((trace.asset == number) & (trace.end >= judged_from.get(asset, 0)))
    codes = labels.of(asset, trace.end[rows])
    rows, codes = rows[codes != Label.UNKNOWN], codes[codes != Label.UNKNOWN]
    scored = trace.scored[rows] & np.isfinite(trace.ratio[rows])
    truth, ratio = codes == Label.ANOMALOUS, np.where(scored, trace.ratio[rows], 0.0)
    alarm = ratio > 1.0
    before, _ = before_and_after(truth)
    volume = volume_under_surface(truth, ratio, buffer_length(trace.observed[rows, 0])) if len(rows) else None
    return _OfAsset(
        truth,
        int(np.count_nonzero(~scored)),
        roc_auc(truth, ratio),
        pr_auc(truth, ratio),
        None if volume is None else volume.pr,
        confusion(truth[before], alarm[before]),
        confusion(truth[~before], alarm[~before]),
        _delays(truth, alarm, trace.end[rows]),
    )


def _delays(
    truth: NDArray[np.bool_], alarm: NDArray[np.bool_], ends: NDArray[np.int64]
) -> list[float | None]:
    """Seconds from the first window of each fault to the third alarm in a row within it."""
    edges = np.diff(truth.astype(np.int8), prepend=0, append=0)
    found: list[float | None] = []
    for first, last in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        delay = detection_delay(alarm[:last], int(first))
        found.append(None if delay is None else float(ends[first + delay] - ends[first]) / NS_PER_S)
    return found


def _median(delays: list[float | None]) -> float | None:
    value = median([np.inf if delay is None else delay for delay in delays]) if delays else np.inf
    return value if np.isfinite(value) else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
