"""How far an asset's rows have closed its slots: a prefix maximum per row, never one of a whole batch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.records import Quality
from monitor.event_time.admission import UNSEEN
from monitor.event_time.readings import Rows
from monitor.event_time.segments import Positions, ends_of, numbers_of, prefix_maximum, shifted, starts_of
from monitor.settings import AssetClass
from monitor.table import Table


class Progress(NamedTuple):
    """What N accepted rows of A assets did.

    Attributes:
        assets: [A] int32, rows in the state tables.
        segment: [N] the number of each row's asset in ``assets``.
        opened: [A] int64, the last slot that was closed before the first row.
        closed: [N] int64, the last slot that is closed after each row.
        reached: [A] int64, the last slot that is closed after the last row.
        late: [N] bool, the row's slot had been closed by the rows before it.
        before: [N] int64, highest accepted time before each row, ns; `UNSEEN` without one.
    """

    assets: NDArray[np.int32]
    segment: Positions
    opened: NDArray[np.int64]
    closed: NDArray[np.int64]
    reached: NDArray[np.int64]
    late: NDArray[np.bool_]
    before: NDArray[np.int64]


class Watermark:
    """Closes slot k when every sensor has a reading at or after t_k, or when the watermark passes t_k.

    Derived sensors are not waited for. Late rows may go through the same maxima: they lie at or below t of a
    closed slot, so they can close nothing.
    """

    def __init__(self, asset_class: AssetClass) -> None:
        self._sampling = int(asset_class.sampling)
        self._lateness = int(asset_class.time.lateness)
        self._awaited = np.array([sensor.derive is None for sensor in asset_class.sensors.values()])
        self.table = Table(
            [
                ("highest", np.int64, ()),
                ("newest", np.int64, (int(self._awaited.sum()),)),
                ("closed", np.int64, ()),
            ],
            {"highest": UNSEEN, "newest": UNSEEN, "closed": UNSEEN},
        )

    def advance(self, rows: Rows) -> Progress:
        """Take accepted rows, sorted by asset."""
        starts = starts_of(rows.row)
        segment = numbers_of(starts, len(rows.row))
        ends = ends_of(starts, len(rows.row))
        assets = rows.row[starts]
        slot = -(-rows.time // self._sampling)
        known, closed = self.table["highest"][assets], self.table["closed"][assets]
        opened = np.where(known == UNSEEN, slot[starts] - 1, closed)
        latest = prefix_maximum(segment, rows.time)
        running = np.maximum(latest, known[segment])
        complete = self._complete(assets, segment, ends, rows, latest)
        passed = np.maximum(running - self._lateness, complete) // self._sampling
        passed = np.maximum(passed, opened[segment])
        self.table["highest"][assets] = running[ends]
        self.table["closed"][assets] = passed[ends]
        return Progress(
            assets=assets,
            segment=segment,
            opened=opened,
            closed=passed,
            reached=passed[ends],
            late=slot <= shifted(passed, starts, opened),
            before=shifted(running, starts, known),
        )

    def _complete(
        self,
        assets: NDArray[np.int32],
        segment: Positions,
        ends: Positions,
        rows: Rows,
        latest: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """[N] the time up to which every awaited sensor has reported; `UNSEEN` where one never has."""
        newest = self.table["newest"][assets]
        if not newest.shape[1]:
            return np.full(len(rows.row), UNSEEN)
        present = rows.quality[:, self._awaited] != Quality.ABSENT
        if present.all():
            self.table["newest"][assets] = np.maximum(newest, latest[ends, None])
            return np.maximum(latest, newest.min(axis=1)[segment])
        nothing = int(rows.time.min()) - 1
        times = prefix_maximum(segment, np.where(present, rows.time[:, None], nothing))
        times = np.maximum(np.where(times == nothing, UNSEEN, times), newest[segment])
        self.table["newest"][assets] = times[ends]
        return times.min(axis=1)
