"""Silence: told when the others have gone on without an asset, and told once."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from connectors.records import OutRecord
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


def overdue(watch: SilenceWatch, *seconds: int) -> list[int]:
    last = np.array(seconds, np.int64) * SECOND
    return watch.overdue(last, np.ones(len(last), np.bool_)).tolist()


@pytest.fixture
def watch() -> SilenceWatch:
    made = SilenceWatch(SILENCE)
    made.grow(5)
    return made


def test_an_asset_that_the_others_left_behind_is_told_once(watch: SilenceWatch) -> None:
    assert overdue(watch, 1000, 1000, 880, 1000) == []
    assert overdue(watch, 1001, 1001, 880, 1001) == [2]
    assert overdue(watch, 1500, 1500, 880, 1500) == []
    assert watch.ended(2)
    assert not watch.ended(2)


def test_one_fast_clock_silences_nobody(watch: SilenceWatch) -> None:
    assert overdue(watch, 1000, 1000, 5000, 1000) == []


def test_an_asset_alone_is_never_told_early(watch: SilenceWatch) -> None:
    assert overdue(watch, 1000) == []


def test_assets_without_a_reading_do_not_count(watch: SilenceWatch) -> None:
    last = np.array([-(2**62), 1000 * SECOND, 1000 * SECOND], np.int64)
    assert watch.overdue(last, np.array([False, True, True])).tolist() == []


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


def test_the_early_and_the_late_word_are_the_same_event(trained: World) -> None:
    batch = batch_of({f"plant/{n}": autoregressive(50 + n, 400, 2) for n in range(4)})
    first = batch.time[0]
    quiet = (batch.asset == 2) & (batch.time > first + 50 * SECOND) & (batch.time < first + 300 * SECOND)
    stream = pick(batch, np.flatnonzero(~quiet))
    stream = stream._replace(offset=np.arange(len(stream.time), dtype=np.int64))
    early, at_once = trained.pipeline(), trained.pipeline()
    by_piece = [
        silences(early.push(polled(pick(stream, slice(low, low + 100)))).records)
        for low in range(0, len(stream.time), 100)
    ]
    together = silences(at_once.push(polled(stream)).records)
    assert [(name, event) for _, name, event in together] == [("plant/2", "RAISED"), ("plant/2", "CLEARED")]
    assert [event for piece in by_piece for event in piece] == together
    raised = next(n for n, piece in enumerate(by_piece) if piece)
    assert by_piece[raised][0][2] == "RAISED"
    assert len(by_piece[raised]) == 1, "RAISED came before the asset spoke again"
