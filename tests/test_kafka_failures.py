"""The Kafka source and sink when bytes are damaged, and when the broker dies."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from connectors.errors import SinkError, SourceError
from connectors.kafka import KafkaSink, KafkaSourceSettings, SinkTopics, corrupt
from connectors.records import Reason
from tests.broker import AnyBroker, Broker, DockerBroker, produce
from tests.damage import damage, edit, with_codec, with_value
from tests.kafka_reader import Reader, alert, everything

pytestmark = pytest.mark.kafka

# -- damage -------------------------------------------------------------------------------------------------


def test_a_batch_with_a_wrong_checksum_is_passed_reported_with_its_bytes_and_nothing_else_is_lost(
    disk_broker: Broker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic(2)
    bootstrap = disk_broker.bootstrap
    produce(bootstrap, topic, [(b"k", b"first", 0), (b"k", b"other", 1)])
    produce(bootstrap, topic, [(b"k", b"second-a", 0), (b"k", b"second-b", 0)], linger_ms=200)
    produce(bootstrap, topic, [(b"k", b"third", 0)])
    damage(disk_broker, topic, b"second-b", b"second-X")
    got = kafka_reader(topic).open()
    got.poll_until(lambda: {b"third", b"other"} <= {record.value for record in got.tape.records})
    rejected = [one for polled in got.polled for one in polled.rejected]
    assert got.tape.values(0) == [b"first", b"third"]
    assert got.tape.values(1) == [b"other"]
    assert [(one.record.offset, one.record.value, one.reason) for one in rejected] == [
        (1, b"second-a", Reason.CORRUPT),
        (2, b"second-X", Reason.CORRUPT),
    ]
    assert "failed crc check" in rejected[0].detail
    assert sum(polled.records for polled in got.polled) == 5


def test_a_batch_that_cannot_be_unpacked_is_passed_offset_by_offset(
    disk_broker: Broker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic()
    bootstrap = disk_broker.bootstrap
    produce(bootstrap, topic, [(None, b"first")])
    many = [(None, b"x" * 100)] * 3
    produce(bootstrap, topic, many, compression_type="gzip", linger_ms=200)
    produce(bootstrap, topic, [(None, b"last")])
    damage(disk_broker, topic, b"\x1f\x8b\x08", b"\x00\x00\x00")  # no longer a gzip header
    got = kafka_reader(topic).open()
    got.poll_until(lambda: b"last" in got.tape.values())
    rejected = [one for polled in got.polled for one in polled.rejected]
    assert got.tape.values() == [b"first", b"last"]
    assert [(one.record.offset, one.record.value) for one in rejected] == [(1, None), (2, None), (3, None)]
    assert got.polled[-1].position == 5


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_a_batch_that_would_unpack_beyond_the_bound_is_passed_as_too_large(
    kafka_broker: AnyBroker,
    new_topic: Callable[..., str],
    kafka_reader: Callable[..., Reader],
    compression: str,
) -> None:
    topic = new_topic(1, {"max.message.bytes": str(2**22)})
    bootstrap = kafka_broker.bootstrap
    bomb = [(b"k", b"0" * 2**23), (b"k", b"beside it")]
    produce(bootstrap, topic, [(b"k", b"first")])
    produce(bootstrap, topic, bomb, compression_type=compression, linger_ms=200, batch_size=2**24)
    produce(bootstrap, topic, [(b"k", b"last")])
    got = kafka_reader(topic, max_unpacked_bytes=2**20).open()
    got.poll_until(lambda: b"last" in got.tape.values())
    rejected = [one for polled in got.polled for one in polled.rejected]
    assert got.tape.values() == [b"first", b"last"]
    assert [(one.record.offset, one.record.value, one.reason) for one in rejected] == [
        (1, None, Reason.TOO_LARGE),
        (2, None, Reason.TOO_LARGE),
    ]
    assert "unpacks to" in rejected[0].detail


def test_a_batch_of_an_unknown_codec_is_passed_with_its_offsets(
    disk_broker: Broker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic()
    produce(disk_broker.bootstrap, topic, [(None, b"first")])
    produce(disk_broker.bootstrap, topic, [(None, b"a"), (None, b"b")], linger_ms=200)
    produce(disk_broker.bootstrap, topic, [(None, b"last")])
    edit(disk_broker, topic, lambda log: with_codec(log, batch=1, codec=7))
    got = kafka_reader(topic).open()
    got.poll_until(lambda: b"last" in got.tape.values())
    rejected = [one for polled in got.polled for one in polled.rejected]
    assert got.tape.values() == [b"first", b"last"]
    assert [(one.record.offset, one.reason) for one in rejected] == [(1, Reason.CORRUPT), (2, Reason.CORRUPT)]


def test_a_topic_with_nothing_but_damage_is_passed_to_its_end(
    disk_broker: Broker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic()
    for number in range(4):
        produce(disk_broker.bootstrap, topic, [(None, b"%d" % number)] * 3, linger_ms=200)
    edit(disk_broker, topic, lambda log: with_codec(with_codec(log, 0, 7), 1, 7))
    edit(disk_broker, topic, lambda log: with_value(with_value(log, 2), 3))
    got = kafka_reader(topic).open()
    got.poll_until(lambda: bool(got.polled) and got.polled[-1].position == 12)
    rejected = [one for polled in got.polled for one in polled.rejected]
    assert got.tape.values() == []
    assert [one.record.offset for one in rejected] == list(range(12))
    assert {one.reason for one in rejected} == {Reason.CORRUPT}
    produce(disk_broker.bootstrap, topic, [(None, b"sound")])
    assert got.poll_until(lambda: bool(got.tape.records)).tape.values() == [b"sound"]


def test_where_that_is_asked_damage_stops_the_source_in_front_of_it(
    disk_broker: Broker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic()
    produce(disk_broker.bootstrap, topic, [(None, b"first")])
    produce(disk_broker.bootstrap, topic, [(None, b"second")])
    edit(disk_broker, topic, lambda log: with_value(log, 1))
    got = kafka_reader(topic, damaged="stop").open().poll_records(1)
    with pytest.raises(SourceError, match="partition 0 offset 1: the records cannot be unpacked, twice"):
        got.poll_records(2)
    assert [polled.position for polled in got.polled] == [1]


def test_only_what_fails_a_second_time_counts_as_damage(
    kafka_broker: AnyBroker, new_topic: Callable[..., str]
) -> None:
    topic = new_topic()
    produce(kafka_broker.bootstrap, topic, [(None, b"sound")])
    settings = KafkaSourceSettings(bootstrap_servers=(kafka_broker.bootstrap,), topic=topic)
    assert corrupt.find(settings, {0: 0}) == []


def test_errors_of_network_rights_and_positions_are_no_sign_of_damage() -> None:
    import kafka.errors

    assert corrupt.is_unpacking(kafka.errors.CorruptRecordError("crc"))
    assert corrupt.is_unpacking(kafka.errors.UnsupportedCodecError("codec"))
    assert corrupt.is_unpacking(OSError("not a gzip file"))
    for kind in ("KafkaTimeoutError", "KafkaConnectionError", "TopicAuthorizationFailedError"):
        assert not corrupt.is_unpacking(getattr(kafka.errors, kind)("no"))


def test_a_partition_that_stands_still_with_records_behind_it_gets_a_new_connection(
    kafka_broker: AnyBroker,
    new_topic: Callable[..., str],
    kafka_reader: Callable[..., Reader],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topic = new_topic()
    produce(kafka_broker.bootstrap, topic, [(None, b"1")])
    got = kafka_reader(topic, check_seconds=0.1, stall_seconds=0.3).open().poll_records(1)
    monkeypatch.setattr(got.source._consumer, "poll", lambda **_: {})  # as some client releases did
    produce(kafka_broker.bootstrap, topic, [(None, b"2")])
    assert got.poll_records(2).tape.values() == [b"1", b"2"]


# -- a broker that dies -------------------------------------------------------------------------------------


def test_source_and_sink_go_on_after_the_broker_was_killed_without_loss_or_duplicates(
    own_broker: Broker | DockerBroker,
    new_topic: Callable[..., str],
    kafka_reader: Callable[..., Reader],
    kafka_sink: Callable[..., KafkaSink],
    kafka_topics: SinkTopics,
) -> None:
    topic = new_topic()
    produce(own_broker.bootstrap, topic, [(None, b"1")])
    got = kafka_reader(topic, check_seconds=1.0, group=f"g-{topic}").open().poll_records(1)
    out = kafka_sink()
    out.open()
    out.emit([alert(1)])
    out.flush(10.0)
    own_broker.kill()
    out.emit([alert(2)])
    assert list(got.source.poll(0.5)) == []
    got.source.commit({0: 1})
    with pytest.raises(SinkError, match=r"record incident:0002 was not accepted"):
        out.flush(1.0)
    out.emit([alert(3)])
    own_broker.revive()
    assert sum(out.flush(30.0)[name] for name in ("alerts/0", "alerts/1")) == 3
    produce(own_broker.bootstrap, topic, [(None, b"2")])
    assert got.poll_records(2).tape.values() == [b"1", b"2"]
    ids = [
        dict(record.headers)["nuwatch-id"] for record in everything(own_broker.bootstrap, kafka_topics.alerts)
    ]
    assert ids == [b"incident:0001", b"incident:0002", b"incident:0003"]


def test_a_source_gives_up_when_the_broker_stays_away_and_both_ends_close_without_it(
    own_broker: Broker | DockerBroker,
    new_topic: Callable[..., str],
    kafka_reader: Callable[..., Reader],
    kafka_sink: Callable[..., KafkaSink],
) -> None:
    threads = threading.active_count()
    got = kafka_reader(new_topic(), check_seconds=0.2, retry_seconds=1.0, group="g").open()
    out = kafka_sink()
    out.open()
    own_broker.kill()
    try:
        out.emit([alert(1)])
        with pytest.raises(SourceError, match=r"could not be read for \d+ s"):
            got.poll_records(1)
        got.source.commit({0: 0})
        got.source.close()
        out.close()
        assert threading.active_count() == threads
    finally:
        own_broker.revive()
