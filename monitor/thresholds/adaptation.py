"""The life of an asset's threshold: it moves only where that is safe.

    STABLE --a detector fires, or a declared change raises an ANOMALY--> DRIFT
    DRIFT  --enough stationary scores, within max_step and max_total---> STABLE, a new version
    DRIFT  --an ANOMALY stands, or a bound would be passed-------------> AWAITING (a person)
    STABLE --an undeclared ANOMALY stands------------------------------> AWAITING
    AWAITING --approve--> a new version, or DRIFT; --reject--> STABLE; --the ANOMALY clears--> as before it

Re-estimation (REFITTING) takes place inside one call and is never seen from outside.

**What is never absorbed.** From the scores alone a grade change and a broken sensor are the same data. An
ANOMALY that *stands* drops the collection, and nothing is collected until it clears, unless the shift was
declared (a change of recipe, phase or set-point at most `settle` before the exceedances became more than
chance) or a person approves. Under a declared change collecting begins when `settle` has passed, steps may exceed
`max_step` but not `max_total`, and scores that still move are a reason to ask. Only a person can pass
`max_total`.

**What stands.** At nu = 0.01 one window in a hundred is over the limit by design, and with a short on-delay
each of them opens an ANOMALY. Were these windows left out of a collection, the new limit would be the quantile
of scores without their tail, and every re-estimation would lower it. An ANOMALY counts as chance, and its
windows as normal, until over 25 % of the last 40 autocorrelation times were over the limit, or it has been open
for longer than chance explains (40 autocorrelation times and 20 off-delays); then it stands until it clears.
A re-estimation itself waits until no ANOMALY is open.

Shape letters: n assets of one step (distinct rows, in order of window end per asset), S scorers.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

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
    DetectorReset,
    DriftDetected,
    Refused,
    ThresholdVersion,
    VersionSet,
)
from monitor.thresholds.drift import Detector, from_bytes
from monitor.thresholds.reestimate import SCALE_SHARE, Combine, Refit, Scales, combine, refit, stationary
from monitor.thresholds.threshold import ThresholdRefused, rank, ratio, required, smallest_sample

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.integer[Any]]

_CHUNK = 64
"""Collected windows are staged in arrays and handed over in chunks: most steps touch no Python object."""
_KEEP_AT_MOST = 262_144
"""Collected windows of one asset, at most: 4 MB with 4 scorers."""
_HISTORY = 8
"""Versions that can be rolled back."""
_REFERENCE = 512
"""Quantiles of the last calibration that ranks refer to after a re-estimation."""
_STANDS_SHARE = 0.25
_STANDS_TAUS = 40
_CHANCE_OFF_DELAYS = 20
_NEVER = np.iinfo(np.int64).min // 2


class State(IntEnum):
    """Where an asset's threshold is in its life."""

    STABLE = 0
    DRIFT = 1
    AWAITING = 2


class Permit(IntEnum):
    """What allows a collection in spite of an ANOMALY, in order of strength."""

    NONE = 0
    DECLARED = 1
    APPROVED = 2


class Scale(NamedTuple):
    """The bundle's limit of the combined, smoothed ratio.

    Attributes:
        final_median: median of its calibration values.
        final_limit: their nu-quantile.
        tau: autocorrelation time of the exceedances, in windows; sets sample sizes.
        rank_tau: autocorrelation time of the scorers' ranks, in windows: one rank in so many reaches the drift
            detectors. None: `tau`; but ranks move more slowly than exceedances of a high limit.
    """

    final_median: float
    final_limit: float
    tau: float
    rank_tau: float | None = None


class _Set(Struct, frozen=True):
    """A version with what it sets."""

    version: ThresholdVersion
    scales: Scales
    total: tuple[float, ...]


class _Asset:
    """What does not fit into an array: detectors, collected scores, history."""

    def __init__(self, current: _Set, detectors: list[Detector]) -> None:
        self.current = current
        self.detectors = detectors
        self.past = deque[_Set](maxlen=_HISTORY)
        self.proposal: _Set | None = None
        self.approved_by = ""
        self.u = deque[NDArray[np.float32]]()
        self.breaks = deque[Bools]()
        self.start_ns = deque[int]()
        self.reference: NDArray[np.float32] | None = None
        self.notices: list[tuple[str, str]] = []

    def clear(self) -> None:
        self.u.clear()
        self.breaks.clear()
        self.start_ns.clear()

    def drop_oldest(self, chunks: int) -> None:
        for _ in range(min(chunks, len(self.u))):
            self.u.popleft()
            self.breaks.popleft()
            self.start_ns.popleft()


class _Saved(Struct, frozen=True, array_like=True):
    """`_Asset` and the table's row as bytes."""

    row: bytes
    current: _Set
    detectors: tuple[bytes, ...]
    past: tuple[_Set, ...]
    proposal: _Set | None
    approved_by: str
    u: bytes
    breaks: bytes
    start_ns: tuple[int, ...]
    reference: bytes | None
    notices: list[tuple[str, str]]


class Adaptation:
    """Thresholds of the assets of one class: ratios under the version in force, and how that version changes.

    Args:
        scorers: their names, in the order of S.
        trained: the bundle's combined limit.
        asset_class: its settings `calibration`, `drift`, `scoring`, `alerting`, `sampling` and `window`.
    """

    def __init__(self, scorers: Sequence[str], trained: Scale, asset_class: AssetClass) -> None:
        self._scorers = tuple(scorers)
        self._how: Combine = asset_class.scoring.combine
        self._weight = asset_class.scoring.smoothing
        self._drift = asset_class.drift
        self._calibration = asset_class.calibration
        size = len(self._scorers)
        self._trained = Scales((0.0,) * size, (1.0,) * size, trained.final_median, trained.final_limit)
        tau = max(1.0, trained.tau)
        self._period = max(1, math.ceil(trained.rank_tau if trained.rank_tau is not None else tau))
        off = math.ceil(asset_class.alerting.off_delay / (asset_class.sampling * asset_class.window.stride))
        self._patience = math.ceil(_STANDS_TAUS * tau) + _CHANCE_OFF_DELAYS * off
        self._recent = 2.0 / (_STANDS_TAUS * tau + 1.0)
        self._needed = self._collection(tau)
        self._table = Table(
            [
                ("version", np.int32, ()),
                ("state", np.uint8, ()),
                ("permit", np.uint8, ()),
                ("median", np.float64, (size,)),
                ("limit", np.float64, (size,)),
                ("final", np.float64, (2,)),
                ("drifting", np.bool_, (size,)),
                ("stale", np.bool_, (size,)),
                ("thinned", np.int32, ()),
                ("over_share", np.float64, ()),
                ("excess", np.float64, ()),
                ("excess_since", np.int64, ()),
                ("opened", np.int64, ()),
                ("open", np.bool_, ()),
                ("open_windows", np.int32, ()),
                ("stands", np.bool_, ()),
                ("shifted", np.int64, ()),
                ("declared", np.int64, ()),
                ("collect_from", np.int64, ()),
                ("needed", np.int32, ()),
                ("segment", np.int64, ()),
                ("gap", np.bool_, ()),
                ("staged", np.int32, ()),
                ("staged_from", np.int64, ()),
                ("staged_u", np.float32, (_CHUNK, size)),
                ("staged_break", np.bool_, (_CHUNK,)),
            ],
            {
                "limit": 1.0,
                "final": (trained.final_median, trained.final_limit),
                "excess_since": _NEVER,
                "opened": _NEVER,
                "shifted": _NEVER,
                "declared": _NEVER,
                "collect_from": _NEVER,
                "needed": self._needed,
                "gap": True,
            },
        )
        self._assets = dict[int, _Asset]()
        self._noticed = set[int]()

    # ---- state of assets

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets."""
        self._table.grow(capacity)

    def dump(self, row: int) -> bytes:
        """State of one asset."""
        asset = self._asset(row)
        return msgspec.msgpack.encode(
            _Saved(
                row=self._table.dump(row),
                current=asset.current,
                detectors=tuple(detector.to_bytes() for detector in asset.detectors),
                past=tuple(asset.past),
                proposal=asset.proposal,
                approved_by=asset.approved_by,
                u=b"".join(chunk.tobytes() for chunk in asset.u),
                breaks=b"".join(chunk.tobytes() for chunk in asset.breaks),
                start_ns=tuple(asset.start_ns),
                reference=None if asset.reference is None else asset.reference.tobytes(),
                notices=asset.notices,
            )
        )

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave. Detectors of another river version start afresh; the next step says so.

        Raises:
            ValueError: the bytes are of another layout.
        """
        try:
            saved = msgspec.msgpack.decode(data, type=_Saved)
        except msgspec.DecodeError as error:
            raise ValueError(f"threshold state: {len(data)} bytes of another layout: {error}") from error
        self._table.load(row, saved.row)
        asset = self._assets[row] = _Asset(saved.current, [])
        asset.past.extend(saved.past)
        asset.proposal, asset.approved_by = saved.proposal, saved.approved_by
        asset.notices = list(saved.notices)
        shape = (-1, _CHUNK, len(self._scorers))
        asset.u.extend(np.frombuffer(saved.u, np.float32).reshape(shape))
        asset.breaks.extend(np.frombuffer(saved.breaks, np.bool_).reshape(-1, _CHUNK))
        asset.start_ns.extend(saved.start_ns)
        if saved.reference is not None:
            asset.reference = np.frombuffer(saved.reference, np.float32).reshape(len(self._scorers), -1)
        for index, (name, state) in enumerate(zip(self._scorers, saved.detectors, strict=True)):
            restored = from_bytes(state, self._drift.detector, self._drift.delta, index)
            asset.detectors.append(restored.detector)
            if restored.reset:
                asset.notices.append((name, restored.reason))
        if asset.notices:
            self._noticed.add(row)

    # ---- what is in force

    def version(self, rows: Rows) -> NDArray[np.int32]:
        """Versions in force [n]; 0 is the bundle's."""
        return self._table["version"][rows]

    def scorer_ratios(self, rows: Rows, u: Floats) -> Floats:
        """Each scorer's ratio [n, S] from its score on the bundle's ratio scale [n, S]."""
        return ratio(u, self._table["median"][rows], self._table["limit"][rows])

    def combine(self, ratios: Floats) -> Floats:
        """One ratio [n] of the scorers' [n, S]."""
        return combine(ratios, self._how)

    def final_ratio(self, rows: Rows, smoothed: Floats) -> Floats:
        """The final ratio [n] of combined, smoothed ratios [n]; 1.0 is the limit."""
        median, limit = self._table["final"][rows].T
        return ratio(smoothed, median, limit)

    def limits(self, rows: Rows) -> tuple[Floats, Floats]:
        """Each scorer's limit [n, S] on the bundle's ratio scale (1 as trained), and the combined one [n]."""
        return self._table["limit"][rows], self._table["final"][rows, 1]

    def state(self, row: int) -> str:
        """STABLE, DRIFT or AWAITING."""
        return State(int(self._table["state"][row])).name

    def states(self, rows: Rows) -> NDArray[np.uint8]:
        """Codes [n] of `State`."""
        return self._table["state"][rows]

    def drifting(self, rows: Rows) -> Bools:
        """Scorers [n, S] whose normal has moved and is not yet re-estimated: the condition of DRIFT."""
        return self._table["drifting"][rows]

    def stale(self, rows: Rows) -> Bools:
        """Scorers [n, S] too far from their training, in force or proposed: the condition of MODEL_STALE."""
        return self._table["stale"][rows]

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
        events = self._notices(rows)
        over = eligible & (final > 1.0)
        self._follow_declarations(rows, end_ns, declared)
        newly = self._follow_anomalies(rows, end_ns, over, eligible, anomaly_open)
        for index in np.flatnonzero(newly):
            events += self._stands(int(rows[index]))
        self._calm(rows[~anomaly_open])
        watched = eligible & ~anomaly_open & ~fault_open
        events += self._detect(rows, end_ns, u, ranks, watched)
        return events + self._collect(rows, end_ns, u, eligible & ~fault_open, anomaly_open, segment)

    def command(self, row: int, command: Command) -> list[AdaptationEvent]:
        """Carry out a person's decision about one asset."""
        asset, state = self._asset(row), State(int(self._table["state"][row]))
        if command.action == "rollback":
            return self._roll_back(row, asset, command)
        if state == State.STABLE:
            hint = "nothing has drifted and no ANOMALY stands"
            return [Refused(row, f"{command.action} by {command.by}: there is nothing to decide: {hint}")]
        if command.action == "reject":
            self._settle_down(row, asset)
            self._table["stale"][row] = self._too_far(asset.current.total)
            return []
        if asset.proposal is not None:
            return [self._adopt(row, asset, asset.proposal, "approved", command.by)]
        self._start(row, asset, Permit.APPROVED)
        asset.approved_by = command.by
        return []

    # ---- anomalies and declared changes

    def _follow_anomalies(
        self, rows: Rows, end_ns: NDArray[np.int64], over: Bools, eligible: Bools, opened: Bools
    ) -> Bools:
        """Track exceedances and open ANOMALYs; True [n] where one begins to stand.

        Since when it has been more than chance is the last time that a cumulative sum of exceedances, less the
        share that stands, was nought: an ANOMALY that was open by chance when the shift came does not antedate it.
        """
        table = self._table
        share = table["over_share"][rows]
        table["over_share"][rows] = share = share + np.where(eligible, self._recent * (over - share), 0.0)
        excess = table["excess"][rows]
        moved = np.maximum(0.0, excess + np.where(eligible, over - _STANDS_SHARE, 0.0))
        since = np.where((excess == 0.0) | (moved == 0.0), end_ns, table["excess_since"][rows])
        table["excess"][rows], table["excess_since"][rows] = moved, since
        rising = opened & ~table["open"][rows]
        table["opened"][rows] = np.where(rising, since, table["opened"][rows])
        windows = np.where(opened, table["open_windows"][rows] + 1, 0)
        table["open"][rows], table["open_windows"][rows] = opened, windows
        stood = table["stands"][rows]
        mostly_over = share > _STANDS_SHARE
        stands = opened & (stood | mostly_over | (windows > self._patience))
        newly = stands & ~stood
        shifted = np.where(mostly_over, since, table["opened"][rows])
        table["shifted"][rows] = np.where(newly, shifted, table["shifted"][rows])
        table["stands"][rows] = stands
        return newly

    def _follow_declarations(self, rows: Rows, end_ns: NDArray[np.int64], declared: Bools) -> None:
        table = self._table
        table["declared"][rows[declared]] = end_ns[declared]
        for row in rows[declared & (table["permit"][rows] == Permit.DECLARED)]:
            self._start(int(row), self._asset(int(row)), Permit.DECLARED)

    def _stands(self, row: int) -> list[AdaptationEvent]:
        """An ANOMALY has come to stand: only a permit lets its windows count as the new normal."""
        table, asset = self._table, self._asset(row)
        if asset.proposal is not None or table["permit"][row] != Permit.NONE:
            return []
        since_declared = int(table["shifted"][row]) - int(table["declared"][row])
        if 0 <= since_declared <= self._drift.settle:
            self._start(row, asset, Permit.DECLARED)
            return []
        return self._ask(
            row, asset, "an ANOMALY stands, and no change of context was declared before it", None
        )

    def _calm(self, rows: Rows) -> None:
        """Assets that awaited a decision about an ANOMALY which has cleared go back to where they were."""
        table = self._table
        for row in rows[table["state"][rows] == State.AWAITING].tolist():
            if self._asset(row).proposal is None:
                table["state"][row] = State.DRIFT if table["drifting"][row].any() else State.STABLE

    # ---- drift

    def _detect(
        self, rows: Rows, end_ns: NDArray[np.int64], u: Floats, ranks: Floats, watched: Bools
    ) -> list[AdaptationEvent]:
        table, events = self._table, list[AdaptationEvent]()
        thinned = table["thinned"][rows] + watched
        due = watched & (thinned >= self._period)
        table["thinned"][rows] = np.where(due, 0, thinned)
        for index in np.flatnonzero(due).tolist():
            events += self._update(int(rows[index]), int(end_ns[index]), u[index], ranks[index])
        return events

    def _update(self, row: int, end_ns: int, u: Floats, ranks: Floats) -> list[AdaptationEvent]:
        asset, events = self._asset(row), list[AdaptationEvent]()
        drifting = self._table["drifting"][row]
        for index, detector in enumerate(asset.detectors):
            if drifting[index] or not detector.update(self._rank(asset, index, u, ranks)):
                continue
            drifting[index] = True
            events.append(DriftDetected(row, self._scorers[index], end_ns, *detector.means()))
        if events and self._table["state"][row] == State.STABLE:
            declared = 0 <= end_ns - int(self._table["declared"][row]) <= self._drift.settle
            self._start(row, asset, Permit.DECLARED if declared else Permit.NONE)
        return events

    def _rank(self, asset: _Asset, index: int, u: Floats, ranks: Floats) -> float:
        """Against the bundle, or, after a re-estimation, against the quantiles kept of its scores."""
        if asset.reference is None:
            return float(ranks[index])
        return float(rank(asset.reference[index].astype(np.float64), u[index]))

    # ---- collecting

    def _start(self, row: int, asset: _Asset, permit: Permit) -> None:
        """Collect from now on; under a declared change, once it has settled."""
        table = self._table
        self._drop(row, asset)
        table["state"][row], table["permit"][row], table["needed"][row] = State.DRIFT, permit, self._needed
        settled = int(table["declared"][row]) + self._drift.settle
        table["collect_from"][row] = settled if permit == Permit.DECLARED else _NEVER

    def _drop(self, row: int, asset: _Asset) -> None:
        asset.clear()
        self._table["staged"][row], self._table["gap"][row] = 0, True

    def _collect(
        self,
        rows: Rows,
        end_ns: NDArray[np.int64],
        u: Floats,
        usable: Bools,
        anomaly_open: Bools,
        segment: NDArray[np.int64],
    ) -> list[AdaptationEvent]:
        table = self._table
        collecting = table["state"][rows] == State.DRIFT
        if not collecting.any():
            return []
        permitted = (table["permit"][rows] != Permit.NONE) | ~table["stands"][rows]
        take = collecting & usable & permitted & (end_ns >= table["collect_from"][rows])
        table["gap"][rows] |= collecting & ~take
        self._stage(rows[take], end_ns[take], u[take], segment[take])
        return self._hand_over(rows[take], end_ns[take], anomaly_open[take])

    def _stage(self, rows: Rows, end_ns: NDArray[np.int64], u: Floats, segment: NDArray[np.int64]) -> None:
        table = self._table
        at = table["staged"][rows]
        table["staged_u"][rows, at] = u
        table["staged_break"][rows, at] = table["gap"][rows] | (segment != table["segment"][rows])
        table["staged_from"][rows] = np.where(at == 0, end_ns, table["staged_from"][rows])
        table["segment"][rows], table["gap"][rows], table["staged"][rows] = segment, False, at + 1

    def _hand_over(self, rows: Rows, end_ns: NDArray[np.int64], anomaly_open: Bools) -> list[AdaptationEvent]:
        """Full chunks to the collections; a collection that is large enough is judged."""
        table, events = self._table, list[AdaptationEvent]()
        for index in np.flatnonzero(table["staged"][rows] == _CHUNK).tolist():
            row = int(rows[index])
            asset = self._asset(row)
            asset.u.append(table["staged_u"][row].copy())
            asset.breaks.append(table["staged_break"][row].copy())
            asset.start_ns.append(int(table["staged_from"][row]))
            table["staged"][row] = 0
            asset.drop_oldest(len(asset.u) - _KEEP_AT_MOST // _CHUNK)
            waits = anomaly_open[index] and table["permit"][row] == Permit.NONE
            if len(asset.u) * _CHUNK >= table["needed"][row] and not waits:
                events += self._judge(row, asset, int(end_ns[index]))
        return events

    def _collection(self, tau: float) -> int:
        """Windows that a collection needs: `samples`, or enough for nu in the part that sets the limit."""
        nu, samples = self._calibration.nu, self._drift.samples
        least = SCALE_SHARE * smallest_sample(nu)
        share = SCALE_SHARE / (SCALE_SHARE - 1)
        enough = math.ceil(required(nu, tau, self._calibration.enough) * share) + 1
        return min(max(least, enough if samples is None else samples), _KEEP_AT_MOST)

    # ---- re-estimation

    def _judge(self, row: int, asset: _Asset, end_ns: int) -> list[AdaptationEvent]:
        """REFITTING: what the collection says, and what may be done with it."""
        u = np.concatenate(list(asset.u)).astype(np.float64)
        if not stationary(u):
            return self._not_yet(row, asset, "the new scores still move")
        try:
            refitted = self._refit(row, asset, u, end_ns)
        except ThresholdRefused as error:
            return self._not_yet(row, asset, str(error))
        missing = self._missing(row, len(u), refitted)
        if missing:
            self._table["needed"][row] = missing
            return []
        return self._decide(row, asset, refitted)

    def _refit(self, row: int, asset: _Asset, u: Floats, end_ns: int) -> Refit:
        start_ns = asset.start_ns[0]
        return refit(
            u,
            np.concatenate(list(asset.breaks)),
            trained=self._trained,
            current=asset.current.scales,
            how=self._how,
            weight=self._weight,
            nu=self._calibration.nu,
            enough=self._calibration.enough,
            rng=np.random.default_rng([int(self._table["version"][row]), abs(start_ns), abs(end_ns)]),
            start_ns=start_ns,
            end_ns=end_ns,
        )

    def _missing(self, row: int, n: int, refitted: Refit) -> int:
        """A larger size for the collection where its own autocorrelation asks for more; 0 if it will do."""
        if refitted.estimate.enough or self._drift.samples is not None or n >= _KEEP_AT_MOST:
            return 0
        more = max(self._collection(refitted.estimate.tau), int(self._table["needed"][row]) + _CHUNK)
        return min(more, _KEEP_AT_MOST)

    def _not_yet(self, row: int, asset: _Asset, why: str) -> list[AdaptationEvent]:
        """The older half goes, the younger may be the new normal. Of a standing, declared shift we ask."""
        asset.drop_oldest(len(asset.u) // 2)
        table = self._table
        if table["stands"][row] and table["permit"][row] == Permit.DECLARED:
            return self._ask(row, asset, f"after a declared change an ANOMALY stands, and {why}", None)
        return [Refused(row, f"re-estimation: {why}; collecting goes on")]

    def _decide(self, row: int, asset: _Asset, refitted: Refit) -> list[AdaptationEvent]:
        permit = Permit(int(self._table["permit"][row]))
        trigger = {Permit.NONE: "drift", Permit.DECLARED: "declared", Permit.APPROVED: "approved"}[permit]
        by = asset.approved_by if permit == Permit.APPROVED else "rule"
        proposal = self._proposal(row, asset, refitted, trigger, by)
        reason = self._objection(permit, refitted)
        if reason:
            self._table["stale"][row] = self._too_far(proposal.total)
            return self._ask(row, asset, reason, proposal)
        return [self._adopt(row, asset, proposal, trigger, by)]

    def _objection(self, permit: Permit, refitted: Refit) -> str:
        """Why the rule may not set this limit by itself; '' if it may."""
        if permit == Permit.APPROVED:
            return ""
        if self._drift.re_estimate == "approve":
            return "re_estimate is 'approve': every new limit is a person's decision"
        if not refitted.estimate.enough and self._drift.samples is None:
            return f"{refitted.estimate.missing} further scores would be needed, more than are kept"
        for what, factors, most in (
            ("from the trained limit", refitted.total, self._drift.max_total),
            ("of the limit", refitted.step, self._drift.max_step if permit == Permit.NONE else math.inf),
        ):
            worst = int(np.argmax(_distance(factors)))
            if _distance(factors)[worst] > most:
                name = (*self._scorers, "the combined ratio")[worst]
                return f"the step {what} of {name}, a factor of {factors[worst]:.3g}, is beyond {most:g}"
        return ""

    def _too_far(self, total: Sequence[float]) -> Bools:
        """Scorers [S] whose limit, or the combined one, is further from the trained than `max_total`."""
        beyond = _distance(np.asarray(total)) > self._drift.max_total
        return beyond[:-1] | beyond[-1]

    def _proposal(self, row: int, asset: _Asset, refitted: Refit, trigger: str, by: str) -> _Set:
        result = refitted.estimate
        version = ThresholdVersion(
            version=int(self._table["version"][row]) + 1,
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
            old_limit=asset.current.version.new_limit,
            new_limit=result.threshold,
            step=float(refitted.step[-1]),
            approved_by=by,
            scales=self._named(refitted.scales),
        )
        return _Set(version, refitted.scales, tuple(refitted.total.tolist()))

    def _named(self, scales: Scales) -> dict[str, Any]:
        scorers = {
            name: {"median": median, "limit": limit}
            for name, median, limit in zip(self._scorers, scales.median, scales.limit, strict=True)
        }
        return {
            "combined": {"median": scales.final_median, "limit": scales.final_limit},
            "scorers": scorers,
        }

    # ---- outcomes

    def _ask(self, row: int, asset: _Asset, reason: str, proposal: _Set | None) -> list[AdaptationEvent]:
        if proposal is None:
            self._drop(row, asset)
        self._table["state"][row], self._table["permit"][row] = State.AWAITING, Permit.NONE
        asset.proposal = proposal
        return [AwaitingApproval(row, reason, None if proposal is None else proposal.version)]

    def _adopt(self, row: int, asset: _Asset, new: _Set, trigger: str, by: str) -> VersionSet:
        if asset.u:
            asset.reference = _quantiles(np.concatenate(list(asset.u)))
        asset.past.append(asset.current)
        version = msgspec.structs.replace(new.version, trigger=trigger, approved_by=by)
        return self._put_in_force(row, asset, _Set(version, new.scales, new.total))

    def _roll_back(self, row: int, asset: _Asset, command: Command) -> list[AdaptationEvent]:
        if not asset.past:
            return [Refused(row, f"rollback by {command.by}: no earlier version is kept")]
        before = asset.past.pop()
        version = msgspec.structs.replace(
            before.version,
            version=int(self._table["version"][row]) + 1,
            trigger="rollback",
            old_limit=asset.current.version.new_limit,
            step=None,
            approved_by=command.by,
        )
        return [self._put_in_force(row, asset, _Set(version, before.scales, before.total))]

    def _put_in_force(self, row: int, asset: _Asset, new: _Set) -> VersionSet:
        table, scales = self._table, new.scales
        asset.current = new
        table["version"][row] = new.version.version
        table["median"][row], table["limit"][row] = scales.median, scales.limit
        table["final"][row] = scales.final_median, scales.final_limit
        table["stale"][row] = self._too_far(new.total)
        table["over_share"][row], table["open_windows"][row], table["stands"][row] = 0.0, 0, False
        self._settle_down(row, asset)
        return VersionSet(row, new.version)

    def _settle_down(self, row: int, asset: _Asset) -> None:
        """Back to STABLE with fresh detectors and nothing collected."""
        table = self._table
        self._drop(row, asset)
        asset.proposal, asset.approved_by, asset.detectors = None, "", self._fresh_detectors()
        table["state"][row], table["permit"][row], table["thinned"][row] = State.STABLE, Permit.NONE, 0
        table["drifting"][row] = False

    # ---- objects by row

    def _notices(self, rows: Rows) -> list[AdaptationEvent]:
        """Resets found while loading, told at the asset's next window."""
        events = list[AdaptationEvent]()
        for row in sorted(self._noticed.intersection(rows.tolist())) if self._noticed else ():
            asset = self._assets[row]
            events += [DetectorReset(row, scorer, reason) for scorer, reason in asset.notices]
            asset.notices = []
            self._noticed.remove(row)
        return events

    def _asset(self, row: int) -> _Asset:
        if row not in self._assets:
            self._assets[row] = _Asset(self._as_trained(), self._fresh_detectors())
        return self._assets[row]

    def _fresh_detectors(self) -> list[Detector]:
        kind, delta = self._drift.detector, self._drift.delta
        return [Detector(kind, delta, seed) for seed in range(len(self._scorers))]

    def _as_trained(self) -> _Set:
        version = ThresholdVersion(
            version=0,
            nu=self._calibration.nu,
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
            scales=self._named(self._trained),
        )
        return _Set(version, self._trained, (1.0,) * (len(self._scorers) + 1))


def _distance(factors: Floats) -> Floats:
    """How far factors are from 1, either way: 2 and 1/2 alike; a limit at or below the old median: infinitely."""
    with np.errstate(divide="ignore"):
        return np.where(factors > 0.0, np.maximum(factors, 1.0 / factors), np.inf)


def _quantiles(u: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most 512 evenly spaced order statistics of each scorer's scores, ascending: [n, S] -> [S, Q]."""
    kept = np.linspace(0, len(u) - 1, min(len(u), _REFERENCE)).round().astype(np.int64)
    return np.ascontiguousarray(np.sort(u, axis=0)[kept].T)
