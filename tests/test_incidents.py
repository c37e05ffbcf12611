"""The life of incidents, by hand and against a brute-force reference."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.alerting.incidents import (
    SILENCE,
    EventName,
    Incidents,
    Kind,
    Track,
    Transition,
    silence_alerts,
    silence_raised,
)
from monitor.alerting.severity import severity, severity_class

S = 1_000_000_000
RAISED, UPDATED, CLEARED = EventName.RAISED, EventName.UPDATED, EventName.CLEARED


class Seen(NamedTuple):
    """One window of one track."""

    over: bool
    under: bool
    known: bool
    ratio: float


OVER = Seen(True, False, True, 1.2)
BAND = Seen(False, False, True, 0.95)
UNDER = Seen(False, True, True, 0.5)
UNKNOWN = Seen(False, False, False, math.nan)


def anomaly(on: int = 0, off: int = 0, realert: int | None = None, criticality: float = 0.6) -> Track:
    return Track(Kind.ANOMALY, "", on * S, off * S, None if realert is None else realert * S, criticality)


def of_one_asset(tracks: list[Track]) -> Incidents:
    incidents = Incidents(tracks)
    incidents.grow(1)
    return incidents


def feed(incidents: Incidents, windows: dict[int, Seen]) -> list[Transition]:
    """Step row 0, track 0 through windows that end at these seconds."""
    events: list[Transition] = []
    for second, seen in windows.items():
        events += incidents.step(
            np.array([0], np.int32),
            np.array([second * S]),
            *(np.array([[flag]]) for flag in seen[:3]),
            np.array([[seen.ratio]]),
        )
    return events


def told(events: list[Transition]) -> list[tuple[str, int]]:
    return [(str(event.event), event.at_ns // S) for event in events]


def test_without_delays_an_incident_is_raised_and_cleared_at_once():
    events = feed(of_one_asset([anomaly()]), {10: UNDER, 20: OVER, 30: UNDER, 40: UNDER})
    assert told(events) == [("RAISED", 20), ("CLEARED", 30)]
    assert events[0].start_ns == events[0].raised_ns == 20 * S
    assert [event.sequence for event in events] == [1, 2]
    assert (events[1].start_ns, events[1].raised_ns) == (20 * S, 20 * S)


def test_the_on_delay_counts_from_the_first_window_over_and_names_it():
    events = feed(of_one_asset([anomaly(on=20)]), {10: OVER, 20: OVER, 29: OVER, 30: OVER, 40: OVER})
    assert told(events) == [("RAISED", 30)]
    assert events[0].start_ns == 10 * S


def test_a_window_that_is_not_over_resets_a_pending_run():
    windows = {10: OVER, 20: OVER, 25: BAND, 30: OVER, 40: OVER, 50: OVER}
    events = feed(of_one_asset([anomaly(on=20)]), windows)
    assert told(events) == [("RAISED", 50)]
    assert events[0].start_ns == 30 * S


def test_the_off_delay_counts_from_the_first_window_under_and_starts_again_in_the_hysteresis_band():
    windows = {10: OVER, 20: UNDER, 30: UNDER, 40: BAND, 50: UNDER, 60: UNDER, 79: UNDER, 80: UNDER}
    events = feed(of_one_asset([anomaly(off=30)]), windows)
    assert told(events) == [("RAISED", 10), ("CLEARED", 80)]


def test_the_hysteresis_band_keeps_an_incident_open_and_raises_none():
    assert feed(of_one_asset([anomaly()]), dict.fromkeys(range(10), BAND)) == []
    events = feed(of_one_asset([anomaly()]), {10: OVER} | dict.fromkeys(range(11, 500), BAND))
    assert told(events) == [("RAISED", 10)]


def test_unknown_windows_hold_a_pending_run_and_its_on_delay():
    windows = {10: OVER, 20: OVER} | dict.fromkeys(range(30, 1000, 10), UNKNOWN) | {1000: OVER, 1010: OVER}
    events = feed(of_one_asset([anomaly(on=30)]), windows)
    # 10 s known until 20, then 10 s each at 1000 (after 990) and 1010
    assert told(events) == [("RAISED", 1010)]
    assert events[0].start_ns == 10 * S


def test_unknown_windows_never_clear_and_hold_the_off_delay():
    windows = {0: OVER, 10: UNDER} | dict.fromkeys(range(20, 1000, 10), UNKNOWN) | {1000: UNDER, 1010: UNDER}
    assert told(feed(of_one_asset([anomaly(off=20)]), windows)) == [("RAISED", 0), ("CLEARED", 1010)]


def test_an_over_that_is_not_known_starts_nothing():
    assert feed(of_one_asset([anomaly()]), {10: Seen(True, False, False, 9.0), 20: UNDER}) == []


def test_a_standing_incident_is_told_again_every_realert_time_after_the_last_alert():
    windows = dict.fromkeys(range(0, 100, 10), OVER)
    events = feed(of_one_asset([anomaly(realert=25)]), windows)
    assert told(events) == [("RAISED", 0), ("UPDATED", 30), ("UPDATED", 60), ("UPDATED", 90)]
    assert [event.sequence for event in events] == [1, 2, 3, 4]


def test_clearing_wins_over_a_realert_that_is_due_at_the_same_time():
    events = feed(of_one_asset([anomaly(realert=30)]), {0: OVER, 30: UNDER})
    assert told(events) == [("RAISED", 0), ("CLEARED", 30)]


def test_a_rise_into_a_higher_severity_class_is_told_at_once_and_only_once():
    ratios = [1.0, 1.05, 2.0, 2.1, 1.0, 10.0, 2.0]  # criticality 1: 400, ..., 700, ..., 940
    windows = {10 * i: OVER._replace(ratio=ratio) for i, ratio in enumerate(ratios)}
    events = feed(of_one_asset([anomaly(criticality=1.0)]), windows)
    assert told(events) == [("RAISED", 0), ("UPDATED", 20)]
    # 1000 (1 - 0.6 / 2 * 28800 / 28820) = 700.2
    assert [event.severity for event in events] == [400, 700]


def test_the_worst_severity_and_ratio_stay_with_the_incident_and_not_with_the_next():
    windows = {0: OVER._replace(ratio=4.0), 10: OVER, 20: UNDER, 30: OVER, 40: UNDER}
    events = feed(of_one_asset([anomaly()]), windows)
    assert told(events) == [("RAISED", 0), ("CLEARED", 20), ("RAISED", 30), ("CLEARED", 40)]
    # 600 (1 - 0.6 / 4) = 510; 600 (1 - 0.6 / 1.2) = 300
    assert [event.severity for event in events] == [510, 510, 300, 300]
    assert [event.worst_ratio for event in events] == [4.0, 4.0, 1.2, 1.2]


def test_a_condition_without_a_measure_has_no_worst_ratio_and_the_severity_of_the_limit():
    (raised,) = feed(of_one_asset([anomaly()]), {0: OVER._replace(ratio=math.nan)})
    assert math.isnan(raised.worst_ratio)
    assert raised.severity == 240


def test_tracks_and_assets_do_not_touch_each_other():
    tracks = [anomaly(), Track(Kind.SENSOR_FAULT, "pressure", 20 * S, 0, None)]
    incidents = Incidents(tracks)
    incidents.grow(8)
    rows = np.array([5, 2], np.int32)
    over = np.array([[True, False], [False, True]])
    known = np.ones((2, 2), np.bool_)
    ratio = np.ones((2, 2))

    def at(second: int) -> list[tuple[int, int, int, str]]:
        events = incidents.step(rows, np.full(2, second * S), over, ~over, known, ratio)
        return [(event.position, event.row, event.track, str(event.event)) for event in events]

    assert at(10) == [(0, 5, 0, "RAISED")]
    assert at(20) == []
    assert at(30) == [(1, 2, 1, "RAISED")]
    assert incidents.open(rows).tolist() == [[True, False], [False, True]]
    assert incidents.open(np.array([0, 1], np.int32)).tolist() == [[False, False]] * 2
    assert incidents.open_any(rows, Kind.ANOMALY).tolist() == [True, False]
    assert incidents.open_any(rows, Kind.SENSOR_FAULT).tolist() == [False, True]
    assert incidents.open_any(rows, Kind.ANOMALY, Kind.SENSOR_FAULT).tolist() == [True, True]
    assert incidents.open_any(rows, Kind.DRIFT).tolist() == [False, False]
    over[:] = False
    assert at(40) == [(0, 5, 0, "CLEARED"), (1, 2, 1, "CLEARED")]
    assert not incidents.open(rows).any()


def test_close_ends_an_open_incident_and_forgets_a_pending_one():
    incidents = of_one_asset([anomaly(on=10)])
    feed(incidents, {0: OVER})
    assert incidents.close(0, 0, 5 * S) is None
    assert not incidents.busy(0)
    feed(incidents, {10: OVER, 20: OVER})
    cleared = incidents.close(0, 0, 25 * S)
    assert cleared is not None
    assert (cleared.event, cleared.at_ns, cleared.start_ns, cleared.sequence) == (CLEARED, 25 * S, 10 * S, 2)
    assert incidents.close(0, 0, 30 * S) is None
    assert told(feed(incidents, {40: OVER, 50: OVER})) == [("RAISED", 50)]


def test_an_idle_asset_has_the_same_bytes_whatever_it_went_through():
    fresh, used = of_one_asset([anomaly(on=5)]), of_one_asset([anomaly(on=5)])
    feed(used, {0: OVER, 3: UNDER, 10: OVER, 20: OVER, 30: UNDER})
    assert used.dump(0) == fresh.dump(0)


def test_state_of_other_tracks_is_refused():
    with pytest.raises(ValueError, match="bytes"):
        of_one_asset([anomaly(), anomaly()]).load(0, of_one_asset([anomaly()]).dump(0))


def test_loaded_state_goes_on_in_an_instance_that_was_quiet():
    first, second = of_one_asset([anomaly(off=10)]), of_one_asset([anomaly(off=10)])
    feed(first, {0: OVER, 5: UNDER})
    second.load(0, first.dump(0))
    assert told(feed(second, {15: UNDER})) == [("CLEARED", 15)]


def test_a_silence_is_raised_at_last_plus_silence_and_cleared_at_the_new_reading():
    rows = np.array([7, 8, 9], np.int32)
    last = np.array([100, 200, 300]) * S
    now = np.array([160, 260, 361]) * S
    raised, cleared = silence_alerts(rows, last, now, 60 * S, 300)
    assert (raised.position, raised.row, raised.track, raised.event) == (2, 9, SILENCE, RAISED)
    assert (raised.start_ns, raised.raised_ns, raised.at_ns) == (300 * S, 360 * S, 360 * S)
    assert (cleared.event, cleared.at_ns, cleared.sequence) == (CLEARED, 361 * S, 2)
    assert (cleared.start_ns, cleared.raised_ns) == (300 * S, 360 * S)


def test_a_silence_told_early_is_the_one_told_at_its_end():
    rows, last = np.array([9], np.int32), np.array([300 * S])
    (early,) = silence_raised(rows, last, 60 * S, 300)
    at_end, _ = silence_alerts(rows, last, np.array([999 * S]), 60 * S, 300)
    assert str(early) == str(at_end)  # their ratios are NaN, which equals nothing


@pytest.mark.parametrize(
    ("criticality", "ratio", "seconds", "expected"),
    [
        (0.6, 1.0, 0, 240),
        (0.6, 2.0, 0, 420),
        (1.0, 1.0, 28_800, 700),
        (1.0, math.inf, 0, 1000),
        (0.0, 5.0, 0, 1),
        (0.6, 0.2, 0, 240),
        (0.6, math.nan, -5, 240),
        (9.0, 2.0, 0, 700),
    ],
)
def test_severity_by_hand(criticality: float, ratio: float, seconds: float, expected: int):
    assert severity(criticality, ratio, seconds) == expected


@given(
    st.floats(0, 1),
    st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)).map(sorted),
    st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)).map(sorted),
)
def test_severity_never_falls_with_ratio_or_duration(
    criticality: float, ratios: list[float], seconds: list[float]
):
    low, high = severity(criticality, ratios[0], seconds[0]), severity(criticality, ratios[1], seconds[1])
    assert 1 <= low <= high <= 1000


def test_severity_classes_begin_at_334_and_667():
    assert severity_class([1, 333, 334, 666, 667, 1000]).tolist() == [0, 0, 1, 1, 2, 2]


class Reference:
    """The life of one track told in words: seconds that were known are added up, window by window."""

    def __init__(self, track: Track) -> None:
        self.track = track
        self.reset()

    def reset(self) -> None:
        self.status, self.start, self.last_window, self.last_alert = "idle", 0, 0, 0
        self.over_for, self.under_for, self.count, self.worst = 0, None, 0, 0

    def see(self, end: int, seen: Seen) -> list[tuple[str, int, int, int, int]]:
        elapsed, self.last_window = end - self.last_window, end
        if not seen.known:
            return []
        if self.status == "idle":
            if not seen.over:
                return []
            self.reset()
            self.status, self.start, self.last_window, elapsed = "pending", end, end, 0
        before, self.worst = self.worst, max(self.worst, self.rank(end, seen.ratio))
        if self.status == "pending":
            self.over_for += elapsed
            if not seen.over:
                self.reset()
            elif self.over_for >= self.track.on_delay_ns:
                self.status = "open"
                return [self.tell("RAISED", end)]
            return []
        if not seen.under:
            self.under_for = None
        else:
            self.under_for = 0 if self.under_for is None else self.under_for + elapsed
            if self.under_for >= self.track.off_delay_ns:
                event = self.tell("CLEARED", end)
                self.reset()
                return [event]
        realert = self.track.realert_ns
        rose = sum(self.worst >= limit > before for limit in (334, 667)) > 0
        if rose or (realert is not None and end - self.last_alert >= realert):
            return [self.tell("UPDATED", end)]
        return []

    def rank(self, end: int, ratio: float) -> int:
        over = max(1.0, ratio) if ratio == ratio else 1.0
        seconds = (end - self.start) / S
        grade = self.track.criticality * (1 - 0.6 * ((1 / over) * (28_800 / (seconds + 28_800))))
        return min(1000, max(1, math.floor(1000 * grade + 0.5)))

    def tell(self, name: str, end: int) -> tuple[str, int, int, int, int]:
        self.count, self.last_alert = self.count + 1, end
        return (name, end, self.start, self.count, self.worst)


windows_of_a_track = st.lists(
    st.tuples(
        st.integers(1, 40),
        st.sampled_from([OVER, OVER, BAND, UNDER, UNDER, UNKNOWN]),
        st.sampled_from([1.0, 1.3, 2.5, 8.0, math.nan]),
    ),
    max_size=80,
)
tracks_of_any_kind = st.builds(
    anomaly,
    on=st.sampled_from([0, 1, 30, 100]),
    off=st.sampled_from([0, 1, 30, 100]),
    realert=st.sampled_from([None, 1, 60]),
    criticality=st.sampled_from([0.1, 0.6, 1.0]),
)


def columns(windows: list[tuple[int, Seen]], tracks: int) -> tuple[np.ndarray, ...]:
    """The same windows for each of K tracks, as [m] ends and [m, K] flags and ratios."""
    ends = np.array([end for end, _ in windows], np.int64)
    over, under, known = (
        np.repeat(np.array([seen[i] for _, seen in windows], np.bool_)[:, None], tracks, axis=1)
        for i in range(3)
    )
    ratio = np.repeat(np.array([seen.ratio for _, seen in windows], np.float64)[:, None], tracks, axis=1)
    return ends, over, under, known, ratio


@settings(deadline=None)
@given(st.lists(tracks_of_any_kind, min_size=1, max_size=4), windows_of_a_track, st.data())
def test_any_life_equals_the_reference_however_it_is_cut_stored_and_fed(
    tracks: list[Track], steps: list[tuple[int, Seen, float]], data: st.DataObject
):
    second, windows = 0, list[tuple[int, Seen]]()
    for gap, seen, ratio in steps:
        second += gap
        windows.append((second * S, seen if seen is UNKNOWN else seen._replace(ratio=ratio)))
    expected = [
        (k, *event)
        for k, reference in enumerate(map(Reference, tracks))
        for end, seen in windows
        for event in reference.see(end, seen)
    ]
    cut = data.draw(st.integers(0, len(windows)))
    whole, parts, rest = of_one_asset(tracks), of_one_asset(tracks), of_one_asset(tracks)
    ends, *flags = columns(windows, len(tracks))
    stepped = [
        event
        for i in range(len(windows))
        for event in whole.step(np.array([0], np.int32), ends[i : i + 1], *(f[i : i + 1] for f in flags))
    ]
    run = parts.run(0, ends[:cut], *(f[:cut] for f in flags))
    rest.load(0, parts.dump(0))
    run += rest.run(0, ends[cut:], *(f[cut:] for f in flags))

    def facts(events: list[Transition]) -> list[tuple[int, str, int, int, int, int]]:
        return [(e.track, str(e.event), e.at_ns, e.start_ns, e.sequence, e.severity) for e in events]

    assert sorted(facts(stepped)) == sorted(expected)
    assert facts(run) == facts(stepped)
    assert rest.dump(0) == whole.dump(0)
