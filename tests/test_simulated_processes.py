"""The simulated reactor and tanks: the physics by hand, what faults do, and what the data sets hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.detection import reactor, tanks
from benchmarks.detection.data import Split
from benchmarks.detection.process_parts import Wander, chance, ramp, runge_kutta, step, sticking
from benchmarks.detection.processes import FAULT_ROW, PROCESSES
from benchmarks.detection.processes import reactor as reactor_set

LONG = 4000
"""Rows after which a fault that grows is at its most, and the loops are at rest again."""


@pytest.fixture(scope="module")
def reactors() -> dict[str, np.ndarray]:
    """Late readings of a normal run and of one under every fault, of one seed."""
    return late(reactor)


@pytest.fixture(scope="module")
def tank_runs() -> dict[str, np.ndarray]:
    return late(tanks)


def late(module) -> dict[str, np.ndarray]:
    names = ["", *module.FAULTS]
    runs = module.simulate([5] * len(names), LONG, names, 100)
    return {name: run[1000:] for name, run in zip(names, runs, strict=True)}


def column(module, runs: dict[str, np.ndarray], fault: str, sensor: str) -> np.ndarray:
    return runs[fault][:, module.SENSORS.index(sensor)]


def test_the_reactor_rests_where_its_balances_are_zero(reactors):
    mean = dict(zip(reactor.SENSORS, reactors[""].mean(axis=0), strict=True))
    k = 7.2e10 * math.exp(-8750 / 350)  # 1/min
    assert mean["reactor_temperature"] == pytest.approx(350, abs=0.1)
    assert mean["concentration"] == pytest.approx(mean["feed_concentration"] / (1 + k), abs=0.005)
    heat = 2e4 * k * mean["concentration"] * 100 + 239 * 100 * (mean["feed_temperature"] - 350)  # J/min
    assert mean["reactor_temperature"] - mean["jacket_temperature"] == pytest.approx(heat / 5e4, abs=0.3)
    taken = 4184 * mean["coolant_flow"] * (mean["jacket_temperature"] - mean["coolant_inlet_temperature"])
    assert taken == pytest.approx(heat, rel=0.02)


def test_the_tanks_rest_where_torricelli_has_them(tank_runs):
    mean = dict(zip(tanks.SENSORS, tank_runs[""].mean(axis=0), strict=True))
    assert mean["level_1"] == pytest.approx(12.4, abs=0.02)
    assert mean["level_2"] == pytest.approx(12.7, abs=0.02)
    for level, share, flow, outlet in (("level_3", 0.4, "flow_2", 0.071), ("level_4", 0.3, "flow_1", 0.057)):
        assert mean[level] == pytest.approx((share * mean[flow] / outlet) ** 2 / (2 * 981), rel=0.05)
    assert mean["flow_1"] == pytest.approx(3.33 * mean["pump_1"], rel=0.005)


def test_faults_of_the_reactor_do_what_they_say(reactors):
    def of(fault: str, sensor: str) -> np.ndarray:
        return column(reactor, reactors, fault, sensor)

    gap = of("", "reactor_temperature") - of("", "jacket_temperature")
    fouled = of("fouling", "reactor_temperature") - of("fouling", "jacket_temperature")
    assert fouled.mean() == pytest.approx(gap.mean() / 0.75, rel=0.01)
    k = 0.75 * 7.2e10 * math.exp(-8750 / 350)
    assert of("catalyst", "concentration").mean() == pytest.approx(1 / (1 + k), abs=0.01)
    assert (of("feed_concentration", "feed_concentration") - of("", "feed_concentration")) == pytest.approx(
        0.05
    )
    warmer = of("coolant_temperature", "coolant_inlet_temperature") - of("", "coolant_inlet_temperature")
    assert warmer == pytest.approx(5.0)
    assert of("temperature_bias", "reactor_temperature").mean() == pytest.approx(350, abs=0.05)  # in the loop
    truly_cold = 7.2e10 * math.exp(-8750 / 348.5)
    assert of("temperature_bias", "concentration").mean() == pytest.approx(1 / (1 + truly_cold), abs=0.01)
    moves = np.abs(np.diff(of("sticking_valve", "coolant_flow")))
    assert np.count_nonzero((moves > 0.8) & (moves < 1.5)) == 0  # its reading's noise, or a jump
    assert moves.max() > 1.5
    extra = of("noisy_analyser", "concentration") - of("", "concentration")
    assert extra.std() == pytest.approx((math.hypot(1, 2.5) - 1) * 0.004, rel=0.05)
    assert (of("stuck_flow", "feed_flow") == 100.3).all()


def test_faults_of_the_tanks_do_what_they_say(tank_runs):
    def of(fault: str, sensor: str) -> np.ndarray:
        return column(tanks, tank_runs, fault, sensor)

    def left(fault: str, outlet: float) -> float:
        return (outlet * np.sqrt(2 * 981 * of(fault, "level_1"))).mean()

    for fault, outlet in (("", 0.071), ("leak", 0.071 * 1.06)):
        into = (0.7 * of(fault, "flow_1") + 0.4 * of(fault, "flow_2")).mean()
        assert left(fault, outlet) == pytest.approx(into, rel=0.01)
    assert of("blockage", "level_3").mean() == pytest.approx(of("", "level_3").mean() / 0.85**2, rel=0.02)
    assert (of("pump", "flow_1") / of("pump", "pump_1")).mean() == pytest.approx(0.94 * 3.33, rel=0.002)
    assert of("level_bias", "level_1").mean() == pytest.approx(12.4, abs=0.02)
    assert of("level_bias", "flow_1").mean() < of("", "flow_1").mean()
    moves = np.abs(np.diff(of("sticking_pump", "pump_1")))
    assert np.count_nonzero((moves > 0.07) & (moves < 0.1)) == 0
    assert moves.max() > 0.1
    extra = of("noisy_level", "level_3") - of("", "level_3")
    assert extra.std() == pytest.approx((math.hypot(1, 2) - 1) * 0.03, rel=0.05)


@pytest.mark.parametrize("module", [reactor, tanks])
def test_a_run_depends_on_its_seed_and_fault_alone(module):
    names = ["", *module.FAULTS]
    together = module.simulate([3] * len(names), 300, names, 200)
    assert np.array_equal(together[0], module.simulate([3], 300, [""])[0])
    for run in together[1:]:
        assert np.array_equal(run[:200], together[0, :200])
        assert not np.array_equal(run[200:], together[0, 200:])
    assert not np.array_equal(module.simulate([4], 300, [""])[0], together[0])
    with pytest.raises(ValueError, match="got fault 'rust', expected one of"):
        module.simulate([3], 300, ["rust"])


def test_disturbances_wander_as_far_and_as_slowly_as_they_say():
    drawn = chance([1, 2], 200_000, (Wander(2.0, 50),), 3)
    assert drawn.wander.shape == (1, 200_000, 2)
    assert drawn.noise.shape == (200_000, 3, 2)
    line = drawn.wander[0, :, 0]
    assert line.std() == pytest.approx(2.0, rel=0.05)
    assert np.corrcoef(line[:-50], line[50:])[0, 1] == pytest.approx(math.exp(-1), abs=0.03)
    first = chance(range(4000), 1, (Wander(2.0, 50),), 1).wander[0, 0]
    assert first.std() == pytest.approx(2.0, rel=0.05)


def test_parts_of_the_simulations_by_hand():
    decay = np.ones((1, 1))
    for _ in range(10):
        decay = runge_kutta(lambda state: -state, decay, 0.1)
    assert decay == pytest.approx(math.exp(-1), rel=1e-6)
    assert ramp(5, 1, 0.5, 1.2).tolist() == [0.0, 0.0, 0.5, 1.0, 1.2]
    assert step(3, 1, 4.0).tolist() == [0.0, 4.0, 4.0]
    asked, at = np.array([1.0, 1.0, 1.0]), np.array([0.9, 0.7, 0.9])
    assert sticking(asked, at, np.array([0.2, 0.2, 0.0])).tolist() == [0.9, 1.0, 1.0]


def test_a_data_set_teaches_by_one_normal_run_and_judges_normal_and_faulty_ones():
    model = reactor_set().models[0]
    (train,) = model.learn
    assert train.values.shape == (2000, 8)
    assert (train.split == Split.TRAIN).all()
    normal = [one for one in model.judge if not one.kind]
    faulty = [one for one in model.judge if one.kind]
    assert len(normal) == 24
    assert not any(one.truth.any() for one in normal)
    assert {one.kind for one in faulty} == set(reactor.FAULTS)
    assert len(faulty) == 3 * len(reactor.FAULTS)
    assert all(
        int(np.flatnonzero(one.truth)[0]) == FAULT_ROW and one.truth[FAULT_ROW:].all() for one in faulty
    )
    assert len({one.values.tobytes() for one in model.judge}) == len(model.judge)
    assert set(PROCESSES) == {"reactor", "tanks"}
