"""The simulated plant: its balances, its integrator, its controller, its faults and its messages."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from functools import cache

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from connectors.codec import Codec
from connectors.records import NO_CONTEXT, ClassLayout, Layout, Quality, RawRecord, SensorLayout
from monitor.errors import ConfigurationError
from monitor.plant import (
    SENSORS,
    Fault,
    FaultKind,
    Simulation,
    batch_starts,
    between,
    kinetics,
    simulate,
    to_batches,
    to_json,
    tour,
    variation,
)
from monitor.plant.kinetics import Inputs, rates, runge_kutta
from monitor.plant.recipe import COOLED, IDLE_TEMPERATURE
from monitor.plant.schedule import Clock

START = 1_790_000_000_000_000_000
DAY = 86400.0
NAMES = [sensor.name for sensor in SENSORS]
REACTOR = "poly/R-101"
PHASES = ("CHARGE", "HEAT", "REACT", "COOK", "COOL")


def reacting_state() -> np.ndarray:
    """Two reactors in mid-exotherm, [S, 2], rows as in `kinetics`."""
    return np.array(
        [[42.0, 40.0], [20.0, 15.0], [2.5, 5.0], [5e-4, 0.0], [355.0, 349.0], [346.0, 342.0], [345, 341.0]]
    )


def acting(**changed: float) -> Inputs:
    usual = Inputs(
        charge=0.02,
        feed=7.5e-3,
        inhibitor=4e-4,
        discharge=1e-4,
        valve=58.0,
        speed=2.0,
        activity=0.95,
        fouling=0.1,
        ambient=294.0,
        coolant=296.0,
    )
    return usual._replace(**changed)


def sensor(simulation: Simulation, name: str, asset: int = 0) -> np.ndarray:
    return simulation.values[asset, :, NAMES.index(name)]


def phases(simulation: Simulation, asset: int = 0) -> np.ndarray:
    table = np.array([context.phase or "" for context in simulation.contexts])
    return table[simulation.context[asset]]


def age_in_phase(simulation: Simulation, asset: int = 0) -> np.ndarray:
    started = np.array([context.phase_started or 0 for context in simulation.contexts])
    return (simulation.time - started[simulation.context[asset]]) / 1e9


def steady(simulation: Simulation, phase: str = "REACT", after_s: float = 1200.0) -> np.ndarray:
    """Rows of reactor 0 in a phase, once its start is over."""
    return (phases(simulation) == phase) & (age_in_phase(simulation) >= after_s)


@cache
def undisturbed(days: float) -> Simulation:
    return simulate(5, 1, START, days * DAY)


def paired(fault: Fault, days: float = 0.5) -> tuple[Simulation, Simulation, np.ndarray]:
    """The plant without and with a fault, all else equal, and the rows on which it acts."""
    without, faulty = undisturbed(days), simulate(5, 1, START, days * DAY, faults=[fault])
    seconds = (without.time - START) / 1e9
    return without, faulty, (seconds >= fault.start_s) & (seconds < fault.start_s + fault.duration_s)


@pytest.fixture(scope="module")
def month() -> Simulation:
    return simulate(11, 2, START, 15 * DAY)


# the balances


def test_the_rate_law_is_the_benchmarks():
    state = np.array([[42.75], [11.227], [2.0], [0.0], [355.382], [350.0], [350.0]])
    share = 11.227 / (42.75 + 11.227 + 2.0)
    mu = 5.2e-5 * np.exp(16.4 * share) * 10 ** (2.3 * (555.556 / 355.382 - 1.563))
    expected = 0.9 * 55.0 * np.exp(-29560.89 / 8.314 / 355.382) * (1000.0 * mu) ** 0.4 * 2.0
    found = kinetics.polymerisation(state, acting(activity=0.9))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_heat_transfer_is_the_benchmarks():
    state = np.array([[42.75], [11.227], [0.0], [0.0], [355.0], [345.0], [341.0]])
    wall = (355.0 + 343.0) / 2.0
    mu = 5.2e-5 * np.exp(16.4 * 11.227 / 53.977) * 10 ** (2.3 * (555.556 / wall - 1.563))
    area = (42.75 / 1000.0 + 11.227 / 1040.0) * 1.594 / 0.193 + 0.167
    expected = area / (1.0 / (0.814 * np.exp(-5.13 * mu)) + 0.352)
    np.testing.assert_allclose(kinetics.conductance(state, acting(fouling=0.352)), expected, rtol=1e-12)


def test_mass_in_less_mass_out_is_what_is_in_the_vessel():
    state, step, inputs = reacting_state(), 5.0, acting(discharge=0.0)
    before = state[:3].sum(axis=0)
    for _ in range(360):
        state = runge_kutta(state, inputs, step)
    np.testing.assert_allclose(state[:3].sum(axis=0) - before, 1800.0 * (0.02 + 7.5e-3), rtol=1e-10)


def test_what_leaves_the_vessel_leaves_in_proportion():
    state, inputs = reacting_state(), acting(charge=0.0, feed=0.0, discharge=1e-3, activity=0.0)
    after = state
    for _ in range(100):
        after = runge_kutta(after, inputs, 5.0)
    np.testing.assert_allclose(after[:3], state[:3] * np.exp(-0.5), rtol=1e-8)


def test_the_energy_balance_closes():
    """Enthalpy of contents, wall and jacket changes by what crosses their boundary, and by nothing else."""
    inputs, step, trajectory = acting(), 1.0, [reacting_state()]
    for _ in range(1800):
        trajectory.append(runge_kutta(trajectory[-1], inputs, step))
    w, p, m, _, temperature, jacket_out, jacket_in = np.array(trajectory).swapaxes(0, 1)
    reference, heat = 355.382, 70152.16 / 104.0
    mc = w * 4.187 + p * 3.140 + m * 1.675
    enthalpy = (mc + 15.0) * (temperature - reference) + m * heat
    enthalpy += 21.455 * 4.187 * jacket_out + 0.9412 * 40.2 * 4.187 * jacket_in
    seed = 11.227 / 53.977
    flows = (
        7.5e-3 * (1.675 * (294.0 - reference) + heat)
        + 0.02 * (seed * 3.140 + (1 - seed) * 4.187) * (294.0 - reference)
        - 1e-4 * (mc * (temperature - reference) + m * heat)
        + 0.9412 * 4.187 * 0.15 * (8.0 / 50.0) * (296.0 - jacket_in)
        - 0.00567567 * (temperature - 294.0)
        + np.array([kinetics.shaft_power(state, 2.0) for state in trajectory])
    )
    simpson = step / 3.0 * (flows[0] + 4 * flows[1:-1:2].sum(0) + 2 * flows[2:-1:2].sum(0) + flows[-1])
    assert (np.abs(simpson) > 100.0).all()
    np.testing.assert_allclose(enthalpy[-1] - enthalpy[0], simpson, rtol=1e-7)


def test_an_hour_of_runge_kutta_agrees_with_scipy():
    state, inputs = reacting_state(), acting(charge=0.0, discharge=0.0, valve=70.0)

    def flat(_: float, y: np.ndarray) -> np.ndarray:
        return rates(y.reshape(7, 2), inputs).ravel()

    times = np.arange(0.0, 3601.0, 5.0)
    found = solve_ivp(flat, (0.0, 3600.0), state.ravel(), "DOP853", times, rtol=1e-11, atol=1e-12)
    expected = found.y.T.reshape(-1, 7, 2)
    assert np.ptp(expected[:, 4], axis=0).min() > 5.0  # K: it was not a steady state
    for reference in expected[1:]:
        state = runge_kutta(state, inputs, 5.0)
        np.testing.assert_allclose(state, reference, rtol=1e-6)


def test_runge_kutta_is_of_fourth_order():
    inputs = acting(charge=0.0)

    def after(steps: int) -> np.ndarray:
        state = reacting_state()
        for _ in range(steps):
            state = runge_kutta(state, inputs, 320.0 / steps)
        return state[4]

    best = after(1280)
    coarse, fine = np.abs(after(16) - best), np.abs(after(32) - best)
    assert (coarse / fine > 12.0).all()
    assert (coarse / fine < 22.0).all()


# the same arguments, the same plant


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_plant():
    first, again, other = (simulate(seed, 2, START, 0.2 * DAY) for seed in (3, 3, 4))
    assert first.values.tobytes() == again.values.tobytes()
    assert first.contexts == again.contexts
    assert not np.array_equal(first.values, other.values)


def test_a_longer_simulation_begins_as_the_shorter_one():
    short, long = simulate(3, 2, START, 0.3 * DAY), simulate(3, 2, START, 0.6 * DAY)
    np.testing.assert_allclose(long.values[:, : len(short.time)], short.values, atol=1e-9)
    np.testing.assert_array_equal(phases(long)[: len(short.time)], phases(short))


def test_a_fault_changes_neither_the_past_nor_the_neighbours():
    fault = Fault(FaultKind.AGITATOR_LOSS, "poly/R-102", 6000.0, 3000.0)
    without, faulty = simulate(3, 3, START, 0.2 * DAY), simulate(3, 3, START, 0.2 * DAY, faults=[fault])
    np.testing.assert_array_equal(faulty.values[1, :600], without.values[1, :600])
    np.testing.assert_array_equal(faulty.values[[0, 2]], without.values[[0, 2]])
    assert not np.array_equal(faulty.values[1], without.values[1])


# batches


def test_batches_go_through_their_phases_in_order_with_idle_time_between(month: Simulation):
    for asset in range(2):
        seen = [phase for phase, _ in itertools.groupby(phases(month, asset))]
        seen = seen[seen.index("CHARGE") :]
        assert seen == list(itertools.islice(itertools.cycle((*PHASES, "")), len(seen)))


def test_a_batch_lasts_one_to_two_hours_and_idles_less_than_one(month: Simulation):
    ours = [run for run in month.batches if run.asset == REACTOR][:-1]
    lengths = np.array([run.end_ns - run.start_ns for run in ours]) / 3.6e12
    idle = np.array([after.start_ns - run.end_ns for run, after in itertools.pairwise(ours)]) / 3.6e12
    assert lengths.min() > 1.0
    assert lengths.max() < 2.1
    assert idle.min() > 10 / 60
    assert idle.max() < 1.0


def test_batch_ids_are_unique_and_numbered_in_order_of_their_starts(month: Simulation):
    assert [run.batch_id for run in month.batches] == [f"B-{n:04d}" for n in range(1, len(month.batches) + 1)]
    starts = [run.start_ns for run in month.batches]
    assert starts == sorted(starts)


def test_reaction_time_is_the_time_since_the_batchs_start(month: Simulation):
    for run in month.batches[:6]:
        asset = month.assets.index(run.asset)
        rows = (month.time >= run.start_ns) & (month.time < run.end_ns)
        expected = (month.time[rows] - run.start_ns) / 1e9
        np.testing.assert_array_equal(sensor(month, "reaction_time", asset)[rows], expected)


def test_a_phase_starts_at_its_first_row(month: Simulation):
    first = np.flatnonzero(np.diff(month.context[0])) + 1
    for row in first:
        context = month.contexts[month.context[0, row]]
        assert context is NO_CONTEXT or context.phase_started == month.time[row]


def test_batch_starts_are_known_beforehand():
    planned = batch_starts(3, 3, 0.5 * DAY)
    real = simulate(
        3, 3, START, 0.5 * DAY, faults=[Fault(FaultKind.AGITATOR_LOSS, REACTOR, 0.0, 30000.0, 1.0)]
    )
    for name, starts in zip(real.assets, planned, strict=True):
        found = [(run.start_ns - START) / 1e9 for run in real.batches if run.asset == name]
        assert found == list(starts)


def test_readings_lie_within_their_ranges_and_all_are_good(month: Simulation):
    for column, one in enumerate(SENSORS):
        assert month.values[..., column].min() >= one.low
        assert month.values[..., column].max() <= one.high
    assert (month.quality == Quality.GOOD).all()


def test_readings_come_in_whole_steps(month: Simulation):
    for column, one in enumerate(SENSORS):
        if one.steps:
            scaled = month.values[..., column] * one.steps
            np.testing.assert_allclose(scaled, np.round(scaled), atol=1e-6)


def test_the_controller_holds_the_reaction_temperature(month: Simulation):
    error = sensor(month, "temperature") - sensor(month, "temperature_setpoint")
    reacting = np.isin(phases(month), ["REACT", "COOK"])
    assert np.abs(error[reacting]).max() < 3.0
    assert np.abs(error[steady(month)]).max() < 1.0
    assert np.std(error[steady(month)]) < 0.3


def test_cooling_ends_when_the_contents_may_be_discharged(month: Simulation):
    last = np.flatnonzero((phases(month)[:-1] == "COOL") & (phases(month)[1:] == ""))
    assert np.abs(sensor(month, "temperature")[last] - COOLED).max() < 1.5


def test_the_exotherm_is_removed_by_the_jacket(month: Simulation):
    """27.2 kg/h at 674.5 kJ/kg is 5.1 kW: the jacket is colder than the contents, and the valve cools."""
    rows = steady(month)
    assert (sensor(month, "jacket_temperature")[rows] < sensor(month, "temperature")[rows] - 4.0).all()
    assert np.median(sensor(month, "coolant_valve")[rows]) > 52.0
    np.testing.assert_allclose(np.median(sensor(month, "feed_rate")[rows]), 27.2, rtol=0.01)


def test_normal_batches_are_alike_over_time(month: Simulation):
    """No trend: batch means of the first and the second week differ by less than four standard errors."""
    rows = steady(month)
    contexts = month.context[0][rows]
    for name in ("temperature", "pressure", "jacket_temperature", "feed_rate", "agitator_power"):
        readings = sensor(month, name)[rows]
        means = np.array([readings[contexts == one].mean() for one in np.unique(contexts)])
        early, late = np.array_split(means, 2)
        error = np.sqrt(early.var(ddof=1) / len(early) + late.var(ddof=1) / len(late))
        assert abs(early.mean() - late.mean()) < 4.0 * error, name
        assert means.std() > 0.0


# noise


def test_autoregressive_noise_is_the_recursion_that_it_stands_for():
    white = np.random.default_rng(1).standard_normal((500, 3))
    decay = np.exp(-1.0 / 7.0)
    expected = white.copy()
    for row in range(1, 500):
        expected[row] = decay * expected[row - 1] + np.sqrt(1.0 - decay**2) * white[row]
    np.testing.assert_allclose(variation.autoregressive(white, 7.0), expected, atol=1e-12)


def test_noise_without_memory_is_white():
    white = np.random.default_rng(1).standard_normal(50)
    np.testing.assert_array_equal(variation.autoregressive(white, 0.0), white)


def test_each_reactor_has_noise_and_batches_of_its_own():
    clock = Clock(START, 10.0, 20_000)
    first, second = (variation.sensor_noise(11, asset, clock)[:, 0] for asset in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.06
    drawn = [variation.batches(11, asset, 100).activity for asset in (0, 1)]
    assert abs(np.corrcoef(drawn)[0, 1]) < 0.4


def test_the_two_thermometers_share_a_part_of_their_noise():
    noise = variation.sensor_noise(11, 0, Clock(START, 10.0, 100_000))
    columns = [NAMES.index(name) for name in ("temperature", "jacket_temperature", "pressure")]
    correlation = np.corrcoef(noise.T[columns])
    expected = 0.03 * 0.03 / np.sqrt((0.06**2 + 0.03**2) * (0.08**2 + 0.03**2))
    assert abs(correlation[0, 1] - expected) < 0.03
    assert abs(correlation[0, 2]) < 0.03


# faults: the sign that physics gives


def second_start() -> float:
    return batch_starts(5, 1, 0.5 * DAY)[0][1]


def test_fouling_shows_in_jacket_and_valve_and_hides_in_the_temperature():
    without, faulty, acts = paired(Fault(FaultKind.FOULED_COOLING, REACTOR, second_start(), 17000.0))
    rows = acts & steady(without) & steady(faulty)
    normal = steady(without)
    difference = (sensor(faulty, "jacket_temperature") - sensor(without, "jacket_temperature"))[rows]
    spread = sensor(without, "jacket_temperature")[normal].std()
    assert difference.mean() < -4.0 * spread
    assert (sensor(faulty, "coolant_valve") - sensor(without, "coolant_valve"))[rows].mean() > 0.3
    assert abs((sensor(faulty, "temperature") - sensor(without, "temperature"))[rows].mean()) < 0.2
    heating = acts & (phases(without) == "HEAT") & (phases(faulty) == "HEAT")
    assert (
        sensor(faulty, "jacket_temperature")[heating].max()
        > sensor(without, "jacket_temperature")[heating].max()
    )


def test_feed_impurity_leaves_monomer_behind_and_moves_heat_to_the_cook():
    start = second_start() + 1900.0
    without, faulty, acts = paired(Fault(FaultKind.FEED_IMPURITY, REACTOR, start, 3300.0))
    onset = (
        acts
        & (phases(without) == "REACT")
        & (age_in_phase(without) > 300.0)
        & (age_in_phase(without) < 1500.0)
    )
    jacket = sensor(faulty, "jacket_temperature") - sensor(without, "jacket_temperature")
    pressure = sensor(faulty, "pressure") - sensor(without, "pressure")
    assert jacket[onset].mean() > 0.5  # less heat to remove
    assert pressure[onset].mean() > 0.01  # monomer vapour
    cook = (phases(without) == "COOK") & (without.time > START + start * 1e9)
    cook &= (without.time < START + (start + 8400.0) * 1e9) & (age_in_phase(without) < 600.0)
    assert jacket[cook].mean() < -0.5  # what was left reacts late


def test_agitator_loss_drops_the_power_and_the_heat_transfer():
    without, faulty, acts = paired(Fault(FaultKind.AGITATOR_LOSS, REACTOR, second_start() + 3000.0, 1500.0))
    power = sensor(faulty, "agitator_power")[acts] / sensor(without, "agitator_power")[acts]
    assert (power < 0.5).all()
    rows = acts & steady(without)
    jacket = (sensor(faulty, "jacket_temperature") - sensor(without, "jacket_temperature"))[rows]
    assert jacket[60:].mean() < -3.0
    np.testing.assert_array_equal(sensor(faulty, "feed_rate")[acts], sensor(without, "feed_rate")[acts])


def test_a_stuck_sensor_stands_still_and_touches_nothing_else():
    fault = Fault(FaultKind.STUCK_SENSOR, REACTOR, second_start() + 3000.0, 2700.0, sensor="pressure")
    without, faulty, acts = paired(fault)
    column = NAMES.index("pressure")
    first = np.flatnonzero(acts)[0]
    assert (faulty.values[0, acts, column] == without.values[0, first, column]).all()
    assert len(np.unique(without.values[0, acts, column])) > 10
    healthy = faulty.values.copy()
    healthy[0, acts, column] = without.values[0, acts, column]
    np.testing.assert_array_equal(healthy, without.values)


def test_a_drifting_thermometer_misleads_the_controller():
    """It reads high, so the contents really get colder: the reading stays, pressure and jacket fall."""
    fault = Fault(FaultKind.DRIFTING_SENSOR, REACTOR, second_start(), 17000.0, 4.0, "temperature")
    without, faulty, acts = paired(fault)
    rows = acts & steady(without) & steady(faulty) & (faulty.time > START + (fault.start_s + 8500.0) * 1e9)
    moved = {name: (sensor(faulty, name) - sensor(without, name))[rows].mean() for name in NAMES}
    assert abs(moved["temperature"]) < 0.3
    assert moved["pressure"] < -0.02
    assert moved["jacket_temperature"] < -1.5


def test_any_other_drifting_sensor_only_reads_wrong():
    fault = Fault(FaultKind.DRIFTING_SENSOR, REACTOR, 9000.0, 9000.0, -3.0, "jacket_temperature")
    without, faulty, acts = paired(fault)
    difference = faulty.values - without.values
    drifted = difference[0, :, NAMES.index("jacket_temperature")]
    np.testing.assert_allclose(drifted[acts], -3.0 * np.arange(900) / 900, atol=0.021)
    assert not difference[0, ~acts].any()
    assert not np.delete(difference, NAMES.index("jacket_temperature"), axis=2).any()


def test_a_grade_change_is_declared_by_recipe_and_setpoint():
    start = second_start()
    without, changed, _ = paired(Fault(FaultKind.GRADE_CHANGE, REACTOR, start - 1.0, 9000.0), days=0.6)
    assert {run.recipe for run in without.batches} == {"PP-H9"}
    assert [run.recipe for run in changed.batches] == [
        "PP-H9",
        "PP-H5",
        "PP-H5",
        "PP-H9",
        "PP-H9",
        "PP-H9",
        "PP-H9",
    ]
    recipes = np.array([context.recipe or "" for context in changed.contexts])[changed.context[0]]
    rows = steady(changed) & (recipes == "PP-H5")
    assert (sensor(changed, "temperature_setpoint")[rows] == 76.0).all()
    assert abs(sensor(changed, "temperature")[rows].mean() - 76.0) < 0.3
    assert abs(sensor(changed, "feed_rate")[rows].mean() - 24.0) < 0.3
    assert [event.benign for event in changed.events] == [True]


def test_the_truth_lists_what_was_planted_in_order():
    faults = [
        Fault(FaultKind.STUCK_SENSOR, "poly/R-102", 500.0, 60.0, sensor="feed_rate"),
        Fault(FaultKind.FEED_IMPURITY, REACTOR, 20.0, 40.0, 100.0),
    ]
    first, second = simulate(1, 2, START, 1000.0, faults=faults).events
    assert first == (REACTOR, "feed_impurity", "", START + 20 * 10**9, START + 60 * 10**9, False, 100.0)
    assert second[:3] == ("poly/R-102", "stuck_sensor", "feed_rate")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(FaultKind.AGITATOR_LOSS, "R-9", 0.0, 1.0), "got asset 'R-9', expected one of poly/R-101"),
        (Fault(FaultKind.STUCK_SENSOR, REACTOR, 0.0, 1.0), "got sensor ''"),
        (Fault(FaultKind.AGITATOR_LOSS, REACTOR, 0.0, 1.0, sensor="pressure"), "expected ''"),
        (Fault(FaultKind.AGITATOR_LOSS, REACTOR, 0.0, 1.0, 1.5), "got magnitude 1.5, expected 0 to 1"),
        (Fault(FaultKind.AGITATOR_LOSS, REACTOR, 5000.0, 1.0), "got start 5000 s"),
        (Fault(FaultKind.AGITATOR_LOSS, REACTOR, 0.0, 0.0), "positive duration"),
    ],
)
def test_an_impossible_fault_is_refused(fault: Fault, said: str):
    with pytest.raises(ConfigurationError) as refused:
        simulate(1, 1, START, 3600.0, faults=[fault])
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "arguments", [(-1, 1, START, 100.0), (1, 0, START, 100.0), (1, 1, START, 5.0), (1, 1, START, 100.0, 0.1)]
)
def test_an_impossible_plant_is_refused(arguments: tuple[int, ...]):
    with pytest.raises(ConfigurationError, match="plant: got"):
        simulate(*arguments)  # type: ignore[arg-type]


def test_the_tour_has_one_event_of_each_kind_and_all_of_them_act():
    plan = tour(7, 3, 1.5 * DAY, 0.2 * DAY)
    assert {fault.kind for fault in plan} == set(FaultKind)
    assert min(fault.start_s for fault in plan) >= 0.2 * DAY
    without, toured = simulate(7, 3, START, 1.5 * DAY), simulate(7, 3, START, 1.5 * DAY, faults=plan)
    for event in toured.events:
        rows = (toured.time >= event.start_ns) & (toured.time < event.end_ns)
        asset = toured.assets.index(event.asset)
        assert (toured.values[asset, rows] != without.values[asset, rows]).any(axis=1).mean() > 0.4, (
            event.kind
        )


def test_a_tour_that_does_not_fit_is_refused():
    with pytest.raises(ConfigurationError, match="leave no room for stuck_sensor on reactor 1"):
        tour(7, 3, 20000.0, 0.0)


# time and messages


@pytest.mark.parametrize("sampling_s", [4.0, 7.5, 60.0])
def test_other_samplings_give_the_same_process(sampling_s: float):
    simulation = simulate(2, 1, START, 8000.0, sampling_s)
    assert np.diff(simulation.time).tolist() == [round(sampling_s * 1e9)] * (int(8000 / sampling_s) - 1)
    rows = steady(simulation)
    assert abs(np.median(sensor(simulation, "temperature")[rows]) - 82.2) < 0.4
    assert abs(sensor(simulation, "temperature_setpoint")[0] - IDLE_TEMPERATURE) < 1e-9


def test_between_cuts_rows_batches_and_events():
    fault = Fault(FaultKind.AGITATOR_LOSS, REACTOR, 12000.0, 1000.0)
    whole = simulate(2, 2, START, 20000.0, faults=[fault])
    part = between(whole, START + 9000 * 10**9, START + 11000 * 10**9)
    assert part.time[0] == START + 9000 * 10**9
    assert len(part.time) == 200
    np.testing.assert_array_equal(part.values, whole.values[:, 900:1100])
    assert part.events == ()
    assert {run.batch_id for run in part.batches} == {
        part.contexts[index].batch_id for index in np.unique(part.context) if index
    }


def test_batches_interleave_the_assets_in_time_order():
    simulation = simulate(2, 3, START, 3000.0)
    found = list(to_batches(simulation, "reactor", rows=128))
    assert [len(batch.time) for batch in found] == [128] * 7 + [4]
    time, asset = np.concatenate([b.time for b in found]), np.concatenate([b.asset for b in found])
    np.testing.assert_array_equal(time, np.repeat(simulation.time, 3))
    np.testing.assert_array_equal(asset, np.tile([0, 1, 2], 300))
    np.testing.assert_array_equal(np.concatenate([b.offset for b in found]), np.arange(900))
    values = np.concatenate([b.values for b in found])
    np.testing.assert_array_equal(values[1::3], simulation.values[1])
    for batch in found:
        assert batch.contexts[0] == NO_CONTEXT
        expected = simulation.context[batch.asset, (batch.time - START) // 10**10]
        assert [batch.contexts[i] for i in batch.context] == [simulation.contexts[i] for i in expected]


def test_json_frames_say_what_the_plant_said():
    simulation = simulate(2, 2, START, 1000.0)
    frames = [(key, json.loads(value)) for key, value in to_json(simulation)]
    assert [key for key, _ in frames[:4]] == [b"poly/R-101", b"poly/R-102"] * 2
    key, frame = frames[2 * 70]
    assert frame["asset"] == key.decode() == REACTOR
    moment = datetime.fromisoformat(frame["ts"])
    assert moment == datetime.fromtimestamp(START // 10**9 + 700, tz=UTC)
    assert list(frame["values"]) == NAMES
    assert list(frame["values"].values()) == simulation.values[0, 70].tolist()
    assert frame["batch"] == {
        "batch_id": "B-0001",
        "recipe": "PP-H9",
        "phase": "HEAT",
        "phase_started": datetime.fromtimestamp(START // 10**9 + 600, tz=UTC).strftime(
            "%Y-%m-%dT%H:%M:%S.000000Z"
        ),
    }
    assert "batch" not in frames[1][1]  # R-102 has not begun


def test_the_codec_reads_the_json_frames_as_the_batches_that_the_plant_hands_over():
    simulation = simulate(2, 3, START, 9000.0)
    sensors = tuple(SensorLayout(one.name, one.name, one.unit) for one in SENSORS)
    codec = Codec(Layout((ClassLayout("reactor", ("poly/*",), sensors),)))
    records = [RawRecord(0, number, *record) for number, record in enumerate(to_json(simulation))]
    decoded, (expected,) = codec.decode(records), tuple(to_batches(simulation, "reactor", rows=len(records)))
    assert decoded.rejected == ()
    (found,) = decoded.batches
    for field in ("time", "values", "quality", "offset"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
    assert [found.assets[i] for i in found.asset] == [expected.assets[i] for i in expected.asset]
    assert [found.contexts[i] for i in found.context] == [expected.contexts[i] for i in expected.context]
