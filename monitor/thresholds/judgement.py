"""What a collection would set, and whether the rule may set it by itself.

Pure: the state that it judges is an argument.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from monitor.settings import Calibration, DriftSettings
from monitor.thresholds.adaptation_events import ThresholdVersion
from monitor.thresholds.ages import Ages
from monitor.thresholds.collection import CHUNK, KEEP_AT_MOST, Collected
from monitor.thresholds.provisional import deciles, line, raised
from monitor.thresholds.reestimate import SCALE_SHARE, Combine, Refit, Scales, final_ratio, refit
from monitor.thresholds.threshold import ThresholdRefused, required, smallest_sample
from monitor.thresholds.versions import Setting, Versions, distance

_NO_AGES = Ages.of_no_effect()


class Permit(IntEnum):
    """What allows a collection in spite of an ANOMALY, in order of strength."""

    NONE = 0
    DECLARED = 1
    APPROVED = 2


TRIGGERS = {Permit.NONE: "drift", Permit.DECLARED: "declared", Permit.APPROVED: "approved"}


class Judgement:
    """The settings under which collections of one asset class are judged.

    Args:
        scorers: their names, in the order of S.
        how: how the scorers' ratios combine.
        weight: of the newest ratio in the EWMA.
        drift: what may be done without a person.
        calibration: nu of the scorers' limits, and how much is enough.
        nu: of the limit of the combined ratio.
        ages: the bundle's limits by age after a restart.
        known: [S, 9] deciles of the scorers' calibration scores on the bundle's ratio scale.
        rank_tau: autocorrelation time of the scorers' scores, in windows.
    """

    def __init__(
        self,
        scorers: tuple[str, ...],
        how: Combine,
        weight: float,
        drift: DriftSettings,
        calibration: Calibration,
        nu: float,
        ages: Ages = _NO_AGES,
        known: NDArray[np.float64] | None = None,
        rank_tau: float = 1.0,
    ) -> None:
        self._scorers = scorers
        self._how: Combine = how
        self._weight = weight
        self._drift = drift
        self._calibration = calibration
        self._nu = nu
        self._ages = ages
        self._known = known
        self._rank_tau = max(1.0, rank_tau)

    def needed(self, tau: float) -> int:
        """Windows that a collection needs: `samples`, or enough for nu in the part that sets the limit."""
        nu, samples = self._nu, self._drift.samples
        least = SCALE_SHARE * smallest_sample(nu)
        share = SCALE_SHARE / (SCALE_SHARE - 1)
        enough = math.ceil(required(nu, tau, self._calibration.enough) * share) + 1
        return min(max(least, enough if samples is None else samples), KEEP_AT_MOST)

    def refitted(self, row: int, collected: Collected, versions: Versions, end_ns: int) -> Refit:
        """What the collection would set.

        Raises:
            ThresholdRefused: too few scores for nu, or a scorer's limit is not above its median.
        """
        version = versions.next_number(row) - 1
        return refit(
            collected.u.astype(np.float64),
            collected.breaks,
            trained=versions.trained,
            current=versions.current(row).scales,
            how=self._how,
            weight=self._weight,
            scorer_nu=self._calibration.nu,
            nu=self._nu,
            enough=self._calibration.enough,
            rng=np.random.default_rng([version, abs(collected.start_ns), abs(end_ns)]),
            start_ns=collected.start_ns,
            end_ns=end_ns,
            ages=self._ages,
        )

    def provisional(
        self, row: int, collected: Collected, versions: Versions, permit: Permit, by: str, end_ns: int
    ) -> Setting:
        """A limit from few windows, until enough have come: see `monitor.thresholds.provisional`.

        Raises:
            ThresholdRefused: no scale can be read off the scores, or a declared change's would be beyond
                `max_declared`.
        """
        scales, current = self._rescaled(collected, versions, 1.0), versions.current(row)
        step = self._between(collected, scales, current.scales)
        total = self._between(collected, scales, versions.trained)
        factors = (*scales.limit, total)
        worst = float(distance(factors).max())
        if permit != Permit.APPROVED and worst > self._drift.max_declared:
            raise ThresholdRefused(
                f"provisional limit: a factor of {worst:.3g} from the trained limit is beyond"
                f" {self._drift.max_declared:g}"
            )
        version = ThresholdVersion(
            version=versions.next_number(row),
            nu=self._nu,
            n=len(collected.u),
            n_eff=len(collected.u) / self._rank_tau,
            tau=self._rank_tau,
            label="PROVISIONAL",
            low=None,
            high=None,
            start_ns=collected.start_ns,
            end_ns=end_ns,
            trigger=TRIGGERS[permit],
            old_limit=current.version.new_limit,
            new_limit=total,
            step=step,
            approved_by=by,
            scales=versions.named(scales),
        )
        return Setting(version, scales, factors)

    def likely(self, collected: Collected, versions: Versions) -> float:
        """Where the limit most likely belongs, in trained ratios: a provisional one lies higher.

        Raises:
            ThresholdRefused: no scale can be read off the scores.
        """
        return self._between(collected, self._rescaled(collected, versions, 0.0), versions.trained)

    def _between(self, collected: Collected, mine: Scales, other: Scales) -> float:
        """What ``other`` calls the limit of ``mine``, read on the collected windows."""
        u = collected.u.astype(np.float64)
        final = [
            final_ratio(u, collected.breaks, each, self._how, self._weight, self._ages)
            for each in (mine, other)
        ]
        return line(deciles(final[0]), deciles(final[1])).of(1.0)

    def _rescaled(self, collected: Collected, versions: Versions, errors: float) -> Scales:
        """The trained scales of the scorers, put on the collected scores, and raised by so many standard errors."""
        if self._known is None:
            raise ThresholdRefused("provisional limit: the calibration's deciles are not known")
        n_eff = max(1.0, len(collected.u) / self._rank_tau)
        lines = [
            raised(line(known, deciles(column)), known, n_eff, errors)
            for known, column in zip(self._known, collected.u.astype(np.float64).T, strict=True)
        ]
        trained = versions.trained
        return Scales(
            tuple(each.of(median) for each, median in zip(lines, trained.median, strict=True)),
            tuple(each.of(limit) for each, limit in zip(lines, trained.limit, strict=True)),
            trained.final_median,
            trained.final_limit,
        )

    def missing(self, n: int, refitted: Refit, needed: int) -> int:
        """A larger size for a collection of n where its own autocorrelation asks for more; 0 if it will do."""
        if refitted.estimate.enough or self._drift.samples is not None or n >= KEEP_AT_MOST:
            return 0
        return min(max(self.needed(refitted.estimate.tau), needed + CHUNK), KEEP_AT_MOST)

    def objection(self, permit: Permit, refitted: Refit) -> str:
        """Why the rule may not set this limit by itself; '' if it may."""
        if permit == Permit.APPROVED:
            return ""
        if self._drift.re_estimate == "approve":
            return "re_estimate is 'approve': every new limit is a person's decision"
        if not refitted.estimate.enough and self._drift.samples is None:
            return f"{refitted.estimate.missing} further scores would be needed, more than are kept"
        alone = permit == Permit.NONE
        for what, factors, most in (
            (
                "from the trained limit",
                refitted.total,
                self._drift.max_total if alone else self._drift.max_declared,
            ),
            ("of the limit", refitted.step, self._drift.max_step if alone else math.inf),
        ):
            worst = int(np.argmax(distance(factors)))
            if distance(factors)[worst] > most:
                name = (*self._scorers, "the combined ratio")[worst]
                return f"the step {what} of {name}, a factor of {factors[worst]:.3g}, is beyond {most:g}"
        return ""

    def proposal(self, row: int, refitted: Refit, versions: Versions, trigger: str, by: str) -> Setting:
        """The version that the collection would set."""
        result = refitted.estimate
        version = ThresholdVersion(
            version=versions.next_number(row),
            nu=result.nu,
            n=result.n,
            n_eff=result.n_eff,
            tau=result.tau,
            label=result.label,
            low=result.low,
            high=result.high,
            start_ns=result.start_ns,
            end_ns=result.end_ns,
            trigger=trigger,
            old_limit=versions.current(row).version.new_limit,
            new_limit=result.threshold,
            step=float(refitted.step[-1]),
            approved_by=by,
            scales=versions.named(refitted.scales),
        )
        return Setting(version, refitted.scales, tuple(refitted.total.tolist()))
