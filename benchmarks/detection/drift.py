"""Online limits on drifting normal: who keeps nu, who learns faults, who finds a sensor that drifts slowly.

Fault-free Tennessee Eastman runs (Braatz's data, and runs of the same simulator with other seeds). Models are fitted
on runs that no figure comes from; limits are set on others; settings were chosen on the first 15 of the 30 test runs,
and figures come from the other 15. Benign changes are planted into scores (they are multiplied), drifts into sensors.

    python -m benchmarks.detection.drift [--quick]

Shape letters: N rows of a stream, A streams side by side, S scorers, D sensors.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from benchmarks.detection import rig, slow_drifts
from benchmarks.detection.contract import Bar, Request, Section, Table, markdown
from benchmarks.detection.data import data_folder
from benchmarks.detection.policies import NU, RIVALS, SETTLE, Course, Known, calibrated, ours, rival
from models import pca
from models.scorer import Windows
from monitor.settings import Scoring
from monitor.thresholds.adaptation_events import VersionSet

Floats = NDArray[np.float64]
Policy = Callable[[Known, Floats], Course]

_HARD = (3, 9, 15)
_FAULT_ROW = 160
_REPORTED = slice(15, 30)
"""The test runs that figures come from; settings were chosen on the others."""
_BEFORE = 2000
"""Rows before a step."""
_BEHIND = 1500
"""Rows behind `settle` in which the asked rate must be back."""
_STREAMS = 8
_SLOW = {"KSWIN, re-estimate": 1}
"""Streams per seed: KSWIN takes a quarter of a millisecond a row."""
_OURS = "nuwatch"


class Scores(NamedTuple):
    """Raw scores of one scorer.

    Attributes:
        calibration: [runs, rows, 1] of held-out normal runs.
        normal: [runs, rows, 1] of the normal runs that are reported.
        faults: [rows, faults, 1] of the detectable faults.
    """

    calibration: Floats
    normal: Floats
    faults: Floats


class Data(NamedTuple):
    """The Tennessee Eastman process.

    Attributes:
        fit: [10, 500, 52] normal runs for models.
        calibration: [10, 500, 52] for limits.
        normal: [15, 960, 52] for figures.
        faults: [rows, 18, 52] of the detectable faults.
    """

    fit: Floats
    calibration: Floats
    normal: Floats
    faults: Floats


def read(given: Path | None) -> Data:
    """Read the runs."""
    folder = data_folder("tep", given)
    normal = np.load(folder / "normal_runs.npz")
    faults = []
    for number in range(1, 22):
        if number not in _HARD:
            with gzip.open(folder / f"d{number:02d}_te.dat.gz", "rt") as file:
                faults.append(np.loadtxt(file))
    train = normal["train"].astype(np.float64)
    return Data(train[:10], train[10:], normal["test"][_REPORTED].astype(np.float64), np.stack(faults, 1))


def pca_scores(data: Data) -> Scores:
    """T^2 and Q of single rows, as the figures that the bars come from."""
    flat = data.fit.reshape(-1, data.fit.shape[-1])
    mean, std = flat.mean(axis=0), flat.std(axis=0)

    def windows(values: Floats) -> Windows:
        z = ((values.reshape(-1, values.shape[-1]) - mean) / std).astype(np.float32)
        return Windows(jnp.asarray(z[:, None, :]), jnp.ones((len(z), 1, z.shape[1]), bool))

    spec = pca.PcaSpec()
    fitted = pca.fit(jax.random.key(0), windows(data.fit), spec, lambda *_: None)

    def scores(values: Floats) -> Floats:
        found = np.asarray(pca.score(fitted.params, spec, windows(values)).score, np.float64)
        return found.reshape(*values.shape[:-1], 1)

    return Scores(scores(data.calibration), scores(data.normal), scores(data.faults))


def streams(runs: Floats, count: int, rows: int, seed: int = 0) -> Floats:
    """Streams [rows, count, S] of whole runs [runs, rows, S] in random orders."""
    rng = np.random.default_rng(seed)
    needed = -(-rows // runs.shape[1])

    def one() -> Floats:
        order = np.concatenate([rng.permutation(len(runs)) for _ in range(-(-needed // len(runs)))])
        return runs[order[:needed]].reshape(-1, runs.shape[2])[:rows]

    return np.stack([one() for _ in range(count)], axis=1)


# ---- scenarios of one policy


def scenarios(policy: Policy, known: Known, scores: Scores, count: int, seed: int) -> dict[str, float]:
    """Figures of a policy: rates of rows over the limit, shares of streams, recall."""
    base = streams(scores.normal, count, 6000, seed)
    ramp = 1.0 + 0.5 * np.clip((np.arange(6000) - 1000) / 4000, 0.0, 1.0)
    figures = {
        "control": float(policy(known, base).over.mean()),
        "ramp x1.5": float(policy(known, base * ramp[:, None, None]).over[1000:].mean()),
    }
    for factor in (1.2, 1.5, 2.0, 3.0):
        course = policy(known, stepped(base[: _BEFORE + 2000], factor))
        if factor < 2.0:
            figures[f"step x{factor:g}"] = float(course.over[_BEFORE + 500 :].mean())
        else:
            figures[f"open x{factor:g}"] = float(course.open[_BEFORE + 100 :].all(axis=0).mean())
    figures["recall"] = float(policy(known, scores.faults).over[_FAULT_ROW:].mean())
    return figures


def stepped(base: Floats, factor: float) -> Floats:
    """Scores [N, A, S] multiplied from row 2,000 on."""
    times = np.where(np.arange(len(base)) < _BEFORE, 1.0, factor)
    return base * times[:, None, None]


def decided(known: Known, scores: Scores, factor: float, count: int, how: str, seed: int) -> dict[str, float]:
    """A step that is declared, or approved when the monitor asks, 500 rows later at the earliest.

    Returns:
        Share of streams with a provisional limit within `settle`, rows to it (median), the rate in the 1,500 rows
        behind `settle`, and the largest rate of a single stream there.
    """
    rows = _BEFORE + 3 * SETTLE + _BEHIND
    at = {"declared": _BEFORE} if how == "declared" else {"approved": _BEFORE + SETTLE}
    course = ours(known, stepped(streams(scores.normal, count, rows, seed), factor), **at)
    begun = dict.fromkeys(range(count), _BEFORE) if how == "declared" else course.approved
    begun = {stream: row for stream, row in begun.items() if row + SETTLE + _BEHIND <= rows}
    first = {
        event.row: row
        for row, event in reversed(course.events)
        if isinstance(event, VersionSet) and event.version.label == "PROVISIONAL"
    }
    waited = [first[stream] - row for stream, row in begun.items() if stream in first]
    rates = [course.over[row + SETTLE :, stream][:_BEHIND].mean() for stream, row in begun.items()]
    return {
        "streams": sum(rows <= SETTLE for rows in waited) / max(1, len(begun)),
        "rows": float(np.median(waited)) if waited else np.nan,
        "rate": float(np.mean(rates)) if rates else np.nan,
        "worst": float(np.max(rates)) if rates else np.nan,
    }


def spread(each: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation over seeds, figure by figure."""
    return {name: _spread([figures[name] for figures in each]) for name in each[0]}


def _spread(values: Sequence[float]) -> tuple[float, float]:
    known = np.array([value for value in values if np.isfinite(value)])
    return (float(known.mean()), float(known.std())) if len(known) else (np.nan, np.nan)


# ---- the section


def drift(request: Request) -> Section:
    """All scenarios, side by side."""
    data, seeds = read(request.data), 1 if request.quick else max(5, len(request.seeds))
    scores = pca_scores(data)
    tables, bars, figures = list[Table](), list[Bar](), dict[str, Any]()
    cases = {"PCA score": 1.0, "PCA score, default smoothing": Scoring().smoothing}
    request.teller.stage("drift", len(cases) * (len(RIVALS) + 2) + 2)
    for case, weight in cases.items():
        known = calibrated(list(scores.calibration), weight)
        found_ = _policies(known, scores, seeds, request)
        steps = _decisions(known, scores, seeds)
        request.teller.step(f"{case}: declared and approved")
        figures[case] = {"policies": found_, "decisions": steps, "tau": known.scale.tau}
        tables += [_policy_table(case, found_), _decision_table(case, steps)]
        bars += _bars(case, found_, steps)
    sensors = range(0, data.fit.shape[-1], 8 if request.quick else 1)
    slopes = slow_drifts.found(data.fit, data.calibration, data.normal, sensors, seeds)
    request.teller.step("slow drifts")
    ways = rig.rig(request.data, request.quick)
    request.teller.step("SKAB's anomaly-free run")
    figures |= {
        "sensors": {str(rows): value for rows, value in slopes.items()},
        "skab": {k: v._asdict() for k, v in ways.items()},
    }
    tables += [slow_drifts.table(slopes), rig.table(ways)]
    bars += [*slow_drifts.bars(slopes), *rig.bars(ways)]
    return Section("drift", tuple(tables), tuple(bars), figures)


def _policies(
    known: Known, scores: Scores, seeds: int, request: Request
) -> dict[str, dict[str, tuple[float, float]]]:
    policies: dict[str, Policy] = {_OURS: ours}
    for name, each in RIVALS.items():
        policies[name] = lambda known, raw, each=each: rival(each, known, raw)
    found_ = dict[str, dict[str, tuple[float, float]]]()
    for name, policy in policies.items():
        count = _SLOW.get(name, _STREAMS)
        found_[name] = spread([scenarios(policy, known, scores, count, seed) for seed in range(seeds)])
        request.teller.step(name)
    return found_


def _decisions(known: Known, scores: Scores, seeds: int) -> dict[str, dict[str, tuple[float, float]]]:
    return {
        f"{how} x{factor:g}": spread(
            [decided(known, scores, factor, _STREAMS, how, seed) for seed in range(seeds)]
        )
        for how in ("declared", "approved")
        for factor in (1.5, 2.0, 3.0)
    }


def _bars(
    case: str, found_: Mapping[str, Mapping[str, Any]], steps: Mapping[str, Mapping[str, Any]]
) -> list[Bar]:
    mine, fixed = found_[_OURS], found_["fixed"]
    lost = fixed["recall"][0] - mine["recall"][0]
    control, ramp = mine["control"][0], mine["ramp x1.5"][0]
    worst = max(step["rate"][0] for name, step in steps.items() if "1.5" not in name)
    return [
        Bar(f"{case}: control", control, 1.6 * NU, 1.25 * NU, False),
        Bar(f"{case}: control, not too few", control, 0.5 * NU, 0.8 * NU),
        Bar(f"{case}: ramp to x1.5", ramp, 2 * NU, 1.25 * NU, False),
        *(
            Bar(
                f"{case}: step x{factor} undeclared, rows 500 to 2,000",
                mine[f"step x{factor}"][0],
                2 * NU,
                1.25 * NU,
                False,
            )
            for factor in ("1.2", "1.5")
        ),
        *(
            Bar(f"{case}: x{factor} undeclared stays open", mine[f"open x{factor}"][0], 1.0)
            for factor in ("2", "3")
        ),
        Bar(f"{case}: x2, x3 declared or approved, worst rate behind settle", worst, 1.6 * NU, None, False),
        Bar(f"{case}: recall lost", lost, 0.05, 0.02, False),
    ]


def _policy_table(case: str, found_: Mapping[str, Mapping[str, tuple[float, float]]]) -> Table:
    columns = tuple(next(iter(found_.values())))
    rows = tuple((name, *(_cell(*figures[c]) for c in columns)) for name, figures in found_.items())
    notes = (
        "rates of rows over the limit at nu .01 (of steps: rows 500 to 2,000 behind them), mean and standard deviation"
        " over orders of the runs; recall: share of rows of 18 faults",
        "'open': share of streams in which the incident stays open from row 100 behind the step on",
    )
    return Table(f"Online policies: {case}", ("policy", *columns), rows, notes)


def _decision_table(case: str, steps: Mapping[str, Mapping[str, tuple[float, float]]]) -> Table:
    rows = tuple(
        (name, f"{s['streams'][0]:.2f}", f"{s['rows'][0]:.0f}", _cell(*s["rate"]), f"{s['worst'][0]:.3f}")
        for name, s in steps.items()
    )
    columns = (
        "step",
        "streams with a provisional limit",
        "rows to it",
        "rate in 1,500 rows behind settle",
        "of the worst stream",
    )
    notes = (
        f"settle: {SETTLE} rows after the declaration or the approval; a person approves when asked, 500 rows after the"
        " step at the earliest; streams that never ask are left out, and where tracking was enough no limit is set",
    )
    return Table(f"Declared and approved steps: {case}", columns, rows, notes)


def _cell(mean: float, deviation: float) -> str:
    return f"{mean:.4f} ± {deviation:.4f}"


if __name__ == "__main__":
    section = drift(Request(quick="--quick" in sys.argv))
    print(markdown(section.tables))
    for bar in section.bars:
        print(f"{bar.verdict:>12}  {bar.name}: {bar.value}")
