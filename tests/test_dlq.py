"""`nuwatch dlq`: dead letters are listed, shown, and sent again with their very bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from connectors.codec import Codec
from connectors.file_sink import FilesSink, FilesSinkSettings, records_in
from connectors.kafka import KafkaSink, KafkaSinkSettings, SinkTopics
from connectors.records import Channel, OutRecord, RawRecord, Reason
from monitor.alerting.dead_letters import Letter, dead_letter, obstacle, parse_letter, sent_again
from monitor.alerting.short_form import shorten
from monitor.cli import nuwatch
from monitor.cli.jobs.dlq import Selection, printable
from monitor.errors import ConfigurationError, UsageError
from monitor.quantities import Instant
from tests.broker import AnyBroker, produce
from tests.kafka_reader import everything
from tests.payloads import LAYOUT, PAYLOADS

TOPIC = "sensors"
RECEIVED = 1_795_310_036_123


def letter_record(
    value: bytes | None,
    reason: Reason = Reason.MALFORMED,
    *,
    offset: int = 7,
    key: bytes | None = b"poly2/R-101",
    headers: tuple[tuple[str, bytes], ...] = (),
    topic: str = TOPIC,
    partition: int = 0,
    **more: Any,
) -> OutRecord:
    record = RawRecord(partition, offset, key, value, RECEIVED, headers)
    return dead_letter(record, reason, "why", topic=topic, version="1.2", **more)


def read(record: OutRecord) -> Letter:
    letter = parse_letter(record.key, record.value, record.headers)
    assert letter is not None
    return letter


# -- what a letter says ---------------------------------------------------------------------------------------


def test_a_letter_says_where_its_record_came_from_and_gives_it_back_unchanged() -> None:
    original = (("trace", b"\x00\xff"), ("x-error-reason", b"OF SOMEBODY ELSE"))
    letter = read(letter_record(b"\xff{", headers=original, time_ns=1_000_000_000))
    assert letter == Letter(
        id="dlq:0:7:1",
        reason="MALFORMED",
        detail="why",
        topic="sensors",
        partition=0,
        offset=7,
        time="1970-01-01T00:00:01Z",
        received="2026-11-22T01:13:56.123Z",
        version="1.2",
        rebuilt=False,
        original_size=None,
        key=b"poly2/R-101",
        value=b"\xff{",
        headers=original,
    )
    again = sent_again(letter)
    assert (again.partition, again.key, again.value) == (0, b"poly2/R-101", b"\xff{")
    assert again.headers == (*original, ("nuwatch-replayed", b"dlq:0:7:1"))


def test_a_letter_that_is_refused_again_names_its_last_refusal_and_keeps_the_mark() -> None:
    first = read(letter_record(b"x", offset=1))
    second = dead_letter(
        sent_again(first)._replace(offset=9), Reason.WRONG_TYPE, "still", topic=TOPIC, version="1.3"
    )
    letter = read(second)
    assert (letter.id, letter.reason, letter.version) == ("dlq:0:9:1", "WRONG_TYPE", "1.3")
    assert letter.headers == (("nuwatch-replayed", b"dlq:0:1:1"),)


def test_the_asset_is_the_one_in_the_body_else_the_key() -> None:
    assert read(letter_record(b'{"asset":"poly2/R-9","ts":', key=b"k")).asset == "k"
    assert read(letter_record(b'{"ts":1,"asset":"poly2/R-9"}', key=b"k")).asset == "poly2/R-9"
    assert read(letter_record(b"[" * 100_000, key=None)).asset == ""


def test_records_of_others_on_the_topic_are_no_letters() -> None:
    assert parse_letter(b"k", b"v", (("trace", b"1"),)) is None
    assert parse_letter(b"k", b"v", (("x-error-reason", b"MALFORMED"),)) is None
    assert parse_letter(b"k", b"v", letter_record(b"v").headers[:3]) is None


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (letter_record(None), "holds no bytes"),
        (shorten(letter_record(b"x" * 5000), 1000), r"was cut to \d+ of 5000 bytes"),
        (letter_record(b"x", topic="elsewhere"), "came from 'elsewhere', the input is 'sensors'"),
    ],
)
def test_a_letter_that_is_not_whole_or_not_of_this_input_stays(record: OutRecord, why: str) -> None:
    import re

    assert re.search(why, obstacle(read(record), TOPIC) or "")
    assert obstacle(read(letter_record(b"x")), TOPIC) is None


# -- which letters are meant ----------------------------------------------------------------------------------


def test_filters_choose_by_reason_asset_time_and_id() -> None:
    body = b'{"asset":"poly2/R-101"}'
    letter = read(letter_record(body, Reason.LATE, time_ns=int(Instant.parse("2026-11-22T01:00:00Z"))))
    received_only = read(letter_record(body))  # received at 01:13:56.123
    none = read(
        letter_record(body)._replace(
            headers=letter_record(body).headers[:5] + letter_record(body).headers[6:]
        )
    )

    def fits(
        one: Letter, *reasons: str, asset: str | None = None, begin: str | None = None, end: str | None = None
    ) -> bool:
        return Selection.of(reasons, asset, begin, end).fits(one)

    assert fits(letter)
    assert fits(letter, "LATE", "EMPTY")
    assert not fits(letter, "EMPTY")
    assert fits(letter, asset="poly2/*")
    assert not fits(letter, asset="poly3/*")
    assert fits(letter, begin="2026-11-22T01:00:00Z", end="2026-11-22T01:00:01Z")
    assert not fits(letter, end="2026-11-22T01:00:00Z")
    assert fits(received_only, begin="2026-11-22T01:13:56Z")
    assert not fits(received_only, begin="2026-11-22T01:13:57Z")
    assert none.at_ns is None
    assert not fits(none, begin="1970-01-01T00:00:00Z")
    assert Selection(ids=("dlq:0:7:1",)).fits(letter)
    assert not Selection(ids=("dlq:0:8:1",)).fits(letter)


def test_a_reason_or_time_that_is_none_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--reason: got 'LATTE', expected one of EMPTY, TOO_LARGE"):
        Selection.of(("LATTE",), None, None, None)
    with pytest.raises(UsageError, match="--to: "):
        Selection.of((), None, None, "tomorrow")


def test_hostile_text_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[31m\u202eb\x00é") == "a\\x1b[31m\\u202eb\\x00é"


# -- the command, on files ------------------------------------------------------------------------------------


def nuwatch_dlq(folder: Path, *words: str, text: str | None = None) -> Result:
    arguments = ["dlq", *words, "--config", str(folder / "plant.yaml")]
    return CliRunner().invoke(nuwatch, arguments, input=text)


def configured(folder: Path, source: str, sink: str) -> None:
    (folder / "plant.yaml").write_text(
        f"""
site: test
source: {source}
sink: {sink}
asset_classes:
  unit: {{assets: ["poly2/*"], sampling: 1s, sensors: {{temperature: {{unit: Cel}}}}}}
"""
    )


def written(folder: Path, records: Sequence[OutRecord]) -> None:
    sink = FilesSink(FilesSinkSettings(directory="out"), folder)
    sink.open()
    sink.emit(records)
    sink.flush(1.0)
    sink.close()


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    configured(tmp_path, "{kind: memory}", "{kind: files, directory: out}")
    rejected = Codec(LAYOUT).decode([RawRecord(0, n, None, p.value) for n, p in enumerate(PAYLOADS)]).rejected
    letters = [
        dead_letter(one.record, one.reason, one.detail, topic=TOPIC, version="1.2") for one in rejected
    ]
    written(tmp_path, [shorten(letter, 900_000) for letter in letters])
    return tmp_path


def test_a_file_of_letters_gives_every_record_back_as_it_was_written(tmp_path: Path) -> None:
    records = [
        letter_record(payload.value, payload.reason, offset=number, headers=(("h", b"\xff"),) * (number % 2))
        for number, payload in enumerate(PAYLOADS)
    ]
    written(tmp_path, records)
    assert list(records_in(tmp_path / "out", Channel.DEAD_LETTER)) == records
    assert list(records_in(tmp_path / "nowhere", Channel.DEAD_LETTER)) == []


def test_list_names_every_letter_with_its_reason_and_ends_with_the_sums(plant: Path) -> None:
    done = nuwatch_dlq(plant, "list")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len(lines) == len(PAYLOADS)
    assert [line.split()[0] for line in lines] == [f"dlq:0:{n}:1" for n in range(len(PAYLOADS))]
    assert all(payload.reason in line for payload, line in zip(PAYLOADS, lines, strict=True))
    assert done.stdout.isascii() or done.stdout.replace("\n", "").isprintable()
    assert f"{len(PAYLOADS)} dead letters: " in done.stderr


def test_list_as_json_has_the_original_bytes(plant: Path) -> None:
    done = nuwatch_dlq(plant, "list", "--json", "--reason", "EMPTY", "--reason", "BAD_TIME")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    chosen = [p for p in PAYLOADS if p.reason in (Reason.EMPTY, Reason.BAD_TIME)]
    assert [one["reason"] for one in told] == [p.reason for p in chosen]
    values = [
        base64.b64decode(one["value_base64"]) if "value_base64" in one else (one["value"] or "").encode()
        for one in told
    ]
    assert values == [p.value or b"" for p in chosen]


def test_show_prints_one_letter_and_raw_writes_its_bytes(plant: Path) -> None:
    number = next(n for n, p in enumerate(PAYLOADS) if p.name == "byte order mark")
    name = f"dlq:0:{number}:1"
    page = nuwatch_dlq(plant, "show", name)
    assert page.exit_code == 0
    assert "MALFORMED" in page.stdout
    assert "partition 0" in page.stdout
    raw = nuwatch_dlq(plant, "show", name, "--raw")
    assert raw.stdout_bytes == PAYLOADS[number].value
    told = json.loads(nuwatch_dlq(plant, "show", name, "--json").stdout)
    assert (told["id"], told["version"], told["original_size"]) == (name, "1.2", None)
    unknown = nuwatch_dlq(plant, "show", "dlq:0:999:1")
    assert isinstance(unknown.exception, UsageError)


def test_replay_needs_a_kafka_input_and_a_choice(plant: Path) -> None:
    nothing = nuwatch_dlq(plant, "replay")
    assert isinstance(nothing.exception, UsageError)
    assert "nothing is chosen" in str(nothing.exception)
    files = nuwatch_dlq(plant, "replay", "--all", "--yes")
    assert isinstance(files.exception, ConfigurationError)
    assert "no Kafka topic" in str(files.exception)


def test_a_memory_sink_keeps_no_letters(tmp_path: Path) -> None:
    configured(tmp_path, "{kind: memory}", "{kind: memory}")
    done = nuwatch_dlq(tmp_path, "list")
    assert isinstance(done.exception, ConfigurationError)


# -- the command, on a real broker ----------------------------------------------------------------------------


@pytest.mark.kafka
def test_letters_of_a_topic_go_back_to_their_partition_with_their_bytes_key_and_headers(
    tmp_path: Path,
    kafka_broker: AnyBroker,
    new_topic: Callable[..., str],
    kafka_topics: SinkTopics,
) -> None:
    topic, server = new_topic(3), kafka_broker.bootstrap
    configured(
        tmp_path,
        f"{{kind: kafka, bootstrap_servers: ['{server}'], topic: {topic}}}",
        f"{{kind: kafka, bootstrap_servers: ['{server}'], topics: {{alerts: {kafka_topics.alerts}, "
        f"thresholds: {kafka_topics.thresholds}, dead_letter: {kafka_topics.dead_letter}}}}}",
    )
    headers = (("trace", b"\x00\xff"), ("empty", b""))
    records = [
        letter_record(b"\xff\x00", offset=1, partition=2, key=b"\xfe", headers=headers, topic=topic),
        letter_record(b"text", Reason.UNKNOWN_SENSOR, offset=2, partition=1, key=None, topic=topic),
        letter_record(b"late", Reason.LATE, offset=3, topic=topic, rebuilt=True),
        letter_record(None, Reason.EMPTY, offset=4, key=None, topic=topic),
        shorten(letter_record(b"x" * 5000, Reason.TOO_LARGE, offset=5, topic=topic), 1000),
    ]
    sink = KafkaSink(KafkaSinkSettings(bootstrap_servers=(server,), topics=kafka_topics))
    sink.open()
    sink.emit(records)
    sink.flush(10.0)
    sink.close()
    produce(server, kafka_topics.dead_letter, [(b"k", b"of somebody else")])

    listed = nuwatch_dlq(tmp_path, "list")
    assert listed.exit_code == 0, listed.output
    assert len(listed.stdout.splitlines()) == 5

    dry = nuwatch_dlq(tmp_path, "replay", "--all", "--dry-run")
    assert "3 of 5 dead letters can go" in dry.stderr
    refused = nuwatch_dlq(tmp_path, "replay", "--all", text="n\n")
    assert refused.exit_code != 0
    assert everything(server, topic) == []

    confirmed = nuwatch_dlq(tmp_path, "replay", "--reason", "UNKNOWN_SENSOR", text="y\n")
    assert "1 records sent" in confirmed.stderr, confirmed.output
    sent = nuwatch_dlq(tmp_path, "replay", "dlq:2:1:1", "--yes")
    assert "1 records sent" in sent.stderr, sent.output

    back = {record.value: record for record in everything(server, topic)}
    assert set(back) == {b"\xff\x00", b"text"}
    first, second = back[b"\xff\x00"], back[b"text"]
    assert (first.partition, first.key) == (2, b"\xfe")
    assert first.headers == [*headers, ("nuwatch-replayed", b"dlq:2:1:1")]
    assert (second.partition, second.key) == (1, None)
    assert second.headers == [("nuwatch-replayed", b"dlq:1:2:1")]
    assert b"of somebody else" not in back


@pytest.mark.kafka
def test_a_partition_that_is_no_more_is_an_error_that_names_the_topic(
    kafka_broker: AnyBroker, new_topic: Callable[..., str]
) -> None:
    from connectors.errors import SinkError
    from connectors.kafka import KafkaSourceSettings, resend

    topic = new_topic(1)
    settings = KafkaSourceSettings(
        bootstrap_servers=(kafka_broker.bootstrap,), topic=topic, connect_seconds=2.0
    )
    with pytest.raises(SinkError, match=f"topic '{topic}' did not take the records"):
        resend(settings, topic, [RawRecord(5, 0, None, b"x")])


@pytest.mark.kafka
def test_a_topic_that_is_not_there_is_an_error_that_says_so(kafka_broker: AnyBroker) -> None:
    from connectors.errors import SourceError
    from connectors.kafka import history

    settings = KafkaSinkSettings(bootstrap_servers=(kafka_broker.bootstrap,))
    with pytest.raises(SourceError, match="'no-such-topic' does not exist"):
        list(history(settings, "no-such-topic"))
