"""What a threshold's life says to the outside, and what a person may tell it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from msgspec import UNSET, Struct, UnsetType


class ThresholdVersion(Struct, frozen=True, kw_only=True):
    """One version of an asset's limit. Limits are in trained ratios: the bundle's own limit is 1.

    Attributes:
        version: rises by one with every new limit, a rolled back one included; the bundle's is 0.
        nu: the fraction of normal windows allowed over it.
        n: calibration scores behind it; 0 for the bundle's own limit.
        n_eff: their number after autocorrelation; None for the bundle's own.
        tau: their autocorrelation time at the limit, in windows; likewise None.
        label: 'CALIBRATED' or 'UNCALIBRATED' (fewer scores than nu asks for); 'TRAINED' for the bundle's own; 'TRACKED'
            where the limit followed the scores; 'PROVISIONAL' where it was put on few of them after a declared or
            approved change, until enough have come.
        low: lower end of the limit's 95 % interval.
        high: upper end.
        start_ns: window end of the first score.
        end_ns: window end of the last.
        trigger: 'trained', 'drift', 'declared', 'approved', 'rollback' or 'tracking'.
        old_limit: the limit before.
        new_limit: the limit from now on.
        step: factor between the two, read on the new calibration scores; None for a rollback.
        approved_by: 'rule', or the person's name.
        realised: share of windows over the limit since the version before; only where the limit followed the scores.
        scales: median and limit of the combined ratio ('combined') and of every scorer ('scorers', by name, on
            the bundle's ratio scale), from now on.
    """

    version: int
    nu: float
    n: int
    n_eff: float | None
    tau: float | None
    label: Literal["CALIBRATED", "UNCALIBRATED", "TRAINED", "TRACKED", "PROVISIONAL"]
    low: float | None
    high: float | None
    start_ns: int | None
    end_ns: int | None
    trigger: str
    old_limit: float
    new_limit: float
    step: float | None
    approved_by: str
    realised: float | UnsetType = UNSET
    scales: dict[str, Any]


class DriftDetected(NamedTuple):
    """A scorer's normal has moved; the old threshold stays in force.

    Attributes:
        row: the asset.
        scorer: its name.
        end_ns: end of the window that told.
        old_rank: mean calibration rank before, 0.5 where nothing moves.
        new_rank: mean rank of the last 32 values.
    """

    row: int
    scorer: str
    end_ns: int
    old_rank: float
    new_rank: float


class VersionSet(NamedTuple):
    """A new limit is in force for windows after this one."""

    row: int
    version: ThresholdVersion


class AwaitingApproval(NamedTuple):
    """A person has to decide.

    Attributes:
        row: the asset.
        reason: why the rule does not decide.
        proposed: what an approval sets at once (its `version` is the one it would get); None: an approval allows
            collecting, and the limit follows when enough has come.
    """

    row: int
    reason: str
    proposed: ThresholdVersion | None


class Refused(NamedTuple):
    """A re-estimation or a command that was not carried out, and why."""

    row: int
    why: str


class DetectorReset(NamedTuple):
    """A restored asset's drift detector starts afresh, because the saved one was of another river version."""

    row: int
    scorer: str
    reason: str


class Recentred(NamedTuple):
    """Centres of sensors have moved, for windows from this slot on.

    Attributes:
        row: the asset.
        end_ns: end of the first slot.
        moved: by sensor, its distance from the trained centre before and now, in sigma.
    """

    row: int
    end_ns: int
    moved: dict[str, tuple[float, float]]


AdaptationEvent = DriftDetected | VersionSet | AwaitingApproval | Refused | DetectorReset | Recentred


class Command(Struct, frozen=True, forbid_unknown_fields=True):
    """A person's decision about one asset's threshold.

    Attributes:
        action: approve a proposal or a standing shift, reject it, or roll back to the version before.
        by: the person's name.
        at_ns: when, ns since the epoch.
    """

    action: Literal["approve", "reject", "rollback"]
    by: str
    at_ns: int
