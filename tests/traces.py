"""Traces for tests of evaluation and reports: made by hand, no pipeline needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from connectors.records import NO_CONTEXT
from monitor.evaluation.incident_log import Contribution, Incident
from monitor.trace import Trace

S = 1_000_000_000
T0 = 1_767_225_600 * S  # 2026-01-01T00:00:00Z


def trace_of(
    ratios: Mapping[str, Sequence[float] | NDArray[np.float64]],
    scorer_ratios: Mapping[str, Sequence[Sequence[float]]] | None = None,
    sensors: Sequence[str] = ("temperature", "pressure"),
    seconds: Mapping[str, Sequence[float]] | None = None,
) -> Trace:
    """A trace with one window a second from T0; NaN is a window that was not scored."""
    counts = [len(r) for r in ratios.values()]
    total, width = sum(counts), len(sensors)
    ratio = np.concatenate([np.asarray(r, np.float64) for r in ratios.values()])
    own = [(scorer_ratios or {}).get(a, [[x] for x in r]) for a, r in ratios.items()]
    width_of_scores = max((len(row) for rows in own for row in rows), default=1)
    scorer_ratio = np.concatenate([np.asarray(o, np.float64).reshape(len(o), width_of_scores) for o in own])
    ends = [(seconds or {}).get(a, range(1, len(r) + 1)) for a, r in ratios.items()]
    phase = np.linspace(0, 12, total)[:, None] + np.arange(width)
    return Trace(
        asset_class="reactor",
        sensors=tuple(sensors),
        scorers=tuple(f"scorer{i}" for i in range(scorer_ratio.shape[1])),
        assets=tuple(ratios),
        asset=np.repeat(np.arange(len(counts)), counts).astype(np.int32),
        end=np.concatenate([T0 + np.round(np.asarray(e, np.float64) * S).astype(np.int64) for e in ends]),
        scored=np.isfinite(ratio),
        coverage=np.ones(total, np.float32),
        ratio=ratio,
        scorer_ratio=scorer_ratio,
        score=scorer_ratio * 3,
        observed=100 + np.sin(phase),
        expected=100 + np.sin(phase - 0.1),
        low=98.5 + np.sin(phase - 0.1),
        high=101.5 + np.sin(phase - 0.1),
        sigma=np.full((total, width), 0.5),
        contributions=np.full((total, width), 1 / width, np.float32),
        version=np.ones(total, np.int32),
        limit=np.ones(total),
        gate=np.ones(total, np.uint8),
        centre=np.zeros((total, width)),
        contexts=(NO_CONTEXT,),
        context=np.zeros(total, np.int32),
    )


def incident(
    asset: str,
    raised: float,
    cleared: float | None = None,
    kind: str = "ANOMALY",
    subject: str = "",
    contributions: tuple[Contribution, ...] = (),
    message: str = "",
) -> Incident:
    """An incident with times in seconds after T0."""
    return Incident(
        asset=asset,
        kind=kind,
        subject=subject,
        start_ns=T0 + round(raised * S),
        raised_ns=T0 + round(raised * S),
        cleared_ns=None if cleared is None else T0 + round(cleared * S),
        severity=500,
        message=message or f"{kind} of {asset}",
        contributions=contributions,
        incident_id=f"{asset}-{kind}-{raised:g}",
    )
