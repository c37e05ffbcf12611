"""Snapshot: the state of many assets to bytes, those durable on disk, and what that is beside scoring."""

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
from tests.worlds import batch_of, pick

STRIDE = 16
PER_SNAPSHOT = 50
"""Samples of every asset between two snapshots: the default interval of 5 s at this plant's sampling of 100 ms."""


def run(scale: Scale) -> list[Figure]:
    """What one interval between two snapshots costs, fold and snapshot; what its parts cost; the size of the file."""
    plant = trained(scale)
    model = plant.model()
    values = normal(scale, scale.assets, scale.length + 2 + PER_SNAPSHOT)
    stream = faster(batch_of({f"plant/{n:04d}": values[:, n] for n in range(scale.assets)}))
    cut = (scale.length + 2) * scale.assets
    warm_up, interval = pick(stream, slice(0, cut)), pick(stream, slice(cut, None))
    case = f"{scale.assets} assets x {scale.sensors} sensors x {scale.length} samples"

    def warmed(stride: int) -> Pipeline:
        pipeline = plant.pipeline(model, stride)
        pipeline.push(_polled(warm_up))
        return pipeline

    pipeline = warmed(STRIDE)
    rows = pipeline.dump()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = SqliteCheckpoint(Path(folder), MemorySink())
        figures = race(
            f"{case}, and a snapshot",
            [
                Contestant(
                    "windows scored and judged, stride 1", lambda p: _fold(p, interval), lambda: warmed(1)
                ),
                Contestant(
                    f"windows scored and judged, stride {STRIDE}",
                    lambda p: _fold(p, interval),
                    lambda: warmed(STRIDE),
                ),
                Contestant(
                    "snapshot of all of it",
                    lambda p: _commit(checkpoint, p.dump()),
                    lambda: _all_dirty(pipeline, rows),
                ),
                Contestant(
                    "snapshot when one asset in ten has changed",
                    lambda p: _commit(checkpoint, p.dump()),
                    lambda: _all_dirty(pipeline, list(rows)[::10]),
                ),
            ],
            1,
            "s",
            scale.rounds,
            as_time=True,
        )
        figures += race(
            f"{case}: parts of a snapshot",
            [
                Contestant("dump", lambda p: p.dump(), lambda: _all_dirty(pipeline, rows)),
                Contestant("commit (checksums, SQLite, fsync)", lambda _: _commit(checkpoint, rows)),
                Contestant(
                    "restore: load into a new pipeline", lambda p: p.load(rows), lambda: plant.pipeline(model)
                ),
            ],
            1,
            "s",
            scale.rounds,
            as_time=True,
            peers=False,
        )
        checkpoint.close()
        size = (Path(folder) / "state.sqlite").stat().st_size
    return [*figures, Figure(f"{case}: parts of a snapshot", "size of the file", "MB", None, size / 1e6)]


def _fold(pipeline: Pipeline, batch: Batch) -> None:
    pipeline.push(_polled(batch))


def _commit(checkpoint: SqliteCheckpoint, rows: Mapping[str, bytes]) -> None:
    checkpoint.commit(0, rows, Marker(1, {"unit": "bundle"}))


def _all_dirty(pipeline: Pipeline, assets: Mapping[str, bytes] | list[str]) -> Pipeline:
    """These assets count as changed, as they do after any poll with them."""
    pipeline._dirty.clear()  # pyright: ignore[reportPrivateUsage]
    pipeline._dirty.update(assets)  # pyright: ignore[reportPrivateUsage]
    return pipeline


def _polled(batch: Batch) -> Polled:
    return Polled(0, int(batch.offset[-1]) + 1, (batch,), records=len(batch.time))
