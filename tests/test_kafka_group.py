"""Several members of one group on a real broker: who holds which partition, and who may write for it."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import pytest

from connectors.errors import Aborted, PartitionsChanged, SettingsError, SinkError
from connectors.kafka import (
    KafkaGroupSource,
    KafkaLedger,
    KafkaSinkSettings,
    KafkaSourceSettings,
    SinkTopics,
)
from connectors.kafka.clientlib import is_stable
from connectors.records import OutRecord, Row
from tests.broker import AnyBroker, produce
from tests.kafka_reader import Tape, alert, committed, everything

pytestmark = pytest.mark.kafka

PARTITIONS = 4


class Member:
    """A source and a ledger of one member; the positions of its partitions are what it has committed.

    ``connection`` is how both come to the broker; ``settings`` are the source's.
    """

    def __init__(
        self,
        connection: Mapping[str, Any],
        topic: str,
        changelog: str,
        topics: SinkTopics,
        **settings: Any,
    ) -> None:
        self.tape = Tape()
        source = {"session_seconds": 6.0, "check_seconds": 1.0, **settings}
        self.source = KafkaGroupSource(
            KafkaSourceSettings(**connection, topic=topic, group=f"{topic}-group", **source), self.tape
        )
        sink = KafkaSinkSettings(**connection, topics=topics, transaction_seconds=5.0)
        self.ledger = KafkaLedger(sink, changelog, topic, lambda: self.source.member)
        self.held: dict[int, int] = {}
        self.told: list[tuple[str, tuple[int, ...]]] = []
        self.refused: list[Aborted] = []

    def open(self) -> Member:
        self.source.share(self)
        self.source.open(self._stored, "earliest")
        self.ledger.open(len(self.source.partitions))
        return self

    def _stored(self, partition: int) -> int | None:
        """The position is the newest row of the changelog; a real store keeps more."""
        self.told.append(("take", (partition,)))
        rows = dict(self.ledger.rows(partition))
        if b"position" not in rows:
            return None
        self.held[partition] = int(rows[b"position"] or b"")
        return self.held[partition]

    def begin(self, partition: int, position: int) -> None:
        self.commit(partition, position)

    def finish(self, partitions: Collection[int]) -> None:
        self.told.append(("finish", tuple(sorted(partitions))))
        for partition in partitions:
            try:
                self.commit(partition, self.held[partition])
            except Aborted as error:
                self.refused.append(error)
            del self.held[partition]

    def drop(self, partitions: Collection[int]) -> None:
        self.told.append(("drop", tuple(sorted(partitions))))
        for partition in partitions:
            self.held.pop(partition, None)

    def commit(self, partition: int, position: int, *records: OutRecord) -> None:
        row = Row(partition, b"position", str(position).encode())
        self.ledger.transact(records, [row], {partition: position}, 10.0)
        self.held[partition] = position

    def step(self, timeout: float = 0.1) -> None:
        for polled in self.source.poll(timeout):
            self.held[polled.partition] = polled.position

    def close(self) -> None:
        self.source.close()
        self.ledger.close()


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    return new_topic(PARTITIONS)


@pytest.fixture
def changelog(new_topic: Callable[..., str]) -> str:
    return new_topic(PARTITIONS, {"cleanup.policy": "compact"})


@pytest.fixture
def member(
    kafka_broker: AnyBroker, topic: str, changelog: str, kafka_topics: SinkTopics
) -> Iterator[Callable[..., Member]]:
    made: list[Member] = []

    def make(**settings: Any) -> Member:
        connection = {"bootstrap_servers": (kafka_broker.bootstrap,)}
        made.append(Member(connection, topic, changelog, kafka_topics, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def until(enough: Callable[[], bool], *members: Member, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not enough():
        assert time.monotonic() < deadline, [(one.told, one.held) for one in members]
        for one in members:
            one.step()


def everywhere(members: Collection[Member]) -> list[int]:
    return sorted(partition for one in members for partition in one.held)


def test_partitions_move_to_a_member_that_joins_and_back_when_it_leaves(
    kafka_broker: AnyBroker, topic: str, member: Callable[..., Member]
) -> None:
    produce(kafka_broker.bootstrap, topic, [(None, b"x", n % PARTITIONS) for n in range(40)])
    one = member().open()
    until(lambda: len(one.tape.records) == 40, one)
    assert one.held == dict.fromkeys(range(PARTITIONS), 10)

    two = member().open()
    until(lambda: len(two.held) == 2 and len(one.held) == 2, one, two)
    assert everywhere([one, two]) == list(range(PARTITIONS))
    finished = [partitions for what, partitions in one.told if what == "finish"]
    assert sorted(sum(finished, ())) == sorted(two.held)
    assert two.held == dict.fromkeys(two.held, 10), "the state went with its partition"
    assert not one.refused

    produce(kafka_broker.bootstrap, topic, [(None, b"y", n % PARTITIONS) for n in range(40)])
    until(lambda: everywhere([one, two]) == list(range(PARTITIONS)) and _all_at([one, two], 20), one, two)
    two.close()
    until(lambda: len(one.held) == PARTITIONS, one)
    assert one.held == dict.fromkeys(range(PARTITIONS), 20)
    values = one.tape.values(0) + two.tape.values(0)
    assert sorted(v or b"" for v in values) == [b"x"] * 10 + [b"y"] * 10, "no record was read twice"


def _all_at(members: Collection[Member], position: int) -> bool:
    return all(at == position for one in members for at in one.held.values())


def test_the_broker_refuses_a_member_that_was_silent_for_too_long(member: Callable[..., Member]) -> None:
    zombie, heir = member(max_poll_seconds=12.0).open(), member()
    until(lambda: len(zombie.held) == PARTITIONS, zombie)
    heir.open()
    until(lambda: len(heir.held) == PARTITIONS, heir)  # nobody polls for the zombie any more
    heir.commit(0, 7)
    with pytest.raises(Aborted):
        zombie.commit(0, 3, alert(1))
    assert zombie.source.member is not None, "the membership that it writes under is the one it has lost"

    trap = zombie.source._opened().group_metadata()  # what it would be if it was asked for now
    assert trap.generation_id == -1
    assert not is_stable(trap)
    careless = KafkaLedger(
        zombie.ledger._settings, zombie.ledger._changelog, zombie.ledger._topic, lambda: trap
    )
    careless.transact([], [], {1: 3}, 10.0)  # the broker takes it: this is why it is never asked for then
    careless.close()
    heir.commit(1, 0)

    assert dict(heir.ledger.rows(0)) == {b"position": b"7"}
    assert heir.ledger.ids_after({}) == set()
    until(lambda: "drop" in {what for what, _ in zombie.told}, zombie, heir)
    assert zombie.told[-1][0] in {"drop", "take"}


def test_a_join_that_outlasts_a_wait_is_finished_also_where_only_metadata_had_changed(
    member: Callable[..., Member],
) -> None:
    """The library forgets such a join: it would stay between two memberships, without heartbeats, for ever."""
    one = member().open()
    until(lambda: len(one.held) == PARTITIONS, one)
    consumer: Any = one.source._consumer
    coordinator = consumer._coordinator
    coordinator._assignment_snapshot = {}  # as if the leader had shared out other partitions
    consumer.poll(timeout_ms=0)
    assert not is_stable(consumer.group_metadata()), "this wait was to be too short for a join"
    deadline = time.monotonic() + 60.0
    while not coordinator._join_task.is_done:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    until(lambda: is_stable(consumer.group_metadata()), one, seconds=60.0)
    one.commit(2, 5)
    assert dict(one.ledger.rows(2)) == {b"position": b"5"}
    assert sorted(one.held) == list(range(PARTITIONS))


def test_a_transaction_is_refused_until_there_is_a_membership(member: Callable[..., Member]) -> None:
    """Without a generation the broker would take it for a reader outside every group, and accept it."""
    nobody = member().open()
    with pytest.raises(Aborted, match="no partitions are held"):
        nobody.ledger.transact([alert(1)], [], {0: 5}, 10.0)
    with pytest.raises(ValueError, match="would not be fenced"):
        nobody.ledger.transact([alert(1)], [], {}, 10.0)


def test_what_was_aborted_is_not_seen_and_what_follows_is(
    kafka_broker: AnyBroker, kafka_topics: SinkTopics, changelog: str, member: Callable[..., Member]
) -> None:
    one = member().open()
    until(lambda: len(one.held) == PARTITIONS, one)
    one.commit(2, 5, alert(1))
    producer = one.ledger._connected()  # as a daemon leaves it that dies within a transaction
    producer.begin_transaction()
    producer.send(changelog, key=b"position", value=b"99", partition=2).get(10)
    producer.send(kafka_topics.alerts, key=b"k", value=b"{}", headers=[("nuwatch-id", b"never")]).get(10)
    one.ledger._abandon()
    assert dict(one.ledger.rows(2)) == {b"position": b"5"}, "it ends its own open transaction before it reads"
    one.commit(2, 6, alert(2))
    assert dict(one.ledger.rows(2)) == {b"position": b"6"}
    assert one.ledger.ids_after({}) == {alert(1).id, alert(2).id}
    assert len(everything(kafka_broker.bootstrap, kafka_topics.alerts)) == 3, (
        "a reader of everything sees the dead"
    )


def test_a_successor_waits_for_the_open_transaction_of_one_that_died(
    kafka_broker: AnyBroker, changelog: str, member: Callable[..., Member]
) -> None:
    from kafka import KafkaProducer

    dead = KafkaProducer(
        bootstrap_servers=kafka_broker.bootstrap,
        transactional_id=f"dead-{changelog}",
        transaction_timeout_ms=4000,
    )
    dead.init_transactions()
    dead.begin_transaction()
    dead.send(changelog, key=b"position", value=b"99", partition=1).get(10)
    begun = time.monotonic()

    heir = member().open()
    until(lambda: len(heir.held) == PARTITIONS, heir)
    dead.close()
    assert heir.held == dict.fromkeys(range(PARTITIONS), 0), "what was never committed is never read"
    assert time.monotonic() - begun >= 4.0, "it did not wait for the broker to end the transaction"


def test_a_reader_waits_for_what_is_committed_and_not_yet_marked_so(
    kafka_broker: AnyBroker, new_topic: Callable[..., str]
) -> None:
    """The reader by which daemons that share a topic are judged: it must not miss their last records."""
    from kafka import KafkaProducer

    topic = new_topic()
    writer = KafkaProducer(bootstrap_servers=kafka_broker.bootstrap, transactional_id=f"of-{topic}")
    writer.init_transactions()
    writer.begin_transaction()
    writer.send(topic, b"late").get(30)
    end = threading.Timer(1.0, writer.commit_transaction)  # the time that a busy broker takes for its marker
    end.start()
    assert [record.value for record in committed(kafka_broker.bootstrap, topic)] == [b"late"]
    end.join()
    writer.close()


def test_a_record_too_large_for_its_topic_goes_out_in_its_shorter_form(
    kafka_broker: AnyBroker,
    kafka_topics: SinkTopics,
    new_topic: Callable[..., str],
    member: Callable[..., Member],
) -> None:
    narrow = SinkTopics(
        alerts=new_topic(1, {"max.message.bytes": "2000"}),
        thresholds=kafka_topics.thresholds,
        dead_letter=kafka_topics.dead_letter,
    )
    one = member().open()
    until(lambda: len(one.held) == PARTITIONS, one)
    sink = KafkaSinkSettings(bootstrap_servers=(kafka_broker.bootstrap,), topics=narrow)
    cut = KafkaLedger(
        sink, one.ledger._changelog, one.ledger._topic, lambda: one.source.member,
        lambda record: record._replace(value=b"short") if len(record.value or b"") > 100 else None,
    )  # fmt: skip
    cut.transact([alert(1), alert(2, value=b"v" * 5000), alert(3)], [], {0: 0}, 10.0)
    cut.close()
    values = {r.value for r in everything(kafka_broker.bootstrap, narrow.alerts)}
    assert b"short" in values
    assert cut.ids_after({}) == {alert(n).id for n in (1, 2, 3)}
    hopeless = KafkaLedger(sink, one.ledger._changelog, one.ledger._topic, lambda: one.source.member)
    with pytest.raises(SinkError) as refused:
        hopeless.transact([alert(4, value=b"v" * 5000)], [], {0: 0}, 10.0)
    assert not isinstance(refused.value, Aborted), "it would come again with every try"
    hopeless.close()
    cut.close()


def test_a_changelog_must_have_the_partitions_of_the_input_and_be_compacted(
    kafka_broker: AnyBroker, kafka_topics: SinkTopics, topic: str, new_topic: Callable[..., str]
) -> None:
    settings = KafkaSinkSettings(bootstrap_servers=(kafka_broker.bootstrap,), topics=kafka_topics)
    with pytest.raises(PartitionsChanged, match="has 3 partitions, expected 4"):
        KafkaLedger(settings, new_topic(3, {"cleanup.policy": "compact"}), topic, lambda: None).open(4)
    with pytest.raises(SinkError, match=r"cleanup\.policy=delete"):
        KafkaLedger(settings, new_topic(4), topic, lambda: None).open(4)
    absent = f"absent-{uuid.uuid4().hex[:8]}"
    with pytest.raises(SinkError, match="do not exist"):
        KafkaLedger(settings, absent, topic, lambda: None).open(4)
    made = KafkaSinkSettings(
        bootstrap_servers=(kafka_broker.bootstrap,),
        topics=kafka_topics,
        create_topics=True,
        replication_factor=1,
    )
    for _ in range(2):
        ledger = KafkaLedger(made, absent, topic, lambda: None)
        ledger.open(4)
        ledger.close()


def test_a_topic_that_grows_stops_its_members(
    kafka_broker: AnyBroker, topic: str, member: Callable[..., Member]
) -> None:
    from kafka import KafkaAdminClient

    one = member().open()
    until(lambda: len(one.held) == PARTITIONS, one)
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap)
    admin.create_partitions({topic: PARTITIONS + 1})
    admin.close()
    with pytest.raises(PartitionsChanged, match="has 5 partitions, and had 4"):
        until(lambda: False, one)


def test_a_group_with_offsets_and_a_changelog_without_state_do_not_belong_together(
    kafka_broker: AnyBroker, kafka_topics: SinkTopics, topic: str, new_topic: Callable[..., str],
    member: Callable[..., Member],
) -> None:  # fmt: skip
    one = member().open()
    until(lambda: len(one.held) == PARTITIONS, one)
    one.close()
    anew = new_topic(PARTITIONS, {"cleanup.policy": "compact"})
    other = Member({"bootstrap_servers": (kafka_broker.bootstrap,)}, topic, anew, kafka_topics)
    with pytest.raises(SettingsError, match="has committed offset 0 of partition 0"):
        until(lambda: False, other.open())
    other.close()
