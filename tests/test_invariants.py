"""The three invariants, bit for bit, at production size: events depend neither on how the stream is cut, nor on how
assets interleave, nor on a snapshot and restore anywhere."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from connectors.records import Batch, OutRecord
from monitor.pipeline import Pipeline
from tests.worlds import (
    World,
    alerts,
    autoregressive,
    batch_of,
    by_asset,
    configuration_text,
    pick,
    run,
    world,
)

SIZES = {"8x64x64": (8, 64, 64), "32x128x128": (32, 128, 128)}


@pytest.fixture(scope="module", params=SIZES, ids=list(SIZES))
def trained(request: pytest.FixtureRequest) -> World:
    sensors, length, hidden = SIZES[request.param]
    few = f"hidden: {hidden}, epochs: 1, epoch_windows: 128"
    scorers = f"{{lstm_autoencoder: {{{few}}}, pca: {{}}, var: {{}}}}"
    text = configuration_text(sensors, length, scorers)
    history = batch_of({f"plant/{n}": autoregressive(n, 900, sensors) for n in range(3)})
    return world(text, [history])


@pytest.fixture(scope="module")
def stream(trained: World) -> Batch:
    """Five assets; a step fault, a stuck sensor, a dead one, a gap, and rows out of order and late."""
    sensors = len(trained.asset_class.sensors)
    values = {f"plant/{n}": autoregressive(100 + n, 320, sensors) for n in range(5)}
    values["plant/0"][200:, 1] += 25.0
    values["plant/1"][150:, 2] = values["plant/1"][150, 2]
    values["plant/2"][150:, 0] = np.nan
    batch = batch_of(values)
    gap = (
        (batch.asset == 3)
        & (batch.time >= batch.time[0] + 140 * 10**9)
        & (batch.time < batch.time[0] + 290 * 10**9)
    )
    batch = pick(batch, np.flatnonzero(~gap))
    order = np.arange(len(batch.time))
    swapped = np.random.default_rng(1).choice(len(order) - 20, 40, replace=False)
    for at in swapped:
        order[[at, at + 10]] = order[[at + 10, at]]
    return pick(batch, order)._replace(offset=np.arange(len(order), dtype=np.int64))


@pytest.fixture(scope="module")
def whole(trained: World, stream: Batch) -> tuple[list[OutRecord], dict[str, dict[str, bytes]]]:
    records, trace = run(trained.pipeline(), stream)
    assert {msgspec.json.decode(r.value or b"")["data"]["kind"] for r in alerts(records)} >= {
        "ANOMALY",
        "SENSOR_FAULT",
        "DATA_GAP",
    }
    return records, by_asset(trace)


def test_events_do_not_depend_on_how_the_stream_is_cut(trained, stream, whole):
    rng = np.random.default_rng(2)
    for pieces in (2, 7, 30):
        cuts = sorted(rng.choice(len(stream.time), pieces, replace=False).tolist())
        records, trace = run(trained.pipeline(), stream, cuts)
        assert by_asset(trace) == whole[1]
        assert sorted(records) == sorted(whole[0])


def test_events_do_not_depend_on_how_assets_interleave(trained, stream, whole):
    rng = np.random.default_rng(3)
    for _ in range(2):
        turns = rng.permutation(stream.asset)
        order = np.empty(len(turns), np.int64)
        for asset in np.unique(turns):
            order[turns == asset] = np.flatnonzero(stream.asset == asset)
        records, trace = run(trained.pipeline(), pick(stream, order))
        assert by_asset(trace) == whole[1]
        assert sorted(records) == sorted(whole[0])


def test_events_do_not_depend_on_a_snapshot_and_restore_anywhere(trained, stream, whole):
    rng = np.random.default_rng(4)
    cuts = sorted(rng.choice(len(stream.time), 12, replace=False).tolist())
    stored: dict[str, bytes] = {}

    def restarted(pipeline: Pipeline) -> Pipeline:
        stored.update(pipeline.dump())
        fresh = trained.pipeline()
        fresh.load(dict(reversed(stored.items())))
        return fresh

    records, trace = run(trained.pipeline(), stream, cuts, restarted)
    assert by_asset(trace) == whole[1]
    assert sorted(records) == sorted(whole[0])


def test_nothing_recompiles_after_warm_up_whatever_comes(trained, stream):
    rng = np.random.default_rng(5)
    pipeline = trained.pipeline()
    run(pipeline, stream, sorted(rng.choice(len(stream.time), 40, replace=False).tolist()))
    sensors = len(trained.asset_class.sensors)
    late = batch_of({f"plant/late-{n}": autoregressive(n, 140, sensors) for n in range(7)})
    run(pipeline, late, (13, 200, 555))
    assert trained.model.program.recompiles == 0
