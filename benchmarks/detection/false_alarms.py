"""False alarms: does nu keep its word on data that nobody trained on?

Trained on independent normal runs of the Tennessee Eastman process, judged on others: over whole runs, in the first 30
windows after a restart (the average restarts at every 30th window), and with every single sensor masked. And with few
data: one run of 500 rows, several times. Windows go through the scaling, program, scales, smoother, ages and masks that
run live. No labels and no faults: only how often normal windows are over the limit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from benchmarks.detection.contract import Bar, Request, Section, Table, text_of
from benchmarks.detection.planting import SENSORS, Rows, normal_runs
from monitor.thresholds.reestimate import combine
from monitor.thresholds.smoothing import Smoother
from monitor.thresholds.threshold import ratio
from tests.worlds import World, batch_of, world

LENGTH = 16
"""Samples of a window: few, so that one run of 500 rows holds many."""
NU = 0.01
YOUNG = 30
MASKED_ROWS = 480
"""Rows of each test run that are judged under every mask."""
FEW = 10
"""Monitors that are trained on one run each."""
SCORERS = ("var", "pca")
_BOOTSTRAPS = 400


class Rates(NamedTuple):
    """Share of windows over the limit, by run [R].

    Attributes:
        scorers: [R, S] of each scorer's own limit.
        final: [R] of the combined, smoothed one.
        young: [R] likewise, in the first windows after a restart.
    """

    scorers: NDArray[np.float64]
    final: NDArray[np.float64]
    young: NDArray[np.float64]


def monitor_of(scorers: Sequence[str], training: Rows) -> World:
    """A monitor trained on runs [runs, rows, 52]; default settings, but for the window's length."""
    sensors = "\n".join(f"      {name}: {{unit: '1', reporting: on_change}}" for name in SENSORS)
    text = f"""
site: tep
source: {{kind: memory}}
asset_classes:
  unit:
    assets: ["plant/*"]
    sampling: 1s
    sensors:
{sensors}
    window: {{length: {LENGTH}}}
    calibration: {{nu: {NU}}}
    scoring: {{scorers: {json.dumps({name: {} for name in scorers})}}}
"""
    return world(text, [batch_of({f"plant/{n:02d}": values for n, values in enumerate(training)})])


def rates(monitor: World, runs: Rows, masked: int | None = None) -> Rates:
    """Realised rates of runs [R, rows, 52], with one sensor masked throughout or none."""
    u = _ratios(monitor, runs, masked)  # [R, W, S]
    whole = len(u[0]) // YOUNG * YOUNG
    young = u[:, :whole].reshape(-1, YOUNG, u.shape[2])
    over = (_final(monitor, young) > 1.0).reshape(len(u), -1)
    return Rates((u > 1.0).mean(axis=1), (_final(monitor, u) > 1.0).mean(axis=1), over.mean(axis=1))


def _ratios(monitor: World, runs: Rows, masked: int | None) -> NDArray[np.float64]:
    model, out = monitor.model, list[NDArray[np.float64]]()
    for run in runs:
        none = np.zeros(len(run), np.int64)
        z = sliding_window_view(model.trajectory.z(run, none.astype(np.int32), none), LENGTH, axis=0)
        windows = np.ascontiguousarray(z.transpose(0, 2, 1))
        mask = np.ones(windows.shape, np.bool_)
        if masked is not None:
            mask[:, :, masked] = False
        maturity = np.full(len(windows), LENGTH, np.int32)
        effect = model.scales.masks.effect(mask, maturity)
        on_scale = model.scales.on_scale(model.score(windows, mask).score, maturity)
        out.append((on_scale - effect.shift) / effect.stretch)
    return np.stack(out)


def _final(monitor: World, u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Final ratios [R, W] of stretches that each begin with a restart."""
    scales, rows = monitor.model.scales, np.arange(len(u), dtype=np.int32)
    smoother = Smoother(monitor.asset_class.scoring.smoothing, LENGTH)
    smoother.grow(len(u))
    combined = combine(u, monitor.asset_class.scoring.combine)
    steady = np.empty(combined.shape)
    for t in range(combined.shape[1]):
        now = np.full(len(u), t, np.int64)
        smooth = smoother.step(rows, now, np.zeros(len(u), np.int64), combined[:, t])
        steady[:, t] = scales.ages.steady(smooth, smoother.ages(rows))
    return ratio(steady, scales.final_median, scales.final_limit)


def interval(by_run: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean over runs, by resampling runs."""
    drawn = np.random.default_rng(seed).integers(len(by_run), size=(_BOOTSTRAPS, len(by_run)))
    low, high = np.quantile(by_run[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def false_alarms(request: Request) -> Section:
    """The section."""
    training, test = normal_runs(request.data or Path(os.environ["NUWATCH_DATA"]))
    test = test[:4] if request.quick else test
    sensors = range(0, len(SENSORS), 17 if request.quick else 1)
    chosen = request.scorers or SCORERS
    request.teller.stage("false alarms", 2 + len(sensors) + (2 if request.quick else FEW))
    request.teller.step("training on 20 runs")
    monitor = monitor_of(chosen, training)
    request.teller.step("whole runs")
    plain = rates(monitor, test)
    under: list[Rates] = []
    for sensor in sensors:
        request.teller.step(f"without {SENSORS[sensor]}")
        under.append(rates(monitor, test[:, :MASKED_ROWS], sensor))
    few: list[Rates] = []
    for number in range(2 if request.quick else FEW):
        request.teller.step(f"500 rows, run {number}")
        few.append(rates(monitor_of(chosen, training[number : number + 1]), test))
    return _section(monitor, chosen, plain, under, few)


def _section(
    monitor: World, scorers: Sequence[str], plain: Rates, under: list[Rates], few: list[Rates]
) -> Section:
    estimate = monitor.trained.estimate
    many = Table(
        f"Realised share of normal windows over the limit, asked {NU:g}; trained on 20 runs of 500 rows",
        ("limit of", "realised", "of nu", "95 % interval", "least and most under a mask, of nu"),
        tuple(_row(name, by_run, masked) for name, by_run, masked in _lines(scorers, plain, under)),
        (
            f"{len(plain.final)} test runs; n_eff nu {estimate.n_eff * NU:.1f}, {estimate.label}; {estimate.source}",
            f"{len(under)} single-sensor masks, each over the first {MASKED_ROWS} rows of the test runs",
        ),
    )
    single = Table(
        f"One run of 500 rows, asked {NU:g}: {len(few)} monitors, each on all test runs",
        ("limit of", "realised", "of nu", "least", "most"),
        tuple(_few_row(name, np.array(values)) for name, values in _few_lines(scorers, few)),
    )
    worst = _worst([one.final.mean() for one in under])
    bars = (
        _bar("all windows", float(plain.final.mean())),
        _bar(f"the first {YOUNG} windows after a restart", float(plain.young.mean())),
        _bar("the worst single-sensor mask", worst),
    )
    figures: dict[str, Any] = {
        "asked": NU,
        "n_eff": estimate.n_eff,
        "final": float(plain.final.mean()),
        "young": float(plain.young.mean()),
        "scorers": dict(zip(scorers, plain.scorers.mean(axis=0).tolist(), strict=True)),
        "masks": [float(one.final.mean()) for one in under],
        "few": [float(one.final.mean()) for one in few],
    }
    return Section("false_alarms", (many, single), bars, figures)


def _bar(name: str, realised: float) -> Bar:
    """A bar on how far the realised rate is from nu, up or down: 1.6 up, 2 down (so that .5 nu still passes)."""
    off = realised / NU if realised >= NU else 1.0 + (NU / max(realised, 1e-9) - 1.0) * 0.6
    return Bar(f"TEP, realised false alarms off nu, {name}", off, 1.6, 1.25, higher=False)


def _worst(realised: Sequence[float]) -> float:
    return max(realised, key=lambda rate: abs(np.log(max(rate, 1e-9) / NU))) if realised else float("nan")


def _lines(
    scorers: Sequence[str], plain: Rates, under: list[Rates]
) -> list[tuple[str, NDArray[np.float64], list[float]]]:
    lines = [
        (name, plain.scorers[:, s], [float(one.scorers[:, s].mean()) for one in under])
        for s, name in enumerate(scorers)
    ]
    lines.append(("combined, smoothed", plain.final, [float(one.final.mean()) for one in under]))
    lines.append((f"rows 1 to {YOUNG}", plain.young, [float(one.young.mean()) for one in under]))
    return lines


def _few_lines(scorers: Sequence[str], few: list[Rates]) -> list[tuple[str, list[float]]]:
    lines = [(name, [float(one.scorers[:, s].mean()) for one in few]) for s, name in enumerate(scorers)]
    lines.append(("combined, smoothed", [float(one.final.mean()) for one in few]))
    lines.append((f"rows 1 to {YOUNG}", [float(one.young.mean()) for one in few]))
    return lines


def _row(name: str, by_run: NDArray[np.float64], masked: list[float]) -> tuple[str, ...]:
    low, high = interval(by_run)
    mean = float(by_run.mean())
    span = f"{min(masked) / NU:.2f} to {max(masked) / NU:.2f}" if masked else "-"
    return (name, f"{mean:.4f}", f"{mean / NU:.2f}", f"{low:.4f} to {high:.4f}", span)


def _few_row(name: str, values: NDArray[np.float64]) -> tuple[str, ...]:
    mean = float(values.mean())
    return (name, f"{mean:.4f}", f"{mean / NU:.2f}", f"{values.min():.4f}", f"{values.max():.4f}")


if __name__ == "__main__":
    for table in false_alarms(Request()).tables:
        print(text_of(table))
