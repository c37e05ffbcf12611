"""Budgets in false incidents: counting by the rules of `Incidents`, the nu that a budget comes to, and what is told."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monitor.alerting.counting import evidence_clock, raised
from monitor.alerting.incidents import EventName, Incidents, Kind, Track
from monitor.configuration import parse
from monitor.errors import ConfigurationError
from monitor.model import check_fit
from monitor.report.budget import budget_section, budget_text
from monitor.settings import AssetClass
from monitor.thresholds.adaptation import Adaptation
from monitor.thresholds.collection import Collected
from monitor.thresholds.judgement import Judgement
from monitor.thresholds.threshold import nu_quantile
from monitor.thresholds.versions import Scale
from monitor.training.budget import Calm, converted
from tests.worlds import START, World, alerts, autoregressive, batch_of, configuration_text, pick, run, world

HOUR = 3600 * 10**9
S = 10**9


def counted(letters: str, on: int = 0, off: int = 0, asset: str = "") -> list[int]:
    """Where raised incidents began: O over, - in the deadband, . under; a window a second."""
    row = np.array([int(a) for a in asset or "0" * len(letters)])
    clock = evidence_clock(row, np.arange(len(letters)) * S, S)
    over, under = (np.array([letter == mark for letter in letters]) for mark in "O.")
    return raised(row, clock, over, under, on * S, off * S).tolist()


def test_incidents_are_counted_by_on_delay_off_delay_and_deadband() -> None:
    assert counted("O.O.O") == [0, 2, 4]
    assert counted("O-O.O") == [0, 4]
    assert counted("O.OO.OOO.", on=1) == [2, 5]
    assert counted("O.O..O...O", off=1) == [0, 5, 9]
    assert counted("O.-.O", off=1) == [0]
    assert counted("OOOO.", asset="00110") == [0, 2], "what is open in one asset is not open in the next"
    assert counted("....") == []


windows = st.lists(st.tuples(st.sampled_from("O-.?"), st.integers(1, 3)), min_size=1, max_size=40)


@example([("O", 1), ("?", 2), ("O", 1)], 2, 0)
@example([("O", 1), (".", 1), ("?", 2), (".", 1), ("O", 1)], 0, 2)
@given(windows, st.integers(0, 4), st.integers(0, 4))
def test_counting_equals_the_life_of_incidents_where_unscored_windows_hold_delays(
    made: list[tuple[str, int]], on: int, off: int
) -> None:
    """'?' is an unscored window; live sees it, calibration windows lack it. Each stands for 1 to 3 in a row."""
    letters = np.array(list("".join(letter * many for letter, many in made)))
    end = np.arange(len(letters)) * S
    incidents = Incidents([Track(Kind.ANOMALY, "", on * S, off * S, None)])
    incidents.grow(1)
    over, under, known = (np.array(x)[:, None] for x in (letters == "O", letters == ".", letters != "?"))
    events = incidents.run(0, end, over, under, known, np.ones((len(end), 1)))
    lived = [event.start_ns for event in events if event.event is EventName.RAISED]
    kept = letters != "?"
    row = np.zeros(np.count_nonzero(kept), np.int32)
    clock = evidence_clock(row, end[kept], S)
    began = raised(row, clock, over[kept, 0], under[kept, 0], on * S, off * S)
    assert end[kept][began].tolist() == lived


# -- the nu that a budget comes to -----------------------------------------------------------------------------


def hourly(alerting: str, budget: float = 1.0) -> AssetClass:
    text = configuration_text(2, 4, "{pca: {}}", f"    alerting: {{{alerting}}}")
    text = text.replace("enough: 1}", f"enough: 16, budget: {budget}}}").replace(
        "sampling: 1s", "sampling: 1h"
    )
    return parse(text, Path("world.yaml")).settings.asset_classes["unit"]


def sixteen_weeks(gap: int = 20) -> Calm:
    """Two assets of 8 weeks, hour by hour, with 40 peaks of 3 h each, ``gap`` hours apart within a pair."""
    value = np.random.default_rng(1).random((2, 8 * 168))
    for number, height in enumerate(np.random.default_rng(2).permutation(20)):
        for asset in (0, 1):
            for begin in (number * 64, number * 64 + 3 + gap):
                value[asset, begin : begin + 3] = 10.0 + 2 * height + asset
    end = START + np.tile(np.arange(8 * 168) * HOUR, 2)
    return Calm(np.repeat([0, 1], 8 * 168).astype(np.int32), end, value.ravel(), share=0.2)


@pytest.mark.parametrize(
    ("alerting", "gap", "peaks_over"),
    [
        ("off_delay: 0s", 20, 16),
        ("off_delay: 2h", 2, 32),  # a pair's peaks are 2 h under apart, which spans 1 h: one incident
        ("off_delay: 1h", 2, 16),
        ("on_delay: 2h, off_delay: 0s", 20, 16),
    ],
)
def test_the_limit_is_the_smallest_that_keeps_the_budget(alerting: str, gap: int, peaks_over: int) -> None:
    calm = sixteen_weeks(gap)
    budget = converted(hourly(alerting), calm)
    assert budget is not None
    assert budget.supported
    assert (budget.asset_days, budget.allowed, budget.incidents, budget.per_week) == (112.0, 16.0, 16, 1.0)
    limit = nu_quantile(calm.value, budget.nu)
    assert np.count_nonzero(calm.value > limit) == 3 * peaks_over
    lower = nu_quantile(calm.value, budget.nu + 1 / (len(calm.value) + 1))
    assert lower < limit, "the next order statistic is the next peak's, and breaks the budget"


def test_peaks_shorter_than_the_on_delay_cost_nothing() -> None:
    budget = converted(hourly("on_delay: 150min, off_delay: 0s"), sixteen_weeks())
    assert budget is not None
    assert budget.nu == pytest.approx(0.1, abs=0.001), "it goes no further down than a tenth of the windows"
    assert budget.nu * 2688 > 2 * 40 * 3, "so all 80 peaks are over the limit"
    assert budget.incidents < 16


def test_a_budget_too_small_for_the_data_falls_back_to_nu_and_names_the_days() -> None:
    calm = sixteen_weeks()
    asset_class = hourly("off_delay: 0s", budget=0.8)
    budget = converted(asset_class, calm)
    assert budget is not None
    assert not budget.supported
    assert budget.nu == asset_class.calibration.nu == 0.05
    assert budget.allowed == pytest.approx(12.8)
    # 16 / .8 = 20 asset weeks, 4 more; a fifth of the history of 2 assets is calibration
    assert budget.missing_days == pytest.approx(4 * 7 / 0.2 / 2)
    over = np.count_nonzero(calm.value > nu_quantile(calm.value, 0.05))
    assert budget.incidents == -(-over // 3), "what the fallback's limit gives is told too"
    for told in (" ".join(budget_text(budget)), str(budget_section(budget))):
        for words in ("about 70 more days", "UNCALIBRATED", "that of nu 0.05"):
            assert words in told


def test_without_a_budget_there_is_nothing_to_convert_or_tell() -> None:
    text = configuration_text(2, 4, "{pca: {}}")
    none = parse(text, Path("world.yaml")).settings.asset_classes["unit"]
    assert converted(none, sixteen_weeks()) is None
    assert str(budget_section(None)) == ""


# -- the whole way ---------------------------------------------------------------------------------------------


def seconds(budget: float, on_delay: int = 1) -> str:
    still = "    drift: {detector: none, tracking: {enabled: false}}\n"
    delays = f"    alerting: {{on_delay: {on_delay}s, off_delay: 5s}}"
    text = configuration_text(3, 10, "{pca: {}, var: {}}", still + delays)
    return text.replace("enough: 1}", f"enough: 4, method: holdout, budget: {budget}}}")


def trained(budget: float) -> World:
    return world(seconds(budget), [HISTORY])


HISTORY = batch_of({f"plant/{n}": autoregressive(5 + n, 1500, 3, 0.6) for n in range(2)})


def test_the_calibration_windows_run_live_raise_the_very_incidents_that_the_budget_counted() -> None:
    w = trained(budget=10_000)
    budget = w.trained.budget
    assert budget is not None
    assert budget.supported
    assert 4 <= budget.incidents <= budget.allowed
    everything, *assets = w.trained.realised
    assert (everything.incidents, everything.per_week) == (budget.incidents, pytest.approx(budget.per_week))
    assert [row.name for row in assets] == ["plant/0", "plant/1"]
    assert sum(row.incidents for row in assets) == budget.incidents
    assert everything.windows == len(w.trained.limit_ratios)
    assert everything.ratio == pytest.approx(1.0, abs=0.05)
    assert w.trained.estimate.nu == w.model.nu == budget.nu != w.asset_class.calibration.nu
    first = (w.trained.estimate.start_ns - START) // S - 9
    pipeline = w.pipeline()
    records, trace = run(pipeline, pick(HISTORY, slice(2 * first, None)), cuts=(100, 101))
    told = [msgspec.json.decode(record.value or b"") for record in alerts(records)]
    lived = [event["data"] for event in told if event["data"]["event"] == "RAISED"]
    assert len(lived) == budget.incidents
    assert [data["score"]["nu"] for data in lived] == pytest.approx([budget.nu] * len(lived), rel=1e-5)
    assert np.count_nonzero(trace.ratio > 1.0) == round(budget.nu * (len(w.trained.limit_ratios) + 1)) - 1


def test_limits_of_a_budget_fit_only_the_delays_that_they_were_counted_with() -> None:
    w = trained(budget=10_000)
    check_fit(w.trained.bundle, w.asset_class, "unit")
    for text, what in ((seconds(9_000), "calibration.budget"), (seconds(10_000, 2), "alerting.on_delay")):
        other = parse(text, Path("world.yaml")).settings.asset_classes["unit"]
        with pytest.raises(ConfigurationError, match=what):
            check_fit(w.trained.bundle, other, "unit")


def test_an_unsupported_budget_leaves_the_threshold_uncalibrated_at_nu() -> None:
    w = trained(budget=1)
    assert (w.trained.estimate.label, w.trained.estimate.enough, w.model.nu) == ("UNCALIBRATED", False, 0.05)
    (warning,) = [text for text in w.trained.warnings if text.startswith("UNCALIBRATED")]
    assert "more days of history of every asset are missing" in warning
    assert w.trained.bundle.fields["budget"]["supported"] is False


def test_re_estimation_keeps_the_nu_of_the_budget_and_scorers_that_of_the_configuration() -> None:
    asset_class = hourly("off_delay: 0s")
    adaptation = Adaptation(("a",), Scale(0.0, 1.0, 1.0, nu=0.02), asset_class)
    adaptation.grow(1)
    assert adaptation.versions.current(0).version.nu == 0.02
    u = np.random.default_rng(3).random((900, 1)).astype(np.float32)
    collected = Collected(u, np.arange(900) == 0, START)
    judgement = Judgement(("a",), "any", 1.0, asset_class.drift, asset_class.calibration, 0.02)
    refitted = judgement.refitted(0, collected, adaptation.versions, START)
    assert refitted.scales.limit == (nu_quantile(u[:300, 0], 0.05),)
    assert refitted.estimate.nu == 0.02
    assert refitted.estimate.threshold == nu_quantile(u[300:, 0], 0.02)
