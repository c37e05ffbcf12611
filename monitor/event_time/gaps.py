"""Which closed slots are emitted: all of them, but of a long gap only its beginning.

After max_age and a whole window of empty slots nothing can change any more but the slot's number, so the
rest is skipped and windows start anew behind the gap: seventy years cost what a minute costs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.event_time.readings import Readings
from monitor.event_time.segments import Positions
from monitor.event_time.watermark import Progress
from monitor.settings import AssetClass
from monitor.table import Table


class Emitted(NamedTuple):
    """M slots to emit, sorted by (asset, slot).

    Attributes:
        segment: [M] the number of the slot's asset in the push.
        slot: [M] int64.
        filled: [G] positions of the slots that have rows.
        after_gap: [M] bool, slots were skipped before this one, or it is the asset's first.
    """

    segment: Positions
    slot: NDArray[np.int64]
    filled: Positions
    after_gap: NDArray[np.bool_]


class Gaps:
    """Counts every asset's consecutive empty slots."""

    def __init__(self, asset_class: AssetClass) -> None:
        self._longest = -(-asset_class.time.max_age // int(asset_class.sampling)) + asset_class.window.length
        self.table = Table([("empties", np.int64, ()), ("skipped", np.bool_, ())], {"skipped": True})

    def lay_out(self, progress: Progress, readings: Readings) -> Emitted:
        """The slots between what was closed before and what is closed now.

        Each asset is a row of marks, its slots with rows and then the first slot that is not closed yet;
        before each mark lies a gap of zero or more empty slots.
        """
        assets, total = progress.assets, len(progress.assets)
        owner = np.searchsorted(assets, readings.row)
        ending = np.cumsum(np.bincount(owner, minlength=total)) + np.arange(total)
        first = np.append(0, ending[:-1] + 1)
        groups = np.arange(len(owner)) + owner
        mark_slot = np.empty(len(owner) + total, np.int64)
        mark_slot[groups], mark_slot[ending] = readings.slot, progress.reached + 1
        is_group = np.ones(len(mark_slot), np.bool_)
        is_group[ending] = False

        previous = np.empty_like(mark_slot)
        previous[1:], previous[first] = mark_slot[:-1], progress.opened
        already = np.zeros_like(mark_slot)
        already[first] = self.table["empties"][assets]
        gap = mark_slot - previous - 1
        kept = np.minimum(gap, np.maximum(self._longest - already, 0))
        skips = gap > kept
        skips[first] |= self.table["skipped"][assets]
        self.table["empties"][assets] = (already + kept)[ending]
        self.table["skipped"][assets] = skips[ending]

        emitted = kept + is_group
        mark = np.repeat(np.arange(len(emitted)), emitted)
        before = np.cumsum(emitted) - emitted
        place = np.arange(len(mark)) - before[mark]
        filled = (before + kept)[groups]
        slot = previous[mark] + 1 + place
        slot[filled] = readings.slot
        after_gap = np.zeros(len(mark), np.bool_)
        after_gap[filled] = skips[groups]
        segment = np.cumsum(np.bincount(ending + 1, minlength=len(emitted) + 1))[:-1][mark]
        return Emitted(segment, slot, filled, after_gap)
