"""A dead sensor is an incident of its own and does not blind its asset, even where there are only three."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from monitor.trace import Trace
from tests.worlds import World, alerts, autoregressive, batch_of, configuration_text, run, world

ROWS = 1200
DIES, FAILS = 200, 900


@pytest.fixture(scope="module")
def trained() -> World:
    history = batch_of({f"plant/{n}": autoregressive(n, 2500, 3) for n in range(3)})
    return world(configuration_text(3, 16, "{pca: {}, var: {}}", nu=0.02), [history])


@pytest.fixture(scope="module", params=[0, 1, 2])
def watched(trained: World, request: pytest.FixtureRequest) -> tuple[int, list[dict], Trace]:
    """One sensor dies; long after, another one of the process steps."""
    dead = request.param
    values = autoregressive(77, ROWS, 3)
    values[DIES:, dead] = np.nan
    values[FAILS:, (dead + 1) % 3] += 20.0
    records, trace = run(trained.pipeline(), batch_of({"plant/0": values}))
    return dead, [msgspec.json.decode(r.value or b"")["data"] for r in alerts(records)], trace


def test_the_dead_sensor_is_an_incident_and_no_other_sensor_is(
    watched: tuple[int, list[dict], Trace],
) -> None:
    dead, told, _ = watched
    faults = {(a["subject"], a["fault"]["code"]) for a in told if a["kind"] == "SENSOR_FAULT"}
    assert faults == {(f"s{dead}", "DEAD")}


def test_the_asset_goes_on_being_scored_and_the_false_alarms_stay_few(
    watched: tuple[int, list[dict], Trace],
) -> None:
    _, told, trace = watched
    assert trace.scored[100:].all()
    assert not [a for a in told if a["kind"] == "DATA_GAP"]
    alone = trace.ratio[DIES + 50 : FAILS - 20]
    assert np.mean(alone > 1.0) < 0.08


def test_a_fault_of_the_process_is_found_without_it(watched: tuple[int, list[dict], Trace]) -> None:
    dead, told, trace = watched
    assert (trace.ratio[FAILS:] > 1.0).mean() > 0.9
    found = [a for a in told if a["kind"] == "ANOMALY"][-1]
    assert found["contributions"][0]["sensor"] == f"s{(dead + 1) % 3}"
    (missing,) = [c for c in found["contributions"] if c["sensor"] == f"s{dead}"] or [{"observed": None}]
    assert missing["observed"] is None
