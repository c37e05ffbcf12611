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
import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.contract import Bar, Request, Section, Table, markdown
from benchmarks.detection.data import data_folder
from benchmarks.detection.policies import NU, RIVALS, SETTLE, Course, Known, calibrated, ours, rival
from connectors.records import Channel
from models import pca
from models.scorer import Windows
from monitor.quantities import Duration
from monitor.settings import DriftSettings, Scoring
from monitor.thresholds.adaptation_events import VersionSet
from monitor.thresholds.centre import CentreWatch, cumulative, largest_sums, limit_of
from monitor.thresholds.threshold import autocorrelation_time
from tests.worlds import batch_of, run, world

Floats = NDArray[np.float64]
Policy = Callable[[Known, Floats], Course]

_HARD = (3, 9, 15)
_FAULT_ROW = 160
_REPORTED = slice(15, 30)
"""The test runs that figures come from; settings were chosen on the others."""
_BEFORE = 2000
"""Rows before a step."""
_SLOPES = (200, 500, 1000, 2000, 4000)
"""Rows in which a drifting sensor reaches 5 sigma."""
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


def scenarios(policy: Policy, known: Known, scores: Scores, count: int) -> dict[str, float]:
    """Figures of a policy: rates of rows over the limit, shares of streams, recall."""
    base = streams(scores.normal, count, 6000)
    ramp = 1.0 + 0.5 * np.clip((np.arange(6000) - 1000) / 4000, 0.0, 1.0)
    figures = {
        "control": float(policy(known, base).over.mean()),
        "ramp": float(policy(known, base * ramp[:, None, None]).over[1000:].mean()),
    }
    for factor in (1.2, 1.5, 2.0, 3.0):
        course = policy(known, stepped(base[: _BEFORE + 2000], factor))
        if factor < 2.0:
            figures[f"step {factor:g}"] = float(course.over[_BEFORE + 500 :].mean())
        else:
            figures[f"open {factor:g}"] = float(course.open[_BEFORE + 100 :].all(axis=0).mean())
    figures["recall"] = float(policy(known, scores.faults).over[_FAULT_ROW:].mean())
    return figures


def stepped(base: Floats, factor: float) -> Floats:
    """Scores [N, A, S] multiplied from row 2,000 on."""
    times = np.where(np.arange(len(base)) < _BEFORE, 1.0, factor)
    return base * times[:, None, None]


def decided(known: Known, scores: Scores, factor: float, count: int, how: str) -> dict[str, float]:
    """A step that is declared, or approved 500 rows later: rows until the new limit, and the rate from then on."""
    rows = _BEFORE + 40_000 if known.scale.tau > 4 else _BEFORE + 12_000
    at = {"declared": _BEFORE} if how == "declared" else {"approved": _BEFORE + SETTLE}
    course = ours(known, stepped(streams(scores.normal, count, rows), factor), **at)
    wanted = [
        (row, event.row)
        for row, event in course.events
        if isinstance(event, VersionSet) and event.version.trigger == how
    ]
    first = {stream: row for row, stream in reversed(wanted)}
    after = [course.over[row + 1 : row + 3001, stream].mean() for stream, row in first.items()]
    return {
        "streams": len(first) / count,
        "rows": float(np.median([row - _BEFORE for row in first.values()])) if first else np.nan,
        "rate": float(np.mean(after)) if after else np.nan,
    }


# ---- sensors that drift slowly


def found(data: Data, sensors: Sequence[int]) -> dict[int, tuple[float, float]]:
    """Share of planted drifts found before 5 and before 3 sigma, by rows to 5 sigma; 0: false alarms per sensor."""
    flat = data.fit.reshape(-1, data.fit.shape[-1])
    mean, std = flat.mean(axis=0), flat.std(axis=0)

    def z_of(values: Floats) -> NDArray[np.float32]:
        return ((values - mean) / std).reshape(-1, values.shape[-1]).astype(np.float32)

    watch = CentreWatch(_limits(z_of(data.calibration), z_of(data.fit), data.fit.shape[1]))
    normal = z_of(data.normal)
    watch.grow(2)
    figures = {0: (float(_away(watch, 0, normal).any(axis=0).mean()), np.nan)}
    for rows in _SLOPES:
        level = 5.0 * np.arange(1, rows + 1, dtype=np.float32) / rows
        reached: list[float] = []
        for number, sensor in enumerate(sensors):
            begin = number * 960 % (len(normal) - rows)
            drifted = normal[begin : begin + rows].copy()
            drifted[:, sensor] += level
            fresh = CentreWatch(watch.limits)
            fresh.grow(1)
            hit = np.flatnonzero(_away(fresh, 0, drifted)[:, sensor])
            reached.append(float(level[hit[0]]) if len(hit) else np.inf)
        figures[rows] = (float(np.mean(np.less(reached, 5))), float(np.mean(np.less(reached, 3))))
    return figures


def _limits(held_out: NDArray[np.float32], fit: NDArray[np.float32], run: int) -> Floats:
    """As training sets them."""
    largest = largest_sums(
        cumulative(held_out, np.ones(held_out.shape, np.bool_), np.zeros(len(held_out), np.int32))
    )
    z = np.concatenate([fit, held_out])
    taus = [autocorrelation_time(column, [run] * (len(z) // run)) for column in z.T]
    samples = DriftSettings().sensor_false_alarms / Duration.parse("1s")
    return np.array([limit_of(m, t, len(taus), samples) for m, t in zip(largest.tolist(), taus, strict=True)])


def _away(watch: CentreWatch, row: int, z: NDArray[np.float32]) -> NDArray[np.bool_]:
    return watch.step(np.full(len(z), row, np.int32), z, np.ones(z.shape, np.bool_)).away


# ---- a rig that really drifts


def skab(given: Path | None) -> dict[str, Any]:
    """SKAB's anomaly-free run after a warm-up of 1,500 rows, through the whole pipeline."""
    folder = data_folder("skab", given) / "anomaly-free"
    rows = np.genfromtxt(next(folder.glob("*.csv")), delimiter=";", skip_header=1, usecols=range(1, 9))
    sensors = "\n".join(f"      s{n}: {{unit: '1', reporting: on_change}}" for n in range(8))
    text = f"""
site: skab
source: {{kind: memory}}
asset_classes:
  unit:
    assets: ["*"]
    sampling: 1s
    sensors:
{sensors}
    window: {{length: 16}}
    calibration: {{enough: 1}}
    scoring: {{scorers: {{pca: {{}}, var: {{}}}}}}
"""
    monitor = world(text, [batch_of({"rig": rows[:1500]})])
    records, trace = run(monitor.pipeline(), batch_of({"rig": rows[1500:]}))
    told = [(r.channel, msgspec.json.decode(r.value or b"")["data"]) for r in records]
    drifts = [d for c, d in told if c is Channel.ALERTS and d["kind"] == "DRIFT" and d["event"] == "RAISED"]
    set_ = [d for c, d in told if c is Channel.THRESHOLDS and d.get("trigger") in ("drift", "declared")]
    first = min((d["raised_at"] for d in drifts), default="9")
    return {
        "rate": float(np.mean(trace.ratio[trace.scored] > 1.0)),
        "drifts": len(drifts),
        "sensors": len({d["subject"] for d in drifts if d["subject"] in trace.sensors}),
        "adaptations": len(set_),
        "tracked": sum(d.get("trigger") == "tracking" for c, d in told if c is Channel.THRESHOLDS),
        "explained": float(all(d["end"] > first for d in set_)),
        "asked": sum(d.get("outcome") == "WANTED" for _, d in told),
    }


# ---- the section


def drift(request: Request) -> Section:
    """All scenarios, side by side."""
    data, count = read(request.data), 3 if request.quick else 8
    scores = pca_scores(data)
    tables, bars, figures = list[Table](), list[Bar](), dict[str, Any]()
    cases = {"PCA, no smoothing": 1.0, "PCA, default smoothing": Scoring().smoothing}
    for case, weight in cases.items():
        known = calibrated(list(scores.calibration), weight)
        found_ = _policies(known, scores, count, request)
        steps = {
            f"{how} x{factor:g}": decided(known, scores, factor, 4, how)
            for how in ("declared", "approved")
            for factor in (2.0, 3.0)
        }
        figures[case] = {"policies": found_, "decisions": steps, "tau": known.scale.tau}
        tables += [_policy_table(case, found_), _decision_table(case, steps)]
        bars += _bars(case, found_, steps)
    slopes = found(data, range(0, data.fit.shape[-1], 8 if request.quick else 1))
    figures["sensors"] = {str(rows): value for rows, value in slopes.items()}
    tables.append(_slope_table(slopes))
    bars.append(
        Bar("slow sensor drifts found before 5 sigma", min(v[0] for k, v in slopes.items() if k), 0.9)
    )
    bars.append(
        Bar("slow sensor drifts found before 3 sigma", min(v[1] for k, v in slopes.items() if k), 0.0, 0.9)
    )
    rig = skab(request.data)
    figures["skab"] = rig
    tables.append(Table("SKAB's anomaly-free run", tuple(rig), (tuple(f"{v:.3g}" for v in rig.values()),)))
    bars.append(Bar("SKAB: adaptations explained by a DRIFT", rig["explained"], 1.0))
    return Section("drift", tuple(tables), tuple(bars), figures)


def _policies(known: Known, scores: Scores, count: int, request: Request) -> dict[str, dict[str, float]]:
    policies: dict[str, Policy] = {_OURS: ours}
    for name, each in RIVALS.items():
        if "KSWIN" not in name or not request.quick:
            policies[name] = lambda known, raw, each=each: rival(each, known, raw)
    return {
        name: scenarios(policy, known, scores, min(count, 3) if "KSWIN" in name else count)
        for name, policy in policies.items()
    }


def _bars(case: str, found_: Mapping[str, Mapping[str, float]], steps: Mapping[str, Any]) -> list[Bar]:
    mine, fixed = found_[_OURS], found_["fixed"]
    lost = fixed["recall"] - mine["recall"]
    rate = max(step["rate"] for step in steps.values())
    return [
        *(
            Bar(
                f"{case}: step x{factor} undeclared, rows 500 to 2,000",
                mine[f"step {factor}"],
                2 * NU,
                1.25 * NU,
                False,
            )
            for factor in ("1.2", "1.5")
        ),
        *(
            Bar(f"{case}: x{factor} undeclared stays open", mine[f"open {factor}"], 1.0)
            for factor in ("2", "3")
        ),
        Bar(f"{case}: declared or approved, worst rate after", rate, 1.6 * NU, None, False),
        Bar(f"{case}: recall lost", lost, 0.05, 0.02, False),
    ]


def _policy_table(case: str, found_: Mapping[str, Mapping[str, float]]) -> Table:
    columns = tuple(next(iter(found_.values())))
    rows = tuple((name, *(f"{figures[c]:.3f}" for c in columns)) for name, figures in found_.items())
    note = (
        "rates of rows over the limit at nu .01; 'open': share of streams with the incident open throughout"
    )
    return Table(f"Online policies: {case}", ("policy", *columns), rows, (note,))


def _decision_table(case: str, steps: Mapping[str, Mapping[str, float]]) -> Table:
    rows = tuple(
        (name, f"{step['streams']:.2f}", f"{step['rows']:.0f}", f"{step['rate']:.4f}")
        for name, step in steps.items()
    )
    columns = ("step", "streams with a new limit", "rows to it (median)", "rate in 3,000 rows after")
    return Table(f"Declared and approved steps: {case}", columns, rows)


def _slope_table(slopes: Mapping[int, tuple[float, float]]) -> Table:
    rows = tuple((str(k), f"{a:.2f}", f"{b:.2f}") for k, (a, b) in slopes.items() if k)
    note = f"sensors with a false alarm in 14,400 normal rows: {slopes[0][0]:.3f}"
    return Table("Slow sensor drifts", ("rows to 5 sigma", "found before 5 sigma", "before 3"), rows, (note,))


if __name__ == "__main__":
    section = drift(Request(quick="--quick" in sys.argv))
    print(markdown(section.tables))
    for bar in section.bars:
        print(f"{bar.verdict:>12}  {bar.name}: {bar.value}")
