"""Daemons that share a topic as a user who may do what docs/several-daemons.md lists, and no more."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from connectors.errors import SinkError, SourceError
from connectors.kafka import SecretFrom, Security, SinkTopics
from tests.access import SHARED, documented, rules_of
from tests.broker import GUARDED, GUARDED_PASSWORD, AnyBroker, Broker, Rule, allow, forbid, produce
from tests.chaos import Launcher
from tests.shared_plant import PARTITIONS, SharedPlant, stream
from tests.test_kafka_group import Member

pytestmark = pytest.mark.kafka


@pytest.fixture
def broker(kafka_broker: AnyBroker, monkeypatch: pytest.MonkeyPatch) -> Broker:
    if not isinstance(kafka_broker, Broker) or not kafka_broker.secure_bootstrap:
        pytest.skip("this broker has no secured listeners")
    monkeypatch.setenv("NUWATCH_GUARDED", GUARDED_PASSWORD)
    return kafka_broker


def granted(topic: str, changelog: str, topics: SinkTopics) -> list[Rule]:
    """The table's rules, in its order."""
    names = {"source.topic": topic, "source.group": f"{topic}-group", "state.changelog": changelog}
    names |= {f"sink.topics.{name}": one for name, one in msgspec.structs.asdict(topics).items()}
    return rules_of(names, SHARED)


# -- each right -----------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Topics, and a user with the rules for them."""

    broker: Broker
    topic: str
    changelog: str
    topics: SinkTopics
    rules: list[Rule]

    def member(self) -> Member:
        security = Security(
            protocol="SASL_SSL",
            ca_file=str(self.broker.ca_file),
            mechanism="SCRAM-SHA-512",
            username=GUARDED,
            password=SecretFrom(env="NUWATCH_GUARDED"),
        )
        connection: dict[str, Any] = {"bootstrap_servers": (self.broker.secure_bootstrap,)}
        connection |= {"security": security, "connect_seconds": 5.0}
        return Member(connection, self.topic, self.changelog, self.topics)


@pytest.fixture
def place(broker: Broker, new_topic: Callable[..., str], kafka_topics: SinkTopics) -> Iterator[Place]:
    topic, changelog = new_topic(1), new_topic(1, {"cleanup.policy": "compact"})
    rules = granted(topic, changelog, kafka_topics)
    allow(broker.bootstrap, GUARDED, rules)
    yield Place(broker, topic, changelog, kafka_topics, rules)
    forbid(broker.bootstrap, GUARDED, rules)


@pytest.mark.parametrize("row", documented(SHARED), ids=" ".join)
def test_each_documented_right_is_needed_and_its_lack_is_named_at_the_start(
    place: Place, row: tuple[str, str, str]
) -> None:
    taken = place.rules[documented(SHARED).index(row)]
    forbid(place.broker.bootstrap, GUARDED, [taken])
    member = place.member()
    try:
        with pytest.raises((SourceError, SinkError)) as refused:
            member.open()
    finally:
        member.close()
        allow(place.broker.bootstrap, GUARDED, [taken])
    said = str(refused.value)
    assert taken.name in said
    assert taken.operation in said
    assert "hint:" in said
    assert GUARDED_PASSWORD not in said


def test_with_all_of_them_a_member_reads_and_writes(place: Place) -> None:
    produce(place.broker.bootstrap, place.topic, [(b"k", b"1")])
    member = place.member().open()
    deadline = time.monotonic() + 60
    while member.held.get(0) != 1:
        assert time.monotonic() < deadline, member.told
        member.step()
    member.commit(0, 1)
    member.close()
    assert member.refused == []


# -- daemons --------------------------------------------------------------------------------------------------


@pytest.fixture
def plant(
    tmp_path: Path,
    broker: Broker,
    new_topic: Callable[..., str],
    kafka_topics: SinkTopics,
    launcher: Launcher,
) -> Iterator[SharedPlant]:
    connection = (
        f"bootstrap_servers: [{broker.secure_bootstrap}]\n"
        f"  security: {{protocol: SASL_SSL, ca_file: {broker.ca_file}, mechanism: SCRAM-SHA-512, "
        f"username: {GUARDED}, password: {{env: NUWATCH_GUARDED}}}}"
    )
    made = SharedPlant(
        tmp_path,
        broker.bootstrap,
        new_topic,
        kafka_topics,
        launcher,
        connection,
        {"NUWATCH_GUARDED": GUARDED_PASSWORD},
    )
    rules = granted(made.topic, made.changelog, made.topics)
    allow(broker.bootstrap, GUARDED, rules)
    yield made
    made.close()
    forbid(broker.bootstrap, GUARDED, rules)


@pytest.mark.slow
def test_two_daemons_with_exactly_the_documented_rights_work_and_take_over_from_one_another(
    plant: SharedPlant,
) -> None:
    records = stream(rows=160, seed=31)
    expected = plant.expected(records)
    half = len(records) // 2
    first, second = plant.start("first"), plant.start("second")
    plant.wait(
        lambda: sum(len(m.said("partition_begun")) for m in (first, second)) == PARTITIONS,
        90,
        "an assignment",
    )
    plant.feed(records[:half]).join()
    plant.wait(lambda: min(plant.positions().values()) > 50, 60, "it to be in the middle of things")
    first.end(signal.SIGKILL)
    plant.feed(records[half:]).join()
    plant.wait_until_folded(records, 90)
    assert second.end(signal.SIGTERM) == 0, plant.logs()
    assert plant.check(expected) == 0
    assert GUARDED_PASSWORD not in plant.logs()
