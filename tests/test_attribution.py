"""Planted single-sensor faults: what the attribution benchmark plants, and whether the planted sensor is named."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.detection.planting import CASES, KINDS, LEAD, SENSORS, faults, planted

RUNS = np.random.default_rng(0).normal(size=(3, 260, len(SENSORS)))


def test_every_case_is_planted_in_every_sensor() -> None:
    told = {(fault.kind, fault.size, fault.sensor) for fault in faults(3, 260, seed=0)}
    assert told == {(kind, size, d) for kind, size in CASES for d in range(len(SENSORS))}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
def test_a_fault_changes_its_sensor_alone_and_only_from_its_beginning(kind: str) -> None:
    fault = next(each for each in faults(3, 260, seed=1) if each.kind == kind and each.sensor == 7)
    spread = np.ones(len(SENSORS))
    changed = planted(fault, RUNS, spread) != planted(fault._replace(kind="none"), RUNS, spread)
    assert not changed[:LEAD].any()
    assert changed[LEAD + 1 :, 7].all()
    assert not np.delete(changed, 7, axis=1).any()
