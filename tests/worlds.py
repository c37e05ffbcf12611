"""Small worlds with a trained monitor: settings, history, bundle, and a stream with faults, for whole-path tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from connectors.records import NO_CONTEXT, Batch, Channel, OutRecord, Polled, Quality
from monitor.configuration import parse
from monitor.facts import Identity
from monitor.model import Model
from monitor.pipeline import Outcome, Pipeline
from monitor.settings import AssetClass, Settings
from monitor.trace import Trace, joined
from monitor.training import Trained, train

SECOND = 10**9
START = 1_760_000_000 * SECOND
UNITS = ("Cel", "bar", "kg/h", "kW", "%", "A", "V", "L/min")


class World(NamedTuple):
    """A trained monitor of one asset class 'unit' with assets 'plant/...'."""

    settings: Settings
    asset_class: AssetClass
    trained: Trained
    model: Model

    def pipeline(self, partition: int = 0) -> Pipeline:
        identity = {"unit": Identity(self.model.bundle_id, None, "config")}
        return Pipeline(
            self.settings, {"unit": self.model}, partition, identity, topic="t", replay=False, version="0"
        )


def configuration_text(
    sensors: int, length: int, scorers: str, extra: str = "", setpoint: bool = False, nu: float = 0.05
) -> str:
    lines = [f"      s{d}: {{unit: {UNITS[d % 8]!r}, range: [-1000, 1000]}}" for d in range(sensors)]
    if setpoint:
        lines.append("      setpoint: {unit: Cel, role: setpoint}")
    body = "\n".join(lines)
    return f"""
site: test
source: {{kind: memory}}
asset_classes:
  unit:
    assets: ["plant/*"]
    sampling: 1s
    sensors:
{body}
    window: {{length: {length}}}
    time: {{lateness: 2s, max_age: 3s, max_future: 1h, silence: 2min}}
    calibration: {{nu: {nu}, enough: 1}}
    scoring: {{scorers: {scorers}, fit_windows: 1024, block: 32, smoothing: 0.2}}
{extra}
"""


def world(text: str, history: Iterable[Batch]) -> World:
    settings = parse(text, Path("world.yaml")).settings
    asset_class = settings.asset_classes["unit"]
    trained = train(asset_class, "unit", history, config_hash="config")
    model = Model(trained.bundle, asset_class)
    model.program.warm_up()
    return World(settings, asset_class, trained, model)


def autoregressive(seed: int, rows: int, sensors: int, pull: float = 0.9) -> np.ndarray:
    """[rows, sensors] of correlated first-order autoregressive noise around 10, 20, 30, ..."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(sensors, sensors)) / np.sqrt(sensors) + np.eye(sensors)
    shocks = rng.normal(size=(rows, sensors)) @ mix * np.sqrt(1 - pull**2)
    values = np.empty((rows, sensors))
    values[0] = rng.normal(size=sensors) @ mix
    for t in range(1, rows):
        values[t] = pull * values[t - 1] + shocks[t]
    return values + 10.0 * np.arange(1, sensors + 1)


def batch_of(
    values: Mapping[str, np.ndarray], start: int = START, quality: np.ndarray | None = None
) -> Batch:
    """Frames of several assets [rows, sensors], one a second, interleaved in time; every row an offset."""
    names = tuple(values)
    stacked = np.stack(list(values.values()), axis=1)
    rows, assets, sensors = stacked.shape
    time = start + np.repeat(np.arange(rows), assets) * SECOND
    flat = stacked.reshape(-1, sensors)
    good = np.where(np.isfinite(flat), np.uint8(Quality.GOOD), np.uint8(Quality.ABSENT))
    return Batch(
        "unit",
        names,
        np.tile(np.arange(assets, dtype=np.int32), rows),
        time.astype(np.int64),
        flat,
        good if quality is None else quality,
        (NO_CONTEXT,),
        np.zeros(rows * assets, np.int32),
        np.arange(rows * assets, dtype=np.int64),
    )


def pick(batch: Batch, index: np.ndarray | slice) -> Batch:
    return batch._replace(
        **{
            name: getattr(batch, name)[index]
            for name in ("asset", "time", "values", "quality", "context", "offset")
        }
    )


def polled(batch: Batch) -> Polled:
    return Polled(0, int(batch.offset[-1]) + 1 if len(batch.offset) else 0, (batch,), records=len(batch.time))


def run(
    pipeline: Pipeline,
    batch: Batch,
    cuts: Sequence[int] = (),
    between: Callable[[Pipeline], Pipeline] = lambda same: same,
) -> tuple[list[OutRecord], Trace]:
    """Push a batch cut at these rows; ``between`` may put another pipeline in place after each cut."""
    outcomes: list[Outcome] = []
    for low, high in zip([0, *cuts], [*cuts, len(batch.time)], strict=True):
        if high > low:
            outcomes.append(pipeline.push(polled(pick(batch, slice(low, high)))))
            pipeline = between(pipeline)
    records = [record for outcome in outcomes for record in outcome.records]
    return records, joined([trace for outcome in outcomes for trace in outcome.traces])


def by_asset(trace: Trace) -> dict[str, dict[str, bytes]]:
    """Every figure of every asset's windows, bit for bit."""
    columns = (
        "end",
        "scored",
        "coverage",
        "ratio",
        "scorer_ratio",
        "score",
        "observed",
        "expected",
        "low",
        "high",
        "contributions",
    )
    return {
        name: {column: getattr(trace, column)[trace.asset == number].tobytes() for column in columns}
        for number, name in enumerate(trace.assets)
    }


def alerts(records: Iterable[OutRecord]) -> list[OutRecord]:
    return [record for record in records if record.channel is Channel.ALERTS]
