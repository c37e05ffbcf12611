"""A wastewater plant as CSV series: the IWA's Benchmark Simulation Model no. 1, by the package `bsm2-python`.

    pip install bsm2-python                                   # in any environment; it is no requirement of nuwatch
    python -m benchmarks.detection.wastewater FOLDER
    nuwatch benchmark detection --dataset csv --data FOLDER

Process and simulator were written by others: five biological tanks (ASM1) and a settler (Alex et al., "Benchmark
Simulation Model no. 1", 2008), fed by the benchmark's own dry-weather inflow with its daily and weekly course. Added
here is what a plant has around them: the benchmark's two controllers (oxygen in tank 5 over its aeration, nitrate in
tank 2 over the internal recycle), drives that lag, sensors with noise, loads that differ from day to day, and nine
faults, most of them after the long-term benchmark (Rosen, Jeppsson & Vanrolleghem 2004).

Everything in this file was fixed before anything was scored on it. What is chosen with its scores in view has been
tuned on it, and needs another set.

Shape letters: N rows of 15 minutes, M minutes, 13 sensors, 21 components of the water as the package orders them.
"""

from __future__ import annotations

import csv
import importlib
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks.detection.process_parts import Floats, Wander, chance, ramp, step

SENSORS: Final = (
    "inflow",  # m3/d
    "inflow_ammonium",  # g/m3, as all below unless noted
    "nitrate_2",
    "oxygen_3",
    "oxygen_4",
    "oxygen_5",
    "ammonium_5",
    "nitrate_5",
    "solids_5",
    "effluent_solids",
    "sludge_blanket",  # m
    "aeration_5",  # asked of the blower, as oxygen transfer in 1/d
    "internal_recycle",  # asked of the pump, m3/d
)
FAULTS: Final = {
    "oxygen_sensor_drift": "the controlled oxygen reads .004 g/m3 a row too low, up to 1",
    "nitrate_sensor_bias": "the controlled nitrate reads .5 g/m3 too high",
    "stuck_ammonium": "the reading of ammonium in tank 5 stands still",
    "fouled_diffusers": "the blower's air gives .1 % less oxygen a row, down to 70 %",
    "toxic_inflow": "nitrifying bacteria grow at 60 %",
    "recycle_pump": "the internal recycle gives 60 % of what is asked",
    "bulking": "sludge settles at 60 % of its speed",
    "waste_pump": "no sludge is taken out",
    "return_pump": "the return sludge pump gives 70 %",
}
"""Faults by name, and what each does from row `FAULT_ROW` on."""
TRAIN_DAYS: Final = 21
DAYS: Final = 7
NORMAL_RUNS: Final = 10
FAULT_ROW: Final = 288
SAMPLING_MIN: Final = 15

_ROWS_A_DAY = 24 * 60 // SAMPLING_MIN
_RUN_IN_DAYS: Final = 2
"""Days of each run before its first row: the disturbances are its own by then."""
_SETTLING_DAYS: Final = 14
"""Days from the package's initial state before all runs."""
_NOISE: Final = np.array([400.0, 1.0, 0.1, 0.1, 0.1, 0.1, 0.3, 0.3, 50.0, 0.5, 0.05, 0.0, 0.0])
_WANDERS: Final = (Wander(0.05, 96), Wander(0.07, 96), Wander(0.05, 96))
"""Of the inflow, of its organic and of its nitrogen load, as shares."""
_ORGANIC, _NITROGEN, _FLOW = (1, 3), (9, 10, 11), 14
_MINUTE: Final = 1.0 / 1440.0
_START: Final = datetime(2026, 1, 5, tzinfo=UTC)
_MISSING = (
    "wastewater: the package bsm2-python is not installed; hint: pip install bsm2-python, in any environment"
)

_OXYGEN, _OXYGEN_GAIN, _OXYGEN_TIME = 2.0, 25.0, 0.002  # g/m3, 1/d per g/m3, d
_NITRATE, _NITRATE_GAIN, _NITRATE_TIME = 1.0, 10_000.0, 0.025  # g/m3, m3/d per g/m3, d
_MOST_AERATION, _MOST_RECYCLE = 360.0, 92_230.0
_BLOWER_LAG_MIN, _NITRATE_LAG_MIN = 1.74, 4.3


class Plan(NamedTuple):
    """One run: its seed, its days after the run-in, and its fault ('' is none)."""

    name: str
    seed: int
    days: int
    fault: str


class _Effects(NamedTuple):
    """What a fault does by row, [N] each: to readings, then to the plant as factors."""

    oxygen: Floats
    nitrate: Floats
    stuck: Floats
    diffusers: Floats
    growth: Floats
    recycle: Floats
    settling: Floats
    waste: Floats
    back: Floats


_Clean = tuple[Floats, float, float, float]
"""What faults change in a plant, as it is without one: settling speeds, growth, waste and return flow."""


class _Loop:
    """A proportional and integral controller, clipped, whose integral stops where it is clipped."""

    def __init__(self, gain: float, time: float, rest: float, most: float) -> None:
        self.gain, self.time, self.most = gain, time, most
        self.integral = rest

    def asked(self, error: float) -> float:
        """What it asks of its drive a minute later."""
        moved = self.integral + self.gain * error / self.time * _MINUTE
        asked = self.gain * error + moved
        if 0.0 <= asked <= self.most:
            self.integral = moved
        return min(max(asked, 0.0), self.most)


def plans() -> tuple[Plan, ...]:
    """All runs: one that teaches, the normal ones, one per fault."""
    normal = [Plan(f"normal-{k}", 100 + k, DAYS, "") for k in range(NORMAL_RUNS)]
    faulty = [Plan(fault, 200 + k, DAYS, fault) for k, fault in enumerate(FAULTS)]
    return (Plan("train", 1, TRAIN_DAYS, ""), *normal, *faulty)


def run(plant: Any, clean: _Clean, inflow: Floats, plan: Plan) -> Floats:
    """Readings [N, 13] of one run.

    Args:
        plant: a `BSM1Base` whose state is that of its beginning; a fault of an earlier run may still be in it.
        clean: what it is without a fault.
        inflow: [rows, 21] of the benchmark's fortnight.
        plan: the run.
    """
    run_in = _RUN_IN_DAYS * _ROWS_A_DAY
    rows = run_in + plan.days * _ROWS_A_DAY
    random = chance([plan.seed], rows, _WANDERS, len(SENSORS))
    _feed(plant, inflow, random.wander[:, :, 0])
    effects = _effects(plan.fault, rows, run_in + FAULT_ROW)
    minutes = np.random.default_rng([plan.seed, 1]).standard_normal((rows * SAMPLING_MIN, 2)) * 0.1
    readings = _minutes(plant, clean, effects, minutes, rows)
    readings = np.maximum(readings + random.noise[:, :, 0] * _NOISE, 0.0)
    stuck, column = np.flatnonzero(effects.stuck), SENSORS.index("ammonium_5")
    if len(stuck):
        readings[stuck, column] = readings[stuck[0], column]
    return readings[run_in:]


def _feed(plant: Any, inflow: Floats, wander: Floats) -> None:
    """Give the plant its inflow: the benchmark's, repeated, with loads that wander [3, N]."""
    rows = wander.shape[1]
    water = np.tile(inflow, (-(-rows // len(inflow)), 1))[:rows]
    water[:, _FLOW] *= 1.0 + wander[0]
    for load, columns in ((wander[1], _ORGANIC), (wander[2], _NITROGEN)):
        water[:, columns] *= (1.0 + load)[:, None]
    plant.y_in, plant.data_time = water, np.arange(rows) * SAMPLING_MIN * _MINUTE


def _effects(fault: str, rows: int, begin: int) -> _Effects:
    def of(name: str, course: Floats) -> Floats:
        return course if fault == name else np.zeros(rows)

    return _Effects(
        oxygen=-of("oxygen_sensor_drift", ramp(rows, begin, 0.004, 1.0)),
        nitrate=of("nitrate_sensor_bias", step(rows, begin, 0.5)),
        stuck=of("stuck_ammonium", step(rows, begin, 1.0)),
        diffusers=1.0 - of("fouled_diffusers", ramp(rows, begin, 0.001, 0.3)),
        growth=1.0 - of("toxic_inflow", step(rows, begin, 0.4)),
        recycle=1.0 - of("recycle_pump", step(rows, begin, 0.4)),
        settling=1.0 - of("bulking", step(rows, begin, 0.4)),
        waste=1.0 - of("waste_pump", step(rows, begin, 1.0)),
        back=1.0 - of("return_pump", step(rows, begin, 0.3)),
    )


def _minutes(plant: Any, clean: _Clean, effects: _Effects, noise: Floats, rows: int) -> Floats:
    """Readings [N, 13] without their noise; ``noise`` [M, 2] is of what the controllers read."""
    oxygen = _Loop(_OXYGEN_GAIN, _OXYGEN_TIME, 140.0, _MOST_AERATION)
    nitrate = _Loop(_NITRATE_GAIN, _NITRATE_TIME, 18_500.0, _MOST_RECYCLE)
    air, lagged = 140.0, float(plant.y_out2[8])
    readings = np.empty((rows, len(SENSORS)))
    for minute in range(rows * SAMPLING_MIN):
        row = minute // SAMPLING_MIN
        if minute % SAMPLING_MIN == 0:
            _damage(plant, effects, row, clean)
        read = float(plant.y_out5[7]) + effects.oxygen[row] + noise[minute, 0]
        blower = oxygen.asked(_OXYGEN - read)
        lagged += (float(plant.y_out2[8]) - lagged) / _NITRATE_LAG_MIN
        recycle = nitrate.asked(_NITRATE - (lagged + effects.nitrate[row] + noise[minute, 1]))
        air += (blower - air) / _BLOWER_LAG_MIN
        plant.qintr = recycle * effects.recycle[row]
        plant.klas = np.array([0.0, 0.0, 240.0, 240.0, air * effects.diffusers[row]])
        plant.step(minute)
        if minute % SAMPLING_MIN == SAMPLING_MIN - 1:
            readings[row] = _readings(plant, effects, row, blower, recycle, lagged)
    return readings


def _clean(plant: Any) -> _Clean:
    settler = plant.settler
    return settler.sedpar.copy(), float(plant.reactor1.asm1par[5]), float(settler.q_w), float(settler.q_r)


def _damage(plant: Any, effects: _Effects, row: int, clean: _Clean) -> None:
    speeds, growth, waste, back = clean
    settler = plant.settler
    settler.sedpar = speeds.copy()
    settler.sedpar[:2] *= effects.settling[row]
    settler.q_w, settler.q_r = waste * effects.waste[row], back * effects.back[row]
    for reactor in _reactors(plant):
        reactor.asm1par[5] = growth * effects.growth[row]


def _readings(
    plant: Any, effects: _Effects, row: int, blower: float, recycle: float, nitrate_2: float
) -> Floats:
    inflow = plant.y_in[row]
    return np.array(
        [
            inflow[_FLOW],
            inflow[9],
            nitrate_2 + effects.nitrate[row],
            plant.y_out3[7],
            plant.y_out4[7],
            plant.y_out5[7] + effects.oxygen[row],
            plant.y_out5[9],
            plant.y_out5[8],
            plant.y_out5[13],
            plant.ys_eff[13],
            plant.sludge_height,
            blower,
            recycle,
        ]
    )


def _reactors(plant: Any) -> tuple[Any, ...]:
    return plant.reactor1, plant.reactor2, plant.reactor3, plant.reactor4, plant.reactor5


def _state(plant: Any) -> dict[str, Any]:
    """All that one minute leaves to the next."""
    names = ("y_out1", "y_out2", "y_out3", "y_out4", "y_out5", "y_out5_r", "ys_out", "ys_eff")
    return {
        "reactors": [reactor.y0.copy() for reactor in _reactors(plant)],
        "settler": plant.settler.ys0.copy(),
        "flows": {name: np.array(getattr(plant, name)) for name in names},
    }


def _restore(plant: Any, state: dict[str, Any]) -> None:
    for reactor, y0 in zip(_reactors(plant), state["reactors"], strict=True):
        reactor.y0 = y0.copy()
    plant.settler.ys0 = state["settler"].copy()
    for name, value in state["flows"].items():
        setattr(plant, name, value.copy())


def _plant() -> tuple[Any, Floats]:
    """A plant long enough for the longest run, and the benchmark's dry-weather inflow [1344, 21]."""
    try:
        module: Any = importlib.import_module("bsm2_python.bsm1_base")
    except ImportError as error:
        raise SystemExit(f"{_MISSING} ({error})") from None
    where = Path(str(module.__file__)).parent / "data" / "dryinfluent.csv"
    table = np.loadtxt(where, delimiter=",", encoding="utf-8-sig")
    days = max(TRAIN_DAYS + _RUN_IN_DAYS, _SETTLING_DAYS) + 1
    frame = np.concatenate([[[0.0], [float(days)]], np.repeat(table[:1, 1:], 2, axis=0)], axis=1)
    plant: Any = module.BSM1Base(data_in=frame, timestep=_MINUTE, endtime=days - 0.5)
    for reactor in _reactors(plant):
        reactor.asm1par = reactor.asm1par.copy()  # the package shares one array between all of them
    return plant, table[:, 1:]


def _settled(plant: Any, clean: _Clean, inflow: Floats) -> dict[str, Any]:
    rows = _SETTLING_DAYS * _ROWS_A_DAY
    _feed(plant, inflow, np.zeros((3, rows)))
    _minutes(plant, clean, _effects("", rows, 0), np.zeros((rows * SAMPLING_MIN, 2)), rows)
    return _state(plant)


def write(folder: Path, plan: Plan, readings: Floats) -> None:
    """One series as CSV: timestamp, sensors, label, split."""
    first = FAULT_ROW if plan.fault else len(readings)
    split = "train" if plan.name == "train" else "test"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{plan.name}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["timestamp", *SENSORS, "label", "split"])
        for row, values in enumerate(readings):
            stamp = (_START + timedelta(minutes=SAMPLING_MIN * row)).isoformat()
            writer.writerow([stamp, *(f"{value:.6g}" for value in values), int(row >= first), split])


def main(folder: Path) -> None:
    """Write all series into a folder; some minutes of one core."""
    plant, inflow = _plant()
    clean = _clean(plant)
    state = _settled(plant, clean, inflow)
    for plan in plans():
        _restore(plant, state)
        readings = run(plant, clean, inflow, plan)
        write(folder, plan, readings)
        print(f"{plan.name}: {len(readings)} rows, {FAULTS.get(plan.fault, 'no fault')}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m benchmarks.detection.wastewater FOLDER")
    main(Path(sys.argv[1]))
