"""The instruments of a reactor: what they are called, what they measure, and how badly."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.plant import kinetics
from monitor.plant.kinetics import KELVIN, Array
from monitor.plant.recipe import Phase
from monitor.settings import Role


class Sensor(NamedTuple):
    """One instrument.

    Attributes:
        name: as in messages and files.
        unit: UCUM code.
        low: lower end of the engineering range.
        high: upper end of the engineering range.
        role: what it is to the process.
        noise: standard deviation of its own noise, in the unit; 0 is exact.
        memory_s: time constant of that noise.
        shared: standard deviation of the noise that all thermometers have in common, in the unit.
        steps: quantisation steps per unit; 0 is none.
        description: one line for a person.
    """

    name: str
    unit: str
    low: float
    high: float
    role: Role
    noise: float
    memory_s: float
    shared: float
    steps: int
    description: str


SENSORS: Final = (
    Sensor("temperature", "Cel", 0.0, 130.0, "pv", 0.06, 15.0, 0.03, 50, "reactor contents"),
    Sensor("pressure", "bar", 0.0, 6.0, "pv", 0.004, 20.0, 0.0, 500, "head space, absolute"),
    Sensor("reaction_time", "s", 0.0, 14400.0, "pv", 0.0, 0.0, 0.0, 0, "time since the batch started"),
    Sensor("jacket_temperature", "Cel", 0.0, 180.0, "pv", 0.08, 20.0, 0.03, 50, "jacket water, outlet"),
    Sensor("feed_rate", "kg/h", -1.0, 40.0, "pv", 0.08, 10.0, 0.0, 50, "monomer feed"),
    Sensor("agitator_power", "kW", -0.05, 1.0, "pv", 0.0015, 10.0, 0.0, 5000, "agitator motor, electrical"),
    Sensor(
        "coolant_valve",
        "%",
        0.0,
        100.0,
        "output",
        0.1,
        5.0,
        0.0,
        20,
        "0 full steam, 50 shut, 100 full coolant",
    ),
    Sensor("temperature_setpoint", "Cel", 0.0, 130.0, "setpoint", 0.0, 0.0, 0.0, 100, "of the contents"),
)
"""Columns of `Simulation.values`, in order."""

VESSEL_VOLUME: Final = 0.16  # m3
GEARBOX_LOSS: Final = 0.12  # kW at full speed
MOTOR_EFFICIENCY: Final = 0.85
FLORY_HUGGINS: Final = 0.5
BAR_PER_MMHG: Final = 1.01325 / 760.0


class Trace(NamedTuple):
    """What really happened in C columns over R rows (K rows of state: see `kinetics`).

    Attributes:
        state: [R, S, C].
        phase: [R, C] codes of `Phase`.
        age: [R, C] seconds since the batch started; 0 while idle.
        feed: [R, C] monomer flow, kg/s.
        speed: [R, C] of the agitator, 1/s.
        valve: [R, C] position, %.
        setpoint: [R, C] Cel.
    """

    state: Array
    phase: NDArray[np.int64]
    age: Array
    feed: Array
    speed: Array
    valve: Array
    setpoint: Array


def true_values(trace: Trace, padding: Array) -> dict[str, Array]:
    """What perfect instruments would read, [R, C] by sensor name.

    Args:
        trace: what really happened.
        padding: [C] nitrogen pressure in bar while the vessel is vented.
    """
    state = trace.state.swapaxes(0, 1)  # [S, R, C]
    return {
        "temperature": state[kinetics.TEMPERATURE] - KELVIN,
        "pressure": pressure(state, trace.phase, padding),
        "reaction_time": trace.age,
        "jacket_temperature": state[kinetics.JACKET_OUT] - KELVIN,
        "feed_rate": trace.feed * 3600.0,
        "agitator_power": motor_power(state, trace.speed),
        "coolant_valve": trace.valve,
        "temperature_setpoint": trace.setpoint,
    }


def motor_power(state: Array, speed: Array) -> Array:
    """Electrical power [R, C] in kW: shaft power and the gearbox."""
    gearbox = GEARBOX_LOSS * speed / kinetics.AGITATOR_SPEED
    return (kinetics.shaft_power(state, speed) + gearbox) / MOTOR_EFFICIENCY


def pressure(state: Array, phase: NDArray[np.int64], padding: Array) -> Array:
    """Pressure [R, C] in bar: nitrogen, locked in from HEAT to COOL and else at ``padding``, and vapours."""
    temperature = state[kinetics.TEMPERATURE]
    head_space = VESSEL_VOLUME - kinetics.volume(state)
    per_bar = head_space / temperature
    sealed = (phase >= Phase.HEAT) & (phase <= Phase.COOL)
    closing = per_bar[np.argmax(sealed, axis=0), np.arange(phase.shape[1])]
    nitrogen = padding * np.where(sealed, closing / per_bar, 1.0)
    return nitrogen + vapour_pressure(state)


def vapour_pressure(state: Array) -> Array:
    """Vapour pressure [R, C] in bar of water, and of monomer dissolved in polymer (Flory-Huggins).

    Antoine constants of water (8.07131, 1730.63, 233.426) and styrene (7.14016, 1574.51, 224.09), mmHg and
    Cel: Lange's Handbook of Chemistry.
    """
    celsius = state[kinetics.TEMPERATURE] - KELVIN
    water = 10.0 ** (8.07131 - 1730.63 / (233.426 + celsius))
    styrene = 10.0 ** (7.14016 - 1574.51 / (224.09 + celsius))
    monomer = np.maximum(state[kinetics.MONOMER], 0.0) / kinetics.MONOMER_DENSITY
    polymer = state[kinetics.POLYMER] / kinetics.POLYMER_DENSITY
    share = monomer / (monomer + polymer)
    activity = share * np.exp((1.0 - share) + FLORY_HUGGINS * (1.0 - share) ** 2)
    return (water + activity * styrene) * BAR_PER_MMHG


def quantised(values: Array, sensor: Sensor) -> Array:
    """Readings as the transmitter sends them: in whole steps, within its range."""
    limited = np.clip(values, sensor.low, sensor.high)
    return np.round(limited * sensor.steps) / sensor.steps if sensor.steps else limited
