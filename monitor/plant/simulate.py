"""The plant over time: integrates every batch, reads the instruments, and says what was planted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.records import NO_CONTEXT, Context, Quality
from monitor.errors import ConfigurationError
from monitor.plant import control, kinetics, recipe, variation
from monitor.plant.faults import Effects, Event, Fault, checked, drift, effects, grade_changes, stick, truth
from monitor.plant.kinetics import KELVIN, Array, Inputs
from monitor.plant.recipe import Orders, Phase, Progress, Recipe
from monitor.plant.schedule import CYCLE_S, Clock, Slot, slots
from monitor.plant.sensors import SENSORS, Trace, quantised, true_values

STEP_S: Final = 5.0
"""Longest integration step and scan of the controllers."""
COLUMNS: Final = 512
"""Batches integrated side by side: enough to hide NumPy's overhead, few enough for the cache."""
HEEL: Final = 0.5  # kg of latex that stays in the vessel


@dataclass(frozen=True)
class BatchRun:
    """One batch: rows with its context are at ``start_ns`` <= time < ``end_ns`` (epoch ns)."""

    asset: str
    batch_id: str
    recipe: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class Simulation:
    """What the plant sent, and the truth about it.

    Shape letters: A assets, N times, D sensors.

    Attributes:
        assets: names of the reactors.
        time: [N] int64, epoch ns, the same for all assets.
        values: [A, N, D] float64, columns as in `SENSORS`.
        quality: [A, N, D] uint8, codes of `connectors.records.Quality`.
        contexts: batch contexts; the first is `NO_CONTEXT`.
        context: [A, N] int32, index into ``contexts``; 0 between batches.
        batches: in order of their start.
        events: what was planted, in order of its start.
    """

    assets: tuple[str, ...]
    time: NDArray[np.int64]
    values: Array
    quality: NDArray[np.uint8]
    contexts: tuple[Context, ...]
    context: NDArray[np.int32]
    batches: tuple[BatchRun, ...]
    events: tuple[Event, ...]


class Surroundings(NamedTuple):
    """What acts on the reactors from outside: arrays over the plant's clock, [N] or [A, N].

    Attributes:
        weather: air and cooling water.
        flow: [A, N] factor on the monomer feed.
        noise: [A, N, D] of the instruments.
        effects: of the faults.
    """

    weather: variation.Weather
    flow: Array
    noise: Array
    effects: Effects


class Columns(NamedTuple):
    """The slots to integrate side by side: arrays [C].

    Attributes:
        asset: index of the reactor.
        first: row of the plant's clock at which the slot begins.
        idle: the slot holds no batch.
        orders: recipes.
        batches: what is special about each batch.
    """

    asset: NDArray[np.int64]
    first: NDArray[np.int64]
    idle: NDArray[np.bool_]
    orders: Orders
    batches: variation.Batches


def asset_names(reactors: int) -> tuple[str, ...]:
    """Names of the first ``reactors`` reactors."""
    return tuple(f"poly/R-{101 + number}" for number in range(reactors))


def batch_starts(
    seed: int, reactors: int, duration_s: float, sampling_s: float = 10.0
) -> tuple[tuple[float, ...], ...]:
    """Starts of each reactor's batches, s from the simulation's start: known beforehand, to place faults."""
    clock = Clock(0, sampling_s, rows_of(duration_s, sampling_s))
    return tuple(
        tuple(slot.first * sampling_s for slot in slots(seed, asset, reactors, clock) if slot.ordinal >= 0)
        for asset in range(reactors)
    )


def rows_of(duration_s: float, sampling_s: float) -> int:
    """Rows of a simulation.

    Raises:
        ConfigurationError: the sampling is outside 1 to 60 s, or the duration is shorter than it.
    """
    if not 1.0 <= sampling_s <= 60.0:
        raise ConfigurationError(f"plant: got sampling {sampling_s:g} s, expected 1 to 60 s")
    if duration_s < sampling_s:
        raise ConfigurationError(f"plant: got duration {duration_s:g} s, expected at least the sampling")
    return int(duration_s / sampling_s)


def simulate(
    seed: int,
    reactors: int,
    start_ns: int,
    duration_s: float,
    sampling_s: float = 10.0,
    faults: Sequence[Fault] = (),
) -> Simulation:
    """Runs the plant. The same arguments give the same bytes; a fault changes nothing before it acts.

    Args:
        seed: of all randomness, not negative.
        reactors: how many, at least 1.
        start_ns: epoch ns of the first row.
        duration_s: how long, s.
        sampling_s: between rows, 1 to 60 s.
        faults: what is planted: faults and grade changes.

    Raises:
        ConfigurationError: arguments that the plant cannot act out.
    """
    if seed < 0 or reactors < 1:
        raise ConfigurationError(f"plant: got seed {seed} and {reactors} reactors, expected >= 0 and >= 1")
    rows = rows_of(duration_s, sampling_s)
    assets = asset_names(reactors)
    checked(faults, assets, duration_s)
    clock = Clock(start_ns, sampling_s, rows)
    longer = clock._replace(rows=rows + int(CYCLE_S[1] / sampling_s) + 1)  # the last batches run on unseen
    around = surroundings(seed, assets, longer, faults)
    plan = [slot for asset in range(reactors) for slot in slots(seed, asset, reactors, clock)]
    recipes = recipes_of(plan, assets, clock, faults)
    values = np.empty((reactors, rows, len(SENSORS)))
    phases = np.zeros((reactors, rows), dtype=np.int64)
    for begin in range(0, len(plan), COLUMNS):
        part = slice(begin, begin + COLUMNS)
        columns = columns_of(seed, plan[part], recipes[part])
        longest = max(min(slot.rows, rows - slot.first) for slot in plan[part])
        trace = integrate(columns, around, longest, sampling_s)
        scatter(trace, columns, plan[part], values, phases)
    values += around.noise[:, :rows]
    read_out(values, faults, assets, clock)
    contexts, context, runs = contexts_of(phases, plan, recipes, assets, clock)
    quality = np.full(values.shape, Quality.GOOD, dtype=np.uint8)
    time = clock.start_ns + np.arange(rows, dtype=np.int64) * round(sampling_s * 1e9)
    return Simulation(assets, time, values, quality, contexts, context, runs, truth(faults, clock))


def between(simulation: Simulation, start_ns: int, end_ns: int) -> Simulation:
    """The rows at ``start_ns`` <= time < ``end_ns``, with the batches and events that overlap them."""
    first, last = np.searchsorted(simulation.time, (start_ns, end_ns))
    return replace(
        simulation,
        time=simulation.time[first:last],
        values=simulation.values[:, first:last],
        quality=simulation.quality[:, first:last],
        context=simulation.context[:, first:last],
        batches=tuple(run for run in simulation.batches if run.start_ns < end_ns and run.end_ns > start_ns),
        events=tuple(one for one in simulation.events if one.start_ns < end_ns and one.end_ns > start_ns),
    )


def surroundings(seed: int, assets: Sequence[str], clock: Clock, faults: Sequence[Fault]) -> Surroundings:
    """Everything that acts on the reactors from outside, over the whole clock."""
    numbers = range(len(assets))
    return Surroundings(
        weather=variation.weather(seed, clock),
        flow=np.stack([variation.flow_factors(seed, asset, clock) for asset in numbers]),
        noise=np.stack([variation.sensor_noise(seed, asset, clock) for asset in numbers]),
        effects=effects(faults, assets, clock),
    )


def recipes_of(
    plan: Sequence[Slot], assets: Sequence[str], clock: Clock, faults: Sequence[Fault]
) -> list[Recipe]:
    """The recipe of each slot."""
    found = [recipe.STANDARD] * len(plan)
    for position, slot in enumerate(plan):
        start = np.array([slot.first * clock.sampling_s])
        if grade_changes(faults, assets[slot.asset], start)[0]:
            found[position] = recipe.OTHER_GRADE
    return found


def columns_of(seed: int, plan: Sequence[Slot], recipes: Sequence[Recipe]) -> Columns:
    """Slots and recipes as arrays; a slot without a batch gets the numbers of its reactor's first batch."""
    ordinal = np.array([max(slot.ordinal, 0) for slot in plan])
    asset = np.array([slot.asset for slot in plan])
    special = np.empty((len(variation.Batches._fields), len(plan)))
    for number in np.unique(asset):
        mine = asset == number
        drawn = variation.batches(seed, int(number), int(ordinal[mine].max()) + 1)
        special[:, mine] = np.stack(drawn)[:, ordinal[mine]]
    return Columns(
        asset=asset,
        first=np.array([slot.first for slot in plan]),
        idle=np.array([slot.ordinal < 0 for slot in plan]),
        orders=Orders(*np.array([one[1:] for one in recipes]).T),
        batches=variation.Batches(*special),
    )


def integrate(columns: Columns, around: Surroundings, rows: int, sampling_s: float) -> Trace:
    """Runs all columns for ``rows`` rows, side by side."""
    scans = int(np.ceil(sampling_s / STEP_S))
    step = sampling_s / scans
    count = len(columns.asset)
    state, progress, cascade = start_of(columns)
    trace = empty_trace(rows, count)
    batch_age = np.zeros(count)
    for row in range(rows):
        index = np.minimum(columns.first + row, around.flow.shape[1] - 1)
        error = around.noise[columns.asset, index, 0] + around.effects.misreading[columns.asset, index]
        measured = state[kinetics.TEMPERATURE] - KELVIN + error
        progress = recipe.next_phase(progress, columns.orders, measured)
        cascade = control.preset(cascade, progress.age == 0.0)
        outside = inputs_at(index, columns, around, progress)
        for scan in range(scans):
            setpoint = recipe.next_setpoint(progress, columns.orders, step)
            measured = state[kinetics.TEMPERATURE] - KELVIN + error
            cascade, valve = control.control(
                cascade,
                measured,
                state[kinetics.JACKET_IN] - KELVIN,
                setpoint,
                progress.phase >= Phase.HEAT,
                step,
            )
            if scan == 0:
                record(trace, row, state, progress, batch_age, outside, valve)
            state = kinetics.runge_kutta(state, outside._replace(valve=valve), step)
            progress = progress._replace(
                age=progress.age + step, fed=progress.fed + outside.feed * step, setpoint=setpoint
            )
        batch_age = np.where(progress.phase == Phase.IDLE, 0.0, batch_age + sampling_s)
    return trace


def start_of(columns: Columns) -> tuple[Array, Progress, control.Cascade]:
    """Reactors at the start of their slots: an empty vessel with a heel, at rest."""
    count = len(columns.asset)
    state = np.zeros((kinetics.STATES, count))
    state[kinetics.WATER] = HEEL * (1.0 - kinetics.CHARGE_POLYMER)
    state[kinetics.POLYMER] = HEEL * kinetics.CHARGE_POLYMER
    state[kinetics.TEMPERATURE :] = columns.batches.start
    phase = np.where(columns.idle, int(Phase.IDLE), int(Phase.CHARGE))
    rest = np.full(count, recipe.IDLE_TEMPERATURE)
    progress = Progress(phase, np.zeros(count), np.zeros(count), rest)
    return state, progress, control.resting(columns.batches.start - KELVIN)


def inputs_at(index: NDArray[np.int64], columns: Columns, around: Surroundings, progress: Progress) -> Inputs:
    """What acts on the columns at the rows ``index`` [C] of the plant's clock; each scan sets the valve."""
    here = (columns.asset, index)
    phase, effects = progress.phase, around.effects
    running = (phase != Phase.IDLE) * kinetics.AGITATOR_SPEED
    return Inputs(
        charge=np.where(phase == Phase.CHARGE, recipe.CHARGE_MASS / recipe.CHARGE_S, 0.0),
        feed=recipe.ordered_feed(progress, columns.orders) * around.flow[here],
        inhibitor=columns.batches.inhibitor + effects.inhibitor[here],
        discharge=np.where(phase == Phase.IDLE, recipe.DISCHARGE_RATE, 0.0)
        * (progress.age < recipe.DISCHARGE_S),
        valve=0.0,
        speed=running * effects.speed[here],
        activity=columns.batches.activity,
        fouling=columns.batches.fouling + effects.fouling[here],
        ambient=around.weather.ambient[index],
        coolant=around.weather.coolant[index],
    )


def empty_trace(rows: int, columns: int) -> Trace:
    """Room for a trace."""
    shape = (rows, columns)
    return Trace(
        state=np.empty((rows, kinetics.STATES, columns)),
        phase=np.zeros(shape, dtype=np.int64),
        age=np.empty(shape),
        feed=np.empty(shape),
        speed=np.empty(shape),
        valve=np.empty(shape),
        setpoint=np.empty(shape),
    )


def record(
    trace: Trace, row: int, state: Array, progress: Progress, batch_age: Array, outside: Inputs, valve: Array
) -> None:
    """Writes one row of a trace."""
    trace.state[row], trace.phase[row], trace.valve[row] = state, progress.phase, valve
    trace.age[row], trace.setpoint[row] = batch_age, progress.setpoint
    trace.feed[row], trace.speed[row] = outside.feed, outside.speed


def scatter(
    trace: Trace, columns: Columns, plan: Sequence[Slot], values: Array, phases: NDArray[np.int64]
) -> None:
    """Copies columns to their assets and times: ``values`` [A, N, D] and ``phases`` [A, N], in place."""
    true = true_values(trace, columns.batches.padding)
    stacked = np.stack([true[sensor.name] for sensor in SENSORS], axis=-1)  # [R, C, D]
    for column, slot in enumerate(plan):
        last = min(slot.first + slot.rows, values.shape[1])
        values[slot.asset, slot.first : last] = stacked[: last - slot.first, column]
        phases[slot.asset, slot.first : last] = trace.phase[: last - slot.first, column]


def read_out(values: Array, faults: Sequence[Fault], assets: Sequence[str], clock: Clock) -> None:
    """Makes readings [A, N, D] of true values and noise, in place: drift, steps, frozen values."""
    drift(values, faults, assets, clock)
    for column, sensor in enumerate(SENSORS):
        values[..., column] = quantised(values[..., column], sensor)
    stick(values, faults, assets, clock)


def contexts_of(
    phases: NDArray[np.int64],
    plan: Sequence[Slot],
    recipes: Sequence[Recipe],
    assets: Sequence[str],
    clock: Clock,
) -> tuple[tuple[Context, ...], NDArray[np.int32], tuple[BatchRun, ...]]:
    """Batch contexts of the phases [A, N]: the table, the index into it [A, N], and the batches.

    A batch that the simulation's end cuts off ends there.
    """
    contexts, context = [NO_CONTEXT], np.zeros(phases.shape, dtype=np.int32)
    runs: list[BatchRun] = []
    in_order = sorted(zip(plan, recipes, strict=True), key=lambda pair: (pair[0].first, pair[0].asset))
    for slot, made in (pair for pair in in_order if pair[0].ordinal >= 0):
        batch_id = f"B-{len(runs) + 1:04d}"
        mine = phases[slot.asset, slot.first : slot.first + slot.rows]
        edges = [0, *(np.flatnonzero(np.diff(mine)) + 1).tolist(), len(mine)]
        end = slot.first
        for begin, stop in pairwise(edges):
            if mine[begin] != Phase.IDLE:
                end = slot.first + stop
                context[slot.asset, slot.first + begin : end] = len(contexts)
                started = clock.at(slot.first + begin)
                contexts.append(Context(batch_id, made.name, Phase(int(mine[begin])).name, started))
        runs.append(BatchRun(assets[slot.asset], batch_id, made.name, clock.at(slot.first), clock.at(end)))
    return tuple(contexts), context, tuple(runs)
