"""The control topic on a real broker: reading it, and daemons as processes that take commands from it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import SinkError, SourceError
from connectors.kafka import KafkaCommandTopic, KafkaSinkSettings, send_command
from connectors.memory import MemoryCommandTopic
from connectors.ports import CommandTopic
from connectors.records import Queue
from monitor.training import configuration_hash
from tests.broker import AnyBroker, Broker, delete_topic, produce
from tests.chaos import Launcher, Rig
from tests.kafka_reader import everything
from tests.test_broker_to_alerts import nuwatch

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).resolve().parent.parent


def settings(broker: AnyBroker, **more: Any) -> KafkaSinkSettings:
    return KafkaSinkSettings(bootstrap_servers=(broker.bootstrap,), **more)


@pytest.fixture
def commands(kafka_broker: AnyBroker, new_topic: Callable[..., str]) -> Iterator[KafkaCommandTopic]:
    topic = KafkaCommandTopic(settings(kafka_broker), new_topic())
    yield topic
    topic.close()


def read(topic: CommandTopic, count: int, seconds: float = 30.0) -> list[bytes | None]:
    """The next so many records; then a little longer, for more would be too many."""
    found: list[bytes | None] = []
    deadline = time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < deadline, (found, topic.trouble)
        found += [record.value for record in topic.poll()]
        time.sleep(0.05)
    return found + [record.value for record in topic.poll()]


# -- the port -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kafka", "memory"])
def test_a_command_topic_is_read_from_its_beginning_by_everyone(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], kind: str
) -> None:
    name, memory = new_topic(), MemoryCommandTopic()

    def send(value: bytes) -> int:
        if kind == "kafka":
            return send_command(settings(kafka_broker), name, b"key", value)
        memory.values.append(value)
        return len(memory.values) - 1

    def opened() -> CommandTopic:
        topic: CommandTopic = memory if kind == "memory" else KafkaCommandTopic(settings(kafka_broker), name)
        found = topic.open()
        assert found.partitions == 1
        assert found.incarnation
        return topic

    assert [send(b"one"), send(b"two")] == [0, 1]
    first = opened()
    assert first.end == 2
    assert read(first, 2) == [b"one", b"two"]
    assert send(b"three") == 2
    assert read(first, 1) == [b"three"]
    assert first.end == 3
    assert first.trouble is None
    first.close()
    again = opened()
    assert read(again, 3) == [b"one", b"two", b"three"]
    again.close()
    again.close()


def test_what_waits_of_a_command_topic_is_told_in_bytes_with_its_bound(
    kafka_broker: AnyBroker, new_topic: Callable[..., str]
) -> None:
    name = new_topic()
    for value in (b"one", b"three"):
        send_command(settings(kafka_broker), name, b"key", value)
    topic = KafkaCommandTopic(settings(kafka_broker), name)
    topic.open()
    until = time.monotonic() + 30
    while topic.queue.size < 14 and time.monotonic() < until:
        time.sleep(0.05)
    assert topic.queue == Queue("commands", 14, 16 * 2**20)
    assert [record.value for record in topic.poll()] == [b"one", b"three"]
    assert topic.queue.size == 0
    topic.close()


def test_a_large_command_stops_the_reading_ahead_until_it_is_taken(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.kafka.control._MOST_BYTES", 1000)
    name, large = new_topic(), b"x" * 1500
    topic = KafkaCommandTopic(settings(kafka_broker), name)
    topic.open()
    send_command(settings(kafka_broker), name, b"", large)
    until = time.monotonic() + 30
    while not topic.queue.size and time.monotonic() < until:
        time.sleep(0.05)
    send_command(settings(kafka_broker), name, b"", b"later")
    time.sleep(1.0)
    assert topic.queue.size == 1500
    assert read(topic, 2) == [large, b"later"]
    topic.close()


def test_a_command_topic_with_several_partitions_or_none_is_refused_by_reader_and_writer(
    kafka_broker: AnyBroker, new_topic: Callable[..., str]
) -> None:
    name = new_topic(2)
    with pytest.raises(SourceError, match="has 2 partitions, expected 1"):
        KafkaCommandTopic(settings(kafka_broker), name).open()
    with pytest.raises(SinkError, match="got 2 partitions, expected 1"):
        send_command(settings(kafka_broker), name, b"key", b"{}")
    with pytest.raises(SourceError, match="does not exist"):
        KafkaCommandTopic(settings(kafka_broker), "no-such-topic").open()


def test_a_command_topic_that_is_made_anew_while_it_is_read_stops_the_reader(
    kafka_broker: AnyBroker, commands: KafkaCommandTopic
) -> None:
    name = commands._topic
    for _ in range(3):
        send_command(settings(kafka_broker), name, b"key", b"{}")
    commands.open()
    read(commands, 3)
    delete_topic(kafka_broker.bootstrap, name)
    kafka_broker.create_topic(name)
    with pytest.raises(SourceError, match="was made anew while it was read; hint: a restart"):
        read(commands, 1, seconds=90.0)


def test_a_broker_that_is_away_is_told_and_followed_again(
    own_broker: Broker, commands: KafkaCommandTopic
) -> None:
    send_command(settings(own_broker), commands._topic, b"key", b"one")
    commands.open()
    read(commands, 1)
    own_broker.kill()
    try:
        begun = time.monotonic()
        assert commands.poll() == []
        assert time.monotonic() - begun < 1.0, "the loop is never held up"
    finally:
        own_broker.revive()
    send_command(settings(own_broker), commands._topic, b"key", b"two")
    assert read(commands, 1, seconds=60.0) == [b"two"]


# -- one daemon -----------------------------------------------------------------------------------------------


def answers(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    """What was answered, in the order of the topic; a repeated id once."""
    found = [json.loads(record.value) for record in everything(bootstrap, topic)]
    known = {event["id"]: event["data"] for event in found if event["type"] == "nuwatch.answer.v1"}
    return list(known.values())


def wait(enough: Callable[[], bool], what: Callable[[], str], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not enough():
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)


def test_a_daemon_takes_commands_from_the_topic_refuses_bad_ones_and_a_replay_repeats_it(
    kafka_broker: AnyBroker, tmp_path: Path, launcher: Launcher, new_topic: Callable[..., str]
) -> None:
    control = new_topic()
    plant = Rig(kafka_broker, tmp_path, launcher, 160, seed=5)
    place = plant.disturbed
    config = place.folder / "plant.yaml"
    config.write_text(config.read_text() + f"control: {{topic: {control}}}\n")
    life = plant.start()

    def answered(count: int) -> None:
        wait(
            lambda: len(answers(kafka_broker.bootstrap, place.topics["thresholds"])) >= count,
            lambda: place.log[-3000:],
        )

    good = config.read_text()
    plant.feed(80)
    wait(lambda: plant.positions() == plant.ends(), lambda: place.log[-3000:])
    produce(kafka_broker.bootstrap, control, [(None, b"no command", 0)])
    config.write_text(good.replace("sampling: 1s", "sampling: 2s"))
    nuwatch(place.folder, "apply", "plant.yaml", "--by", "J. Roe", "--any-bundle")
    answered(2)
    config.write_text(good.replace("on_delay: 2s", "on_delay: 6s"))
    nuwatch(place.folder, "apply", "plant.yaml", "--by", "J. Roe")
    config.write_text(good)
    answered(5)  # a beginning in each of three partitions
    nuwatch(place.folder, "decide", "rollback", "plant/1", "--config", "plant.yaml", "--by", "J. Roe")
    plant.feed(40)
    answered(6)
    assert life.end(signal.SIGKILL) != 0
    plant.feed(40)
    plant.finish()

    told = answers(kafka_broker.bootstrap, place.topics["thresholds"])
    kinds = [(each["outcome"], each["kind"], each["control"]) for each in told]
    assert sorted(kinds, key=str) == sorted(
        [
            ("REFUSED", None, 0),
            ("REFUSED", "configuration", 1),
            *[("APPLIED", "configuration", 2)] * 3,
            ("REFUSED", "decision", 3),
        ],
        key=str,
    )
    assert (
        "cannot change while the daemon runs" in told[[each["control"] for each in told].index(1)]["reason"]
    )
    letters = everything(kafka_broker.bootstrap, place.topics["dead_letter"])
    mine = [r for r in letters if dict(r.headers)["x-error-topic"] == control.encode()]
    assert [record.value for record in mine] == [b"no command"]

    nuwatch(place.folder, "state", "export", "journal.jsonl", "--config", "plant.yaml")
    config.write_text(good.replace("max_poll_records: 25", "until: end"))
    nuwatch(place.folder, "replay", "plant.yaml", "--journal", "journal.jsonl", "--alerts", "replayed.jsonl")
    replayed = [json.loads(line) for line in (place.folder / "replayed.jsonl").read_text().splitlines()]
    live, _ = plant._published(place, "alerts")
    hidden = configuration_hash(config.read_text())

    def shown(data: Any) -> str:
        return json.dumps(data, sort_keys=True)

    assert {name: shown(json.loads(body)["data"]).replace(hidden, "-") for name, body in live.items()} == {
        event["id"]: shown(event["data"]).replace(hidden, "-") for event in replayed
    }
    assert len({e["data"]["model"]["config"] for e in replayed if e["data"]["model"]}) == 2
