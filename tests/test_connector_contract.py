"""One contract for every source and every sink: what the pipeline may rely on, whatever stands behind the port."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from connectors.codec import Codec
from connectors.file_sink import FilesSink, FilesSinkSettings
from connectors.files import FilesSource, FilesSourceSettings
from connectors.memory import MemorySink, MemorySource
from connectors.ports import Rewind, Sink, Source, Start
from connectors.records import Channel, Context, OutRecord, Polled, RawRecord, Reason
from tests.payloads import LAYOUT

FIRST_MS = 1_795_310_036_000


def _messages() -> list[dict[str, Any]]:
    """60 messages in all JSON forms, one second apart, every fifteenth of them unusable."""
    messages: list[dict[str, Any]] = []
    for number in range(60):
        head: dict[str, Any] = {"asset": f"poly2/R-{number % 3}", "ts": FIRST_MS + 1000 * number}
        if number % 15 == 14:
            body: dict[str, Any] = {"values": {"humidity": 1}}
        elif number % 4 == 1:
            body = {"sensor": "pressure", "value": number / 7, "quality": "Uncertain", "unit": "kPa{gauge}"}
        elif number % 4 == 2:
            head["ts"] = [head["ts"], head["ts"] + 500]
            body = {"values": {"temperature": [number / 3, None], "pressure": [1, 2]}}
        else:
            body = {
                "values": {"temperature": 0.1 * number, "pressure": None, "reaction_time": -0.0},
                "quality": {"pressure": "BAD"},
                "batch": {"batch_id": f"B-{number // 10}", "phase": "REACT", "phase_started": FIRST_MS},
            }
        messages.append(head | body)
    return messages


RECORDS = [
    RawRecord(0, offset, message["asset"].encode(), json.dumps(message).encode(), FIRST_MS + 1000 * offset)
    for offset, message in enumerate(_messages())
]
BAD_OFFSETS = [14, 29, 44, 59]

Row = tuple[str, int, bytes, bytes, Context]


def rows(polls: Sequence[Polled]) -> list[Row]:
    """Every row with its values and qualities as bytes, so that equal means bit for bit."""
    return [
        (
            batch.assets[batch.asset[row]],
            int(batch.time[row]),
            batch.values[row].tobytes(),
            batch.quality[row].tobytes(),
            batch.contexts[batch.context[row]],
        )
        for polled in polls
        for batch in polled.batches
        for row in range(len(batch.time))
    ]


EXPECTED = rows([Codec(LAYOUT).poll(RECORDS)])
"""What one decode of all records gives; its content is checked by hand in test_codec."""


def opened(source: Source, position: int | None = None, start: Start = "earliest") -> Source:
    source.open(lambda _: position, start)
    return source


def drained(source: Source) -> list[Polled]:
    polls: list[Polled] = []
    for _ in range(1000):
        if source.exhausted:
            return polls
        polls += source.poll(0.2)
    raise AssertionError("the source was never exhausted")


MakeSource = Callable[[], Source]


@pytest.fixture(
    params=[
        "memory, records",
        "memory, batches",
        "files",
        pytest.param("kafka", marks=pytest.mark.kafka),
    ]
)
def make_source(request: pytest.FixtureRequest, tmp_path: Path) -> MakeSource:
    """Makes sources of RECORDS in one partition, cut into polls of at most 7 records."""
    if request.param == "memory, records":
        return lambda: MemorySource(RECORDS, LAYOUT, cuts=[3, 1, 7])
    if request.param == "memory, batches":
        batches = Codec(LAYOUT).decode(RECORDS).batches
        return lambda: MemorySource(batches, cuts=[3, 1, 7])
    if request.param == "files":
        for name, part in (("1", RECORDS[:25]), ("2", RECORDS[25:])):
            lines = b"".join((record.value or b"") + b"\n" for record in part)
            (tmp_path / f"{name}.jsonl").write_bytes(lines)
        settings = FilesSourceSettings(paths=("*.jsonl",), format="messages", rows_per_poll=7)
        return lambda: FilesSource(settings, LAYOUT, tmp_path)
    return _kafka_source(request)


def _kafka_source(request: pytest.FixtureRequest) -> MakeSource:
    broker, new_topic = request.getfixturevalue("kafka_broker"), request.getfixturevalue("new_topic")
    from connectors.kafka import KafkaSource, KafkaSourceSettings
    from tests.broker import produce

    topic = new_topic()
    times = [record.timestamp_ms for record in RECORDS]
    produce(broker.bootstrap, topic, [(record.key, record.value) for record in RECORDS], timestamps_ms=times)
    settings = KafkaSourceSettings(
        bootstrap_servers=(broker.bootstrap,), topic=topic, until="end", max_poll_records=7
    )
    return lambda: KafkaSource(settings, Codec(LAYOUT))


def test_every_source_gives_the_same_rows_bit_for_bit(make_source: MakeSource) -> None:
    source = opened(make_source())
    assert rows(drained(source)) == EXPECTED
    source.close()


@pytest.mark.parametrize("seconds", [0, 10, 1000])
def test_a_rewound_partition_begins_so_much_earlier_and_misses_nothing_from_there(
    make_source: MakeSource, seconds: int
) -> None:
    """It stood at 40, a second a record; records are stamped with their event time. Files begin at their beginning."""
    first = opened(make_source())
    whole = drained(first)
    first.close()
    stood = whole[len(whole) // 2].position
    at_stood = [row[1] for row in rows(whole) if row[1] < FIRST_MS * 10**6 + stood * 10**9]
    source = make_source()
    source.open(lambda _: Rewind(stood, seconds * 10**9), "latest")
    found = rows(drained(source))
    assert found == EXPECTED[len(EXPECTED) - len(found) :]
    assert min(row[1] for row in found) <= max(max(at_stood) - seconds * 10**9, FIRST_MS * 10**6)
    assert source.rewound.get(0, stood) == stood
    source.close()


def test_what_is_read_has_a_name_while_positions_are_asked_for(make_source: MakeSource) -> None:
    source = make_source()
    names: list[str] = []

    def position(_: int) -> None:
        names.append(source.input.name)

    source.open(position, "earliest")
    assert names
    assert all(names)
    assert source.input.partitions in (0, 1)
    source.close()


def test_polls_are_cut_small_and_their_positions_ascend(make_source: MakeSource) -> None:
    source = opened(make_source())
    polls = drained(source)
    positions = [polled.position for polled in polls]
    assert positions == sorted(set(positions))
    assert {polled.partition for polled in polls} == {0}
    assert max(polled.records for polled in polls) <= 7
    assert all(batch.offset[-1] < polled.position for polled in polls for batch in polled.batches)
    source.close()


def test_bad_records_are_reported_once_with_their_bytes(make_source: MakeSource, request: Any) -> None:
    bad = [] if "batches" in request.node.callspec.id else BAD_OFFSETS  # a batch holds decoded rows only
    source = opened(make_source())
    rejected = [each for polled in drained(source) for each in polled.rejected]
    assert [each.record.offset for each in rejected] == bad
    assert [each.record.value for each in rejected] == [RECORDS[offset].value for offset in bad]
    assert {each.reason for each in rejected} <= {Reason.UNKNOWN_SENSOR}
    source.close()


def test_every_position_that_a_source_gave_resumes_exactly(make_source: MakeSource) -> None:
    source = opened(make_source())
    polls = drained(source)
    source.close()
    for number, polled in list(enumerate(polls))[::3]:
        again = opened(make_source(), polled.position)
        assert rows(drained(again)) == rows(polls[number + 1 :])
        again.close()


def test_a_position_before_the_first_record_gives_everything(make_source: MakeSource) -> None:
    source = opened(make_source(), 0, "latest")
    assert rows(drained(source)) == EXPECTED
    source.close()


def test_latest_starts_behind_what_is_there(make_source: MakeSource) -> None:
    source = opened(make_source(), None, "latest")
    assert drained(source) == []
    source.close()


def test_a_time_starts_at_the_first_record_of_that_time(make_source: MakeSource) -> None:
    source = opened(make_source(), None, (FIRST_MS + 20_000) * 1_000_000)
    wanted = [row for row in EXPECTED if row[1] >= (FIRST_MS + 20_000) * 1_000_000]
    assert rows(drained(source)) == wanted
    source.close()


def test_a_paused_source_brings_nothing_and_loses_nothing(make_source: MakeSource) -> None:
    source = opened(make_source())
    polls: list[Polled] = []
    while not polls:
        polls += source.poll(0.2)
    source.pause()
    assert [list(source.poll(0.05)) for _ in range(3)] == [[], [], []]
    source.resume()
    assert rows(polls + drained(source)) == EXPECTED
    source.close()


def test_commit_changes_nothing_that_a_source_brings(make_source: MakeSource) -> None:
    source = opened(make_source())
    polls: list[Polled] = []
    while not source.exhausted:
        polls += source.poll(0.2)
        if polls:
            source.commit({0: polls[-1].position})
    assert rows(polls) == EXPECTED
    source.close()


def test_an_exhausted_source_has_no_lag_and_brings_nothing(make_source: MakeSource) -> None:
    source = opened(make_source())
    assert source.lag in {None, len(RECORDS), len(EXPECTED)}
    drained(source)
    assert source.lag == 0
    assert list(source.poll(0)) == []
    source.close()


def test_a_source_may_be_closed_twice(make_source: MakeSource) -> None:
    source = opened(make_source())
    source.poll(0)
    source.close()
    source.close()


def test_a_source_that_was_never_opened_may_be_closed(make_source: MakeSource) -> None:
    make_source().close()


# sinks


OUT = [
    OutRecord(Channel.ALERTS, "a:0001", b"poly2/R-1", b'{"id":"a:0001"}', (("ce_type", b"x"),)),
    OutRecord(Channel.ALERTS, "a:0002", b"poly2/R-1", b'{"id":"a:0002"}'),
    OutRecord(
        Channel.DEAD_LETTER, "d:1", None, b"\xff\x00 no json\n", (("reason", b"MALFORMED"), ("raw", b"\xff"))
    ),
    OutRecord(Channel.DEAD_LETTER, "d:2", b"\xfe", None),
    OutRecord(Channel.THRESHOLDS, "t:1", b"poly2/R-1", b'{"nu": 0.01}'),
    OutRecord(Channel.ALERTS, "b:0001", b"poly2/R-2", b'{"id":"b:0001"}'),
]
IDS = {record.id for record in OUT}

MakeSink = Callable[[], Sink]


@pytest.fixture(params=["memory", "files", pytest.param("kafka", marks=pytest.mark.kafka)])
def make_sink(request: pytest.FixtureRequest, tmp_path: Path) -> MakeSink:
    """Makes sinks onto the same outside: the second one finds what the first one published."""
    if request.param == "memory":
        sink = MemorySink()
        return lambda: sink
    if request.param == "files":
        return lambda: FilesSink(FilesSinkSettings(directory="out"), tmp_path)
    broker, new_topic = request.getfixturevalue("kafka_broker"), request.getfixturevalue("new_topic")
    from connectors.kafka import KafkaSink, KafkaSinkSettings, SinkTopics

    topics = SinkTopics(alerts=new_topic(), thresholds=new_topic(), dead_letter=new_topic())
    settings = KafkaSinkSettings(bootstrap_servers=(broker.bootstrap,), topics=topics)
    return lambda: KafkaSink(settings)


def test_what_was_flushed_is_found_by_the_next_sink(make_sink: MakeSink) -> None:
    first = make_sink()
    ends = first.open()
    first.emit(OUT[:4])
    first.emit(OUT[4:])
    first.flush(30)
    first.close()
    second = make_sink()
    second.open()
    assert second.ids_after(ends) == IDS
    assert second.ids_after({}) == IDS
    second.close()


def test_ids_are_those_behind_the_ends_that_a_flush_gave(make_sink: MakeSink) -> None:
    sink = make_sink()
    sink.open()
    sink.emit(OUT[:3])
    ends = sink.flush(30)
    sink.emit(OUT[3:])
    last = sink.flush(30)
    sink.close()
    again = make_sink()
    assert again.open() == last
    assert again.ids_after(ends) == {record.id for record in OUT[3:]}
    assert again.ids_after(last) == set()
    again.close()


def test_a_record_may_be_published_twice(make_sink: MakeSink) -> None:
    sink = make_sink()
    ends = sink.open()
    sink.emit(OUT[:1])
    sink.emit(OUT[:1])
    sink.flush(30)
    assert sink.ids_after(ends) == {"a:0001"}
    sink.close()


def test_what_a_channel_has_is_read_back_in_order_and_other_channels_are_not(make_sink: MakeSink) -> None:
    sink = make_sink()
    sink.open()
    sink.emit([OutRecord(Channel.ALERTS, f"it:{n:04d}", b"R-101", b'{"n":%d}' % n) for n in range(3)])
    sink.flush(10.0)
    assert list(sink.published(Channel.ALERTS)) == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
    assert list(sink.published(Channel.THRESHOLDS)) == []
    sink.close()


def test_a_flush_of_nothing_keeps_the_ends(make_sink: MakeSink) -> None:
    sink = make_sink()
    ends = sink.open()
    assert sink.flush(30) == ends
    sink.close()


def test_a_sink_may_be_closed_twice(make_sink: MakeSink) -> None:
    sink = make_sink()
    sink.open()
    sink.close()
    sink.close()
