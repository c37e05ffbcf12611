"""Recorded batches through the very pipeline that runs live, and what is to be said of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from connectors.ports import Source
from connectors.records import Channel, OutRecord
from monitor.checkpoint import Marker, MemoryCheckpoint
from monitor.commands import Commands
from monitor.engine import Engine, Step
from monitor.evaluation.incident_log import Incident, incidents_from_alerts
from monitor.generation import Change, Generation
from monitor.pipeline import Pipeline
from monitor.trace import Trace, joined


class Replayed(NamedTuple):
    """What a replay brought.

    Attributes:
        traces: every window's figures, by asset class.
        records: everything published, in order.
        counts: quantities by bounded name.
        records_read: records or rows taken from the source.
        assets: asset class by asset.
    """

    traces: dict[str, Trace]
    records: list[OutRecord]
    counts: Counter[str]
    records_read: int
    assets: dict[str, str]

    @property
    def incidents(self) -> list[Incident]:
        """The incidents that the alerts tell of."""
        return incidents_from_alerts(self.alerts)

    @property
    def alerts(self) -> list[Mapping[str, Any]]:
        """The alerts as plain CloudEvents."""
        return [msgspec.json.decode(r.value or b"null") for r in self.records if r.channel is Channel.ALERTS]


class Journalled(NamedTuple):
    """What a replay of a daemon's input needs beside its commands.

    Attributes:
        change: in force at the start.
        generations: makes those that its journal names.
        begun: the position at which it began each partition.
    """

    change: Change
    generations: Callable[[Change], Generation]
    begun: Mapping[int, int]


class _Collected:
    """A sink that keeps everything: a replay's alerts are its result."""

    def __init__(self) -> None:
        self.records: list[OutRecord] = []

    def open(self) -> Mapping[str, int]:
        return {}

    def ids_after(self, ends: Mapping[str, int]) -> set[str]:
        del ends
        return set()

    def published(self, channel: Channel) -> list[bytes]:
        return [record.value for record in self.records if record.channel is channel and record.value]

    def emit(self, records: Any) -> None:
        self.records.extend(records)

    def flush(self, timeout: float) -> Mapping[str, int]:
        del timeout
        return {}

    def close(self) -> None:
        pass


def replay(
    source: Source,
    pipeline_of: Callable[[int], Pipeline],
    bundles: Mapping[str, str],
    *,
    commands: Commands | None = None,
    pace: Callable[[Step], None] | None = None,
    journalled: Journalled | None = None,
) -> Replayed:
    """Run a source to its end.

    Args:
        source: recorded data.
        pipeline_of: makes the empty pipeline of a partition.
        bundles: bundle id by asset class.
        commands: what enters from the side: decisions by event time, or an exported journal.
        pace: called after every step; may wait, to replay at a chosen speed.
        journalled: where a daemon's partitions began, and what it changed on the way.
    """
    sink = _Collected()
    checkpoint = MemoryCheckpoint(sink)
    engine = Engine(source, checkpoint, pipeline_of, bundles, commands)
    if journalled is not None:
        engine.in_force(journalled.change, journalled.generations)
        for partition, position in journalled.begun.items():
            checkpoint.commit(partition, {}, Marker(position, dict(bundles), journalled.change.id))
    engine.open("earliest")
    traces: dict[str, list[Trace]] = {}
    counts: Counter[str] = Counter()
    read = 0
    try:
        while not engine.exhausted:
            for step in engine.step(0.5):
                counts.update(step.outcome.counts)
                read += step.polled.records
                for trace in step.outcome.traces:
                    traces.setdefault(trace.asset_class, []).append(trace)
                if pace is not None:
                    pace(step)
    finally:
        engine.close()
    assets = {
        asset: kind for pipeline in engine.pipelines.values() for asset, kind in pipeline.assets.items()
    }
    return Replayed(
        {name: joined(parts) for name, parts in traces.items()}, sink.records, counts, read, assets
    )


def newest(step: Step) -> int:
    """The latest event time of a step in ns, or 0 without rows."""
    return max((int(np.max(b.time)) for b in step.polled.batches if len(b.time)), default=0)
