"""False alarms: does nu keep its word on data that nobody trained on?

Trained on independent normal runs of a process, judged on 30 others: over whole runs, in the first 30 windows after a
restart (the average restarts at every 30th window), and with every single sensor masked. The runs that train follow
each other as runs of one asset, with a stop between them: folds of the history are then whole runs. Of the Tennessee
Eastman process there are 20 runs of 500 rows, which hold enough independent windows for a large nu only; the simulated
reactor and tanks give as many as the default nu asks for. And with few data: one run of 500 rows of Tennessee Eastman,
several times.

Settings are those that `nuwatch init` would propose, and defaults. Windows go through the scaling, imputation, scorers,
scales, masks, smoother and ages that run live; contributions are left out. No labels and no faults: only how often
normal windows are over the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from benchmarks.detection import data as data_sets
from benchmarks.detection.contenders import own_names
from benchmarks.detection.contract import Bar, Request, Section, Table, Teller
from benchmarks.detection.data import Series, Split, own_model
from benchmarks.detection.execute import learn
from benchmarks.detection.planting import SENSORS, Rows, normal_runs
from benchmarks.detection.processes import PROCESSES
from benchmarks.detection.remembered import Remembered
from benchmarks.detection.setting import asset_class_of
from benchmarks.detection.tep import SAMPLING_NS, START_NS
from benchmarks.detection.workers import each
from models.imputation import fill
from models.registry import get_scorer
from models.scorer import Windows
from monitor.errors import UsageError
from monitor.model import Model
from monitor.settings import AssetClass, Scoring
from monitor.thresholds.reestimate import combine
from monitor.thresholds.smoothing import Smoother
from monitor.thresholds.threshold import ratio

Floats = NDArray[np.float64]

NUS: Final = {"tep": (0.01, 0.1), "reactor": (0.01,), "tanks": (0.01,)}
"""By process the default, and a nu for which the 20 runs hold enough independent windows."""
ENOUGH: Final = 16.0
"""n_eff nu from which the bar counts."""
YOUNG: Final = 30
MASKED_ROWS: Final = 480
"""Rows of each test run that are judged under every mask."""
FEW: Final = 10
"""Monitors that are trained on one run each."""
_STOP: Final = 480
"""Samples between two runs: far more than any silence."""
_TRAINING: Final = (60, 1000)
_TEST: Final = (30, 1000)
"""Runs of a simulated process, and their rows."""
_TRAINING_SEED: Final = 20_000
_TEST_SEED: Final = 30_000
_BLOCK: Final = 256
_BOOTSTRAPS: Final = 400


class Normal(NamedTuple):
    """Fault-free runs of a process.

    Attributes:
        sensors: names of the C channels.
        sampling_ns: time between rows.
        training: [R, N, C] runs that train.
        test: [R, N, C] runs that judge.
    """

    sensors: tuple[str, ...]
    sampling_ns: int
    training: Rows
    test: Rows


class Rates(NamedTuple):
    """Share of windows over the limit, by run [R].

    Attributes:
        scorers: [R, S] of each scorer's own limit.
        final: [R] of the combined, smoothed one.
        young: [R] likewise, in the first windows after a restart.
    """

    scorers: Floats
    final: Floats
    young: Floats


class Judged(NamedTuple):
    """What came of one nu.

    Attributes:
        process: whose runs.
        nu: asked.
        n: calibration windows.
        n_eff: what they are worth.
        source: where they came from.
        plain: without a mask.
        masked: final rate and young rate by sensor; empty: not judged.
    """

    process: str
    nu: float
    n: int
    n_eff: float
    source: str
    plain: Rates
    masked: dict[str, tuple[float, float]]


class Task(NamedTuple):
    """One training.

    Attributes:
        process: whose runs.
        folder: of the data sets.
        scorers: options by scorer; empty: the default's.
        seed: of training.
        run: the one run that trains; None: all of them.
        masks: every sensor is masked in its turn.
        quick: few test runs, and few masks.
    """

    process: str
    folder: Path
    scorers: dict[str, dict[str, Any]]
    seed: int
    run: int | None
    masks: bool
    quick: bool


def false_alarms(request: Request) -> Section:
    """The section.

    Raises:
        UsageError: the data are not there.
    """
    folder = data_sets.data_folder("tep", request.data).parent
    scorers: dict[str, dict[str, Any]] = {name: {} for name in request.scorers if name != "default"}
    first, few = request.seeds[0], range(2 if request.quick else FEW)
    tasks = [
        Task(process, folder, scorers, seed, None, seed == first, request.quick)
        for process in NUS
        for seed in request.seeds
    ]
    tasks += [Task("tep", folder, scorers, first, number, False, request.quick) for number in few]
    request.teller.stage("false alarms", len(tasks))
    found: dict[int, list[Judged]] = {}
    for place, judged in each(judge, [[task] for task in tasks], request.jobs):
        found[place] = judged
        task = tasks[place]
        request.teller.step("one run" if task.run is not None else f"{task.process}, seed {task.seed}")
    seeds = len(request.seeds)
    by_nu = [
        [found[number * seeds + k][place] for k in range(seeds)]
        for number, process in enumerate(NUS)
        for place in range(len(NUS[process]))
    ]
    return _section(scorers, by_nu, [found[len(NUS) * seeds + k][0] for k in few])


def judge(task: Task) -> list[Judged]:
    """Train for every nu, and count what is over the limit in the test runs."""
    own_names()  # registers the baselines, in a process of its own too
    normal = normal_of(task.process, task.folder)
    if task.run is not None:
        normal = normal._replace(training=normal.training[task.run : task.run + 1])
    if task.quick:
        normal = normal._replace(training=normal.training[:20], test=normal.test[:6])
    remembered = Remembered()
    nus = NUS[task.process] if task.run is None else NUS[task.process][:1]
    monitors = [_monitor(normal, task.scorers, task.seed, nu, remembered) for nu in nus]
    plain = _rates(monitors, normal.test, None)
    under = {
        sensor: _rates(monitors, normal.test[:, :MASKED_ROWS], sensor) for sensor in _masked(task, normal)
    }
    return [
        Judged(
            task.process,
            nu,
            monitor.model.bundle.fields["calibration"]["n"],
            monitor.model.bundle.fields["calibration"]["n_eff"],
            monitor.model.bundle.fields["calibration"]["source"],
            plain[place],
            {
                normal.sensors[sensor]: (float(rates[place].final.mean()), float(rates[place].young.mean()))
                for sensor, rates in under.items()
            },
        )
        for place, (nu, monitor) in enumerate(zip(nus, monitors, strict=True))
    ]


def _masked(task: Task, normal: Normal) -> range:
    """Sensors that are masked, one at a time."""
    if not task.masks:
        return range(0)
    return range(0, len(normal.sensors), 17 if task.quick else 1)


@lru_cache(maxsize=1)
def normal_of(process: str, folder: Path) -> Normal:
    """Runs of one of `NUS`' processes; ``folder`` holds Tennessee Eastman's."""
    if process == "tep":
        return Normal(SENSORS, SAMPLING_NS, *normal_runs(folder))
    simulated = PROCESSES[process]
    training, test = (
        simulated.simulate(range(seed, seed + runs), rows, [""] * runs)
        for seed, (runs, rows) in ((_TRAINING_SEED, _TRAINING), (_TEST_SEED, _TEST))
    )
    return Normal(simulated.sensors, round(simulated.sampling_s * 1e9), training, test)


class _Monitor(NamedTuple):
    model: Model
    settings: AssetClass


def _monitor(
    normal: Normal, scorers: dict[str, dict[str, Any]], seed: int, nu: float, remembered: Remembered
) -> _Monitor:
    """A monitor trained on a process's training runs, as those of one asset."""
    training = normal.training
    runs, rows, _ = training.shape
    place = (np.arange(runs) * (rows + _STOP))[:, None] + np.arange(rows)
    series = Series(
        name="normal",
        time=START_NS + place.ravel() * normal.sampling_ns,
        values=training.reshape(runs * rows, -1),
        label=np.zeros(runs * rows, np.int8),
        split=np.full(runs * rows, Split.TRAIN, np.int8),
    )
    model = own_model(series, normal.sensors)
    settings = asset_class_of(model, scorers, seed)
    settings = msgspec.structs.replace(
        settings, calibration=msgspec.structs.replace(settings.calibration, nu=nu)
    )
    learnt = learn(model, settings, remembered)
    if learnt.model is None:
        raise UsageError(f"false_alarms: {learnt.refused}")
    return _Monitor(learnt.model, settings)


def _rates(monitors: Sequence[_Monitor], runs: Rows, masked: int | None) -> list[Rates]:
    """Realised rates of runs [R, rows, C], with one sensor masked throughout or none, by monitor.

    The monitors differ in nu alone: what they score is scored once.
    """
    score = _score_only(monitors[0].model)
    scores = [_scored(monitors[0], score, run, masked) for run in runs]
    return [_counted(monitor, scores, masked) for monitor in monitors]


def _score_only(model: Model) -> Any:
    """The scorers of a model without their contributions, which nobody asks for here: XLA leaves them out."""
    scorers = [(get_scorer(one.name).score, one.spec) for one in model.bundle.scorers]
    params = [one.params for one in model.bundle.scorers]

    @jax.jit
    def score(params: Any, values: jax.Array, mask: jax.Array) -> jax.Array:
        windows = Windows(values, mask)
        return jnp.stack(
            [one(its, spec, windows).score for (one, spec), its in zip(scorers, params, strict=True)], axis=1
        )

    return partial(score, params)


_fill = jax.jit(fill)


def _scored(monitor: _Monitor, score: Any, run: Rows, masked: int | None) -> NDArray[np.float32]:
    """Scores [W, S] of a run's windows. Rows are imputed once, not in every window that they are in."""
    model, none = monitor.model, np.zeros(len(run), np.int64)
    z = model.trajectory.z(run, none.astype(np.int32), none)
    mask = np.ones(z.shape, np.bool_)
    if masked is not None:
        mask[:, masked] = False
        z = np.asarray(_fill(model.bundle.imputation.precision, z, mask))
    length = monitor.settings.window.length
    windows = sliding_window_view(z, length, axis=0).transpose(0, 2, 1)
    real = sliding_window_view(mask, length, axis=0).transpose(0, 2, 1)
    out: list[NDArray[np.float32]] = []
    for low in range(0, len(windows), _BLOCK):
        some = np.minimum(np.arange(low, low + _BLOCK), len(windows) - 1)
        out.append(np.asarray(score(windows[some], real[some])))
    return np.concatenate(out)[: len(windows)]


def _counted(monitor: _Monitor, scores: list[NDArray[np.float32]], masked: int | None) -> Rates:
    u = np.stack([_on_scale(monitor, one, masked) for one in scores])  # [R, W, S]
    whole = len(u[0]) // YOUNG * YOUNG
    young = u[:, :whole].reshape(-1, YOUNG, u.shape[2])
    over = (_final(monitor, young) > 1.0).reshape(len(u), -1)
    return Rates((u > 1.0).mean(axis=1), (_final(monitor, u) > 1.0).mean(axis=1), over.mean(axis=1))


def _on_scale(monitor: _Monitor, scores: NDArray[np.float32], masked: int | None) -> Floats:
    """Ratios [W, S], the effect of the mask taken back."""
    scales, length = monitor.model.scales, monitor.settings.window.length
    maturity = np.full(len(scores), length, np.int32)
    mask = np.ones((1, length, monitor.model.bundle.imputation.precision.shape[0]), np.bool_)
    if masked is not None:
        mask[:, :, masked] = False
    effect = scales.masks.effect(mask, maturity[:1])
    return (scales.on_scale(scores, maturity) - effect.shift) / effect.stretch


def _final(monitor: _Monitor, u: Floats) -> Floats:
    """Final ratios [R, W] of stretches that each begin with a restart."""
    scales, scoring = monitor.model.scales, monitor.settings.scoring
    rows = np.arange(len(u), dtype=np.int32)
    smoother = Smoother(scoring.smoothing, monitor.settings.window.length)
    smoother.grow(len(u))
    combined = combine(u.reshape(-1, u.shape[-1]), scoring.combine).reshape(u.shape[:-1])
    steady = np.empty_like(combined)
    for t in range(u.shape[1]):
        now = np.full(len(u), t, np.int64)
        smooth = smoother.step(rows, now, np.zeros(len(u), np.int64), combined[:, t])
        steady[:, t] = scales.ages.steady(smooth, smoother.ages(rows))
    return ratio(steady, scales.final_median, scales.final_limit)


def interval(by_run: Floats, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean over runs, by resampling runs."""
    drawn = np.random.default_rng(seed).integers(len(by_run), size=(_BOOTSTRAPS, len(by_run)))
    low, high = np.quantile(by_run[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def _section(scorers: dict[str, Any], by_nu: list[list[Judged]], few: list[Judged]) -> Section:
    names = list(scorers or Scoring().scorers)
    tables = [_whole(by_nu), _masks([seeds[0] for seeds in by_nu]), _alone(names, by_nu), _few(few)]
    figures = {
        f"{seeds[0].process}, nu {seeds[0].nu:g}": {
            "n": seeds[0].n,
            "n_eff": seeds[0].n_eff,
            "final": [float(one.plain.final.mean()) for one in seeds],
            "young": [float(one.plain.young.mean()) for one in seeds],
            "masks": seeds[0].masked,
        }
        for seeds in by_nu
    }
    figures["one run of 500 rows"] = {"final": [float(one.plain.final.mean()) for one in few]}
    bars = [bar for seeds in by_nu for bar in _bars(seeds)]
    return Section("false_alarms", tuple(tables), tuple(bars), figures)


def _named(one: Judged, what: str = "") -> str:
    return f"{one.process}, {one.nu:g}" + (f", {what}" if what else "")


def _whole(by_nu: list[list[Judged]]) -> Table:
    rows: list[tuple[str, ...]] = []
    for seeds in by_nu:
        first = seeds[0]
        for what in ("final", "young"):
            each_seed = [float(getattr(one.plain, what).mean()) / first.nu for one in seeds]
            low, high = interval(getattr(first.plain, what))
            rows.append(
                (
                    _named(first, "all windows" if what == "final" else f"1 to {YOUNG} after a restart"),
                    f"{first.n}",
                    f"{first.n_eff * first.nu:.1f}",
                    f"{np.median(each_seed):.2f}",
                    f"{min(each_seed):.2f} to {max(each_seed):.2f}",
                    f"{low / first.nu:.2f} to {high / first.nu:.2f}",
                )
            )
    columns = (
        "process, asked nu, where",
        "windows",
        "n_eff nu",
        "realised / asked",
        "seeds",
        "95 % interval over runs",
    )
    return Table(
        "Realised over asked false alarms in 30 runs that did not train",
        columns,
        tuple(rows),
        (f"{by_nu[0][0].source}; median, least and most of {len(by_nu[0])} seeds, interval of the first",),
    )


def _masks(judged: list[Judged]) -> Table:
    rows: list[tuple[str, ...]] = []
    for one in judged:
        for which, what in enumerate(("all windows", f"1 to {YOUNG} after a restart")):
            of_nu = {name: rates[which] / one.nu for name, rates in one.masked.items()}
            outside = {name: value for name, value in of_nu.items() if not 0.5 <= value <= 1.6}
            told = ", ".join(f"{name} {value:.2f}" for name, value in outside.items()) or "none"
            low, middle, high = np.quantile(list(of_nu.values()), [0.0, 0.5, 1.0])
            row = (_named(one, what), f"{len(of_nu)}", f"{low:.2f}", f"{middle:.2f}", f"{high:.2f}", told)
            rows.append(row)
    return Table(
        "Realised over asked under each single-sensor mask",
        ("process, asked nu, where", "masks", "least", "median", "most", "outside .5 to 1.6"),
        tuple(rows),
        (f"the first {MASKED_ROWS} rows of each test run, the sensor masked throughout; the first seed",),
    )


def _alone(names: Sequence[str], by_nu: list[list[Judged]]) -> Table:
    rows = [
        (
            _named(seeds[0], name),
            f"{np.median([one.plain.scorers[:, column].mean() / one.nu for one in seeds]):.2f}",
        )
        for seeds in by_nu
        for column, name in enumerate(names)
    ]
    return Table(
        "Realised over asked at each scorer's own limit",
        ("process, asked nu, scorer", "realised / asked"),
        tuple(rows),
    )


def _few(few: list[Judged]) -> Table:
    rows: list[tuple[str, ...]] = []
    for what, title in (("final", "all windows"), ("young", f"1 to {YOUNG} after a restart")):
        values = [float(getattr(one.plain, what).mean()) / one.nu for one in few]
        rows.append((title, f"{np.median(values):.2f}", f"{min(values):.2f} to {max(values):.2f}"))
    return Table(
        f"One run of 500 rows, asked {few[0].nu:g}: {len(few)} monitors, each on all test runs",
        ("where", "realised / asked", "least and most"),
        tuple(rows),
        (f"n_eff nu {np.median([one.n_eff * one.nu for one in few]):.1f}: UNCALIBRATED, no bar",),
    )


def _bars(seeds: list[Judged]) -> list[Bar]:
    """Bars of one nu, where it has enough windows: the rate's distance from nu, up or down."""
    first = seeds[0]
    if first.n_eff * first.nu < ENOUGH:
        return []
    named = {
        "all windows": float(np.median([one.plain.final.mean() for one in seeds])),
        f"windows 1 to {YOUNG} after a restart": float(np.median([one.plain.young.mean() for one in seeds])),
    }
    bars = [_bar(_named(first, name), rate / first.nu) for name, rate in named.items()]
    if first.masked:
        both = [rate / first.nu for rates in first.masked.values() for rate in rates]
        bars.append(_bar(_named(first, "the worst single-sensor mask"), max(both, key=_off)))
    return bars


def _bar(name: str, of_nu: float) -> Bar:
    """A bar on how far the realised rate is off nu, up or down, on the scale of rates that are too high."""
    return Bar(f"false alarms off nu: {name}", _off(of_nu), 1.6, 1.25, higher=False)


def _off(of_nu: float) -> float:
    """1.6 where the rate is 1.6 nu or .5 nu, 1.25 where it is 1.25 or .8 nu, and between them in proportion."""
    if of_nu >= 1.0:
        return of_nu
    return 1.0 + (1.0 - of_nu) * 1.25 if of_nu >= 0.8 else 1.25 + (0.8 - of_nu) / 0.3 * 0.35


if __name__ == "__main__":
    from benchmarks.detection.contract import text_of

    for table in false_alarms(Request(teller=Teller())).tables:
        print(text_of(table))
