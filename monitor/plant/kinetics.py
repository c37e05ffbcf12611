"""The reactor: mass and energy balances of a jacketed semi-batch emulsion polymerisation.

The model is the Chylla-Haase benchmark:

    Chylla & Haase (1993), 'Temperature control of semibatch polymerization reactors',
    Computers & Chemical Engineering 17(3), 257-264; in the notation and with the constants (polymer A) of
    Graichen, Hagenmeyer & Zeitz (2006), 'Feedforward control with online parameter estimation applied to the
    Chylla-Haase reactor benchmark', Journal of Process Control 16(7), 733-745.

Kept as printed: the rate law with its gel effect, k = k0 exp(-E / RT) (k1 mu)^k2; the viscosity mu of the
latex; the film coefficient that falls with the viscosity at the wall; the wetted jacket area; the fouling
resistance; the heat loss; the jacket loop's masses and time constant. Changed, so that every balance closes
and nothing needs a memory of past states:

* the loop's two dead times are left out: the recirculation line is a well-mixed volume of time constant tau;
* both valves are linear with the capacities below (the coolant comes from a cooling tower, not a chiller);
* the reaction heat follows Kirchhoff's law in temperature, since monomer and polymer have unlike heat
  capacities;
* the wall's metal stores heat, the agitator's shaft power becomes heat, and its speed acts on the film
  coefficient as speed^(2/3), the usual Nusselt correlation of a stirred vessel;
* an inhibitor that comes with the monomer halves the initiator's activity at `HALF_ACTIVITY` and is used up
  slowly.

Shape letters: S states, C columns (independent batches, integrated side by side). Units: kg, s, K, kW, kJ.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

WATER, POLYMER, MONOMER, INHIBITOR, TEMPERATURE, JACKET_OUT, JACKET_IN = range(7)
"""Rows of a state [S, C]: four masses in kg, three temperatures in K."""
STATES: Final = 7

KELVIN: Final = 273.15
GAS_CONSTANT: Final = 8.314  # kJ/(kmol K)

# Kinetics
MONOMER_MOLAR_MASS: Final = 104.0  # kg/kmol
REACTION_HEAT: Final = 70152.16 / MONOMER_MOLAR_MASS  # kJ/kg of monomer, at REFERENCE
REFERENCE: Final = 355.382  # K, the benchmark's set-point
RATE_FACTOR: Final = 55.0  # k0, 1/s
ACTIVATION_ENERGY: Final = 29560.89  # E, kJ/kmol
GEL_SCALE: Final = 1000.0  # k1, m s/kg
GEL_EXPONENT: Final = 0.4  # k2
HALF_ACTIVITY: Final = 30e-6  # kg inhibitor per kg contents that halves the activity
INHIBITOR_LIFE: Final = 1800.0  # s

# Contents
WATER_CAPACITY: Final = 4.187  # kJ/(kg K)
POLYMER_CAPACITY: Final = 3.140
MONOMER_CAPACITY: Final = 1.675
METAL_CAPACITY: Final = 15.0  # kJ/K, the vessel's wall
WATER_DENSITY: Final = 1000.0  # kg/m3
POLYMER_DENSITY: Final = 1040.0
MONOMER_DENSITY: Final = 900.0
CHARGE_POLYMER: Final = 11.227 / (11.227 + 42.750)  # mass fraction of seed latex in the charge
CHARGE_CAPACITY: Final = CHARGE_POLYMER * POLYMER_CAPACITY + (1.0 - CHARGE_POLYMER) * WATER_CAPACITY

# Vessel and jacket
PERIMETER: Final = 1.594  # P, m
BOTTOM_AREA: Final = 0.193  # B1, m2
JACKET_BOTTOM_AREA: Final = 0.167  # B2, m2
FILM_FACTOR: Final = 0.814  # d0, kW/(m2 K)
FILM_EXPONENT: Final = -5.13  # d1, m s/kg
HEAT_LOSS: Final = 0.00567567  # kW/K
JACKET_MASS: Final = 21.455  # kg
JACKET_FLOW: Final = 0.9412  # kg/s
JACKET_CAPACITY: Final = 4.187  # kJ/(kg K)
LINE_TIME: Final = 40.2  # tau, s
LINE_MASS: Final = JACKET_FLOW * LINE_TIME  # kg, so that the line's energy balance is exact
STEAM: Final = 449.82  # K
COOLANT_GAIN: Final = 0.15  # share of (coolant - jacket) that the fully open valve moves the loop in one pass
STEAM_GAIN: Final = 0.12

# Agitator (an anchor)
AGITATOR_SPEED: Final = 2.0  # 1/s
AGITATOR_DIAMETER: Final = 0.45  # m
POWER_NUMBER: Final = 0.40  # turbulent
LAMINAR_POWER: Final = 300.0  # power number x Reynolds number in laminar flow


class Inputs(NamedTuple):
    """What acts on the reactors during one step: held constant over it. Each is [C], or one number for all.

    Attributes:
        charge: flow of water and seed latex, kg/s.
        feed: monomer flow, kg/s.
        inhibitor: mass fraction of inhibitor in the monomer.
        discharge: share of the contents that leaves per second, 1/s.
        valve: split-range position, %: 0 is full steam, 50 both valves shut, 100 full coolant.
        speed: of the agitator, 1/s.
        activity: of the initiator; 1 is nominal (the benchmark's impurity factor i).
        fouling: thermal resistance of the deposit on the wall, m2 K/kW (the benchmark's 1/h_f).
        ambient: temperature of the air, the charge and the monomer, K.
        coolant: temperature of the cooling water, K.
    """

    charge: Array | float
    feed: Array | float
    inhibitor: Array | float
    discharge: Array | float
    valve: Array | float
    speed: Array | float
    activity: Array | float
    fouling: Array | float
    ambient: Array | float
    coolant: Array | float


def volume(state: Array) -> Array:
    """Liquid volume [C] in m3 of a state [S, C]."""
    return state[WATER] / WATER_DENSITY + state[POLYMER] / POLYMER_DENSITY + state[MONOMER] / MONOMER_DENSITY


def viscosity(state: Array, temperature: Array) -> Array:
    """Viscosity [C] in kg/(m s) of the latex of a state [S, C] at a temperature [C] in K."""
    polymer = state[POLYMER] / (state[WATER] + state[POLYMER] + state[MONOMER])
    return 5.2e-5 * np.exp(16.4 * polymer + np.log(10.0) * 2.3 * (555.556 / temperature - 1.563))


def shaft_power(state: Array, speed: Array | float) -> Array:
    """Power [C] in kW that the agitator puts into the contents of a state [S, C].

    The power number is the sum of a laminar part, proportional to 1/Reynolds, and a turbulent constant.
    """
    filled = np.minimum(1.0, volume(state) / 0.04)  # the anchor reaches up to 40 L
    turbulent = POWER_NUMBER * WATER_DENSITY * speed**3 * AGITATOR_DIAMETER**5
    laminar = LAMINAR_POWER * viscosity(state, state[TEMPERATURE]) * speed**2 * AGITATOR_DIAMETER**3
    return filled * (turbulent + laminar) / 1000.0


def conductance(state: Array, inputs: Inputs) -> Array:
    """UA [C] in kW/K between the contents and the jacket."""
    jacket = 0.5 * (state[JACKET_OUT] + state[JACKET_IN])
    wall = viscosity(state, 0.5 * (state[TEMPERATURE] + jacket))
    stirred = np.maximum(inputs.speed / AGITATOR_SPEED, 0.05) ** (2.0 / 3.0)  # 0.05: natural convection
    film = FILM_FACTOR * np.exp(FILM_EXPONENT * wall) * stirred
    area = volume(state) * PERIMETER / BOTTOM_AREA + JACKET_BOTTOM_AREA
    return area / (1.0 / film + inputs.fouling)


def polymerisation(state: Array, inputs: Inputs) -> Array:
    """Rate [C] in kg/s at which monomer becomes polymer."""
    total = state[WATER] + state[POLYMER] + state[MONOMER]
    activity = inputs.activity / (1.0 + state[INHIBITOR] / total / HALF_ACTIVITY)
    arrhenius = RATE_FACTOR * np.exp(-ACTIVATION_ENERGY / (GAS_CONSTANT * state[TEMPERATURE]))
    gel = (GEL_SCALE * viscosity(state, state[TEMPERATURE])) ** GEL_EXPONENT
    return activity * arrhenius * gel * state[MONOMER]


def utility(state: Array, inputs: Inputs) -> Array:
    """Change [C] in K that steam or cooling water makes to the jacket water in one pass."""
    cooling = np.clip((inputs.valve - 50.0) / 50.0, 0.0, 1.0)
    heating = np.clip((50.0 - inputs.valve) / 50.0, 0.0, 1.0)
    inlet = state[JACKET_IN]
    return COOLANT_GAIN * cooling * (inputs.coolant - inlet) + STEAM_GAIN * heating * (STEAM - inlet)


def rates(state: Array, inputs: Inputs) -> Array:
    """Time derivatives [S, C] of a state [S, C]: the balances of the module's docstring.

    Args:
        state: [S, C] masses in kg and temperatures in K.
        inputs: what acts on the reactors.

    Returns:
        [S, C] in kg/s and K/s.
    """
    temperature = state[TEMPERATURE]
    reacting = polymerisation(state, inputs)
    to_jacket = conductance(state, inputs) * (temperature - 0.5 * (state[JACKET_OUT] + state[JACKET_IN]))
    capacity = (
        state[WATER] * WATER_CAPACITY
        + state[POLYMER] * POLYMER_CAPACITY
        + state[MONOMER] * MONOMER_CAPACITY
        + METAL_CAPACITY
    )
    reaction_heat = REACTION_HEAT - (POLYMER_CAPACITY - MONOMER_CAPACITY) * (temperature - REFERENCE)
    inflow = inputs.feed * MONOMER_CAPACITY + inputs.charge * CHARGE_CAPACITY
    heating = (
        reacting * reaction_heat
        + inflow * (inputs.ambient - temperature)
        + shaft_power(state, inputs.speed)
        - HEAT_LOSS * (temperature - inputs.ambient)
        - to_jacket
    )
    derivative = np.empty_like(state)
    derivative[WATER] = (1.0 - CHARGE_POLYMER) * inputs.charge - inputs.discharge * state[WATER]
    derivative[POLYMER] = CHARGE_POLYMER * inputs.charge + reacting - inputs.discharge * state[POLYMER]
    derivative[MONOMER] = inputs.feed - reacting - inputs.discharge * state[MONOMER]
    derivative[INHIBITOR] = (
        inputs.feed * inputs.inhibitor - (1.0 / INHIBITOR_LIFE + inputs.discharge) * state[INHIBITOR]
    )
    derivative[TEMPERATURE] = heating / capacity
    derivative[JACKET_OUT] = (
        JACKET_FLOW * (state[JACKET_IN] - state[JACKET_OUT]) + to_jacket / JACKET_CAPACITY
    ) / JACKET_MASS
    derivative[JACKET_IN] = (state[JACKET_OUT] - state[JACKET_IN] + utility(state, inputs)) / LINE_TIME
    return derivative


def runge_kutta(state: Array, inputs: Inputs, step: float) -> Array:
    """The state [S, C] one ``step`` (s) later: the classical fourth-order method, inputs held constant."""
    first = rates(state, inputs)
    second = rates(state + 0.5 * step * first, inputs)
    third = rates(state + 0.5 * step * second, inputs)
    fourth = rates(state + step * third, inputs)
    return state + step / 6.0 * (first + 2.0 * (second + third) + fourth)
