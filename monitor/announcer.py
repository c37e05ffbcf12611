"""What the folds of a partition have found, as records for the sink: alerts, versions, decisions, dead letters.

A record names what it is about, where in the input it was found, and what judged. It has no state of its own: the same
finding makes the same record, so that a repetition of the fold repeats the ids.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from connectors.records import Lost, OutRecord, RawRecord, Rejected
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
from monitor.event_time.losses import Found
from monitor.event_time.refusals import Refusal
from monitor.facts import Identity, decision_of, facts_of, recentring_of
from monitor.fold import Fold
from monitor.passes import Acted
from monitor.thresholds.adaptation_events import (
    AdaptationEvent,
    AwaitingApproval,
    Command,
    Recentred,
    Refused,
    VersionSet,
)


class Announcer:
    """Makes the records of one partition.

    Args:
        source: the events' CloudEvents source, /nuwatch/<site>.
        origin: where they come from; without an offset.
        identity_of: what judges, by asset class.

    Attributes:
        source: likewise.
        origin: likewise; says whether the state is being rebuilt.
    """

    def __init__(self, source: str, origin: Origin, identity_of: Mapping[str, Identity]) -> None:
        self.source = source
        self.origin = origin
        self._identity_of = identity_of

    # -- records that are no readings -----------------------------------------------------------------------

    def rejected(self, rejected: Rejected) -> OutRecord:
        """The dead letter of a record that no codec could read."""
        return dead_letter(
            rejected.record,
            rejected.reason,
            rejected.detail,
            topic=self.origin.topic,
            version=self.origin.version,
        )

    def refused(self, fold: Fold, refusal: Refusal) -> OutRecord:
        """The dead letter of a reading that event time left no place for."""
        asset = fold.names[refusal.row].encode()
        return dead_letter(
            RawRecord(self.origin.partition, refusal.offset, asset, refusal.payload),
            refusal.reason,
            refusal.detail,
            topic=self.origin.topic,
            version=self.origin.version,
            number=zlib.crc32(refusal.payload),
            time_ns=refusal.time,
            rebuilt=True,
        )

    # -- gaps -----------------------------------------------------------------------------------------------

    def silent(self, fold: Fold, rows: NDArray[np.int32], last: NDArray[np.int64]) -> list[OutRecord]:
        """RAISED of assets [n] that are silent since their last times [n]."""
        raised = silence_raised(rows, last, fold.settings.time.silence, _rank(fold))
        return [self._silence(fold, transition) for transition in raised]

    def heard_again(
        self, fold: Fold, told: Mapping[int, tuple[int, int]], silences: Sequence[tuple[int, int, int]]
    ) -> Iterator[OutRecord]:
        """RAISED and CLEARED of silences that are over; what was told early is not told again.

        Args:
            fold: of the assets.
            told: by row, of those that were told early: the last time before the silence, and the time now.
            silences: row, last time before and time now of every gap that was longer than may be.
        """
        early = dict(told)
        if silences:
            rows, last, now = (np.array(column, np.int64) for column in zip(*silences, strict=True))
            limit = fold.settings.time.silence
            for transition in silence_alerts(rows.astype(np.int32), last, now, limit, _rank(fold)):
                known = early.get(transition.row, (-1, 0))[0] == transition.start_ns
                if known and transition.event is EventName.CLEARED:
                    del early[transition.row]
                if not known or transition.event is EventName.CLEARED:
                    yield self._silence(fold, transition)
        for row, (last_ns, now_ns) in early.items():
            yield self._silence(fold, _filled(fold, row, last_ns, now_ns))

    def lost(
        self, fold: Fold, rows: NDArray[np.int32], last: NDArray[np.int64], lost: Lost
    ) -> list[OutRecord]:
        """RAISED of assets [n], last heard at [n], that may have had records among those that are gone."""
        return [
            self._loss(fold, loss_raised(row, last_ns, _rank(fold)), lost)
            for row, last_ns in zip(rows.tolist(), last.tolist(), strict=True)
        ]

    def found(self, fold: Fold, found: Found) -> OutRecord:
        """CLEARED of an asset that is heard behind records that are gone."""
        transition = loss_cleared(found.row, found.last, found.at, _rank(fold))
        return self._loss(fold, transition, found.lost)

    def _loss(self, fold: Fold, transition: Transition, lost: Lost) -> OutRecord:
        facts = Facts(lost=LostRecords(self.origin.partition, lost.first, lost.end))
        return self._gap(fold, transition, "offsets", facts, self.origin._replace(offset=lost.end))

    def _silence(self, fold: Fold, transition: Transition) -> OutRecord:
        return self._gap(fold, transition, "silence", Facts(), self.origin)

    def _gap(
        self, fold: Fold, transition: Transition, subject: str, facts: Facts, origin: Origin
    ) -> OutRecord:
        return self._alert(fold, transition, Kind.DATA_GAP, subject, facts, origin)

    # -- incidents and limits -------------------------------------------------------------------------------

    def incidents(self, fold: Fold, acted: Acted) -> Iterable[OutRecord]:
        """What changed of incidents in one pass."""
        identity = self._identity_of[fold.name]
        for happening in acted.happenings:
            track, facts = happening.track, facts_of(fold, acted.done, happening, identity)
            origin = self.origin._replace(offset=int(acted.done.slots.offset[happening.slot]))
            yield self._alert(fold, happening.transition, track.kind, track.subject, facts, origin)

    def _alert(
        self, fold: Fold, transition: Transition, kind: Kind, subject: str, facts: Facts, origin: Origin
    ) -> OutRecord:
        asset = fold.names[transition.row]
        alert = build_alert(
            transition, source=self.source, asset=asset, kind=kind, subject=subject, facts=facts
        )
        return cloudevent(
            alert,
            source=self.source,
            asset=asset,
            time_ns=transition.at_ns,
            sequence=transition.sequence,
            origin=origin,
        )

    def adapted(
        self, fold: Fold, asset: str, event: AdaptationEvent, at_ns: int, origin: Origin
    ) -> OutRecord | None:
        """What drift, re-estimation or a decision did to an asset's limit or centres; None where nobody is told."""
        source, identity = self.source, self._identity_of[fold.name]
        if isinstance(event, VersionSet):
            return threshold_event(
                event.version,
                source=source,
                asset=asset,
                bundle=identity.bundle,
                time_ns=at_ns,
                origin=origin,
            )
        if isinstance(event, Recentred):
            return recentring_event(
                recentring_of(event), source=source, asset=asset, time_ns=at_ns, origin=origin
            )
        if isinstance(event, AwaitingApproval | Refused):
            decision = decision_of(event, int(fold.adaptation.version(np.array([event.row]))[0]))
            return decision_event(decision, source=source, asset=asset, time_ns=at_ns, origin=origin)
        return None

    def answer(
        self, asset: str, command: Command, refused: str, *, name: str, control: int, position: int
    ) -> OutRecord:
        """To who commanded a decision by the control topic.

        Args:
            asset: whose limit it is about.
            command: the decision.
            refused: why it was not carried out, or ''.
            name: of the command.
            control: its offset in the control topic.
            position: the input offset before which it acts.
        """
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
            partition=self.origin.partition,
            offset=position,
        )
        origin = self.origin._replace(offset=position)
        return answer_event(answer, source=self.source, asset=asset, time_ns=command.at_ns, origin=origin)


def _filled(fold: Fold, row: int, last_ns: int, now_ns: int) -> Transition:
    """CLEARED of a silence that was told and was none: readings that came later have filled the gap."""
    silence = fold.settings.time.silence
    raised = silence_raised(np.array([row], np.int32), np.array([last_ns], np.int64), silence, _rank(fold))[0]
    return raised._replace(event=EventName.CLEARED, at_ns=max(now_ns, raised.at_ns), sequence=2)


def _rank(fold: Fold) -> int:
    return int(severity(fold.settings.alerting.criticality, 1.0, 0.0))
