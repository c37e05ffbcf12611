"""The project's own plant (`monitor.plant`): batch reactors with five planted faults and a grade change that is none.

One model of normal days of all reactors judges the days after. The configuration is that of the demo's plant as far as
the process asks for it (sensors, batches, their alignment); what judges is the default's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from benchmarks.detection.data import DataSet, Model, Series, Split
from monitor.configuration import parse
from monitor.data_files import example
from monitor.demo.performance import Performance, perform
from monitor.evaluation.comparison import Planted
from monitor.plant import SENSORS, Simulation
from monitor.quantities import Duration
from monitor.settings import AssetClass, Scoring, Window

SEED: Final = 11
REACTORS: Final = 4
HISTORY_DAYS: Final = 6.0
LIVE_DAYS: Final = 1.5
SAMPLING_S: Final = 60.0
QUICK_DAYS: Final = 3.0
WINDOW: Final = 10
"""Samples: half of the shortest phase, like the demo's."""


def plant(given: Path | None = None, *, quick: bool = False) -> DataSet:
    """Run the plant; the same bytes every time.

    Args:
        given: not used: nothing is read.
        quick: fewer days to learn from.
    """
    del given
    acts = perform(SEED, REACTORS, QUICK_DAYS if quick else HISTORY_DAYS, LIVE_DAYS, SAMPLING_S)
    names = tuple(sensor.name for sensor in SENSORS)
    learn = tuple(_series(acts.history, number, Split.TRAIN, ()) for number in range(REACTORS))
    judge = tuple(_series(acts.live, number, Split.TEST, _faults(acts)) for number in range(REACTORS))
    return DataSet("plant", (Model("plant", names, learn, judge, _template()),))


def _template() -> AssetClass:
    demo = parse(example("polymer_plant.yaml"), Path("polymer_plant.yaml")).settings.asset_classes["poly"]
    return msgspec.structs.replace(
        demo,
        sampling=Duration(round(SAMPLING_S * 1e9)),
        window=Window(length=WINDOW),
        scoring=Scoring(),
    )


def _faults(acts: Performance) -> tuple[Planted, ...]:
    return tuple(event for event in acts.planted if not event.benign)


def _series(run: Simulation, number: int, split: Split, faults: tuple[Planted, ...]) -> Series:
    asset = run.assets[number]
    label = np.zeros(len(run.time), np.int8)
    mine = [fault for fault in faults if fault.asset == asset]
    for fault in mine:
        label[(run.time >= fault.start_ns) & (run.time < fault.end_ns)] = 1
    return Series(
        name=f"{asset.replace('/', '-')}{'-history' if split == Split.TRAIN else ''}",
        time=run.time,
        values=run.values[number],
        label=label,
        split=np.full(len(run.time), split, np.int8),
        contexts=run.contexts,
        context=run.context[number],
        kind=", ".join(fault.name for fault in mine),
    )
