"""One planted event of every kind, each where it can act: the programme of the demo and of the benchmarks."""

from __future__ import annotations

from monitor.errors import ConfigurationError
from monitor.plant.faults import Fault, FaultKind
from monitor.plant.recipe import CHARGE_S
from monitor.plant.schedule import CYCLE_S
from monitor.plant.simulate import asset_names, batch_starts

REACT_S = CHARGE_S + 1350.0 + 300.0
"""A batch's age when its exotherm is steady: charging, heating, soft start."""


def tour(
    seed: int, reactors: int, duration_s: float, after_s: float, sampling_s: float = 10.0
) -> tuple[Fault, ...]:
    """One event of each kind, dealt to the reactors in turn, each in a free batch after ``after_s``.

    A reactor's events are at least one normal batch apart.

    Args:
        seed: the simulation's.
        reactors: the simulation's.
        duration_s: the simulation's, s.
        after_s: no event before this, s from the start.
        sampling_s: the simulation's, s.

    Raises:
        ConfigurationError: the events do not fit into the time.
    """
    cycle = CYCLE_S[1]
    programme = (
        (FaultKind.FOULED_COOLING, 0.0, 2.0 * cycle, ""),
        (FaultKind.FEED_IMPURITY, REACT_S - 300.0, 2400.0, ""),
        (FaultKind.AGITATOR_LOSS, REACT_S + 600.0, 1500.0, ""),
        (FaultKind.STUCK_SENSOR, REACT_S, 2700.0, "pressure"),
        (FaultKind.DRIFTING_SENSOR, 0.0, 2.0 * cycle, "temperature"),
        (FaultKind.GRADE_CHANGE, -1.0, 1.9 * cycle, ""),
    )
    free_from = [after_s] * reactors
    starts = batch_starts(seed, reactors, duration_s, sampling_s)
    found: list[Fault] = []
    for number, (kind, into, lasting, sensor) in enumerate(programme):
        asset = number % reactors
        begin = next((start for start in starts[asset] if start + into >= free_from[asset]), duration_s)
        if begin + into + lasting > duration_s:
            raise ConfigurationError(
                f"plant: {duration_s:g} s leave no room for {kind} on reactor {asset + 1} "
                f"after {after_s:g} s; "
                "hint: a longer duration or more reactors"
            )
        found.append(Fault(kind, asset_names(reactors)[asset], begin + into, lasting, sensor=sensor))
        free_from[asset] = begin + into + lasting + cycle
    return tuple(found)
