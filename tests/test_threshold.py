"""The nu-quantile rule, its uncertainty, ratios, p-values and ranks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from monitor.thresholds.threshold import (
    ThresholdRefused,
    autocorrelation_time,
    beyond,
    bootstrap_interval,
    estimate,
    level_time,
    nu_quantile,
    p_value,
    rank,
    ratio,
    required,
    smallest_sample,
)


def ar1(rng, phi, n, shape=()):
    """[n, *shape] stationary Gaussian AR(1) with unit variance."""
    x = rng.standard_normal((n, *shape))
    x[1:] *= math.sqrt(1 - phi**2)
    for t in range(1, n):
        x[t] += phi * x[t - 1]
    return x


@pytest.mark.parametrize(
    ("n", "nu", "k"),
    [
        (99, 0.01, 99),  # 100 * .99 = 99: the largest of 99
        (100, 0.01, 100),  # 101 * .99 = 99.99
        (199, 0.01, 198),  # 200 * .99 = 198
        (9, 0.33, 7),  # 10 * .67 = 6.7
        (9, 0.1, 9),
        (99, 0.05, 95),
        (10, 0.5, 6),  # 11 * .5 = 5.5
    ],
)
def test_the_threshold_is_the_kth_smallest_score(n, nu, k):
    scores = np.random.default_rng(0).permutation(np.arange(1.0, n + 1.0))
    assert nu_quantile(scores, nu) == k


def test_a_product_that_rounding_puts_just_above_a_whole_number_is_not_taken_one_too_high():
    assert (999 + 1) * (1 - 0.059) > 941
    assert nu_quantile(np.arange(1.0, 1000.0), 0.059) == 941.0


def test_too_few_scores_are_refused_with_the_number_that_would_do():
    with pytest.raises(ThresholdRefused, match=r"98 calibration scores .* nu = 0\.01: expected at least 99"):
        nu_quantile(np.arange(98.0), 0.01)
    assert issubclass(ThresholdRefused, ValueError)


def test_no_scores_at_all_are_refused():
    with pytest.raises(ThresholdRefused, match="0 calibration scores"):
        nu_quantile([], 0.01)


@given(st.floats(0.001, 0.5))
def test_the_smallest_sample_is_accepted_and_one_less_is_not(nu):
    n = smallest_sample(nu)
    nu_quantile(np.arange(float(n)), nu)
    with pytest.raises(ThresholdRefused):
        nu_quantile(np.arange(float(n - 1)), nu)


@pytest.mark.parametrize("nu", [0.0, 1.0, -0.1, math.nan])
def test_nu_outside_zero_and_one_is_an_error(nu):
    with pytest.raises(ValueError, match="nu: expected"):
        nu_quantile(np.arange(100.0), nu)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_refuses_the_threshold(bad):
    scores = np.arange(200.0)
    scores[17] = bad
    with pytest.raises(ThresholdRefused, match="1 of 200 calibration scores are not finite"):
        nu_quantile(scores, 0.01)


@pytest.mark.parametrize(("n", "nu"), [(99, 0.05), (150, 0.05), (500, 0.01), (250, 0.1)])
def test_independent_scores_exceed_the_threshold_at_the_rate_that_the_rule_promises(n, nu):
    """The true exceedance of an exponential sample's threshold q is exp(-q); its mean is 1 - k/(n + 1)."""
    rng = np.random.default_rng(n)
    realised = np.exp([-nu_quantile(rng.exponential(size=n), nu) for _ in range(4000)])
    k = math.ceil(round((n + 1) * (1 - nu), 9))
    promised = 1 - k / (n + 1)
    spread = stats.beta(n - k + 1, k).std() / math.sqrt(4000)
    assert abs(realised.mean() - promised) < 4 * spread
    assert promised <= nu + 1e-12


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_the_autocorrelation_time_of_an_ar1_process_is_its_closed_form(phi):
    tau = autocorrelation_time(ar1(np.random.default_rng(1), phi, 200_000))
    assert tau == pytest.approx((1 + phi) / (1 - phi), rel=0.08)


def test_the_autocorrelation_time_of_repeated_values_is_their_repetition():
    """Each of n values held for m steps: rho_k = 1 - k/m on average, so that tau = 1 + 2 (m - 1)/2 = m."""
    held = np.repeat(np.random.default_rng(2).standard_normal(20_000), 8)
    assert autocorrelation_time(held) == pytest.approx(8.0, rel=0.05)


def test_the_autocorrelation_time_is_never_below_one():
    assert autocorrelation_time(np.tile([1.0, -1.0], 500)) == 1.0
    assert autocorrelation_time(np.ones(50)) == 1.0
    assert autocorrelation_time([3.0]) == 1.0
    assert autocorrelation_time([]) == 1.0


def test_pairs_across_runs_do_not_count():
    """Two equal values in each run: rho_1 = 1 within a run, so 1 + 2 = 3; as one run, every other neighbour
    is unrelated, so rho_1 = 1/2 and tau = 2; as runs of one value there are no pairs at all.
    """
    pairs = np.repeat(np.random.default_rng(3).standard_normal(5000), 2)
    assert autocorrelation_time(pairs, [2] * 5000) == pytest.approx(3.0, rel=0.05)
    assert autocorrelation_time(pairs) == pytest.approx(2.0, rel=0.1)
    assert autocorrelation_time(pairs, [1] * 10_000) == 1.0


def test_short_runs_give_the_autocorrelation_time_of_the_long_sequence():
    rng = np.random.default_rng(4)
    batches = ar1(rng, 0.7, 120, (400,)).T.ravel()
    assert autocorrelation_time(batches, [120] * 400) == pytest.approx(1.7 / 0.3, rel=0.1)


def test_run_lengths_that_do_not_sum_to_the_scores_are_an_error():
    with pytest.raises(ValueError, match="sum to the 10 scores, got a sum of 9"):
        autocorrelation_time(np.arange(10.0), [4, 5])


def test_the_bootstrap_interval_of_independent_scores_covers_the_true_quantile_as_often_as_it_says():
    rng, covered = np.random.default_rng(5), 0
    truth = -math.log(0.05)
    for _ in range(200):
        low, high = bootstrap_interval(rng.exponential(size=600), 0.05, tau=1.0, runs=None, rng=rng)
        covered += low <= truth <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_the_bootstrap_interval_of_autocorrelated_scores_covers_too_where_independent_resampling_does_not():
    rng = np.random.default_rng(6)
    truth = stats.norm.isf(0.05)
    samples = ar1(rng, 0.9, 3000, (120,)).T
    blocks = naive = 0
    for scores in samples:
        tau = autocorrelation_time(scores > nu_quantile(scores, 0.05))
        low, high = bootstrap_interval(scores, 0.05, tau=tau, runs=None, rng=rng)
        blocks += low <= truth <= high
        low, high = bootstrap_interval(scores, 0.05, tau=0.01, runs=[1] * 3000, rng=rng)
        naive += low <= truth <= high
    assert blocks / 120 >= 0.85
    assert naive / 120 <= 0.75


def test_whole_runs_are_resampled_where_there_are_several():
    """60 batches whose level differs from batch to batch: the spread between batches must show."""
    rng = np.random.default_rng(7)
    level = np.repeat(rng.standard_normal(60), 50)
    scores = level + 0.1 * rng.standard_normal(3000)
    runs = bootstrap_interval(scores, 0.1, tau=1.0, runs=[50] * 60, rng=rng)
    independent = bootstrap_interval(scores, 0.1, tau=1.0, runs=[1] * 3000, rng=rng)
    assert runs[1] - runs[0] > 3 * (independent[1] - independent[0])


def test_the_same_generator_state_gives_the_same_interval():
    scores = np.random.default_rng(8).exponential(size=500)
    first, second = (
        bootstrap_interval(scores, 0.02, tau=1.0, runs=None, rng=np.random.default_rng(1)) for _ in range(2)
    )
    assert first == second


def test_an_estimate_says_what_it_knows():
    scores = np.random.default_rng(9).permutation(np.arange(1.0, 4000.0))  # 3999 scores, n nu = 40
    result = estimate(scores, 0.01, rng=np.random.default_rng(0), source="history", start_ns=5, end_ns=7)
    assert (result.n, result.threshold, result.median) == (3999, 3960.0, 2000.0)
    assert result.smallest_p == 1 / 4000
    assert result.n_eff == pytest.approx(3999 / result.tau)
    assert result.tau < 1.4
    assert (result.enough, result.missing, result.label) == (True, 0, "CALIBRATED")
    assert result.low < 3960.0 < result.high <= 3999.0
    assert (result.source, result.start_ns, result.end_ns) == ("history", 5, 7)


def test_an_estimate_from_too_few_scores_is_uncalibrated_and_says_how_many_are_missing():
    scores = np.concatenate([np.arange(200.0)] * 3)[np.random.default_rng(1).permutation(600)]
    result = estimate(scores, 0.01, rng=np.random.default_rng(0))
    assert (result.enough, result.label) == (False, "UNCALIBRATED")
    assert result.missing == math.ceil(16 / 0.01 * result.tau) - 600


def test_autocorrelation_reduces_what_the_scores_are_worth():
    """Each value five times over: 10 000 scores, worth 2000."""
    scores = np.repeat(np.random.default_rng(2).exponential(size=2000), 5)
    result = estimate(scores, 0.02, rng=np.random.default_rng(0))
    assert result.n_eff == pytest.approx(2000, rel=0.25)


def test_a_threshold_that_is_not_above_the_median_is_refused_with_an_explanation():
    with pytest.raises(ThresholdRefused, match=r"not above their median .* the scorer has collapsed"):
        estimate(np.full(500, 2.5), 0.01, rng=np.random.default_rng(0))


def test_required_scores_grow_with_the_autocorrelation_time():
    assert required(0.01, 1.0, 16.0) == 1600
    assert required(0.01, 5.0, 16.0) == 8000
    assert required(0.01, 1.0, 0.1) == 99


def test_the_ratio_is_nought_at_the_median_and_one_at_the_threshold_also_for_negative_scores():
    np.testing.assert_array_equal(ratio([2.0, 3.0, 4.0, 1.0], 2.0, 3.0), [0.0, 1.0, 2.0, -1.0])
    np.testing.assert_allclose(ratio([-0.5, 0.02], -0.5, 0.02), [0.0, 1.0])


def test_p_values_count_the_calibration_scores_at_or_above():
    calibration = np.array([1.0, 2.0, 2.0, 3.0])
    np.testing.assert_allclose(
        p_value(calibration, [0.0, 1.0, 2.0, 2.5, 3.0, 9.0, np.nan]),
        [5 / 5, 5 / 5, 4 / 5, 2 / 5, 2 / 5, 1 / 5, np.nan],
    )


def test_ranks_lie_between_nought_and_one_and_count_ties_half():
    calibration = np.array([1.0, 2.0, 2.0, 3.0])
    np.testing.assert_allclose(
        rank(calibration, [0.0, 1.0, 2.0, 2.5, 9.0, np.nan]), [0.0, 0.125, 0.5, 0.75, 1.0, np.nan]
    )


def test_ranks_of_further_normal_scores_are_uniform():
    rng = np.random.default_rng(11)
    ranks = rank(np.sort(rng.gumbel(size=20_000)), rng.gumbel(size=2000))
    assert stats.kstest(ranks, "uniform").pvalue > 0.01


def test_where_the_scores_resolve_nu_nothing_is_extrapolated():
    scores = np.random.default_rng(0).exponential(size=5000)
    assert beyond(scores, 0.01, independent=99.0) == 0.0
    assert beyond(scores, 0.01, independent=98.0) > 0.0
    found = estimate(scores, 0.01, rng=np.random.default_rng(1), extrapolate=True)
    assert not found.extrapolated
    assert found.threshold == nu_quantile(scores, 0.01)


def test_the_tail_is_followed_from_what_the_scores_resolve_to_nu():
    scores = np.random.default_rng(0).exponential(scale=2.0, size=200_000)
    # an exponential tail of scale 2 falls from 1/20 to 1/100 within 2 log 5 = 3.2; with its mean known from the upper
    # half of 19 scores only, within 9.5 x 2 x (5^(1 / 9.5) - 1) = 3.5
    assert beyond(scores, 0.01, independent=19.0) == pytest.approx(
        19.0 * (5.0 ** (1.0 / 9.5) - 1.0), rel=0.02
    )


@pytest.mark.parametrize(("count", "most"), [(10, 1.25), (20, 1.1)])
def test_few_scores_are_followed_far_enough_for_the_mean_that_they_do_not_know(count: int, most: float):
    rng, nu = np.random.default_rng(8), 0.01
    resolved = 1.0 / (count + 1)
    fallen = [
        math.exp(-beyond(rng.exponential(size=count), nu, independent=count)) * resolved for _ in range(8000)
    ]
    assert 0.95 * nu < np.mean(fallen) < most * nu  # with the mean taken as known: 1.74 nu and 1.20 nu


def test_runs_that_differ_in_level_alone_are_worth_one_value_each():
    levels = np.repeat([0.0, 3.0, -1.0, 2.0, -4.0], 70)
    assert level_time(levels, [70] * 5) == pytest.approx(70.0, rel=0.01)


def test_over_long_runs_the_level_is_known_as_the_autocorrelation_time_has_it():
    values = ar1(np.random.default_rng(1), 0.8, 100_000)
    assert level_time(values, [50_000] * 2) == pytest.approx(autocorrelation_time(values), rel=0.02)
    assert level_time(np.ones(50)) == 1.0


def test_an_extrapolated_limit_of_a_short_smoothed_history_is_exceeded_less_too_often():
    rng, weight, nu = np.random.default_rng(5), 0.1, 0.01

    def smoothed(n: int) -> np.ndarray:
        return lfilter([weight], [1.0, weight - 1.0], rng.standard_normal(n + 200))[200:]

    new, plain, moved = smoothed(200_000), [], []
    for _ in range(60):
        scores = smoothed(400)
        for rates, extrapolate in ((plain, False), (moved, True)):
            found = estimate(scores, nu, rng=np.random.default_rng(1), extrapolate=extrapolate)
            assert found.extrapolated is extrapolate
            assert found.label == "UNCALIBRATED"
            rates.append(np.mean(new > found.threshold))
    assert np.mean(plain) > 2.0 * nu
    assert 0.4 * nu < np.mean(moved) < 1.6 * nu
