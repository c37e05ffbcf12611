"""Snapshot: the state of many assets to bytes, and those durable on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.measure import Contestant, Figure, Scale, race
from benchmarks.plant import faster, normal, trained
from connectors.memory import MemorySink
from connectors.records import Batch, Polled
from monitor.checkpoint import Marker
from monitor.durable.checkpoint import SqliteCheckpoint
from monitor.pipeline import Pipeline
from tests.worlds import batch_of


def run(scale: Scale) -> list[Figure]:
    """Seconds to dump, to commit with fsync, and to load; the size of the file."""
    plant = trained(scale)
    model = plant.model()
    pipeline = plant.pipeline(model, stride=16)
    values = normal(scale, scale.assets, scale.length + 2)
    batch = faster(batch_of({f"plant/{n:04d}": values[:, n] for n in range(scale.assets)}))
    pipeline.push(_polled(batch))
    rows = pipeline.dump()
    case = f"{scale.assets} assets x {scale.sensors} sensors x {scale.length} samples"
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = SqliteCheckpoint(Path(folder), MemorySink())
        figures = race(
            case,
            [
                Contestant("dump", lambda _: pipeline.dump(), lambda: _all_dirty(pipeline, rows)),
                Contestant("commit (encode, hash, write, fsync)", lambda _: _commit(checkpoint, rows)),
                Contestant(
                    "load into a new pipeline", lambda new: new.load(rows), lambda: plant.pipeline(model, 16)
                ),
            ],
            1,
            "s",
            scale.rounds,
            as_time=True,
            peers=False,
        )
        size = (Path(folder) / "state.sqlite").stat().st_size
        checkpoint.close()
    return [*figures, Figure(case, "size of the file", "MB", None, size / 1e6)]


def _commit(checkpoint: SqliteCheckpoint, rows: Mapping[str, bytes]) -> None:
    checkpoint.commit(0, rows, Marker(1, {"unit": "bundle"}))


def _all_dirty(pipeline: Pipeline, rows: Mapping[str, bytes]) -> None:
    """Every asset counts as changed, which it does after any poll with all of them."""
    pipeline._dirty.update(rows)  # pyright: ignore[reportPrivateUsage]


def _polled(batch: Batch) -> Polled:
    return Polled(0, len(batch.time), (batch,), records=len(batch.time))
