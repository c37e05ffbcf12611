"""How the plant's readings reach the monitor: in memory; `monitor.demo.broker` does the same through Kafka."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from connectors.memory import MemorySink, MemorySource
from connectors.ports import Sink, Source
from connectors.records import Channel
from monitor.plant import Simulation, to_batches


class Feed(Protocol):
    """A plant at one end, the monitor's source and sink at the other.

    Attributes:
        source: what the monitor reads.
        sink: where it publishes.
        topic: the source's name, for the alerts' origin.
        where: where the alerts are, for people.
    """

    source: Source
    sink: Sink
    topic: str
    where: str

    def send(self) -> int:
        """Send the next portion of the plant's frames; returns how many they are."""
        ...

    def alerts(self) -> list[dict[str, Any]]:
        """The published alerts, read back from where they were published."""
        ...

    def close(self) -> None:
        """Leave. Idempotent."""
        ...


class MemoryFeed:
    """Everything within the process.

    Args:
        plant: what it sends.
        asset_class: the class's name in the configuration.
        rows: of the plant, sent at a time.
    """

    def __init__(self, plant: Simulation, asset_class: str, rows: int) -> None:
        batches = list(to_batches(plant, asset_class, rows * len(plant.assets)))
        self._sizes = iter([len(batch.time) for batch in batches])
        self.source: Source = MemorySource(batches, cuts=(rows * len(plant.assets),))
        self._kept = MemorySink()
        self.sink: Sink = self._kept
        self.topic = "memory"
        self.where = "memory"

    def send(self) -> int:
        """The next portion; it lies in the source already."""
        return next(self._sizes)

    def alerts(self) -> list[dict[str, Any]]:
        """What the sink was given."""
        return [
            msgspec.json.decode(r.value or b"") for r in self._kept.records if r.channel is Channel.ALERTS
        ]

    def close(self) -> None:
        """Nothing to leave."""
