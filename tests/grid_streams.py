"""Streams of rows for the grid's tests: batches from rows, pushes in any cut, results per asset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from connectors.records import NO_CONTEXT, Batch, Context, Quality
from monitor.event_time.grid import Grid, GridResult
from monitor.settings import AssetClass
from tests.reference_grid import Row

NAN = float("nan")


def row(
    time: int, values: Sequence[float | None], context: Context = NO_CONTEXT, offset: int = 0, **quality: Any
) -> Row:
    """A row whose None values are absent; ``quality`` overrides by column, as q0=Quality.BAD."""
    codes = [int(Quality.ABSENT if value is None else Quality.GOOD) for value in values]
    for column in range(len(codes)):
        codes[column] = int(quality.get(f"q{column}", codes[column]))
    return Row(time, [NAN if value is None else float(value) for value in values], codes, context, offset)


def batch_of(stream: Sequence[tuple[int, Row]], sensors: int) -> tuple[np.ndarray, Batch]:
    """State rows and batch of a piece of a stream of (asset number, row)."""
    names = tuple(sorted({f"a{asset}" for asset, _ in stream}))
    contexts = (
        NO_CONTEXT,
        *dict.fromkeys(entry.context for _, entry in stream if entry.context != NO_CONTEXT),
    )
    count = len(stream)
    batch = Batch(
        asset_class="c",
        assets=names,
        asset=np.array([names.index(f"a{asset}") for asset, _ in stream], np.int32),
        time=np.array([entry.time for _, entry in stream], np.int64),
        values=np.array([entry.values for _, entry in stream], np.float64).reshape(count, sensors),
        quality=np.array([entry.quality for _, entry in stream], np.uint8).reshape(count, sensors),
        contexts=contexts,
        context=np.array([contexts.index(entry.context) for _, entry in stream], np.int32),
        offset=np.array([entry.offset for _, entry in stream], np.int64),
    )
    return np.array([asset for asset, _ in stream], np.int32), batch


def grid_of(settings: AssetClass, capacity: int = 4) -> Grid:
    grid = Grid(settings)
    grid.grow(capacity)
    return grid


def push(grid: Grid, stream: Sequence[tuple[int, Row]], sensors: int) -> GridResult:
    return grid.push(*batch_of(stream, sensors))


def cut(stream: Sequence[Any], cuts: Iterable[int]) -> list[Sequence[Any]]:
    edges = [0, *sorted(cuts), len(stream)]
    return [stream[start:stop] for start, stop in pairwise(edges)]


def slots_of(results: Sequence[GridResult], asset: int) -> list[tuple[Any, ...]]:
    """Every slot of one asset as a tuple that compares bit for bit."""
    found = list[tuple[Any, ...]]()
    for result in results:
        slots = result.slots
        for at in np.flatnonzero(slots.row == asset):
            found.append(
                (
                    int(slots.slot[at]),
                    int(slots.end[at]),
                    bits(slots.values[at]),
                    slots.real[at].tolist(),
                    slots.quality[at].tolist(),
                    result.contexts[slots.context[at]],
                    int(slots.batch_start[at]),
                    int(slots.phase_start[at]),
                    bool(slots.fresh[at]),
                    int(slots.offset[at]),
                )
            )
    return found


def bits(values: Any) -> list[str]:
    """Exact text of floats; every NaN is the same."""
    return [float(value).hex() for value in values]
