"""Figures of scores and alarms, against TSB-AD's own values and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.evaluation.ranking import (
    Confusion,
    before_and_after,
    buffer_length,
    confusion,
    detection_delay,
    pooled,
    pr_auc,
    roc_auc,
    volume_under_surface,
)

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "tsb_ad_vectors.json").read_text())


def rows(text: str) -> np.ndarray:
    """'0110' as booleans."""
    return np.array([letter == "1" for letter in text], bool)


def named(cases: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in cases]


@pytest.mark.parametrize("case", named(VECTORS["cases"]))
def test_areas_and_volumes_are_those_of_tsb_ad(case):
    truth, score = rows(case["label"]), np.array(case["score"])
    volume = volume_under_surface(truth, score, case["window"])
    got = (*volume, roc_auc(truth, score), pr_auc(truth, score))
    wanted = (case["vus_roc"], case["vus_pr"], case["auc_roc"], case["auc_pr"])
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", named(VECTORS["buffers"]))
def test_the_buffer_length_is_that_of_tsb_ad(case):
    assert buffer_length(np.array(case["values"])) == case["length"]


@pytest.mark.parametrize("values", [np.zeros(300), np.full(300, 1e9), np.array([1.0]), np.full(50, np.nan)])
def test_a_channel_without_a_period_gets_the_default_buffer(values):
    assert buffer_length(values) == 125


@pytest.mark.parametrize("truth", [np.zeros(20, bool), np.ones(20, bool)])
def test_rows_of_one_kind_have_no_areas(truth):
    score = np.arange(20.0)
    assert (roc_auc(truth, score), pr_auc(truth, score), volume_under_surface(truth, score, 5)) == (None,) * 3


def test_an_alarm_on_every_row_is_worth_chance():
    truth = rows("0" * 50 + "1" * 50)
    always = confusion(truth, np.ones(100, bool))
    assert (always.false_alarm_rate, always.missed_alarm_rate, always.detection_rate) == (1.0, 0.0, 1.0)
    assert always.f1 == pytest.approx(2 / 3)
    assert roc_auc(truth, np.ones(100)) == 0.5


def test_one_hit_does_not_count_for_a_whole_fault():
    found = confusion(rows("0001111"), rows("0000100"))
    assert found == Confusion(1, 0, 3, 3)
    assert (found.f1, found.missed_alarm_rate, found.false_alarm_rate) == (0.4, 0.75, 0.0)


def test_rates_without_rows_cannot_be_said():
    assert confusion(rows(""), rows("")).f1 is None
    assert confusion(rows("11"), rows("10")).false_alarm_rate is None
    assert confusion(rows("00"), rows("00")).missed_alarm_rate is None


def test_counts_of_several_series_add_up():
    assert pooled([Confusion(1, 2, 3, 4), Confusion(10, 20, 30, 40)]) == Confusion(11, 22, 33, 44)
    assert pooled([]) == Confusion(0, 0, 0, 0)


def test_normal_rows_before_the_fault_and_after_it_are_apart():
    before, after = before_and_after(rows("0011001"))
    assert (before == rows("1100000")).all()
    assert (after == rows("0000110")).all()
    assert before_and_after(rows("000"))[0].all()


@pytest.mark.parametrize(
    ("alarm", "start", "delay"),
    [
        ("000111", 3, 2),
        ("000010111", 3, 5),
        ("011110", 3, None),  # two of the fault's rows alarm, and those before it do not count
        ("0110110", 0, None),
        ("111", 0, 2),
        ("11", 0, None),
    ],
)
def test_a_fault_is_detected_at_the_third_of_three_alarms_in_a_row(alarm, start, delay):
    assert detection_delay(rows(alarm), start) == delay
