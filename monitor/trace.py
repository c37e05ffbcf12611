"""What the pipeline says of every window, for reports and metrics; alerts are made from the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.records import Context


class Trace(NamedTuple):
    """W windows of one asset class, in order of their end within each asset.

    Shape letters: W windows, S scorers, D scored sensors. Values are in engineering units.

    Attributes:
        asset_class: the class's name.
        sensors: the D scored sensors' names.
        scorers: the S scorers' names.
        assets: the names that ``asset`` points to.
        asset: [W] int32, index into ``assets``.
        end: [W] int64, window end in ns since the epoch.
        scored: [W] bool; False where coverage or maturity did not suffice: then ratios and scores are NaN.
        coverage: [W] float32, share of real readings.
        ratio: [W] float64, combined and smoothed; 1.0 is the limit.
        scorer_ratio: [W, S] float64, each scorer's own ratio.
        score: [W, S] float64, raw scores.
        observed: [W, D] float64, value at the window's last sample; NaN where masked.
        expected: [W, D] float64, what the sensor should show there, given the sensors that can be trusted.
        low: [W, D] float64, lower end of the normal band around it.
        high: [W, D] float64, upper end.
        sigma: [W, D] float64, one standard deviation of normal around it.
        contributions: [W, D] float32, share of each sensor in the score, summing to 1.
        version: [W] int32, the threshold version in force.
        limit: [W] float64, limit in force of the combined, smoothed ratio, as the limit's tracking moves it.
        gate: [W] uint8, whether the limit followed the scores at this window, and why not: codes of
            `monitor.thresholds.tracking.Gate`.
        centre: [W, D] float64, how far from its trained centre a sensor is scored; 0 unless it is re-centred.
        contexts: the batch contexts that ``context`` points to.
        context: [W] int32, index into ``contexts``.
    """

    asset_class: str
    sensors: tuple[str, ...]
    scorers: tuple[str, ...]
    assets: tuple[str, ...]
    asset: NDArray[np.int32]
    end: NDArray[np.int64]
    scored: NDArray[np.bool_]
    coverage: NDArray[np.float32]
    ratio: NDArray[np.float64]
    scorer_ratio: NDArray[np.float64]
    score: NDArray[np.float64]
    observed: NDArray[np.float64]
    expected: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    sigma: NDArray[np.float64]
    contributions: NDArray[np.float32]
    version: NDArray[np.int32]
    limit: NDArray[np.float64]
    gate: NDArray[np.uint8]
    centre: NDArray[np.float64]
    contexts: Sequence[Context]
    context: NDArray[np.int32]


_PER_WINDOW = (
    "end",
    "scored",
    "coverage",
    "ratio",
    "scorer_ratio",
    "score",
    "observed",
    "expected",
    "low",
    "high",
    "sigma",
    "contributions",
    "version",
    "limit",
    "gate",
    "centre",
)


def joined(traces: Sequence[Trace]) -> Trace:
    """Traces of one asset class as one, in order of time within each asset.

    Args:
        traces: at least one; those of one asset in order of time.
    """
    assets = {name: number for number, name in enumerate(dict.fromkeys(a for t in traces for a in t.assets))}
    contexts = {c: number for number, c in enumerate(dict.fromkeys(c for t in traces for c in t.contexts))}
    asset = [_renumbered(t.asset, [assets[name] for name in t.assets]) for t in traces]
    context = [_renumbered(t.context, [contexts[c] for c in t.contexts]) for t in traces]
    order = np.argsort(np.concatenate(asset), kind="stable")

    def column(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(trace, name) for trace in traces])[order]

    return traces[0]._replace(
        assets=tuple(assets),
        asset=np.concatenate(asset)[order],
        contexts=tuple(contexts),
        context=np.concatenate(context)[order],
        **{name: column(name) for name in _PER_WINDOW},
    )


def _renumbered(numbers: NDArray[np.int32], table: Sequence[int]) -> NDArray[np.int32]:
    return np.array(table, np.int32)[numbers] if len(numbers) else numbers
