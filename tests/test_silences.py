"""Silence: told when the others have gone on without an asset, and told once."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from connectors.records import Batch, OutRecord
from monitor.event_time.silences import SilenceWatch
from tests.worlds import (
    SECOND,
    World,
    alerts,
    autoregressive,
    batch_of,
    configuration_text,
    pick,
    polled,
    world,
)

SILENCE = 120 * SECOND


def overdue(watch: SilenceWatch, *seconds: int, quiet: bool = True) -> list[int]:
    last = np.array(seconds, np.int64) * SECOND
    everyone = np.ones(len(last), np.bool_)
    return watch.overdue(last, everyone, np.full(len(last), quiet)).tolist()


def ended(watch: SilenceWatch, row: int, second: int) -> dict[int, int]:
    return watch.ended(np.array([row], np.int32), np.array([second * SECOND]))


@pytest.fixture
def watch() -> SilenceWatch:
    made = SilenceWatch(SILENCE)
    made.grow(5)
    return made


def test_an_asset_that_the_others_left_behind_is_told_once(watch: SilenceWatch) -> None:
    assert overdue(watch, 1000, 1000, 880, 1000) == []
    assert overdue(watch, 1001, 1001, 880, 1001) == [2]
    assert overdue(watch, 1500, 1500, 880, 1500) == []
    assert ended(watch, 2, 880) == {}
    assert ended(watch, 2, 1501) == {2: 880 * SECOND}
    assert ended(watch, 2, 1502) == {}


def test_an_asset_that_was_heard_lately_is_not_told(watch: SilenceWatch) -> None:
    assert overdue(watch, 1500, 1500, 880, 1500, quiet=False) == []


def test_one_fast_clock_silences_nobody(watch: SilenceWatch) -> None:
    assert overdue(watch, 1000, 1000, 5000, 1000) == []


def test_an_asset_alone_is_never_told_early(watch: SilenceWatch) -> None:
    assert overdue(watch, 1000) == []


def test_assets_without_a_reading_do_not_count(watch: SilenceWatch) -> None:
    last = np.array([-(2**62), 1000 * SECOND, 1000 * SECOND], np.int64)
    seen = np.array([False, True, True])
    assert watch.overdue(last, seen, np.ones(3, np.bool_)).tolist() == []


def test_what_was_told_survives_a_restart(watch: SilenceWatch) -> None:
    overdue(watch, 1001, 1001, 880, 1001)
    fresh = SilenceWatch(SILENCE)
    fresh.grow(5)
    fresh.load(2, watch.dump(2))
    assert overdue(fresh, 1500, 1500, 880, 1500) == []


@pytest.fixture(scope="module")
def trained() -> World:
    history = batch_of({f"plant/{n}": autoregressive(n, 700, 2) for n in range(3)})
    return world(configuration_text(2, 8, "{pca: {}}"), [history])


def silences(records: list[OutRecord]) -> list[tuple[str, str, str]]:
    events = [(r.id, msgspec.json.decode(r.value or b"")) for r in alerts(records)]
    return [(i, e["subject"], e["data"]["event"]) for i, e in events if e["data"].get("subject") == "silence"]


@pytest.fixture(scope="module")
def stream() -> Batch:
    """Four assets of 400 s, of which plant/2 is silent from 51 s to 299 s."""
    batch = batch_of({f"plant/{n}": autoregressive(50 + n, 400, 2) for n in range(4)})
    age = batch.time - batch.time[0]
    quiet = (batch.asset == 2) & (age > 50 * SECOND) & (age < 300 * SECOND)
    kept = pick(batch, np.flatnonzero(~quiet))
    return kept._replace(offset=np.arange(len(kept.time), dtype=np.int64))


def test_a_stream_alone_tells_a_silence_when_it_ends(trained: World, stream: Batch) -> None:
    told = silences(trained.pipeline().push(polled(stream)).records)
    assert [(name, event) for _, name, event in told] == [("plant/2", "RAISED"), ("plant/2", "CLEARED")]


def test_what_the_daemon_tells_early_is_the_same_event_and_is_told_once(
    trained: World, stream: Batch
) -> None:
    whole = silences(trained.pipeline().push(polled(stream)).records)
    pipeline, told = trained.pipeline(), []
    for low in range(0, len(stream.time), 100):
        told.append(silences(pipeline.push(polled(pick(stream, slice(low, low + 100)))).records))
        told.append(silences(pipeline.tell_silences({"plant/2"})))
    assert [event for piece in told for event in piece] == whole
    raised = next(n for n, piece in enumerate(told) if piece)
    assert [event for _, _, event in told[raised]] == ["RAISED"]
    assert raised % 2 == 1, "the daemon told it, before the asset spoke again"


def test_a_backlog_that_fills_a_gap_clears_what_was_told(trained: World) -> None:
    whole = batch_of({f"plant/{n}": autoregressive(50 + n, 400, 2) for n in range(4)})
    late = whole.asset == 2
    late &= whole.time > whole.time[0] + 50 * SECOND
    pipeline = trained.pipeline()
    pipeline.push(polled(pick(whole, np.flatnonzero(~late))))
    assert [event for _, _, event in silences(pipeline.tell_silences({"plant/2"}))] == ["RAISED"]
    backlog = silences(pipeline.push(polled(pick(whole, np.flatnonzero(late)))).records)
    assert [(name, event) for _, name, event in backlog] == [("plant/2", "CLEARED")]
    assert silences(pipeline.tell_silences({"plant/2"})) == []


def test_assets_one_after_the_other_are_not_silent(trained: World) -> None:
    whole = batch_of({f"plant/{n}": autoregressive(50 + n, 400, 2) for n in range(4)})
    pipeline = trained.pipeline()
    records = [
        record
        for asset in range(4)
        for record in pipeline.push(polled(pick(whole, np.flatnonzero(whole.asset == asset)))).records
    ]
    assert silences(records) == []
