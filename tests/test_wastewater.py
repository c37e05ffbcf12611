"""The wastewater series: what is fixed about them, and what holds without the package that simulates the plant."""

from __future__ import annotations

import sys
from types import SimpleNamespace

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


class StandIn(SimpleNamespace):
    """A plant that only notes what it is when it is asked to go on."""

    def __init__(self) -> None:
        water = np.ones(21)
        super().__init__(
            settler=SimpleNamespace(sedpar=np.full(7, 100.0), q_w=385.0, q_r=18446.0),
            sludge_height=0.5,
            seen=[],
            **{f"reactor{n}": SimpleNamespace(asm1par=np.full(24, 0.5)) for n in range(1, 6)},
            **{f"y_out{n}": water for n in range(1, 6)},
            ys_eff=water,
        )

    def step(self, _: int) -> None:
        settler = self.settler
        growth = {float(one.asm1par[5]) for one in wastewater._reactors(self)}
        self.seen.append((*growth, settler.sedpar[0], settler.sedpar[2], settler.q_w, settler.q_r))


@pytest.mark.parametrize(
    ("fault", "damaged"),
    [
        ("toxic_inflow", (0.3, 100.0, 100.0, 385.0, 18446.0)),
        ("bulking", (0.5, 60.0, 100.0, 385.0, 18446.0)),
        ("waste_pump", (0.5, 100.0, 100.0, 0.0, 18446.0)),
        ("return_pump", (0.5, 100.0, 100.0, 385.0, 18446.0 * 0.7)),
    ],
)
def test_a_fault_begins_at_its_row_and_ends_with_its_run(fault, damaged):
    plant, inflow = StandIn(), np.ones((1344, 21))
    clean = wastewater._clean(plant)
    whole = (0.5, 100.0, 100.0, 385.0, 18446.0)
    readings = wastewater.run(plant, clean, inflow, wastewater.Plan("a", 1, 4, fault))
    assert readings.shape == (4 * 96, len(wastewater.SENSORS))
    begin = (2 * 96 + wastewater.FAULT_ROW) * 15
    assert set(plant.seen[:begin]) == {whole}
    assert [pytest.approx(one) for one in sorted(set(plant.seen[begin:]))] == [damaged]
    plant.seen.clear()
    wastewater.run(plant, clean, inflow, wastewater.Plan("b", 2, 4, ""))
    assert set(plant.seen) == {whole}
