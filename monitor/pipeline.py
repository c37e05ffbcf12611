"""One partition from decoded polls to records for the sink: the same for daemon and replay.

Daemon and replay differ only in the source and sink that they are given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from connectors.records import Batch, Lost, OutRecord, Polled
from monitor.alerting.alerts import Origin
from monitor.alerting.short_form import shorten
from monitor.announcer import Announcer
from monitor.facts import Identity
from monitor.fold import Fold
from monitor.model import Model
from monitor.passes import Acted, Pass
from monitor.recollection import Recollection
from monitor.rows import read_row, write_row
from monitor.settings import Settings
from monitor.standing import Standing, standing_of
from monitor.thresholds.adaptation_events import AdaptationEvent, Command, Refused
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
        origin = Origin(topic, partition, 0, replay, version)
        self._announcer = Announcer(f"/nuwatch/{settings.site}", origin, identity_of)
        self._max_event = settings.max_event
        self._identity_of = identity_of
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
        return self._announcer.origin.rebuilt

    @rebuilding.setter
    def rebuilding(self, yes: bool) -> None:
        self._announcer.origin = self.origin._replace(rebuilt=yes)

    @property
    def source(self) -> str:
        """The events' CloudEvents source, /nuwatch/<site>."""
        return self._announcer.source

    @property
    def origin(self) -> Origin:
        """What the events say of where they come from; without an offset."""
        return self._announcer.origin

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
            outcome.records.append(self._announcer.rejected(rejected))
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
            self._dirty.update(fold.names[row] for row in rows.tolist())
            records += self._announcer.silent(fold, rows, last)
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
        answer = self._announcer.answer(
            asset, command, refused, name=name, control=control, position=position
        )
        outcome.records.append(answer)

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
            self._adapted(fold, asset, event, command.at_ns, self.origin, outcome)
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
        outcome.records.extend(self._announcer.refused(fold, refusal) for refusal in output.refused)
        heard = np.array([fold.row(batch.assets[number]) for number in np.unique(batch.asset)], np.int32)
        outcome.records.extend(self._announcer.found(fold, found) for found in output.found)
        told = fold.speak_again(heard)
        outcome.records.extend(self._announcer.heard_again(fold, told, output.silences))
        for acted in output.passes:
            self._acted(fold, acted, outcome)

    def _acted(self, fold: Fold, acted: Acted, outcome: Outcome) -> None:
        """What came of one pass."""
        done = acted.done
        outcome.counts.update(_counts(done))
        outcome.not_finite.update(fold.names[row] for row in done.not_finite_rows.tolist())
        outcome.records.extend(self._announcer.incidents(fold, acted))
        slots = done.slots
        adapted = [(event, int(done.rated.slot[window])) for event, window in acted.adaptations]
        for event, slot in (*acted.recentred, *adapted):
            origin = self.origin._replace(offset=int(slots.offset[slot]))
            asset = fold.names[int(slots.row[slot])]
            self._adapted(fold, asset, event, int(slots.end[slot]), origin, outcome)
        outcome.traces.append(fold.trace(done))

    def _lost(self, lost: Lost, outcome: Outcome) -> None:
        """RAISED of every asset that may have had records among those that are gone."""
        for fold in self._folds.values():
            rows, last = fold.lose(lost)
            self._dirty.update(fold.names[row] for row in rows.tolist())
            outcome.records.extend(self._announcer.lost(fold, rows, last, lost))

    def _adapted(
        self, fold: Fold, asset: str, event: AdaptationEvent, at_ns: int, origin: Origin, outcome: Outcome
    ) -> None:
        outcome.adaptations.append((asset, event))
        outcome.counts[type(event).__name__] += 1
        record = self._announcer.adapted(fold, asset, event, at_ns, origin)
        if record is not None:
            outcome.records.append(record)


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
