"""Batch and phase of every slot, when they began, and where windows must start anew."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.event_time.contexts import Contexts
from monitor.event_time.segments import Positions, ends_of, latest_true, shifted
from monitor.settings import AssetClass
from monitor.table import Table


class Runs(NamedTuple):
    """M slots, sorted by (asset, slot).

    Attributes:
        context: [M] int32, number in the contexts.
        batch_start: [M] int64, first slot of the batch, -1 outside batches.
        phase_start: [M] int64, first slot of the phase or the slot of its declared start, -1 outside phases.
        fresh: [M] bool, a batch (or phase) begins or ends here.
    """

    context: NDArray[np.int32]
    batch_start: NDArray[np.int64]
    phase_start: NDArray[np.int64]
    fresh: NDArray[np.bool_]


class Batches:
    """Follows the batches and phases of every asset.

    An empty slot keeps the context of the one before; a slot whose rows carry none is outside batches. A
    phase's declared start counts from the slot on that it names, so that no slot precedes its phase.
    """

    def __init__(self, asset_class: AssetClass) -> None:
        self._fresh_window = asset_class.batches.fresh_window
        self.table = Table(
            [("context", np.int32, ()), ("batch_run", np.int64, ()), ("phase_run", np.int64, ())],
            {"batch_run": -1, "phase_run": -1},
        )

    def follow(
        self,
        assets: NDArray[np.int32],
        starts: Positions,
        segment: Positions,
        slot: NDArray[np.int64],
        filled: Positions,
        context: NDArray[np.int32],
        contexts: Contexts,
    ) -> Runs:
        """Runs of the slots.

        Args:
            assets: [A] rows of the assets that have slots.
            starts: [A] their first slots.
            segment: [M] the number of each slot's asset in ``assets``.
            slot: [M] slot numbers.
            filled: [G] positions of the slots with rows.
            context: [G] the contexts of these.
            contexts: what the numbers mean.
        """
        first = starts[segment]
        before = self.table["context"][assets]
        has_rows = np.zeros(len(slot), np.bool_)
        has_rows[filled] = True
        own = np.zeros(len(slot), np.int32)
        own[filled] = context
        source = latest_true(has_rows, first)
        current = np.where(source < 0, before[segment], own[source])
        previous = shifted(current, starts, before)
        new_batch = contexts.batch[current] != contexts.batch[previous]
        new_phase = contexts.phase[current] != contexts.phase[previous]
        batch_run = self._run("batch_run", assets, segment, slot, new_batch, first)
        phase_run = self._run("phase_run", assets, segment, slot, new_phase, first)
        last = ends_of(starts, len(slot))
        self.table["context"][assets] = current[last]
        self.table["batch_run"][assets] = batch_run[last]
        self.table["phase_run"][assets] = phase_run[last]
        declared = contexts.phase_slot[current]
        phase_start = np.where(declared <= slot, declared, phase_run)
        return Runs(
            context=current,
            batch_start=np.where(contexts.batch[current] >= 0, batch_run, -1),
            phase_start=np.where(contexts.phase[current] >= 0, phase_start, -1),
            fresh=self._fresh(new_batch, new_phase),
        )

    def _run(
        self,
        field: str,
        assets: NDArray[np.int32],
        segment: Positions,
        slot: NDArray[np.int64],
        begins: NDArray[np.bool_],
        first: Positions,
    ) -> NDArray[np.int64]:
        """[M] the slot with which each slot's run began."""
        source = latest_true(begins, first)
        return np.where(source < 0, self.table[field][assets][segment], slot[source])

    def _fresh(self, new_batch: NDArray[np.bool_], new_phase: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if self._fresh_window == "never":
            return np.zeros_like(new_batch)
        return new_batch | new_phase if self._fresh_window == "phase" else new_batch
