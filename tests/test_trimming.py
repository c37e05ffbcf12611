"""`scoring.trim`: what of a history is unlike the rest is found, left out up to a share, and told with its reason."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from monitor.configuration import parse
from monitor.model import Grouping
from monitor.quantities import iso_time
from monitor.report.trimming import trimming_section, trimming_text
from monitor.settings import AssetClass
from monitor.training import Trained, train
from monitor.training.history import FIT, Rows, collect, scaled, windows_of
from monitor.training.trimming import Trimming, trim
from tests.synthetic import data_folder, tennessee
from tests.worlds import SECOND, START, autoregressive, batch_of, configuration_text

SENSORS, LENGTH, ROWS = 4, 8, 1500


def settings_of(share: float, sensors: int = SENSORS) -> AssetClass:
    text = configuration_text(sensors, LENGTH, f"{{pca: {{}}}}, trim: {share}")
    if sensors != SENSORS:  # real readings; of ours a range so wide would be the floor of the scaling
        text = text.replace("[-1000, 1000]", "[-1000000, 1000000]")
    return parse(text, Path("world.yaml")).settings.asset_classes["unit"]


def broken(seed: int = 1) -> np.ndarray:
    """Rows 600 to 659 in which sensor 2 no longer goes with the others, by no more than it normally moves."""
    values = autoregressive(seed, ROWS, SENSORS)
    values[600:660, 2] += 8.0
    return values


def trimmed(values: np.ndarray, share: float) -> tuple[Rows, Trimming]:
    asset_class = settings_of(share, values.shape[1])
    rows, found = trim(asset_class, collect(asset_class, [batch_of({"plant/a": values})]))
    assert found is not None
    return rows, found


@cache
def learnt(share: float) -> Trained:
    return train(settings_of(share), "unit", [batch_of({"plant/a": broken()})], config_hash="c")


def test_a_fault_in_the_history_is_left_out_with_its_time_and_its_sensor() -> None:
    rows, found = trimmed(broken(), 0.1)
    (stretch,) = found.stretches
    assert stretch.asset == "plant/a"
    assert stretch.sensor == "s2"
    assert stretch.sigma > 3.0
    assert stretch.score > 1.0
    assert iso_time(START + 580 * SECOND) <= stretch.start <= iso_time(START + 600 * SECOND)
    assert iso_time(START + 659 * SECOND) <= stretch.end <= iso_time(START + 680 * SECOND)
    assert found.contamination == pytest.approx(60 / ROWS, abs=0.015)
    assert found.left_out == stretch.rows == found.rows - len(rows.slots.row)
    assert not found.capped
    assert f"s2, {stretch.sigma:+.1f} standard deviations" in stretch.reason


@pytest.mark.parametrize("seed", range(4))
def test_of_a_clean_history_nothing_is_left_out(seed: int) -> None:
    rows, found = trimmed(autoregressive(seed, ROWS, SENSORS), 0.1)
    assert (found.left_out, found.contamination, found.stretches) == (0, 0.0, ())
    assert len(rows.slots.row) == found.rows


def test_never_more_is_left_out_than_asked_and_that_is_said() -> None:
    _, found = trimmed(broken(), 0.01)
    assert found.capped
    assert found.contamination > 0.03
    assert found.left_out <= 0.01 * ROWS + 11, "the worst, and the few rows before them"
    assert "`scoring.trim` lets only 1.0% be left out" in learnt(0.01).warnings[-1]


def test_no_window_reaches_across_what_was_left_out() -> None:
    asset_class = settings_of(0.1)
    rows, found = trimmed(broken(), 0.1)
    part = np.full(len(rows.slots.row), FIT, np.int8)
    normal = scaled(asset_class, rows, Grouping(None), part)[0]
    closing = np.concatenate([chunk.closing for chunk in windows_of(asset_class, rows, normal)])
    ends = (rows.slots.end[closing] - START) // SECOND
    (stretch,) = found.stretches
    last = 599 - (stretch.rows - (found.rows - len(part)))
    gap = int(np.flatnonzero(np.diff(rows.slots.slot) > 1)[0])
    behind = int((rows.slots.end[gap + 1] - START) // SECOND)
    assert last <= 599
    assert not ((ends >= behind) & (ends < behind + LENGTH - 1)).any(), (
        "the first window is whole behind the gap"
    )
    assert (ends == behind + LENGTH - 1).any()


def test_without_the_setting_the_history_is_the_very_same() -> None:
    asset_class = settings_of(0.0)
    rows = collect(asset_class, [batch_of({"plant/a": broken()})])
    assert trim(asset_class, rows) == (rows, None)
    assert learnt(0.0).trimming is None
    assert "trimmed" not in learnt(0.0).bundle.fields


def test_what_was_left_out_is_in_the_bundle_the_text_and_the_page() -> None:
    trained = learnt(0.1)
    assert trained.trimming is not None
    (stretch,) = trained.trimming.stretches
    assert trained.bundle.fields["trimmed"]["stretches"][0]["start"] == stretch.start
    text, page = "\n".join(trimming_text(trained.trimming)), str(trimming_section(trained.trimming))
    for shown in (text, page):
        assert stretch.start in shown
        assert "s2" in shown
    assert stretch.reason in text
    assert "lower bound" in page
    assert trimming_section(None) == ""


def test_a_fault_that_was_left_out_is_not_learnt_as_normal() -> None:
    spread = {share: float(learnt(share).bundle.scaling.std[2]) for share in (0.0, 0.1)}
    clean = float(np.std(autoregressive(1, ROWS, SENSORS)[:, 2]))
    assert abs(spread[0.1] - clean) < 0.5 * abs(spread[0.0] - clean)


def test_faults_of_the_tennessee_eastman_process_are_found_in_a_history_and_normal_runs_are_left() -> None:
    folder = data_folder("tep")
    normal = tennessee(folder, "d00")
    faulty = tennessee(folder, "d04_te")[400:440]
    joined = np.concatenate([normal[:300], faulty, normal[300:]])
    _, found = trimmed(joined, 0.2)
    inside = [one for one in found.stretches if one.start < iso_time(START + 340 * SECOND)]
    assert sum(one.rows for one in inside) >= 35
    assert found.left_out <= 40 + 25, "and hardly any of the normal rows"
    _, clean = trimmed(normal, 0.2)
    assert clean.left_out <= 0.01 * len(normal)
