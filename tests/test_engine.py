"""The one loop of daemon and replay: a crash anywhere, a restart, and the same records as if nothing had been."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from connectors.errors import SinkError
from connectors.memory import MemorySink, MemorySource
from connectors.ports import Source
from connectors.records import Batch, Channel, OutRecord, RawRecord
from monitor.checkpoint import Checkpoint, Marker, MemoryCheckpoint
from monitor.commands import Commands, TimedDecisions
from monitor.connect import layout_of
from monitor.durable.checkpoint import SqliteCheckpoint
from monitor.engine import Engine
from monitor.errors import ConfigurationError, StateError
from monitor.journal import FolderInbox, JournalledCommands
from monitor.quantities import iso_time
from monitor.thresholds.decisions import (
    Decision,
    append_decision,
)
from tests.worlds import SECOND, START, World, autoregressive, batch_of, configuration_text, world

SENSORS, LENGTH, ROWS, CUT = 3, 8, 220, 40
SICK = "plant/0"


@pytest.fixture(scope="module")
def trained() -> World:
    extra = (
        "    drift: {samples: 60, settle: 3min}\n    alerting: {on_delay: 2s, off_delay: 5s, realert: 30s}"
    )
    text = configuration_text(SENSORS, LENGTH, "{pca: {}}", extra)
    return world(text, [batch_of({f"plant/{n}": autoregressive(n, 900, SENSORS, 0.5) for n in range(2)})])


@pytest.fixture(scope="module")
def stream() -> Batch:
    """Two assets; plant/0 steps away for good, plant/1 has a faulty sensor for a while."""
    values = {f"plant/{n}": autoregressive(50 + n, ROWS, SENSORS, 0.5) for n in range(2)}
    values[SICK][60:, 1] += 8.0
    values["plant/1"][80:120, 2] = 5000.0
    return batch_of(values)


class EagerSink(MemorySink):
    """Has what it is handed at once, as a broker may; a flush only says so."""

    def emit(self, records: Sequence[OutRecord]) -> None:
        super().emit(records)
        super().flush(0.0)


def ids(sink: MemorySink) -> list[str]:
    return [record.id for record in sink.records]


def contents(sink: MemorySink) -> list[OutRecord]:
    return sorted(sink.records)


def engine(
    trained: World,
    source: Source,
    checkpoint: Checkpoint,
    commands: Commands | None = None,
    bundle: str | None = None,
) -> Engine:
    made = Engine(source, checkpoint, trained.pipeline, {"unit": bundle or trained.model.bundle_id}, commands)
    made.open("earliest")
    return made


def finish(running: Engine) -> None:
    while not running.exhausted:
        running.step(0.0)
    running.snapshot()
    running.close()


def undisturbed(trained: World, stream: Batch, commands: Commands | None = None) -> list[OutRecord]:
    sink = MemorySink()
    finish(engine(trained, MemorySource([stream], cuts=(CUT,)), MemoryCheckpoint(sink), commands))
    return contents(sink)


@pytest.fixture(scope="module")
def expected(trained: World, stream: Batch) -> list[OutRecord]:
    records = undisturbed(trained, stream)
    data = [msgspec.json.decode(r.value or b"")["data"] for r in records if r.channel is Channel.ALERTS]
    events = {(alert["kind"], alert["event"]) for alert in data}
    assert {
        ("ANOMALY", "RAISED"),
        ("ANOMALY", "UPDATED"),
        ("SENSOR_FAULT", "RAISED"),
        ("SENSOR_FAULT", "CLEARED"),
    } <= events
    assert len({record.id for record in records}) == len(records)
    return records


# -- crashes --------------------------------------------------------------------------------------------------

POLLS = 2 * ROWS // CUT


@pytest.mark.parametrize("crash", range(1, POLLS + 1))
@pytest.mark.parametrize("sink_kind", [MemorySink, EagerSink])
def test_a_crash_at_any_poll_changes_nothing_of_what_is_published(
    trained: World,
    stream: Batch,
    expected: list[OutRecord],
    tmp_path: Path,
    crash: int,
    sink_kind: type[MemorySink],
) -> None:
    """The snapshot lies two polls before the crash; the next life cuts the stream otherwise."""
    sink = sink_kind()
    source = MemorySource([stream], cuts=(CUT,))
    first = engine(trained, source, SqliteCheckpoint(tmp_path, sink))
    for poll in range(1, crash + 1):
        first.step(0.0)
        if poll == max(1, crash - 2):
            first.snapshot()
            assert source.committed == {0: poll * CUT}
    first.close()  # nothing but the lock is let go: no snapshot
    finish(engine(trained, MemorySource([stream], cuts=(7, 90, 31)), SqliteCheckpoint(tmp_path, sink)))
    assert contents(sink) == expected


@pytest.mark.parametrize("polls", [1, 5])
def test_a_crash_before_the_first_snapshot_publishes_nothing_twice(
    trained: World, stream: Batch, expected: list[OutRecord], tmp_path: Path, polls: int
) -> None:
    sink = EagerSink()
    first = engine(trained, MemorySource([stream], cuts=(CUT,)), SqliteCheckpoint(tmp_path, sink))
    for _ in range(polls):
        first.step(0.0)
    first.close()
    finish(engine(trained, MemorySource([stream], cuts=(CUT,)), SqliteCheckpoint(tmp_path, sink)))
    assert contents(sink) == expected


def test_crash_after_crash_nothing_is_lost_and_nothing_is_published_twice(
    trained: World, stream: Batch, expected: list[OutRecord], tmp_path: Path
) -> None:
    sink = EagerSink()
    for _ in range(POLLS):
        running = engine(trained, MemorySource([stream], cuts=(CUT,)), SqliteCheckpoint(tmp_path, sink))
        running.step(0.0)
        running.snapshot()
        running.step(0.0)
        running.close()
    finish(engine(trained, MemorySource([stream], cuts=(CUT,)), SqliteCheckpoint(tmp_path, sink)))
    assert contents(sink) == expected


def test_records_through_the_codec_survive_a_crash_too(trained: World, stream: Batch, tmp_path: Path) -> None:
    """Three partitions, of which two have state; records that cannot be decoded among them."""
    records = raw(stream, trained)
    layout = layout_of(trained.settings)
    whole, sink = MemorySink(), EagerSink()
    finish(engine(trained, MemorySource(records, layout, cuts=(50,)), MemoryCheckpoint(whole)))
    assert {record.channel for record in whole.records} >= {Channel.ALERTS, Channel.DEAD_LETTER}

    first = engine(trained, MemorySource(records, layout, cuts=(50,)), SqliteCheckpoint(tmp_path, sink))
    for _ in range(4):
        first.step(0.0)
    first.snapshot()
    first.step(0.0)
    first.close()
    second = SqliteCheckpoint(tmp_path, EagerSink())
    assert [second.restore(partition) is not None for partition in range(3)] == [True, True, False]
    second.close()
    finish(engine(trained, MemorySource(records, layout, cuts=(33,)), SqliteCheckpoint(tmp_path, sink)))
    assert contents(sink) == contents(whole)


def raw(stream: Batch, trained: World) -> list[RawRecord]:
    """A partition per asset, as frames; every fiftieth record is broken; the third partition comes late."""
    sensors, offsets, records = list(trained.asset_class.sensors), [0, 0, 0], list[RawRecord]()
    rows = zip(stream.asset.tolist(), stream.time.tolist(), stream.values.tolist(), strict=True)
    for number, (asset, time, values) in enumerate(rows):
        frame = {
            "asset": stream.assets[asset],
            "ts": iso_time(time),
            "values": dict(zip(sensors, values, strict=True)),
        }
        broken = number % 50 == 49
        records.append(RawRecord(asset, offsets[asset], None, b"{" if broken else msgspec.json.encode(frame)))
        offsets[asset] += 1
        if number == 300:
            records.append(RawRecord(2, 0, None, b"late"))
    return records


# -- snapshots ------------------------------------------------------------------------------------------------


def test_the_source_is_told_of_a_position_only_when_it_is_durable(trained: World, stream: Batch) -> None:
    sink, source = MemorySink(), MemorySource([stream], cuts=(CUT,))
    running = engine(trained, source, MemoryCheckpoint(sink))
    for _ in range(3):
        running.step(0.0)
    assert source.committed == {}
    sink.failure = SinkError("not now")
    with pytest.raises(SinkError):
        running.snapshot()
    assert source.committed == {}
    running.snapshot()
    assert source.committed == {0: 3 * CUT}


def test_a_snapshot_that_the_sink_refused_can_be_repeated_without_losing_state(
    trained: World, stream: Batch, expected: list[OutRecord], tmp_path: Path
) -> None:
    sink = MemorySink()
    running = engine(trained, MemorySource([stream], cuts=(CUT,)), SqliteCheckpoint(tmp_path, sink))
    for _ in range(5):
        running.step(0.0)
    sink.failure = SinkError("not now")
    with pytest.raises(SinkError):
        running.snapshot()
    running.snapshot()
    running.close()
    finish(engine(trained, MemorySource([stream], cuts=(CUT,)), SqliteCheckpoint(tmp_path, sink)))
    assert contents(sink) == expected


def test_a_snapshot_without_news_writes_nothing(trained: World, stream: Batch) -> None:
    class Counting(MemoryCheckpoint):
        commits = 0

        def commit(self, *arguments, **named) -> None:
            self.commits += 1
            super().commit(*arguments, **named)

    checkpoint = Counting(MemorySink())
    running = engine(trained, MemorySource([stream], cuts=(CUT,)), checkpoint)
    running.snapshot()
    running.step(0.0)
    running.snapshot()
    running.snapshot()
    assert checkpoint.commits == 2, "the beginning, and one snapshot"


def test_an_asset_on_two_partitions_stops_the_engine_with_an_explanation(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    names = stream.assets
    records = raw(stream, trained)
    moved = [
        record._replace(partition=5) if n > 100 and record.partition == 0 else record
        for n, record in enumerate(records)
    ]
    running = engine(
        trained, MemorySource(moved, layout_of(trained.settings)), SqliteCheckpoint(tmp_path, MemorySink())
    )
    with pytest.raises(ConfigurationError, match="got records on partitions 0 and 5") as caught:
        finish(running)
    assert caught.value.exit_code == 78
    assert any(repr(name) in str(caught.value) for name in names)
    running.close()


# -- state that does not fit ----------------------------------------------------------------------------------


def stopped_half_way(trained: World, stream: Batch, folder: Path, sink: MemorySink) -> None:
    running = engine(trained, MemorySource([stream], cuts=(CUT,)), SqliteCheckpoint(folder, sink))
    for _ in range(POLLS // 2):
        running.step(0.0)
    running.snapshot()
    running.close()


def test_state_of_another_bundle_is_discarded_and_reported_and_the_position_kept(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    sink = MemorySink()
    stopped_half_way(trained, stream, tmp_path, sink)
    before = len(sink.records)
    source = MemorySource([stream], cuts=(CUT,))
    running = engine(trained, source, SqliteCheckpoint(tmp_path, sink), bundle="another")
    assert running.discarded == [0]
    assert running.pipelines == {}
    assert source.lag == 2 * ROWS - (POLLS // 2) * CUT
    finish(running)

    alone = MemorySink()
    rest = MemorySource([stream], cuts=(CUT,))
    fresh = Engine(rest, MemoryCheckpoint(alone), trained.pipeline, {})
    fresh.open(START + (POLLS // 2) * CUT // 2 * SECOND)
    finish(fresh)
    assert sink.records[before:] == alone.records
    again = engine(trained, MemorySource([stream]), SqliteCheckpoint(tmp_path, sink), bundle="another")
    assert again.discarded == []
    again.close()


def test_discarded_state_of_records_is_reported_once_a_partition(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    records, layout = raw(stream, trained)[:120], layout_of(trained.settings)
    finish(engine(trained, MemorySource(records, layout), SqliteCheckpoint(tmp_path, MemorySink())))
    checkpoint = SqliteCheckpoint(tmp_path, MemorySink())
    running = engine(trained, MemorySource(records, layout), checkpoint, bundle="another")
    assert running.discarded == [0, 1]
    running.close()


def test_state_that_does_not_fit_the_configuration_is_a_state_error(
    trained: World, stream: Batch, tmp_path: Path
) -> None:
    sink = MemorySink()
    checkpoint = SqliteCheckpoint(tmp_path, sink)
    checkpoint.commit(
        0, {"plant/0": b"\x93\xa4unit\x00\xc4\x01x"}, Marker(40, {"unit": trained.model.bundle_id})
    )
    checkpoint.close()
    again = SqliteCheckpoint(tmp_path, sink)
    with pytest.raises(StateError, match=r"partition 0: the stored state does not fit .*hint: ") as caught:
        engine(trained, MemorySource([stream]), again)
    again.close()
    assert caught.value.exit_code == 74


# -- decisions ------------------------------------------------------------------------------------------------


def approval(second: int) -> Decision:
    return Decision(SICK, "approve", "J. Roe", iso_time(START + second * SECOND))


def versions(records: Sequence[OutRecord]) -> list[str]:
    found = [r for r in records if r.channel is Channel.THRESHOLDS]
    data = [msgspec.json.decode(r.value or b"")["data"] for r in found]
    return [each["trigger"] for each in data if each.get("trigger", "tracking") != "tracking"]


def engine_with_inbox(trained: World, stream: Batch, folder: Path, sink: MemorySink) -> Engine:
    checkpoint = SqliteCheckpoint(folder, sink)
    commands = JournalledCommands([FolderInbox(folder)], checkpoint.journal)
    return engine(trained, MemorySource([stream], cuts=(CUT,)), checkpoint, commands)


@pytest.mark.parametrize("crash", range(5, POLLS + 1))
def test_a_decision_in_the_middle_is_repeated_after_a_restart(
    trained: World, stream: Batch, tmp_path: Path, crash: int
) -> None:
    """Approved in front of the fifth poll; the same by the clock of a replay at just that place."""
    expected = undisturbed(trained, stream, TimedDecisions([approval(4 * CUT // 2 - 1)]))
    assert versions(expected) == ["approved"]

    sink = EagerSink()
    first = engine_with_inbox(trained, stream, tmp_path, sink)
    for poll in range(1, crash + 1):
        if poll == 5:
            append_decision(tmp_path, approval(4 * CUT // 2 - 1))
        first.step(0.0)
        if poll == max(1, crash - 2):
            first.snapshot()
    first.close()
    finish(engine_with_inbox(trained, stream, tmp_path, sink))
    assert contents(sink) == expected


class Growing(MemorySource):
    """A stream to which others append, as long as a topic at the time of its opening.

    Args:
        known: positions that are there by then.
    """

    def __init__(self, stream: Batch, known: int) -> None:
        super().__init__([stream], cuts=(CUT,))
        self._known = known

    def end(self, partition: int) -> int:  # type: ignore[override]  # noqa: ARG002
        return self._known


@pytest.mark.parametrize("crash", range(3, POLLS))
def test_a_decision_that_comes_after_a_crash_does_not_act_on_what_may_be_published_already(
    trained: World, stream: Batch, tmp_path: Path, crash: int
) -> None:
    """A life folds up to a crash, two polls behind its snapshot; the decision is there when the next one begins."""
    place = crash * CUT
    expected = undisturbed(trained, stream, TimedDecisions([approval(place // 2 - 1)]))
    sink = EagerSink()
    first = engine_with_inbox(trained, stream, tmp_path, sink)
    for poll in range(crash):
        first.step(0.0)
        if poll == crash - 3:
            first.snapshot()
    first.close()
    append_decision(tmp_path, approval(place // 2 - 1))
    checkpoint = SqliteCheckpoint(tmp_path, sink)
    commands = JournalledCommands([FolderInbox(tmp_path)], checkpoint.journal)
    finish(engine(trained, Growing(stream, place), checkpoint, commands))
    assert contents(sink) == expected


def test_a_decision_is_part_of_what_a_file_of_decisions_gives_whatever_the_polls(
    trained: World, stream: Batch
) -> None:
    expected = undisturbed(trained, stream, TimedDecisions([approval(90)]))
    for cuts in ((1000,), (11,)):
        sink = MemorySink()
        source = MemorySource([stream], cuts=cuts)
        finish(engine(trained, source, MemoryCheckpoint(sink), TimedDecisions([approval(90)])))
        assert contents(sink) == expected


def test_a_decision_about_an_asset_never_seen_is_counted(trained: World, stream: Batch) -> None:
    stranger = Decision("plant/7", "approve", "J. Roe", iso_time(START))
    batch = stream._replace(assets=(*stream.assets, "plant/7"))
    batch = batch._replace(asset=np.where(np.arange(len(batch.time)) == 100, 2, batch.asset).astype(np.int32))
    running = engine(
        trained, MemorySource([batch]), MemoryCheckpoint(MemorySink()), TimedDecisions([stranger])
    )
    counts = [step.outcome.counts["COMMAND_UNKNOWN_ASSET"] for step in running.step(0.0)]
    assert sum(counts) == 1
    running.close()
