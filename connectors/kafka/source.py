"""A Kafka topic as a `Source`: every partition of it, read by this one process.

Positions belong to the caller. The consumer is assigned its partitions by hand and never reads committed
offsets; what `commit` writes to the group is for lag monitors alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from connectors.errors import OffsetGone, PartitionsChanged, SourceError
from connectors.kafka import client, corrupt, rights
from connectors.kafka.clientlib import (
    Consumer,
    KafkaError,
    LogTruncationError,
    OffsetAndMetadata,
    OffsetOutOfRangeError,
    TopicPartition,
    fetched_bytes,
    incarnation,
)
from connectors.kafka.rewind import rewound
from connectors.kafka.settings import KafkaSourceSettings
from connectors.ports import Codec, Position, Rewind, Start
from connectors.records import Input, Lost, Polled, Queue

_log = logging.getLogger(__name__)
_NS_PER_MS = 1_000_000
_ANSWER_MS = 2000
_CLOSE_MS = 2000
_MOST_UNCONFIRMED = 3


class KafkaSource:
    """Reads one topic. Not safe for threads: one caller opens, polls and closes it.

    Corrupt records are confirmed by a second read, then passed and reported; records that were deleted before
    they were read are passed and told as `Lost`. A broker that does not answer, or refuses, is retried for
    ``retry_seconds``; positions never move because of that.
    """

    def __init__(self, settings: KafkaSourceSettings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._consumer: Consumer | None = None
        self._committer: Consumer | None = None
        self._committed: dict[int, int] = {}
        self._whole: set[int] = set()  # the topic's partitions, as found by `open`
        self._next: dict[int, int] = {}  # partition -> the offset that the caller has not had yet
        self._ends: dict[int, int] = {}  # partition -> end, as last heard
        self._input = Input(settings.topic)
        self._rewound: dict[int, int] = {}  # partition -> where it stood, of those that `open` has rewound
        self._lost: dict[int, Lost] = {}  # partition -> what is gone, until a poll has told it
        self._until: dict[int, int] = {}  # partition -> where a bounded reading stops
        self._done: set[int] = set()
        self._paused = False
        self._differs = False  # whether the last check found other partitions
        self._failing_since: float | None = None
        self._failure = ""  # the error that came last
        self._reconnections = 0
        self._suspicion: Exception | None = None  # an error that damaged records may have caused
        self._unconfirmed = 0  # how often in a row such an error could not be caused again
        self._checked = 0.0
        self._moved: dict[int, tuple[int, float]] = {}  # partition -> position, and since when it is there

    # -- Source ---------------------------------------------------------------------------------------------

    def open(self, position: Position, start: Start) -> None:
        """Connect and position every partition; see `connectors.ports.Source`.

        A ``start`` in epoch ns is compared with the broker's timestamps, which are not event times: to have
        everything of an event time, start a little earlier.

        Raises:
            SourceError: no broker answers, it refuses, or the topic does not exist.
            OffsetGone: a stored position is behind its partition's end.
        """
        self.close()
        try:
            self._consumer = client.consumer(self._settings)
            if self._settings.group is not None:
                self._committer = client.consumer(self._settings, group=self._settings.group)
            self._position(self._partitions_of_topic(), position, start)
        except KafkaError as error:
            self.close()
            raise self._cannot("cannot be read", error) from error
        except BaseException:  # of the caller's positions too
            self.close()
            raise

    def poll(self, timeout: float) -> Sequence[Polled]:
        """What has come; see `connectors.ports.Source`.

        Raises:
            OffsetGone: the broker lost records that were already read.
            PartitionsChanged: the topic has other partitions than at `open`.
            SourceError: the broker has not answered, or has refused, for ``retry_seconds``.
        """
        if self.exhausted:
            return ()
        if self._lost:
            return self._tell_lost()
        fetched = self._fetch(timeout) if self._suspicion is None else {}
        if self._suspicion is not None:
            return self._pass_damage(self._suspicion, timeout)
        polled = [self._decoded(top.partition, records) for top, records in fetched.items()]
        self._watch(answered=bool(fetched), timeout=timeout)
        return [one for one in polled if one is not None] or self._tell_lost()

    def commit(self, positions: Mapping[int, int]) -> None:
        """Write positions to the consumer group, without waiting.

        A failure is only logged: nothing but lag monitors reads them, and the next commit repairs it.
        """
        if self._committer is None or not positions:
            return
        self._committed.update(positions)
        future = self._committer.commit_async(self._offsets(positions))
        future.add_errback(_log_failed_commit, self._settings.group)

    def pause(self) -> None:
        """Stop fetching; polls go on and bring nothing."""
        self._paused = True
        self._opened().pause(*self._active())

    def resume(self) -> None:
        """Fetch again."""
        self._paused = False
        self._opened().resume(*self._active())
        self._moved.clear()

    @property
    def input(self) -> Input:
        """The topic, as found by `open`."""
        return self._input

    @property
    def rewound(self) -> Mapping[int, int]:
        """Where the partitions stood that `open` has rewound."""
        return self._rewound

    @property
    def partitions(self) -> tuple[int, ...]:
        """The topic's partitions, as found by `open`."""
        return tuple(sorted(self._whole))

    @property
    def exhausted(self) -> bool:
        """True when a bounded reading (setting ``until``) has had all of every partition."""
        return self._settings.until is not None and bool(self._next) and len(self._done) == len(self._next)

    @property
    def lag(self) -> int | None:
        """Records (offsets, to be exact) between the positions and the end; None when not open."""
        if self._consumer is None:
            return None
        return sum(max(0, self._end(partition) - after) for partition, after in self._next.items())

    def end(self, partition: int) -> int | None:
        """As it was when the partition was positioned, or at the last check; None of one that is not read here."""
        return self._ends.get(partition)

    @property
    def held(self) -> tuple[int, ...]:
        """The partitions that are read here."""
        return tuple(sorted(self._next))

    @property
    def trouble(self) -> str | None:
        """The error that has come last, while the broker does not answer or refuses."""
        return None if self._failing_since is None else self._failure

    @property
    def reconnections(self) -> int:
        """How often the consumer was replaced because it did not move or could not go on."""
        return self._reconnections

    @property
    def queues(self) -> tuple[Queue, ...]:
        """What the client has fetched ahead: of each partition one answer, which one batch alone may exceed."""
        if self._consumer is None:
            return ()
        limit = len(self._next) * self._settings.max_partition_fetch_bytes
        return (Queue("fetched", fetched_bytes(self._consumer), limit),)

    def close(self) -> None:
        """Write the last positions to the group and leave. Idempotent."""
        if self._committer is not None:
            self._last_commit(self._committer)
            self._committer.close(autocommit=False, timeout_ms=_CLOSE_MS)
            self._committer = None
        if self._consumer is not None:
            self._consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)
            self._consumer = None

    # -- opening --------------------------------------------------------------------------------------------

    def _partitions_of_topic(self) -> list[int]:
        consumer, topic = self._opened(), self._settings.topic
        partitions = consumer.partitions_for_topic(topic)
        if not partitions:
            near = get_close_matches(topic, consumer.topics(), n=1)
            hint = (
                f"did you mean '{near[0]}'?" if near else "create it, or check the name and our rights to it"
            )
            raise self._cannot(f"does not exist, or our user has no READ on it; hint: {hint}")
        self._check_rights(min(partitions))
        return sorted(partitions)

    def _check_rights(self, partition: int) -> None:
        """At the start a missing right is an error; later it is retried like an outage, because rights come back."""
        admin = client.admin(self._settings)
        try:
            (described,) = admin.describe_topics([self._settings.topic])
        finally:
            admin.close()
        lacking = rights.missing(described, ("READ",))
        if lacking is not None:
            raise SourceError(client.explain(None, self._settings, lacking))
        if self._committer is not None:
            self._check_group(self._committer, partition, "grant READ on it, or set `group: null`")

    def _check_group(self, committer: Consumer, partition: int, hint: str) -> None:
        try:
            committer.committed(self._top(partition), timeout_ms=self._connect_ms)
        except KafkaError as error:
            what = f"group '{self._settings.group}' cannot be used; hint: {hint}"
            raise SourceError(client.explain(error, self._settings, what)) from error

    def _position(self, partitions: list[int], position: Position, start: Start) -> None:
        consumer, tops = self._opened(), [self._top(partition) for partition in partitions]
        topic = self._settings.topic
        self._input = Input(topic, incarnation(consumer, topic), len(partitions))
        self._whole = set(partitions)
        first = consumer.beginning_offsets(tops, timeout_ms=self._connect_ms)
        last = consumer.end_offsets(tops, timeout_ms=self._connect_ms)
        begin = self._offsets_at(start, first, last)
        self._ends = {top.partition: last[top] for top in tops}
        self._next, self._lost, self._rewound = {}, {}, {}
        for top in tops:
            wanted = position(top.partition)
            if isinstance(wanted, Rewind):
                self._next[top.partition] = self._rewind(top, wanted, first[top], last[top], begin[top])
                continue
            stored = wanted
            if stored is not None and stored > last[top]:
                raise OffsetGone(top.partition, stored, first[top], last[top])
            if stored is not None and stored < first[top]:
                self._pass_lost(top.partition, stored, first[top])
            else:
                self._next[top.partition] = begin[top] if stored is None else stored
        self._until = self._stops(tops, last)
        self._done, self._paused, self._differs = set(), False, False
        self._failing_since, self._suspicion, self._unconfirmed = None, None, 0
        self._seek()
        self._finish_partitions()

    def _rewind(self, top: TopicPartition, wanted: Rewind, first: int, last: int, begin: int) -> int:
        """Where to begin a partition that is to be rebuilt; a consumer of its own looks for it."""
        stood = self._last_committed(top) if wanted.position is None else wanted.position
        if stood is not None:
            self._rewound[top.partition] = stood
        from_here = begin if stood is None else min(stood, last)
        reader = client.consumer(self._settings)
        try:
            return rewound(reader, top, from_here, first, wanted.span_ns // _NS_PER_MS)
        finally:
            reader.close(autocommit=False, timeout_ms=_CLOSE_MS)

    def _last_committed(self, top: TopicPartition) -> int | None:
        if self._committer is None:
            return None
        return self._committer.committed(top, timeout_ms=self._connect_ms)

    def _offsets_at(
        self, start: Start, first: Mapping[Any, int], last: Mapping[Any, int]
    ) -> Mapping[Any, int]:
        """The offset of ``start`` in every partition; a time after the last record is the end."""
        if start == "earliest":
            return first
        if start == "latest":
            return last
        wanted = {top: max(0, int(start) // _NS_PER_MS) for top in first}
        found = self._opened().offsets_for_times(wanted, timeout_ms=self._connect_ms)
        return {top: at.offset if at is not None else last[top] for top, at in found.items()}

    def _stops(self, tops: list[TopicPartition], last: Mapping[Any, int]) -> dict[int, int]:
        until = self._settings.until
        if until is None:
            return {}
        at = last if until == "end" else self._offsets_at(until, dict.fromkeys(tops, 0), last)
        return {top.partition: at[top] for top in tops}

    def _seek(self) -> None:
        """Take all partitions and go to the caller's positions."""
        consumer = self._opened()
        consumer.assign([self._top(partition) for partition in self._next])
        for partition, offset in self._next.items():
            consumer.seek(self._top(partition), offset)
        if self._paused:
            consumer.pause(*self._active())
        if self._done:
            consumer.pause(*[self._top(partition) for partition in self._done])
        self._moved.clear()
        self._checked = time.monotonic()

    # -- polling --------------------------------------------------------------------------------------------

    def _fetch(self, timeout: float) -> Mapping[TopicPartition, list[Any]]:
        """The records that have come; what cannot be unpacked becomes a suspicion, the rest is retried."""
        try:
            return self._opened().poll(timeout_ms=max(0, int(timeout * 1000)))
        except (OffsetOutOfRangeError, LogTruncationError) as error:
            self._pass_gone(error)
            return {}
        except Exception as error:
            if corrupt.is_unpacking(error):
                self._suspicion = error
            else:
                self._failed(error, timeout)
            return {}

    def _decoded(self, partition: int, records: list[Any]) -> Polled | None:
        """Decode what came of one partition, up to where a bounded reading stops."""
        stop = self._until.get(partition)
        wanted = [client.raw(record) for record in records if stop is None or record.offset < stop]
        if not wanted:
            return None
        decoded = self._codec.decode(wanted)
        self._next[partition] = wanted[-1].offset + 1
        newest = max(record.timestamp_ms for record in wanted)
        return Polled(
            partition,
            self._next[partition],
            decoded.batches,
            decoded.rejected,
            len(wanted),
            decoded.counts,
            newest,
        )

    def _finish_partitions(self) -> None:
        """Stop fetching the partitions that a bounded reading has read up to its end.

        The consumer's own position is asked, because the last offsets may hold no record (compaction, markers
        of transactions).
        """
        for partition, stop in self._until.items():
            top = self._top(partition)
            if partition not in self._done and self._opened().position(top, timeout_ms=0) >= stop:
                self._done.add(partition)
                self._opened().pause(top)

    def _pass_damage(self, error: Exception, timeout: float) -> Sequence[Polled]:
        """Find out which partition is damaged and go on behind it; what is not confirmed is not skipped.

        The suspicion stays until this has worked, because the consumer that raised it would never return from
        its next poll.
        """
        try:
            found = corrupt.find(
                self._settings, {p: at for p, at in self._next.items() if p not in self._done}
            )
            self._reconnect()
        except KafkaError as failure:
            self._failed(failure, timeout)
            return ()
        self._suspicion = None
        self._confirm(found, error)
        return [self._rejected(damage) for damage in found]

    def _confirm(self, found: Sequence[corrupt.Damage], error: Exception) -> None:
        """Give up on an error that comes again and again from no partition in particular, or where that is asked."""
        if found and self._settings.damaged == "stop":
            damage = found[0]
            raise self._cannot(
                f"partition {damage.partition} offset {self._next[damage.partition]}: {damage.rejected[0].detail}; "
                "hint: `damaged: dead_letter` passes such records"
            )
        self._unconfirmed = 0 if found else self._unconfirmed + 1
        if self._unconfirmed > _MOST_UNCONFIRMED:
            raise self._cannot("raises an error that no single partition raises", error) from error

    def _rejected(self, damage: corrupt.Damage) -> Polled:
        _log.warning(
            "topic %s partition %d: offsets %d to %d cannot be unpacked and were passed: %s",
            self._settings.topic,
            damage.partition,
            self._next[damage.partition],
            damage.end - 1,
            damage.rejected[0].detail,
            extra={"code": "records_corrupt"},
        )
        self._next[damage.partition] = damage.end
        self._opened().seek(self._top(damage.partition), damage.end)
        return Polled(damage.partition, damage.end, (), damage.rejected, len(damage.rejected))

    def _reconnect(self) -> None:
        """A fresh consumer at the same positions."""
        fresh = client.consumer(self._settings)
        self._reconnections += 1
        self._opened().close(autocommit=False, timeout_ms=_CLOSE_MS)
        self._consumer = fresh
        self._seek()

    # -- watching over the connection -----------------------------------------------------------------------

    def _watch(self, *, answered: bool, timeout: float) -> None:
        """Finish what is read up to its end; every ``check_seconds`` see that the topic is still as it was.

        A broker that is down does not make ``poll`` fail: it just brings nothing.
        """
        if answered:
            self._failing_since, self._unconfirmed = None, 0
        try:
            self._finish_partitions()
            now = time.monotonic()
            if now - self._checked >= self._settings.check_seconds:
                self._checked = now
                self._check(now)
        except KafkaError as error:
            self._failed(error, timeout)

    def _check(self, now: float) -> None:
        """Does the broker answer, is the topic still the same with the same partitions, do we move?"""
        tops = [self._top(partition) for partition in self._next]
        ends = self._opened().end_offsets(tops, timeout_ms=_ANSWER_MS)
        self._ends = {top.partition: end for top, end in ends.items()}
        self._failing_since = None
        self._check_incarnation()
        self._check_partitions()
        self._check_movement(now)

    def _check_incarnation(self) -> None:
        now = incarnation(self._opened(), self._settings.topic)
        if now and self._input.incarnation and now != self._input.incarnation:
            raise self._cannot(
                "was deleted and made anew while it was read; hint: start again: it goes on at the new topic's "
                "beginning, and tells what was lost"
            )

    def _check_partitions(self) -> None:
        """Raise when they differ twice in a row: brokers that are starting may tell part of the truth."""
        present = self._opened().partitions_for_topic(self._settings.topic)
        differed, self._differs = self._differs, present != self._whole
        if not (differed and self._differs):
            return
        raise self._changed(len(present))

    def _changed(self, present: int) -> PartitionsChanged:
        return PartitionsChanged(
            f"topic '{self._settings.topic}' has {present} partitions, and had {len(self._whole)}: its "
            "producers may send an asset to another partition now, which would split the asset's windows; "
            "hint: once the new layout is settled, start again with an empty state folder; windows begin anew"
        )

    def _check_movement(self, now: float) -> None:
        """Some client releases silently stopped reading a partition: a new connection is the cure."""
        if self._paused:
            return
        for partition in self._next.keys() - self._done:
            at = self._opened().position(self._top(partition), timeout_ms=0)
            before, since = self._moved.get(partition, (None, now))
            if at != before or at >= self._ends[partition]:
                self._moved[partition] = (at, now)
            elif now - since > self._settings.stall_seconds:
                _log.warning(
                    "partition %d stands at %d with records behind it",
                    partition,
                    at,
                    extra={"code": "reconnected"},
                )
                self._reconnect()
                return

    def _failed(self, error: Exception, timeout: float) -> None:
        """Remember a failure; give up when they have lasted for ``retry_seconds``."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
            told = client.explain(error, self._settings, "reading failed")
            _log.warning("%s; trying again", told, extra={"code": "reading_failed"})
        self._failure = client.explain(error, self._settings, "reading failed")
        if now - self._failing_since >= self._settings.retry_seconds:
            lasting = f"could not be read for {now - self._failing_since:.0f} s"
            raise self._cannot(lasting, error) from error
        time.sleep(min(timeout, 1.0))  # some failures come back at once

    def _pass_gone(self, error: Exception) -> None:
        """Go on behind what was deleted before it was read; `_tell_lost` tells what that was.

        Raises:
            OffsetGone: a position is behind the end.
            SourceError: the broker lost what was already read, or does not say what it holds.
        """
        consumer = self._opened()
        tops = [self._top(partition) for partition in self._next]
        try:
            first = consumer.beginning_offsets(tops, timeout_ms=_ANSWER_MS)
            last = consumer.end_offsets(tops, timeout_ms=_ANSWER_MS)
        except KafkaError as failure:
            raise self._cannot(
                f"a position is gone ({error}), and its range cannot be read", failure
            ) from error
        for top in tops:
            wanted = self._next[top.partition]
            if wanted > last[top]:
                raise OffsetGone(top.partition, wanted, first[top], last[top]) from error
            if wanted < first[top]:
                self._pass_lost(top.partition, wanted, first[top])
                consumer.seek(top, first[top])
        if not self._lost:
            raise self._cannot(
                "lost records that were already read (its log was truncated)", error
            ) from error

    def _pass_lost(self, partition: int, wanted: int, first: int) -> None:
        _log.warning(
            "topic %s partition %d: offsets %d to %d were deleted before they were read",
            self._settings.topic,
            partition,
            wanted,
            first - 1,
            extra={"code": "records_lost"},
        )
        self._lost[partition] = Lost(wanted, first)
        self._next[partition] = first

    def _tell_lost(self) -> Sequence[Polled]:
        lost, self._lost = self._lost, {}
        return [
            Polled(partition, gone.end, (), counts=(("OFFSETS_LOST", gone.end - gone.first),), lost=gone)
            for partition, gone in lost.items()
        ]

    # -- small things ---------------------------------------------------------------------------------------

    @property
    def _connect_ms(self) -> int:
        return int(self._settings.connect_seconds * 1000)

    def _opened(self) -> Consumer:
        if self._consumer is None:
            raise SourceError("the Kafka source is not open; hint: call open() first")
        return self._consumer

    def _top(self, partition: int) -> TopicPartition:
        return TopicPartition(self._settings.topic, partition)

    def _active(self) -> list[TopicPartition]:
        return [self._top(partition) for partition in self._next if partition not in self._done]

    def _end(self, partition: int) -> int:
        heard = self._opened().highwater(self._top(partition)) or 0
        return self._until.get(partition, max(heard, self._ends[partition]))

    def _offsets(self, positions: Mapping[int, int]) -> dict[TopicPartition, OffsetAndMetadata]:
        return {self._top(p): OffsetAndMetadata(offset, "", -1) for p, offset in positions.items()}

    def _last_commit(self, committer: Consumer) -> None:
        if not self._committed:
            return
        try:
            committer.commit(self._offsets(self._committed), timeout_ms=_CLOSE_MS)
        except KafkaError as error:
            _log_failed_commit(self._settings.group, error)
        self._committed = {}

    def _cannot(self, what: str, error: BaseException | None = None) -> SourceError:
        return SourceError(client.explain(error, self._settings, f"topic '{self._settings.topic}' {what}"))


def _log_failed_commit(group: str | None, error: BaseException) -> None:
    kind, extra = type(error).__name__, {"code": "positions_not_written"}
    _log.warning("group %s: %s: %s", group, kind, error, extra=extra)
