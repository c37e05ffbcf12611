"""A stirred tank reactor, A -> B, exothermic and cooled by a jacket, under cascade control of its temperature.

The balances and constants are those of Henson & Seborg ("Nonlinear Process Control", 1997, ch. 1; Pilario & Cao 2018
planted faults like these in such a reactor), with a jacket of water in place of a given coolant temperature, and a heat
of reaction of 20 in place of 50 kJ/mol: the textbook's reactor is unstable in open loop with a time constant of 21 s,
which is too fast for a loop over a jacket that reads once in 10 s.

    dC/dt  = q/V (Cf - C) - a k0 exp(-E/RT) C                                    A in the reactor, mol/L
    dT/dt  = q/V (Tf - T) + (-dH)/(rho cp) a k0 exp(-E/RT) C - b UA/(V rho cp) (T - Tj)     reactor, K
    dTj/dt = qc/Vj (Tjf - Tj) + b UA/(Vj rho_j cp_j) (T - Tj)                                 jacket, K

a is the catalyst's activity and b the heat transfer's share of clean. The outer loop, proportional and integral, gives
the jacket's temperature that the inner one, proportional, asks the coolant valve for. Feed concentration, feed
temperature, coolant temperature and feed flow wander slowly.

Shape letters: N rows, R runs side by side, 8 sensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from benchmarks.detection.process_parts import (
    Chance,
    Floats,
    Wander,
    chance,
    ramp,
    runge_kutta,
    step,
    sticking,
)

SENSORS: Final = (
    "reactor_temperature",
    "jacket_temperature",
    "concentration",
    "feed_flow",
    "coolant_flow",
    "feed_temperature",
    "coolant_inlet_temperature",
    "feed_concentration",
)
"""K, K, mol/L, L/min, L/min, K, K, mol/L."""
SAMPLING_S: Final = 10.0
FAULTS: Final[Mapping[str, str]] = {
    "fouling": "heat transfer falls by .05 % a row, to 75 %",
    "catalyst": "the catalyst's activity falls by .06 % a row, to 75 %",
    "feed_concentration": "the feed is 5 % richer",
    "coolant_temperature": "the coolant comes 5 K warmer",
    "temperature_bias": "the controlled temperature reads .01 K a row too high, up to 1.5 K",
    "sticking_valve": "the coolant valve moves by 2 L/min or not at all",
    "noisy_analyser": "the concentration's noise is 2.7 times as large",
    "stuck_flow": "the feed flow's reading stands still",
}
"""Faults by name, and what each does."""

_NOISE: Final = np.array([0.1, 0.1, 0.004, 0.5, 0.1, 0.2, 0.2, 0.006])
_WANDERS: Final = (Wander(0.02, 167), Wander(1.0, 333), Wander(1.0, 333), Wander(1.0, 17))
"""Of feed concentration (mol/L), feed temperature (K), coolant temperature (K), feed flow (L/min)."""
_SETTLING: Final = 200
"""Rows before the first that is given: the initial state is forgotten."""

_V, _V_JACKET = 100.0, 20.0  # L
_K0, _E_R = 7.2e10, 8750.0  # 1/min, K
_HEAT_OF_REACTION = 2.0e4  # J/mol
_RHO_CP, _RHO_CP_JACKET = 239.0, 4184.0  # J/(L K)
_UA = 5.0e4  # J/(min K)
_FEED, _FEED_CONCENTRATION, _FEED_TEMPERATURE, _COOLANT_TEMPERATURE = 100.0, 1.0, 350.0, 300.0
_SET_POINT = 350.0  # K
_STEADY = (0.5, 350.0, 330.0)  # C, T, Tj
_STEADY_COOLANT = 8.0  # L/min
_OUTER_GAIN, _OUTER_TIME = 0.8, 3.0  # K/K, min
_INNER_GAIN, _MOST_COOLANT = 1.0, 40.0  # L/min/K, L/min
_STUCK_AT = 100.3  # L/min


class _Effects(NamedTuple):
    """What faults do to runs, [N, R] each: to activity, heat transfer, feed and coolant; to readings; to the valve."""

    activity: Floats
    transfer: Floats
    feed: Floats
    coolant: Floats
    bias: Floats
    noise: Floats
    band: Floats
    stuck: Floats


def simulate(seeds: Sequence[int], rows: int, faults: Sequence[str], begin: int = 0) -> Floats:
    """Run the reactor.

    Args:
        seeds: R, of the runs.
        rows: N, one every `SAMPLING_S`.
        faults: R names of `FAULTS`; empty: none.
        begin: the row at which they begin.

    Returns:
        [R, N, 8] readings of `SENSORS`.

    Raises:
        ValueError: a fault is none of `FAULTS`.
    """
    total = rows + _SETTLING
    effects = _effects(faults, total, begin + _SETTLING)
    random = chance(seeds, total, _WANDERS, len(SENSORS))
    readings = _run(effects, random)
    return readings[_SETTLING:].transpose(2, 0, 1)


def _effects(faults: Sequence[str], rows: int, begin: int) -> _Effects:
    unknown = sorted(set(faults) - set(FAULTS) - {""})
    if unknown:
        raise ValueError(f"reactor: got fault {unknown[0]!r}, expected one of {', '.join(FAULTS)}")

    def of(fault: str, course: Floats) -> Floats:
        return np.where(np.array(faults) == fault, course[:, None], 0.0)

    return _Effects(
        activity=1.0 - of("catalyst", ramp(rows, begin, 0.0006, 0.25)),
        transfer=1.0 - of("fouling", ramp(rows, begin, 0.0005, 0.25)),
        feed=of("feed_concentration", step(rows, begin, 0.05)),
        coolant=of("coolant_temperature", step(rows, begin, 5.0)),
        bias=of("temperature_bias", ramp(rows, begin, 0.01, 1.5)),
        noise=of("noisy_analyser", step(rows, begin, 0.01)),
        band=of("sticking_valve", step(rows, begin, 2.0)),
        stuck=of("stuck_flow", step(rows, begin, 1.0)),
    )


def _run(effects: _Effects, random: Chance) -> Floats:
    """Readings [N, 8, R]."""
    rows, runs = effects.activity.shape
    state = np.repeat(np.array(_STEADY)[:, None], runs, axis=1)
    valve, integral = np.full(runs, _STEADY_COOLANT), np.zeros(runs)
    readings = np.empty((rows, len(SENSORS), runs))
    feed = _FEED_CONCENTRATION * (1.0 + effects.feed) + random.wander[0]
    feed_temperature = _FEED_TEMPERATURE + random.wander[1]
    coolant_temperature = _COOLANT_TEMPERATURE + effects.coolant + random.wander[2]
    flow = _FEED + random.wander[3]
    noise = random.noise * _NOISE[:, None]
    noise[:, 2] *= np.hypot(1.0, effects.noise / _NOISE[2])
    for n in range(rows):
        inputs = np.stack([flow[n], feed[n], feed_temperature[n], coolant_temperature[n]])
        true = np.stack([state[1], state[2], state[0], flow[n], valve, *inputs[2:], feed[n]])
        reading = true + noise[n]
        reading[0] += effects.bias[n]
        reading[3] = np.where(effects.stuck[n] > 0.0, _STUCK_AT, reading[3])
        readings[n] = reading
        asked, integral = _control(reading[0], reading[1], integral)
        valve = sticking(asked, valve, effects.band[n])
        state = _later(state, inputs, valve, effects.activity[n], effects.transfer[n])
    return readings


def _control(temperature: Floats, jacket: Floats, integral: Floats) -> tuple[Floats, Floats]:
    """Coolant flow asked for, L/min, and the outer loop's integral, K min."""
    error = temperature - _SET_POINT
    integral = integral + error * SAMPLING_S / 60.0
    jacket_asked = _STEADY[2] - _OUTER_GAIN * (error + integral / _OUTER_TIME)
    asked = _STEADY_COOLANT + _INNER_GAIN * (jacket - jacket_asked)
    return np.clip(asked, 0.0, _MOST_COOLANT), integral


def _later(state: Floats, inputs: Floats, coolant: Floats, activity: Floats, transfer: Floats) -> Floats:
    """State [3, R] one row later; inputs [4, R] are flow, feed concentration, feed and coolant temperature."""
    flow, feed, feed_temperature, coolant_temperature = inputs

    def change(state: Floats) -> Floats:
        concentration, temperature, jacket = state
        rate = activity * _K0 * np.exp(-_E_R / temperature) * concentration
        heat = transfer * _UA * (temperature - jacket)
        return np.stack(
            [
                flow / _V * (feed - concentration) - rate,
                flow / _V * (feed_temperature - temperature)
                + (_HEAT_OF_REACTION * rate - heat / _V) / _RHO_CP,
                coolant / _V_JACKET * (coolant_temperature - jacket) + heat / (_V_JACKET * _RHO_CP_JACKET),
            ]
        )

    return runge_kutta(change, state, SAMPLING_S / 60.0)
