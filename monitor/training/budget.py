"""A budget in false incidents per asset and week as the nu that keeps it over the calibration windows.

The limit is lowered from the largest calibration ratio, by the order statistics of the nu-quantile rule, as long as the
incidents that it would have raised come to at most the budget. From above, because far below incidents merge: one that
is always open is within every budget.

A budget is supported if it allows ``calibration.enough`` incidents (16) in the calibration time. Incidents far apart
are nearly independent, so their number scatters like a Poisson count: 16 are known to 25 %, as is a rate from 16
independent exceedances.

Shape letter: W windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from monitor.alerting.counting import evidence_clock, raised
from monitor.quantities import NS_PER_S
from monitor.settings import AssetClass
from monitor.thresholds.threshold import Estimate, nu_quantile, ratio

Floats = NDArray[np.float64]

_NS_PER_DAY = 86_400 * NS_PER_S
_MOST = 0.1
"""The largest nu that a budget is converted to: with more windows over the limit incidents merge."""
_STEP = 1.03
"""Factor between the exceedances of one limit that is tried and the next: every one up to 33."""


class Budget(Struct, frozen=True, kw_only=True):
    """What came of a budget.

    Attributes:
        asked: false incidents per asset and week.
        nu: of the limit in force: what the budget came to, or `calibration.nu` where it is not supported.
        incidents: that this limit would have raised over the calibration windows.
        asset_days: their time, of all assets together.
        per_week: incidents per asset and week, so expected of normal operation.
        allowed: incidents that the budget allows in that time.
        enough: how many it must allow to be supported.
        supported: it allows that many; otherwise the threshold is UNCALIBRATED.
        missing_days: further days of history of every asset, for the budget to be supported; 0 if it is.
    """

    asked: float
    nu: float
    incidents: int
    asset_days: float
    per_week: float
    allowed: float
    enough: float
    supported: bool
    missing_days: float


class Calm(NamedTuple):
    """Calibration windows, sorted by asset and time.

    Attributes:
        asset: [W] number of the asset.
        end: [W] ns since the epoch.
        value: [W] combined, smoothed ratios, before the limit.
        share: of further history that will be calibration windows.
    """

    asset: NDArray[np.int32]
    end: NDArray[np.int64]
    value: Floats
    share: float


def within_reach(asset_class: AssetClass, windows: int) -> bool:
    """Whether so many calibration windows support the budget; True without one."""
    settings = asset_class.calibration
    return settings.budget is None or settings.budget * _days(asset_class, windows) / 7 >= settings.enough


def converted(asset_class: AssetClass, calm: Calm) -> Budget | None:
    """The budget of a class with the nu that it comes to; None without a budget.

    Raises:
        ThresholdRefused: too few windows for `calibration.nu`, which an unsupported budget falls back to.
    """
    settings = asset_class.calibration
    if settings.budget is None:
        return None
    days = _days(asset_class, len(calm.value))
    allowed, supported = settings.budget * days / 7, within_reach(asset_class, len(calm.value))
    counted = _counter(asset_class, calm)
    nu = _nu_of(np.sort(calm.value), counted, allowed) if supported else settings.nu
    missing = settings.enough / settings.budget * 7 - days
    incidents = counted(nu_quantile(calm.value, nu))
    return Budget(
        asked=settings.budget,
        nu=nu,
        incidents=incidents,
        asset_days=days,
        per_week=incidents * 7 / days,
        allowed=allowed,
        enough=settings.enough,
        supported=supported,
        missing_days=0.0 if supported else missing / calm.share / len(np.unique(calm.asset)),
    )


def judged(estimate: Estimate, budget: Budget) -> Estimate:
    """The estimate of the limit that a budget came to: not enough, unless the budget is supported too."""
    if budget.supported:
        return estimate
    windows = math.ceil(estimate.n * (budget.enough / budget.allowed - 1.0))
    missing = max(estimate.missing, windows)
    return msgspec.structs.replace(estimate, enough=False, label="UNCALIBRATED", missing=missing)


def shortfall(budget: Budget) -> str:
    """What an unsupported budget lacks, in a sentence."""
    return (
        f"a budget of {budget.asked:g} false incidents per asset and week allows {budget.allowed:.1f} in the "
        f"{budget.asset_days:.1f} asset days of the calibration windows, and needs {budget.enough:g}: about "
        f"{budget.missing_days:.0f} more days of history of every asset are missing; until then the limit is that of "
        f"nu {budget.nu:g}"
    )


def window_period(asset_class: AssetClass) -> int:
    """From one window to the next, in ns."""
    return int(asset_class.sampling) * asset_class.window.stride


def _days(asset_class: AssetClass, windows: int) -> float:
    return windows * window_period(asset_class) / _NS_PER_DAY


def would_raise(
    asset_class: AssetClass, asset: NDArray[np.integer], end_ns: NDArray[np.int64], final: Floats
) -> NDArray[np.int64]:
    """Places at which ANOMALY incidents of the final ratios [W] would have begun; windows sorted by asset and time."""
    alerting = asset_class.alerting
    clock = evidence_clock(asset, end_ns, window_period(asset_class))
    over, under = final > 1.0, final < 1.0 - alerting.deadband
    return raised(asset, clock, over, under, alerting.on_delay, alerting.off_delay)


def _counter(asset_class: AssetClass, calm: Calm) -> Callable[[float], int]:
    """Incidents that a limit would have raised."""
    centre = float(np.median(calm.value))

    def counted(limit: float) -> int:
        return len(would_raise(asset_class, calm.asset, calm.end, ratio(calm.value, centre, limit)))

    return counted


def _nu_of(ordered: Floats, counted: Callable[[float], int], allowed: float) -> float:
    """The nu of the smallest limit, from above, that keeps the budget."""
    n, centre = len(ordered), float(np.median(ordered))

    def keeps(exceedances: int) -> bool:
        limit = float(ordered[n - 1 - exceedances])
        return limit > centre and counted(limit) <= allowed

    kept, tried, most = 0, 1, int(_MOST * n)
    while tried <= most and keeps(tried):
        kept, tried = tried, max(tried + 1, int(tried * _STEP))
    broken = min(tried, most + 1)
    while broken - kept > 1:
        middle = (kept + broken) // 2
        kept, broken = (middle, broken) if keeps(middle) else (kept, middle)
    return (kept + 1) / (n + 1)
