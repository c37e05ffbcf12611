"""Source, pipelines and checkpoint put together: the one loop that daemon and replay both run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from connectors.errors import SinkError
from connectors.ports import Rewind, Source, Start
from connectors.records import Channel, Lost, OutRecord, Polled, Queue, first_position
from monitor.activity import Activity, Stage
from monitor.alerting.short_form import size_of
from monitor.checkpoint import Checkpoint, Damaged, Heard, Marker, Restored
from monitor.commands import (
    Acting,
    Commands,
    Control,
    NoCommands,
    NoControl,
    Piece,
    entry_of,
    newest_change,
    offset_of,
)
from monitor.errors import ConfigurationError, StateError
from monitor.generation import Change, Generation, applied
from monitor.owners import Owners
from monitor.pipeline import Outcome, Pipeline, empty_outcome
from monitor.recollection import Recollection
from monitor.resumption import made_anew, remembered, resumed_at
from monitor.succession import Succession, kept


class Step(NamedTuple):
    """What one partition brought in one step."""

    polled: Polled
    outcome: Outcome


class Outbox(NamedTuple):
    """What the sink has been handed and not yet acknowledged by a snapshot."""

    events: int
    size: int

    def with_records(self, records: Sequence[OutRecord]) -> Outbox:
        """These records on top; ``size`` is in bytes."""
        return Outbox(self.events + len(records), self.size + sum(map(size_of, records)))


EMPTY = Outbox(0, 0)


class Engine:
    """Polls the source, folds, publishes, and makes durable.

    Args:
        source: where readings come from.
        checkpoint: state and sink.
        pipeline_of: makes the empty pipeline of a partition.
        bundles: bundle id by asset class; state of another bundle cannot be continued.
        commands: what enters from the side, by partition and position.
        warm_up_ns: how far a partition goes back whose state was lost, in ns; see `monitor.warm_up`.
        activity: is told what the loop is at.
        control: follows the control topic.

    Attributes:
        repeatable: whether a snapshot that failed may be tried again, with nothing of what was published lost.
        trouble: why the last snapshot made nothing durable although it did not fail, or None.
    """

    repeatable = True

    def __init__(
        self,
        source: Source,
        checkpoint: Checkpoint,
        pipeline_of: Callable[[int], Pipeline],
        bundles: Mapping[str, str],
        commands: Commands | None = None,
        warm_up_ns: int = 0,
        activity: Activity | None = None,
        control: Control | None = None,
    ) -> None:
        self._source = source
        self._checkpoint = checkpoint
        self._succession = Succession(Generation(Change("", "", dict(bundles)), pipeline_of))
        self._commands = commands or NoCommands()
        self._control: Control = control or NoControl()
        self._warm_up_ns = warm_up_ns
        self._activity = activity or Activity()
        self._recollection: Recollection | None = None  # while an `open` rebuilds
        self._replaced: list[Polled] = []  # what a restore found lost, for the next step
        self._outbox = EMPTY
        self._owners = Owners()
        # By partition:
        self._positions: dict[int, int] = {}  # what is folded
        self._durable: dict[int, int] = {}  # what the last commit says; -1: of another input
        self._undurable: dict[int, dict[str, bytes | None]] = {}  # rows that the next commit needs
        self._unbegun: dict[int, int] = {}  # where it began, as long as that could not be made durable
        self._unmarked: set[int] = set()  # whose marker is not yet that of what is in force
        self._heard: dict[int, Heard | None] = {}  # how far the control topic was followed, as last committed
        self._forgotten: dict[int, int] = {}  # see `Marker`
        self._rebuilt_to: dict[int, int] = {}  # see `Marker`
        self._repeats_to: dict[int, int] = {}  # a life before may have published what comes before this
        self.pipelines: dict[int, Pipeline] = {}
        self.trouble: str | None = None
        self.discarded: list[int] = []
        self.damaged: dict[int, Damaged] = {}

    def in_force(
        self,
        change: Change,
        generations: Callable[[Change], Generation] | None = None,
        stands: Callable[[Change], bool] = lambda _: True,
    ) -> None:
        """Say what the engine was made with, before it is opened: it goes into the journals, and markers name it.

        Args:
            change: the configuration that the pipelines are made of.
            generations: makes those that a journal names: one that is replayed, or that of a partition which goes on
                under a command of the control topic. None: no journal is asked.
            stands: whether such a command can stay in force under the present file.
        """
        self._succession.mine = self._succession.mine._replace(change=change)
        self._succession.asks_journals(generations, stands)

    @property
    def change(self) -> Change:
        """What a partition without a history begins with; '' for its configuration where it was never said."""
        return self._succession.mine.change

    def adopt(self, generation: Generation) -> dict[int, int]:
        """Go on with another configuration from where every partition is; returns these positions.

        Everything before is made durable, the change is journalled, and only then it acts: from one place in the
        stream on, for all assets of a partition. A partition that still repeats what a life before may have published
        follows with a later snapshot.

        Raises:
            ConfigurationError: the state does not fit it; nothing has changed.
            SinkError: something published before is not acknowledged; nothing has changed.
            StateError: the state cannot be written. What is not journalled has not changed.
        """
        for partition in self._lagging(generation):
            self._carried(partition, generation)
        self._snapshot()
        places = self._follow(generation)
        self._succession.mine = generation
        return places

    def _follow(self, generation: Generation) -> dict[int, int]:
        """Put a generation into force where it is not and may be; everything before is durable."""
        places: dict[int, int] = {}
        for partition in self._lagging(generation):
            pipeline, dropped = self._carried(partition, generation)
            position = places[partition] = self._place(partition)
            self._journal(partition, position, generation.change)
            self._put_in_force(partition, generation, pipeline)
            self._undurable[partition] = {**pipeline.handed_over(), **dict.fromkeys(dropped)}
            self._positions[partition] = position
            self._unmarked.add(partition)
            self._publish(applied(generation.change, pipeline, position))
        self._commit(places)
        return places

    def _lagging(self, generation: Generation) -> list[int]:
        """Partitions that do not stand under a generation, and have repeated what there was to repeat."""
        held = sorted(self.pipelines.keys() | self._durable.keys())
        return [
            p
            for p in held
            if self._succession.at(p).change != generation.change
            and self._place(p) >= self._repeats_to.get(p, 0)
        ]

    def _place(self, partition: int) -> int:
        return self._positions.get(partition, max(0, self._durable.get(partition, 0)))

    def _put_in_force(self, partition: int, generation: Generation, pipeline: Pipeline) -> None:
        pipeline.recollection = self._pipeline(partition).recollection
        self.pipelines[partition] = pipeline
        self._succession.put(partition, generation)

    def _carried(self, partition: int, generation: Generation) -> tuple[Pipeline, list[str]]:
        """A pipeline of the new generation with the state of classes whose bundle stays; and whose state ends."""
        old, new = self._pipeline(partition), generation.pipeline_of(partition)
        new.rebuilding = old.rebuilding
        try:
            return new, new.load(old.handed_over(), kept(self._succession.at(partition), generation))
        except (ValueError, KeyError) as error:
            raise ConfigurationError(
                f"partition {partition}: the state does not fit the new configuration: {error}"
            ) from error

    def _journal(self, partition: int, position: int, change: Change) -> None:
        self._checkpoint.journal(partition, [entry_of(position, change)])

    @property
    def standing_under(self) -> dict[int, Change]:
        """What is in force, by partition that is held."""
        held = sorted(self.pipelines.keys() | self._durable.keys())
        return {partition: self._succession.at(partition).change for partition in held}

    @property
    def exhausted(self) -> bool:
        """True when nothing will ever come again."""
        return self._source.exhausted

    @property
    def queues(self) -> tuple[Queue, ...]:
        """What waits between the outside and the next step."""
        return (*self._source.queues, *self._control.queues)

    @property
    def outbox(self) -> Outbox:
        """What was handed to the sink since the last snapshot; the caller bounds it."""
        return self._outbox

    @property
    def source(self) -> Source:
        """Where readings come from: for a look at its lag and troubles, and for pausing it."""
        return self._source

    @property
    def lag(self) -> int | None:
        """Records that wait at the source, or None where that is unknown."""
        return self._source.lag

    def open(self, start: Start) -> None:
        """Restore every partition and position the source.

        Raises:
            StateError: stored state is damaged.
            ConfigurationError: the state is of another input, or of other partitions of it.
            SourceError: the outside cannot be reached or refuses.
        """
        self._source.open(self._restore, start)
        self._recollection = None

    def step(self, timeout: float) -> Sequence[Step]:
        """Poll once, fold, and hand the events to the sink.

        Raises:
            ConfigurationError: the records of an asset came in two partitions.
        """
        steps: list[Step] = []
        replaced, self._replaced = self._replaced, []
        self._activity.enter(Stage.POLL)
        brought = replaced or self._source.poll(timeout)
        self._activity.enter(Stage.FOLD)
        for polled in brought:
            self._owners.check(polled)
            self._begin(polled)
            assets = self._pipeline(polled.partition).assets
            begun = polled.partition not in self._unbegun and not self._repeats(polled)
            pieces = self._commands.pieces(polled, assets, begun=begun)
            steps += [self._fold(self._pipeline(polled.partition), piece) for piece in pieces]
        if answers := self._control.answers():
            self._publish(answers)
        return steps

    def snapshot(self) -> None:
        """Make everything so far durable, then tell the source. After an error it may be called again.

        Raises:
            SinkError: something published was not acknowledged.
            StateError: the state cannot be written.
        """
        self._snapshot()
        self._follow(self._succession.mine)

    def _snapshot(self) -> None:
        self._activity.enter(Stage.COMMIT)
        moved = self._commit(self._positions.keys() | self._durable.keys())
        self._outbox = EMPTY
        if moved:
            self._source.commit(moved)

    def _commit(self, partitions: Iterable[int]) -> dict[int, int]:
        """Make those durable of these that moved; returns their positions."""
        at = {p: self._positions.get(p, self._durable.get(p, -1)) for p in partitions}
        moved = {p: position for p, position in at.items() if position >= 0 and self._moved(p, position)}
        for partition, position in moved.items():
            rows = self._undurable.setdefault(partition, {})
            rows |= self._pipeline(partition).dump()
            marker = self._marker(partition, position)
            self._checkpoint.commit(partition, rows, marker)
            self._durable[partition], self._heard[partition] = position, marker.heard
            self._unmarked.discard(partition)
            if partition in self._unbegun:
                self._note_change(partition, self._unbegun[partition], "")
                del self._unbegun[partition]
            del self._undurable[partition]
        return moved

    def _moved(self, partition: int, position: int) -> bool:
        """Whether a partition's marker would say something new."""
        return (
            position != self._durable.get(partition)
            or partition in self._unmarked
            or self._heard.get(partition) != self._heard_by(partition)
        )

    def _heard_by(self, partition: int) -> Heard | None:
        """How far a partition has followed the control topic: not behind a command that it is to follow yet."""
        heard, told = self._control.heard(partition), self.change.told
        if heard is None or told is None or self._succession.at(partition).change == self.change:
            return heard
        behind = heard.decided if told.incarnation != heard.incarnation else min(heard.decided, told.offset)
        return msgspec.structs.replace(heard, decided=behind)

    def _forget(self, partitions: Collection[int]) -> None:
        """Let go of partitions, whatever their state."""
        self._control.forget(partitions)
        self._unmarked.difference_update(partitions)
        for partition in partitions:
            for known in (
                self.pipelines,
                self._positions,
                self._durable,
                self._undurable,
                self._rebuilt_to,
                self._repeats_to,
                self._forgotten,
                self._heard,
            ):
                known.pop(partition, None)
        self._owners.forget(partitions)
        self._succession.forget(partitions)
        self._replaced = [polled for polled in self._replaced if polled.partition not in partitions]

    def tell_silences(self, quiet: Collection[str]) -> int:
        """Tell of silent assets among those not heard for their silence; returns how many were told."""
        told = [record for pipeline in self.pipelines.values() for record in pipeline.tell_silences(quiet)]
        self._publish(told)
        return len(told)

    def tell(self, records: Sequence[OutRecord]) -> None:
        """Hand records to the sink that are no part of the fold: what the daemon says of itself."""
        if records:
            self._publish(records)

    def _publish(self, records: Sequence[OutRecord]) -> None:
        self._checkpoint.publish(records)
        self._outbox = self._outbox.with_records(records)

    def close(self) -> None:
        """Release source and checkpoint. Idempotent."""
        self._source.close()
        self._checkpoint.close()

    def _begin(self, polled: Polled) -> None:
        """Make a new partition's beginning durable, so that a crash before its first snapshot repeats nothing.

        Where that has to wait, the next snapshot makes up for it.
        """
        first = first_position(polled)
        if polled.partition in self._durable or polled.partition in self._unbegun or first is None:
            return
        if (damaged := self.damaged.get(polled.partition)) is not None:
            stood = self._source.rewound.get(polled.partition, 0)
            self._rebuilt_to[polled.partition] = stood if damaged.position is None else damaged.position
        try:
            self._make_beginning_durable(polled.partition, first)
        except (SinkError, StateError):
            if not self.repeatable:
                raise
            self._unbegun[polled.partition] = first

    def _repeats(self, polled: Polled) -> bool:
        """Whether the poll brings what a life before may have published: a new command would change it.

        How far that life had come nobody knows, but not beyond the end at which the partition was restored.
        """
        first = first_position(polled)
        return first is not None and first < self._repeats_to.get(polled.partition, 0)

    def _make_beginning_durable(self, partition: int, position: int) -> None:
        self._control.restored(partition, None)
        marker = self._marker(partition, position)
        self._checkpoint.commit(partition, {}, marker)
        self._durable[partition], self._heard[partition] = position, marker.heard
        self._note_change(partition, position, "")

    def _note_change(self, partition: int, position: int, before: str) -> None:
        """Journal what is in force where another configuration was, or none."""
        change = self._succession.at(partition).change
        if change.configuration and change.id != before:
            self._journal(partition, position, change)

    def _marker(self, partition: int, position: int) -> Marker:
        until = self._rebuilt_to.get(partition, 0)
        change = self._succession.at(partition).change
        return Marker(
            position,
            change.bundles,
            change.id if change.configuration else "",
            input=self._source.input,
            rebuilt_to=until if position < until else 0,
            forgotten=self._forgotten.get(partition, 0),
            heard=self._heard_by(partition),
        )

    def _fold(self, pipeline: Pipeline, piece: Piece) -> Step:
        outcome = empty_outcome()
        partition = piece.polled.partition
        first = first_position(piece.polled)
        pipeline.rebuilding = first is not None and first < self._rebuilt_to.get(partition, 0)
        for acting in piece.acting:
            pipeline = self._act(partition, pipeline, acting, outcome)
        pipeline.push(piece.polled, outcome)
        self._publish(outcome.records)
        self._positions[partition] = piece.polled.position
        return Step(piece.polled, outcome)

    def _act(self, partition: int, pipeline: Pipeline, acting: Acting, outcome: Outcome) -> Pipeline:
        """Let a command act; returns the pipeline that goes on."""
        command = acting.command
        if isinstance(command, Change):
            return self._repeated(partition, pipeline, acting.position, command, outcome)
        if acting.name:
            control = offset_of(acting.name)
            pipeline.answered_command(
                command.asset,
                command.command,
                outcome,
                name=acting.name,
                control=control,
                position=acting.position,
            )
        else:
            pipeline.command(command.asset, command.command, outcome)
        return pipeline

    def _repeated(
        self, partition: int, pipeline: Pipeline, position: int, change: Change, outcome: Outcome
    ) -> Pipeline:
        """Another configuration at a place that a journal names; what is new comes through `adopt`."""
        before, generation = self._succession.at(partition), self._succession.next(partition, change)
        if generation is None:
            return pipeline
        new = generation.pipeline_of(partition)
        new.load(pipeline.handed_over(), kept(before, generation))
        new.rebuilding = pipeline.rebuilding
        self._put_in_force(partition, generation, new)
        outcome.records.extend(applied(change, new, position))
        return new

    def _pipeline(self, partition: int) -> Pipeline:
        if partition not in self.pipelines:
            self.pipelines[partition] = self._succession.at(partition).pipeline_of(partition)
        return self.pipelines[partition]

    def _restore(self, partition: int) -> int | Rewind | None:
        restored = self._checkpoint.restore(partition)
        if restored is None:
            return None
        if isinstance(restored, Damaged):
            return self._rebuild(partition, restored)
        position = self._resume(partition, restored)
        self._load(partition, restored)
        return position

    def _rebuild(self, partition: int, damaged: Damaged) -> Rewind:
        """Nothing of the state can be used: go back far enough to fold it anew."""
        self.damaged[partition] = damaged
        self._commands.restored(partition, None, damaged.journal)
        self._succession.resume(partition, newest_change(damaged.journal))
        pipeline = self._pipeline(partition)
        pipeline.recollection = self._recollect(pipeline.source)
        return Rewind(damaged.position, self._warm_up_ns)

    def _resume(self, partition: int, restored: Restored) -> int:
        """Where a partition goes on, under what, and with which commands; everything but its rows."""
        marker, found = restored.marker, self._source.input
        position, anew = resumed_at(partition, marker, found), made_anew(marker, found)
        if anew:
            self._replaced.append(Polled(partition, 0, (), lost=Lost(marker.position, 0)))
        self._forgotten[partition] = len(restored.journal) if anew else marker.forgotten
        journal = remembered(restored.journal, self._forgotten[partition])
        self._commands.restored(partition, position, journal)
        self._control.restored(partition, marker.heard)
        # Of an input that was made anew no position is durable, not even the same number.
        self._durable[partition] = -1 if anew else marker.position
        self._heard[partition] = marker.heard
        self._rebuilt_to[partition] = marker.rebuilt_to
        self._repeats_to[partition] = self._source.end(partition) or 0
        stored = newest_change(journal)
        self._succession.resume(partition, stored)
        self._note_change(partition, position, stored.id if stored is not None else "")
        self._answer_change(partition, position, marker)
        return position

    def _load(self, partition: int, restored: Restored) -> None:
        """Take over the rows of classes whose bundle is still the one that they were written under."""
        bundles, mine = restored.marker.bundles, self._succession.at(partition).bundles
        same = [name for name, bundle in mine.items() if bundles.get(name) == bundle]
        if bundles != mine:
            self.discarded.append(partition)
        if not same:
            self._undurable[partition] = dict.fromkeys(restored.rows)
            return
        try:
            dropped = self._pipeline(partition).load(restored.rows, same)
            self._undurable[partition] = dict.fromkeys(dropped)
            self._owners.restored(self._pipeline(partition).assets, partition)
        except (ValueError, KeyError) as error:
            raise StateError(
                f"partition {partition}: the stored state does not fit this configuration: {error}; "
                "hint: restore the configuration that wrote it, or move the state folder away"
            ) from error

    def _recollect(self, source: str) -> Recollection:
        """What the sink still has of limits and incidents; read once for all partitions of an `open`."""
        if self._recollection is None or not self.repeatable:
            self._recollection = recollection = Recollection(source)
            recollection.note_thresholds(self._checkpoint.published(Channel.THRESHOLDS))
            recollection.note_alerts(self._checkpoint.published(Channel.ALERTS))
        return self._recollection

    def _answer_change(self, partition: int, position: int, marker: Marker) -> None:
        """Tell of a command that acts from here on, where no commit says that it was told."""
        change = self._succession.at(partition).change
        if change.configuration and change.id != marker.configuration:
            self._unmarked.add(partition)
            self._publish(applied(change, self._pipeline(partition), position))
