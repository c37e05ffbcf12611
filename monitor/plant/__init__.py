"""A simulated polymerisation plant: several jacketed semi-batch reactors under temperature control.

It stands in for a real plant in the demo, the tests and the benchmarks. `simulate` integrates mass and energy
balances (`kinetics`), so that a planted fault reaches the sensors by the way that physics and the controllers
give it; `to_batches` and `to_json` send the readings; ``Simulation.events`` is the truth.
"""

from __future__ import annotations

from monitor.plant.faults import Event, Fault, FaultKind
from monitor.plant.messages import to_batches, to_json
from monitor.plant.recipe import RECIPES, Phase
from monitor.plant.sensors import SENSORS, Sensor
from monitor.plant.simulate import BatchRun, Simulation, asset_names, batch_starts, between, simulate
from monitor.plant.tour import tour

__all__ = [
    "RECIPES",
    "SENSORS",
    "BatchRun",
    "Event",
    "Fault",
    "FaultKind",
    "Phase",
    "Sensor",
    "Simulation",
    "asset_names",
    "batch_starts",
    "between",
    "simulate",
    "to_batches",
    "to_json",
    "tour",
]
