"""Any cut of the stream, any interleaving of assets, snapshot, restore and crash anywhere: the same events.

Hypothesis plays a source, a clock and a saboteur against one pipeline. When it is done, what was published must be what
each asset gives alone, in one piece and undisturbed; and a replay of the same log must say the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from connectors.codec import Codec
from connectors.memory import MemorySink, MemorySource
from connectors.records import Channel, OutRecord, RawRecord
from monitor.checkpoint import MemoryCheckpoint
from monitor.connect import layout_of
from monitor.engine import Engine
from monitor.pipeline import Pipeline
from monitor.trace import Trace, joined
from tests.disturbances import DISTURBANCES, ROWS, clean, encoded
from tests.hostile import hostile_world, pipeline
from tests.payloads import PAYLOADS
from tests.worlds import World, autoregressive, by_asset

ASSETS = ("poly2/A", "poly2/B", "poly2/C")
SMALL = [payload.value for payload in PAYLOADS if len(payload.value or b"") < 2000]
Event = tuple[str, str, bytes]


@cache
def trained() -> World:
    return hostile_world()


@cache
def stream(asset: str, disturbance: int) -> tuple[bytes, ...]:
    """An asset's records, with one disturbance of the corpus."""
    values = autoregressive(500 + ASSETS.index(asset), ROWS, 3)
    values[40:70, 1] += 25.0
    return tuple(encoded(DISTURBANCES[disturbance].change(clean(asset, values))))


def events_of(records: Sequence[OutRecord]) -> list[Event]:
    """What must not depend on how the records came: of dead letters the reason and the bytes, else id and data."""
    found: list[Event] = []
    for record in records:
        if record.channel is Channel.DEAD_LETTER:
            found.append(("letter", dict(record.headers)["x-error-reason"].decode(), record.value or b""))
        else:
            data = msgspec.json.decode(record.value or b"")["data"]
            found.append((record.channel, record.id, msgspec.json.encode(data, order="sorted")))
    return sorted(found)


@cache
def alone(asset: str, disturbance: int) -> tuple[list[Event], dict[str, bytes]]:
    """Events and figures of an asset by itself, all records in one poll."""
    records = [RawRecord(0, n, None, value) for n, value in enumerate(stream(asset, disturbance))]
    outcome = pipeline(trained()).push(Codec(layout_of(trained().settings)).poll(records))
    return events_of(outcome.records), by_asset(joined(outcome.traces))[asset]


class Stream(RuleBasedStateMachine):
    """Three assets' streams on their way into one partition."""

    def __init__(self) -> None:
        super().__init__()
        self.codec = Codec(layout_of(trained().settings))
        self.live = pipeline(trained())
        self.log: list[RawRecord] = []  # the partition
        self.read = 0  # position of the fold
        self.published: dict[str, OutRecord] = {}
        self.stored: tuple[int, dict[str, bytes], int] = (0, {}, 0)
        self.traces: list[Trace] = []
        self.noise = Counter[str]()

    @initialize(chosen=st.tuples(*[st.integers(0, len(DISTURBANCES) - 1)] * len(ASSETS)))
    def choose(self, chosen: tuple[int, ...]) -> None:
        self.chosen = dict(zip(ASSETS, chosen, strict=True))
        self.waiting = {asset: list(stream(asset, which)) for asset, which in self.chosen.items()}

    @rule(asset=st.sampled_from(ASSETS), count=st.integers(1, 60))
    def send(self, asset: str, count: int) -> None:
        taken, self.waiting[asset] = self.waiting[asset][:count], self.waiting[asset][count:]
        for value in taken:
            self.log.append(RawRecord(0, len(self.log), None, value))

    @rule(which=st.integers(0, len(SMALL) - 1))
    def send_noise(self, which: int) -> None:
        self.noise[f"{SMALL[which]!r}"] += 1
        self.log.append(RawRecord(0, len(self.log), None, SMALL[which]))

    @rule(count=st.integers(1, 200))
    def poll(self, count: int) -> None:
        records = self.log[self.read : self.read + count]
        if not records:
            return
        outcome = self.live.push(self.codec.poll(records))
        self.read += len(records)
        self.traces += outcome.traces
        for record in outcome.records:
            before = self.published.setdefault(record.id, record)
            assert before == record, "the same id with another body"

    @rule()
    def snapshot(self) -> None:
        rows = self.stored[1] | self.live.dump()
        self.stored = (self.read, rows, len(self.traces))

    @rule()
    def restart_after_a_snapshot(self) -> None:
        self.snapshot()
        self.live = restored(self.stored[1])

    @rule()
    def crash(self) -> None:
        """What came since the snapshot is read again; what was published stays published."""
        self.read, rows, kept = self.stored
        self.live = restored(rows)
        del self.traces[kept:]

    def teardown(self) -> None:
        if not hasattr(self, "chosen"):
            return
        for asset in ASSETS:
            self.send(asset, 10**6)
        self.poll(10**6)
        self._check_alone()
        self._check_replay()

    def _check_alone(self) -> None:
        expected = [event for asset in ASSETS for event in alone(asset, self.chosen[asset])[0]]
        noise = sum(self.noise.values())
        found = events_of(list(self.published.values()))
        letters = Counter(event for event in found if event[0] == "letter")
        letters.subtract(event for event in expected if event[0] == "letter")
        assert min(letters.values(), default=0) >= 0
        assert letters.total() == noise
        assert [e for e in found if e[0] != "letter"] == sorted(e for e in expected if e[0] != "letter")
        figures = by_asset(joined(self.traces))
        for asset in ASSETS:
            assert figures[asset] == alone(asset, self.chosen[asset])[1]

    def _check_replay(self) -> None:
        sink = MemorySink()
        source = MemorySource(self.log, layout_of(trained().settings), cuts=(33, 5, 400))
        engine = Engine(source, MemoryCheckpoint(sink), lambda _: pipeline(trained()), {"unit": "bundle"})
        engine.open("earliest")
        while not engine.exhausted:
            engine.step(0.0)
        engine.snapshot()
        assert sorted(sink.records) == sorted(self.published.values())


def restored(rows: dict[str, bytes]) -> Pipeline:
    fresh = pipeline(trained())
    fresh.load(rows)
    return fresh


def test_events_do_not_depend_on_cuts_interleaving_snapshots_or_crashes() -> None:
    run_state_machine_as_test(
        Stream,
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def test_the_streams_have_events_to_differ_in() -> None:
    events, figures = alone(ASSETS[0], 0)
    data: list[Any] = [msgspec.json.decode(body) for kind, _, body in events if kind == Channel.ALERTS]
    assert ("ANOMALY", "RAISED") in {(one["kind"], one["event"]) for one in data}
    assert len(figures["end"]) > 0
