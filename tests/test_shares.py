"""Shares of sensors in the smoothed ratio, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from monitor.attribution import Attribution
from monitor.training.masking import Study, usual_of

ROW = np.zeros(1, np.int32)


def stepped(usual: Any, weight: float = 1.0) -> tuple[Attribution, Any]:
    """A state, and a step of its one asset."""
    state = Attribution(np.array(usual, np.float64), weight)
    state.grow(1)

    def step(contributions: Any, away: Any, fresh: bool = False, ratios: Any = (1.0,)) -> Any:
        each = np.array(contributions, np.float64)
        each = each[None] if each.ndim == 2 else each[None, None]
        ratio = np.array([ratios])
        return state.step(
            ROW, np.array([fresh]), each, ratio, ratio.max(axis=1), np.array([away], np.float64)
        )[0]

    return state, step


def test_a_contribution_counts_by_what_is_usual_for_its_sensor() -> None:
    _, step = stepped([[1.0, 32.0]])
    # 32^-0.4 = 2^-2
    np.testing.assert_allclose(step([3.0, 4.0], [0.0, 0.0]), [3 / 4, 1 / 4])


def test_the_scorer_with_the_largest_ratio_speaks() -> None:
    _, step = stepped([[1.0, 1.0], [1.0, 1.0]])
    shares = step([[1.0, 0.0], [1.0, 3.0]], [0.0, 0.0], ratios=(0.5, 2.0))
    np.testing.assert_allclose(shares, [1 / 4, 3 / 4])


def test_distance_from_expected_counts_squared_at_once_and_to_the_fourth_over_time() -> None:
    _, step = stepped([[1.0, 1.0]])
    away = np.array([0.0, -10.0])
    weights = (1 + 0.05 * away**2) * (1 + 0.0075 * away**2) ** 2  # without smoothing U is u
    np.testing.assert_allclose(step([1.0, 1.0], away), weights / weights.sum())


def test_a_sensor_that_is_off_on_one_side_counts_more_than_one_that_scatters() -> None:
    _, step = stepped([[1.0, 1.0]], weight=0.1)
    first, second = [step([1.0, 1.0], [4.0, 4.0 * (-1) ** n]) for n in range(29)][-1]
    assert first > 2 * second


def test_windows_are_weighted_by_one_plus_their_ratio_and_averaged() -> None:
    _, step = stepped([[1.0, 1.0]], weight=0.5)
    step([1.0, 0.0], [0.0, 0.0], ratios=(3.0,))  # a weight of 4, halved by the next
    shares = step([0.0, 1.0], [0.0, 0.0], ratios=(0.0,))  # a weight of 1
    np.testing.assert_allclose(shares, [2 / 3, 1 / 3])
    low = step([1.0, 0.0], [0.0, 0.0], ratios=(-5.0,))  # far below: none
    np.testing.assert_allclose(low, [2 / 3, 1 / 3])


def test_averages_begin_anew_with_the_ratio() -> None:
    _, step = stepped([[1.0, 1.0]], weight=0.5)
    step([1.0, 0.0], [9.0, 0.0])
    np.testing.assert_allclose(step([0.0, 1.0], [0.0, 0.0], fresh=True), [0.0, 1.0])


def test_without_contributions_there_are_no_shares() -> None:
    _, step = stepped([[1.0, 1.0]])
    np.testing.assert_array_equal(step([0.0, 0.0], [1.0, 1.0]), [0.0, 0.0])


def test_state_goes_on_where_it_was_dumped() -> None:
    first, step = stepped([[1.0, 2.0]], weight=0.2)
    step([1.0, 2.0], [3.0, 0.0])
    second, other = stepped([[1.0, 2.0]], weight=0.2)
    second.load(0, first.dump(0))
    np.testing.assert_array_equal(step([2.0, 1.0], [1.0, 1.0]), other([2.0, 1.0], [1.0, 1.0]))
    with pytest.raises(ValueError, match="state row"):
        second.load(0, b"short")


def study_of(contributions: Any, observed: Any) -> Study:
    none = np.zeros((1, 1))
    return Study(none, none, none, np.array(contributions, np.float32), np.array(observed, np.bool_))


def test_usual_is_the_mean_where_the_sensor_is_real_and_not_far_below_the_others() -> None:
    one = study_of([[[1.0, 2.0, 0.0]], [[3.0, 0.0, 0.0]]], [[True, True, True], [True, False, True]])
    two = study_of([[[2.0, 4.0, 0.0]]], [[True, True, True]])
    # means 2, 3 and 0, the median 2: the third sensor counts as .3 of it
    np.testing.assert_allclose(usual_of([one, two]), [[2.0, 3.0, 0.6]])


def test_usual_of_a_scorer_without_contributions_is_one() -> None:
    np.testing.assert_array_equal(usual_of([study_of([[[0.0, 0.0]]], [[True, True]])]), [[1.0, 1.0]])


def test_usual_of_a_scorer_that_mostly_blames_one_sensor_is_positive() -> None:
    np.testing.assert_allclose(usual_of([study_of([[[0.0, 0.0, 9.0]]], [[True] * 3])]), [[0.9, 0.9, 9.0]])
