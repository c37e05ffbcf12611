"""What goes wrong in the plant, when, and what of it is the truth that a monitor is judged by.

A fault acts on its physical cause wherever it has one: the balances and the controller then decide what the
sensors show. The two sensor faults act where such faults live: a drifting thermometer misleads the controller
too, while a stuck reading is frozen on its way to the historian and the control loop, which has its own line,
goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.errors import ConfigurationError
from monitor.plant.kinetics import Array
from monitor.plant.schedule import Clock
from monitor.plant.sensors import SENSORS

NAMES: Final = tuple(sensor.name for sensor in SENSORS)


class FaultKind(StrEnum):
    """What happens."""

    FOULED_COOLING = "fouled_cooling"
    FEED_IMPURITY = "feed_impurity"
    AGITATOR_LOSS = "agitator_loss"
    STUCK_SENSOR = "stuck_sensor"
    DRIFTING_SENSOR = "drifting_sensor"
    GRADE_CHANGE = "grade_change"


class Nature(NamedTuple):
    """What a kind of fault is.

    Attributes:
        meaning: of its magnitude, with the unit.
        magnitude: the default.
        lowest: smallest magnitude allowed.
        highest: largest magnitude allowed.
        on_sensor: it belongs to one sensor.
        benign: not a fault at all, but a declared change.
    """

    meaning: str
    magnitude: float
    lowest: float
    highest: float
    on_sensor: bool = False
    benign: bool = False


NATURES: Final[Mapping[FaultKind, Nature]] = {
    FaultKind.FOULED_COOLING: Nature(
        "added wall resistance, m2 K/kW; full after half its duration", 0.8, 0.0, 5.0
    ),
    FaultKind.FEED_IMPURITY: Nature("inhibitor in the monomer, mass ppm", 600.0, 0.0, 5000.0),
    FaultKind.AGITATOR_LOSS: Nature("share of the agitator's speed that is lost", 0.6, 0.0, 1.0),
    FaultKind.STUCK_SENSOR: Nature("none", 0.0, 0.0, 0.0, on_sensor=True),
    FaultKind.DRIFTING_SENSOR: Nature(
        "drift at its end, in the sensor's unit", 4.0, -1e6, 1e6, on_sensor=True
    ),
    FaultKind.GRADE_CHANGE: Nature("none", 0.0, 0.0, 0.0, benign=True),
}


class Fault(NamedTuple):
    """One planted event, in seconds from the simulation's start.

    Attributes:
        kind: what happens.
        asset: where.
        start_s: when it begins. A grade change takes effect with the batches that begin within it.
        duration_s: how long it lasts.
        magnitude: how much, as `Nature.meaning` says; None is the kind's default.
        sensor: which one, for a stuck or a drifting sensor; else ''.
    """

    kind: FaultKind
    asset: str
    start_s: float
    duration_s: float
    magnitude: float | None = None
    sensor: str = ""

    @property
    def size(self) -> float:
        """The magnitude, or its kind's default."""
        return NATURES[self.kind].magnitude if self.magnitude is None else self.magnitude


class Event(NamedTuple):
    """The truth about one planted event: it acts at ``start_ns`` <= time < ``end_ns`` (epoch ns)."""

    asset: str
    kind: FaultKind
    sensor: str
    start_ns: int
    end_ns: int
    benign: bool
    magnitude: float


class Effects(NamedTuple):
    """What the faults do to their causes: arrays [A, N] over assets and rows of the plant's clock.

    Attributes:
        fouling: added wall resistance, m2 K/kW.
        inhibitor: added mass fraction of inhibitor in the monomer.
        speed: factor on the agitator's speed.
        misreading: drift of the thermometer that the controller reads, K.
    """

    fouling: Array
    inhibitor: Array
    speed: Array
    misreading: Array


def checked(faults: Sequence[Fault], assets: Sequence[str], duration_s: float) -> None:
    """Refuses a plan that the plant cannot act out.

    Raises:
        ConfigurationError: an unknown asset or sensor, a magnitude out of bounds, or a time outside the
            simulation.
    """
    for position, fault in enumerate(faults):
        nature, where = NATURES[fault.kind], f"faults[{position}] ({fault.kind})"
        if fault.asset not in assets:
            raise ConfigurationError(
                f"{where}: got asset {fault.asset!r}, expected one of {', '.join(assets)}"
            )
        if (fault.sensor in NAMES) != nature.on_sensor or (fault.sensor and not nature.on_sensor):
            expected = (
                f"one of {', '.join(NAMES)}" if nature.on_sensor else "'', as it is not a sensor's fault"
            )
            raise ConfigurationError(f"{where}: got sensor {fault.sensor!r}, expected {expected}")
        if not nature.lowest <= fault.size <= nature.highest:
            bounds = f"{nature.lowest:g} to {nature.highest:g}"
            raise ConfigurationError(
                f"{where}: got magnitude {fault.size:g}, expected {bounds}; hint: it is {nature.meaning}"
            )
        if not (0.0 <= fault.start_s < duration_s and fault.duration_s > 0.0):
            raise ConfigurationError(
                f"{where}: got start {fault.start_s:g} s and duration {fault.duration_s:g} s, "
                f"expected a start within the {duration_s:g} s simulated and a positive duration"
            )


def effects(faults: Sequence[Fault], assets: Sequence[str], clock: Clock) -> Effects:
    """What the faults do to the plant, row by row."""
    shape = (len(assets), clock.rows)
    found = Effects(np.zeros(shape), np.zeros(shape), np.ones(shape), np.zeros(shape))
    for fault in faults:
        rows = span(fault, clock)
        here = (assets.index(fault.asset), rows)
        grown = (np.arange(rows.start, rows.stop) * clock.sampling_s - fault.start_s) / fault.duration_s
        match fault.kind:
            case FaultKind.FOULED_COOLING:
                found.fouling[here] += fault.size * np.minimum(1.0, 2.0 * grown)
            case FaultKind.FEED_IMPURITY:
                found.inhibitor[here] += fault.size * 1e-6
            case FaultKind.AGITATOR_LOSS:
                found.speed[here] *= 1.0 - fault.size
            case FaultKind.DRIFTING_SENSOR if fault.sensor == "temperature":
                found.misreading[here] += fault.size * grown
            case _:
                pass  # acts on readings or on recipes: see `drift`, `stick` and `grade_changes`
    return found


def drift(readings: Array, faults: Sequence[Fault], assets: Sequence[str], clock: Clock) -> None:
    """Adds the drift of drifting sensors to ``readings`` [A, N, D], in place."""
    for fault in faults:
        if fault.kind is FaultKind.DRIFTING_SENSOR:
            rows = span(fault, clock)
            grown = (np.arange(rows.start, rows.stop) * clock.sampling_s - fault.start_s) / fault.duration_s
            readings[assets.index(fault.asset), rows, NAMES.index(fault.sensor)] += fault.size * grown


def stick(readings: Array, faults: Sequence[Fault], assets: Sequence[str], clock: Clock) -> None:
    """Freezes stuck sensors in ``readings`` [A, N, D] at their first faulty value, in place."""
    for fault in faults:
        if fault.kind is FaultKind.STUCK_SENSOR:
            rows, column = span(fault, clock), NAMES.index(fault.sensor)
            asset = assets.index(fault.asset)
            readings[asset, rows, column] = readings[asset, rows.start, column]


def grade_changes(faults: Sequence[Fault], asset: str, starts_s: Array) -> NDArray[np.bool_]:
    """Which of an asset's batches, by their starts [K] in s, are made by the other recipe."""
    changed = np.zeros(len(starts_s), dtype=bool)
    for fault in faults:
        if fault.kind is FaultKind.GRADE_CHANGE and fault.asset == asset:
            changed |= (starts_s >= fault.start_s) & (starts_s < fault.start_s + fault.duration_s)
    return changed


def span(fault: Fault, clock: Clock) -> slice:
    """The rows of the plant's clock on which a fault acts: start <= time < start + duration."""
    first = int(np.ceil(fault.start_s / clock.sampling_s))
    last = int(np.ceil((fault.start_s + fault.duration_s) / clock.sampling_s))
    return slice(min(first, clock.rows - 1), min(max(last, first + 1), clock.rows))


def truth(faults: Sequence[Fault], clock: Clock) -> tuple[Event, ...]:
    """The planted events in order of their start."""
    events = (
        Event(
            fault.asset,
            fault.kind,
            fault.sensor,
            clock.start_ns + round(fault.start_s * 1e9),
            clock.start_ns + round((fault.start_s + fault.duration_s) * 1e9),
            NATURES[fault.kind].benign,
            fault.size,
        )
        for fault in faults
    )
    return tuple(sorted(events, key=lambda event: (event.start_ns, event.asset, event.kind)))
