"""Who moved first: since when each sensor has been outside its normal band."""

from __future__ import annotations

import numpy as np

from monitor.excursions import INSIDE, Excursions

LENGTH, D = 8, 3


class Story:
    """Windows of one asset, one a second; each is written as three letters: o outside, i inside, m masked."""

    def __init__(self) -> None:
        self.stage = Excursions(LENGTH, D)
        self.stage.grow(2)
        self.now = 0

    def told(self, *windows: str, held: bool = False, segment: int = 0) -> list[int | None]:
        """Since when after the last of these windows; None: inside."""
        found = np.full((1, D), INSIDE)
        for window in windows:
            self.now += 1
            letters = np.array(list(window))[None, :]
            one = [np.array([value], np.int64) for value in (self.now, self.now, segment)]
            row = np.array([0], np.int32)
            found = self.stage.step(row, *one, letters == "o", letters == "m", np.array([held]))
        return [None if at == INSIDE else int(at) for at in found[0]]


def test_sensors_are_told_with_the_window_at_which_each_left() -> None:
    assert Story().told("iii", "oii", "oio", "oio", "ooo") == [2, 5, 3]


def test_one_reading_outside_counts_only_while_it_lasts() -> None:
    story = Story()
    assert story.told("oii") == [1, None, None]
    assert story.told("iii") == [None, None, None]
    assert story.told("oii") == [1, None, None]  # the second outside, not back for long between


def test_a_sensor_is_back_after_three_windows_inside_in_a_row() -> None:
    story = Story()
    assert story.told("oii", "oii", "iii", "iii") == [1, None, None]
    assert story.told("iii") == [None, None, None]
    assert story.told("oii", "oii") == [6, None, None]


def test_while_an_anomaly_is_open_what_has_left_stays_noted() -> None:
    story = Story()
    story.told("oii", "oio")
    assert story.told(*["iii"] * 10, held=True) == [1, None, None]  # the third was outside once: forgotten
    assert story.told("iii") == [None, None, None]


def test_a_masked_sensor_holds_its_state() -> None:
    story = Story()
    assert story.told("oii", "oii", *["mii"] * 6) == [1, None, None]


def test_a_new_segment_or_a_long_pause_forgets() -> None:
    story = Story()
    story.told("oii", "oii")
    assert story.told("iii", segment=3) == [None, None, None]
    story.told("oii", "oii", segment=3)
    story.now += LENGTH + 1
    assert story.told("iii", segment=3) == [None, None, None]


def test_a_restored_state_goes_on_as_if_nothing_had_been_and_idle_assets_are_equal_bytes() -> None:
    story, other = Story(), Story()
    idle = story.stage.dump(0)
    story.told("oii", "oio", "iio")
    other.stage.load(0, story.stage.dump(0))
    other.now = story.now
    assert story.told("oio", "iii") == other.told("oio", "iii") == [1, None, 2]
    story.told("iii", "iii", "iii")
    assert story.stage.dump(0) == idle == story.stage.dump(1)
