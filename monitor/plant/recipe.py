"""What is made, and how: phases in the words of ISA-88, recipes, and the rule by which a batch goes on."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


class Phase(IntEnum):
    """Where a reactor is; IDLE is between two batches and has no batch context."""

    IDLE = 0
    CHARGE = 1
    HEAT = 2
    REACT = 3
    COOK = 4
    COOL = 5


class Recipe(NamedTuple):
    """One grade.

    Attributes:
        name: the grade.
        temperature: reaction set-point, Cel.
        feed_rate: of monomer, kg/h.
        monomer: fed in all, kg.
    """

    name: str
    temperature: float
    feed_rate: float
    monomer: float


STANDARD: Final = Recipe("PP-H9", 82.2, 27.2, 22.7)
"""The benchmark's polymer A: 355.382 K and 7.56e-3 kg/s."""
OTHER_GRADE: Final = Recipe("PP-H5", 76.0, 24.0, 20.0)
RECIPES: Final = (STANDARD, OTHER_GRADE)

IDLE_TEMPERATURE: Final = 30.0  # Cel, of the jacket while nothing reacts
CHARGE_S: Final = 600.0
CHARGE_MASS: Final = 53.977  # kg
COOK_S: Final = 900.0
COOLED: Final = 55.0  # Cel, may be discharged
HEATING_RAMP: Final = 2.5 / 60.0  # K/s
COOLING_RAMP: Final = 1.5 / 60.0
FEED_RAMP_S: Final = 180.0
DISCHARGE_S: Final = 600.0
DISCHARGE_RATE: Final = 1.0 / 90.0  # 1/s; what stays is the heel
LONGEST_S: Final = {Phase.HEAT: 1600.0, Phase.REACT: 3300.0, Phase.COOL: 1400.0}
"""After this long an operator takes the batch to its next phase, whatever the temperature."""


class Orders(NamedTuple):
    """The recipe of each column: arrays [C] in the units of `Recipe`."""

    temperature: Array
    feed_rate: Array
    monomer: Array


class Progress(NamedTuple):
    """How far each column's batch is: arrays [C].

    Attributes:
        phase: codes of `Phase`.
        age: seconds since the phase began.
        fed: monomer fed so far, kg.
        setpoint: present temperature set-point, Cel.
    """

    phase: Codes
    age: Array
    fed: Array
    setpoint: Array


def next_phase(progress: Progress, orders: Orders, measured: Array) -> Progress:
    """Goes on to the next phase where the present one is complete; heating ramps up from what is measured.

    Args:
        progress: before.
        orders: the recipes.
        measured: [C] temperature as the control system reads it, Cel.
    """
    phase, age = progress.phase, progress.age
    complete = np.select(
        [phase == code for code in (Phase.CHARGE, Phase.HEAT, Phase.REACT, Phase.COOK, Phase.COOL)],
        [
            age >= CHARGE_S,
            (measured >= orders.temperature - 0.5) | (age >= LONGEST_S[Phase.HEAT]),
            (progress.fed >= orders.monomer) | (age >= LONGEST_S[Phase.REACT]),
            age >= COOK_S,
            (measured <= COOLED + 0.5) | (age >= LONGEST_S[Phase.COOL]),
        ],
        False,
    )
    following = np.where(complete, (phase + 1) % len(Phase), phase)
    heating = complete & (following == Phase.HEAT)
    return progress._replace(
        phase=following,
        age=np.where(complete, 0.0, age),
        setpoint=np.where(heating, measured, progress.setpoint),
    )


def next_setpoint(progress: Progress, orders: Orders, step: float) -> Array:
    """The set-point [C] after ``step`` seconds: a ramp up to the recipe's, a ramp down when cooling."""
    phase, now = progress.phase, progress.setpoint
    heated = np.minimum(orders.temperature, now + HEATING_RAMP * step)
    cooled = np.maximum(COOLED, now - COOLING_RAMP * step)
    rest = np.where(phase == Phase.COOL, cooled, IDLE_TEMPERATURE)
    return np.where((phase >= Phase.HEAT) & (phase <= Phase.COOK), heated, rest)


def ordered_feed(progress: Progress, orders: Orders) -> Array:
    """Monomer flow [C] in kg/s that the recipe asks for: a soft start, then constant."""
    soft = np.minimum(1.0, (progress.age + 1.0) / FEED_RAMP_S)
    return np.where(progress.phase == Phase.REACT, orders.feed_rate / 3600.0 * soft, 0.0)
