"""Planted single-sensor faults: what the attribution benchmark plants, and whether the planted sensor is named."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.detection.planting import CASES, KINDS, LEAD, SENSORS, faults, planted
from monitor.quantities import iso_time
from tests.worlds import (
    SECOND,
    START,
    World,
    alerts,
    autoregressive,
    batch_of,
    configuration_text,
    run,
    world,
)

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


# ---- what an alert says of a fault, on the whole path


@cache
def monitor() -> World:
    text = configuration_text(4, 8, "{pca: {}}", "    alerting: {realert: 1min}", nu=0.01)
    return world(text, [batch_of({"plant/a": autoregressive(0, 3000, 4)})])


def told(values: np.ndarray, cuts: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """The data of the anomaly alerts of one asset."""
    records, _ = run(monitor().pipeline(), batch_of({"plant/x": values}), cuts)
    data = [msgspec.json.decode(record.value or b"")["data"] for record in alerts(records)]
    return [each for each in data if each["kind"] == "ANOMALY"]


def test_expected_stays_at_the_truth_while_a_sensor_creeps_away() -> None:
    truth = autoregressive(5, 900, 4)
    creeping = truth.copy()
    creeping[300:, 2] += np.linspace(0.0, 25.0, 600)
    updates = told(creeping)
    data = updates[-1]
    named = data["contributions"][0]
    at = round((np.datetime64(data["updated_at"][:-1], "ns").astype(int) - START) / SECOND)
    assert named["sensor"] == "s2"
    assert named["low"] <= truth[at, 2] <= named["high"] < named["observed"] == pytest.approx(creeping[at, 2])
    assert named["expected"] == pytest.approx(truth[at, 2], abs=3.0 * (named["high"] - named["low"]) / 6.6)
    assert named["sigma"] == pytest.approx(
        (named["observed"] - named["expected"]) / (named["high"] - named["low"]) * 6.6, rel=0.3
    )


@pytest.mark.parametrize("order", [(0, 1, 3), (3, 2, 0)])
def test_the_order_in_which_a_fault_spreads_is_told_and_kept_to_the_end(order: tuple[int, ...]) -> None:
    values = autoregressive(6, 500, 4)
    for place, sensor in enumerate(order):
        values[300 + 20 * place : 400, sensor] += 12.0
    expected = [
        {"sensor": f"s{d}", "at": iso_time(START + (300 + 20 * k) * SECOND)} for k, d in enumerate(order)
    ]
    events = [data for data in told(values) if data["updated_at"] >= expected[0]["at"]]
    assert events[0]["first_moved"] == expected[:1]
    assert (events[-1]["event"], events[-1]["first_moved"][:3]) == ("CLEARED", expected)


def test_what_is_told_does_not_depend_on_how_the_stream_is_cut() -> None:
    values = autoregressive(6, 420, 4)
    values[300:, 1] += 12.0
    values[310:, 2] += 12.0
    assert told(values) == told(values, tuple(range(290, 420, 7)))


@pytest.mark.parametrize("shift", [(9.0, -9.0, 0.0, 0.0), (0.0, 9.0, 0.0, 9.0)])
def test_with_several_sensors_at_fault_none_that_is_as_it_should_be_is_named_before_them(shift: Any) -> None:
    values = autoregressive(6, 400, 4)
    values[300:] += shift
    _, trace = run(monitor().pipeline(), batch_of({"plant/x": values}))
    share, faulty = trace.contributions[trace.end >= START + 330 * SECOND], np.array(shift) != 0
    assert (share[:, faulty].min(axis=1) > share[:, ~faulty].max(axis=1)).all()
