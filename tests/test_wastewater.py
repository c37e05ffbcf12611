"""The wastewater series: what is fixed about them, and what holds without the package that simulates the plant."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks.detection import wastewater
from benchmarks.detection.csv_folder import csv_folder
from benchmarks.detection.data import Split


def test_without_its_package_the_script_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bsm2_python", None)
    with pytest.raises(SystemExit, match="pip install bsm2-python"):
        wastewater.main(tmp_path)
    assert not list(tmp_path.iterdir())


def test_its_folder_is_read_as_one_model_that_judges_all_other_runs(tmp_path):
    rng = np.random.default_rng(1)
    for plan in wastewater.plans():
        wastewater.write(tmp_path, plan, rng.normal(5, 1, (plan.days * 96, len(wastewater.SENSORS))))
    (model,) = csv_folder(tmp_path).models
    assert model.sensors == wastewater.SENSORS
    (train,) = model.learn
    assert len(train.time) == 2016
    assert (train.split == Split.TRAIN).all()
    assert np.diff(train.time).tolist() == [15 * 60 * 10**9] * 2015
    judged = {one.name: one for one in model.judge if one.name != "train"}
    assert len(judged) == 10 + len(wastewater.FAULTS)
    assert all(not one.truth.any() for name, one in judged.items() if name.startswith("normal"))
    for fault in wastewater.FAULTS:
        assert np.flatnonzero(judged[fault].truth).tolist() == list(range(288, 672))


def test_each_run_has_a_seed_of_its_own():
    seeds = [plan.seed for plan in wastewater.plans()]
    assert len(set(seeds)) == len(seeds)


def test_its_controller_takes_a_steady_error_away_and_does_not_wind_up():
    loop = wastewater._Loop(gain=2.0, time=0.01, rest=10.0, most=50.0)
    level = 0.0
    for _ in range(2000):
        level += 0.2 * (loop.asked(3.0 - level) / 10.0 - level)  # a drive that gives a tenth of what is asked
    assert level == pytest.approx(3.0, abs=1e-3)
    for _ in range(1000):
        assert loop.asked(100.0) == 50.0
    assert loop.asked(-1.0) < 50.0
