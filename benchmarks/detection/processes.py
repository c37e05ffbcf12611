"""Two processes that are simulated for this benchmark, as data sets: `reactor` and `tanks`.

One model of 2,000 normal rows judges 24 independent normal runs of 1,000 rows and three runs of every fault, which
begins at row 300. They are development sets: how much the slow band's covariance is shrunk and the form in which limits
from few rows are extrapolated were chosen with data of prototypes of both in view. What they measure is how different
processes fare, and what a change does; they are no test of those choices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection import reactor as reactor_process
from benchmarks.detection import tanks as tanks_process
from benchmarks.detection.data import DataSet, Model, Series, Split

TRAIN_ROWS: Final = 2000
ROWS: Final = 1000
FAULT_ROW: Final = 300
NORMAL_RUNS: Final = 24
RUNS_PER_FAULT: Final = 3
QUICK_RUNS: Final = 4

_START_NS: Final = 1_577_836_800 * 10**9
_TRAIN_SEED: Final = 1
_NORMAL_SEED: Final = 100
_FAULT_SEED: Final = 1000


class Process(NamedTuple):
    """A simulated process.

    Attributes:
        name: of its data set.
        sensors: names of the C channels.
        sampling_s: seconds between rows.
        faults: names of its faults.
        simulate: (seeds, rows, faults, begin) to readings [R, N, C].
    """

    name: str
    sensors: tuple[str, ...]
    sampling_s: float
    faults: tuple[str, ...]
    simulate: Callable[..., NDArray[np.float64]]


PROCESSES: Final[Mapping[str, Process]] = {
    name: Process(name, module.SENSORS, module.SAMPLING_S, tuple(module.FAULTS), module.simulate)
    for name, module in (("reactor", reactor_process), ("tanks", tanks_process))
}


def reactor(given: Path | None = None, *, quick: bool = False) -> DataSet:
    """The stirred tank reactor.

    Args:
        given: not used: nothing is read.
        quick: one run per fault and four normal runs only.
    """
    del given
    return _data_set(PROCESSES["reactor"], quick)


def tanks(given: Path | None = None, *, quick: bool = False) -> DataSet:
    """The four coupled tanks; arguments as of `reactor`."""
    del given
    return _data_set(PROCESSES["tanks"], quick)


def normal_series(process: Process, name: str, values: NDArray[np.float64], split: Split) -> Series:
    """A series of one fault-free run [N, C] that is all of one split."""
    rows = len(values)
    return Series(
        name=name,
        time=_START_NS + np.arange(rows, dtype=np.int64) * round(process.sampling_s * 1e9),
        values=values,
        label=np.zeros(rows, np.int8),
        split=np.full(rows, split, np.int8),
    )


def _data_set(process: Process, quick: bool) -> DataSet:
    train = process.simulate([_TRAIN_SEED], TRAIN_ROWS, [""])[0]
    learn = normal_series(process, "train", train, Split.TRAIN)
    judge = (*_normal_runs(process, quick), *_faulty_runs(process, quick))
    return DataSet(process.name, (Model(process.name, process.sensors, (learn,), judge),))


def _normal_runs(process: Process, quick: bool) -> tuple[Series, ...]:
    count = QUICK_RUNS if quick else NORMAL_RUNS
    runs = process.simulate(range(_NORMAL_SEED, _NORMAL_SEED + count), ROWS, [""] * count)
    return tuple(
        normal_series(process, f"normal-{number:02d}", run, Split.TEST) for number, run in enumerate(runs)
    )


def _faulty_runs(process: Process, quick: bool) -> tuple[Series, ...]:
    each = 1 if quick else RUNS_PER_FAULT
    faults = [fault for fault in process.faults for _ in range(each)]
    runs = process.simulate(range(_FAULT_SEED, _FAULT_SEED + len(faults)), ROWS, faults, FAULT_ROW)
    return tuple(
        _faulty(process, f"{fault}-{number % each}", run, fault)
        for number, (fault, run) in enumerate(zip(faults, runs, strict=True))
    )


def _faulty(process: Process, name: str, values: NDArray[np.float64], fault: str) -> Series:
    series = normal_series(process, name, values, Split.TEST)
    label = series.label.copy()
    label[FAULT_ROW:] = 1
    return series._replace(label=label, kind=fault)
