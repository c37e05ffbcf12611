"""How the assets of one partition stand: thresholds, gates, drift, open incidents. For metrics, not for the fold."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.alerting.incidents import Kind
from monitor.fold import Fold


class Standing(NamedTuple):
    """The A assets of one class on one partition.

    Attributes:
        asset_class: the class's name.
        assets: the A names.
        version: [A] int32, threshold version in force.
        limit: [A] float64, limit in force of the combined, smoothed ratio.
        gate: [A] uint8, codes of `monitor.thresholds.tracking.Gate` at the last windows.
        drift: [A] uint8, codes of `monitor.thresholds.adaptation.State`.
        open: open incidents by kind; silences are told, not held, and are not among them.
        pending_bytes: readings that wait for their slots to close.
        most_pending_bytes: that can.
    """

    asset_class: str
    assets: tuple[str, ...]
    version: NDArray[np.int32]
    limit: NDArray[np.float64]
    gate: NDArray[np.uint8]
    drift: NDArray[np.uint8]
    open: Counter[Kind]
    pending_bytes: int
    most_pending_bytes: int


def standing_of(fold: Fold) -> Standing:
    """How the assets of a fold stand now."""
    rows = np.arange(len(fold.names), dtype=np.int32)
    counts: Counter[Kind] = Counter()
    for incidents in (fold.faults, fold.shifts, fold.incidents):
        counts.update(incidents.open_by_kind())
    return Standing(
        fold.name,
        tuple(fold.names),
        fold.adaptation.version(rows),
        fold.adaptation.limits(rows)[1],
        fold.adaptation.gates(rows),
        fold.adaptation.states(rows),
        counts,
        fold.grid.pending_bytes,
        fold.grid.most_pending_bytes(len(fold.names)),
    )
