"""Drift detectors of many assets, one per scorer, fed with thinned calibration ranks.

Shape letters: n assets of one step, S scorers, Q reference quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from monitor.settings import DriftSettings
from monitor.table import Table
from monitor.thresholds.adaptation_events import DetectorReset, DriftDetected
from monitor.thresholds.drift import Detector, from_bytes
from monitor.thresholds.threshold import rank

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.integer[Any]]

_REFERENCE = 512
"""Quantiles of the last calibration that ranks refer to after a re-estimation."""


class _Asset:
    def __init__(self, detectors: list[Detector]) -> None:
        self.detectors = detectors
        self.reference: NDArray[np.float32] | None = None
        self.notices: list[tuple[str, str]] = []


class _Saved(Struct, frozen=True, array_like=True):
    row: bytes
    detectors: tuple[bytes, ...]
    reference: bytes | None
    notices: list[tuple[str, str]]


class DriftWatch:
    """Whether the scorers' normal has moved, for the assets of one class.

    Args:
        scorers: their names, in the order of S.
        settings: the detector and its delta.
        period: one window in so many reaches the detectors: an autocorrelation time of the ranks.
    """

    def __init__(self, scorers: Sequence[str], settings: DriftSettings, period: int) -> None:
        self._scorers = tuple(scorers)
        self._settings = settings
        self._period = period
        self._table = Table([("drifting", np.bool_, (len(self._scorers),)), ("thinned", np.int32, ())])
        self._assets = dict[int, _Asset]()
        self._noticed = set[int]()

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets."""
        self._table.grow(capacity)

    def dump(self, row: int) -> bytes:
        """State of one asset."""
        asset = self._asset(row)
        saved = _Saved(
            row=self._table.dump(row),
            detectors=tuple(detector.to_bytes() for detector in asset.detectors),
            reference=None if asset.reference is None else asset.reference.tobytes(),
            notices=asset.notices,
        )
        return msgspec.msgpack.encode(saved)

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave. Detectors of another river version start afresh; `notices` says so."""
        saved = msgspec.msgpack.decode(data, type=_Saved)
        self._table.load(row, saved.row)
        asset = self._assets[row] = _Asset([])
        asset.notices = list(saved.notices)
        if saved.reference is not None:
            asset.reference = np.frombuffer(saved.reference, np.float32).reshape(len(self._scorers), -1)
        for index, (name, state) in enumerate(zip(self._scorers, saved.detectors, strict=True)):
            restored = from_bytes(state, self._settings.detector, self._settings.delta, index)
            asset.detectors.append(restored.detector)
            if restored.reset:
                asset.notices.append((name, restored.reason))
        if asset.notices:
            self._noticed.add(row)

    def drifting(self, rows: Rows) -> Bools:
        """Scorers [n, S] whose normal has moved since `reset`."""
        return self._table["drifting"][rows]

    def notices(self, rows: Rows) -> list[DetectorReset]:
        """Resets found while loading, told at the asset's next window."""
        events = list[DetectorReset]()
        for row in sorted(self._noticed.intersection(rows.tolist())) if self._noticed else ():
            asset = self._assets[row]
            events += [DetectorReset(row, scorer, reason) for scorer, reason in asset.notices]
            asset.notices = []
            self._noticed.remove(row)
        return events

    def step(
        self, rows: Rows, end_ns: NDArray[np.int64], u: Floats, ranks: Floats, watched: Bools
    ) -> list[DriftDetected]:
        """One window of each of n assets; those not ``watched`` [n] are passed over."""
        table, events = self._table, list[DriftDetected]()
        thinned = table["thinned"][rows] + watched
        due = watched & (thinned >= self._period)
        table["thinned"][rows] = np.where(due, 0, thinned)
        for index in np.flatnonzero(due).tolist():
            events += self._update(int(rows[index]), int(end_ns[index]), u[index], ranks[index])
        return events

    def reset(self, row: int) -> None:
        """Fresh detectors: nothing drifts."""
        self._asset(row).detectors = self._fresh()
        self._table["drifting"][row], self._table["thinned"][row] = False, 0

    def refer_to(self, row: int, u: NDArray[np.float32]) -> None:
        """Ranks refer to these scores [n, S] from now on."""
        self._asset(row).reference = _quantiles(u)

    def _update(self, row: int, end_ns: int, u: Floats, ranks: Floats) -> list[DriftDetected]:
        asset, events = self._asset(row), list[DriftDetected]()
        drifting = self._table["drifting"][row]
        for index, detector in enumerate(asset.detectors):
            if drifting[index] or not detector.update(self._rank(asset, index, u, ranks)):
                continue
            drifting[index] = True
            events.append(DriftDetected(row, self._scorers[index], end_ns, *detector.means()))
        return events

    def _rank(self, asset: _Asset, index: int, u: Floats, ranks: Floats) -> float:
        """Against the bundle, or, after a re-estimation, against the quantiles kept of its scores."""
        if asset.reference is None:
            return float(ranks[index])
        return float(rank(asset.reference[index].astype(np.float64), u[index]))

    def _asset(self, row: int) -> _Asset:
        if row not in self._assets:
            self._assets[row] = _Asset(self._fresh())
        return self._assets[row]

    def _fresh(self) -> list[Detector]:
        kind, delta = self._settings.detector, self._settings.delta
        return [Detector(kind, delta, seed) for seed in range(len(self._scorers))]


def _quantiles(u: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most 512 evenly spaced order statistics of each scorer's scores, ascending: [n, S] -> [S, Q]."""
    kept = np.linspace(0, len(u) - 1, min(len(u), _REFERENCE)).round().astype(np.int64)
    return np.ascontiguousarray(np.sort(u, axis=0)[kept].T)
