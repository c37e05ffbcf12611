"""What a collection would set, and whether the rule may set it by itself.

Pure: the state that it judges is an argument.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np

from monitor.settings import Calibration, DriftSettings
from monitor.thresholds.adaptation_events import ThresholdVersion
from monitor.thresholds.ages import Ages
from monitor.thresholds.collection import CHUNK, KEEP_AT_MOST, Collected
from monitor.thresholds.reestimate import SCALE_SHARE, Combine, Refit, refit
from monitor.thresholds.threshold import required, smallest_sample
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
    ) -> None:
        self._scorers = scorers
        self._how: Combine = how
        self._weight = weight
        self._drift = drift
        self._calibration = calibration
        self._nu = nu
        self._ages = ages

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
