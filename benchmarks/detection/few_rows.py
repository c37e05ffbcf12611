"""The section ``few_rows``: what limits from a few hundred rows realise, by the form of the limit.

The linear part of the default configuration (`var` in two bands) is trained on the first 400 to 1,000 rows of
independent normal runs and judged on normal rows that it has not seen; nothing follows the scores meanwhile. Each
monitor's calibration ratios then give three limits, and the same test rows are counted over each of them:

- *order statistic*: the nu-quantile rule alone (`calibration.extrapolate: false`);
- *exponential*: moved out along a tail whose mean excess, over the upper 15 % of the ratios, is taken as known;
- *predictive*: what nuwatch does, `monitor.thresholds.threshold.beyond`.

The reactor and the tanks are judged on the 2,000 rows behind those that taught, as a monitor in its first hours is.
Tennessee Eastman's runs are too short for that: 20 other runs of 500 rows are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.contract import Request, Section, Table
from benchmarks.detection.data import DataSet, Model, Series, Split, data_folder, own_model
from benchmarks.detection.execute import judge, learn
from benchmarks.detection.processes import PROCESSES, normal_series
from benchmarks.detection.setting import asset_class_of
from benchmarks.detection.tep import normal_run, sensors
from benchmarks.detection.workers import each
from monitor.errors import UsageError
from monitor.settings import AssetClass, DriftSettings, Tracking
from monitor.thresholds.threshold import estimate, level_time
from monitor.training.train import Trained

ROWS: Final = {"reactor": (400, 700, 1000), "tanks": (400, 700, 1000), "tep": (500, 700, 960)}
"""Rows that teach: of 52 sensors 400 are refused, and Tennessee Eastman's runs have 960."""
SCORERS: Final = {"var": {"memory_weight": 0.2}}
"""What the default's networks begin at. Training them costs thirty times as much, and the limit's form is the same."""
SEEDS: Final = 20
QUICK_SEEDS: Final = 2
BEHIND: Final = 2000
"""Rows behind those that taught on which a simulated process is judged."""
FORMS: Final = ("order statistic", "exponential", "predictive")
_TAIL: Final = 0.15
_FIRST_SEED: Final = 5000
_LIKE_NO_OTHER: Final = DriftSettings(detector="none", tracking=Tracking(enabled=False))
"""Nothing moves the limit while it is judged."""

Floats = NDArray[np.float64]


class Task(NamedTuple):
    """One monitor: its data set, the rows that teach it, and which run they are of."""

    dataset: str
    rows: int
    number: int
    seeds: int
    data: Path | None


class Realised(NamedTuple):
    """What one monitor's limits realise.

    Attributes:
        dataset: its name.
        rows: that were asked to teach.
        over: share of test rows over each of `FORMS`.
        independent: ratios that the calibration's are worth, as the extrapolation counts them.
        refused: why there is no monitor; None where there is one.
    """

    dataset: str
    rows: int
    over: tuple[float, ...]
    independent: float
    refused: str | None = None


def few_rows(request: Request) -> Section:
    """The section.

    Raises:
        UsageError: a data set is not there.
    """
    seeds = QUICK_SEEDS if request.quick else SEEDS
    groups = [
        [Task(name, rows, number, seeds, request.data) for number in range(seeds)]
        for name in _names(request)
        for rows in (ROWS[name][:1] if request.quick else ROWS[name])
    ]
    request.teller.stage("few rows", sum(map(len, groups)))
    found: dict[int, Realised] = {}
    for number, one in each(realise, groups, request.jobs):
        found[number] = one
        request.teller.step(f"{one.dataset}, {one.rows} rows")
    return _section([found[number] for number in sorted(found)])


def _names(request: Request) -> tuple[str, ...]:
    unknown = [name for name in request.datasets if name not in ROWS]
    if unknown:
        raise UsageError(f"--dataset: got {unknown[0]!r}, section few_rows has {', '.join(ROWS)}")
    return request.datasets or tuple(ROWS)


def realise(task: Task) -> Realised:
    """Train one monitor and count normal rows over its limits."""
    model = _model(task)
    settings = msgspec.structs.replace(asset_class_of(model, SCORERS, task.number), drift=_LIKE_NO_OTHER)
    learnt = learn(model, settings)
    if learnt.trained is None:
        return Realised(task.dataset, task.rows, (), math.nan, learnt.refused)
    outcomes = judge(DataSet(task.dataset, (model,)), {model.name: learnt}).outcomes
    test = [one.score[one.scored & (one.series.split == Split.TEST)] for one in outcomes]
    limits, independent = _limits(settings, learnt.trained)
    raw = _raw(learnt.trained, np.concatenate(test))
    over = tuple(float(np.mean(raw > limit)) for limit in limits)
    return Realised(task.dataset, task.rows, over, independent)


def _raw(trained: Trained, ratio: Floats) -> Floats:
    """Combined, smoothed ratios before the limit was divided by."""
    median, limit = trained.estimate.median, trained.estimate.threshold
    return median + ratio * (limit - median)


def _limits(settings: AssetClass, trained: Trained) -> tuple[tuple[float, ...], float]:
    """Limits in the order of `FORMS`, and how many independent ratios they rest on."""
    ratios, nu = _raw(trained, trained.limit_ratios), settings.calibration.nu
    runs = trained.limit_runs
    least_tau = 2.0 / settings.scoring.smoothing - 1.0

    def limit(extrapolate: bool) -> Any:
        rng = np.random.default_rng(0)
        return estimate(ratios, nu, rng=rng, extrapolate=extrapolate, least_tau=least_tau, runs=runs)

    order = limit(False)
    independent = len(ratios) / max(order.tau, level_time(ratios, runs), least_tau)
    further = exponential(ratios, nu, independent)
    return (order.threshold, order.threshold + further, limit(True).threshold), independent


def exponential(ratios: Floats, nu: float, independent: float) -> float:
    """How far nu lies beyond the order statistic along an exponential tail of known mean: that of the upper 15 %.

    Args:
        ratios: [n] of the calibration.
        nu: asked.
        independent: ratios that they are worth.
    """
    resolved = 1.0 / (independent + 1.0)
    start = float(np.quantile(ratios, 1.0 - _TAIL))
    return float(np.mean(ratios[ratios > start] - start)) * max(0.0, math.log(resolved / nu))


def _model(task: Task) -> Model:
    return _of_tep(task) if task.dataset == "tep" else _of_process(task)


def _of_process(task: Task) -> Model:
    """The first rows of one run teach, those behind them are judged."""
    process = PROCESSES[task.dataset]
    values = _simulated(task.dataset, task.seeds)[task.number, : task.rows + BEHIND]
    series = normal_series(process, f"run-{task.number:02d}", values, Split.TEST)
    series.split[: task.rows] = Split.TRAIN
    return own_model(series, process.sensors)


@lru_cache(maxsize=1)
def _simulated(name: str, seeds: int) -> Floats:
    return PROCESSES[name].simulate(
        range(_FIRST_SEED, _FIRST_SEED + seeds), max(ROWS[name]) + BEHIND, [""] * seeds
    )


def _of_tep(task: Task) -> Model:
    """The first rows of a run of 960 teach, 20 runs of 500 are judged."""
    runs = np.load(data_folder("tep", task.data) / "normal_runs.npz")
    taught: Series = normal_run("taught", runs["test"][task.number, : task.rows], Split.TRAIN)
    others = (normal_run(f"other-{k:02d}", values, Split.TEST) for k, values in enumerate(runs["train"]))
    return Model("tep", sensors(), (taught,), tuple(others))


def _section(found: Sequence[Realised]) -> Section:
    cells = {(one.dataset, one.rows): [] for one in found}
    for one in found:
        cells[one.dataset, one.rows].append(one)
    table = Table(
        "Few rows: share of normal rows over the limit, asked 0.01",
        ("taught by", *(f"{form}: {what}" for form in FORMS for what in ("mean", "median")), "independent"),
        tuple(_row(name, rows, ones) for (name, rows), ones in cells.items()),
        (
            f"mean ± its standard error, and median, over {max(map(len, cells.values()))} independent runs; "
            "`var` in two bands, nothing followed",
            "independent: ratios that the calibration's are worth, as the extrapolation counts them",
            f"reactor and tanks are judged on the {BEHIND} rows behind, tep on 20 other runs of 500 rows",
        ),
    )
    figures = {f"{name} {rows}": [one._asdict() for one in ones] for (name, rows), ones in cells.items()}
    refused = dict.fromkeys(
        f"{one.dataset}, {one.rows} rows: refused: {one.refused}" for one in found if one.refused is not None
    )
    return Section("few_rows", (table,), (), figures, tuple(refused))


def _row(name: str, rows: int, found: Sequence[Realised]) -> tuple[str, ...]:
    known = [one for one in found if one.refused is None]
    if not known:
        return (f"{name}, {rows} rows", *("refused" for _ in FORMS for _ in range(2)), "-")
    over = np.array([one.over for one in known])  # [monitors, forms]
    cells: list[str] = []
    for column in over.T:
        error = column.std(ddof=1) / math.sqrt(len(column)) if len(column) > 1 else math.nan
        cells += [f"{column.mean():.4f} ± {error:.4f}", f"{np.median(column):.4f}"]
    return (f"{name}, {rows} rows", *cells, f"{np.median([one.independent for one in known]):.0f}")
