"""Fold: what acts behind the scores (thresholds, smoothing, incidents, drift), by number of assets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Contestant, Figure, Scale, race
from benchmarks.plant import Plant, faster, normal, trained
from connectors.records import Batch
from monitor.fold import Fold
from monitor.passes import Pass
from tests.worlds import batch_of


def run(scale: Scale) -> list[Figure]:
    """Windows a second behind the scores for few and for many assets."""
    plant = trained(scale)
    total = scale.assets
    numbers = [n for n in (1, 4, 32) if n < total] + [total]
    return [figure for assets in numbers for figure in _case(plant, assets, max(scale.rows, total // assets))]


def _case(plant: Plant, assets: int, rows: int) -> list[Figure]:
    scale = plant.scale
    asset_class = plant.settings().asset_classes["unit"]
    fold = Fold("unit", asset_class, plant.model())
    passes = _passes(
        fold, normal(scale, assets, scale.length + rows * (scale.rounds + 1)), scale.length, rows
    )
    return race(
        f"{assets} assets x {rows} windows a poll",
        [Contestant("behind the scores", fold._act, passes)],  # pyright: ignore[reportPrivateUsage] - its own stage
        assets * rows,
        "windows/s",
        scale.rounds,
    )


def _passes(fold: Fold, values: NDArray[np.float64], lead: int, rows: int) -> Callable[[], Pass]:
    """Scored passes, one per turn, after a lead that fills the windows."""
    batch = faster(batch_of({f"plant/{n:04d}": values[:, n] for n in range(values.shape[1])}))
    assets = values.shape[1]
    known = np.array([fold.row(asset) for asset in batch.assets], np.int32)

    def scored(low: int, high: int) -> Pass:
        part = _rows(batch, slice(low * assets, high * assets))
        result = fold.grid.push(known[part.asset], part)
        return fold._score(result.slots, result.contexts)[0]  # pyright: ignore[reportPrivateUsage]

    fold._act(scored(0, lead))  # pyright: ignore[reportPrivateUsage]
    turns = iter(range(len(values)))

    def following() -> Pass:
        low = lead + next(turns) * rows
        return scored(low, low + rows)

    return following


def _rows(batch: Batch, at: slice) -> Batch:
    return batch._replace(
        asset=batch.asset[at],
        time=batch.time[at],
        values=batch.values[at],
        quality=batch.quality[at],
        context=batch.context[at],
        offset=batch.offset[at],
    )
