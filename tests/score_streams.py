"""Scores of assets as a plant would give them, with incidents around them, for tests of the threshold's life.

Two scorers see one autocorrelated, skewed disturbance each, partly in common. Scores are put on the ratio scale of
a calibration drawn from the same process, as training does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter

from monitor.quantities import Duration
from monitor.settings import Alerting, AssetClass, Calibration, DriftSettings, Scoring, Sensor, Tracking
from monitor.thresholds.adaptation import Adaptation
from monitor.thresholds.adaptation_events import AdaptationEvent
from monitor.thresholds.versions import Scale

S = 1_000_000_000
START = 1_700_000_000 * S
SCORERS = ("first", "second")
PHI = 0.6
WEIGHT = 0.5
OFF_WINDOWS = 30
STILL = Tracking(enabled=False)
"""Limits that only a re-estimation moves, for tests of re-estimations."""


def raw_scores(rng: np.random.Generator, windows: int, assets: int) -> np.ndarray:
    """[windows, assets, 2] stationary log-normal scores."""
    noise = rng.standard_normal((windows + 200, assets, 3))
    slow = lfilter([np.sqrt(1 - PHI**2)], [1, -PHI], noise, axis=0)[200:]
    return np.exp(0.4 * (0.6 * slow[..., :1] + 0.8 * slow[..., 1:]))


def asset_class(nu: float = 0.02, combine: str = "any", **drift) -> AssetClass:
    return AssetClass(
        assets=("*",),
        sampling=Duration(S),
        sensors={"t": Sensor(unit="Cel")},
        scoring=Scoring(combine=combine, smoothing=WEIGHT),
        calibration=Calibration(nu=nu),
        drift=DriftSettings(**({"settle": Duration(60 * S), "tracking": STILL} | drift)),
        alerting=Alerting(off_delay=Duration(OFF_WINDOWS * S)),
    )


class Calibrated(NamedTuple):
    """Affine maps of raw scores to the bundle's ratio scale, sorted calibration, and the combined limit."""

    median: np.ndarray
    limit: np.ndarray
    sorted: np.ndarray
    scale: Scale

    def u(self, raw: np.ndarray) -> np.ndarray:
        return (raw - self.median) / (self.limit - self.median)

    def ranks(self, u: np.ndarray) -> np.ndarray:
        return np.stack([np.searchsorted(self.sorted[:, s], u[..., s]) for s in range(2)], -1) / len(
            self.sorted
        )


def calibrated(nu: float = 0.02, combine: str = "any", n: int = 200_000) -> Calibrated:
    """A calibration so large that the trained limit is exact; tau is that of this process's exceedances."""
    raw = raw_scores(np.random.default_rng(99), n, 1)[:, 0]
    median, limit = np.median(raw, axis=0), np.quantile(raw, 1 - nu, axis=0)
    u = (raw - median) / (limit - median)
    joined = u.max(1) if combine == "any" else u.min(1)
    smoothed = lfilter([WEIGHT], [1, WEIGHT - 1], joined)
    scale = Scale(float(np.median(smoothed)), float(np.quantile(smoothed, 1 - nu)), tau=3.5)
    return Calibrated(median, limit, np.sort(u, axis=0), scale)


class Trail(NamedTuple):
    """What happened: final ratios [windows, assets], open anomalies likewise, and events with their window."""

    final: np.ndarray
    anomaly: np.ndarray
    events: list[tuple[int, AdaptationEvent]]

    def of(self, kind: type) -> list[tuple[int, AdaptationEvent]]:
        return [(window, event) for window, event in self.events if isinstance(event, kind)]


class Watch:
    """An `Adaptation` with the stages around it that it needs: smoothing and an ANOMALY track."""

    def __init__(self, settings: AssetClass, known: Calibrated, assets: int) -> None:
        self.known = known
        self.settings = settings
        self.adaptation = Adaptation(SCORERS, known.scale, settings)
        self.adaptation.grow(assets)
        self.rows = np.arange(assets)
        self.smoothed = np.zeros(assets)
        self.open = np.zeros(assets, bool)
        self.under = np.zeros(assets, int)
        self.window = 0

    def step(self, u: np.ndarray, declared: bool = False, fault: bool = False) -> list[AdaptationEvent]:
        adaptation, rows, n = self.adaptation, self.rows, len(self.rows)
        combined = adaptation.combine(adaptation.scorer_ratios(rows, u))
        self.smoothed = WEIGHT * combined + (1 - WEIGHT) * self.smoothed
        self.final = adaptation.final_ratio(rows, self.smoothed)
        self.under = np.where(self.final < 0.9, self.under + 1, 0)
        self.open = (self.open & (self.under < OFF_WINDOWS)) | (self.final > 1)
        self.window += 1
        return adaptation.observe(
            rows,
            np.full(n, self.end_ns),
            u,
            self.known.ranks(u),
            np.ones(n, bool),
            self.open,
            np.full(n, fault),
            np.full(n, declared),
            self.final,
            np.zeros(n, np.int64),
        )

    @property
    def end_ns(self) -> int:
        return START + self.window * S

    def run(
        self,
        raw: np.ndarray,
        declared_at: Iterable[int] = (),
        until: Callable[[AdaptationEvent], bool] = lambda _: False,
    ) -> Trail:
        """Feed raw scores [windows, assets, 2]; stop after the first event that `until` wants."""
        u, declared = self.known.u(raw), frozenset(declared_at)
        final, anomaly, events = [], [], []
        for index in range(len(u)):
            happened = self.step(u[index], declared=index in declared)
            final.append(self.final)
            anomaly.append(self.open)
            events += [(index, event) for event in happened]
            if any(map(until, happened)):
                break
        return Trail(np.array(final), np.array(anomaly), events)
