"""The plant's readings as the monitor receives them: columnar batches, or JSON frames for a broker.

Both go through time row by row and, within a row, through the assets in order: as the frames of one plant
arrive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.records import NO_CONTEXT, Batch, Context
from monitor.plant.sensors import SENSORS
from monitor.plant.simulate import Simulation

NAMES: Final = tuple(sensor.name for sensor in SENSORS)


def to_batches(simulation: Simulation, asset_class: str, rows: int = 4096) -> Iterator[Batch]:
    """The frames as batches of at most ``rows`` rows; ``offset`` counts the frames from 0.

    Args:
        simulation: what the plant sent.
        asset_class: the class's name in the configuration.
        rows: frames per batch, at least 1.
    """
    assets, times = len(simulation.assets), len(simulation.time)
    for first in range(0, assets * times, rows):
        frame = np.arange(first, min(first + rows, assets * times))
        moment, asset = np.divmod(frame, assets)
        contexts, context = compacted(simulation.contexts, simulation.context[asset, moment])
        yield Batch(
            asset_class=asset_class,
            assets=simulation.assets,
            asset=asset.astype(np.int32),
            time=simulation.time[moment],
            values=simulation.values[asset, moment],
            quality=simulation.quality[asset, moment],
            contexts=contexts,
            context=context,
            offset=frame,
        )


def compacted(
    contexts: tuple[Context, ...], context: NDArray[np.int32]
) -> tuple[tuple[Context, ...], NDArray[np.int32]]:
    """Only the contexts that ``context`` [N] uses, after `NO_CONTEXT`, and ``context`` pointing to them."""
    used = np.union1d([0], context)
    table = (NO_CONTEXT, *(contexts[index] for index in used[1:]))
    return table, np.searchsorted(used, context).astype(np.int32)


def to_json(simulation: Simulation) -> Iterator[tuple[bytes, bytes]]:
    """The frames as (key, value) records in the wide JSON form; the key is the asset's name.

    Times are RFC 3339 in UTC with microseconds. All readings are GOOD, so no quality is sent.
    """
    encode = msgspec.json.Encoder().encode
    keys = [asset.encode() for asset in simulation.assets]
    batch_fields = [context_fields(context) for context in simulation.contexts]
    values = simulation.values.swapaxes(0, 1)
    context = simulation.context.T
    for moment, stamp in enumerate(simulation.time):
        text = rfc3339(int(stamp))
        for asset, name in enumerate(simulation.assets):
            readings: dict[str, float] = dict(zip(NAMES, values[moment, asset].tolist(), strict=True))
            batch = batch_fields[context[moment, asset]]
            yield keys[asset], encode({"asset": name, "ts": text, "values": readings, **batch})


def context_fields(context: Context) -> dict[str, dict[str, str]]:
    """The batch member of a frame, if it is in a batch."""
    fields = {"batch_id": context.batch_id, "recipe": context.recipe, "phase": context.phase}
    present = {name: value for name, value in fields.items() if value is not None}
    if context.phase_started is not None:
        present["phase_started"] = rfc3339(context.phase_started)
    return {"batch": present} if present else {}


def rfc3339(stamp: int) -> str:
    """Epoch ns as RFC 3339 in UTC; what is finer than microseconds is cut off."""
    return f"{np.datetime64(stamp // 1000, 'us')}Z"
