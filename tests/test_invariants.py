"""The three invariants, bit for bit, at production size: events depend neither on how the stream is cut, nor on how
assets interleave, nor on a snapshot and restore anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from connectors.codec import Codec
from connectors.files import FilesSource, FilesSourceSettings
from connectors.kafka import KafkaSource, KafkaSourceSettings
from connectors.memory import MemorySource
from connectors.ports import Source
from connectors.records import Batch, OutRecord, RawRecord
from monitor.connect import layout_of
from monitor.pipeline import Pipeline
from monitor.quantities import iso_time
from monitor.settings import Recentring
from monitor.trace import joined
from tests.broker import AnyBroker, produce
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
    ocnn = f"{few}, alternations: 1, head_steps: 300"
    scorers = f"{{lstm_autoencoder: {{{few}}}, ocnn: {{{ocnn}}}, var: {{}}}}"
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


@pytest.fixture(scope="module")
def recentred(trained: World) -> World:
    """The same bundle with every sensor re-centred, in epochs so short that offsets move within the stream."""
    asset_class = trained.asset_class
    sensors = {name: replace(sensor, recentre=True) for name, sensor in asset_class.sensors.items()}
    drift = replace(asset_class.drift, recentring=Recentring(epoch=32))
    changed = replace(asset_class, sensors=sensors, drift=drift)
    settings = replace(trained.settings, asset_classes={"unit": changed})
    return trained._replace(settings=settings, asset_class=changed)


def test_the_same_holds_with_every_sensor_re_centred(recentred, stream, whole):
    records, trace = run(recentred.pipeline(), stream)
    assert any(b"nuwatch.recentring.v1" in (record.value or b"") for record in records)
    assert by_asset(trace) != whole[1]
    rng = np.random.default_rng(6)
    order = np.empty(len(stream.time), np.int64)
    turns = rng.permutation(stream.asset)
    for asset in np.unique(turns):
        order[turns == asset] = np.flatnonzero(stream.asset == asset)
    cuts = sorted(rng.choice(len(stream.time), 12, replace=False).tolist())
    stored: dict[str, bytes] = {}

    def restarted(pipeline: Pipeline) -> Pipeline:
        stored.update(pipeline.dump())
        fresh = recentred.pipeline()
        fresh.load(dict(reversed(stored.items())))
        return fresh

    again, mixed = run(recentred.pipeline(), pick(stream, order), cuts, restarted)
    assert by_asset(mixed) == by_asset(trace)
    assert sorted(again) == sorted(records)
    assert recentred.model.program.recompiles == 0


def test_nothing_recompiles_after_warm_up_whatever_comes(trained, stream):
    rng = np.random.default_rng(5)
    pipeline = trained.pipeline()
    run(pipeline, stream, sorted(rng.choice(len(stream.time), 40, replace=False).tolist()))
    sensors = len(trained.asset_class.sensors)
    late = batch_of({f"plant/late-{n}": autoregressive(n, 140, sensors) for n in range(7)})
    run(pipeline, late, (13, 200, 555))
    assert trained.model.program.recompiles == 0


def data_of(records: Sequence[OutRecord]) -> list[tuple[str, bytes]]:
    """Ids and contents of alerts: what must be equal wherever a record came from."""
    return sorted(
        (r.id, msgspec.json.encode(msgspec.json.decode(r.value or b"")["data"])) for r in alerts(records)
    )


def frames_of(batch: Batch, sensors: Sequence[str]) -> list[bytes]:
    """The rows as frame records, absent readings left out."""
    return [
        msgspec.json.encode(
            {
                "asset": batch.assets[asset],
                "ts": iso_time(time),
                "values": {name: v for name, v in zip(sensors, row, strict=True) if v == v},
            }
        )
        for asset, time, row in zip(batch.asset, batch.time.tolist(), batch.values.tolist(), strict=True)
    ]


def drained(source: Source, pipeline: Pipeline) -> tuple[list[OutRecord], dict[str, dict[str, bytes]]]:
    """Everything that a pipeline makes of a source."""
    source.open(lambda _: None, "earliest")
    records, traces = [], []
    while not source.exhausted:
        for part in source.poll(0.5):
            outcome = pipeline.push(part)
            records += outcome.records
            traces += outcome.traces
    source.close()
    return records, by_asset(joined(traces))


def test_records_in_memory_give_the_same_events(trained, stream, whole):
    values = frames_of(stream, list(trained.asset_class.sensors))
    records = [RawRecord(0, n, None, value) for n, value in enumerate(values)]
    source = MemorySource(records, layout_of(trained.settings), cuts=(7, 300, 41))
    out, figures = drained(source, trained.pipeline())
    assert figures == whole[1]
    assert data_of(out) == data_of(whole[0])


def test_a_file_gives_the_same_events(trained, stream, whole, tmp_path: Path):
    sensors = list(trained.asset_class.sensors)
    lines = [",".join(["when", "unit", *sensors])]
    for asset, time, row in zip(stream.asset, stream.time.tolist(), stream.values.tolist(), strict=True):
        cells = ["" if v != v else repr(v) for v in row]
        lines.append(",".join([iso_time(time), stream.assets[asset], *cells]))
    (tmp_path / "recorded.csv").write_text("\n".join(lines) + "\n")
    settings = msgspec.convert(
        {"paths": ["recorded.csv"], "time": {"column": "when"}, "asset_column": "unit", "rows_per_poll": 333},
        FilesSourceSettings,
    )
    out, figures = drained(FilesSource(settings, layout_of(trained.settings), tmp_path), trained.pipeline())
    assert figures == whole[1]
    assert data_of(out) == data_of(whole[0])


@pytest.mark.kafka
def test_a_topic_gives_the_same_events(
    trained, stream, whole, kafka_broker: AnyBroker, new_topic: Callable[..., str]
):
    topic = new_topic(1)
    values = frames_of(stream, list(trained.asset_class.sensors))
    produce(kafka_broker.bootstrap, topic, [(b"k", value) for value in values])
    settings = KafkaSourceSettings(
        bootstrap_servers=(kafka_broker.bootstrap,), topic=topic, group=None, until="end"
    )
    source = KafkaSource(settings, Codec(layout_of(trained.settings)))
    out, figures = drained(source, trained.pipeline())
    assert figures == whole[1]
    assert data_of(out) == data_of(whole[0])
