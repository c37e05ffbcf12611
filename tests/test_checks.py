"""Sensor faults by hand and against a slot-by-slot oracle, in any cut."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.records import Quality
from monitor.event_time.checks import (
    NEVER,
    Fault,
    SensorChecks,
    normal_stuck_slots,
    stuck_slots,
    untrusted,
)
from monitor.event_time.grid import Slots
from monitor.quantities import Duration
from monitor.settings import AssetClass, Sensor

S = 10**9
NAN = float("nan")
GOOD, BAD, ABSENT = int(Quality.GOOD), int(Quality.BAD), int(Quality.ABSENT)


def asset_class(**sensors: Sensor) -> AssetClass:
    return AssetClass(assets=("*",), sampling=Duration(S), sensors=sensors)


def slots_of(entries: list[tuple[int, int, list[float], list[int]]], sensors: int) -> Slots:
    """Slots from (row, slot, values, quality); what the checks do not look at is empty."""
    entries = sorted(entries, key=lambda entry: entry[:2])
    count = len(entries)
    slot = np.array([entry[1] for entry in entries], np.int64)
    quality = np.array([entry[3] for entry in entries], np.uint8).reshape(count, sensors)
    return Slots(
        row=np.array([entry[0] for entry in entries], np.int32),
        slot=slot,
        end=slot * S,
        values=np.array([entry[2] for entry in entries], np.float64).reshape(count, sensors),
        real=(quality == Quality.GOOD).astype(np.float32),
        quality=quality,
        context=np.zeros(count, np.int32),
        batch_start=np.full(count, -1),
        phase_start=np.full(count, -1),
        fresh=np.zeros(count, np.bool_),
        offset=np.zeros(count, np.int64),
    )


def codes(
    checks: SensorChecks, column: int, series: list[tuple[float, int]], sensors: int = 1, first: int = 100
) -> Any:
    """Faults of one sensor whose neighbours report and move all the time."""
    entries = []
    for number, (value, quality) in enumerate(series):
        values, qualities = [float(number)] * sensors, [GOOD] * sensors
        values[column], qualities[column] = value, quality
        entries.append((0, first + number, values, qualities))
    return checks.step(slots_of(entries, sensors)).code[:, column].tolist()


def checks_of(config: AssetClass, *limits: int) -> SensorChecks:
    checks = SensorChecks(config, np.array(limits, np.int64))
    checks.grow(3)
    return checks


def test_a_sensor_is_stuck_after_so_many_readings_without_movement_and_healthy_when_it_moves() -> None:
    checks = checks_of(asset_class(x=Sensor(unit="Cel", deadband=0.5)), 3)
    series = [(1.0, GOOD), (1.5, GOOD), (0.5, GOOD), (1.2, GOOD), (1.4, GOOD), (1.51, GOOD), (1.6, GOOD)]
    assert codes(checks, 0, series) == [0, 0, 0, Fault.STUCK, Fault.STUCK, 0, 0]


def test_a_slow_drift_is_movement_because_the_reference_stays_where_the_sensor_last_moved_to() -> None:
    checks = checks_of(asset_class(x=Sensor(unit="Cel", deadband=0.5)), 4)
    assert codes(checks, 0, [(0.2 * number, GOOD) for number in range(20)]) == [0] * 20


def test_slots_without_a_reading_do_not_count_towards_stuck() -> None:
    checks = checks_of(
        asset_class(x=Sensor(unit="Cel", dead_after=Duration(99 * S)), y=Sensor(unit="Cel")), 3, NEVER
    )
    series = [(1.0, GOOD), (1.0, GOOD), (1.0, ABSENT), (1.0, ABSENT), (1.0, GOOD), (1.0, GOOD)]
    assert codes(checks, 0, series, sensors=2) == [0, 0, 0, 0, 0, Fault.STUCK]


@pytest.mark.parametrize(
    "sensor",
    [
        Sensor(unit="Cel", reporting="on_change"),
        Sensor(unit="Cel", role="setpoint"),
        Sensor(unit="s", derive="time_since_batch_start"),
    ],
)
def test_only_periodic_scored_sensors_can_be_stuck(sensor: Sensor) -> None:
    assert codes(checks_of(asset_class(x=sensor), 2), 0, [(1.0, GOOD)] * 9) == [0] * 9


def test_a_bad_reading_is_a_fault_until_another_reading_comes() -> None:
    checks = checks_of(asset_class(x=Sensor(unit="Cel"), y=Sensor(unit="Cel")), NEVER, NEVER)
    series = [
        (1.0, GOOD),
        (9.0, int(Quality.OUT_OF_RANGE)),
        (NAN, ABSENT),
        (NAN, int(Quality.NON_FINITE)),
        (2.0, BAD),
        (NAN, ABSENT),
        (3.0, int(Quality.UNCERTAIN)),
    ]
    expected = [
        0,
        Fault.OUT_OF_RANGE,
        Fault.OUT_OF_RANGE,
        Fault.NON_FINITE,
        Fault.BAD_QUALITY,
        Fault.BAD_QUALITY,
        0,
    ]
    assert codes(checks, 0, series, sensors=2) == expected


def test_a_sensor_is_dead_after_ten_samplings_while_its_asset_reports() -> None:
    checks = checks_of(asset_class(x=Sensor(unit="Cel"), y=Sensor(unit="Cel")), NEVER, NEVER)
    series = [(1.0, GOOD)] + [(NAN, ABSENT)] * 11 + [(1.0, GOOD)]
    assert codes(checks, 0, series, sensors=2) == [0] * 10 + [Fault.DEAD, Fault.DEAD, 0]


def test_a_sensor_that_never_reported_is_dead_too() -> None:
    checks = checks_of(asset_class(x=Sensor(unit="Cel"), y=Sensor(unit="Cel")), NEVER, NEVER)
    assert codes(checks, 0, [(NAN, ABSENT)] * 11, sensors=2) == [0] * 9 + [Fault.DEAD] * 2


def test_the_silence_of_the_whole_asset_makes_no_sensor_dead() -> None:
    checks = checks_of(asset_class(x=Sensor(unit="Cel"), y=Sensor(unit="Cel")), NEVER, NEVER)
    silent = [(0, 101 + number, [NAN, NAN], [ABSENT, ABSENT]) for number in range(40)]
    entries = [(0, 100, [1.0, 1.0], [GOOD, GOOD]), *silent, (0, 141, [NAN, 2.0], [ABSENT, GOOD])]
    assert checks.step(slots_of(entries, 2)).code.max() == Fault.NONE


def test_a_dead_sensor_stays_dead_through_a_silence_of_its_asset() -> None:
    checks = checks_of(asset_class(x=Sensor(unit="Cel"), y=Sensor(unit="Cel")), NEVER, NEVER)
    codes(checks, 0, [(NAN, ABSENT)] * 11, sensors=2)
    later = slots_of([(0, 900, [NAN, 2.0], [ABSENT, GOOD])], 2)
    assert checks.step(later).code.tolist() == [[Fault.DEAD, Fault.NONE]]


@pytest.mark.parametrize(
    ("sensor", "slots"),
    [
        (Sensor(unit="Cel", reporting="on_change", heartbeat=Duration(4 * S)), 12),
        (Sensor(unit="Cel", reporting="on_change", heartbeat=Duration(4 * S), dead_after=Duration(5 * S)), 5),
        (Sensor(unit="Cel", reporting="on_change"), None),
        (Sensor(unit="Cel", role="lab"), None),
        (Sensor(unit="s", derive="time_since_batch_start"), None),
    ],
)
def test_dead_is_judged_against_what_a_sensor_promises(sensor: Sensor, slots: int | None) -> None:
    checks = checks_of(asset_class(x=sensor, y=Sensor(unit="Cel")), NEVER, NEVER)
    found = codes(checks, 0, [(1.0, GOOD)] + [(NAN, ABSENT)] * 30, sensors=2)
    assert found.count(Fault.DEAD) == (0 if slots is None else 31 - slots)


def test_normal_runs_teach_the_stuck_limit_with_a_margin_and_a_floor() -> None:
    quantised = np.array([1, 1, 1, 1, 2, 2, NAN, 2, 1, 2])
    lively = np.arange(10.0)
    learnt = normal_stuck_slots([np.column_stack([quantised, lively])], np.zeros(2), margin=3.0, at_least=5)
    assert learnt.tolist() == [9, 5]
    assert normal_stuck_slots([np.column_stack([lively])], np.array([2.5]), 1.0, 1).tolist() == [2]


def test_a_configured_stuck_time_goes_before_what_was_learnt() -> None:
    config = asset_class(x=Sensor(unit="Cel", stuck_after=Duration(90 * S + 1)), y=Sensor(unit="Cel"))
    assert stuck_slots(config, np.array([7, 8])).tolist() == [91, 8]


# --- against an oracle, one slot at a time ---

CONFIG = asset_class(
    a=Sensor(unit="Cel", deadband=0.5, dead_after=Duration(4 * S)),
    b=Sensor(unit="Cel", reporting="on_change", heartbeat=Duration(2 * S)),
    c=Sensor(unit="s", derive="time_since_batch_start"),
)
DEAD_SLOTS = [4, 6, math.inf]
STUCK = [3, math.inf, math.inf]


@dataclass
class Oracle:
    """What is known of one sensor."""

    fault: int = 0
    reference: float = NAN
    still: int = 0
    heard: float = -math.inf
    dead: bool = False


def oracle(entries: list[tuple[int, int, list[float], list[int]]]) -> list[list[int]]:
    """Codes of one asset's slots."""
    sensors, alive_at, found = [Oracle() for _ in range(3)], -math.inf, []
    of_quality = {3: Fault.BAD_QUALITY, 4: Fault.NON_FINITE, 5: Fault.OUT_OF_RANGE}
    for _, slot, values, quality in entries:
        alive = quality[0] != ABSENT or quality[1] != ABSENT
        pause = slot - alive_at
        alive_at = slot if alive else alive_at
        line = list[int]()
        for column, sensor in enumerate(sensors):
            if quality[column] != ABSENT:
                sensor.fault, sensor.heard, sensor.dead = of_quality.get(quality[column], 0), slot, False
                if sensor.fault == 0:
                    if abs(values[column] - sensor.reference) <= (0.5 if column == 0 else 0.0):
                        sensor.still += 1
                    else:
                        sensor.reference, sensor.still = values[column], 0
            elif column == 2:
                sensor.fault = 0
            elif alive:
                if pause > DEAD_SLOTS[column] // 2:
                    sensor.heard = slot - 1
                sensor.dead = sensor.dead or slot - sensor.heard >= DEAD_SLOTS[column]
            stuck = Fault.STUCK if sensor.still >= STUCK[column] else 0
            line.append(int(Fault.DEAD if sensor.dead else sensor.fault or stuck))
        found.append(line)
    return found


CELLS = st.tuples(
    st.sampled_from([0.0, 0.25, 0.5, 0.75, 2.0]), st.sampled_from([ABSENT, GOOD, GOOD, 2, BAD, 4, 5])
)


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from([1, 1, 1, 2, 9]), st.lists(CELLS, min_size=3, max_size=3)
        ),
        max_size=60,
    ),
    quiet=st.integers(0, 59),
    cuts=st.lists(st.integers(0, 60), max_size=8),
    restored=st.sets(st.integers(0, 8)),
)
def test_any_cut_and_restore_equals_the_slot_by_slot_oracle(
    lines: list[Any], quiet: int, cuts: list[int], restored: set[int]
) -> None:
    slot, entries = [1000, 2000, 3000], list[Any]()
    for number, (asset, step, cells) in enumerate(lines):
        slot[asset] += step
        missing = quiet <= number < quiet + 30  # long enough without readings for sensors to die
        quality = [ABSENT if missing and column != number % 2 else cells[column][1] for column in range(3)]
        entries.append((asset, slot[asset], [cell[0] for cell in cells], quality))
    checks, found = checks_of(CONFIG, 3, 3, 3), dict[tuple[int, int], list[int]]()
    edges = [0, *sorted(min(edge, len(entries)) for edge in cuts), len(entries)]
    for number, (start, stop) in enumerate(pairwise(edges)):
        if number in restored:
            other = checks_of(CONFIG, 3, 3, 3)
            for asset in range(3):
                other.load(asset, checks.dump(asset))
            checks = other
        part = slots_of(entries[start:stop], 3)
        code = checks.step(part).code.tolist()
        found |= {(int(row), int(at)): line for row, at, line in zip(part.row, part.slot, code, strict=True)}
    for asset in range(3):
        own = [entry for entry in entries if entry[0] == asset]
        assert [found[asset, entry[1]] for entry in own] == oracle(own)


def test_many_sensors_that_stand_still_at_once_are_told_and_still_judged() -> None:
    code = np.full((3, 6), Fault.NONE, np.uint8)
    code[1, :2] = Fault.STUCK  # a third: each is a sensor's own fault
    code[2, :3] = Fault.STUCK
    code[2, 5] = Fault.DEAD
    assert untrusted(code).tolist() == [
        [False] * 6,
        [True, True, False, False, False, False],
        [False, False, False, False, False, True],
    ]
