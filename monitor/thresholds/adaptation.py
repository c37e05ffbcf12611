"""The life of an asset's threshold: it moves only where that is safe.

    STABLE --a detector fires, or a change of context is declared------> DRIFT
    DRIFT  --enough stationary scores, within max_step and max_total---> STABLE, a new version
    DRIFT  --a declared change has moved nothing-----------------------> STABLE
    DRIFT  --an ANOMALY stands, or a bound would be passed-------------> AWAITING (a person)
    STABLE --an undeclared ANOMALY stands------------------------------> AWAITING
    AWAITING --approve--> a new version, or DRIFT; --reject--> STABLE; --the ANOMALY clears--> as before it

Re-estimation (REFITTING) takes place inside one call and is never seen from outside.

**What is never absorbed.** From the scores alone a grade change and a broken sensor are the same data. An
ANOMALY that *stands* (`monitor.thresholds.standing`) drops the collection, and nothing is collected until it
clears, unless the shift was declared (a change of recipe, phase or set-point at most `settle` before the
exceedances became more than chance) or a person approves. Under a declared change steps may exceed `max_step` and
`max_total` but not `max_declared`, and scores that still move are a reason to ask. Only a person can pass that. A
re-estimation itself waits until no ANOMALY is open.

**Within the settle time.** A nu-quantile takes more windows than a plant can wait for. So both permits first get a
PROVISIONAL limit (`provisional`) from few windows: of a declared change those between one half and seven eighths of
`settle` after it, the first half being left to what swings; after an approval those of the next three eighths of
`settle`. What is collected for the regular version begins behind that: of a declared change when `settle` has passed.

| where | what |
|---|---|
| here | the states, and what leads from one to the next |
| `standing` | which ANOMALY is more than chance |
| `drift_watch`, `drift` | the detectors |
| `collection` | scores for a new limit |
| `judgement`, `reestimate`, `provisional` | what they would set, and whether the rule may |
| `tracking` | the limit between drifts |
| `versions` | what is in force |

Shape letters: n assets of one step (distinct rows, in order of window end per asset), S scorers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from monitor.settings import AssetClass
from monitor.table import Table
from monitor.thresholds.adaptation_events import (
    AdaptationEvent,
    AwaitingApproval,
    Command,
    DriftDetected,
    Refused,
    ThresholdVersion,
    VersionSet,
)
from monitor.thresholds.collection import Collected, Collections
from monitor.thresholds.drift_watch import DriftWatch
from monitor.thresholds.judgement import TRIGGERS, Judgement, Permit
from monitor.thresholds.provisional import FEWEST, MOST
from monitor.thresholds.reestimate import Combine, combine, stationary
from monitor.thresholds.standing import Standing
from monitor.thresholds.threshold import ThresholdRefused
from monitor.thresholds.tracking import Tracking
from monitor.thresholds.versions import Scale, Setting, Versions, distance

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.integer[Any]]

_NEVER = np.iinfo(np.int64).min // 2
_SWINGS = 1 / 2
"""Share of `settle` after a declared change of which no score counts."""
_DATING = 4
"""Autocorrelation times by which a shift may be dated too early: a chance excursion that it meets counts for it."""
_MOVED = 1.2
"""A limit that would be raised by less than this factor after a declared change is left to tracking."""
_PROVISIONAL = 3 / 8
"""Share of `settle` in which scores for a provisional limit are collected: an eighth is left for it to show."""


class State(IntEnum):
    """Where an asset's threshold is in its life."""

    STABLE = 0
    DRIFT = 1
    AWAITING = 2


class _Pending(Struct, frozen=True):
    """What a person has to do with: a proposal that waits, or who allowed the collection."""

    proposal: Setting | None = None
    approved_by: str = ""


class _Saved(Struct, frozen=True, array_like=True):
    row: bytes
    pending: _Pending
    stages: dict[str, bytes]


class Adaptation:
    """Thresholds of the assets of one class: ratios under the version in force, and how that version changes.

    Args:
        scorers: their names, in the order of S.
        trained: the bundle's combined limit.
        asset_class: its settings `calibration`, `drift`, `scoring`, `alerting`, `sampling` and `window`.
    """

    def __init__(self, scorers: Sequence[str], trained: Scale, asset_class: AssetClass) -> None:
        names, drift, calibration = tuple(scorers), asset_class.drift, asset_class.calibration
        self._how: Combine = asset_class.scoring.combine
        self._settle = drift.settle
        window = asset_class.sampling * asset_class.window.stride
        self._max_total = drift.max_total
        tau = max(1.0, trained.tau)
        period = max(1, math.ceil(trained.rank_tau if trained.rank_tau is not None else tau))
        self._dating = round(_DATING * tau * window)
        off = math.ceil(asset_class.alerting.off_delay / window)
        nu = calibration.nu if trained.nu is None else trained.nu
        self.versions = Versions(names, trained, nu, drift.max_total)
        self.standing = Standing(tau, off)
        self.drift_watch = DriftWatch(names, drift, period)
        self.collections = Collections(len(names))
        alone = drift.tracking.enabled and drift.re_estimate == "guarded"
        tracking = msgspec.structs.replace(drift.tracking, enabled=alone)
        self.tracking = Tracking(tracking, nu, tau, trained.spread)
        self._judgement = Judgement(
            names,
            self._how,
            asset_class.scoring.smoothing,
            drift,
            calibration,
            nu,
            trained.ages,
            trained.deciles,
            period,
        )
        self._provisional = trained.deciles is not None
        self._guarded = drift.re_estimate == "guarded"
        self._needed = self._judgement.needed(tau)
        self._table = Table(
            [
                ("state", np.uint8, ()),
                ("permit", np.uint8, ()),
                ("declared", np.int64, ()),
                ("collect_from", np.int64, ()),
                ("needed", np.int32, ()),
                ("provisional", np.bool_, ()),
            ],
            {"declared": _NEVER, "collect_from": _NEVER, "needed": self._needed},
        )
        self._pending = dict[int, _Pending]()
        self._stages = {
            "versions": self.versions,
            "standing": self.standing,
            "drift_watch": self.drift_watch,
            "collections": self.collections,
            "tracking": self.tracking,
        }

    # ---- state of assets

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets."""
        for stage in (self._table, *self._stages.values()):
            stage.grow(capacity)

    def dump(self, row: int) -> bytes:
        """State of one asset."""
        stages = {name: stage.dump(row) for name, stage in self._stages.items()}
        return msgspec.msgpack.encode(_Saved(self._table.dump(row), self._of(row), stages))

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave. Detectors of another river version start afresh; the next step says so.

        Raises:
            ValueError: the bytes are of another layout.
        """
        try:
            saved = msgspec.msgpack.decode(data, type=_Saved)
            for name, stage in self._stages.items():
                stage.load(row, saved.stages[name])
        except (msgspec.DecodeError, KeyError) as error:
            raise ValueError(f"threshold state: {len(data)} bytes of another layout: {error}") from error
        self._table.load(row, saved.row)
        self._pending[row] = saved.pending

    # ---- what is in force

    def version(self, rows: Rows) -> NDArray[np.int32]:
        """Versions in force [n]; 0 is the bundle's."""
        return self.versions.version(rows)

    def scorer_ratios(self, rows: Rows, u: Floats) -> Floats:
        """Each scorer's ratio [n, S] from its score on the bundle's ratio scale [n, S]."""
        return self.versions.scorer_ratios(rows, u)

    def combine(self, ratios: Floats) -> Floats:
        """One ratio [n] of the scorers' [n, S]."""
        return combine(ratios, self._how)

    def final_ratio(self, rows: Rows, smoothed: Floats) -> Floats:
        """The final ratio [n] of combined, smoothed ratios [n]; 1.0 is the limit."""
        return self.versions.final_ratio(rows, smoothed) / self.tracking.factor(rows)

    def limits(self, rows: Rows) -> tuple[Floats, Floats]:
        """Each scorer's limit [n, S] on the bundle's ratio scale (1 as trained), and the combined one [n]."""
        return self.versions.scorer_limits(rows), self.versions.final_limit(rows, self.tracking.factor(rows))

    def gates(self, rows: Rows) -> NDArray[np.uint8]:
        """Codes [n] of `Gate` at the assets' last windows."""
        return self.tracking.gate(rows)

    def teaches(self, rows: Rows) -> Bools:
        """Whether the assets' last windows [n] may teach what is normal."""
        return self.tracking.teaches(rows)

    def recent(self, rows: Rows) -> NDArray[np.int64]:
        """Windows over the limit among the assets' last 40 [n]."""
        return self.tracking.recent(rows)

    def state(self, row: int) -> str:
        """STABLE, DRIFT or AWAITING."""
        return State(int(self._table["state"][row])).name

    def states(self, rows: Rows) -> NDArray[np.uint8]:
        """Codes [n] of `State`."""
        return self._table["state"][rows]

    def drifting(self, rows: Rows) -> Bools:
        """Scorers [n, S] whose normal has moved and is not yet re-estimated: the condition of DRIFT."""
        return self.drift_watch.drifting(rows)

    def stale(self, rows: Rows) -> Bools:
        """Scorers [n, S] too far from their training, in force or proposed: the condition of MODEL_STALE."""
        return self.versions.stale(rows)

    # ---- the fold

    def observe(
        self,
        rows: Rows,
        end_ns: NDArray[np.int64],
        u: Floats,
        ranks: Floats,
        eligible: Bools,
        anomaly_open: Bools,
        fault_open: Bools,
        declared: Bools,
        final: Floats,
        segment: NDArray[np.int64],
    ) -> list[AdaptationEvent]:
        """One window of each of n assets, after its incidents were updated.

        Args:
            rows: [n] distinct assets.
            end_ns: [n] window ends, ns since the epoch.
            u: [n, S] scores on the bundle's ratio scale.
            ranks: [n, S] calibration ranks of the scores against the bundle.
            eligible: [n] scored: adequately covered and mature.
            anomaly_open: [n] an ANOMALY is open.
            fault_open: [n] a SENSOR_FAULT is open.
            declared: [n] the context changed at this window, to one that the model was not trained on.
            final: [n] final ratios of the windows.
            segment: [n] number of the unbroken stretch that the window belongs to: smoothing restarts with it.

        Returns:
            What happened, in order of the rows.
        """
        events: list[AdaptationEvent] = [*self.drift_watch.notices(rows)]
        self._follow_declarations(rows, end_ns, declared)
        over, calm = eligible & (final > 1.0), self.standing.calm(rows)
        newly = self.standing.step(rows, end_ns, over, eligible, anomaly_open)
        events += self._track(rows, end_ns, over, eligible, calm, newly, fault_open)
        for index in np.flatnonzero(newly):
            events += self._stands(int(rows[index]))
        self._calm(rows[~anomaly_open])
        found = self.drift_watch.step(rows, end_ns, u, ranks, eligible & ~anomaly_open & ~fault_open)
        self._drifts(found)
        events += found
        return events + self._collect(rows, end_ns, u, eligible & ~fault_open, anomaly_open, segment)

    def command(self, row: int, command: Command) -> list[AdaptationEvent]:
        """Carry out a person's decision about one asset."""
        pending, state = self._of(row), State(int(self._table["state"][row]))
        if command.action == "rollback":
            return self._roll_back(row, command)
        if state == State.STABLE:
            hint = "nothing has drifted and no ANOMALY stands"
            return [Refused(row, f"{command.action} by {command.by}: there is nothing to decide: {hint}")]
        if command.action == "reject":
            self._settle_down(row)
            self.versions.judge_staleness(row, self.versions.current(row))
            return []
        if pending.proposal is not None:
            return [self._adopt(row, pending.proposal, "approved", command.by)]
        self._start(row, Permit.APPROVED)
        self._pending[row] = _Pending(None, command.by)
        return []

    # ---- between drifts

    def _track(
        self,
        rows: Rows,
        end_ns: NDArray[np.int64],
        over: Bools,
        eligible: Bools,
        calm: Bools,
        newly: Bools,
        fault_open: Bools,
    ) -> list[AdaptationEvent]:
        """The limit follows the scores; where it has moved far enough, as a new version."""
        events, stands = list[AdaptationEvent](), self.standing.stands(rows)
        moved = self.tracking.step(rows, end_ns, over, eligible, calm, stands, newly, fault_open)
        for index in np.flatnonzero(moved).tolist():
            row, factor = int(rows[index]), float(self.tracking.factor(rows[index]))
            realised = self.tracking.realised(row)
            version = self.versions.follow(row, factor, realised, int(end_ns[index]))
            self.tracking.published(row)
            events.append(VersionSet(row, version))
        return events

    # ---- anomalies and declared changes

    def _follow_declarations(self, rows: Rows, end_ns: NDArray[np.int64], declared: Bools) -> None:
        """A declared change: whether it has moved the scores is judged within `settle`, standing ANOMALY or not.

        An asset that awaits a decision, or has one, keeps it.
        """
        table = self._table
        table["declared"][rows[declared]] = end_ns[declared]
        if not self._provisional or not self._guarded:
            declared = declared & (table["permit"][rows] == Permit.DECLARED)
        free = (table["state"][rows] != State.AWAITING) & (table["permit"][rows] != Permit.APPROVED)
        for row in rows[declared & free]:
            self._start(int(row), Permit.DECLARED)

    def _stands(self, row: int) -> list[AdaptationEvent]:
        """An ANOMALY has come to stand: only a permit lets its windows count as the new normal."""
        permit, declared = self._table["permit"][row], self._was_declared(row, self.standing.shifted_ns(row))
        if self._of(row).proposal is not None or permit == Permit.APPROVED:
            return []
        if permit == Permit.DECLARED and (declared or not self._table["provisional"][row]):
            return []
        if declared:
            self._start(row, Permit.DECLARED)
            return []
        return self._ask(row, "an ANOMALY stands, and no change of context was declared before it", None)

    def _was_declared(self, row: int, at_ns: int) -> bool:
        """Whether the change came at most `settle` before the shift, within what a shift can be dated to."""
        return -self._dating <= at_ns - int(self._table["declared"][row]) <= self._settle

    def _calm(self, rows: Rows) -> None:
        """Assets that awaited a decision about an ANOMALY which has cleared go back to where they were."""
        table = self._table
        for row in rows[table["state"][rows] == State.AWAITING]:
            if self._of(int(row)).proposal is None:
                moved = self.drift_watch.drifting(row).any()
                table["state"][row] = State.DRIFT if moved else State.STABLE

    def _drifts(self, found: Sequence[DriftDetected]) -> None:
        """Assets whose normal has moved begin to collect."""
        for event in found:
            if self._table["state"][event.row] == State.STABLE:
                declared = self._was_declared(event.row, event.end_ns)
                self._start(event.row, Permit.DECLARED if declared else Permit.NONE)

    # ---- collecting

    def _start(self, row: int, permit: Permit) -> None:
        """Collect from now on; under a declared change, once the worst of it is over."""
        table = self._table
        self.collections.drop(row)
        table["state"][row], table["permit"][row], table["needed"][row] = State.DRIFT, permit, self._needed
        approved, declared = permit == Permit.APPROVED, permit == Permit.DECLARED and self._guarded
        table["provisional"][row] = self._provisional and (approved or declared)
        self._collect_after(row, _SWINGS if table["provisional"][row] else 1.0)

    def _collect_after(self, row: int, share: float) -> None:
        """Under a declared change scores count when this share of `settle` has passed."""
        table = self._table
        since = int(table["declared"][row]) + round(share * self._settle)
        table["collect_from"][row] = since if table["permit"][row] == Permit.DECLARED else _NEVER

    def _collect(
        self,
        rows: Rows,
        end_ns: NDArray[np.int64],
        u: Floats,
        usable: Bools,
        anomaly_open: Bools,
        segment: NDArray[np.int64],
    ) -> list[AdaptationEvent]:
        table, events = self._table, list[AdaptationEvent]()
        collecting = table["state"][rows] == State.DRIFT
        if not collecting.any():
            return events
        permitted = (table["permit"][rows] != Permit.NONE) | ~self.standing.stands(rows)
        take = collecting & usable & permitted & (end_ns >= table["collect_from"][rows])
        self.collections.interrupt(rows[collecting & ~take])
        at = np.flatnonzero(take)
        for full in self.collections.take(rows[at], end_ns[at], u[at], segment[at]):
            index = int(at[full])
            row = int(rows[index])
            if table["provisional"][row]:
                events += self._provisionally(row, int(end_ns[index]))
                continue
            waits = anomaly_open[index] and table["permit"][row] == Permit.NONE
            if self.collections.size(row) >= table["needed"][row] and not waits:
                events += self._judge(row, int(end_ns[index]))
        return events

    # ---- a provisional limit

    def _provisionally(self, row: int, end_ns: int) -> list[AdaptationEvent]:
        """Set a provisional limit when its windows have come; then collecting for the regular one begins."""
        table, size = self._table, self.collections.size(row)
        collected = self.collections.collected(row)
        waited = end_ns - collected.start_ns
        if size < FEWEST or (size < MOST and waited < _PROVISIONAL * self._settle):
            return []
        permit = Permit(int(table["permit"][row]))
        by = self._of(row).approved_by if permit == Permit.APPROVED else "rule"
        self.collections.drop(row)
        table["provisional"][row] = False
        self._collect_after(row, 1.0)
        try:
            if permit == Permit.DECLARED and self._as_before(row, collected):
                table["state"][row], table["permit"][row] = State.STABLE, Permit.NONE
                return []
            new = self._judgement.provisional(row, collected, self.versions, permit, by, end_ns)
        except ThresholdRefused as error:
            return [Refused(row, f"{error}; collecting goes on")]
        version = self.versions.adopt(row, new)
        self._restart(row)
        return [VersionSet(row, version)]

    def _as_before(self, row: int, collected: Collected) -> bool:
        """Whether a declared change has left the scores where they were: nothing is to be learnt."""
        at = np.array([row])
        if self.standing.stands(at)[0] or self.drift_watch.drifting(at).any():
            return False
        in_force = self.versions.total(row) * float(self.tracking.factor(at)[0])
        known = max(in_force, self.versions.total_as_set(row))
        return self._judgement.likely(collected, self.versions) < _MOVED * known

    # ---- re-estimation

    def _judge(self, row: int, end_ns: int) -> list[AdaptationEvent]:
        """REFITTING: what the collection says, and what may be done with it."""
        collected, table = self.collections.collected(row), self._table
        if not stationary(collected.u.astype(np.float64)):
            return self._not_yet(row, "the new scores still move")
        try:
            refitted = self._judgement.refitted(row, collected, self.versions, end_ns)
        except ThresholdRefused as error:
            return self._not_yet(row, str(error))
        missing = self._judgement.missing(len(collected.u), refitted, int(table["needed"][row]))
        if missing:
            table["needed"][row] = missing
            return []
        permit = Permit(int(table["permit"][row]))
        by = self._of(row).approved_by if permit == Permit.APPROVED else "rule"
        proposal = self._judgement.proposal(row, refitted, self.versions, TRIGGERS[permit], by)
        reason = self._judgement.objection(permit, refitted)
        if reason:
            self.versions.judge_staleness(row, proposal)
            return self._ask(row, reason, proposal)
        return [self._adopt(row, proposal, TRIGGERS[permit], by)]

    def _not_yet(self, row: int, why: str) -> list[AdaptationEvent]:
        """The older half goes, the younger may be the new normal. Of a standing, declared shift we ask."""
        self.collections.drop_older_half(row)
        if self.standing.stands(np.array([row]))[0] and self._table["permit"][row] == Permit.DECLARED:
            return self._ask(row, f"after a declared change an ANOMALY stands, and {why}", None)
        return [Refused(row, f"re-estimation: {why}; collecting goes on")]

    # ---- outcomes

    def _ask(self, row: int, reason: str, proposal: Setting | None) -> list[AdaptationEvent]:
        if proposal is None:
            self.collections.drop(row)
        self._table["state"][row], self._table["permit"][row] = State.AWAITING, Permit.NONE
        self._pending[row] = _Pending(proposal, self._of(row).approved_by)
        return [AwaitingApproval(row, reason, None if proposal is None else proposal.version)]

    def _adopt(self, row: int, new: Setting, trigger: str, by: str) -> VersionSet:
        if self.collections.size(row):
            self.drift_watch.refer_to(row, self.collections.collected(row).u)
        version = msgspec.structs.replace(new.version, trigger=trigger, approved_by=by)
        return self._in_force(row, self.versions.adopt(row, msgspec.structs.replace(new, version=version)))

    def _roll_back(self, row: int, command: Command) -> list[AdaptationEvent]:
        version = self.versions.roll_back(row, command.by)
        if version is None:
            return [Refused(row, f"rollback by {command.by}: no earlier version is kept")]
        return [self._in_force(row, version)]

    def _in_force(self, row: int, version: ThresholdVersion) -> VersionSet:
        self._restart(row)
        self._settle_down(row)
        return VersionSet(row, version)

    def _restart(self, row: int) -> None:
        """What was over the old limit says nothing of the new one, and what was tracked goes."""
        self.standing.forget(row)
        self.tracking.restart(row, self._max_total / float(distance(self.versions.total(row))))

    def _settle_down(self, row: int) -> None:
        """Back to STABLE with fresh detectors and nothing collected."""
        self.collections.drop(row)
        self.drift_watch.reset(row)
        self._pending.pop(row, None)
        self._table["state"][row], self._table["permit"][row] = State.STABLE, Permit.NONE
        self._table["provisional"][row] = False

    def _of(self, row: int) -> _Pending:
        return self._pending.get(row, _Pending())
