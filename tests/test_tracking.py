"""Between drifts the limit follows the scores, but never a fault: gate, cap, versions."""

import functools

import numpy as np
import pytest

from monitor.settings import Tracking as Settings
from monitor.thresholds.adaptation import Adaptation
from monitor.thresholds.adaptation_events import AwaitingApproval, Command, VersionSet
from monitor.thresholds.tracking import Gate, Tracking
from tests.score_streams import SCORERS, START, Watch, asset_class, calibrated, raw_scores

NU = 0.02
known = functools.cache(calibrated)


def watch(assets: int = 4, **tracking) -> Watch:
    settings = asset_class(NU, detector="none", tracking=Settings(**tracking))
    return Watch(settings, known(), assets)


def scores(seed: int, windows: int, assets: int = 4, times: float = 1.0) -> np.ndarray:
    """Raw scores times a factor."""
    return times * raw_scores(np.random.default_rng(seed), windows, assets)


def limit(w: Watch) -> np.ndarray:
    return w.adaptation.limits(w.rows)[1]


def gates(w: Watch) -> set[str]:
    return {Gate(int(code)).name for code in w.adaptation.gates(w.rows)}


def stepped(over: list[bool], **given) -> Tracking:
    """A tracking of one asset after windows that were over the limit or not."""
    made = Tracking(Settings(rate=0.2, max_total=1.5), NU, 1.0, 0.5)
    made.grow(1)
    no, yes = np.zeros(1, bool), np.ones(1, bool)
    for at, each in enumerate(over):
        flags = {"scored": yes, "calm": no, "stands": no, "newly": no, "fault": no} | given
        made.step(np.arange(1), np.array([at]), np.array([each]), **flags)
    return made


# ---- one step, by hand


def test_the_limit_rises_by_eta_sigma_less_nu_where_a_window_is_over_it_and_sinks_by_nu_otherwise() -> None:
    assert stepped([True]).factor(np.arange(1))[0] == pytest.approx(1 + 0.2 * 0.5 * (1 - NU))
    assert stepped([False] * 10).factor(np.arange(1))[0] == pytest.approx(1 - 10 * 0.2 * 0.5 * NU)


def test_the_gate_closes_when_over_a_quarter_of_the_last_40_windows_are_over_the_limit() -> None:
    ten, eleven = [False] * 10 + [False, False, True] * 10, [False] * 7 + [False, False, True] * 11
    assert stepped(ten).gate(np.arange(1))[0] == Gate.CAPPED  # ten steps of a tenth: at the cap of 1.5
    assert stepped(eleven).gate(np.arange(1))[0] == Gate.BUSY
    assert stepped([*eleven, *[False] * 40]).gate(np.arange(1))[0] == Gate.OPEN


def test_the_gate_closes_when_over_half_of_the_last_five_autocorrelation_times_are_over_the_limit() -> None:
    assert stepped([False] * 40 + [True, True]).gate(np.arange(1))[0] == Gate.OPEN
    assert stepped([False] * 40 + [True, True, True]).gate(np.arange(1))[0] == Gate.BUSY
    assert stepped([False] * 40 + [True, True, True, False, False, False]).gate(np.arange(1))[0] == Gate.OPEN


def test_the_limit_moves_no_further_than_the_cap_either_way() -> None:
    assert stepped([True, False, False] * 10).factor(np.arange(1))[0] == pytest.approx(1.5, abs=0.01)
    assert stepped([False] * 1000).factor(np.arange(1))[0] == pytest.approx(1 / 1.5)


@pytest.mark.parametrize(("what", "gate"), [("stands", Gate.STANDS), ("fault", Gate.FAULT)])
def test_the_limit_holds_still_while_an_anomaly_stands_or_a_sensor_is_faulty(what: str, gate: Gate) -> None:
    held = stepped([True, False, True], **{what: np.ones(1, bool)})
    assert held.factor(np.arange(1))[0] == 1.0
    assert held.gate(np.arange(1))[0] == gate


def test_what_was_learnt_since_the_exceedances_began_is_unlearnt_when_an_anomaly_comes_to_stand() -> None:
    made, no, yes = stepped([True, True]), np.zeros(1, bool), np.ones(1, bool)
    made.step(np.arange(1), np.array([2]), yes, yes, no, yes, yes, no)
    assert made.factor(np.arange(1))[0] == 1.0


def test_windows_that_are_not_scored_move_nothing() -> None:
    assert stepped([False] * 9, scored=np.zeros(1, bool)).factor(np.arange(1))[0] == 1.0


# ---- streams


def test_normal_scores_keep_the_asked_rate_and_small_shifts_get_it_back() -> None:
    w = watch()
    assert 0.8 * NU < (w.run(scores(1, 6000)).final > 1).mean() < 1.25 * NU
    still = Watch(asset_class(NU, detector="none"), known(), 4).run(scores(2, 3000, times=1.2))
    moved = w.run(scores(2, 3000, times=1.2))
    assert (still.final[500:] > 1).mean() > 2 * NU
    assert (moved.final[500:] > 1).mean() < 1.25 * NU
    assert moved.of(AwaitingApproval) == []


def test_a_stuck_fault_leaves_the_limit_where_it_was_however_long_it_lasts() -> None:
    w = watch()
    w.run(scores(1, 3000))
    before = limit(w)
    fault = w.run(scores(2, 20_000, times=2.5))  # three in four windows are over the limit
    assert fault.anomaly[100:].all()
    assert gates(w) == {"STANDS"}
    assert (limit(w) <= 1.08 * before).all()  # no more than a chance exceedance higher
    assert len(fault.of(AwaitingApproval)) == 4
    held = limit(w)
    w.run(scores(3, 200, times=2.5))
    np.testing.assert_array_equal(limit(w), held)


def test_a_limit_that_has_moved_far_is_published_as_a_version_with_the_realised_rate() -> None:
    w = watch(publish=0.1)
    trail = w.run(scores(1, 3000, times=1.2))
    versions = [event.version for _, event in trail.of(VersionSet) if event.row == 0]
    assert versions
    assert [each.version for each in versions] == list(range(1, len(versions) + 1))
    assert {(each.trigger, each.label, each.approved_by) for each in versions} == {
        ("tracking", "TRACKED", "rule")
    }
    assert all(abs(np.log(each.step)) > np.log(1.1) for each in versions)
    assert versions[-1].scales["combined"]["limit"] == pytest.approx(limit(w)[0], rel=0.11)
    first = next(window for window, event in trail.of(VersionSet) if event.row == 0)
    assert versions[0].n == first + 1
    assert versions[0].realised == (trail.final[: first + 1, 0] > 1).mean()


def test_in_approve_mode_the_limit_holds_still() -> None:
    settings = asset_class(NU, detector="none", re_estimate="approve", tracking=Settings())
    w = Watch(settings, known(), 1)
    w.run(scores(1, 500, 1, times=1.2))
    assert limit(w)[0] == known().scale.final_limit
    assert gates(w) == {"OFF"}


def test_a_rollback_undoes_what_tracking_did() -> None:
    w = watch(publish=0.1)
    w.run(scores(1, 3000, times=1.2))
    assert limit(w)[0] != known().scale.final_limit
    (event,) = w.adaptation.command(0, Command("rollback", "R. Shift", START))
    assert limit(w)[0] == known().scale.final_limit
    assert (event.version.trigger, event.version.new_limit) == ("rollback", 1.0)


def test_a_snapshot_and_restore_anywhere_changes_nothing() -> None:
    raw = np.concatenate([scores(1, 700), scores(2, 400, times=1.3), scores(3, 300, times=2.5)])
    whole, cut = watch(publish=0.05), watch(publish=0.05)
    one = whole.run(raw)
    parts = []
    for low in range(0, 1400, 140):
        parts.append(cut.run(raw[low : low + 140]))
        rows = [cut.adaptation.dump(row) for row in range(4)]
        cut.adaptation = Adaptation(SCORERS, cut.known.scale, cut.settings)
        cut.adaptation.grow(4)
        for row, state in enumerate(rows):
            cut.adaptation.load(row, state)
    np.testing.assert_array_equal(np.concatenate([part.final for part in parts]), one.final)
    assert [repr(e) for part in parts for _, e in part.events] == [repr(e) for _, e in one.events]
    assert rows == [whole.adaptation.dump(row) for row in range(4)]
