"""A slow CUSUM finds the sensor that drifts under every limit, and raises no false alarms."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from scipy.signal import lfilter

from connectors.records import Channel
from monitor.thresholds.centre import CentreWatch, cumulative, limit_of, sums
from monitor.thresholds.threshold import autocorrelation_time
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

UNIT = 1 << 16


def noise(seed: int, rows: int, sensors: int, pull: float = 0.8) -> np.ndarray:
    """[rows, sensors] standard normal, autocorrelated."""
    raw = np.random.default_rng(seed).normal(size=(rows + 100, sensors)) * np.sqrt(1 - pull**2)
    return lfilter([1], [1, -pull], raw, axis=0)[100:].astype(np.float32)


def by_loop(z: np.ndarray, usable: np.ndarray, before: float) -> list[float]:
    found, total = [], before
    for value, counts in zip(z.tolist(), usable.tolist(), strict=True):
        total = max(0.0, total + min(max(value, -4.0), 4.0) - 1.0) if counts else total
        found.append(total)
    return found


def test_the_sums_are_pages_and_masked_readings_move_nothing() -> None:
    z, usable = 3 * noise(1, 400, 2), np.random.default_rng(2).random((400, 2)) > 0.2
    starts, before = np.array([0, 150]), np.array([[0, 5 * UNIT], [2 * UNIT, 0]])
    found = sums(z, usable, starts, before) / UNIT
    for sensor in range(2):
        first = by_loop(z[:150, sensor], usable[:150, sensor], before[0, sensor] / UNIT)
        second = by_loop(z[150:, sensor], usable[150:, sensor], before[1, sensor] / UNIT)
        np.testing.assert_allclose(found[:, sensor], first + second, atol=400 / UNIT)


def test_a_sensor_is_away_until_both_sums_are_under_half_the_limit() -> None:
    watch = CentreWatch(np.array([10.0]))
    watch.grow(1)
    z = np.concatenate([np.full(12, 2.0), np.full(10, 0.0)]).astype(np.float32)[:, None]
    seen = watch.step(np.zeros(22, np.int32), z, np.ones((22, 1), bool))
    assert np.flatnonzero(seen.turned).tolist() == [10, 19]  # 11 > 10 after 11 rows; 12 - 8 < 5
    assert np.flatnonzero(seen.away[:, 0]).tolist() == list(range(10, 19))


def test_the_state_does_not_depend_on_the_cut_nor_on_neighbours() -> None:
    z, yes = 2 * noise(3, 300, 3), np.ones((300, 3), bool)
    whole, cut = CentreWatch(np.full(3, 8.0)), CentreWatch(np.full(3, 8.0))
    for watch in (whole, cut):
        watch.grow(2)
    expected = whole.step(np.zeros(300, np.int32), z, yes)
    away = []
    for low in (0, 1, 90, 200):
        high = {0: 1, 1: 90, 90: 200, 200: 300}[low]
        both = np.concatenate([z[low:high], z[low:high]])
        rows = np.repeat(np.array([0, 1], np.int32), high - low)
        away.append(cut.step(rows, both, np.ones(both.shape, bool)).away[: high - low])
        fresh = CentreWatch(np.full(3, 8.0))
        fresh.grow(2)
        for row in range(2):
            fresh.load(row, cut.dump(row))
        cut = fresh
    np.testing.assert_array_equal(np.concatenate(away), expected.away)
    assert expected.away.any()
    assert whole.dump(0) == cut.dump(0) == cut.dump(1)


def test_the_limit_gives_no_more_false_alarms_than_asked() -> None:
    """40 sensors, autocorrelated; asked: one in 20,000 rows of all 40 together; over 100,000 rows about 5."""
    z = noise(4, 100_000, 40)
    tau = autocorrelation_time(z[:, 0])
    limit = limit_of(0.0, tau, 40, 20_000)
    reached = cumulative(z, np.ones(z.shape, bool), np.zeros(len(z), np.int32)) / UNIT
    over = reached > limit
    alarms = np.count_nonzero(over[1:] & ~over[:-1])
    assert alarms <= 10
    assert limit_of(100.0, tau, 40, 20_000) == 150.0


@pytest.fixture(scope="module")
def trained() -> World:
    history = {f"plant/{n}": autoregressive(n, 6000, 3) for n in range(2)}
    return world(configuration_text(3, 8, "{pca: {}}", nu=0.02), [batch_of(history)])


@pytest.mark.parametrize("rows", [1000, 8000])  # a faster one is an ANOMALY at 1.6 sigma, and a DRIFT waits
def test_a_slow_drift_raises_a_drift_of_that_sensor_before_it_is_large(trained: World, rows: int) -> None:
    values = autoregressive(7, 2000 + rows, 3)
    spread = autoregressive(0, 6000, 3)[:, 1].std()
    values[2000:, 1] += 5 * spread * np.arange(1, rows + 1) / rows
    batch, told = batch_of({"plant/0": values}), []
    pipeline = trained.pipeline()
    for low in range(0, len(values), 900):
        records = pipeline.push(polled(pick(batch, slice(low, low + 900)))).records
        told += [msgspec.json.decode(r.value or b"")["data"] for r in records if r.channel is Channel.ALERTS]
    drifts = [a for a in told if a["kind"] == "DRIFT" and a.get("subject", "")[0] == "s"]
    first = drifts[0]
    assert first["subject"] == "s1"
    assert "has left its trained centre" in first["message"]
    begun = np.datetime64(first["raised_at"].rstrip("Z"), "ns").astype(np.int64)
    reached = 5 * ((int(begun) - START) / SECOND - 2000) / rows
    assert 0 < reached < 4


def test_a_drift_waits_for_the_anomaly_of_its_asset_to_clear(trained: World) -> None:
    values = autoregressive(8, 3000, 3)
    values[2000:2400, 1] += 10 * autoregressive(0, 6000, 3)[:, 1].std()
    records = trained.pipeline().push(polled(batch_of({"plant/0": values}))).records
    told = [msgspec.json.decode(r.value or b"")["data"] for r in records if r.channel is Channel.ALERTS]
    anomalies = [a for a in told if a["kind"] == "ANOMALY"]
    planted = max((a for a in anomalies if a["event"] == "CLEARED"), key=lambda a: a["worst_ratio"])
    raised = [a["raised_at"] for a in told if a["kind"] == "DRIFT" and a.get("subject") == "s1"]
    assert raised
    assert min(raised) >= planted["cleared_at"]
