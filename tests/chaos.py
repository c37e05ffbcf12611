"""The harness of the fault suite: a plant on a real broker, daemons that are killed, and what must hold afterwards.

A row of the suite is a test that makes a `Rig`, feeds it, does its worst to the daemon or its surroundings, lets the
daemon finish, and calls `check`: it compares with a daemon that nobody disturbed. To add a row: write a test in a
``test_chaos_*.py``, mark it ``chaos`` through ``pytestmark``, and take numbers of repetitions from `repetitions`.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from kafka import KafkaConsumer, TopicPartition

from connectors.kafka.outputs import ID_HEADER
from monitor.bundles import write_bundle
from monitor.cli.jobs.state import export_command
from monitor.commands import command_of
from monitor.durable.database import NAME, Unsound, connect
from monitor.durable.store import Store
from monitor.journal import read_journal
from monitor.quantities import iso_time
from monitor.thresholds.decisions import Decision, append_decision
from monitor.training import configuration_hash
from tests.broker import AnyBroker, create_topic, produce
from tests.kafka_reader import everything
from tests.worlds import SECOND, START, World, autoregressive, batch_of, configuration_text, world

ROOT = Path(__file__).resolve().parent.parent
SENSORS, LENGTH, PARTITIONS = 3, 8, 3
ASSETS = tuple(f"plant/{n}" for n in range(6))
EXTRA = """    drift: {samples: 60}
    alerting: {on_delay: 2s, off_delay: 5s, realert: 30s, fault_off_delay: 4s}"""
DRAIN_S = 20.0
FOREVER = 120.0


@cache
def trained() -> World:
    """One small plant for the whole suite."""
    text = configuration_text(SENSORS, LENGTH, "{pca: {}, var: {}}", EXTRA)
    return world(text, [batch_of({f"plant/{n}": autoregressive(n, 900, SENSORS, 0.5) for n in range(2)})])


def readings(rows: int, seed: int) -> dict[str, np.ndarray]:
    """[rows, SENSORS] of every asset, with faults of all kinds at seeded places: alerts all along."""
    place = random.Random(seed)
    found: dict[str, np.ndarray] = {}
    for number, asset in enumerate(ASSETS):
        values = autoregressive(seed + 100 + number, rows, SENSORS, 0.5)
        at = place.randrange(20, 60)
        while at < rows:
            length, sensor = place.randrange(8, 40), place.randrange(SENSORS)
            kind = place.choice(["shift", "range", "stuck"])
            stretch = values[at : at + length, sensor]
            stretch[:] = {"shift": stretch + 7.0, "range": 5000.0, "stuck": stretch[:1]}[kind]
            at += length + place.randrange(30, 80)
        found[asset] = values
    return found


class Place(NamedTuple):
    """Where one run of the daemon reads, writes and keeps its state."""

    folder: Path
    topics: Mapping[str, str]
    group: str

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def plain(self, body: bytes) -> bytes:
        """Without the configuration's hash: the two runs write to topics of their own, so theirs differ."""
        for path in self.folder.glob("*.yaml"):
            body = body.replace(configuration_hash(path.read_text()).encode(), b"-")
        return body

    @property
    def longest_poll(self) -> float:
        """Seconds of the longest poll of any life."""
        return max(map(float, (self.folder / "polls").read_text().split()))

    @property
    def log(self) -> str:
        path = self.folder / "daemon.log"
        return path.read_text() if path.exists() else ""

    @property
    def counts(self) -> dict[str, Any]:
        """What a life that was stopped in order has counted, as it said at its end."""
        last = json.loads(self.log.splitlines()[-1])
        assert last["event"] == "stopped"
        return last

    def ledger(self) -> list[tuple[str, int, str]]:
        """What was folded: asset, window end, ratio."""
        lines = (self.folder / "ledger").read_text().splitlines()
        return [(asset, int(end), ratio) for asset, end, ratio in (line.rsplit(" ", 2) for line in lines)]


class Launcher:
    """Starts daemons quickly; see `tests.chaos_daemon`."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment["JAX_COMPILATION_CACHE_DIR"] = str(ROOT / ".cache" / "jax")
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "chaos_daemon.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def start(self, folder: Path, **order: Any) -> Life:
        return Life(int(self.ask({"folder": str(folder), **order})), self)

    def ask(self, order: Mapping[str, Any], seconds: float = FOREVER) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        assert ready, f"no answer to {order}"
        return self._process.stdout.readline()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()


class Life:
    """One daemon."""

    def __init__(self, pid: int, launcher: Launcher) -> None:
        self.pid = pid
        self._launcher = launcher
        self._code: int | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended, though nobody has asked how yet."""
        if self._code is not None:
            return True
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        return state == "Z"

    def wait_until_over(self, seconds: float) -> None:
        """Return when it has ended, or then."""
        until = time.monotonic() + seconds
        while not self.over and time.monotonic() < until:
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        if not self.over:
            os.kill(self.pid, number)

    def wait(self, seconds: float = FOREVER) -> int:
        """Its exit code; that of one that lasts longer is that of a kill."""
        self.wait_until_over(seconds)
        self.signal(signal.SIGKILL)
        if self._code is None:
            self._code = int(self._launcher.ask({"wait": self.pid}))
        return self._code

    def end(self, number: signal.Signals, seconds: float = FOREVER) -> int:
        self.signal(number)
        return self.wait(seconds)


class Plant(NamedTuple):
    """What both daemons watch.

    Attributes:
        world: with the trained bundle.
        text: the configuration, with ``source: {kind: memory}`` in place of the broker.
        partitions: of the sensors' topic.
        source: further settings of the source, such as ``, max_poll_records: 25``.
        state: likewise of the state.
    """

    world: World
    text: str
    partitions: int
    source: str = ""
    state: str = ""


class Pair:
    """A topic on a broker, with the daemon that is disturbed and the one that is not.

    Args:
        broker: real.
        folder: for both.
        launcher: starts daemons.
        name: of the topic, and the beginning of all other names.
        plant: what they watch.
    """

    def __init__(self, broker: AnyBroker, folder: Path, launcher: Launcher, name: str, plant: Plant) -> None:
        self.broker = broker
        self.launcher = launcher
        self.sensors = name
        self._partitions = plant.partitions
        create_topic(broker.bootstrap, self.sensors, plant.partitions)
        self.disturbed = self._place(folder / "disturbed", plant)
        self.whole = self._place(folder / "whole", plant)
        self.kills: Counter[str] = Counter()

    def _place(self, folder: Path, plant: Plant) -> Place:
        folder.mkdir(parents=True)
        topics = {
            name: f"{self.sensors}-{folder.name}-{name}" for name in ("alerts", "thresholds", "dead_letter")
        }
        for topic in topics.values():
            create_topic(self.broker.bootstrap, topic)
        group = f"{self.sensors}-{folder.name}"
        servers = f"bootstrap_servers: ['{self.broker.bootstrap}']"
        text = plant.text.replace(
            "source: {kind: memory}",
            f"source: {{kind: kafka, {servers}, topic: {self.sensors}, group: {group}{plant.source}}}\n"
            f"sink: {{kind: kafka, {servers}, topics: {json.dumps(topics)}}}\n"
            f"state: {{drain: {DRAIN_S:.0f}s{plant.state}}}\n"
            "health: {http: {enabled: false}}",
        )
        (folder / "plant.yaml").write_text(text)
        write_bundle(plant.world.trained.bundle, folder / "bundle")
        return Place(folder, topics, group)

    # -- what happens to it ---------------------------------------------------------------------------------

    def start(self, **order: Any) -> Life:
        """A life of the daemon that is disturbed."""
        return self.launcher.start(self.disturbed.folder, **order)

    def finish(self, place: Place | None = None, seconds: float = FOREVER, **order: Any) -> None:
        """A last life that reads everything and is stopped in order."""
        place = place or self.disturbed
        life = self.launcher.start(place.folder, **order)
        ends = self.ends()
        until = time.monotonic() + seconds
        while self.positions(place) != ends:
            assert not life.over, f"exit {life.wait()}: {place.log[-3000:]}"
            assert time.monotonic() < until, f"{self.positions(place)} of {ends}: {place.log[-3000:]}"
            time.sleep(0.2)
        assert life.end(signal.SIGTERM) == 0, place.log[-3000:]

    # -- what it has come to --------------------------------------------------------------------------------

    def ends(self) -> dict[int, int]:
        """Where the sensors' topic ends."""
        return self._asked(lambda consumer, tops: consumer.end_offsets(tops))

    def committed(self, place: Place | None = None) -> dict[int, int]:
        """What the group has committed."""
        group = (place or self.disturbed).group
        return self._asked(lambda consumer, tops: {top: consumer.committed(top) or 0 for top in tops}, group)

    def positions(self, place: Place | None = None) -> dict[int, int]:
        """What the state file reflects."""
        path = (place or self.disturbed).state / NAME
        if not path.exists():
            return {}
        try:
            store = Store(path, connect(path, read_only=True))
        except Unsound:
            return {}
        try:
            stored = {partition: store.read(partition) for partition in store.partitions()}
            return {p: one.restored.marker.position for p, one in stored.items() if one is not None}
        except Unsound:
            return {}
        finally:
            store.close()

    def _asked(self, ask: Any, group: str | None = None) -> dict[int, int]:
        consumer = KafkaConsumer(
            bootstrap_servers=self.broker.bootstrap, group_id=group, enable_auto_commit=False
        )
        try:
            tops = [TopicPartition(self.sensors, partition) for partition in range(self._partitions)]
            return {top.partition: at for top, at in ask(consumer, tops).items()}
        finally:
            consumer.close(autocommit=False)

    def check_offsets(self) -> None:
        """What Kafka knows is never ahead of the state."""
        durable, committed = self.positions(), self.committed()
        ahead = {p: (at, durable.get(p, 0)) for p, at in committed.items() if at > durable.get(p, 0)}
        assert not ahead, f"committed, durable: {ahead}"

    def check(self, *, duplicates: bool = True) -> Counter[str]:
        """Let the other daemon read it all, undisturbed, and `compare`; figures for the report.

        Decisions that were journalled act there too, at the same places.
        """
        journal = self.whole.folder / "journal.jsonl"
        export_command(self.disturbed.folder / "plant.yaml", journal)
        self.finish(self.whole, journal=str(journal))
        assert self.whole.counts["RECORDS"] == sum(self.ends().values()), (
            "the undisturbed daemon left records out"
        )
        entries = [entry for entries in read_journal(journal).values() for entry in entries]
        figures = self.compare(duplicates=duplicates)
        figures["decisions"] = sum(isinstance(command_of(entry), Decision) for entry in entries)
        return figures

    def compare(self, *, duplicates: bool = True) -> Counter[str]:
        """Ids, bodies and the ledger of windows of both daemons, when both have read all; figures for the report."""
        figures: Counter[str] = Counter()
        for channel in self.whole.topics:
            mine, twice = self._published(self.disturbed, channel)
            expected, none = self._published(self.whole, channel)
            assert none == 0, f"{channel}: the undisturbed run published {none} ids twice"
            assert mine.keys() == expected.keys(), _difference(mine.keys(), expected.keys())
            for name, body in expected.items():
                assert mine[name] == body, f"{channel} {name}: another body than without the fault"
            figures[channel], figures["duplicates"] = len(expected), figures["duplicates"] + twice
        assert duplicates or not figures["duplicates"], f"{figures['duplicates']} ids came twice"
        figures["windows"] = self.check_ledger()
        self.check_offsets()
        return figures

    def check_ledger(self) -> int:
        """Every window was folded, and always to the same ratio; returns how many there are."""
        expected = self.whole.ledger()
        found = set(self.disturbed.ledger())
        assert len(set(expected)) == len(expected), "the undisturbed run folded a window twice"
        assert found == set(expected), _difference(found, set(expected))
        return len(expected)

    def _published(self, place: Place, channel: str) -> tuple[dict[str, bytes], int]:
        """Body by id, and how many ids came more than once (always with the same body)."""
        bodies: dict[str, set[bytes]] = {}
        times: Counter[str] = Counter()
        for record in everything(self.broker.bootstrap, place.topics[channel]):
            if b'"kind":"MONITOR_HEALTH"' in (record.value or b""):
                continue  # of the daemon about itself, with a random id: outside the promise
            name = dict(record.headers)[ID_HEADER].decode()
            bodies.setdefault(name, set()).add(place.plain(record.value or b""))
            times[name] += 1
        unlike = [name for name, found in bodies.items() if len(found) > 1]
        assert not unlike, f"{channel}: ids with more than one body: {unlike[:3]}"
        return {name: found.pop() for name, found in bodies.items()}, sum(n > 1 for n in times.values())


def _difference(found: Any, expected: Any) -> str:
    lost, invented = sorted(expected - found), sorted(found - expected)
    return f"{len(lost)} lost, such as {lost[:3]}; {len(invented)} invented, such as {invented[:3]}"


class Rig(Pair):
    """A small plant with a stream that is fed piece by piece, under a configuration that has much to lose.

    Args:
        broker: real.
        folder: for both.
        launcher: starts daemons.
        rows: readings per asset.
        seed: of the stream and of everything that is done to the daemon; printed, so that a failure can be repeated.
        state: the `state` section's other settings.

    Attributes:
        chance: what is done to the daemon.
        values: [rows, SENSORS] by asset, to be changed before they are fed.
    """

    def __init__(
        self, broker: AnyBroker, folder: Path, launcher: Launcher, rows: int, seed: int, state: str = ""
    ) -> None:
        print(f"chaos: seed {seed}, {rows} rows of {len(ASSETS)} assets")
        self.chance = random.Random(seed)
        self.values = readings(rows, seed)
        self._rows, self._fed = rows, 0
        text = configuration_text(SENSORS, LENGTH, "{pca: {}, var: {}}", EXTRA)
        often = f", interval: 100ms, retry: 1s{state}"
        plant = Plant(trained(), text, PARTITIONS, ", max_poll_records: 25", often)
        super().__init__(broker, folder, launcher, f"chaos-{seed}-{os.getpid()}-{time.monotonic_ns()}", plant)
        self.starting = self._time_to_start()

    def _time_to_start(self) -> float:
        """Seconds from the fork to the first poll on this machine as busy as it is, on an empty topic."""
        begun = time.monotonic()
        life = self.launcher.start(self.whole.folder)
        while '"event": "started"' not in self.whole.log:
            assert not life.over, f"exit {life.wait()}: {self.whole.log[-3000:]}"
            time.sleep(0.02)
        took = time.monotonic() - begun
        assert life.end(signal.SIGTERM) == 0
        return took

    def feed(self, rows: int, *, as_time_went: bool = False) -> None:
        """The next so many readings of every asset, one of a hundred broken.

        Args:
            rows: of every asset.
            as_time_went: with the broker's times one second a row apart, the last one now; else all are of now.
        """
        first, last = self._fed, min(self._rows, self._fed + rows)
        sensors = list(trained().asset_class.sensors)
        records: list[tuple[bytes | None, bytes | None, int]] = []
        for row in range(first, last):
            for number, (asset, values) in enumerate(self.values.items()):
                body = {
                    "asset": asset,
                    "ts": iso_time(START + row * SECOND),
                    "values": dict(zip(sensors, values[row].tolist(), strict=True)),
                }
                raw = b"{" if (row * len(ASSETS) + number) % 101 == 100 else msgspec.json.encode(body)
                records.append((asset.encode(), raw, number % PARTITIONS))
        self._fed = last
        now, last_row = int(time.time() * 1000), self._rows - 1
        times = [now - 1000 * (last_row - row) for row in range(first, last) for _ in self.values]
        if records:
            produce(self.broker.bootstrap, self.sensors, records, timestamps_ms=times if as_time_went else ())

    def decide(self) -> None:
        """A decision about one asset of every partition, whatever stands there."""
        for asset in ASSETS[:PARTITIONS]:
            action = self.chance.choice(["approve", "reject", "rollback"])
            at = iso_time(START + self._fed * SECOND)
            append_decision(self.disturbed.state, Decision(asset, action, "chaos", at))

    def feed_until_over(self, life: Life, rows: int) -> None:
        """Return when a daemon has killed itself; it is fed on, so many rows at a time, while it has not."""
        until = time.monotonic() + FOREVER
        while not life.over:
            positions, all_of_it = self.positions(), self._fed * len(ASSETS) // PARTITIONS
            assert time.monotonic() < until, f"{positions} of {all_of_it}: {self.disturbed.log[-3000:]}"
            if set(positions.values()) == {all_of_it}:
                assert self._fed < self._rows, "the stream is at its end, and the point was never passed"
                self.feed(rows)
                until = time.monotonic() + FOREVER
            life.wait_until_over(0.3)

    def wait_for_progress(self, life: Life) -> None:
        """Return when a daemon has read something and not yet everything, or everything."""
        before, until = self.positions(), time.monotonic() + FOREVER
        while self.positions() == before:
            assert not life.over, f"exit {life.wait()}: {self.disturbed.log[-3000:]}"
            assert time.monotonic() < until, self.disturbed.log[-3000:]
            time.sleep(0.01)
