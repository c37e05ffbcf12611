"""Window: rows through the event-time grid and the history, to the windows that they end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Contestant, Figure, Scale, race
from benchmarks.plant import configuration, faster, normal
from connectors.records import Batch
from monitor.configuration import parse
from monitor.event_time.grid import Grid
from monitor.event_time.history import History
from monitor.settings import AssetClass
from tests.worlds import batch_of


def run(scale: Scale) -> list[Figure]:
    """Rows a second for many assets with few rows each, and for one asset with many rows."""
    shapes = [(scale.assets, scale.rows), (1, scale.few_rows)]
    return [
        figure
        for assets, rows in shapes
        for stride in (1, 16)
        for figure in _case(scale, assets, rows, stride)
    ]


def _case(scale: Scale, assets: int, rows: int, stride: int) -> list[Figure]:
    text = configuration(scale, stride=stride)
    asset_class = parse(text, Path("plant.yaml")).settings.asset_classes["unit"]
    values = normal(scale, assets, rows)
    length = asset_class.window.length
    ways = {
        "grid and history": ours(asset_class, assets, scale.sensors),
        "deque per asset, no grid, no lateness": _naive(length, stride),
    }
    polls = {name: _polls(values) for name in ways}
    for name, push in ways.items():
        for _ in range(-(-length // rows)):  # fills the windows
            push(polls[name]())
    return race(
        f"{assets} assets x {rows} rows a poll, stride {stride}",
        [Contestant(name, push, polls[name]) for name, push in ways.items()],
        assets * rows,
        "rows/s",
        scale.rounds,
    )


def _polls(values: NDArray[np.float64]) -> Callable[[], Batch]:
    """The same rows at ever later times."""
    batch = faster(batch_of({f"plant/{n:04d}": values[:, n] for n in range(values.shape[1])}))
    span = len(values) * 10**8
    polls = iter(range(10**6))
    return lambda: batch._replace(time=batch.time + next(polls) * span)


def ours(asset_class: AssetClass, assets: int, sensors: int) -> Callable[[Batch], object]:
    """The two stages as the fold puts them together; z-scores are not taken, values pass as they are."""
    grid, history = Grid(asset_class), History(asset_class.window.length, asset_class.window.stride, sensors)
    grid.grow(assets)
    history.grow(assets)

    def push(batch: Batch) -> object:
        slots = grid.push(batch.asset, batch).slots
        usable = np.isfinite(slots.values)
        z = np.where(usable, slots.values, 0.0).astype(np.float32)
        return history.push(slots.row, slots.slot, slots.fresh, z, usable, slots.real)

    return push


def _naive(length: int, stride: int) -> Callable[[Batch], object]:
    """An object per asset and a loop over rows: how such monitors are usually begun."""
    rings: dict[int, deque[NDArray[np.float32]]] = {}
    counts: dict[int, int] = {}

    def push(batch: Batch) -> object:
        windows = []
        for asset, values in zip(batch.asset.tolist(), batch.values.astype(np.float32), strict=True):
            ring = rings.setdefault(asset, deque(maxlen=length))
            ring.append(values)
            count = counts[asset] = counts.get(asset, 0) + 1
            if count >= length and count % stride == 0:
                windows.append(np.stack(ring))
        return windows

    return push
