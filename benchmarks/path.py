"""Whole path: JSON bytes in memory to published alerts, through the engine that the daemon runs."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from benchmarks.measure import Contestant, Figure, Scale, race
from benchmarks.plant import Plant, frames, normal, trained
from connectors.memory import MemorySink, MemorySource
from connectors.records import RawRecord
from monitor.checkpoint import MemoryCheckpoint
from monitor.connect import layout_of
from monitor.engine import Engine
from monitor.model import Model
from monitor.pipeline import Pipeline


def run(scale: Scale) -> list[Figure]:
    """Records a second for many assets at two strides and for one asset, and where the time goes."""
    plant = trained(scale)
    shapes = [
        (scale.assets, scale.rows, 1),
        (scale.assets, scale.rows, 16),
        (1, scale.assets, 1),
        (1, scale.assets, 16),
    ]
    figures: list[Figure] = []
    for assets, rows, stride in shapes:
        figures += _case(plant, assets, rows, stride)
    return figures


def _case(plant: Plant, assets: int, rows: int, stride: int) -> list[Figure]:
    scale = plant.scale
    case = f"{assets} assets x {rows} records a poll, stride {stride}"
    clock = Stages()
    step = _engine(plant, assets, rows, stride, clock)
    step()  # fills the windows
    clock.own.clear()
    figures = race(
        case, [Contestant("bytes to alerts", lambda _: step())], assets * rows, "records/s", scale.rounds
    )
    whole = sum(clock.own.values())
    return figures + [
        Figure(f"{case}: shares", stage, "share of the time", None, seconds / whole)
        for stage, seconds in sorted(clock.own.items(), key=lambda item: -item[1])
    ]


def _engine(plant: Plant, assets: int, rows: int, stride: int, clock: Stages) -> Callable[[], object]:
    """A step of an engine, whose first poll is long enough to fill every window."""
    scale = plant.scale
    lead = scale.length + 2
    records = _records(plant, assets, lead, rows)
    model = plant.model()
    pipeline = plant.pipeline(model, stride)
    source = MemorySource(records, layout_of(plant.settings()), [assets * lead, assets * rows])
    engine = Engine(source, MemoryCheckpoint(MemorySink()), lambda _: pipeline, {"unit": model.bundle_id})
    engine.open("earliest")
    _watch(clock, source, pipeline, model)
    return lambda: engine.step(0.0)


def _records(plant: Plant, assets: int, lead: int, rows: int) -> list[RawRecord]:
    values = normal(plant.scale, assets, lead + rows * (plant.scale.rounds + 1))
    return frames(values, 0, 0)


def _watch(clock: Stages, source: MemorySource, pipeline: Pipeline, model: Model) -> None:
    fold: Any = pipeline._folds["unit"]  # pyright: ignore[reportPrivateUsage]
    clock.watch(source, "poll", "decode")
    clock.watch(pipeline, "push", "records to publish")
    clock.watch(fold.grid, "push", "grid")
    clock.watch(fold.checks, "step", "sensor checks")
    clock.watch(fold.history, "push", "history")
    clock.watch(fold, "_score", "scaling, ratios")
    clock.watch(model, "score", "scorers")
    clock.watch(fold, "_act", "behind the scores")
    clock.watch(fold, "trace", "trace")


class Stages:
    """Own time of each stage: what it calls counts for the callee."""

    def __init__(self) -> None:
        self.own: defaultdict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def watch(self, owner: Any, method: str, stage: str) -> None:
        """Time a method of one object from now on."""
        inner = getattr(owner, method)

        def timed(*arguments: Any) -> Any:
            self._inner.append(0.0)
            begun = time.perf_counter()
            try:
                return inner(*arguments)
            finally:
                took = time.perf_counter() - begun
                self.own[stage] += took - self._inner.pop()
                self._inner[-1] += took

        setattr(owner, method, timed)
