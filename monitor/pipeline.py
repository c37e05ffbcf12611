"""One partition from decoded polls to records for the sink: the same for daemon and replay.

Daemon and replay differ only in the source and sink that they are given.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.records import Batch, Lost, OutRecord, Polled, RawRecord
from monitor.alerting.alerts import (
    Answer,
    Facts,
    LostRecords,
    Origin,
    answer_event,
    build_alert,
    cloudevent,
    decision_event,
    recentring_event,
    threshold_event,
)
from monitor.alerting.dead_letters import dead_letter
from monitor.alerting.incidents import (
    EventName,
    Kind,
    Transition,
    loss_cleared,
    loss_raised,
    silence_alerts,
    silence_raised,
)
from monitor.alerting.severity import severity
from monitor.alerting.short_form import shorten
from monitor.event_time.losses import Found
from monitor.event_time.refusals import Refusal
from monitor.facts import Identity, decision_of, facts_of, recentring_of
from monitor.fold import Fold
from monitor.model import Model
from monitor.passes import Acted, Output, Pass
from monitor.recollection import Recollection
from monitor.rows import read_row, write_row
from monitor.settings import Settings
from monitor.standing import Standing, standing_of
from monitor.thresholds.adaptation_events import (
    AdaptationEvent,
    AwaitingApproval,
    Command,
    Recentred,
    Refused,
    VersionSet,
)
from monitor.thresholds.tracking import Gate
from monitor.trace import Trace

MAX_ROWS = 8192
"""Rows that go through the fold in one piece: bounds memory, and by the fold's invariant changes nothing."""


class Outcome(NamedTuple):
    """What one push brought.

    Attributes:
        records: alerts, threshold versions and dead letters, in order per asset.
        traces: every window's figures.
        counts: quantities by bounded name.
        adaptations: what drift and re-estimation did, with the asset's name.
        not_finite: windows whose scores were not finite numbers, by asset.
    """

    records: list[OutRecord]
    traces: list[Trace]
    counts: Counter[str]
    adaptations: list[tuple[str, AdaptationEvent]]
    not_finite: Counter[str]


def empty_outcome() -> Outcome:
    """Nothing has come of anything yet."""
    return Outcome([], [], Counter(), [], Counter())


class Pipeline:
    """The fold of every asset class on one partition.

    Args:
        settings: the configuration.
        models: a loaded bundle by asset class.
        partition: number of the partition.
        identity_of: what judges, by asset class.
        topic: name of the input, for the alerts' origin.
        replay: True when recorded data are replayed; travels beside the data only.
        version: of nuwatch.

    Attributes:
        recollection: what assets that are not known yet had, where the state was lost; None where it was not.
    """

    def __init__(
        self,
        settings: Settings,
        models: Mapping[str, Model],
        partition: int,
        identity_of: Mapping[str, Identity],
        *,
        topic: str,
        replay: bool,
        version: str,
    ) -> None:
        self._source = f"/nuwatch/{settings.site}"
        self._max_event = settings.max_event
        self._identity_of = identity_of
        self._origin = Origin(topic, partition, 0, replay, version)
        self._folds = {
            name: Fold(name, asset_class, models[name])
            for name, asset_class in settings.asset_classes.items()
        }
        self._class_of: dict[str, str] = {}
        self.recollection: Recollection | None = None
        self._dirty: set[str] = set()

    @property
    def rebuilding(self) -> bool:
        """True while the state is rebuilt after it was lost: events say so, beside their data."""
        return self._origin.rebuilt

    @rebuilding.setter
    def rebuilding(self, yes: bool) -> None:
        self._origin = self._origin._replace(rebuilt=yes)

    @property
    def source(self) -> str:
        """The events' CloudEvents source, /nuwatch/<site>."""
        return self._source

    @property
    def origin(self) -> Origin:
        """What the events say of where they come from; without an offset."""
        return self._origin

    @property
    def assets(self) -> dict[str, str]:
        """Asset class by asset, of all assets seen."""
        return dict(self._class_of)

    @property
    def silences(self) -> dict[str, float]:
        """Longest gap that is no silence, in seconds, of all assets seen."""
        limits = {name: fold.settings.time.silence.seconds for name, fold in self._folds.items()}
        return {asset: limits[name] for asset, name in self._class_of.items()}

    @property
    def pending_rows(self) -> int:
        """Accepted rows that wait for their slots to close."""
        return sum(fold.grid.pending_rows for fold in self._folds.values())

    def push(self, polled: Polled, outcome: Outcome | None = None) -> Outcome:
        """Fold in what one poll brought for this partition; adds to ``outcome`` if there is one already."""
        outcome = outcome or empty_outcome()
        outcome.counts.update(dict(polled.counts))
        if polled.lost is not None:
            self._lost(polled.lost, outcome)
        for rejected in polled.rejected:
            outcome.counts[rejected.reason] += 1
            outcome.records.append(
                dead_letter(
                    rejected.record,
                    rejected.reason,
                    rejected.detail,
                    topic=self._origin.topic,
                    version=self._origin.version,
                )
            )
        for batch in polled.batches:
            for piece in _pieces(batch):
                self._push(piece, outcome)
        outcome.records[:] = [shorten(record, self._max_event) for record in outcome.records]
        return outcome

    def tell_silences(self, quiet: Collection[str]) -> list[OutRecord]:
        """RAISED of assets that the daemon has not heard for their silence, once the others have gone on for it.

        Args:
            quiet: the assets not heard for that long.
        """
        records: list[OutRecord] = []
        for fold in self._folds.values():
            rows, last = fold.fallen_silent(quiet)
            for transition in silence_raised(rows, last, fold.settings.time.silence, _silence_rank(fold)):
                self._dirty.add(fold.names[transition.row])
                records.append(self._silence(fold, transition))
        return records

    def command(self, asset: str, command: Command, outcome: Outcome | None = None) -> Outcome:
        """A person's decision about an asset's threshold; one about an asset never seen is counted."""
        outcome = outcome or empty_outcome()
        self._command(asset, command, outcome)
        return outcome

    def answered_command(
        self, asset: str, command: Command, outcome: Outcome, *, name: str, control: int, position: int
    ) -> None:
        """`command` for who waits for an answer.

        Args:
            asset: whose threshold.
            command: the decision.
            outcome: what comes of it is added.
            name: of the command.
            control: its offset in the control topic.
            position: the input offset before which it acts.
        """
        refused = self._command(asset, command, outcome)
        answer = Answer(
            command=name,
            kind="decision",
            outcome="REFUSED" if refused else "APPLIED",
            reason=refused,
            by=command.by,
            action=command.action,
            configuration=None,
            bundles=None,
            control=control,
            partition=self._origin.partition,
            offset=position,
        )
        origin = self._origin._replace(offset=position)
        outcome.records.append(
            answer_event(answer, source=self._source, asset=asset, time_ns=command.at_ns, origin=origin)
        )

    def _command(self, asset: str, command: Command, outcome: Outcome) -> str:
        """Let a decision act; returns why it was not carried out, or ''."""
        name = self._class_of.get(asset)
        if name is None:
            outcome.counts["COMMAND_UNKNOWN_ASSET"] += 1
            return "this asset has not been seen"
        self._dirty.add(asset)
        fold = self._folds[name]
        events = fold.command(asset, command)
        for event in events:
            self._adapted(fold, asset, event, command.at_ns, self._origin, outcome)
        return next((event.why for event in events if isinstance(event, Refused)), "")

    def standing(self) -> list[Standing]:
        """How the assets stand now, by class."""
        return [standing_of(fold) for fold in self._folds.values()]

    def dump(self) -> dict[str, bytes]:
        """State of the assets that changed since the last call, by asset."""
        rows = {asset: self._dump(asset) for asset in sorted(self._dirty)}
        self._dirty.clear()
        return rows

    def handed_over(self) -> dict[str, bytes]:
        """State of all assets, for a pipeline that takes this one's place."""
        return {asset: self._dump(asset) for asset in sorted(self._class_of)}

    def load(self, rows: Mapping[str, bytes], classes: Collection[str] | None = None) -> list[str]:
        """Put back what `dump` gave.

        Args:
            rows: by asset.
            classes: asset classes whose rows are taken; None takes all.

        Returns:
            The assets whose rows were left out.

        Raises:
            ValueError: a row's checksum does not fit, its class is unknown, or its state is of other stages.
            ConfigurationError: a newer version wrote it.
        """
        left_out: list[str] = []
        for asset, raw in rows.items():
            row = read_row(asset, raw)
            if classes is not None and row.asset_class not in classes:
                left_out.append(asset)
                continue
            if row.asset_class not in self._folds:
                raise ValueError(f"state of {asset!r}: asset class {row.asset_class!r} is not configured")
            self._folds[row.asset_class].load(asset, row.state)
            self._class_of[asset] = row.asset_class
        return left_out

    def _dump(self, asset: str) -> bytes:
        name = self._class_of[asset]
        return write_row(name, self._folds[name].dump(asset))

    def _push(self, batch: Batch, outcome: Outcome) -> None:
        fold = self._folds[batch.asset_class]
        for number in np.unique(batch.asset):
            asset = batch.assets[number]
            if self.recollection is not None and asset not in self._class_of:
                first = int(batch.time[batch.asset == number].min())
                bundle = self._identity_of[fold.name].bundle
                recollection = self.recollection
                fold.recall(asset, recollection.versions(asset, bundle), recollection.episodes(asset, first))
            self._class_of[asset] = batch.asset_class
            self._dirty.add(asset)
        output = fold.push(batch)
        outcome.counts.update(output.counts)
        outcome.records.extend(self._refused(fold, refusal) for refusal in output.refused)
        heard = np.array([fold.row(batch.assets[number]) for number in np.unique(batch.asset)], np.int32)
        outcome.records.extend(self._found(fold, found) for found in output.found)
        self._ended_silences(fold, heard, output, outcome)
        for acted in output.passes:
            self._acted(fold, acted, outcome)

    def _acted(self, fold: Fold, acted: Acted, outcome: Outcome) -> None:
        """What came of one pass."""
        done = acted.done
        outcome.counts.update(_counts(done))
        outcome.not_finite.update(fold.names[row] for row in done.not_finite_rows.tolist())
        self._incidents(fold, acted, outcome)
        slots = done.slots
        adapted = [(event, int(done.rated.slot[window])) for event, window in acted.adaptations]
        for event, slot in (*acted.recentred, *adapted):
            origin = self._origin._replace(offset=int(slots.offset[slot]))
            asset = fold.names[int(slots.row[slot])]
            self._adapted(fold, asset, event, int(slots.end[slot]), origin, outcome)
        outcome.traces.append(fold.trace(done))

    def _refused(self, fold: Fold, refusal: Refusal) -> OutRecord:
        record = RawRecord(
            self._origin.partition, refusal.offset, fold.names[refusal.row].encode(), refusal.payload
        )
        return dead_letter(
            record,
            refusal.reason,
            refusal.detail,
            topic=self._origin.topic,
            version=self._origin.version,
            number=zlib.crc32(refusal.payload),
            time_ns=refusal.time,
            rebuilt=True,
        )

    def _lost(self, lost: Lost, outcome: Outcome) -> None:
        """RAISED of every asset that may have had records among those that are gone."""
        for fold in self._folds.values():
            rows, last = fold.lose(lost)
            for row, last_ns in zip(rows.tolist(), last.tolist(), strict=True):
                self._dirty.add(fold.names[row])
                transition = loss_raised(row, last_ns, _silence_rank(fold))
                outcome.records.append(self._loss(fold, transition, lost))

    def _found(self, fold: Fold, found: Found) -> OutRecord:
        transition = loss_cleared(found.row, found.last, found.at, _silence_rank(fold))
        return self._loss(fold, transition, found.lost)

    def _loss(self, fold: Fold, transition: Transition, lost: Lost) -> OutRecord:
        facts = Facts(lost=LostRecords(self._origin.partition, lost.first, lost.end))
        return self._gap(fold, transition, "offsets", facts, self._origin._replace(offset=lost.end))

    def _ended_silences(self, fold: Fold, heard: NDArray[np.int32], output: Output, outcome: Outcome) -> None:
        """RAISED and CLEARED of gaps that end with this batch; what was told early is not told again."""
        told = fold.speak_again(heard)
        if output.silences:
            rows, last, now = (np.array(column, np.int64) for column in zip(*output.silences, strict=True))
            limit = fold.settings.time.silence
            for transition in silence_alerts(rows.astype(np.int32), last, now, limit, _silence_rank(fold)):
                early = told.get(transition.row, (-1, 0))[0] == transition.start_ns
                if early and transition.event is EventName.CLEARED:
                    del told[transition.row]
                if not early or transition.event is EventName.CLEARED:
                    outcome.records.append(self._silence(fold, transition))
        for row, (last_ns, now_ns) in told.items():
            outcome.records.append(self._silence(fold, _filled(fold, row, last_ns, now_ns)))

    def _silence(self, fold: Fold, transition: Transition) -> OutRecord:
        return self._gap(fold, transition, "silence", Facts(), self._origin)

    def _gap(
        self, fold: Fold, transition: Transition, subject: str, facts: Facts, origin: Origin
    ) -> OutRecord:
        asset = fold.names[transition.row]
        alert = build_alert(
            transition, source=self._source, asset=asset, kind=Kind.DATA_GAP, subject=subject, facts=facts
        )
        return cloudevent(
            alert,
            source=self._source,
            asset=asset,
            time_ns=transition.at_ns,
            sequence=transition.sequence,
            origin=origin,
        )

    def _incidents(self, fold: Fold, acted: Acted, outcome: Outcome) -> None:
        identity = self._identity_of[fold.name]
        for happening in acted.happenings:
            transition, track = happening.transition, happening.track
            asset = fold.names[transition.row]
            alert = build_alert(
                transition,
                source=self._source,
                asset=asset,
                kind=track.kind,
                subject=track.subject,
                facts=facts_of(fold, acted.done, happening, identity),
            )
            origin = self._origin._replace(offset=int(acted.done.slots.offset[happening.slot]))
            outcome.records.append(
                cloudevent(
                    alert,
                    source=self._source,
                    asset=asset,
                    time_ns=transition.at_ns,
                    sequence=transition.sequence,
                    origin=origin,
                )
            )

    def _adapted(
        self, fold: Fold, asset: str, event: AdaptationEvent, at_ns: int, origin: Origin, outcome: Outcome
    ) -> None:
        outcome.adaptations.append((asset, event))
        outcome.counts[type(event).__name__] += 1
        if isinstance(event, VersionSet):
            outcome.records.append(
                threshold_event(
                    event.version,
                    source=self._source,
                    asset=asset,
                    bundle=self._identity_of[fold.name].bundle,
                    time_ns=at_ns,
                    origin=origin,
                )
            )
        elif isinstance(event, Recentred):
            outcome.records.append(
                recentring_event(
                    recentring_of(event), source=self._source, asset=asset, time_ns=at_ns, origin=origin
                )
            )
        elif isinstance(event, AwaitingApproval | Refused):
            decision = decision_of(event, int(fold.adaptation.version(np.array([event.row]))[0]))
            outcome.records.append(
                decision_event(decision, source=self._source, asset=asset, time_ns=at_ns, origin=origin)
            )


def _counts(done: Pass) -> dict[str, int]:
    """Quantities of one pass by bounded name."""
    rated = done.rated
    gates = np.bincount(rated.gate[rated.scored], minlength=len(Gate)).tolist()
    return {
        "SLOTS": len(done.slots.row),
        "WINDOWS": int(rated.scored.sum()),
        "OVER_LIMIT": int((rated.ratio > 1.0).sum()),
        **{f"GATE_{gate.name}": gates[gate] for gate in Gate if gates[gate]},
    }


def _filled(fold: Fold, row: int, last_ns: int, now_ns: int) -> Transition:
    """CLEARED of a silence that was told and was none: readings that came later have filled the gap."""
    silence = fold.settings.time.silence
    raised = silence_raised(
        np.array([row], np.int32), np.array([last_ns], np.int64), silence, _silence_rank(fold)
    )[0]
    return raised._replace(event=EventName.CLEARED, at_ns=max(now_ns, raised.at_ns), sequence=2)


def _silence_rank(fold: Fold) -> int:
    return int(severity(fold.settings.alerting.criticality, 1.0, 0.0))


def _pieces(batch: Batch) -> Iterable[Batch]:
    if len(batch.time) <= MAX_ROWS:
        yield batch
        return
    for low in range(0, len(batch.time), MAX_ROWS):
        at = slice(low, low + MAX_ROWS)
        yield batch._replace(
            asset=batch.asset[at],
            time=batch.time[at],
            values=batch.values[at],
            quality=batch.quality[at],
            context=batch.context[at],
            offset=batch.offset[at],
        )
