"""A Kafka topic as a `SharedSource`: partitions shared out between the daemons of one consumer group.

Assignment is cooperative: partitions that stay are not interrupted when others move. The library calls back while
its caller waits inside ``poll`` or ``close``:

- revoked: still ours until the callback returns, so the keeper finishes it: one last checkpoint;
- lost: somebody else's already; the keeper drops it and writes nothing;
- assigned: paused at first, and positioned from the keeper's store when ``poll`` has returned.

`member` is the membership under which the held partitions are held. It is read when the library is not changing it,
after a poll, and only while it is a member's: see `clientlib.is_stable`. A membership that was lost is therefore
kept, and the broker refuses what is written in its name.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from connectors.errors import OffsetGone, SettingsError, SinkError
from connectors.kafka import client, corrupt
from connectors.kafka.clientlib import (
    Consumer,
    KafkaError,
    TopicPartition,
    finish_join,
    incarnation,
    is_stable,
    subscribe,
)
from connectors.kafka.settings import KafkaSourceSettings
from connectors.kafka.source import KafkaSource
from connectors.ports import Codec, Keeper, Position, Rewind, Start
from connectors.records import Input, Polled

_SLICE_SECONDS = 0.1
"""One wait inside the library. Not much shorter: it forgets a rebalance that ends between two waits, and joins anew."""
_CLOSE_MS = 5000


class KafkaGroupSource(KafkaSource):
    """One member's share of a topic. Not safe for threads: one caller opens, polls and closes it.

    Args:
        settings: needs a ``group``, and no ``until``.
        codec: what decodes the records.

    Raises:
        SettingsError: the settings do not allow sharing.
    """

    def __init__(self, settings: KafkaSourceSettings, codec: Codec) -> None:
        if settings.group is None or settings.until is not None:
            raise SettingsError("a shared topic needs a `group`, and cannot have an `until`")
        super().__init__(settings, codec)
        self._keeper: Keeper | None = None
        self._stored: Position = _nothing
        self._start: Start = "latest"
        self._arrived: set[int] = set()  # assigned, and not positioned yet
        self._member: Any = None
        self._told_damage = False  # whether damage was handed on, so that the next poll may join anew

    @property
    def member(self) -> Any:
        """The membership under which partitions are held, as the client library names it; None: none yet."""
        return self._member

    def share(self, keeper: Keeper) -> None:
        """See `connectors.ports.SharedSource`."""
        self._keeper = keeper

    def open(self, position: Position, start: Start) -> None:
        """Connect; partitions come with later polls. See `connectors.ports.SharedSource`.

        Raises:
            SourceError: no broker answers, it refuses, or the topic does not exist.
        """
        self.close()
        self._stored, self._start = position, start
        try:
            self._consumer = self._connect()
            self._whole = set(self._partitions_of_topic())
            self._check_group(
                self._consumer, min(self._whole), "grant READ on it: it is what the daemons share"
            )
            topic = self._settings.topic
            self._input = Input(topic, incarnation(self._consumer, topic), len(self._whole))
        except KafkaError as error:
            self.close()
            raise self._cannot("cannot be read", error) from error
        except BaseException:
            self.close()
            raise
        self._checked = time.monotonic()

    def commit(self, positions: Mapping[int, int]) -> None:
        """Nothing: positions are committed in the transactions that make them durable."""
        del positions

    def again(self) -> None:
        """See `connectors.ports.SharedSource`."""
        self._next.clear()
        held = self._opened().assignment()
        self._wait(held)

    def close(self) -> None:
        """Finish what is held and leave the group. Idempotent."""
        super().close()
        self._forget(list(self._next))
        self._arrived.clear()
        self._member = None

    # -- the group ------------------------------------------------------------------------------------------

    def _connect(self) -> Consumer:
        return client.consumer(self._settings, group=self._settings.group)

    def _subscribe(self) -> None:
        """Join with the first poll, so that nothing slow stands between joining and polling."""
        if not self._opened().subscription():
            subscribe(
                self._opened(),
                self._settings.topic,
                assigned=self._on_assigned,
                revoked=self._on_revoked,
                lost=self._on_lost,
            )

    def _on_assigned(self, tops: Collection[TopicPartition]) -> None:
        self._wait(tops)

    def _on_revoked(self, tops: Collection[TopicPartition]) -> None:
        """The partitions are ours for as long as this takes, under the membership that takes them away."""
        self._note_member()
        leaving = [top.partition for top in tops]
        self._kept().finish([partition for partition in leaving if partition in self._next])
        self._forget(leaving)

    def _on_lost(self, tops: Collection[TopicPartition]) -> None:
        lost = [top.partition for top in tops]
        self._kept().drop(lost)
        self._forget(lost)

    def _wait(self, tops: Collection[TopicPartition]) -> None:
        """Fetch nothing until the keeper has said where to begin; without any position a poll would fail."""
        consumer = self._opened()
        for top in tops:
            consumer.seek(top, 0)
        consumer.pause(*tops)
        self._arrived |= {top.partition for top in tops}

    def _forget(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            self._next.pop(partition, None)
            self._ends.pop(partition, None)
            self._moved.pop(partition, None)
            self._lost.pop(partition, None)
            self._arrived.discard(partition)

    def _note_member(self) -> None:
        member = self._opened().group_metadata()
        if is_stable(member):
            self._member = member

    def _kept(self) -> Keeper:
        if self._keeper is None:
            raise RuntimeError("a shared source was opened before it was told whom to share with")
        return self._keeper

    # -- KafkaSource ----------------------------------------------------------------------------------------

    def _fetch(self, timeout: float) -> Mapping[TopicPartition, list[Any]]:
        """Wait in slices, so that partitions that have come are positioned soon."""
        self._subscribe()
        until = time.monotonic() + timeout
        while True:
            finish_join(self._opened())
            fetched = super()._fetch(min(_SLICE_SECONDS, timeout))
            if self._suspicion is not None:
                return {}
            self._note_member()
            if self._arrived:
                self._position_arrived(timeout)
            if fetched or time.monotonic() >= until:
                return {top: records for top, records in fetched.items() if top.partition in self._next}

    def _position_arrived(self, timeout: float) -> None:
        """Position what has come; what would take too long for one poll waits for the next."""
        until = time.monotonic() + self._settings.max_poll_seconds / 4
        for partition in sorted(self._arrived):
            if time.monotonic() > until:
                return
            if partition not in self._whole:
                raise self._changed(max(self._arrived) + 1)
            try:
                self._position_one(self._top(partition))
            except (KafkaError, SinkError) as error:  # the next poll tries again
                self._failed(error, timeout)
                return
            self._arrived.discard(partition)

    def _position_one(self, top: TopicPartition) -> None:
        consumer, partition = self._opened(), top.partition
        first = consumer.beginning_offsets([top], timeout_ms=self._connect_ms)
        last = consumer.end_offsets([top], timeout_ms=self._connect_ms)
        self._ends[partition] = last[top]  # the keeper may ask for it
        wanted = self._stored(partition)
        if isinstance(wanted, Rewind):
            stored = self._rewind(top, wanted, first[top], last[top], first[top])
        elif wanted is not None:
            stored = wanted
        else:
            stored = self._begin(top, self._offsets_at(self._start, first, last)[top])
        if stored > last[top]:
            raise OffsetGone(partition, stored, first[top], last[top])
        self._next[partition] = stored
        if stored < first[top]:
            self._pass_lost(partition, stored, first[top])
        consumer.seek(top, self._next[partition])
        if not self._paused:
            consumer.resume(top)

    def _last_committed(self, top: TopicPartition) -> int | None:
        return self._opened().committed(top, timeout_ms=self._connect_ms)

    def _begin(self, top: TopicPartition, position: int) -> int:
        """Begin a partition that the store does not know, and the group neither.

        Raises:
            SettingsError: the group has committed offsets, so there was state once.
        """
        committed = self._opened().committed(top, timeout_ms=self._connect_ms)
        if committed is not None:
            raise SettingsError(
                f"group '{self._settings.group}' has committed offset {committed} of partition {top.partition}, and "
                "the changelog holds no state for it: it is another one, or has lost its records; hint: name the "
                "changelog that the group has used, or a new group to begin where --start says"
            )
        self._kept().begin(top.partition, position)
        return position

    def _pass_damage(self, error: Exception, timeout: float) -> Sequence[Polled]:
        """Hand on what is damaged; then, at the next poll, make that durable by leaving, and join anew behind it."""
        try:
            if self._told_damage:
                self._reconnect()
                self._suspicion, self._told_damage = None, False
                return ()
            found = corrupt.find(self._settings, self._next)
        except KafkaError as failure:
            self._failed(failure, timeout)
            return ()
        self._told_damage = True
        self._confirm(found, error)
        return [self._rejected(damage) for damage in found]

    def _check(self, now: float) -> None:
        if self._next:
            super()._check(now)
        else:
            self._check_partitions()

    def _reconnect(self) -> None:
        """Leave, which finishes what is held, and join anew."""
        old, self._consumer = self._opened(), self._connect()
        self._reconnections += 1
        old.close(autocommit=False, timeout_ms=_CLOSE_MS)
        self._forget(list(self._next))
        self._checked = time.monotonic()


def _nothing(partition: int) -> int | None:
    """No partition has stored state."""
    del partition
    return None
