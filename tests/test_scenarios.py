"""Whether this is worth anything: benign shifts are re-estimated, and a standing fault is never learnt as normal.

The whole pipeline on simulated sensors: readings in, alerts and threshold versions out.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from connectors.records import NO_CONTEXT, Batch, Channel, Context, OutRecord
from monitor.pipeline import Pipeline
from monitor.quantities import iso_time
from monitor.thresholds.adaptation_events import Command
from monitor.trace import Trace, joined
from tests.worlds import (
    SECOND,
    START,
    World,
    autoregressive,
    batch_of,
    configuration_text,
    pick,
    polled,
    world,
)

SENSORS = 4
NU = 0.02
ASSET = "plant/0"


@pytest.fixture(scope="module")
def trained() -> World:
    extra = "    drift: {settle: 10min, samples: 4000, max_total: 5}\n    alerting: {on_delay: 5s, off_delay: 30s}"
    text = configuration_text(SENSORS, 16, "{pca: {}, var: {}}", extra, setpoint=True, nu=NU)
    history = {f"plant/{n}": with_setpoint(autoregressive(n, 8000, SENSORS, pull=0.5)) for n in range(2)}
    return world(text, [batch_of(history)])


def with_setpoint(values: np.ndarray, setpoint: float = 10.0) -> np.ndarray:
    return np.concatenate([values, np.full((len(values), 1), setpoint)], axis=1)


def normal(seed: int, rows: int) -> np.ndarray:
    return autoregressive(seed, rows, SENSORS, pull=0.5)


class Watched:
    """A pipeline, and everything that came out of it."""

    def __init__(self, trained: World) -> None:
        self.pipeline: Pipeline = trained.pipeline()
        self.records: list[OutRecord] = []
        self.traces: list[Trace] = []
        self._rows = 0

    def feed(self, values: np.ndarray, context: Context = NO_CONTEXT) -> Watched:
        batch: Batch = batch_of({ASSET: values}, START + self._rows * SECOND)
        if context != NO_CONTEXT:
            batch = batch._replace(contexts=(NO_CONTEXT, context), context=np.ones(len(values), np.int32))
        self._rows += len(values)
        for low in range(0, len(values), 2000):
            outcome = self.pipeline.push(polled(pick(batch, slice(low, low + 2000))))
            self.records += outcome.records
            self.traces += outcome.traces
        return self

    def decide(self, action: Any) -> None:
        now = START + self._rows * SECOND
        self.records += self.pipeline.command(ASSET, Command(action, "J. Roe", now)).records

    def data(self, channel: Channel) -> list[dict[str, Any]]:
        return [msgspec.json.decode(r.value or b"")["data"] for r in self.records if r.channel is channel]

    def anomalies(self) -> list[dict[str, Any]]:
        return [alert for alert in self.data(Channel.ALERTS) if alert["kind"] == "ANOMALY"]

    def kinds(self, event: str) -> set[str]:
        return {alert["kind"] for alert in self.data(Channel.ALERTS) if alert["event"] == event}

    def versions(self) -> list[dict[str, Any]]:
        """Limits that were set, without what tracking moved in between."""
        said = self.data(Channel.THRESHOLDS)
        return [each for each in said if "outcome" not in each and each["trigger"] != "tracking"]

    def decisions(self) -> list[dict[str, Any]]:
        return [each for each in self.data(Channel.THRESHOLDS) if "outcome" in each]

    def rate(self, last: int) -> float:
        trace = joined(self.traces)
        return float(np.mean(trace.ratio[trace.scored][-last:] > 1.0))


@pytest.mark.parametrize(
    ("setpoint", "context", "shift", "trigger"),
    [
        (14.0, NO_CONTEXT, 2.5, "declared"),
        (14.0, NO_CONTEXT, 1.0, None),  # too small to stand: tracking alone holds the rate
        (10.0, Context(batch_id="B-1", recipe="PP-H5"), 2.5, "declared"),
        (10.0, Context(batch_id="B-1", phase="COOK"), 2.0, "declared"),
    ],
    ids=["set-point", "set-point, small", "recipe", "phase, moderate"],
)
def test_a_declared_change_is_re_estimated_and_the_asked_rate_returns(
    trained: World, setpoint: float, context: Context, shift: float, trigger: str | None
) -> None:
    watched = Watched(trained).feed(with_setpoint(normal(10, 1000)))
    moved = with_setpoint(normal(11, 16_000), setpoint)
    moved[:, 1] += shift
    watched.feed(moved, context)
    assert "ANOMALY" in watched.kinds("RAISED")
    set_by_rule = [(each["trigger"], each["approved_by"]) for each in watched.versions()]
    assert set_by_rule[:1] == ([] if trigger is None else [(trigger, "rule")])
    assert watched.anomalies()[-1]["event"] == "CLEARED"
    assert 0.5 * NU < watched.rate(10_000) < 1.6 * NU


def test_a_slow_small_shift_is_found_as_drift_re_estimated_and_the_asked_rate_returns(trained: World) -> None:
    watched = Watched(trained).feed(with_setpoint(normal(20, 2000)))
    centre = 10.0 * np.arange(1, SENSORS + 1)
    values = normal(21, 24_000)
    spread = 1.0 + 0.06 * np.minimum(np.arange(24_000) / 6000.0, 1.0)
    watched.feed(with_setpoint(centre + (values - centre) * spread[:, None]))
    assert "DRIFT" in watched.kinds("RAISED")
    assert {version["trigger"] for version in watched.versions()} == {"drift"}
    assert "DRIFT" in watched.kinds("CLEARED")
    assert 0.5 * NU < watched.rate(8000) < 1.6 * NU


def test_an_undeclared_step_that_stays_is_an_open_incident_for_ever_until_a_person_approves(
    trained: World,
) -> None:
    watched = Watched(trained).feed(with_setpoint(normal(30, 1000)))
    failed = with_setpoint(normal(31, 36_000))
    failed[:, 1] = 100.0 + np.random.default_rng(32).normal(size=len(failed)) * 0.3
    watched.feed(failed[:20_000])
    standing = watched.anomalies()[-1]
    assert standing["event"] == "UPDATED"
    assert standing["state"] == "OPEN"
    since = [alert for alert in watched.anomalies() if alert["started_at"] >= iso_time(START + 1100 * SECOND)]
    assert since == [], "one incident for all of it: none began after the step"
    assert standing["contributions"][0]["sensor"] == "s1"
    assert watched.versions() == []
    assert [each["outcome"] for each in watched.decisions()] == ["WANTED"]
    assert "no change of context was declared" in watched.decisions()[0]["reason"]
    assert standing["drift"] == {"state": "AWAITING", "gate": "STANDS", "over": 40}
    assert watched.rate(19_000) == 1.0

    watched.decide("approve")
    watched.feed(failed[20_000:])
    assert [(v["trigger"], v["approved_by"]) for v in watched.versions()] == [("approved", "J. Roe")] * 2
    assert [v["label"] == "PROVISIONAL" for v in watched.versions()] == [True, False]
    assert watched.anomalies()[-1]["event"] == "CLEARED"
    assert 0.5 * NU < watched.rate(11_000) < 1.6 * NU


def test_a_rollback_puts_the_trained_limit_back_in_force(trained: World) -> None:
    watched = Watched(trained).feed(with_setpoint(normal(40, 1000)))
    moved = with_setpoint(normal(41, 8000), setpoint=14.0)
    moved[:, 1] += 2.5
    watched.feed(moved)
    assert watched.versions()[-1]["trigger"] == "declared"
    watched.decide("rollback")
    assert watched.versions()[-1]["trigger"] == "rollback"
    assert watched.versions()[-1]["version"] > watched.versions()[-2]["version"]
    watched.feed(moved[:500])
    assert watched.rate(400) > 10 * NU
