"""Four coupled water tanks: the quadruple-tank process of Johansson (IEEE Trans. Control Syst. Technol. 8, 2000).

Two pumps fill four tanks over two three-way valves; the lower tanks' levels are controlled. Constants and the
minimum-phase working point are the paper's:

    A1 dh1/dt = -a1 sqrt(2 g h1) + a3 sqrt(2 g h3) + g1 k1 v1        A3 dh3/dt = -a3 sqrt(2 g h3) + (1 - g2) k2 v2
    A2 dh2/dt = -a2 sqrt(2 g h2) + a4 sqrt(2 g h4) + g2 k2 v2        A4 dh4/dt = -a4 sqrt(2 g h4) + (1 - g1) k1 v1

Each lower level has a proportional and integral controller on its pump, as in the paper. The valves' shares g1 and g2
wander slowly: that is what disturbs the process.

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

SENSORS: Final = ("level_1", "level_2", "level_3", "level_4", "pump_1", "pump_2", "flow_1", "flow_2")
"""cm four times, V twice, cm3/s twice."""
SAMPLING_S: Final = 5.0
FAULTS: Final[Mapping[str, str]] = {
    "leak": "a hole in tank 1 with 6 % of its outlet's area",
    "blockage": "the outlet of tank 3 narrows by .04 % a row, by up to 15 %",
    "pump": "pump 1 gives .03 % less a row, down to 94 %",
    "level_bias": "the controlled level 1 reads .002 cm a row too high, up to .5 cm",
    "sticking_pump": "both pumps' drives move by .15 V or not at all",
    "noisy_level": "the noise of level 3 is 2.2 times as large",
}
"""Faults by name, and what each does."""

_NOISE: Final = np.array([0.05, 0.05, 0.03, 0.03, 0.01, 0.01, 0.05, 0.05])
_WANDERS: Final = (Wander(0.01, 200), Wander(0.01, 200))
"""Of g1 and g2."""
_SETTLING: Final = 200

_AREA: Final = np.array([28.0, 32.0, 28.0, 32.0])[:, None]  # cm2
_OUTLET: Final = np.array([0.071, 0.057, 0.071, 0.057])[:, None]  # cm2
_GRAVITY = 981.0  # cm/s2
_PUMP: Final = np.array([3.33, 3.35])[:, None]  # cm3/(V s)
_SHARE: Final = (0.70, 0.60)
_STEADY: Final = np.array([12.4, 12.7, 1.8, 1.4])[:, None]  # cm
_STEADY_VOLTS, _MOST_VOLTS = 3.0, 10.0
_GAIN, _TIME = 0.6, 45.0  # V/cm, s


class _Effects(NamedTuple):
    """What faults do to runs, [N, R] each: to two outlets and a pump; to two readings; to the drives."""

    hole: Floats
    blocked: Floats
    pump: Floats
    bias: Floats
    noise: Floats
    band: Floats


def simulate(seeds: Sequence[int], rows: int, faults: Sequence[str], begin: int = 0) -> Floats:
    """Run the tanks.

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
    return _run(effects, random)[_SETTLING:].transpose(2, 0, 1)


def _effects(faults: Sequence[str], rows: int, begin: int) -> _Effects:
    unknown = sorted(set(faults) - set(FAULTS) - {""})
    if unknown:
        raise ValueError(f"tanks: got fault {unknown[0]!r}, expected one of {', '.join(FAULTS)}")

    def of(fault: str, course: Floats) -> Floats:
        return np.where(np.array(faults) == fault, course[:, None], 0.0)

    return _Effects(
        hole=1.0 + of("leak", step(rows, begin, 0.06)),
        blocked=1.0 - of("blockage", ramp(rows, begin, 0.0004, 0.15)),
        pump=1.0 - of("pump", ramp(rows, begin, 0.0003, 0.06)),
        bias=of("level_bias", ramp(rows, begin, 0.002, 0.5)),
        noise=of("noisy_level", step(rows, begin, 0.06)),
        band=of("sticking_pump", step(rows, begin, 0.15)),
    )


def _run(effects: _Effects, random: Chance) -> Floats:
    """Readings [N, 8, R]."""
    rows, runs = effects.hole.shape
    levels = np.repeat(_STEADY, runs, axis=1)
    volts, integral = np.full((2, runs), _STEADY_VOLTS), np.zeros((2, runs))
    readings = np.empty((rows, len(SENSORS), runs))
    shares = random.wander + np.array(_SHARE)[:, None, None]
    noise = random.noise * _NOISE[:, None]
    noise[:, 2] *= np.hypot(1.0, effects.noise / _NOISE[2])
    outlet, pump = np.repeat(_OUTLET, runs, axis=1), np.repeat(_PUMP, runs, axis=1)
    for n in range(rows):
        outlet[0], outlet[2] = _OUTLET[0] * effects.hole[n], _OUTLET[2] * effects.blocked[n]
        pump[0] = _PUMP[0] * effects.pump[n]
        reading = np.concatenate([levels, volts, pump * volts]) + noise[n]
        reading[0] += effects.bias[n]
        readings[n] = reading
        asked, integral = _control(reading[:2], integral)
        volts = sticking(asked, volts, effects.band[n])
        levels = _later(levels, pump * volts, shares[:, n], outlet)
    return readings


def _control(levels: Floats, integral: Floats) -> tuple[Floats, Floats]:
    """Volts [2, R] asked of the pumps, and the controllers' integrals, cm s."""
    error = _STEADY[:2] - levels
    integral = integral + error * SAMPLING_S
    return np.clip(_STEADY_VOLTS + _GAIN * (error + integral / _TIME), 0.0, _MOST_VOLTS), integral


def _later(levels: Floats, flow: Floats, share: Floats, outlet: Floats) -> Floats:
    """Levels [4, R] one row later; flow [2, R] of the pumps, cm3/s."""
    direct, crossed = share * flow, ((1.0 - share) * flow)[::-1]

    def change(levels: Floats) -> Floats:
        out = outlet * np.sqrt(2.0 * _GRAVITY * np.maximum(levels, 0.0))
        into = np.concatenate([direct + out[2:], crossed])
        return (into - out) / _AREA

    return np.maximum(runge_kutta(change, levels, SAMPLING_S), 0.0)
