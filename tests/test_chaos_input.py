"""The fault suite: bad input through a real daemon: damaged batches, nothing but bad records, the whole corpus.

Short here, in full by `make chaos`; what is promised and what was measured is in docs/reliability.md.
"""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from kafka import KafkaProducer

from connectors.kafka import SinkTopics
from connectors.records import Reason
from monitor.bundles import write_bundle
from tests.broker import AnyBroker, Broker, produce
from tests.chaos import FOREVER, PARTITIONS, Launcher, Life, Place, Rig
from tests.damage import edit_all, offsets_of, starts_of_batches, with_codec, with_value
from tests.disturbances import DISTURBANCES, ROWS, Counted, clean, encoded
from tests.hostile import ASSETS, CONFIG, good_records, hostile_world, ran
from tests.kafka_reader import everything
from tests.payloads import ODDITIES, PAYLOADS
from tests.worlds import World, autoregressive

pytestmark = [pytest.mark.kafka, pytest.mark.chaos]

MakeRig = Callable[..., Rig]
LONGEST_POLL_S = 2.0


# -- damaged batches ------------------------------------------------------------------------------------------


def letters(plant: Rig, reason: Reason) -> Counter[tuple[int, int]]:
    """Partition and offset of every dead letter with this reason, and how often it is there."""
    found = [
        dict(one.headers)
        for one in everything(plant.broker.bootstrap, plant.disturbed.topics["dead_letter"])
        if one.headers and dict(one.headers)["x-error-reason"] == reason.encode()
    ]
    return Counter((int(one["x-error-partition"]), int(one["x-error-offset"])) for one in found)


class Damaged:
    """Batches of a rig's topic that were damaged: the last of partition 0 by its checksum, of 1 by its codec."""

    def __init__(self, broker: Broker, plant: Rig) -> None:
        self.offsets: set[tuple[int, int]] = set()
        checksum, codec = self._last(0, with_value), self._last(1, lambda log, at: with_codec(log, at, 7))
        edit_all(broker, plant.sensors, {0: checksum, 1: codec})

    def _last(self, partition: int, change: Callable[[bytes, int], bytes]) -> Callable[[bytes], bytes]:
        def changed(log: bytes) -> bytes:
            last = len(starts_of_batches(log)) - 1
            self.offsets |= {(partition, offset) for offset in offsets_of(log, last)}
            return change(log, last)

        return changed

    def first(self, partition: int) -> int:
        return min(offset for at, offset in self.offsets if at == partition)


def check_polls(plant: Rig, asserted: bool) -> None:
    """Time is asserted where the machine is ours (make chaos), and told in any case."""
    print(f"longest poll: {plant.disturbed.longest_poll} s")
    assert not asserted or plant.disturbed.longest_poll < LONGEST_POLL_S


def test_damaged_batches_stop_the_daemon_or_become_dead_letters_and_what_follows_is_folded(
    rig: MakeRig, disk_broker: Broker, request: pytest.FixtureRequest
) -> None:
    plant = rig(120)
    plant.feed(40)
    damaged = Damaged(disk_broker, plant)
    plant.feed(40)

    policy = plant.disturbed.folder / "stop.yaml"
    text = (plant.disturbed.folder / "plant.yaml").read_text()
    policy.write_text(text.replace("max_poll_records: 25", "max_poll_records: 25, damaged: stop"))
    assert plant.start(config=policy.name).wait() == 69, plant.disturbed.log[-3000:]
    assert "the records cannot be unpacked, twice" in plant.disturbed.log
    for partition in (0, 1):
        assert plant.positions().get(partition, 0) <= damaged.first(partition), "stopped in front of it"
    plant.check_offsets()
    assert letters(plant, Reason.CORRUPT).total() == 0

    life = plant.start()
    plant.wait_for_progress(life)
    life.end(signal.SIGKILL)
    plant.feed(40)
    plant.finish()
    assert plant.positions() == plant.ends() == plant.committed()
    assert set(letters(plant, Reason.CORRUPT)) == damaged.offsets
    print(f"damaged batches: {len(damaged.offsets)} records, {dict(plant.check())}")
    check_polls(plant, asserted=bool(request.config.getoption("--chaos")))


def test_a_topic_of_nothing_but_bad_records_is_passed_to_its_end_and_the_first_good_ones_are_folded(
    rig: MakeRig, disk_broker: Broker, request: pytest.FixtureRequest, repetitions: Callable[[int], int]
) -> None:
    """In one partition records of no form, in another nothing but damaged batches, in the third both in turn."""
    plant = rig(60)
    times = repetitions(20)
    for number in range(3):
        bad = [
            (b"k", b"bad %d" % n, p)
            for p in range(PARTITIONS)
            for n in range(number * times, (number + 1) * times)
        ]
        produce(disk_broker.bootstrap, plant.sensors, bad, linger_ms=200)
    corrupt: set[tuple[int, int]] = set()

    def all_of(log: bytes) -> bytes:
        for batch in range(len(starts_of_batches(log))):
            corrupt.update((1, offset) for offset in offsets_of(log, batch))
            log = with_codec(log, batch, 7) if batch % 2 else with_value(log, batch)
        return log

    def every_other(log: bytes) -> bytes:
        for batch in range(1, len(starts_of_batches(log)), 2):
            corrupt.update((2, offset) for offset in offsets_of(log, batch))
            log = with_codec(log, batch, 7)
        return log

    edit_all(disk_broker, plant.sensors, {1: all_of, 2: every_other})
    life = plant.start()
    plant.wait_for_progress(life)
    life.end(signal.SIGKILL)
    plant.finish()
    everywhere = {(p, offset) for p, end in plant.ends().items() for offset in range(end)}
    assert plant.positions() == plant.ends() == plant.committed()
    assert set(letters(plant, Reason.CORRUPT)) == corrupt
    assert set(letters(plant, Reason.MALFORMED)) == everywhere - corrupt
    assert plant.disturbed.ledger() == []
    plant.feed(60)
    plant.finish()
    figures = plant.check()
    assert figures["windows"] > 0
    print(f"nothing but bad records: {len(everywhere)} of them, {len(corrupt)} damaged, then {dict(figures)}")
    check_polls(plant, asserted=bool(request.config.getoption("--chaos")))


# -- the corpus -----------------------------------------------------------------------------------------------

CALM = autoregressive(83, ROWS, 3)
"""The clean stream of a disturbed asset; nothing is raised on it."""
HELD_AT_FIRST = 3
"""The first readings of an asset are held until three agree."""


class Sent(NamedTuple):
    """A record of the corpus: the entry that it belongs to, and its value."""

    entry: str
    value: bytes | None


class Corpus(NamedTuple):
    """What a daemon made of it: counts of all its life, dead letters by offset of their record, alerts by asset."""

    counts: dict[str, int]
    letters: dict[int, list[Any]]
    alerts: dict[str, list[dict[str, Any]]]
    ledger: dict[str, list[tuple[int, str]]]


@pytest.fixture(scope="module")
def trained() -> World:
    return hostile_world()


def corpus() -> list[Sent]:
    """Every payload, every oddity and every disturbance, the last two on assets of their own."""
    sent = [Sent(f"payload {one.name}", one.value) for one in PAYLOADS]
    for number, one in enumerate(ODDITIES):
        sent.append(Sent(f"oddity {one.name}", one.value.replace(b"R-101", b"O-%d" % number)))
    for number, disturbance in enumerate(DISTURBANCES):
        hurt = encoded(disturbance.change(clean(f"poly2/D-{number}", CALM)))
        sent += [Sent(disturbance.name, value) for value in hurt]
    return sent


def among(good: Sequence[bytes], hostile: Sequence[Sent]) -> list[Sent]:
    """A good record and one of the corpus in turn."""
    pairs = zip_longest((Sent("", value) for value in good), hostile)
    return [one for one in chain.from_iterable(pairs) if one is not None]


def give_up(server: str, topic: str, values: Sequence[bytes]) -> None:
    """Records of a transaction that is aborted."""
    producer = KafkaProducer(bootstrap_servers=server, transactional_id=f"tx-{topic}")
    producer.init_transactions()
    producer.begin_transaction()
    for value in values:
        producer.send(topic, value=value).get(timeout=10)
    producer.abort_transaction()
    producer.close()


def written(trained: World, folder: Path, server: str, topic: str, topics: SinkTopics) -> Place:
    """The configuration and the bundle of a daemon."""
    names = msgspec.structs.asdict(topics)
    servers = f"kind: kafka, bootstrap_servers: ['{server}']"
    text = CONFIG.replace(
        "source: {kind: memory}",
        f"source: {{{servers}, topic: {topic}, group: {topic}}}\n"
        f"sink: {{{servers}, topics: {json.dumps(names)}}}\n"
        "state: {interval: 300ms}\nhealth: {http: {enabled: false}}",
    )
    (folder / "plant.yaml").write_text(text)
    write_bundle(trained.trained.bundle, folder / "bundle")
    return Place(folder, names, topic)


def watched(place: Place, launcher: Launcher, server: str, count: int) -> Corpus:
    """What a daemon made of so many records, in one life."""
    life = launcher.start(place.folder)
    wait_for_records(life, place, count)
    assert life.end(signal.SIGTERM) == 0, place.log[-3000:]
    letters: dict[int, list[Any]] = {}
    for letter in everything(server, place.topics["dead_letter"]):
        letters.setdefault(int(dict(letter.headers)["x-error-offset"]), []).append(letter)
    alerts: dict[str, list[dict[str, Any]]] = {}
    for record in everything(server, place.topics["alerts"]):
        event = msgspec.json.decode(record.value)
        alerts.setdefault(event["subject"], []).append(event["data"])
    ledger: dict[str, list[tuple[int, str]]] = {}
    for asset, end, ratio in place.ledger():
        ledger.setdefault(asset, []).append((end, ratio))
    return Corpus(place.counts, letters, alerts, ledger)


def wait_for_records(life: Life, place: Place, count: int) -> None:
    """Until its snapshots say that so many records were read."""

    def read() -> int:
        snapshots = [json.loads(line) for line in place.log.splitlines() if '"event": "snapshot"' in line]
        return sum(one.get("RECORDS", 0) for one in snapshots)

    deadline = time.monotonic() + 2 * FOREVER
    while read() < count:
        assert not life.over, f"exit {life.wait()}: {place.log[-3000:]}"
        assert time.monotonic() < deadline, f"{read()} of {count} records were read: {place.log[-3000:]}"
        life.wait_until_over(0.2)


def alone(trained: World, good: Sequence[bytes], asset: str) -> list[tuple[int, str]]:
    """Window ends and bits of the ratios of an asset whose records come without any others."""
    figures = ran(trained, good).figures[asset]
    scored = np.frombuffer(figures["scored"], bool).tolist()
    ends = np.frombuffer(figures["end"], np.int64).tolist()
    ratios = np.frombuffer(figures["ratio"]).tolist()
    return [(end, ratio.hex() if one else "-") for end, ratio, one in zip(ends, ratios, scored, strict=True)]


def test_a_daemon_refuses_every_entry_of_the_corpus_by_its_reason_and_harms_nobody(
    trained: World,
    tmp_path: Path,
    launcher: Launcher,
    kafka_broker: AnyBroker,
    new_topic: Callable[..., str],
    kafka_topics: SinkTopics,
) -> None:
    """Every payload, oddity and disturbance, and an aborted transaction, among the good records of two assets."""
    topic, server = new_topic(1, {"max.message.bytes": str(32 * 2**20)}), kafka_broker.bootstrap
    good = good_records(8, ROWS)
    sent = among(good, corpus())
    half = len(sent) // 2
    keyed = [(b"k" if one.value is None else None, one.value) for one in sent]
    offsets = produce(server, topic, keyed[:half])
    give_up(server, topic, [b"never to be seen"] * 5)
    offsets += produce(server, topic, keyed[half:])

    place = written(trained, tmp_path, server, topic, kafka_topics)
    found = watched(place, launcher, server, len(sent))

    at = {one.entry: offset for one, offset in zip(sent, offsets, strict=True)}
    for payload in PAYLOADS:
        (letter,) = found.letters.pop(at[f"payload {payload.name}"])
        headers = dict(letter.headers)
        assert headers["x-error-reason"] == payload.reason.encode(), payload.name
        whole = len(payload.value or b"")
        if whole < trained.settings.max_event - 10_000:
            assert letter.value == payload.value, payload.name
        else:
            assert headers["x-error-original-size"] == str(whole).encode(), payload.name
    assert [one.name for one in ODDITIES if at[f"oddity {one.name}"] in found.letters] == []

    expected = Counter(str(payload.reason) for payload in PAYLOADS)
    for disturbance in DISTURBANCES:
        expected.update(disturbance.counts)
    expected["HELD"] += HELD_AT_FIRST * (len(DISTURBANCES) + len(ASSETS)) + len(ODDITIES)
    counted = {name: n for name in (*Counted, *Reason) if (n := found.counts.get(name, 0))}
    assert counted == dict(expected)
    assert found.counts["RECORDS"] == len(sent)
    rows = [dict(letter.headers)["x-error-reason"].decode() for of in found.letters.values() for letter in of]
    assert Counter(rows) == Counter({name: expected[name] for name in ("LATE", "FUTURE_TIME")})

    unharmed = ran(trained, good).alerts
    for asset in ASSETS:
        assert found.ledger[asset] == alone(trained, good, asset)
    mine = [data for asset in ASSETS for data in found.alerts.get(asset, [])]
    assert sorted(map(told, mine)) == sorted(map(told, unharmed))
    assert any(data["kind"] == "ANOMALY" for data in mine)
    for number, disturbance in enumerate(DISTURBANCES):
        of_it = found.alerts.get(f"poly2/D-{number}", [])
        raised = {(one["kind"], one.get("subject", "")) for one in of_it if one["event"] == "RAISED"}
        assert disturbance.raised <= raised, disturbance.name


def told(data: dict[str, Any]) -> tuple[str, str, str]:
    return data["incident_id"], data["event"], data["message"]
