"""The benchmark of limits from few rows: its forms by hand, and that the shipped form is the shipped one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.detection import few_rows
from benchmarks.detection.contract import Request
from benchmarks.detection.data import Split
from benchmarks.detection.few_rows import Task, exponential, realise
from monitor.errors import UsageError
from monitor.thresholds.threshold import nu_quantile


def test_the_exponential_form_by_hand():
    ratios = np.arange(1.0, 101.0)
    start = 1 + 0.85 * 99  # NumPy's quantile: 85.15
    mean = np.mean(np.arange(86, 101)) - start
    assert exponential(ratios, 0.01, 9.0) == pytest.approx(mean * math.log(0.1 / 0.01))
    assert exponential(ratios, 0.01, 99.0) == pytest.approx(0.0, abs=1e-12)
    assert exponential(ratios, 0.01, 500.0) == 0.0


def test_a_simulated_process_is_judged_on_the_rows_behind_those_that_taught():
    model = few_rows._model(Task("tanks", 400, 1, 2, None))
    (series,) = model.learn
    assert model.judge == (series,)
    assert (series.split[:400] == Split.TRAIN).all()
    assert (series.split[400:] == Split.TEST).all()
    assert len(series.time) == 2400
    other = few_rows._model(Task("tanks", 400, 0, 2, None)).learn[0]
    assert not np.array_equal(series.values, other.values)


def test_the_predictive_form_is_the_limit_of_the_trained_monitor_and_the_test_rows_are_counted_over_each(
    monkeypatch,
):
    seen = {}

    def watched(settings, trained):
        limits, independent = original(settings, trained)
        seen.update(limits=limits, trained=trained, independent=independent)
        return limits, independent

    original = few_rows._limits
    monkeypatch.setattr(few_rows, "_limits", watched)
    found = realise(Task("tanks", 400, 0, 2, None))
    order, by_known_mean, predictive = seen["limits"]
    trained = seen["trained"]
    assert predictive == pytest.approx(trained.estimate.threshold, rel=1e-9)
    span = trained.estimate.threshold - trained.estimate.median
    ratios = trained.estimate.median + trained.limit_ratios * span
    assert order == pytest.approx(nu_quantile(ratios, 0.01), rel=1e-9)
    assert order < by_known_mean
    assert order < predictive
    assert sum(trained.limit_runs) == len(trained.limit_ratios)
    assert 1.0 < seen["independent"] < len(ratios)
    assert found.refused is None
    assert all(share * 2000 == pytest.approx(round(share * 2000)) for share in found.over)
    assert found.over[0] >= max(found.over[1:])


def test_a_table_tells_mean_median_and_what_was_refused(monkeypatch):
    def told(task: Task) -> few_rows.Realised:
        if task.rows == 1000:
            return few_rows.Realised(task.dataset, task.rows, (), math.nan, "too few")
        return few_rows.Realised(
            task.dataset, task.rows, (0.01 * task.number, 0.02, 0.03), 10.0 + task.number
        )

    monkeypatch.setattr(few_rows, "realise", told)
    section = few_rows.few_rows(Request(datasets=("tanks",)))
    rows = {row[0]: row[1:] for row in section.tables[0].rows}
    shares = [0.01 * n for n in range(few_rows.SEEDS)]
    error = np.std(shares, ddof=1) / math.sqrt(len(shares))
    assert rows["tanks, 400 rows"][:2] == (f"{np.mean(shares):.4f} ± {error:.4f}", f"{np.median(shares):.4f}")
    assert rows["tanks, 1000 rows"][0] == "refused"
    assert section.notes == ("tanks, 1000 rows: refused: too few",)


def test_an_unknown_data_set_is_an_error():
    with pytest.raises(UsageError, match="got 'skab', section few_rows has reactor, tanks, tep"):
        few_rows.few_rows(Request(datasets=("skab",)))
