"""The Kafka source and sink against a real broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition

from connectors.errors import OffsetGone, PartitionsChanged, SinkError, SourceError
from connectors.kafka import (
    KafkaSink,
    KafkaSinkSettings,
    KafkaSource,
    KafkaSourceSettings,
    SecretFrom,
    Security,
    SinkTopics,
    check_broker,
    client,
    sample,
)
from connectors.records import Channel, Lost, OutRecord, Polled, RawRecord, Reason
from tests.broker import PASSWORD, USER, AnyBroker, Broker, delete_topic, free_port, produce
from tests.kafka_reader import Reader, Tape, alert, everything, nowhere

pytestmark = pytest.mark.kafka


# -- the source ---------------------------------------------------------------------------------------------


def test_records_come_with_their_bytes_position_time_and_headers(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic()
    records = [(b"R-101", b"one"), (None, b"bad"), (b"R-102", None)]
    produce(
        kafka_broker.bootstrap, topic, records, headers=[("h", b"\x00\xff")], timestamps_ms=[1000, 3000, 2000]
    )
    got = kafka_reader(topic).open().poll_records(3)
    assert got.tape.records == [
        RawRecord(0, 0, b"R-101", b"one", 1000, (("h", b"\x00\xff"),)),
        RawRecord(0, 1, None, b"bad", 3000, (("h", b"\x00\xff"),)),
        RawRecord(0, 2, b"R-102", None, 2000, (("h", b"\x00\xff"),)),
    ]
    assert sum(polled.records for polled in got.polled) == 3
    assert [one.reason for polled in got.polled for one in polled.rejected] == [Reason.MALFORMED]
    assert got.polled[-1].position == 3
    assert max(polled.newest_ms for polled in got.polled) == 3000


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_every_compression_of_kafka_is_read(
    kafka_broker: AnyBroker,
    new_topic: Callable[..., str],
    kafka_reader: Callable[..., Reader],
    compression: str,
) -> None:
    topic = new_topic()
    values = [bytes([number]) * 20_000 for number in range(80)]
    sent = [(b"k", value) for value in values]
    produce(kafka_broker.bootstrap, topic, sent, compression_type=compression, batch_size=2**22, linger_ms=50)
    assert kafka_reader(topic).open().poll_records(80).tape.values() == values


def test_the_order_within_a_partition_is_kept_and_a_poll_is_bounded(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic(3)
    sent = [(b"k", str(number).encode(), number % 3) for number in range(300)]
    produce(kafka_broker.bootstrap, topic, sent)
    got = kafka_reader(topic, max_poll_records=7).open().poll_records(300)
    for partition in range(3):
        assert got.tape.values(partition) == [str(number).encode() for number in range(partition, 300, 3)]
    assert max(polled.records for polled in got.polled) <= 7
    assert got.source.partitions == (0, 1, 2)


def test_a_stored_position_is_where_reading_goes_on(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic(2)
    produce(kafka_broker.bootstrap, topic, [(None, bytes([number]), number % 2) for number in range(10)])
    got = kafka_reader(topic).open({0: 3, 1: 5}, "earliest").poll_records(2)
    assert got.tape.values(0) == [bytes([6]), bytes([8])]
    assert got.tape.values(1) == []


def test_without_a_stored_position_the_start_decides(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic(2)
    sent = [(None, bytes([number]), number % 2) for number in range(10)]
    produce(kafka_broker.bootstrap, topic, sent, timestamps_ms=[1000 * number for number in range(10)])
    late = kafka_reader(topic).open(start="latest")
    timed = kafka_reader(topic).open({1: 0}, 5_000_000_001)  # just after 5 s: 6 s and 8 s in partition 0
    never = kafka_reader(topic).open(start=10**15)
    produce(kafka_broker.bootstrap, topic, [(None, b"new", 0)])
    assert late.poll_records(1).tape.values() == [b"new"]
    assert never.poll_records(1).tape.values() == [b"new"]
    timed.poll_records(8)
    assert timed.tape.values(0)[-3:] == [bytes([6]), bytes([8]), b"new"]
    assert len(timed.tape.values(1)) == 5


def test_records_that_were_deleted_before_a_stored_position_came_to_them_are_told_as_lost(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic()
    produce(kafka_broker.bootstrap, topic, [(None, b"x")] * 10)
    delete_before(kafka_broker.bootstrap, topic, 6)
    got = kafka_reader(topic).open({0: 2}).poll_records(4)
    assert got.polled[0] == Polled(0, 6, (), counts=(("OFFSETS_LOST", 4),), lost=Lost(2, 6))
    assert [polled.lost for polled in got.polled[1:]] == [None] * len(got.polled[1:])
    assert [record.offset for record in got.tape.records] == [6, 7, 8, 9]


def test_a_position_behind_the_topics_end_is_an_offset_that_is_gone(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic()
    produce(kafka_broker.bootstrap, topic, [(None, b"x")] * 3)
    with pytest.raises(OffsetGone, match="offset 4 is not in the topic, which holds 0 to 3"):
        kafka_reader(topic).open({0: 4})


def test_records_deleted_while_reading_are_told_as_lost_and_reading_goes_on(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic()
    produce(kafka_broker.bootstrap, topic, [(None, b"x")] * 3)
    got = kafka_reader(topic).open().poll_records(3)
    got.source.pause()
    produce(kafka_broker.bootstrap, topic, [(None, b"x")] * 5)
    delete_before(kafka_broker.bootstrap, topic, 7)
    got.source.resume()
    got.poll_records(4)
    assert [(polled.lost, polled.position) for polled in got.polled if polled.lost] == [(Lost(3, 7), 7)]
    assert [record.offset for record in got.tape.records] == [0, 1, 2, 7]


def delete_before(bootstrap: str, topic: str, offset: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.delete_records({TopicPartition(topic, 0): offset})
    admin.close()


def test_a_paused_source_brings_nothing_and_loses_nothing(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic(2)
    produce(kafka_broker.bootstrap, topic, [(None, b"0", 0), (None, b"1", 1)])
    got = kafka_reader(topic).open().poll_records(2)
    got.source.pause()
    produce(kafka_broker.bootstrap, topic, [(None, b"2", 0), (None, b"3", 1)])
    assert [list(got.source.poll(0.2)) for _ in range(5)] == [[]] * 5
    got.source.resume()
    got.poll_records(4)
    assert (got.tape.values(0), got.tape.values(1)) == ([b"0", b"2"], [b"1", b"3"])


def test_what_the_client_has_fetched_ahead_is_told_in_bytes_with_its_bound(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic(4)
    produce(kafka_broker.bootstrap, topic, [(None, b"x" * 1000, number % 4) for number in range(400)])
    got = kafka_reader(topic, max_poll_records=1)
    assert got.source.queues == ()
    got.open()
    sizes = list[int]()
    for count in range(1, 401):
        got.poll_records(count)
        (queue,) = got.source.queues
        assert (queue.name, queue.limit) == ("fetched", 4 * 2**20)
        sizes.append(queue.size)
    assert 1000 < max(sizes) <= 4 * 2**20
    assert sizes[-1] == 0


def test_the_lag_is_what_is_still_to_come(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic(2)
    produce(kafka_broker.bootstrap, topic, [(None, b"x", number % 2) for number in range(10)])
    got = kafka_reader(topic, max_poll_records=4)
    assert got.source.lag is None
    assert got.source.end(0) is None
    assert got.open({0: 2}).source.lag == 8
    assert [got.source.end(partition) for partition in range(3)] == [5, 5, None]
    assert got.poll_records(1).source.lag == 8 - len(got.tape.records)
    assert got.poll_records(8).source.lag == 0


def test_committed_positions_reach_the_group_and_never_steer_the_source(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic()
    produce(kafka_broker.bootstrap, topic, [(None, b"x")] * 10)
    got = kafka_reader(topic, group=f"group-of-{topic}").open().poll_records(10)
    got.source.commit({0: 4})
    got.source.close()
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap)
    try:
        offsets = admin.list_group_offsets([f"group-of-{topic}"])
    finally:
        admin.close()
    assert "offset=4" in repr(offsets).replace("'offset': 4", "offset=4")
    again = kafka_reader(topic, group=f"group-of-{topic}").open().poll_records(10)
    assert again.tape.records[0].offset == 0


def test_closing_twice_and_before_opening_is_allowed(
    new_topic: Callable[..., str], kafka_reader: Callable[..., Reader], kafka_sink: Callable[..., KafkaSink]
) -> None:
    source = kafka_reader(new_topic()).source
    source.close()
    source.open(nowhere, "earliest")
    source.close()
    source.close()
    with pytest.raises(SourceError, match="not open"):
        source.poll(0.0)
    out = kafka_sink()
    out.close()
    out.open()
    out.close()
    out.close()
    with pytest.raises(SinkError, match="not open"):
        out.flush(1.0)


def test_a_missing_topic_is_named_with_what_may_have_been_meant(
    new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic()
    with pytest.raises(SourceError, match=rf"topic '{topic}s' does not exist.*did you mean '{topic}'"):
        kafka_reader(topic + "s").open()


def test_a_broker_that_does_not_answer_is_an_error_with_its_address() -> None:
    address = f"127.0.0.1:{free_port()}"
    source = KafkaSource(
        KafkaSourceSettings(bootstrap_servers=(address,), topic="t", connect_seconds=0.5), Tape()
    )
    with pytest.raises(SourceError, match=f"{address}.*hint: does a broker listen"):
        source.open(nowhere, "earliest")
    with pytest.raises(SinkError, match=f"{address}.*hint: does a broker listen"):
        KafkaSink(KafkaSinkSettings(bootstrap_servers=(address,), connect_seconds=0.5)).open()


def test_more_partitions_than_at_the_start_stop_the_source_with_an_explanation(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic(1)
    got = kafka_reader(topic, check_seconds=0.3).open()
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap)
    admin.create_partitions({topic: 3})
    admin.close()
    with pytest.raises(PartitionsChanged, match=r"has 3 partitions, and had 1: .*hint:"):
        got.poll_records(1)


# -- a part of a topic's history ----------------------------------------------------------------------------


def test_a_bounded_reading_ends_with_the_end_that_each_partition_had_when_it_was_opened(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic(3)  # the third partition stays empty
    produce(kafka_broker.bootstrap, topic, [(None, b"old", number % 2) for number in range(10)])
    got = kafka_reader(topic, until="end", max_poll_records=3).open()
    produce(kafka_broker.bootstrap, topic, [(None, b"new", 0), (None, b"new", 1), (None, b"new", 2)])
    assert (got.source.lag, got.source.exhausted) == (10, False)
    got.poll_until(lambda: got.source.exhausted)
    assert got.tape.values(0) + got.tape.values(1) + got.tape.values(2) == [b"old"] * 10
    assert got.source.lag == 0
    assert list(got.source.poll(5.0)) == []


def test_a_bounded_reading_ends_before_a_time(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    topic = new_topic()
    sent = [(None, bytes([number])) for number in range(10)]
    produce(kafka_broker.bootstrap, topic, sent, timestamps_ms=[1000 * number for number in range(10)])
    got = kafka_reader(topic, until=7_000_000_000).open(start=4_000_000_000)
    got.poll_until(lambda: got.source.exhausted)
    assert got.tape.values() == [bytes([4]), bytes([5]), bytes([6])]


def test_a_bounded_reading_of_nothing_is_exhausted_at_once(
    new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    assert kafka_reader(new_topic(2), until="end").open().source.exhausted
    assert not kafka_reader(new_topic(2)).open().source.exhausted


def test_a_bounded_reading_ends_behind_the_marker_of_a_transaction_and_leaves_out_what_was_aborted(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], kafka_reader: Callable[..., Reader]
) -> None:
    from kafka import KafkaProducer

    topic = new_topic()
    producer = KafkaProducer(bootstrap_servers=kafka_broker.bootstrap, transactional_id=f"tx-{topic}")
    producer.init_transactions()
    for value, finish in ((b"kept", producer.commit_transaction), (b"aborted", producer.abort_transaction)):
        producer.begin_transaction()
        producer.send(topic, value=value).get(timeout=10)
        finish()
    producer.close()
    got = kafka_reader(topic, until="end").open()
    got.poll_until(lambda: got.source.exhausted)
    assert got.tape.values() == [b"kept"]


# -- the sink -----------------------------------------------------------------------------------------------


def test_what_was_flushed_is_in_its_topic_with_key_id_and_content_type(
    kafka_broker: AnyBroker, kafka_topics: SinkTopics, kafka_sink: Callable[..., KafkaSink]
) -> None:
    out = kafka_sink()
    assert out.open() == {"alerts/0": 0, "alerts/1": 0, "thresholds/0": 0, "dead_letter/0": 0}
    dead = OutRecord(Channel.DEAD_LETTER, "d:1", b"k", b"\xff", (("reason", b"MALFORMED"),))
    out.emit([alert(1), alert(2), dead])
    ends = out.flush(10.0)
    assert ends["alerts/0"] + ends["alerts/1"] == 2
    assert (ends["thresholds/0"], ends["dead_letter/0"]) == (0, 1)
    alerts = everything(kafka_broker.bootstrap, kafka_topics.alerts)
    assert [(record.key, record.value) for record in alerts] == [(b"R-101", b"{}")] * 2
    assert len({record.partition for record in alerts}) == 1  # one key, one partition, in order
    assert dict(alerts[0].headers) == {
        "nuwatch-id": b"incident:0001",
        "ce_id": b"incident:0001",
        "content-type": b"application/cloudevents+json; charset=UTF-8",
    }
    (letter,) = everything(kafka_broker.bootstrap, kafka_topics.dead_letter)
    assert (letter.value, letter.headers) == (b"\xff", [("reason", b"MALFORMED"), ("nuwatch-id", b"d:1")])


def test_a_record_without_key_and_value_can_be_published(
    kafka_broker: AnyBroker, kafka_topics: SinkTopics, kafka_sink: Callable[..., KafkaSink]
) -> None:
    out = kafka_sink()
    out.open()
    out.emit([OutRecord(Channel.DEAD_LETTER, "d:1", None, None)])
    out.flush(10.0)
    (letter,) = everything(kafka_broker.bootstrap, kafka_topics.dead_letter)
    assert (letter.key, letter.value) == (None, b"")
    assert dict(letter.headers) == {"nuwatch-id": b"d:1", "nuwatch-null": b"value"}


def test_a_restart_finds_exactly_the_ids_that_were_published_after_its_stored_ends(
    kafka_sink: Callable[..., KafkaSink], kafka_broker: AnyBroker, kafka_topics: SinkTopics
) -> None:
    before = kafka_sink()
    before.open()
    before.emit([alert(1, b"a"), alert(2, b"b")])
    stored = before.flush(10.0)
    before.emit([alert(3, b"a"), alert(4, b"b"), OutRecord(Channel.THRESHOLDS, "v:1", b"a", b"{}")])
    before.flush(10.0)
    produce(kafka_broker.bootstrap, kafka_topics.alerts, [(b"a", b"not ours")])
    after = kafka_sink()
    after.open()
    assert after.ids_after(stored) == {"incident:0003", "incident:0004", "v:1"}
    assert len(after.ids_after({})) == 5
    assert after.ids_after(after.open()) == set()


def test_missing_topics_are_named_and_can_be_created(
    kafka_broker: AnyBroker, new_topic: Callable[..., str]
) -> None:
    there = new_topic()
    names = SinkTopics(alerts=f"{there}-a", thresholds=there, dead_letter=f"{there}-d")
    common: dict[str, Any] = {"bootstrap_servers": (kafka_broker.bootstrap,), "topics": names}
    with pytest.raises(SinkError, match=rf"do not exist.*'{there}-a', '{there}-d'; hint:.*create_topics"):
        KafkaSink(KafkaSinkSettings(**common)).open()
    out = KafkaSink(KafkaSinkSettings(**common, create_topics=True, partitions=3))
    ends = out.open()
    out.close()
    assert [name for name in ends if name.startswith("alerts/")] == ["alerts/0", "alerts/1", "alerts/2"]
    assert [name for name in ends if name.startswith("thresholds/")] == ["thresholds/0"]


def test_a_record_that_is_too_large_for_us_is_refused_by_name(kafka_sink: Callable[..., KafkaSink]) -> None:
    out = kafka_sink(max_record_bytes=1000)
    out.open()
    out.emit([alert(7, value=b"x" * 2000)])
    for _ in range(2):
        with pytest.raises(
            SinkError, match=r"record incident:0007 .*MessageSizeTooLarge.*hint: .*max_record_bytes"
        ):
            out.flush(10.0)


@pytest.fixture
def narrow_topics(new_topic: Callable[..., str]) -> SinkTopics:
    """Topics of which the one of alerts takes 1000 bytes at once."""
    narrow = new_topic(configs={"max.message.bytes": "1000"})
    return SinkTopics(alerts=narrow, thresholds=new_topic(), dead_letter=new_topic())


def test_a_record_that_is_too_large_for_the_topic_is_refused_by_name_and_stays_handed_over(
    narrow_topics: SinkTopics, kafka_sink: Callable[..., KafkaSink]
) -> None:
    out = kafka_sink(topics=narrow_topics)
    out.open()
    out.emit([alert(7), alert(8, value=b"x" * 2000), alert(9)])
    for _ in range(2):
        with pytest.raises(SinkError, match=rf"record incident:0008 .*'{narrow_topics.alerts}'"):
            out.flush(10.0)


def test_a_record_that_is_too_large_goes_out_in_a_shorter_form_and_nothing_else_is_lost_or_reordered(
    kafka_broker: AnyBroker, narrow_topics: SinkTopics
) -> None:
    def shorter(record: OutRecord) -> OutRecord | None:
        value = record.value or b""
        return record._replace(value=value[: len(value) // 2]) if value else None

    settings = KafkaSinkSettings(
        bootstrap_servers=(kafka_broker.bootstrap,), topics=narrow_topics, max_record_bytes=3000
    )
    out = KafkaSink(settings, shorter)
    out.open()
    out.emit([alert(7), alert(8, value=b"x" * 2000), alert(9, value=b"y" * 4000), alert(10)])
    out.flush(20.0)
    out.close()
    last: dict[bytes, bytes] = {}
    for record in everything(kafka_broker.bootstrap, narrow_topics.alerts):
        last[dict(record.headers)["nuwatch-id"]] = record.value
    assert {name[-2:]: len(value) for name, value in last.items()} == {
        b"07": 2,
        b"08": 500,
        b"09": 500,
        b"10": 2,
    }


def test_what_a_missing_topic_refused_is_there_once_the_topic_is(
    kafka_broker: AnyBroker, kafka_topics: SinkTopics, kafka_sink: Callable[..., KafkaSink]
) -> None:
    out = kafka_sink()
    out.open()
    out.emit([alert(1)])
    out.flush(10.0)
    delete_topic(kafka_broker.bootstrap, kafka_topics.alerts)
    out.emit([alert(2), alert(3)])
    with pytest.raises(SinkError, match=rf"record incident:0002 .*'{kafka_topics.alerts}'.*1 other"):
        out.flush(2.0)
    out.emit([alert(4)])
    kafka_broker.create_topic(kafka_topics.alerts, 1)
    out.flush(60.0)
    published = everything(kafka_broker.bootstrap, kafka_topics.alerts)
    ids = [dict(record.headers)["nuwatch-id"][-4:] for record in published]
    assert ids == [b"0002", b"0003", b"0004"]


# -- TLS and passwords --------------------------------------------------------------------------------------


def secured(
    broker: AnyBroker, monkeypatch: pytest.MonkeyPatch, password: str, ca: bool = True
) -> dict[str, Any]:
    if not isinstance(broker, Broker) or not broker.secure_bootstrap:
        pytest.skip("this broker has no secured listener")
    monkeypatch.setenv("NUWATCH_TEST_PASSWORD", password)
    security = Security(
        protocol="SASL_SSL",
        mechanism="SCRAM-SHA-512",
        username=USER,
        password=SecretFrom(env="NUWATCH_TEST_PASSWORD"),
        ca_file=str(broker.ca_file) if ca else None,
    )
    return {"bootstrap_servers": (broker.secure_bootstrap,), "security": security, "connect_seconds": 2.0}


def test_records_pass_through_tls_with_a_scram_user(
    kafka_broker: AnyBroker, kafka_topics: SinkTopics, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = secured(kafka_broker, monkeypatch, PASSWORD)
    out = KafkaSink(KafkaSinkSettings(**settings, topics=kafka_topics))
    out.open()
    out.emit([alert(1)])
    out.flush(10.0)
    out.close()
    tape = Tape()
    source = KafkaSource(
        KafkaSourceSettings(**settings, topic=kafka_topics.alerts, until="end", group=None), tape
    )
    source.open(nowhere, "earliest")
    while not source.exhausted:
        source.poll(0.2)
    source.close()
    assert [record.value for record in tape.records] == [b"{}"]


def test_a_wrong_password_is_an_error_that_says_so_and_does_not_show_it(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = secured(kafka_broker, monkeypatch, "a-wrong-password")
    source = KafkaSource(KafkaSourceSettings(**settings, topic=new_topic()), Tape())
    with pytest.raises(SourceError, match=r"are security\.username and security\.password right") as refused:
        source.open(nowhere, "earliest")
    assert "a-wrong-password" not in str(refused.value)


def test_a_certificate_of_an_unknown_authority_is_not_trusted(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = secured(kafka_broker, monkeypatch, PASSWORD, ca=False)
    source = KafkaSource(KafkaSourceSettings(**settings, topic=new_topic()), Tape())
    with pytest.raises(SourceError):
        source.open(nowhere, "earliest")


# -- looking before going live ------------------------------------------------------------------------------


def test_the_report_on_a_broker_names_topics_partitions_records_and_what_is_missing(
    kafka_broker: AnyBroker, new_topic: Callable[..., str], kafka_topics: SinkTopics
) -> None:
    servers = (kafka_broker.bootstrap,)
    topic = new_topic(4)
    produce(kafka_broker.bootstrap, topic, [(None, b"x", number % 4) for number in range(6)])
    report = check_broker(KafkaSourceSettings(bootstrap_servers=servers, topic=topic))
    assert [(one.name, one.partitions, one.records) for one in report.topics] == [(topic, 4, 6)]
    assert report.problems == ()
    assert check_broker(KafkaSinkSettings(bootstrap_servers=servers, topics=kafka_topics)).problems == ()
    missing = check_broker(KafkaSourceSettings(bootstrap_servers=servers, topic="no-such-topic"))
    assert "'no-such-topic' does not exist" in missing.problems[0]
    unset = KafkaSinkSettings(bootstrap_servers=servers, topics=SinkTopics(alerts="no-such-topic"))
    assert "create_topics: true" in check_broker(unset).problems[0]


def test_a_sample_holds_the_newest_records_of_all_partitions(
    kafka_broker: AnyBroker, new_topic: Callable[..., str]
) -> None:
    topic = new_topic(3)
    sent = [(None, bytes([number]), number % 3) for number in range(12)]
    produce(kafka_broker.bootstrap, topic, sent, timestamps_ms=[1000 * number for number in range(12)])
    settings = KafkaSourceSettings(bootstrap_servers=(kafka_broker.bootstrap,), topic=topic)
    assert [record.value for record in sample(settings, 4)] == [bytes([n]) for n in (8, 9, 10, 11)]
    assert (
        sample(KafkaSourceSettings(bootstrap_servers=(kafka_broker.bootstrap,), topic=new_topic()), 4) == []
    )


def test_a_record_with_a_header_without_a_value_is_read() -> None:
    class Consumed:
        partition, offset, key, value, timestamp = 0, 1, None, b"v", 5
        headers = (("empty", None),)

    assert client.raw(Consumed()) == RawRecord(0, 1, None, b"v", 5, (("empty", b""),))
