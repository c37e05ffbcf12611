"""The life of a threshold: what it follows, and what it must never learn as normal."""

import functools
import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.alerting.alerts import Origin, parse_threshold, threshold_event
from monitor.thresholds.adaptation import Adaptation
from monitor.thresholds.adaptation_events import (
    AwaitingApproval,
    Command,
    DetectorReset,
    DriftDetected,
    Refused,
    ThresholdVersion,
    VersionSet,
)
from monitor.thresholds.reestimate import combine, run_lengths, smooth, stationary
from monitor.thresholds.versions import Scale
from tests.score_streams import SCORERS, START, S, Watch, asset_class, calibrated, raw_scores

NU = 0.02
known = functools.cache(calibrated)


def watch(assets=1, **changes):
    nu, how = changes.pop("nu", NU), changes.pop("combine", "any")
    return Watch(asset_class(nu, how, **changes), known(nu, how), assets)


def scores(seed, windows, assets=1, shift=0.0, scale=1.0):
    """Raw scores, moved by ``shift`` (a number or [windows]) in units of the trained limit above the median."""
    k = known()
    raw = raw_scores(np.random.default_rng(seed), windows, assets)
    moved = np.broadcast_to(np.asarray(shift, float), (windows,))[:, None, None]
    return k.median + (raw - k.median) * scale + moved * (k.limit - k.median)


def approve(at_ns=START, action="approve"):
    return Command(action, "R. Shift", at_ns)


def far(action):
    return approve(action=action)


# ---- the two scenarios that decide


def limits_of(adaptation: Adaptation, row: int) -> tuple[np.ndarray, float]:
    each, combined = adaptation.limits(np.array([row]))
    return each[0], float(combined[0])


def test_a_small_slow_benign_shift_is_detected_re_estimated_and_the_false_alarm_rate_returns():
    """The scores creep up by 0.17 of the limit; no ANOMALY stands; the old limit alarms twice as often as asked."""
    w, n = watch(assets=8), 18_000
    quiet = w.run(scores(1, 5000, 8))
    assert quiet.events == []
    assert 0.8 * NU < (quiet.final > 1).mean() < 1.2 * NU
    ramp = np.minimum(np.arange(n) / 2000, 1.0) * 0.17
    moved = w.run(scores(2, n, 8, shift=ramp))
    assert {event.row for _, event in moved.of(DriftDetected)} == set(range(8))
    assert {event.row for _, event in moved.of(VersionSet)} == set(range(8))
    assert moved.of(AwaitingApproval) == []
    last = max(window for window, _ in moved.of(VersionSet))
    assert last < 14_000
    before = (moved.final[2000:2800] > 1).mean()
    after = (w.run(scores(3, 10_000, 8, shift=0.17)).final > 1).mean(axis=0)
    assert before > 1.8 * NU
    assert 0.8 * NU < after.mean() < 1.25 * NU
    assert ((after >= 0.5 * NU) & (after <= 1.6 * NU)).all()
    for _, event in moved.of(VersionSet):
        assert event.version.trigger == "drift"
        assert event.version.approved_by == "rule"
        assert 1.0 < event.version.new_limit < 1.5


def test_a_declared_step_that_raises_an_anomaly_is_re_estimated_beyond_max_step():
    w = watch(assets=4, max_total=2.5)
    w.run(scores(7, 3000, 4))
    moved = w.run(scores(2, 10_000, 4, shift=0.8), declared_at=[0])
    assert moved.anomaly[200].all()
    versions = [event.version for _, event in moved.of(VersionSet)]
    assert len(versions) == 4
    assert {version.trigger for version in versions} == {"declared"}
    assert all(1.6 < version.step < 2.4 for version in versions)
    after = w.run(scores(3, 12_000, 4, shift=0.8))
    assert 0.7 * NU < (after.final > 1).mean() < 1.35 * NU
    assert after.of(AwaitingApproval) == []


@pytest.mark.parametrize("shift", [0.5, 1.3, 3.0])
def test_an_undeclared_step_that_stays_stays_an_anomaly_until_a_person_approves(shift):
    w = watch(assets=4)
    w.run(scores(1, 3000, 4))
    limits = [limits_of(w.adaptation, row)[1] for row in range(4)]
    fault = w.run(scores(2, 50_000 if shift == 1.3 else 6000, 4, shift=shift))
    assert fault.of(VersionSet) == []
    assert [limits_of(w.adaptation, row)[1] for row in range(4)] == limits
    assert (w.adaptation.version(w.rows) == 0).all()
    if shift > 1.0:
        assert fault.anomaly[1000:].all()
        assert len(fault.of(AwaitingApproval)) == 4
    assert {event.row for _, event in fault.of(AwaitingApproval)} == {0, 1, 2, 3}
    assert "no change of context was declared" in fault.of(AwaitingApproval)[0][1].reason

    for row in range(4):
        assert w.adaptation.state(row) == "AWAITING" or shift < 1.0
    if shift < 1.0:
        return
    assert w.adaptation.command(0, approve(w.end_ns)) == []
    approved = w.run(scores(3, 12_000, 4, shift=shift))
    ((_, event),) = approved.of(VersionSet)
    assert (event.row, event.version.trigger, event.version.approved_by) == (0, "approved", "R. Shift")
    after = w.run(scores(4, 8_000, 4, shift=shift))
    assert 0.4 * NU < (after.final[:, 0] > 1).mean() < 1.9 * NU
    assert after.anomaly[:, 1:].all()
    assert (w.adaptation.version(w.rows) == [1, 0, 0, 0]).all()


# ---- what is never absorbed


def test_a_change_declared_after_the_shift_does_not_excuse_it():
    w = watch()
    w.run(scores(1, 1000))
    fault = w.run(scores(2, 10_000, shift=1.2), declared_at=[30])
    assert fault.of(VersionSet) == []
    ((_, asked),) = fault.of(AwaitingApproval)
    assert "no change of context was declared" in asked.reason


def test_a_change_declared_longer_than_settle_before_the_shift_does_not_excuse_it():
    w = watch()
    w.run(scores(1, 1000), declared_at=[800])  # settle is 60 windows
    fault = w.run(scores(2, 10_000, shift=1.2))
    assert fault.of(VersionSet) == []
    ((_, asked),) = fault.of(AwaitingApproval)
    assert "no change of context was declared" in asked.reason


def test_an_anomaly_that_comes_to_stand_during_drift_drops_the_collection():
    w = watch()
    w.run(scores(1, 6000))
    w.run(scores(2, 30_000, shift=0.2), until=lambda event: isinstance(event, DriftDetected))
    w.run(scores(3, 1500, shift=0.2))
    assert w.adaptation.state(0) == "DRIFT"
    assert collected(w.adaptation, 0) > 1000
    fault = w.run(scores(4, 10_000, shift=1.5))
    assert fault.of(VersionSet) == []
    assert len(fault.of(AwaitingApproval)) == 1
    assert collected(w.adaptation, 0) == 0
    assert w.adaptation.state(0) == "AWAITING"
    repaired = w.run(scores(5, 9000, shift=0.2))
    ((window, event),) = repaired.of(VersionSet)
    assert event.version.start_ns > START + (w.window - 9000) * S
    assert window > 3000
    assert event.version.new_limit < 1.6


def test_a_fault_that_goes_leaves_the_threshold_as_it_was():
    w = watch()
    w.run(scores(1, 3000))
    w.run(scores(2, 3000, shift=1.5))
    assert w.adaptation.state(0) == "AWAITING"
    after = w.run(scores(3, 6000))
    assert w.adaptation.state(0) == "STABLE"
    assert after.of(VersionSet) == []


def test_windows_under_a_sensor_fault_are_neither_collected_nor_watched_for_drift():
    w, u = watch(samples=640), known().u(scores(1, 12_000, shift=0.25))
    for index in range(3000):
        w.step(known().u(scores(9, 3000))[index], fault=False)
    events = []
    for index in range(3000):
        events += w.step(u[index], fault=True)
    assert [event for event in events if isinstance(event, DriftDetected | VersionSet)] == []
    for index in range(3000, 12_000):
        events += w.step(u[index])
    assert any(isinstance(event, DriftDetected) for event in events)


def test_chance_exceedances_stay_in_the_collection_or_the_limit_would_sink_with_every_re_estimation():
    """Normal scores, re-estimated on a person's word ten times over eight assets: the limit must not wander."""
    w = watch(assets=8, re_estimate="guarded")
    w.run(scores(1, 500, 8))
    for row in range(8):
        start_collecting(w.adaptation, row)
    moved = w.run(scores(2, 9000, 8))
    limits = [event.version.new_limit for _, event in moved.of(VersionSet)]
    assert len(limits) == 8
    assert moved.anomaly.mean() > 0.15  # an ANOMALY was open by chance much of the time
    assert 0.95 < np.mean(limits) < 1.05


def test_scores_that_still_move_are_not_learnt():
    w = watch()
    w.run(scores(1, 6000))
    ramp = np.linspace(0.0, 0.5, 16_000)
    moved = w.run(scores(2, 16_000, shift=ramp))
    assert any("still move" in event.why for _, event in moved.of(Refused))
    assert moved.of(VersionSet) == []


def test_a_step_beyond_max_step_is_a_persons_decision():
    w = watch(max_step=1.1)
    w.run(scores(1, 6000))
    moved = w.run(scores(2, 20_000, shift=0.25))
    assert moved.of(VersionSet) == []
    ((_, asked),) = moved.of(AwaitingApproval)
    assert "beyond 1.1" in asked.reason
    assert asked.proposed.version == 1
    (event,) = w.adaptation.command(0, approve())
    assert event.version.new_limit == asked.proposed.new_limit
    assert (event.version.trigger, event.version.approved_by) == ("approved", "R. Shift")
    assert w.adaptation.state(0) == "STABLE"
    assert not w.adaptation.drifting(w.rows).any()


def test_much_quieter_scores_are_a_persons_decision_too_because_a_frozen_signal_looks_like_that():
    w = watch()
    w.run(scores(1, 6000))
    moved = w.run(scores(2, 12_000, scale=0.3))
    assert moved.of(VersionSet) == []
    assert "a factor of 0." in moved.of(AwaitingApproval)[0][1].reason


def test_beyond_max_declared_a_declared_change_makes_the_model_stale_and_asks():
    w = watch(max_total=2.0, max_declared=2.0)
    w.run(scores(1, 3000))
    moved = w.run(scores(2, 10_000, shift=1.6), declared_at=[0])
    assert moved.of(VersionSet) == []
    assert "from the trained limit" in moved.of(AwaitingApproval)[0][1].reason
    assert w.adaptation.stale(w.rows).all()
    w.adaptation.command(0, approve())
    assert (w.adaptation.version(w.rows) == 1).all()
    assert w.adaptation.stale(w.rows).all()
    w.adaptation.command(0, far("rollback"))
    assert not w.adaptation.stale(w.rows).any()


def test_the_sum_of_many_small_steps_is_bounded_by_max_total():
    """A slow fault, boiled like a frog: each re-estimation is small, their sum must stay below 1.3."""
    w = watch(max_total=1.3, samples=640, nu=0.05)
    w.run(scores(1, 4000))
    for round_ in range(10):
        w.run(scores(10 + round_, 2500, shift=0.06 * round_))
    assert w.adaptation.stale(w.rows).any()
    assert w.adaptation.versions.current(0).version.new_limit <= 1.3
    assert w.adaptation.state(0) == "AWAITING"


# ---- people


def test_in_approve_mode_nothing_is_set_without_a_person():
    w = watch(re_estimate="approve")
    w.run(scores(1, 6000))
    moved = w.run(scores(2, 20_000, shift=0.2))
    assert moved.of(VersionSet) == []
    ((_, asked),) = moved.of(AwaitingApproval)
    assert asked.proposed is not None
    assert w.adaptation.drifting(w.rows).any()


def test_a_rejected_proposal_is_forgotten_and_the_detectors_start_afresh():
    w = watch(re_estimate="approve")
    w.run(scores(1, 6000))
    w.run(scores(2, 20_000, shift=0.2), until=lambda event: isinstance(event, AwaitingApproval))
    assert w.adaptation.command(0, far("reject")) == []
    assert w.adaptation.state(0) == "STABLE"
    assert not w.adaptation.drifting(w.rows).any()
    assert w.adaptation.drift_watch._asset(0).detectors[0].updates == 0
    assert w.run(scores(3, 8000, shift=0.2)).events == []


def test_a_rejected_standing_anomaly_is_not_asked_about_again():
    w = watch()
    w.run(scores(1, 1000))
    w.run(scores(2, 1000, shift=2.0))
    w.adaptation.command(0, far("reject"))
    assert w.run(scores(3, 5000, shift=2.0)).events == []


def test_rolling_back_restores_the_version_before_under_a_new_number():
    w = watch()
    w.run(scores(1, 6000))
    moved = w.run(scores(2, 20_000, shift=0.2), until=lambda event: isinstance(event, VersionSet))
    first = moved.of(VersionSet)[0][1].version
    trained = known().scale.final_limit
    assert limits_of(w.adaptation, 0)[1] == first.scales["combined"]["limit"]
    (event,) = w.adaptation.command(0, far("rollback"))
    assert (event.version.version, event.version.trigger, event.version.approved_by) == (
        2,
        "rollback",
        "R. Shift",
    )
    assert (event.version.old_limit, event.version.new_limit) == (first.new_limit, 1.0)
    assert limits_of(w.adaptation, 0)[1] == trained
    np.testing.assert_array_equal(limits_of(w.adaptation, 0)[0], [1.0, 1.0])
    (refused,) = w.adaptation.command(0, far("rollback"))
    assert "no earlier version" in refused.why


@pytest.mark.parametrize("action", ["approve", "reject"])
def test_a_decision_where_there_is_none_to_take_is_refused(action):
    w = watch()
    (event,) = w.adaptation.command(0, far(action))
    assert isinstance(event, Refused)
    assert "nothing to decide" in event.why


# ---- the fold


def events_of(trail):
    return [(window, repr(event)) for window, event in trail.events]


@functools.cache
def eventful():
    """A drift, a re-estimation, a fault, its end, and a declared change, in 8000 windows."""
    parts = [(2500, 0.0), (3000, 0.2), (500, 2.5), (500, 0.2), (1500, 1.0)]
    shift = np.concatenate([np.full(windows, level) for windows, level in parts])
    return scores(5, 8000, 2, shift=shift)


@functools.cache
def uncut():
    w = watch(assets=2, samples=640, max_total=3.0, max_step=2.5)
    trail = w.run(eventful(), declared_at=[6500])
    return events_of(trail), w.adaptation.dump(0), trail.final


def test_the_eventful_stream_has_all_kinds_of_events():
    names = {text.split("(")[0] for _, text in uncut()[0]}
    assert names >= {"DriftDetected", "VersionSet", "AwaitingApproval"}


@settings(max_examples=5, deadline=None)
@given(st.lists(st.integers(1, 7999), min_size=1, max_size=3, unique=True))
def test_a_snapshot_and_restore_anywhere_changes_nothing(cuts):
    events, state, final = uncut()
    w, seen, start = watch(assets=2, samples=640, max_total=3.0, max_step=2.5), [], 0
    for cut in [*sorted(cuts), 8000]:
        declared = [6500 - start] if start <= 6500 < cut else []
        trail = w.run(eventful()[start:cut], declared_at=declared)
        seen += [(window + start, text) for window, text in events_of(trail)]
        np.testing.assert_array_equal(trail.final, final[start:cut])
        rows, start = [w.adaptation.dump(row) for row in range(2)], cut
        w.adaptation = Adaptation(SCORERS, w.known.scale, w.settings)
        w.adaptation.grow(2)
        for row in (1, 0):
            w.adaptation.load(row, rows[row])
    assert seen == events
    assert rows[0] == state


def test_an_asset_behaves_the_same_beside_others_and_in_any_row():
    events, state, _ = uncut()
    alone = Watch(asset_class(NU, samples=640, max_total=3.0, max_step=2.5), known(), 1)
    trail = alone.run(eventful()[:, :1], declared_at=[6500])
    assert events_of(trail) == [(window, text) for window, text in events if "row=0" in text]
    assert alone.adaptation.dump(0) == state
    other = Watch(asset_class(NU, samples=640, max_total=3.0, max_step=2.5), known(), 3)
    swapped = np.concatenate([eventful()[:, 1:], eventful()[:, 1:], eventful()[:, :1]], axis=1)
    other.run(swapped, declared_at=[6500])
    assert other.adaptation.dump(2) == state


def restored(w):
    fresh = Adaptation(SCORERS, w.known.scale, w.settings)
    fresh.grow(1)
    fresh.load(0, w.adaptation.dump(0))
    return fresh


def test_proposals_approvals_and_earlier_versions_survive_a_restore():
    w = watch(re_estimate="approve", samples=640)
    w.run(scores(1, 4000))
    w.run(scores(2, 20_000, shift=0.2), until=lambda event: isinstance(event, AwaitingApproval))
    w.adaptation = restored(w)
    (event,) = w.adaptation.command(0, approve())
    assert event.version.version == 1
    w.adaptation = restored(w)
    w.run(scores(3, 1000, shift=3.0))
    assert w.adaptation.command(0, approve()) == []
    w.adaptation = restored(w)
    ((_, event),) = w.run(scores(4, 1500, shift=3.0)).of(VersionSet)
    assert (event.version.version, event.version.approved_by) == (2, "R. Shift")
    w.adaptation = restored(w)
    (event,) = w.adaptation.command(0, far("rollback"))
    assert (event.version.version, event.version.trigger) == (3, "rollback")
    assert event.version.new_limit < 1.6


def test_growing_keeps_the_state_of_the_assets():
    w = watch(samples=640)
    w.run(eventful()[:3000, :1])
    before = w.adaptation.dump(0)
    w.adaptation.grow(1000)
    assert w.adaptation.dump(0) == before
    assert w.adaptation.version(np.array([999]))[0] == 0


def test_bytes_of_another_layout_are_refused():
    with pytest.raises(ValueError, match="threshold state: 3 bytes of another layout"):
        watch().adaptation.load(0, b"\xc1no")


def test_another_river_version_resets_the_detectors_and_says_so_once():
    w = watch()
    w.run(scores(1, 500))
    fields = msgspec.msgpack.decode(w.adaptation.dump(0))
    watched = msgspec.msgpack.decode(fields[2]["drift_watch"])
    detector = msgspec.msgpack.decode(watched[1][0][4:])
    detector[0] = "0.25"
    body = msgspec.msgpack.encode(detector)
    watched[1] = [zlib.crc32(body).to_bytes(4, "little") + body, watched[1][1]]
    fields[2]["drift_watch"] = msgspec.msgpack.encode(watched)
    w.adaptation.load(0, msgspec.msgpack.encode(fields))
    trail = w.run(scores(2, 3))
    ((window, event),) = trail.of(DetectorReset)
    assert (window, event.row, event.scorer) == (0, 0, "first")
    assert "river was 0.25" in event.reason


def test_windows_that_are_not_scored_leave_everything_as_it_is():
    w = watch()
    w.run(scores(1, 100))
    before = w.adaptation.dump(0)
    nan, no = np.full((1, 2), np.nan), np.zeros(1, bool)
    end = np.array([w.end_ns + S])
    assert (
        w.adaptation.observe(w.rows, end, nan, nan, no, w.open, no, no, nan[0, :1], np.zeros(1, np.int64))
        == []
    )
    if not w.open.any():
        assert w.adaptation.dump(0) == before


# ---- what is told


def test_a_threshold_version_is_published_as_it_is():
    w = watch(samples=640)
    (_, event), *_ = w.run(eventful()[:, :1]).of(VersionSet)
    origin = Origin("sensors", 3, 17, False, "0")
    record = threshold_event(
        event.version, source="/nuwatch/x", asset="a", bundle="b", time_ns=START, origin=origin
    )
    data = parse_threshold(record.value).data
    assert (data.version, data.trigger, data.old_limit) == (1, "drift", 1.0)
    assert data.new_limit == pytest.approx(event.version.new_limit, rel=1e-5)


def test_a_version_says_what_it_rests_on():
    w = watch()
    w.run(scores(1, 6000))
    moved = w.run(scores(2, 20_000, shift=0.2), until=lambda event: isinstance(event, VersionSet))
    version = moved.of(VersionSet)[0][1].version
    assert isinstance(version, ThresholdVersion)
    assert version.n_eff == pytest.approx(version.n / version.tau)
    assert version.n_eff * NU >= 16
    assert version.label == "CALIBRATED"
    assert version.low < version.new_limit < version.high
    assert START < version.start_ns < version.end_ns == w.end_ns
    assert set(version.scales["scorers"]) == set(SCORERS)


def test_too_small_a_sample_on_request_is_told_to_be_uncalibrated():
    w = watch(samples=320)
    (_, event), *_ = w.run(eventful()[:, :1]).of(VersionSet)
    assert event.version.label == "UNCALIBRATED"


# ---- ratios


def test_ratios_combine_and_smooth_as_by_hand():
    ratios = np.array([[0.5, 2.0], [1.5, -1.0]])
    np.testing.assert_array_equal(combine(ratios, "any"), [2.0, 1.5])
    np.testing.assert_array_equal(combine(ratios, "all"), [0.5, -1.0])
    breaks = np.array([True, False, True, False])
    np.testing.assert_allclose(smooth(np.array([2.0, 4.0, 8.0, 0.0]), breaks, 0.5), [1.0, 2.5, 4.0, 2.0])


def test_untouched_assets_have_the_bundles_ratios():
    adaptation = Adaptation(("a", "b"), Scale(0.25, 1.25, 4.0), asset_class())
    adaptation.grow(2)
    rows, u = np.array([1, 0]), np.array([[0.5, 1.5], [2.0, -3.0]])
    np.testing.assert_array_equal(adaptation.scorer_ratios(rows, u), u)
    np.testing.assert_allclose(adaptation.final_ratio(rows, np.array([0.25, 1.25])), [0.0, 1.0])
    assert limits_of(adaptation, 0)[1] == 1.25
    assert adaptation.state(0) == "STABLE"
    assert adaptation.drifting(rows).shape == adaptation.stale(rows).shape == (2, 2)


def test_runs_begin_where_the_collection_breaks():
    assert run_lengths(np.array([True, False, False, True, False])) == [3, 2]
    assert run_lengths(np.array([False, False, True])) == [2, 1]


def test_stationary_scores_are_called_moving_about_once_in_a_hundred_times():
    raw = raw_scores(np.random.default_rng(1), 3000, 400)
    refused = sum(not stationary(raw[:, asset]) for asset in range(400))
    assert refused <= 12  # 1 % of 400 is 4; 12 is beyond 99.9 % of a Poisson of 4


def test_a_step_or_a_ramp_inside_the_collection_is_not_stationary():
    raw = raw_scores(np.random.default_rng(2), 3000, 20)
    step = np.where(np.arange(3000) < 1500, 0.0, 0.3)[:, None]
    ramp = np.linspace(0.0, 0.6, 3000)[:, None]
    for asset in range(20):
        assert not stationary(raw[:, asset] + step)
        assert not stationary(raw[:, asset] + ramp)


def collected(adaptation, row):
    return adaptation.collections.size(row) + int(adaptation.collections._table["staged"][row])


def start_collecting(adaptation, row):
    """As if a detector had fired: the way to re-estimate normal scores without waiting for a false drift."""
    adaptation.drift_watch._table["drifting"][row] = True
    adaptation._start(row, 0)
