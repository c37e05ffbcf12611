"""Online limits over streams of scores: nuwatch's own stage, and the rivals that the literature offers.

Shape letters: N rows of a stream, A streams side by side, S scorers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from river import drift

from monitor.quantities import Duration
from monitor.settings import AssetClass, Calibration, DriftSettings, Scoring, Sensor
from monitor.thresholds.adaptation import Adaptation, State
from monitor.thresholds.adaptation_events import AdaptationEvent, Command
from monitor.thresholds.provisional import deciles
from monitor.thresholds.reestimate import combine, smooth
from monitor.thresholds.threshold import autocorrelation_time, limit_and_median, rank, ratio
from monitor.thresholds.versions import Scale

NU = 0.01
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
SETTLE = 500
"""Rows after a declared change for which its shift is benign."""
_REFIT = 500
"""Rows that a naive re-estimation collects, and that a rolling quantile looks back at twice."""

Floats = NDArray[np.float64]


class Known(NamedTuple):
    """A calibration.

    Attributes:
        median: [S] of the raw scores.
        limit: [S] their nu-quantile.
        weight: of the newest ratio in the EWMA.
        scale: the combined, smoothed limit.
        sorted: [n, S] calibration scores on the ratio scale, ascending.
        final: [n] calibration values of the final ratio.
    """

    median: Floats
    limit: Floats
    weight: float
    scale: Scale
    sorted: Floats
    final: Floats

    def on_scale(self, raw: Floats) -> Floats:
        """Raw scores [..., S] on each scorer's ratio scale."""
        return ratio(raw, self.median, self.limit)


class Course(NamedTuple):
    """What a policy made of streams.

    Attributes:
        over: [N, A] over the limit in force.
        open: [N, A] an incident is open.
        events: with the row at which they happened.
        approved: by stream, the row at which a person approved.
    """

    over: NDArray[np.bool_]
    open: NDArray[np.bool_]
    events: list[tuple[int, AdaptationEvent]]
    approved: Mapping[int, int]


def calibrated(runs: Sequence[Floats], weight: float) -> Known:
    """Limits from raw scores [rows, S] of held-out normal runs."""
    raw = np.concatenate(runs)
    points = [limit_and_median(column, NU) for column in raw.T]
    limit, median = (np.array(values) for values in zip(*points, strict=True))
    u, lengths = ratio(raw, median, limit), [len(run) for run in runs]
    breaks = np.zeros(len(u), np.bool_)
    breaks[np.cumsum([0, *lengths[:-1]])] = True
    smoothed = smooth(combine(u, "any"), breaks, weight)
    final_limit, final_median = limit_and_median(smoothed, NU)
    final = ratio(smoothed, final_median, final_limit)
    ordered = np.sort(u, axis=0)
    ranks = rank(ordered[:, 0], u[:, 0])
    low, high = np.quantile(final, [0.25, 0.75])
    scale = Scale(
        final_median,
        final_limit,
        autocorrelation_time(final > 1.0, lengths),
        autocorrelation_time(ranks, lengths),
        float(high - low) / 1.349,
        deciles=np.stack([deciles(column) for column in u.T]),
    )
    return Known(median, limit, weight, scale, ordered, final)


def fixed_ratios(known: Known, raw: Floats) -> Floats:
    """Final ratios [N, A] of raw scores [N, A, S] under the trained limit."""
    value, out = np.zeros(raw.shape[1]), np.empty(raw.shape[:2])
    for row, combined in enumerate(combine(known.on_scale(raw), "any")):
        out[row] = value = known.weight * combined + (1.0 - known.weight) * value
    return ratio(out, known.scale.final_median, known.scale.final_limit)


# ---- nuwatch


def ours(
    known: Known, raw: Floats, *, declared: int | None = None, approved: int | None = None, **changes: Any
) -> Course:
    """The stage that the monitor runs, in its default configuration.

    Args:
        known: the calibration.
        raw: [N, A, S] raw scores.
        declared: row at which a change of context is declared.
        approved: row from which on a person approves what waits, once per stream.
        changes: settings of `drift` other than the defaults.
    """
    settings = _settings(known, changes)
    length, streams, scorers = raw.shape
    stage = Adaptation([f"scorer{s}" for s in range(scorers)], known.scale, settings)
    stage.grow(streams)
    rows, yes, no = np.arange(streams), np.ones(streams, np.bool_), np.zeros(streams, np.bool_)
    value, incidents, segment = np.zeros(streams), Incident(streams, settings), np.zeros(streams, np.int64)
    over, opened = np.zeros((length, streams), np.bool_), np.zeros((length, streams), np.bool_)
    events, decided = list[tuple[int, AdaptationEvent]](), dict[int, int]()
    for row, u in enumerate(known.on_scale(raw)):
        combined = stage.combine(stage.scorer_ratios(rows, u))
        value = known.weight * combined + (1.0 - known.weight) * value
        final = stage.final_ratio(rows, value)
        over[row], opened[row] = final > 1.0, incidents.step(final)
        end = np.full(streams, START + row * SECOND)
        ranks = np.stack([rank(known.sorted[:, s], u[:, s]) for s in range(scorers)], axis=1)
        told = yes if row == declared else no
        happened = stage.observe(rows, end, u, ranks, yes, opened[row], no, told, final, segment)
        if approved is not None and row >= approved:
            for stream in np.flatnonzero(stage.states(rows) == State.AWAITING).tolist():
                if stream not in decided:
                    happened += stage.command(stream, Command("approve", "benchmark", int(end[0])))
                    decided[stream] = row
        events += [(row, event) for event in happened]
    return Course(over, opened, events, decided)


class Incident:
    """ANOMALYs with the default delays: raised at once, cleared after 30 rows under the deadband."""

    def __init__(self, streams: int, settings: AssetClass) -> None:
        self._under = np.zeros(streams, np.int64)
        self._open = np.zeros(streams, np.bool_)
        self._low = 1.0 - settings.alerting.deadband
        self._off = settings.alerting.off_delay // settings.sampling

    def step(self, final: Floats) -> NDArray[np.bool_]:
        """Whether one is open [A] after these final ratios [A]."""
        self._under = np.where(final < self._low, self._under + 1, 0)
        self._open = (self._open & (self._under < self._off)) | (final > 1.0)
        return self._open


def _settings(known: Known, changes: Mapping[str, Any]) -> AssetClass:
    return AssetClass(
        assets=("*",),
        sampling=Duration(SECOND),
        sensors={"any": Sensor(unit="1")},
        scoring=Scoring(smoothing=known.weight),
        calibration=Calibration(nu=NU),
        drift=DriftSettings(settle=Duration(SETTLE * SECOND), **changes),
    )


# ---- rivals: each [N, A] final ratios under the trained limit -> [N, A] limits


def fixed(ratios: Floats, known: Known) -> Floats:
    """The trained limit for ever."""
    del known
    return np.ones_like(ratios)


def rolling(ratios: Floats, known: Known) -> Floats:
    """The quantile of the last 1,000 rows, whatever they were."""
    past = np.repeat(known.final[-2 * _REFIT :, None], ratios.shape[1], axis=1)
    padded, out = np.concatenate([past, ratios]), np.empty_like(ratios)
    k, limit = int(np.ceil((2 * _REFIT + 1) * (1.0 - NU) - 1e-9)) - 1, np.ones(ratios.shape[1])
    for row in range(len(ratios)):
        if row % 10 == 0:
            limit = np.partition(padded[row : row + 2 * _REFIT], k, axis=0)[k]
        out[row] = limit
    return out


def naive(detector: Callable[[], Any]) -> Callable[[Floats, Known], Floats]:
    """A detector fires: the limit is the quantile of the next 500 rows, whatever they are."""

    def policy(ratios: Floats, known: Known) -> Floats:
        del known
        columns = [_naive(column, detector()) for column in ratios.T]
        return np.stack(columns, axis=1)

    return policy


def _naive(ratios: Floats, detector: Any) -> Floats:
    out, limit, due = np.empty_like(ratios), 1.0, -1
    for row, value in enumerate(ratios.tolist()):
        out[row] = limit
        detector.update(value)
        if detector.drift_detected and due < 0:
            due = row + _REFIT
        if row == due:
            limit, due = max(limit_and_median(ratios[row - _REFIT : row], NU)[0], 1e-3), -1
    return out


RIVALS: Mapping[str, Callable[[Floats, Known], Floats]] = {
    "fixed": fixed,
    "rolling quantile": rolling,
    "ADWIN, re-estimate": naive(drift.ADWIN),
    "KSWIN, re-estimate": naive(lambda: drift.KSWIN(alpha=0.0001, seed=0)),
    "PageHinkley, re-estimate": naive(drift.PageHinkley),
}
"""What others do; none of it is in the product."""


def rival(policy: Callable[[Floats, Known], Floats], known: Known, raw: Floats) -> Course:
    """A rival on raw scores [N, A, S]."""
    ratios = fixed_ratios(known, raw)
    final = ratios / policy(ratios, known)
    incidents = Incident(ratios.shape[1], _settings(known, {}))
    opened = np.stack([incidents.step(row) for row in final])
    return Course(final > 1.0, opened, [], {})
