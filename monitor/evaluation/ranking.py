"""How well scores order anomalous above normal rows, and what alarms at one limit are worth. Never point-adjusted.

ROC-AUC and PR-AUC (average precision) are scikit-learn's. VUS-ROC and VUS-PR (Paparrizos et al. 2022, Volume Under
the Surface, PVLDB 15:2774) soften the labels around each anomaly by every half-width up to half a buffer length, and
average the areas under the resulting range curves; they equal ``generate_curve`` of TSB-AD 1.5
(``TSB_AD.evaluation.basic_metrics``, version 'opt', 250 thresholds; Liu & Paparrizos 2024, The Elephant in the Room,
NeurIPS) to within 1e-9, which the tests assert on vectors made with that package.

TSB-AD's multivariate experiments choose the buffer length by autocorrelation of a series' first channel
(``find_length_rank(data[:, 0], rank=1)``), and so does `buffer_length`.

Shape letter: N rows of one series in order of time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import argrelextrema
from sklearn.metrics import average_precision_score, roc_auc_score

Rows = NDArray[np.bool_]
THRESHOLDS = 250
_MOST_ROWS, _LAGS, _BASE, _LONGEST, _DEFAULT = 20_000, 400, 3, 300, 125


class Volume(NamedTuple):
    """Volumes under the ROC and the precision-recall surface."""

    roc: float
    pr: float


class Confusion(NamedTuple):
    """Rows by label and alarm; sums of several series add up field by field."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def f1(self) -> float | None:
        """Point F1; None where nothing is anomalous and nothing alarms."""
        whole = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 2 * self.true_positives / whole if whole else None

    @property
    def false_alarm_rate(self) -> float | None:
        """Share of normal rows that alarm."""
        return _share(self.false_positives, self.false_positives + self.true_negatives)

    @property
    def missed_alarm_rate(self) -> float | None:
        """Share of anomalous rows that do not alarm."""
        return _share(self.false_negatives, self.false_negatives + self.true_positives)

    @property
    def detection_rate(self) -> float | None:
        """Share of anomalous rows that alarm."""
        return _share(self.true_positives, self.false_negatives + self.true_positives)


def roc_auc(truth: Rows, score: NDArray[np.float64]) -> float | None:
    """Area under the ROC curve; None where all rows are of one kind.

    Args:
        truth: [N] True where anomalous.
        score: [N] higher is more anomalous.
    """
    return float(roc_auc_score(truth, score)) if _both(truth) else None


def pr_auc(truth: Rows, score: NDArray[np.float64]) -> float | None:
    """Average precision; None where all rows are of one kind. Arguments as in `roc_auc`."""
    return float(average_precision_score(truth, score)) if _both(truth) else None


def confusion(truth: Rows, alarm: Rows) -> Confusion:
    """Counts of rows [N] by label and alarm."""
    return Confusion(
        int(np.count_nonzero(truth & alarm)),
        int(np.count_nonzero(~truth & alarm)),
        int(np.count_nonzero(truth & ~alarm)),
        int(np.count_nonzero(~truth & ~alarm)),
    )


def pooled(parts: list[Confusion]) -> Confusion:
    """Sum of the counts of several series."""
    return (
        Confusion(*(sum(column) for column in zip(*parts, strict=True))) if parts else Confusion(0, 0, 0, 0)
    )


def before_and_after(truth: Rows) -> tuple[Rows, Rows]:
    """Normal rows [N] before the first anomalous row, and those after it; without one all are before."""
    begun = np.logical_or.accumulate(truth)
    return ~begun, begun & ~truth


def detection_delay(alarm: Rows, start: int, in_a_row: int = 3) -> int | None:
    """Rows from a fault's start to the last of ``in_a_row`` consecutive alarms, the first of which is not before it.

    Args:
        alarm: [N].
        start: the fault's first row.
        in_a_row: alarms that make a detection; 3 from the first row on are a delay of 2.

    Returns:
        None where it is not detected.
    """
    inside = np.asarray(alarm[start:], np.int64)
    if len(inside) < in_a_row:
        return None
    runs = np.convolve(inside, np.ones(in_a_row, np.int64), "valid") == in_a_row
    return int(np.argmax(runs)) + in_a_row - 1 if runs.any() else None


def volume_under_surface(truth: Rows, score: NDArray[np.float64], buffer: int) -> Volume | None:
    """VUS-ROC and VUS-PR.

    Args:
        truth: [N] True where anomalous.
        score: [N] finite, higher is more anomalous.
        buffer: longest buffer length, rows (TSB-AD's ``slidingWindow``), at least 0.

    Returns:
        None where all rows are of one kind.
    """
    if not _both(truth):
        return None
    score = np.asarray(score, np.float64)
    ranges = _ranges(truth)
    thresholds = -np.sort(-score)[np.linspace(0, len(score) - 1, THRESHOLDS).astype(np.int64)]
    passed = np.searchsorted(-thresholds, -score, side="left")  # [N] first threshold that the row reaches
    predicted = np.cumsum(np.bincount(passed, minlength=THRESHOLDS + 1)[:THRESHOLDS]).astype(np.float64)
    areas = [_areas(truth, passed, predicted, ranges, width) for width in range(buffer + 1)]
    roc, pr = np.mean(areas, axis=0)
    return Volume(float(roc), float(pr))


def buffer_length(values: NDArray[np.float64]) -> int:
    """TSB-AD's choice of the buffer length: the lag, 3 to 300, of the highest peak of the autocorrelation; else 125.

    Args:
        values: [N] of the series' first channel; of a long one, the first 20,000 rows count.
    """
    values = np.asarray(values, np.float64)[:_MOST_ROWS]
    if len(values) < 2 or not np.isfinite(values).all():
        return _DEFAULT
    correlation = _autocorrelation(values)[_BASE:]
    peaks = argrelextrema(correlation, np.greater)[0]
    if not len(peaks):
        return _DEFAULT
    # the last of equally high peaks, as a reversed argsort finds it
    highest = int(peaks[np.argsort(correlation[peaks])[-1]])
    return _DEFAULT if not _BASE <= highest <= _LONGEST else highest + _BASE


def _autocorrelation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sample autocorrelation at lags 0 to 400, by FFT; NaN for a constant series."""
    centred = values - values.mean()
    size = 1 << (2 * len(values) - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    covariance = np.fft.irfft(spectrum * np.conj(spectrum), size)[: min(len(values), _LAGS + 1)]
    if covariance[0] <= 1e-12 * len(values) * np.square(values).mean():
        return np.full(len(covariance), np.nan)
    return covariance / covariance[0]


def _areas(
    truth: Rows,
    passed: NDArray[np.int64],
    predicted: NDArray[np.float64],
    ranges: NDArray[np.int64],
    width: int,
) -> tuple[float, float]:
    """Areas under the range ROC and precision-recall curve of one buffer length."""
    rows, positives = len(truth), float(np.count_nonzero(truth))
    soft = _softened(truth, ranges, width)
    hits = np.cumsum(np.bincount(passed, weights=soft, minlength=THRESHOLDS + 1)[:THRESHOLDS])
    inside = np.cumsum(np.bincount(passed[truth], minlength=THRESHOLDS + 1)[:THRESHOLDS])
    labelled = (positives + positives + hits - inside) / 2.0
    first = _first_hits(passed, ranges, width)
    existence = np.searchsorted(np.sort(first), np.arange(THRESHOLDS), side="right") / len(first)
    recall = np.minimum(hits / labelled, 1.0) * existence
    with np.errstate(divide="ignore", invalid="ignore"):
        fallout = (predicted - hits) / (rows - labelled)
        precision = hits / predicted
    recall_curve = np.concatenate([[0.0], recall, [1.0]])
    fallout_curve = np.concatenate([[0.0], fallout, [1.0]])
    roc = np.dot(np.diff(fallout_curve), (recall_curve[1:] + recall_curve[:-1]) / 2.0)
    return float(roc), float(np.dot(np.diff(recall_curve[:-1]), precision))


def _ranges(truth: Rows) -> NDArray[np.int64]:
    """First and last rows [K, 2] of the anomalous ranges."""
    edges = np.diff(truth.astype(np.int8), prepend=0, append=0)
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1], axis=1)


def _softened(truth: Rows, ranges: NDArray[np.int64], width: int) -> NDArray[np.float64]:
    """Labels [N] that fall off on both sides of each range."""
    soft, rows, half = truth.astype(np.float64), len(truth), width // 2
    for first, last in ranges.tolist():
        after = np.arange(last + 1, min(last + half + 1, rows))
        soft[after] += np.sqrt(1 - (after - last) / max(width, 1))
        before = np.arange(max(first - half, 0), first)
        soft[before] += np.sqrt(1 - (first - before) / max(width, 1))
    return np.minimum(1.0, soft)


def _first_hits(passed: NDArray[np.int64], ranges: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """The first threshold that any row of each widened range reaches; ranges that then overlap are one."""
    half, rows = width // 2, len(passed)
    apart = ranges[:-1, 1] + half < ranges[1:, 0] - half
    firsts = np.concatenate([[max(ranges[0, 0] - half, 0)], ranges[1:, 0][apart] - half])
    lasts = np.concatenate([ranges[:-1, 1][apart] + half, [min(ranges[-1, 1] + half, rows - 1)]])
    return np.array(
        [passed[first : last + 1].min() for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)],
        np.int64,
    )


def _both(truth: Rows) -> bool:
    return bool(truth.any()) and not bool(truth.all())


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
