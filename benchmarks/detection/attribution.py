"""Attribution: is the sensor that lies the one that is named?

Single-sensor faults are planted in fault-free Tennessee Eastman runs (`benchmarks.detection.planting`) and go through
the whole path, from readings to alerts. Each stretch also runs without its fault: what is raised then is no merit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from benchmarks.detection.contract import Bar, Request, Section, Table, markdown
from benchmarks.detection.data import data_folder
from benchmarks.detection.planting import LEAD, SENSORS, Fault, Rows, faults, normal_runs, planted
from benchmarks.detection.workers import each
from connectors.records import OutRecord
from models.registry import scorer_names
from monitor.quantities import iso_time
from monitor.settings import Scoring
from monitor.trace import Trace
from tests.worlds import SECOND, START, World, alerts, batch_of, run, world

_TRAINING_RUNS = 8
_QUICK = 24
"""In a quick run: every so many of the faults."""
_AT_ONCE = 104
"""Faults that go through a pipeline side by side, each as an asset of its own."""


class Named(NamedTuple):
    """What was said of one planted fault.

    Attributes:
        fault: what was planted.
        outcome: RAISED; SILENT: the fault raised nothing; ANYWAY: the stretch raises an alert without it too.
        raised: place that the planted sensor has at RAISED, 0 the first.
        worst: likewise at the fault's largest ratio.
        moved: whether the planted sensor is the first that left its band, as RAISED tells; None: it tells of none.
        truth: whether the value that the planted sensor hides lies in its band at the fault's largest ratio.
        others: share of the other sensors that are outside their bands then.
    """

    fault: Fault
    outcome: str
    raised: int
    worst: int
    moved: bool | None
    truth: bool
    others: float


def configuration(scorers: dict[str, Any]) -> str:
    """YAML of the Tennessee Eastman process: default settings, but for windows that a run of 500 rows can fill."""
    sensors = "\n".join(f"      {name}: {{unit: '1', reporting: on_change}}" for name in SENSORS)
    return f"""
site: tep
source: {{kind: memory}}
asset_classes:
  unit:
    assets: ["plant/*"]
    sampling: 1s
    sensors:
{sensors}
    window: {{length: 24}}
    calibration: {{enough: 1}}
    scoring: {{scorers: {json.dumps(scorers)}}}
"""


def monitor_of(scorers: dict[str, Any], training: Rows) -> World:
    """A monitor trained on runs [runs, rows, 52]."""
    history = batch_of({f"plant/{n:02d}": values for n, values in enumerate(training)})
    return world(configuration(scorers), [history])


def named(monitor: World, cases: Sequence[Fault], runs: Rows, spread: Rows) -> list[Named]:
    """Replay every fault and read off who was named."""
    found: list[Named] = []
    for low in range(0, len(cases), _AT_ONCE):
        some = cases[low : low + _AT_ONCE]
        faulty = {f"plant/{n:04d}": planted(fault, runs, spread) for n, fault in enumerate(some)}
        without = {
            asset: planted(fault._replace(kind="none"), runs, spread)
            for asset, fault in zip(faulty, some, strict=True)
        }
        records, trace = run(monitor.pipeline(), batch_of(faulty))
        told, anyway = _raised(records), _raised(run(monitor.pipeline(), batch_of(without))[0])
        for asset, fault in zip(faulty, some, strict=True):
            outcome = _outcome(told.get(asset), anyway.get(asset))
            first = told.get(asset, _First("", [], []))
            place, moved = _place(first.sensors, fault), _place(first.moved, fault) == 0
            worst = _worst(trace, asset, fault, without[asset])
            found.append(
                Named(fault, outcome, place, worst.place, moved if first.moved else None, *worst[1:])
            )
    return found


class _First(NamedTuple):
    """An asset's first anomaly that reaches into the fault: when raised, sensors as named, and as they moved."""

    at: str
    sensors: list[str]
    moved: list[str]


def _outcome(told: _First | None, anyway: _First | None) -> str:
    if anyway is not None and (told is None or anyway.at <= told.at):
        return "ANYWAY"
    return "SILENT" if told is None else "RAISED"


def _raised(records: Iterable[OutRecord]) -> dict[str, _First]:
    first: dict[str, _First] = {}
    begins = iso_time(START + LEAD * SECOND)
    for record in alerts(records):
        event = msgspec.json.decode(record.value or b"")
        data, asset = event["data"], event["subject"]
        if data["kind"] == "ANOMALY" and data["event"] == "RAISED":
            parts = (data["contributions"], data.get("first_moved", []))
            sensors, moved = ([part["sensor"] for part in some] for some in parts)
            first.setdefault(asset, _First(data["raised_at"], sensors, moved))
        if data["kind"] == "ANOMALY" and data["event"] == "CLEARED" and data["cleared_at"] < begins:
            del first[asset]
    return first


def _place(names: list[str], fault: Fault) -> int:
    sensor = SENSORS[fault.sensor]
    return names.index(sensor) if sensor in names else len(SENSORS)


class _Worst(NamedTuple):
    place: int
    truth: bool
    others: float


def _worst(trace: Trace, asset: str, fault: Fault, truth: Rows) -> _Worst:
    mine = np.flatnonzero((trace.asset == trace.assets.index(asset)) & (trace.end >= START + LEAD * SECOND))
    at = mine[int(np.nanargmax(trace.ratio[mine]))]
    share, low, high, d = trace.contributions[at], trace.low[at], trace.high[at], fault.sensor
    hidden = truth[(trace.end[at] - START) // SECOND, d]
    outside = (trace.observed[at] < low) | (trace.observed[at] > high)
    others = float(np.mean(np.delete(outside, d)))
    return _Worst(int(np.count_nonzero(share > share[d])), bool(low[d] <= hidden <= high[d]), others)


Figures = Mapping[str, float]


def summary(found: Sequence[Named]) -> dict[str, Figures]:
    """Figures per case, of all faults last."""
    by_case: dict[str, list[Named]] = {}
    for one in found:
        by_case.setdefault(f"{one.fault.kind} {one.fault.size:g}", []).append(one)
    return {name: _figures(some) for name, some in (by_case | {"all": list(found)}).items()}


def _figures(some: Sequence[Named]) -> Figures:
    told = [one for one in some if one.outcome == "RAISED"]
    raised, worst = (np.array([getattr(one, moment) for one in told]) for moment in ("raised", "worst"))
    return {
        "faults": len(some),
        "silent": sum(one.outcome == "SILENT" for one in some),
        "anyway": sum(one.outcome == "ANYWAY" for one in some),
        "told": len(told),
        "first_at_raised": _share(raised == 0),
        "top3_at_raised": _share(raised < 3),
        "first_at_worst": _share(worst == 0),
        "top3_at_worst": _share(worst < 3),
        "moved_first_at_raised": _share([one.moved for one in told if one.moved is not None]),
        "truth_in_band_at_worst": _share([one.truth for one in told]),
        "others_outside_at_worst": _share([one.others for one in told]),
    }


def _share(yes: Any) -> float:
    return float(np.mean(yes)) if len(yes) else float("nan")


def setups(only: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Every registered scorer alone, and the default combination."""
    every: dict[str, dict[str, Any]] = {name: {name: {}} for name in scorer_names()}
    every["default"] = dict(Scoring().named)
    return {name: scorers for name, scorers in every.items() if not only or name in only}


class Task(NamedTuple):
    """One configuration: its scorers, the folder of the data sets, the seeds of the faults."""

    name: str
    scorers: dict[str, Any]
    folder: Path
    seeds: tuple[int, ...]
    quick: bool


def judge(task: Task) -> dict[str, Figures]:
    """Train one configuration, plant all faults, and see who is named."""
    training, test = normal_runs(task.folder)
    drawn = [fault for seed in task.seeds for fault in faults(len(test), test.shape[1], seed)]
    cases = drawn[:: _QUICK if task.quick else 1]
    monitor = monitor_of(task.scorers, training[:_TRAINING_RUNS])
    return summary(named(monitor, cases, test, training.std(axis=(0, 1))))


def attribution(request: Request) -> Section:
    """The section.

    Raises:
        UsageError: the data are not there.
    """
    folder = data_folder("tep", request.data).parent
    tasks = [
        Task(name, scorers, folder, tuple(request.seeds), request.quick)
        for name, scorers in setups(request.scorers).items()
    ]
    request.teller.stage("attribution", len(tasks))
    done: dict[int, dict[str, Figures]] = {}
    for place, figures in each(judge, [[task] for task in tasks], request.jobs):
        done[place] = figures
        request.teller.step(tasks[place].name)
    found = {task.name: done[place] for place, task in enumerate(tasks)}
    return Section(
        "attribution",
        tuple(_table(name, by_case) for name, by_case in found.items()),
        tuple(bar for name, by_case in found.items() for bar in _bars(name, by_case["all"])),
        found,
        (
            f"TEP, trained on {_TRAINING_RUNS} of the independent normal runs; one fault per case, sensor and seed "
            f"({len(request.seeds)}), planted in the test runs",
        ),
    )


_HEADINGS = (
    "fault",
    "faults",
    "raised nothing",
    "raised anyway",
    "told",
    "first at RAISED",
    "top 3",
    "first at worst",
    "top 3",
    "moved first",
    "truth in band",
    "others outside",
)


def _table(name: str, by_case: Mapping[str, Figures]) -> Table:
    rows = [(case, *(_cell(which, value) for which, value in row.items())) for case, row in by_case.items()]
    return Table(
        f"Planted sensor named by {name}",
        _HEADINGS,
        tuple(rows),
        (
            "'raised anyway': the stretch raises an alert without the fault too; "
            "shares are of the faults that were told",
            "'moved first': the planted sensor left its normal band first, where RAISED tells of any that left",
            "'truth in band': the value that the planted sensor hides is within its normal band at the worst window; "
            "'others outside': share of the other sensors outside theirs then",
        ),
    )


def _cell(which: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.1%}" if "_at_" in which else f"{value:.0f}"


def _bars(name: str, figures: Figures) -> tuple[Bar, ...]:
    moments = {"first_at_raised": "at RAISED", "first_at_worst": "at the worst window"}
    return tuple(
        Bar(f"TEP, planted sensor named first {when}: {name}", figures[key], 0.9)
        for key, when in moments.items()
    )


if __name__ == "__main__":
    print(markdown(attribution(Request()).tables))
