"""The newest figures of every asset, put together for metrics at each snapshot.

Labels are bounded: figures over all assets are labelled by class, scorer, gate, state and kind alone; only the first so
many assets by name have figures of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from monitor.alerting.incidents import Kind
from monitor.standing import Standing
from monitor.thresholds.adaptation import State
from monitor.thresholds.tracking import Gate
from monitor.trace import Trace

FINAL = "combined"
"""Stands where a scorer's name does, for the combined, smoothed ratio."""


class Latest(NamedTuple):
    """An asset's newest scored window.

    Attributes:
        asset_class: of the asset.
        ratios: by scorer, and `FINAL`.
    """

    asset_class: str
    ratios: dict[str, float]


class AssetFigures(NamedTuple):
    """How one asset stands.

    Attributes:
        asset: its name.
        ratios: of its newest scored window, by scorer and `FINAL`; empty before the first.
        version: threshold version in force.
        limit: in force, as a ratio of the trained one.
        gate: whether the limit follows the scores.
        drift: where the threshold is in its life.
    """

    asset: str
    ratios: dict[str, float]
    version: int
    limit: float
    gate: str
    drift: str


class Figures(NamedTuple):
    """All assets at one time.

    Attributes:
        assets: how many, by class.
        largest: the largest of the newest ratios, by class and scorer (`FINAL` among them).
        gates: assets by gate.
        drifts: assets by drift state.
        open: open incidents by kind.
        pending_bytes: readings that wait for their slots to close.
        most_pending_bytes: that can.
        own: the assets that have figures of their own.
    """

    assets: Counter[str]
    largest: dict[tuple[str, str], float]
    gates: Counter[str]
    drifts: Counter[str]
    open: Counter[str]
    pending_bytes: int
    most_pending_bytes: int
    own: tuple[AssetFigures, ...]


NOTHING = Figures(Counter(), {}, Counter(), Counter(), Counter(), 0, 0, ())


class Board:
    """Keeps the newest ratios of every asset.

    Args:
        most: assets with figures of their own.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._latest: dict[str, Latest] = {}

    def note(self, traces: Iterable[Trace]) -> None:
        """The windows of a step."""
        for trace in traces:
            for at in _last_scored(trace):
                ratios = dict(zip(trace.scorers, trace.scorer_ratio[at].tolist(), strict=True))
                ratios[FINAL] = float(trace.ratio[at])
                self._latest[trace.assets[trace.asset[at]]] = Latest(trace.asset_class, ratios)

    def figures(self, standings: Sequence[Standing]) -> Figures:
        """All assets of these classes and partitions."""
        largest: dict[tuple[str, str], float] = {}
        for latest in self._latest.values():
            for scorer, ratio in latest.ratios.items():
                key = latest.asset_class, scorer
                largest[key] = max(ratio, largest.get(key, ratio))
        assets: Counter[str] = Counter()
        gates, drifts = np.zeros(len(Gate), np.int64), np.zeros(len(State), np.int64)
        kinds = Counter({kind: 0 for kind in Kind if kind not in (Kind.BATCH_VERDICT, Kind.MONITOR_HEALTH)})
        for standing in standings:
            assets[standing.asset_class] += len(standing.assets)
            gates += np.bincount(standing.gate, minlength=len(Gate))
            drifts += np.bincount(standing.drift, minlength=len(State))
            kinds.update(standing.open)
        return Figures(
            assets,
            largest,
            Counter({gate.name: int(gates[gate]) for gate in Gate}),
            Counter({state.name: int(drifts[state]) for state in State}),
            Counter({kind.value: count for kind, count in kinds.items()}),
            sum(standing.pending_bytes for standing in standings),
            sum(standing.most_pending_bytes for standing in standings),
            tuple(self._own(standings)),
        )

    def _own(self, standings: Sequence[Standing]) -> Iterable[AssetFigures]:
        places = sorted(
            (asset, number, row)
            for number, standing in enumerate(standings)
            for row, asset in enumerate(standing.assets)
        )
        for asset, number, row in places[: self._most]:
            standing, latest = standings[number], self._latest.get(asset)
            yield AssetFigures(
                asset,
                {} if latest is None else latest.ratios,
                int(standing.version[row]),
                float(standing.limit[row]),
                Gate(int(standing.gate[row])).name,
                State(int(standing.drift[row])).name,
            )


def _last_scored(trace: Trace) -> list[int]:
    """Index of each asset's last scored window."""
    scored = np.flatnonzero(trace.scored)[::-1]
    _, first = np.unique(trace.asset[scored], return_index=True)
    return scored[first].tolist()
