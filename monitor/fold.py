"""The deterministic fold of one asset class on one partition: ``(state, batch) -> (state, events)``.

    batch -> event-time grid -> sensor checks -> z-scores -> windows -> fixed-shape blocks -> scorers
          -> combine, smooth -> threshold -> incidents -> drift

No wall clock and no random source: what comes out is a function of what went in. Nothing that acts behind the scores
chooses which windows are scored.

Shape letters: N rows of a batch, M closed slots, W windows, S scorers, C sensors, D scored sensors, n assets of one
step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.records import Batch, Context, Lost, Quality
from monitor.alerting.incidents import Episode, Incidents, Kind
from monitor.attribution import Attribution
from monitor.event_time.checks import Fault, SensorChecks, untrusted
from monitor.event_time.grid import Grid, Slots
from monitor.event_time.history import History, Ready
from monitor.event_time.losses import LossWatch
from monitor.event_time.silences import SilenceWatch
from monitor.excursions import Excursions
from monitor.model import Model
from monitor.passes import Acted, Happening, Output, Pass, Rated, empty_rated
from monitor.settings import AssetClass
from monitor.thresholds.adaptation import Adaptation
from monitor.thresholds.adaptation_events import AdaptationEvent, Command, ThresholdVersion
from monitor.thresholds.centre import Centres, CentreWatch
from monitor.thresholds.declared import Declarations
from monitor.thresholds.recentring import TOLD, Recentring, recentred
from monitor.thresholds.reranking import Reranking
from monitor.thresholds.smoothing import Segments, Smoother
from monitor.thresholds.tracking import Gate
from monitor.thresholds.versions import Scale
from monitor.trace import Trace
from monitor.tracks import fault_tracks, shift_tracks, window_tracks


class _Stage(Protocol):
    def grow(self, capacity: int) -> None: ...
    def dump(self, row: int) -> bytes: ...
    def load(self, row: int, data: bytes) -> None: ...


class Fold:
    """State and step of one asset class on one partition.

    Args:
        name: of the asset class.
        asset_class: its settings.
        model: its loaded bundle.
    """

    def __init__(self, name: str, asset_class: AssetClass, model: Model) -> None:
        self.name = name
        self.settings = asset_class
        self.model = model
        self.names: list[str] = []
        self._rows: dict[str, int] = {}
        self.grid = Grid(asset_class)
        self.checks = SensorChecks(asset_class, model.stuck_slots)
        self.history = History(asset_class.window.length, asset_class.window.stride, len(model.columns))
        self.silences = SilenceWatch(asset_class.time.silence)
        self.losses = LossWatch()
        self.segments = Segments()
        self.smoother = Smoother(asset_class.scoring.smoothing, asset_class.window.length)
        self.attribution = Attribution(model.scales.usual, asset_class.scoring.smoothing)
        self.excursions = Excursions(asset_class.window.length, len(model.columns))
        self.adaptation = Adaptation(
            model.program.scorers,
            Scale(
                model.scales.final_median,
                model.scales.final_limit,
                model.scales.tau,
                model.scales.rank_tau,
                model.scales.spread,
                model.nu,
                model.scales.ages,
                model.scales.deciles,
            ),
            asset_class,
        )
        self.declarations = Declarations(asset_class, model.contexts)
        self.centres = CentreWatch(model.centre_limits)
        drift = asset_class.drift.recentring
        windows = drift.epoch / asset_class.window.stride
        self.recentring = Recentring(drift, recentred(asset_class, model.sensors), model.sensors, windows)
        self.faults = Incidents(fault_tracks(asset_class))
        self.shifts = Incidents(shift_tracks(asset_class, model.sensors))
        self.incidents = Incidents(window_tracks(asset_class, model.program.scorers))

    @property
    def _stages(self) -> dict[str, _Stage]:
        return {
            "grid": self.grid,
            "checks": self.checks,
            "history": self.history,
            "silences": self.silences,
            "losses": self.losses,
            "segments": self.segments,
            "smoother": self.smoother,
            "attribution": self.attribution,
            "excursions": self.excursions,
            "declarations": self.declarations,
            "adaptation": self.adaptation,
            "centres": self.centres,
            "recentring": self.recentring,
            "faults": self.faults,
            "shifts": self.shifts,
            "incidents": self.incidents,
        }

    def row(self, asset: str) -> int:
        """Row of an asset, made if it is new."""
        row = self._rows.get(asset)
        if row is None:
            row = self._rows[asset] = len(self.names)
            self.names.append(asset)
            for stage in self._stages.values():
                stage.grow(len(self.names))
        return row

    def dump(self, asset: str) -> bytes:
        """The whole state of one asset."""
        row = self._rows[asset]
        return msgspec.msgpack.encode({name: stage.dump(row) for name, stage in self._stages.items()})

    def load(self, asset: str, data: bytes) -> None:
        """Put back what `dump` gave.

        Raises:
            ValueError: the bytes are of another layout.
        """
        parts = msgspec.msgpack.decode(data, type=dict[str, bytes])
        row = self.row(asset)
        for name, stage in self._stages.items():
            stage.load(row, parts[name])

    def recall(self, asset: str, versions: Sequence[ThresholdVersion], episodes: Iterable[Episode]) -> None:
        """Give an asset whose state was lost what the output topics tell of it.

        Args:
            asset: not seen yet.
            versions: of its limit, by number.
            episodes: its open incidents.
        """
        row = self.row(asset)
        self.adaptation.versions.recall(row, versions)
        for episode in episodes:
            for incidents in (self.faults, self.shifts, self.incidents):
                incidents.recall(row, episode)

    def push(self, batch: Batch) -> Output:
        """Take the rows of a batch in stream order."""
        known = np.array([self.row(asset) for asset in batch.assets], np.int32)
        result = self.grid.push(known[batch.asset], batch)
        counts, passes = Counter(result.counts), list[Acted]()
        number = self.recentring.passes(result.slots.row, result.slots.slot)
        for each in range(int(number.max(initial=0)) + 1):
            at = slice(None) if not number.any() else number == each
            slots = Slots._make(column[at] for column in result.slots)
            passes.append(self._pass(slots, result.contexts, counts))
        found = self.losses.ended(*result.advanced)
        return Output(passes, result.silences, found, result.refused, dict(counts))

    def fallen_silent(self, quiet: Collection[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Of these assets, those [n] that are to be told silent now, and their last times [n]."""
        last, seen = self.grid.last_accepted(len(self.names))
        may = np.array([name in quiet for name in self.names], np.bool_)
        rows = self.silences.overdue(last, seen, may)
        return rows, last[rows]

    def speak_again(self, rows: NDArray[np.int32]) -> dict[int, tuple[int, int]]:
        """Of these assets, those whose silence was told and is over: the last time before it, and the time now."""
        last, _ = self.grid.last_accepted(len(self.names))
        return {row: (told, int(last[row])) for row, told in self.silences.ended(rows, last[rows]).items()}

    def lose(self, lost: Lost) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Records of the partition are gone: the assets [n] that are to be told so now, and their last times [n]."""
        last, seen = self.grid.last_accepted(len(self.names))
        rows = self.losses.tell(last, seen, lost)
        return rows, last[rows]

    def command(self, asset: str, command: Command) -> list[AdaptationEvent]:
        """A person's decision about an asset's threshold."""
        return self.adaptation.command(self.row(asset), command)

    def _pass(self, slots: Slots, contexts: Sequence[Context], counts: Counter[str]) -> Acted:
        """Slots of one epoch per asset: scored, and only then acted on."""
        recentred = self.recentring.begin(slots.row, slots.slot, slots.end)
        done, more = self._score(slots, contexts)
        counts.update(more)
        return Acted(done, *self._act(done), recentred)

    def _score(self, slots: Slots, contexts: Sequence[Context]) -> tuple[Pass, dict[str, int]]:
        """Checks, z-scores, windows and scorers: everything in front of the scores."""
        model = self.model
        faults = self.checks.step(slots).code
        group = model.grouping.of(contexts, slots.context)
        index = model.grouping.index(slots.slot, slots.batch_start, slots.phase_start)
        values = slots.values[:, model.columns]
        usable = np.isfinite(values) & ~untrusted(faults)[:, model.columns] & (group >= 0)[:, None]
        z = np.where(usable, model.trajectory.z(values, group, index), np.float32(0))
        centres = self._told(slots.row, self.centres.step(slots.row, z, usable))
        weight = np.where(usable, slots.real[:, model.columns], np.float32(0))
        ready = self.history.push(slots.row, slots.slot, slots.fresh, z, usable, weight)
        rated, lost, degraded = self._rate(slots, group, ready)
        counts = {"NON_FINITE_SCORE": len(lost), "DEGRADED": degraded}
        done = Pass(slots, faults, centres, z, usable, group, index, rated, contexts, lost)
        return done, {name: count for name, count in counts.items() if count}

    def _told(self, row: NDArray[np.int32], centres: Centres) -> Centres:
        """Sensors that have left their centre: by their CUSUM, or because re-centring has followed them so far."""
        if not self.recentring.on or not len(row):
            return centres
        followed, turned = self.recentring.told(row)
        return Centres(centres.away | followed, centres.turned | turned)

    def _rate(
        self, slots: Slots, group: NDArray[np.int32], ready: Ready
    ) -> tuple[Rated, NDArray[np.int64], int]:
        """Windows as scored, those whose scores are not finite, and how many had more masked than is promised for."""
        model, window = self.model, self.settings.window
        in_batch = slots.batch_start[ready.last] >= 0
        needed = np.where(in_batch, model.scales.maturity[0], window.length)
        known = (ready.maturity >= needed) & (group[ready.last] >= 0)
        chosen = np.flatnonzero(known & (ready.coverage >= window.min_coverage))
        centre = self.recentring.offsets(slots.row[ready.last])
        around = ready.values[chosen]
        if self.recentring.on:
            around = np.where(ready.mask[chosen], around - centre[chosen][:, None, :], around)
        scored = model.score(around, ready.mask[chosen])
        finite = np.isfinite(scored.score).all(axis=1)
        kept = chosen[finite]
        rated = empty_rated(len(ready.last), len(model.program.scorers), len(model.columns))
        rated.slot[:], rated.coverage[:], rated.known[:] = ready.last, ready.coverage, known
        rated.maturity[:] = ready.maturity
        rated.scored[kept] = True
        rated.score[kept] = scored.score[finite]
        for name in ("contributions", "expected", "low", "high", "sigma"):
            getattr(rated, name)[kept] = getattr(scored, name)[finite]
        if self.recentring.on:
            rated.centre[:] = centre
            for band in (rated.expected, rated.low, rated.high):
                band[kept] += centre[kept]
        value, rated.masked[kept] = ready.values[kept, -1], ~ready.mask[kept, -1]
        away = (value - rated.expected[kept]).astype(np.float64) / rated.sigma[kept]
        rated.away[kept] = np.where(rated.masked[kept], 0.0, away)
        rated.outside[kept] = ~rated.masked[kept] & ((value < rated.low[kept]) | (value > rated.high[kept]))
        on_scale = model.scales.on_scale(scored.score[finite], ready.maturity[kept])
        effect = model.scales.masks.effect(ready.mask[kept], ready.maturity[kept])
        rated.on_scale[kept] = (on_scale - effect.shift) / effect.stretch
        if model.scales.reranking is not None:
            self._rerank(rated, kept, model.scales.reranking)
        rated.mask_shift[kept], rated.mask_stretch[kept] = effect.shift, effect.stretch
        rated.rank[kept] = model.scales.ranks(rated.on_scale[kept])
        return rated, chosen[~finite], int(np.count_nonzero(effect.degraded))

    def _rerank(self, rated: Rated, kept: NDArray[np.int64], reranking: Reranking) -> None:
        """Weigh what each sensor adds, in the ratios and in what the alert says of sensors."""
        factor = reranking.factor(rated.on_scale[kept], rated.contributions[kept])
        rated.verdict_factor[kept] = factor
        rated.on_scale[kept] *= factor
        rated.contributions[kept] *= reranking.weights.astype(np.float32)

    def _act(self, done: Pass) -> tuple[list[Happening], list[tuple[AdaptationEvent, int]]]:
        """Everything behind the scores, per asset in order of time; assets side by side in each step."""
        happenings: list[Happening] = []
        adaptations: list[tuple[AdaptationEvent, int]] = []
        segment = self.segments.step(done.slots.row, done.slots.slot, done.slots.fresh)
        window_of = np.full(len(done.slots.row), -1, np.int64)
        window_of[done.rated.slot] = np.arange(len(done.rated.slot))
        declared = self.declarations.step(done.slots, done.contexts, window_of >= 0)
        faulty, off_centre = self._faulty(done), _off_centre(done)
        for at in self._steps(done, window_of, faulty):
            if faulty.any():
                happenings += self._fault_step(done, at[faulty[done.slots.row[at]]])
            away = at[off_centre[at]]
            if len(away):
                happenings += self._shift_step(done, away)
            ended = at[window_of[at] >= 0]
            if len(ended):
                windows = window_of[ended]
                happenings += self._window_step(done, ended, windows, segment[ended])
                adaptations += self._adapt(done, ended, windows, declared[ended], segment[ended])
        return happenings, adaptations

    def _faulty(self, done: Pass) -> NDArray[np.bool_]:
        """Assets [A] with a sensor fault in this pass, or with an incident of one pending or open."""
        faulty = np.zeros(len(self.names), np.bool_)
        faulty[done.slots.row[(done.faults != Fault.NONE).any(axis=1)]] = True
        seen = np.unique(done.slots.row)
        faulty[seen] |= np.array([self.faults.busy(int(row)) for row in seen], np.bool_)
        return faulty

    def _steps(
        self, done: Pass, window_of: NDArray[np.int64], faulty: NDArray[np.bool_]
    ) -> Iterator[NDArray[np.int64]]:
        """Slots [n] of distinct assets, step by step in time; quiet slots that end no window are passed over."""
        row = done.slots.row
        wanted = np.flatnonzero((window_of >= 0) | faulty[row] | _off_centre(done))
        if not len(wanted):
            return
        rows = row[wanted]
        first = np.concatenate([[True], rows[1:] != rows[:-1]])
        start = np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))
        step = np.arange(len(rows)) - start
        order = np.argsort(step, kind="stable")
        ends = np.cumsum(np.bincount(step))
        for low, high in zip(np.concatenate([[0], ends[:-1]]), ends, strict=True):
            yield wanted[order[low:high]]

    def _fault_step(self, done: Pass, at: NDArray[np.int64]) -> list[Happening]:
        slots = done.slots
        over = done.faults[at] != Fault.NONE
        known = over | (slots.quality[at] != Quality.ABSENT)
        no_ratio = np.full(over.shape, np.nan)
        moved = self.faults.step(slots.row[at], slots.end[at], over, ~over, known, no_ratio)
        return [Happening(t, self.faults.tracks[t.track], int(at[t.position]), -1) for t in moved]

    def _shift_step(self, done: Pass, at: NDArray[np.int64]) -> list[Happening]:
        """Sensors that leave their centre or come back to it: a DRIFT of theirs has no delays.

        None is raised while an ANOMALY is open: a fault moves many sensors, and who moved first is told by it. A
        sensor that is away when the ANOMALY has cleared is told then. But how far a centre has followed its sensor is
        no guess: that is told at once.
        """
        slots, away = done.slots, done.centres.away[at]
        no_ratio = np.full(away.shape, np.nan)
        followed = np.abs(self.recentring.offsets(slots.row[at])) > TOLD
        known = followed | ~(away & self.incidents.open_any(slots.row[at], Kind.ANOMALY)[:, None])
        moved = self.shifts.step(slots.row[at], slots.end[at], away, ~away, known, no_ratio)
        return [Happening(t, self.shifts.tracks[t.track], int(at[t.position]), -1) for t in moved]

    def _window_step(
        self, done: Pass, at: NDArray[np.int64], windows: NDArray[np.int64], segment: NDArray[np.int64]
    ) -> list[Happening]:
        slots, rated = done.slots, done.rated
        rows = slots.row[at]
        self._apply_thresholds(rated, windows, rows, slots.end[at], slots.slot[at], segment)
        over, under, known, ratio = self._conditions(rated, windows, rows)
        moved = self.incidents.step(rows, slots.end[at], over, under, known, ratio)
        return [
            Happening(t, self.incidents.tracks[t.track], int(at[t.position]), int(windows[t.position]))
            for t in moved
        ]

    def _apply_thresholds(
        self,
        rated: Rated,
        windows: NDArray[np.int64],
        rows: NDArray[np.int32],
        end: NDArray[np.int64],
        slot: NDArray[np.int64],
        segment: NDArray[np.int64],
    ) -> None:
        adaptation = self.adaptation
        rated.version[windows] = adaptation.version(rows)
        rated.scorer_limit[windows], rated.final_limit[windows] = adaptation.limits(rows)
        rated.drift[windows] = adaptation.states(rows)
        yes = rated.scored[windows]
        if not yes.any():
            return
        scored, its = windows[yes], rows[yes]
        ratios = adaptation.scorer_ratios(its, rated.on_scale[scored])
        combined = adaptation.combine(ratios)
        smooth = self.smoother.step(its, slot[yes], segment[yes], combined)
        age = self.smoother.ages(its)
        rated.share[scored] = self.attribution.step(
            its, age == 1, rated.contributions[scored], ratios, combined, rated.away[scored]
        )
        rated.left[scored] = self.excursions.step(
            its,
            end[yes],
            slot[yes],
            segment[yes],
            rated.outside[scored],
            rated.masked[scored],
            self.incidents.open_any(its, Kind.ANOMALY),
        )
        rated.scorer_ratio[scored] = ratios
        steady = self.model.scales.ages.steady(smooth, age)
        rated.ratio[scored] = adaptation.final_ratio(its, steady)

    def _conditions(
        self, rated: Rated, windows: NDArray[np.int64], rows: NDArray[np.int32]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]]:
        """Over, under, known and ratio [n, K] of the window tracks: ANOMALY, coverage, DRIFT, MODEL_STALE."""
        n, scorers = len(rows), len(self.model.program.scorers)
        shape = (n, len(self.incidents.tracks))
        over, known = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        measure = np.full(shape, np.nan)
        scored, ratio = rated.scored[windows], rated.ratio[windows]
        over[:, 0], known[:, 0], measure[:, 0] = ratio > 1.0, scored, ratio
        over[:, 1] = rated.coverage[windows] < self.settings.window.min_coverage
        known[:, 1] = rated.known[windows]
        over[:, 2 : 2 + scorers], known[:, 2 : 2 + scorers] = self.adaptation.drifting(rows), scored[:, None]
        over[:, 2 + scorers :], known[:, 2 + scorers :] = self.adaptation.stale(rows), scored[:, None]
        under = ~over
        under[:, 0] = ratio < 1.0 - self.settings.alerting.deadband
        return over & known, under & known, known, measure

    def _adapt(
        self,
        done: Pass,
        at: NDArray[np.int64],
        windows: NDArray[np.int64],
        declared: NDArray[np.bool_],
        segment: NDArray[np.int64],
    ) -> list[tuple[AdaptationEvent, int]]:
        rows, rated = done.slots.row[at], done.rated
        events = self.adaptation.observe(
            rows,
            done.slots.end[at],
            rated.on_scale[windows],
            rated.rank[windows],
            rated.scored[windows],
            self.incidents.open_any(rows, Kind.ANOMALY),
            self.faults.open_any(rows, Kind.SENSOR_FAULT),
            declared,
            rated.ratio[windows],
            segment,
        )
        self._learn(done, at, rated.scored[windows])
        rated.recent[windows] = self.adaptation.recent(rows)
        rated.gate[windows] = np.where(rated.scored[windows], self.adaptation.gates(rows), Gate.OFF)
        return [(event, int(windows[np.flatnonzero(rows == event.row)[0]])) for event in events]

    def _learn(self, done: Pass, at: NDArray[np.int64], scored: NDArray[np.bool_]) -> None:
        """Windows that the gate lets pass tell where their sensors are."""
        if self.recentring.on:
            of = at[scored & self.adaptation.teaches(done.slots.row[at])]
            self.recentring.learn(done.slots.row[of], done.z[of], done.usable[of])

    def trace(self, done: Pass) -> Trace:
        """The windows of a pass in engineering units."""
        slots, rated, model = done.slots, done.rated, self.model
        at = rated.slot
        group, index = done.group[at], done.age[at]
        trained = np.maximum(group, 0)
        observed = slots.values[at][:, model.columns]
        masked = untrusted(done.faults[at])[:, model.columns]
        return Trace(
            asset_class=self.name,
            sensors=model.sensors,
            scorers=model.program.scorers,
            assets=tuple(self.names),
            asset=slots.row[at],
            end=slots.end[at],
            scored=rated.scored,
            coverage=rated.coverage,
            ratio=rated.ratio,
            scorer_ratio=rated.scorer_ratio,
            score=rated.score,
            observed=np.where(masked, np.nan, observed),
            expected=model.trajectory.inverse(rated.expected, trained, index),
            low=model.trajectory.inverse(rated.low, trained, index),
            high=model.trajectory.inverse(rated.high, trained, index),
            sigma=model.trajectory.at(trained, index)[1] * rated.sigma,
            contributions=rated.share.astype(np.float32),
            version=rated.version,
            limit=rated.final_limit,
            gate=rated.gate,
            centre=(model.trajectory.at(trained, index)[1] * rated.centre),
            contexts=done.contexts,
            context=slots.context[at],
        )


def _off_centre(done: Pass) -> NDArray[np.bool_]:
    """Slots [M] at which a sensor is away from its centre, or has just come back to it."""
    return done.centres.turned | done.centres.away.any(axis=1)
