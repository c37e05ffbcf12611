"""Bad input is counted by reason and goes to the dead-letter channel; what follows is scored as if nothing had been."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from connectors.codec import Codec
from connectors.kafka import KafkaSink, KafkaSinkSettings, KafkaSource, KafkaSourceSettings, SinkTopics
from connectors.memory import MemorySource
from connectors.records import Channel, RawRecord
from monitor.configuration import parse
from monitor.connect import layout_of
from monitor.durable.checkpoint import SqliteCheckpoint
from monitor.engine import Engine
from monitor.facts import Identity
from monitor.model import Model
from monitor.pipeline import Pipeline
from monitor.quantities import iso_time
from monitor.trace import joined
from monitor.training import train
from tests.broker import AnyBroker, produce
from tests.kafka_reader import everything
from tests.payloads import PAYLOADS
from tests.worlds import SECOND, START, World, autoregressive, by_asset

ASSETS = ("poly2/R-101", "poly2/R-102")
CONFIG = """
site: test
source: {kind: memory}
asset_classes:
  unit:
    assets: ["poly2/*"]
    sampling: 1s
    sensors:
      temperature: {unit: Cel, range: [-1000, 1000]}
      pressure: {unit: "bar{gauge}"}
      reaction_time: {unit: s}
    time: {lateness: 2s, max_age: 3s}
    window: {length: 16}
    calibration: {nu: 0.05, enough: 1}
    scoring: {scorers: {pca: {}, var: {}}, block: 32}
"""


def frame(asset: str, second: int, values: np.ndarray) -> bytes:
    names = ("temperature", "pressure", "reaction_time")
    return msgspec.json.encode(
        {
            "asset": asset,
            "ts": iso_time(START + second * SECOND),
            "values": dict(zip(names, values.tolist(), strict=True)),
        }
    )


def good_records(seed: int, rows: int) -> list[bytes]:
    values = {asset: autoregressive(seed + n, rows, 3) for n, asset in enumerate(ASSETS)}
    values[ASSETS[0]][rows // 2 :, 1] += 30.0
    return [frame(asset, t, values[asset][t]) for t in range(rows) for asset in ASSETS]


@pytest.fixture(scope="module")
def trained() -> World:
    settings = parse(CONFIG, Path("hostile.yaml")).settings
    calm = [frame(a, t, v) for a in ASSETS for t, v in enumerate(autoregressive(len(a), 1500, 3))]
    source = MemorySource([RawRecord(0, n, None, value) for n, value in enumerate(calm)], layout_of(settings))
    source.open(lambda _: None, "earliest")
    batches = [batch for _ in range(10) for polled in source.poll(0) for batch in polled.batches]
    bundle = train(settings.asset_classes["unit"], "unit", batches, config_hash="c")
    model = Model(bundle.bundle, settings.asset_classes["unit"])
    model.program.warm_up()
    return World(settings, settings.asset_classes["unit"], bundle, model)


def pipeline(trained: World, partition: int = 0) -> Pipeline:
    identity = {"unit": Identity(trained.model.bundle_id, None, "c")}
    models = {"unit": trained.model}
    return Pipeline(trained.settings, models, partition, identity, topic="t", replay=False, version="0")


def test_good_records_among_bad_ones_are_scored_as_if_alone(trained: World) -> None:
    good = good_records(7, 120)
    rng = np.random.default_rng(1)
    places = np.sort(rng.integers(0, len(good), len(PAYLOADS)))
    mixed: list[bytes | None] = list(good)
    for place, payload in sorted(zip(places.tolist(), PAYLOADS, strict=True), key=lambda p: -p[0]):
        mixed.insert(place, payload.value)

    def run(
        values: list[bytes | None],
    ) -> tuple[dict[str, dict[str, bytes]], Counter[str], list[bytes | None]]:
        fold, codec = pipeline(trained), Codec(layout_of(trained.settings))
        records = [RawRecord(0, n, None, value) for n, value in enumerate(values)]
        outcomes = [fold.push(codec.poll(records[low : low + 50])) for low in range(0, len(records), 50)]
        letters = [r for o in outcomes for r in o.records if r.channel is Channel.DEAD_LETTER]
        counts: Counter[str] = sum((o.counts for o in outcomes), Counter())
        return by_asset(joined([t for o in outcomes for t in o.traces])), counts, [r.value for r in letters]

    alone, _, nothing = run(list(good))
    among, counts, letters = run(mixed)
    assert nothing == []
    assert among == alone
    expected = Counter(payload.reason for payload in PAYLOADS)
    assert {reason: counts[reason] for reason in expected} == dict(expected)
    small = [p.value for p in PAYLOADS if len(p.value or b"") < trained.settings.max_event - 10_000]
    assert Counter(letters) >= Counter(small)
    assert len(letters) == len(PAYLOADS)


@pytest.mark.kafka
def test_the_dead_letter_topic_holds_every_bad_record_with_its_reason(
    trained: World,
    tmp_path: Path,
    kafka_broker: AnyBroker,
    new_topic: Callable[..., str],
    kafka_topics: SinkTopics,
) -> None:
    topic = new_topic(1, {"max.message.bytes": str(8 * 2**20)})
    huge = b'{"asset":"' + b"x" * 5 * 2**20 + b'"}'
    year_2200 = b'{"asset":"poly2/R-101","ts":"2200-01-01T00:00:00Z","values":{"temperature":1}}'
    bad = {
        "MALFORMED": b'{"asset":"poly2/R-101","ts":"2026',
        "EMPTY": b"",
        "TOO_LARGE": huge,
        "TIME_RANGE": year_2200,
        "UNKNOWN_ASSET": b'{"asset":"boiler","ts":1795310036123,"values":{"temperature":1}}',
        "UNKNOWN_SENSOR": b'{"asset":"poly2/R-101","ts":1795310036123,"values":{"colour":1}}',
        "WRONG_TYPE": b'{"asset":"poly2/R-101","ts":1795310036123,"values":{"temperature":"hot"}}',
    }
    good = good_records(8, 120)
    values = [
        *good[:100],
        *bad.values(),
        b'{"asset":"poly2/R-101","ts":1,"values":{"temperature":NaN}}',
        *good[100:],
    ]
    produce(kafka_broker.bootstrap, topic, [(b"poly2", value) for value in values])
    servers = (kafka_broker.bootstrap,)
    source = KafkaSource(
        KafkaSourceSettings(bootstrap_servers=servers, topic=topic, group=None),
        Codec(layout_of(trained.settings)),
    )
    sink = KafkaSink(KafkaSinkSettings(bootstrap_servers=servers, topics=kafka_topics))
    engine = Engine(
        source,
        SqliteCheckpoint(tmp_path, sink),
        lambda partition: pipeline(trained, partition),
        {"unit": "bundle"},
    )
    engine.open("earliest")
    counts: Counter[str] = Counter()
    while engine.lag or not counts:
        for step in engine.step(0.5):
            counts.update(step.outcome.counts)
    engine.snapshot()
    engine.close()
    letters = everything(kafka_broker.bootstrap, kafka_topics.dead_letter)
    by_reason = {dict(letter.headers)["x-error-reason"].decode(): letter for letter in letters}
    for reason, value in bad.items():
        assert counts[reason] >= 1, reason
        if reason not in ("TOO_LARGE", "MALFORMED"):
            assert by_reason[reason].value == value
    assert counts["MALFORMED"] == 2
    assert huge.startswith(by_reason["TOO_LARGE"].value)
    assert dict(by_reason["TOO_LARGE"].headers)["x-error-original-size"] == str(len(huge)).encode()
    published = [
        msgspec.json.decode(record.value)
        for record in everything(kafka_broker.bootstrap, kafka_topics.alerts)
    ]
    assert any(event["data"]["kind"] == "ANOMALY" for event in published)
