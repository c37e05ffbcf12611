"""The limits in force, asset by asset, and the versions that set them.

Shape letters: n assets of one step, S scorers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, Struct
from numpy.typing import ArrayLike, NDArray

from monitor.table import Table
from monitor.thresholds.adaptation_events import ThresholdVersion
from monitor.thresholds.ages import Ages
from monitor.thresholds.reestimate import Scales
from monitor.thresholds.threshold import ratio
from monitor.thresholds.tracking import Realised

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.integer[Any]]

_HISTORY = 8
"""Versions that can be rolled back."""


class Scale(NamedTuple):
    """The bundle's limit of the combined, smoothed ratio.

    Attributes:
        final_median: median of its calibration values.
        final_limit: their nu-quantile.
        tau: autocorrelation time of the exceedances, in windows; sets sample sizes.
        rank_tau: autocorrelation time of the scorers' ranks, in windows: one rank in so many reaches the drift
            detectors. None: `tau`; but ranks move more slowly than exceedances of a high limit.
        spread: standard deviation of the final ratio in normal (0.43 of a Gaussian one at nu = 0.01).
        nu: the fraction of normal windows allowed over the limit. None: `calibration.nu`; but a budget in incidents
            comes to another.
        ages: limits by age after a restart, which re-estimations keep.
        deciles: [S, 9] deciles .1 to .9 of each scorer's calibration scores on its ratio scale. None: unknown, and no
            provisional limit can be read off new scores.
    """

    final_median: float
    final_limit: float
    tau: float
    rank_tau: float | None = None
    spread: float = 0.43
    nu: float | None = None
    ages: Ages = Ages.of_no_effect()
    deciles: Floats | None = None


class Setting(Struct, frozen=True):
    """A version with what it sets.

    Attributes:
        version: what is told of it.
        scales: the medians and limits from then on.
        total: [S + 1] factor between the trained limit and this one, by scorer and, last, combined.
    """

    version: ThresholdVersion
    scales: Scales
    total: tuple[float, ...]


class _Asset:
    def __init__(self, current: Setting, tracked_from: Setting | None = None) -> None:
        self.current = current
        self.tracked_from = tracked_from
        self.past = deque[Setting](maxlen=_HISTORY)


class _Saved(Struct, frozen=True, array_like=True):
    row: bytes
    current: Setting
    tracked_from: Setting | None
    past: tuple[Setting, ...]


class Versions:
    """Medians and limits of the assets of one class, as their versions set them.

    Args:
        scorers: their names, in the order of S.
        trained: the bundle's combined limit.
        nu: the fraction of normal windows allowed over it.
        max_total: beyond this factor from the trained limit a model is stale.
    """

    def __init__(self, scorers: Sequence[str], trained: Scale, nu: float, max_total: float) -> None:
        self._scorers = tuple(scorers)
        self._nu = nu
        self._max_total = max_total
        size = len(self._scorers)
        self.trained = Scales((0.0,) * size, (1.0,) * size, trained.final_median, trained.final_limit)
        self._table = Table(
            [
                ("version", np.int32, ()),
                ("median", np.float64, (size,)),
                ("limit", np.float64, (size,)),
                ("final", np.float64, (2,)),
                ("stale", np.bool_, (size,)),
            ],
            {"limit": 1.0, "final": (trained.final_median, trained.final_limit)},
        )
        self._assets = dict[int, _Asset]()

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets."""
        self._table.grow(capacity)

    def dump(self, row: int) -> bytes:
        """State of one asset."""
        asset = self._asset(row)
        saved = _Saved(self._table.dump(row), asset.current, asset.tracked_from, tuple(asset.past))
        return msgspec.msgpack.encode(saved)

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave."""
        saved = msgspec.msgpack.decode(data, type=_Saved)
        self._table.load(row, saved.row)
        asset = self._assets[row] = _Asset(saved.current, saved.tracked_from)
        asset.past.extend(saved.past)

    def recall(self, row: int, versions: Sequence[ThresholdVersion]) -> None:
        """Put back the versions of an asset whose state was lost, by number; the last one is in force.

        What limits a version set is in its scales; where they are not (cut from a large event, or of other scorers),
        its number goes on with the trained limits.
        """
        if not versions:
            return
        settings = [self._recalled(version) for version in versions]
        asset = self._assets[row] = _Asset(settings[-1])
        kept = [s for s in settings[:-1] if s.version.label not in ("TRACKED", "PROVISIONAL")]
        asset.past.extend([self._as_trained(), *kept])
        if asset.current.version.label == "TRACKED":
            asset.tracked_from = asset.past.pop()
        self._put_in_force(row, asset, asset.current)

    def _recalled(self, version: ThresholdVersion) -> Setting:
        try:
            combined, scorers = version.scales["combined"], version.scales["scorers"]
            scales = Scales(
                tuple(float(scorers[name]["median"]) for name in self._scorers),
                tuple(float(scorers[name]["limit"]) for name in self._scorers),
                float(combined["median"]),
                float(combined["limit"]),
            )
        except (KeyError, TypeError, ValueError):
            trained = self._as_trained()
            numbered = msgspec.structs.replace(trained.version, version=version.version)
            return Setting(numbered, trained.scales, trained.total)
        return Setting(version, scales, (*scales.limit, version.new_limit))

    def version(self, rows: Rows) -> NDArray[np.int32]:
        """Versions in force [n]; 0 is the bundle's."""
        return self._table["version"][rows]

    def scorer_ratios(self, rows: Rows, u: Floats) -> Floats:
        """Each scorer's ratio [n, S] from its score on the bundle's ratio scale [n, S]."""
        return ratio(u, self._table["median"][rows], self._table["limit"][rows])

    def final_ratio(self, rows: Rows, smoothed: Floats) -> Floats:
        """Combined, smoothed ratios [n] as the version rates them; 1.0 is its limit."""
        median, limit = self._table["final"][rows].T
        return ratio(smoothed, median, limit)

    def scorer_limits(self, rows: Rows) -> Floats:
        """Each scorer's limit [n, S] on the bundle's ratio scale (1 as trained)."""
        return self._table["limit"][rows]

    def final_limit(self, rows: Rows, factor: Floats) -> Floats:
        """The combined, smoothed ratio [n] that the version rates ``factor`` [n]."""
        median, limit = self._table["final"][rows].T
        return limit + (factor - 1.0) * (limit - median)

    def stale(self, rows: Rows) -> Bools:
        """Scorers [n, S] whose limit, in force or proposed, is too far from the trained."""
        return self._table["stale"][rows]

    def current(self, row: int) -> Setting:
        """What is in force."""
        return self._asset(row).current

    def total(self, row: int) -> float:
        """Factor between the trained combined limit and the version's."""
        return self._asset(row).current.total[-1]

    def total_as_set(self, row: int) -> float:
        """The same of the last version that tracking did not make."""
        asset = self._asset(row)
        return (asset.tracked_from or asset.current).total[-1]

    def next_number(self, row: int) -> int:
        """Number of the version that comes after the one in force."""
        return int(self._table["version"][row]) + 1

    def judge_staleness(self, row: int, setting: Setting) -> None:
        """Stale is what would be so under ``setting``: the one in force, or one that is proposed."""
        self._table["stale"][row] = self._too_far(setting.total)

    def adopt(self, row: int, new: Setting) -> ThresholdVersion:
        """A new version in force; the one before can be rolled back to, unless it was provisional."""
        asset = self._asset(row)
        before = asset.tracked_from or asset.current
        if before.version.label != "PROVISIONAL":
            asset.past.append(before)
        asset.tracked_from = None
        return self._put_in_force(row, asset, new)

    def follow(self, row: int, factor: float, realised: Realised, end_ns: int) -> ThresholdVersion:
        """The combined limit moved by ``factor``, as a version of its own.

        Args:
            row: the asset.
            factor: between the limit of the version in force and the new one.
            realised: what came over the limit since the version in force.
            end_ns: end of the last window.
        """
        asset = self._asset(row)
        before, median = asset.current, asset.current.scales.final_median
        limit = before.scales.final_limit + (factor - 1.0) * (before.scales.final_limit - median)
        scales = msgspec.structs.replace(before.scales, final_limit=limit)
        version = ThresholdVersion(
            version=self.next_number(row),
            nu=self._nu,
            n=realised.n,
            n_eff=None,
            tau=None,
            label="TRACKED",
            low=None,
            high=None,
            start_ns=realised.since_ns,
            end_ns=end_ns,
            trigger="tracking",
            old_limit=before.version.new_limit,
            new_limit=before.version.new_limit * factor,
            step=factor,
            approved_by="rule",
            realised=realised.over / max(1, realised.n),
            scales=self.named(scales),
        )
        if asset.tracked_from is None:
            asset.tracked_from = before
        total = (*before.total[:-1], before.total[-1] * factor)
        return self._put_in_force(row, asset, Setting(version, scales, total))

    def roll_back(self, row: int, by: str) -> ThresholdVersion | None:
        """The limit that was set before in force again, under a new number; None if none is kept.

        What tracking did since goes too; where it is all that was done, it is what is undone.
        """
        asset = self._asset(row)
        before = asset.past.pop() if asset.past else asset.tracked_from
        if before is None:
            return None
        version = msgspec.structs.replace(
            before.version,
            version=self.next_number(row),
            trigger="rollback",
            old_limit=asset.current.version.new_limit,
            step=None,
            approved_by=by,
            realised=UNSET,
        )
        asset.tracked_from = None
        return self._put_in_force(row, asset, Setting(version, before.scales, before.total))

    def named(self, scales: Scales) -> dict[str, Any]:
        """Scales as they are published."""
        scorers = {
            name: {"median": median, "limit": limit}
            for name, median, limit in zip(self._scorers, scales.median, scales.limit, strict=True)
        }
        return {
            "combined": {"median": scales.final_median, "limit": scales.final_limit},
            "scorers": scorers,
        }

    def _put_in_force(self, row: int, asset: _Asset, new: Setting) -> ThresholdVersion:
        table, scales = self._table, new.scales
        asset.current = new
        table["version"][row] = new.version.version
        table["median"][row], table["limit"][row] = scales.median, scales.limit
        table["final"][row] = scales.final_median, scales.final_limit
        self.judge_staleness(row, new)
        return new.version

    def _too_far(self, total: Sequence[float]) -> Bools:
        """Scorers [S] whose limit, or the combined one, is further from the trained than `max_total`."""
        beyond = distance(np.asarray(total)) > self._max_total
        return beyond[:-1] | beyond[-1]

    def _asset(self, row: int) -> _Asset:
        if row not in self._assets:
            self._assets[row] = _Asset(self._as_trained())
        return self._assets[row]

    def _as_trained(self) -> Setting:
        version = ThresholdVersion(
            version=0,
            nu=self._nu,
            n=0,
            n_eff=None,
            tau=None,
            label="TRAINED",
            low=None,
            high=None,
            start_ns=None,
            end_ns=None,
            trigger="trained",
            old_limit=1.0,
            new_limit=1.0,
            step=None,
            approved_by="rule",
            scales=self.named(self.trained),
        )
        return Setting(version, self.trained, (1.0,) * (len(self._scorers) + 1))


def distance(factors: ArrayLike) -> Floats:
    """How far factors are from 1, either way: 2 and 1/2 alike; a limit at or below the old median: infinitely."""
    values = np.asarray(factors, np.float64)
    with np.errstate(divide="ignore"):
        return np.where(values > 0.0, np.maximum(values, 1.0 / values), np.inf)
