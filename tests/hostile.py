"""A small trained monitor for hostile input: two assets with three sensors, and what comes of any records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from connectors.codec import Codec
from connectors.memory import MemorySource
from connectors.records import Channel, OutRecord, RawRecord
from monitor.configuration import parse
from monitor.connect import layout_of
from monitor.facts import Identity
from monitor.model import Model
from monitor.pipeline import Pipeline
from monitor.quantities import iso_time
from monitor.trace import joined
from monitor.training import train
from tests.worlds import SECOND, START, World, autoregressive, by_asset

ASSETS = ("poly2/R-101", "poly2/R-102")
CONFIG = """
site: test
source: {kind: memory}
asset_classes:
  unit:
    assets: ["poly2/*"]
    sampling: 1s
    sensors:
      temperature: {unit: Cel, range: [-1000, 1000]}
      pressure: {unit: "bar{gauge}"}
      reaction_time: {unit: s}
    time: {lateness: 2s, max_age: 3s}
    window: {length: 16}
    calibration: {nu: 0.05, enough: 1}
    scoring: {scorers: {pca: {}, var: {}}, block: 32}
"""


def frame(asset: str, second: int, values: np.ndarray) -> bytes:
    names = ("temperature", "pressure", "reaction_time")
    return msgspec.json.encode(
        {
            "asset": asset,
            "ts": iso_time(START + second * SECOND),
            "values": dict(zip(names, values.tolist(), strict=True)),
        }
    )


def good_records(seed: int, rows: int) -> list[bytes]:
    values = {asset: autoregressive(seed + n, rows, 3) for n, asset in enumerate(ASSETS)}
    values[ASSETS[0]][rows // 2 :, 1] += 30.0
    return [frame(asset, t, values[asset][t]) for t in range(rows) for asset in ASSETS]


def hostile_world() -> World:
    """A monitor trained on the calm records of both assets."""
    settings = parse(CONFIG, Path("hostile.yaml")).settings
    calm = [frame(a, t, v) for a in ASSETS for t, v in enumerate(autoregressive(len(a), 1500, 3))]
    source = MemorySource([RawRecord(0, n, None, value) for n, value in enumerate(calm)], layout_of(settings))
    source.open(lambda _: None, "earliest")
    batches = [batch for _ in range(10) for polled in source.poll(0) for batch in polled.batches]
    bundle = train(settings.asset_classes["unit"], "unit", batches, config_hash="c")
    model = Model(bundle.bundle, settings.asset_classes["unit"])
    model.program.warm_up()
    return World(settings, settings.asset_classes["unit"], bundle, model)


def pipeline(trained: World, partition: int = 0) -> Pipeline:
    identity = {"unit": Identity(trained.model.bundle_id, None, "c")}
    models = {"unit": trained.model}
    return Pipeline(trained.settings, models, partition, identity, topic="t", replay=False, version="0")


class Ran(NamedTuple):
    """What came of records: figures by asset, counts, dead letters, alerts."""

    figures: dict[str, dict[str, bytes]]
    counts: Counter[str]
    letters: list[OutRecord]
    alerts: list[dict[str, Any]]


def ran(trained: World, values: Sequence[bytes | None], cut: int = 50) -> Ran:
    fold, codec = pipeline(trained), Codec(layout_of(trained.settings))
    records = [RawRecord(0, n, None, value) for n, value in enumerate(values)]
    outcomes = [fold.push(codec.poll(records[low : low + cut])) for low in range(0, len(records), cut)]
    out = [record for outcome in outcomes for record in outcome.records]
    return Ran(
        by_asset(joined([trace for outcome in outcomes for trace in outcome.traces])),
        sum((outcome.counts for outcome in outcomes), Counter()),
        [record for record in out if record.channel is Channel.DEAD_LETTER],
        [msgspec.json.decode(r.value or b"")["data"] for r in out if r.channel is Channel.ALERTS],
    )
