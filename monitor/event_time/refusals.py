"""Rows that the grid does not take, with the reason and a frame from which they could be sent again."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.records import NO_CONTEXT, Context, Quality, Reason
from monitor.quantities import iso_time
from monitor.settings import AssetClass


class Refusal(NamedTuple):
    """A row that is not reflected in any slot.

    Attributes:
        row: the asset's row in the state tables.
        batch_row: its row in the pushed batch; -1 if it came with an earlier one and was held.
        offset: position of the record that brought it.
        time: its event time, ns.
        reason: LATE, FUTURE_TIME or CROWDED.
        detail: why, for a person.
        payload: the row as canonical frame JSON, as it came.
    """

    row: int
    batch_row: int
    offset: int
    time: int
    reason: Reason
    detail: str
    payload: bytes


class Frames:
    """Encodes rows as canonical frame JSON: sorted keys, times in ISO 8601, full precision.

    Args:
        asset_class: whose sensors; they go by their tags, as in messages.
    """

    def __init__(self, asset_class: AssetClass) -> None:
        self._tags = [sensor.tag or name for name, sensor in asset_class.sensors.items()]

    def encode(
        self, asset: str, time: int, values: NDArray[np.float64], quality: NDArray[np.uint8], context: Context
    ) -> bytes:
        """One frame; ``values`` and ``quality`` are [D]. What is not finite is null and BAD."""
        frame: dict[str, Any] = {"asset": asset, "ts": iso_time(time), "values": {}}
        words: dict[str, str] = {}
        for tag, value, code in zip(self._tags, values.tolist(), quality.tolist(), strict=True):
            if code == Quality.ABSENT:
                continue
            frame["values"][tag] = value if np.isfinite(value) else None
            if code != Quality.GOOD:
                words[tag] = "UNCERTAIN" if code == Quality.UNCERTAIN else "BAD"
        if words:
            frame["quality"] = words
        if context != NO_CONTEXT:
            frame["batch"] = _batch(context)
        return msgspec.json.encode(frame, order="sorted")


def _batch(context: Context) -> dict[str, str]:
    batch = {name: value for name, value in context._asdict().items() if value is not None}
    if context.phase_started is not None:
        batch["phase_started"] = iso_time(context.phase_started)
    return batch
