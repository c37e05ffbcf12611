"""Drift detectors: exact restoring, the finite guard, and how often they cry wolf."""

import json
import math
import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river.drift import ADWIN, PageHinkley

from monitor.thresholds.drift import Detector, expected_false_drifts, from_bytes

KINDS = ["adwin", "page_hinkley", "kswin", "none"]
FAST = {"adwin": 5000, "page_hinkley": 5000, "kswin": 500, "none": 500}


def shifting(seed, n):
    """Ranks whose mean jumps at random places, so that drifts and the state after them are met too."""
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.uniform(0.15, 0.85, n // 250 + 1), 250)[:n]
    return np.clip(level + rng.uniform(-0.15, 0.15, n), 0, 1)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_restored_detector_continues_exactly_as_the_one_it_was_saved_from(kind, data):
    n = FAST[kind]
    values = shifting(data.draw(st.integers(0, 10_000)), n).tolist()
    cut = data.draw(st.integers(0, n // 2))
    delta = data.draw(st.sampled_from([0.002, 0.2]))
    original = Detector(kind, delta, seed=3)
    for value in values[:cut]:
        original.update(value)
    restored, reset, reason = from_bytes(original.to_bytes(), kind, delta, seed=3)
    assert (reset, reason) == (False, "")
    assert restored.to_bytes() == original.to_bytes()
    assert [restored.update(x) for x in values[cut:]] == [original.update(x) for x in values[cut:]]
    assert restored.to_bytes() == original.to_bytes()
    np.testing.assert_equal(restored.means(), original.means())


@pytest.mark.parametrize("kind", ["adwin", "page_hinkley", "kswin"])
def test_a_detector_saved_at_the_very_drift_restarts_as_the_original_does(kind):
    original, values = Detector(kind, 0.2), shifting(1, 5000).tolist()
    while not original.update(values.pop()):
        pass
    restored = from_bytes(original.to_bytes(), kind, 0.2).detector
    rest = values[:1000]
    assert [restored.update(x) for x in rest] == [original.update(x) for x in rest]


def test_adwin_behind_the_guard_is_rivers_adwin():
    values, bare, guarded = shifting(2, 20_000).tolist(), ADWIN(delta=0.01), Detector("adwin", 0.01)
    fired = 0
    for value in values:
        bare.update(value)
        assert guarded.update(value) == bare.drift_detected
        fired += bare.drift_detected
    assert fired > 10


@pytest.mark.parametrize("kind", ["adwin", "page_hinkley", "kswin"])
def test_a_shift_of_the_mean_rank_is_found_and_described(kind):
    rng = np.random.default_rng(3)
    detector = Detector(kind, 0.002)
    assert not any(detector.update(x) for x in rng.uniform(0.0, 0.6, 1000))
    delay = next(i for i in range(1000) if detector.update(rng.uniform(0.4, 1.0)))
    old, new = detector.means()
    assert delay < 200
    assert old == pytest.approx(0.3, abs=0.05)
    assert new > 0.6


@pytest.mark.parametrize(
    ("kind", "river"),
    [("adwin", lambda: ADWIN(delta=0.002)), ("page_hinkley", lambda: PageHinkley(threshold=8.0))],
)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_value_that_is_not_finite_blinds_river_but_not_the_guarded_detector(kind, river, bad):
    rng = np.random.default_rng(4)
    stream = [*rng.uniform(0, 0.5, 500).tolist(), bad, *rng.uniform(0, 0.5, 500), *rng.uniform(0.5, 1, 500)]
    bare, guarded = river(), Detector(kind, 0.002)
    seen_bare = seen_guarded = False
    for value in map(float, stream):
        bare.update(value)
        seen_bare |= bare.drift_detected and value > 0.5
        seen_guarded |= guarded.update(value)
    assert seen_guarded
    assert guarded.rejected == 1
    if math.isnan(bad):
        assert not seen_bare


@pytest.mark.parametrize("kind", KINDS)
def test_only_finite_values_count_as_updates(kind):
    detector = Detector(kind, 0.002)
    for value in (0.5, math.nan, -math.inf, 0.25):
        assert not detector.update(value)
    assert (detector.updates, detector.rejected) == (2, 2)


def changed(data, field, value):
    fields = msgspec.msgpack.decode(data[4:])
    fields[field] = value
    body = msgspec.msgpack.encode(fields)
    return zlib.crc32(body).to_bytes(4, "little") + body


def test_bytes_of_another_river_minor_version_give_a_fresh_detector_and_say_so():
    detector = Detector("adwin", 0.002)
    for value in np.random.default_rng(5).random(500):
        detector.update(value)
    data = detector.to_bytes()
    assert msgspec.msgpack.decode(data[4:])[0] == "0.26"
    restored = from_bytes(changed(data, 0, "0.25"), "adwin", 0.002)
    assert restored.reset
    assert restored.reason == "drift detector starts afresh: river was 0.25, is 0.26"
    assert restored.detector.updates == 0
    assert restored.detector.to_bytes() == Detector("adwin", 0.002).to_bytes()


@pytest.mark.parametrize(
    ("kind", "delta", "seed", "what"),
    [("kswin", 0.002, 0, "detector"), ("adwin", 0.01, 0, "delta"), ("adwin", 0.002, 1, "seed")],
)
def test_bytes_of_other_settings_give_a_fresh_detector_and_say_so(kind, delta, seed, what):
    restored = from_bytes(Detector("adwin", 0.002).to_bytes(), kind, delta, seed)
    assert restored.reset
    assert f": {what} was" in restored.reason
    assert restored.detector.kind == kind


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_damaged_bytes_never_reach_river(position, flip):
    detector = Detector("adwin", 0.002)
    for value in np.linspace(0, 1, 200):
        detector.update(value)
    data = bytearray(detector.to_bytes())
    data[position % len(data)] ^= flip
    with pytest.raises(ValueError, match="drift state"):
        from_bytes(bytes(data), "adwin", 0.002)


def test_truncated_bytes_are_refused():
    data = Detector("adwin", 0.002).to_bytes()
    for length in (0, 3, 4, len(data) - 9):
        with pytest.raises(ValueError, match="drift state: the checksum"):
            from_bytes(data[:length], "adwin", 0.002)


def test_bytes_of_another_layout_are_refused():
    with pytest.raises(ValueError, match="of another layout"):
        from_bytes(changed(Detector("adwin", 0.002).to_bytes(), 4, "many"), "adwin", 0.002)


@pytest.mark.parametrize("delta", [0.0, -1.0, 1.5, math.nan])
def test_a_delta_outside_nought_and_one_is_an_error(delta):
    with pytest.raises(ValueError, match=r"delta: expected a number in \(0, 1\]"):
        Detector("adwin", delta)


def false_drifts(kind, delta, n, seed=6):
    detector = Detector(kind, delta, seed=seed)
    return sum(detector.update(x) for x in np.random.default_rng(seed).random(n).tolist())


@pytest.mark.parametrize(
    ("kind", "delta", "n"),
    [("adwin", 0.2, 1_000_000), ("adwin", 1.0, 200_000), ("page_hinkley", 0.2, 1_000_000)],
)
def test_false_drifts_on_unchanged_ranks_are_as_many_as_the_table_says(kind, delta, n):
    expected = expected_false_drifts(delta, n)
    assert abs(false_drifts(kind, delta, n) - expected) <= 4 * math.sqrt(expected)


def test_kswin_raises_no_more_false_drifts_than_the_table_says():
    expected = expected_false_drifts(1.0, 20_000)
    assert false_drifts("kswin", 1.0, 20_000) <= expected + 4 * math.sqrt(expected)


def test_ranks_thinned_to_one_per_autocorrelation_time_raise_hardly_more_false_drifts_than_independent_ones():
    """An AR(1) process with phi .8 has tau 9; unthinned, ADWIN takes its wandering for drift."""
    rng, n, phi = np.random.default_rng(7), 1_800_000, 0.8
    from scipy.signal import lfilter
    from scipy.stats import norm

    ranks = norm.cdf(lfilter([math.sqrt(1 - phi**2)], [1, -phi], rng.standard_normal(n)))
    thinned, every = Detector("adwin", 0.2), Detector("adwin", 0.2)
    few = sum(thinned.update(x) for x in ranks[::9].tolist())
    many = sum(every.update(x) for x in ranks[:200_000].tolist())
    assert few <= 3 * expected_false_drifts(0.2, 200_000) + 6
    assert many > 20 * max(few, 1)


def test_expected_false_drifts_follow_the_measured_table():
    assert expected_false_drifts(0.1, 1e6) == pytest.approx(7.5)
    assert expected_false_drifts(0.002, 1e6) == pytest.approx(0.03)
    assert expected_false_drifts(0.001, 1e6) == pytest.approx(0.015)
    assert 2.6 < expected_false_drifts(0.07, 1e6) < 7.5
    assert expected_false_drifts(0.1, 3e6) == pytest.approx(22.5)


def test_the_saved_state_is_plain_data_and_small():
    detector = Detector("adwin", 0.002)
    for value in np.random.default_rng(8).random(20_000):
        detector.update(value)
    data = detector.to_bytes()
    assert len(data) < 4096
    fields = msgspec.msgpack.decode(data[4:])
    json.dumps([field if not isinstance(field, bytes) else "" for field in fields])
