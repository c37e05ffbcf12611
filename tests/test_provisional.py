"""After a declared or approved change the asked rate is back within `settle`, under a limit from few scores."""

import functools

import numpy as np
import pytest

from monitor.quantities import Duration
from monitor.settings import Tracking
from monitor.thresholds.adaptation import Adaptation
from monitor.thresholds.adaptation_events import (
    AwaitingApproval,
    Command,
    Refused,
    ThresholdVersion,
    VersionSet,
)
from monitor.thresholds.provisional import LEVELS, Line, deciles, line, raised
from monitor.thresholds.threshold import ThresholdRefused
from tests.score_streams import SCORERS, START, Calibrated, S, Watch, asset_class, calibrated, raw_scores

NU = 0.02
SETTLE = 600


@functools.cache
def known() -> Calibrated:
    found = calibrated(NU)
    return found._replace(scale=found.scale._replace(deciles=np.stack([deciles(c) for c in found.sorted.T])))


def watch(assets: int = 8, **drift) -> Watch:
    given = {"detector": "none", "settle": Duration(SETTLE * S), "tracking": Tracking()} | drift
    return Watch(asset_class(NU, **given), known(), assets)


def scores(seed: int, windows: int, times: float = 1.0, assets: int = 8) -> np.ndarray:
    return times * raw_scores(np.random.default_rng(seed), windows, assets)


def versions(trail, row: int = 0) -> list[tuple[int, ThresholdVersion]]:
    """Versions of one asset that tracking did not make, with their windows."""
    told = ((window, event) for window, event in trail.of(VersionSet) if event.row == row)
    return [(window, event.version) for window, event in told if event.version.trigger != "tracking"]


# ---- by hand


def test_a_line_through_deciles_is_found_whatever_the_tail_does() -> None:
    x = np.random.default_rng(0).gamma(2.0, size=10_000)
    moved = 3.0 + 2.0 * x
    moved[x > np.quantile(x, 0.95)] = 1e6
    found = line(deciles(x), deciles(moved))
    assert found == pytest.approx((3.0, 2.0))
    assert found.of(1.0) == pytest.approx(5.0)


def test_a_line_lies_one_standard_error_higher_in_location_and_scale() -> None:
    gaussian = np.array([-1.2816, -0.8416, -0.5244, -0.2533, 0.0, 0.2533, 0.5244, 0.8416, 1.2816])
    assert len(LEVELS) == len(gaussian)
    found = raised(Line(5.0, 2.0), gaussian, 50.0, 1.0)
    assert found == pytest.approx((5.0 + 2.0 / np.sqrt(50), 2.0 * 1.1), rel=1e-3)


@pytest.mark.parametrize("values", [np.zeros(100), -np.arange(100.0)], ids=["constant", "constant reference"])
def test_scores_that_hardly_differ_give_no_line(values: np.ndarray) -> None:
    other = np.arange(100.0) if not values.any() else np.zeros(100)
    with pytest.raises(ThresholdRefused, match="hardly differ"):
        line(deciles(other), deciles(values))


# ---- streams


@pytest.mark.parametrize("times", [2.0, 3.0])
def test_a_declared_step_has_the_asked_rate_back_when_settle_has_passed(times: float) -> None:
    w = watch()
    w.run(scores(1, 1000))
    before = w.run(scores(2, SETTLE, times), declared_at=[0])
    after = w.run(scores(3, 1500, times))
    assert (before.final[:300] > 1).mean() > 0.4
    assert 0.1 * NU < (after.final > 1).mean() < 1.6 * NU
    ((window, version),) = versions(before)
    assert SETTLE // 2 + SETTLE * 3 // 8 <= window < SETTLE
    assert (version.label, version.trigger, version.approved_by) == ("PROVISIONAL", "declared", "rule")
    assert (version.low, version.high) == (None, None)
    assert version.start_ns == w.end_ns - (SETTLE + 1500 - SETTLE // 2 - 1) * S


def test_the_regular_version_follows_and_a_rollback_goes_behind_both() -> None:
    w = watch(1, samples=2000)
    w.run(scores(1, 1000, assets=1))
    both = versions(w.run(scores(2, 4000, 3.0, 1), declared_at=[0]))
    assert [version.label for _, version in both] == ["PROVISIONAL", "UNCALIBRATED"]
    assert both[1][1].start_ns > START + (1000 + SETTLE) * S
    (event,) = w.adaptation.command(0, Command("rollback", "R. Shift", START))
    assert event.version.label in {"TRAINED", "TRACKED"}


def test_an_approved_step_has_the_asked_rate_back_within_settle_of_the_approval() -> None:
    w = watch()
    w.run(scores(1, 1000))
    fault = w.run(scores(2, 1000, 3.0))
    assert len(fault.of(AwaitingApproval)) == 8
    for row in range(8):
        w.adaptation.command(row, Command("approve", "R. Shift", START))
    settled = w.run(scores(3, SETTLE, 3.0))
    ((window, version),) = versions(settled)
    assert window < SETTLE // 2
    assert (version.label, version.trigger, version.approved_by) == ("PROVISIONAL", "approved", "R. Shift")
    assert 0.1 * NU < (w.run(scores(4, 1500, 3.0)).final > 1).mean() < 1.6 * NU


def test_a_declared_change_that_moves_nothing_sets_nothing() -> None:
    w = watch()
    w.run(scores(1, 1000))
    trail = w.run(scores(2, 2 * SETTLE), declared_at=[0])
    assert all(versions(trail, row) == [] for row in range(8))
    assert {w.adaptation.state(row) for row in range(8)} == {"STABLE"}


def test_in_approve_mode_a_declared_change_sets_no_limit() -> None:
    w = watch(1, re_estimate="approve")
    w.run(scores(1, 1000, assets=1))
    assert versions(w.run(scores(2, 2 * SETTLE, 2.0, 1), declared_at=[0])) == []


def test_a_declared_step_beyond_max_declared_gets_no_provisional_limit() -> None:
    w = watch(1, max_declared=1.5)
    w.run(scores(1, 1000, assets=1))
    trail = w.run(scores(2, SETTLE, 3.0, 1), declared_at=[0])
    assert versions(trail) == []
    ((_, refused),) = trail.of(Refused)
    assert "beyond 1.5" in refused.why


def test_a_snapshot_and_restore_anywhere_in_between_changes_nothing() -> None:
    raw = np.concatenate([scores(1, 200, assets=2), scores(2, SETTLE + 100, 2.0, 2)])
    whole, cut = watch(2), watch(2)
    one, parts = whole.run(raw, declared_at=[200]), []
    for low in range(0, len(raw), 90):
        parts.append(cut.run(raw[low : low + 90], declared_at=[200 - low]))
        rows = [cut.adaptation.dump(row) for row in range(2)]
        cut.adaptation = Adaptation(SCORERS, cut.known.scale, cut.settings)
        cut.adaptation.grow(2)
        for row, state in enumerate(rows):
            cut.adaptation.load(row, state)
    assert versions(one)
    np.testing.assert_array_equal(np.concatenate([part.final for part in parts]), one.final)
