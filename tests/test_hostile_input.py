"""Bad input is counted by reason and goes to the dead-letter channel; what follows is scored as if nothing had been."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import KafkaProducer

from connectors.codec import Codec
from connectors.kafka import KafkaSink, KafkaSinkSettings, KafkaSource, KafkaSourceSettings, SinkTopics
from connectors.records import Reason
from monitor.connect import layout_of
from monitor.durable.checkpoint import SqliteCheckpoint
from monitor.engine import Engine
from tests.broker import AnyBroker, produce
from tests.disturbances import DISTURBANCES, ROWS, Counted, Disturbance, clean, encoded
from tests.fuzz import FindingError, check_decoded, check_fold, check_round, records_of, seeds
from tests.hostile import ASSETS, Ran, good_records, hostile_world, pipeline, ran
from tests.kafka_reader import everything
from tests.payloads import GOOD, LAYOUT, PAYLOADS
from tests.worlds import World, autoregressive

SEEDS = seeds()


@pytest.fixture(scope="module")
def trained() -> World:
    return hostile_world()


def test_good_records_among_bad_ones_are_scored_as_if_alone(trained: World) -> None:
    good = good_records(7, 120)
    rng = np.random.default_rng(1)
    places = np.sort(rng.integers(0, len(good), len(PAYLOADS)))
    mixed: list[bytes | None] = list(good)
    for place, payload in sorted(zip(places.tolist(), PAYLOADS, strict=True), key=lambda p: -p[0]):
        mixed.insert(place, payload.value)
    alone, among = ran(trained, good), ran(trained, mixed)
    assert alone.letters == []
    assert among.figures == alone.figures
    expected = Counter(payload.reason for payload in PAYLOADS)
    assert {reason: among.counts[reason] for reason in expected} == dict(expected)
    small = [p.value for p in PAYLOADS if len(p.value or b"") < trained.settings.max_event - 10_000]
    assert Counter(letter.value for letter in among.letters) >= Counter(small)
    assert len(among.letters) == len(PAYLOADS)


CALM = autoregressive(83, ROWS, 3)
"""The clean stream of the disturbed asset; nothing is raised on it."""
HELD_AT_FIRST = 3
"""The first readings of an asset are held until three agree."""
COLLATERAL = {("ANOMALY", ""), ("DATA_GAP", "coverage")}
"""What a disturbance may raise beside what it must; everything else is wrong."""


def interleaved(first: Sequence[bytes], second: Sequence[bytes]) -> list[bytes]:
    """One of each in turn, and then what is left."""
    pairs = [record for pair in zip_longest(first, second) for record in pair]
    return [record for record in pairs if record is not None]


@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=lambda one: one.name)
def test_a_disturbance_is_counted_told_and_stays_with_its_asset(
    trained: World, disturbance: Disturbance
) -> None:
    victim, bystander = ASSETS
    untouched = encoded(clean(bystander, autoregressive(78, ROWS, 3)))
    hurt = encoded(disturbance.change(clean(victim, CALM)))
    alone, among = ran(trained, untouched), ran(trained, interleaved(hurt, untouched))
    assert among.figures[bystander] == alone.figures[bystander]
    among.counts["HELD"] -= 2 * HELD_AT_FIRST
    assert {name: among.counts[name] for name in Counted if among.counts[name]} == disturbance.counts
    assert [reason for reason in Reason if reason not in Counted and among.counts[reason]] == []
    assert len(among.letters) == among.counts["LATE"] + among.counts["FUTURE_TIME"]
    raised = raised_by(ran(trained, hurt))
    assert disturbance.raised <= raised
    assert raised - disturbance.raised <= COLLATERAL


def raised_by(result: Ran) -> set[tuple[str, str]]:
    return {(one["kind"], one.get("subject", "")) for one in result.alerts if one["event"] == "RAISED"}


def test_without_a_disturbance_nothing_is_counted_or_told(trained: World) -> None:
    calm = ran(trained, encoded(clean(ASSETS[0], CALM)))
    assert {name: calm.counts[name] for name in (*Counted, *Reason) if calm.counts[name]} == {
        "HELD": HELD_AT_FIRST
    }
    assert (calm.letters, calm.alerts) == ([], [])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_twisted_records_are_decoded_or_refused_and_harm_nobody(seed: int) -> None:
    check_round(Codec(LAYOUT), SEEDS, seed, 40)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32))
def test_twisted_records_go_through_the_whole_fold_and_harm_nobody(trained: World, seed: int) -> None:
    check_fold(trained, SEEDS, seed, 60)


def test_the_fuzzer_sees_a_record_that_is_dropped_and_a_value_that_is_unsound() -> None:
    records = records_of([GOOD, b"{}"])
    decoded = Codec(LAYOUT).decode(records)
    with pytest.raises(FindingError, match="dropped without a word"):
        check_decoded(records, decoded._replace(rejected=()))
    batch = decoded.batches[0]
    infinite = batch._replace(values=np.full_like(batch.values, np.inf))
    with pytest.raises(FindingError, match="does not fit its quality"):
        check_decoded(records, decoded._replace(batches=(infinite,)))


@pytest.mark.kafka
def test_the_whole_corpus_through_a_broker_is_refused_by_reason_and_harms_nobody(
    trained: World,
    tmp_path: Path,
    kafka_broker: AnyBroker,
    new_topic: Callable[..., str],
    kafka_topics: SinkTopics,
) -> None:
    """Every payload, every disturbance on an asset of its own, and an aborted transaction, among good records."""
    topic, server = new_topic(1, {"max.message.bytes": str(32 * 2**20)}), kafka_broker.bootstrap
    good = good_records(8, ROWS)
    disturbed = [encoded(one.change(clean(f"poly2/D-{n}", CALM))) for n, one in enumerate(DISTURBANCES)]
    hostile = [value for group in disturbed for value in group]
    hostile += [payload.value for payload in PAYLOADS]
    mixed = [value for pair in zip_longest(good, hostile, fillvalue=b"absent") for value in pair]
    sent = [value for value in mixed if value != b"absent"]
    half = len(sent) // 2
    produce(server, topic, [(b"k" if value is None else None, value) for value in sent[:half]])
    give_up(server, topic, [b"never to be seen"] * 5)
    produce(server, topic, [(b"k" if value is None else None, value) for value in sent[half:]])

    counts = run_to_the_end(trained, tmp_path, server, topic, kafka_topics)

    expected = Counter(str(payload.reason) for payload in PAYLOADS)
    for disturbance in DISTURBANCES:
        expected.update(disturbance.counts)
    expected["HELD"] += HELD_AT_FIRST * (len(DISTURBANCES) + len(ASSETS))
    assert {name: counts[name] for name in (*Counted, *Reason) if counts[name]} == dict(expected)
    assert counts["RECORDS"] == len(sent)

    letters = everything(server, kafka_topics.dead_letter)
    by_reason = Counter(dict(letter.headers)["x-error-reason"].decode() for letter in letters)
    assert by_reason == Counter({name: n for name, n in expected.items() if name in Reason.__members__})
    values = Counter(letter.value for letter in letters)
    for payload in PAYLOADS:
        if len(payload.value or b"") < trained.settings.max_event - 10_000:
            assert values[payload.value] >= 1, payload.name
    cut = [dict(one.headers).get("x-error-original-size") for one in letters]
    assert b"20000012" in cut, "20 MB of text, with its size"

    alone = ran(trained, good).alerts
    published = [msgspec.json.decode(r.value) for r in everything(server, kafka_topics.alerts)]
    mine = [event["data"] for event in published if event["subject"] in ASSETS]
    assert sorted(one["message"] for one in mine) == sorted(one["message"] for one in alone)
    assert any(one["kind"] == "ANOMALY" for one in mine)
    for number, disturbance in enumerate(DISTURBANCES):
        told = [event["data"] for event in published if event["subject"] == f"poly2/D-{number}"]
        raised = {(one["kind"], one.get("subject", "")) for one in told if one["event"] == "RAISED"}
        assert disturbance.raised <= raised, disturbance.name


def give_up(server: str, topic: str, values: Sequence[bytes]) -> None:
    """Records of a transaction that is aborted."""
    producer = KafkaProducer(bootstrap_servers=server, transactional_id=f"tx-{topic}")
    producer.init_transactions()
    producer.begin_transaction()
    for value in values:
        producer.send(topic, value=value).get(timeout=10)
    producer.abort_transaction()
    producer.close()


def run_to_the_end(trained: World, folder: Path, server: str, topic: str, topics: SinkTopics) -> Counter[str]:
    """The engine with a Kafka source and sink and durable state, until nothing waits; returns all counts."""
    settings = KafkaSourceSettings(bootstrap_servers=(server,), topic=topic, group=None)
    source = KafkaSource(settings, Codec(layout_of(trained.settings)))
    sink = KafkaSink(KafkaSinkSettings(bootstrap_servers=(server,), topics=topics))
    checkpoint = SqliteCheckpoint(folder, sink)
    engine = Engine(source, checkpoint, lambda partition: pipeline(trained, partition), {"unit": "bundle"})
    engine.open("earliest")
    counts: Counter[str] = Counter()
    while engine.lag or not counts:
        for step in engine.step(0.5):
            counts.update(step.outcome.counts)
            counts["RECORDS"] += step.polled.records
    engine.snapshot()
    engine.close()
    return counts
