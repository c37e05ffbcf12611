"""The plant that is measured on: settings, frames and a small trained monitor."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Scale
from connectors.records import Batch, RawRecord
from models.bundle import Bundle
from monitor.configuration import parse
from monitor.facts import Identity
from monitor.model import Model
from monitor.pipeline import Pipeline
from monitor.settings import Settings
from monitor.training import train
from tests.worlds import START, autoregressive, batch_of


class Plant(NamedTuple):
    """A trained monitor of the class 'unit', assets 'plant/...'."""

    scale: Scale
    bundle: Bundle

    def settings(self, stride: int = 1, **sections: str) -> Settings:
        """The configuration, with a window stride."""
        return parse(configuration(self.scale, stride=stride, **sections), Path("plant.yaml")).settings

    def model(self) -> Model:
        """The loaded bundle, compiled."""
        model = Model(self.bundle, self.settings().asset_classes["unit"])
        model.program.warm_up()
        return model

    def pipeline(self, model: Model, stride: int = 1) -> Pipeline:
        """An empty pipeline of partition 0."""
        identity = {"unit": Identity(model.bundle_id, None, "config")}
        return Pipeline(
            self.settings(stride), {"unit": model}, 0, identity, topic="memory", replay=False, version="0"
        )


def configuration(
    scale: Scale,
    *,
    stride: int = 1,
    source: str = "{kind: memory}",
    sink: str = "{kind: memory}",
    state: str = "{}",
) -> str:
    """YAML of the plant, sampled every 100 ms."""
    sensors = "\n".join(f"      s{d}: {{unit: Cel, range: [-1000, 1000]}}" for d in range(scale.sensors))
    return f"""
site: benchmark
source: {source}
sink: {sink}
state: {state}
asset_classes:
  unit:
    assets: ["plant/*"]
    sampling: 100ms
    sensors:
{sensors}
    window: {{length: {scale.length}, stride: {stride}}}
    time: {{lateness: 200ms, max_age: 300ms, max_future: 1h, silence: 2min}}
    calibration: {{nu: 0.02, enough: 1}}
    scoring: {{fit_windows: 1024, scorers: {scale.scorers}}}
    alerting: {{on_delay: 0s, off_delay: 500ms, fault_off_delay: 500ms}}
"""


@cache
def trained(scale: Scale) -> Plant:
    """Train once; what is learnt matters little here, that alerts are about faults does."""
    asset_class = parse(configuration(scale), Path("plant.yaml")).settings.asset_classes["unit"]
    history = batch_of({f"plant/{n:04d}": autoregressive(n, 1500, scale.sensors) for n in range(3)})
    bundle = train(asset_class, "unit", [faster(history)], config_hash="benchmark").bundle
    return Plant(scale, bundle)


def faster(batch: Batch) -> Batch:
    """The same rows, ten a second in place of one."""
    return batch._replace(time=START + (batch.time - START) // 10)


def normal(scale: Scale, assets: int, rows: int) -> NDArray[np.float64]:
    """[rows, assets, sensors] of normal operation."""
    return np.stack([autoregressive(n, rows, scale.sensors) for n in range(assets)], axis=1)


def frames(values: NDArray[np.float64], first_row: int, offset: int, start: int = START) -> list[RawRecord]:
    """Rows [rows, assets, sensors] as JSON frames in order of time; ``first_row`` says when they begin."""
    tags = [f"s{d}" for d in range(values.shape[2])]
    records: list[RawRecord] = []
    for row, of_assets in enumerate(values.round(4).tolist()):
        ts = start // 10**6 + (first_row + row) * 100
        for number, readings in enumerate(of_assets):
            asset = f"plant/{number:04d}"
            value = msgspec.json.encode(
                {"asset": asset, "ts": ts, "values": dict(zip(tags, readings, strict=True))}
            )
            records.append(RawRecord(0, offset + len(records), asset.encode(), value, ts))
    return records
