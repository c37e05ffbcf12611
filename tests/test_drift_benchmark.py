"""The drift section's parts, on scores that need no data set."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from benchmarks.detection import slow_drifts
from benchmarks.detection.drift import Scores, decided, scenarios, spread
from benchmarks.detection.policies import NU, SETTLE, Known, calibrated, fixed, naive, ours, rival, rolling


def runs(seed: int, count: int, rows: int = 500) -> np.ndarray:
    """Positive, skewed scores [runs, rows, 1], as distances are."""
    return np.random.default_rng(seed).gamma(9.0, size=(count, rows, 1))


@functools.cache
def known() -> Known:
    return calibrated(list(runs(0, 20)), 1.0)


@functools.cache
def scores() -> Scores:
    faults = np.swapaxes(runs(3, 6, 960), 0, 1).copy()
    faults[160:] += 16.0
    return Scores(runs(1, 10), runs(2, 15, 960), faults)


def test_the_monitors_own_stage_keeps_nu_and_leaves_a_doubled_score_open_where_rolling_limits_learn_it() -> (
    None
):
    mine = scenarios(ours, known(), scores(), 3, 0)
    learnt = scenarios(lambda k, raw: rival(rolling, k, raw), known(), scores(), 3, 0)
    still = scenarios(lambda k, raw: rival(fixed, k, raw), known(), scores(), 3, 0)
    assert 0.5 * NU < mine["control"] < 1.6 * NU
    assert mine["step x1.2"] < 2 * NU < still["step x1.2"]
    assert mine["open x3"] == 1.0
    assert learnt["open x3"] < 1.0
    assert learnt["recall"] < still["recall"] - 0.3
    assert mine["recall"] > still["recall"] - 0.05


def test_a_naive_re_estimation_learns_a_standing_fault() -> None:
    from river import drift

    raw = np.concatenate([runs(4, 1, 2000)[0], 4.0 * runs(5, 1, 4000)[0]])[:, None, :]
    course = rival(naive(drift.ADWIN), known(), raw)
    assert course.over[2000:2200].mean() > 0.9
    assert course.over[4000:].mean() < 0.05
    assert ours(known(), raw).over[4000:].mean() > 0.9


@pytest.mark.parametrize("how", ["declared", "approved"])
def test_a_decided_step_is_measured_behind_settle(how: str) -> None:
    found = decided(known(), scores(), 3.0, 3, how, 0)
    assert found["streams"] == 1.0
    assert found["rows"] <= SETTLE
    assert 0.0 < found["rate"] < 1.6 * NU
    assert found["worst"] >= found["rate"]


def test_a_planted_drift_is_found_and_normal_channels_are_not() -> None:
    rng = np.random.default_rng(6)
    fit, calibration, normal = (rng.normal(size=(n, 960, 4)) for n in (5, 5, 15))
    slopes = slow_drifts.found(fit, calibration, normal, range(4), 2)
    assert slopes[0][0] == 0.0
    assert all(slopes[rows][0] == 1.0 for rows in slow_drifts.SLOPES)
    assert slow_drifts.found(fit, calibration, normal + 2.0, range(4), 1)[0][0] == 1.0


def test_figures_of_seeds_become_mean_and_deviation() -> None:
    assert spread([{"a": 1.0, "b": np.nan}, {"a": 3.0, "b": 2.0}]) == {"a": (2.0, 1.0), "b": (2.0, 0.0)}
