"""One asset's part of a trace, with what labels and incidents say of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.evaluation.figures import Detection
from monitor.evaluation.incident_log import FAULT_KINDS, Incident
from monitor.evaluation.labels import Interval, Label, Labels
from monitor.quantities import NS_PER_S
from monitor.trace import Trace

CONSECUTIVE = 3
"""So many windows in a row over the limit are a detection that no single outlier explains."""


class AssetView(NamedTuple):
    """One asset's windows in order of their end, with what is known of them.

    Attributes:
        asset: its name.
        rows: [N] int64, its rows in the trace.
        ends: [N] int64, ns since the epoch.
        codes: [N] int8, `Label` of each window.
        scored: [N] bool.
        ratio: [N] float64, NaN where not scored.
        incidents: of the asset.
        false: its incidents raised where the label is normal; None where no label is known.
        detections: of its labelled faults that the trace reaches.
    """

    asset: str
    rows: NDArray[np.int64]
    ends: NDArray[np.int64]
    codes: NDArray[np.int8]
    scored: NDArray[np.bool_]
    ratio: NDArray[np.float64]
    incidents: tuple[Incident, ...]
    false: tuple[Incident, ...] | None
    detections: tuple[Detection, ...]

    @property
    def known(self) -> NDArray[np.bool_]:
        """[N] bool: scored, and labelled."""
        return self.scored & (self.codes != Label.UNKNOWN)

    @property
    def ordinary(self) -> NDArray[np.bool_]:
        """[N] bool: scored, and not known to be anomalous; in a labelled asset, known to be normal."""
        labelled = bool((self.codes != Label.UNKNOWN).any())
        return self.scored & (self.codes == (Label.NORMAL if labelled else Label.UNKNOWN))


def asset_views(trace: Trace, incidents: Iterable[Incident], labels: Labels) -> Iterator[AssetView]:
    """The trace by asset, for assets with at least one window."""
    incidents = list(incidents)
    for index, asset in enumerate(trace.assets):
        rows = np.flatnonzero(trace.asset == index)
        if not len(rows):
            continue
        ends, ratio = trace.end[rows], trace.ratio[rows]
        scored = trace.scored[rows] & np.isfinite(ratio)
        codes = labels.of(asset, ends)
        mine = tuple(i for i in incidents if i.asset == asset)
        faults = [f for f in labels.faults_of(asset) if f.start_ns <= ends[-1] and f.end_ns >= ends[0]]
        yield AssetView(
            asset=asset,
            rows=rows,
            ends=ends,
            codes=codes,
            scored=scored,
            ratio=np.where(scored, ratio, np.nan),
            incidents=mine,
            false=_false_incidents(mine, labels) if (codes != Label.UNKNOWN).any() else None,
            detections=tuple(
                _detection(asset, f, ends, np.where(scored, ratio, np.nan), mine) for f in faults
            ),
        )


def _false_incidents(incidents: Sequence[Incident], labels: Labels) -> tuple[Incident, ...]:
    def is_false(incident: Incident) -> bool:
        at = np.array([incident.raised_ns], np.int64)
        return incident.kind in FAULT_KINDS and bool(labels.of(incident.asset, at)[0] == Label.NORMAL)

    return tuple(i for i in incidents if is_false(i))


def _detection(
    asset: str,
    fault: Interval,
    ends: NDArray[np.int64],
    ratio: NDArray[np.float64],
    incidents: Sequence[Incident],
) -> Detection:
    low, high = np.searchsorted(ends, fault.start_ns, "left"), np.searchsorted(ends, fault.end_ns, "right")
    over = ratio[low:high] > 1.0
    in_a_row = np.convolve(over, np.ones(CONSECUTIVE), "full")[: len(over)] == CONSECUTIVE
    raised = [i.raised_ns for i in incidents if i.kind in FAULT_KINDS]
    during = [at for at in raised if fault.start_ns <= at <= fault.end_ns]
    before = ratio[:low][np.isfinite(ratio[:low])]

    def delay(hits: NDArray[np.bool_]) -> float | None:
        found = np.flatnonzero(hits)
        return float((ends[low + found[0]] - fault.start_ns) / NS_PER_S) if len(found) else None

    return Detection(
        asset=asset,
        name=fault.name,
        start=fault.start_time,
        end=fault.end_time,
        windows=int(np.isfinite(ratio[low:high]).sum()),
        first_delay_s=delay(over),
        third_delay_s=delay(in_a_row),
        incident_delay_s=(min(during) - fault.start_ns) / NS_PER_S if during else None,
        over_before=bool(len(before) and before[-1] > 1.0),
    )
