"""Limits of a young average: nu at every age since a restart, whatever the autocorrelation."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.thresholds.ages import Ages, fit_ages
from monitor.thresholds.reestimate import Scales, final_ratio, refit
from monitor.thresholds.threshold import nu_quantile

NU, WEIGHT = 0.02, 0.2


def skewed(seed: int, count: int, pull: float = 0.7) -> np.ndarray:
    """Autocorrelated, right-skewed ratios with median about 0."""
    shocks = np.random.default_rng(seed).normal(size=count) * np.sqrt(1 - pull**2)
    out, before = np.empty(count), 0.0
    for t, shock in enumerate(shocks.tolist()):
        out[t] = before = pull * before + shock
    return (np.exp(0.5 * out) - 1.0) / 2.0


def averaged(values: np.ndarray) -> np.ndarray:
    """[runs, k] by the definition, each run restarting at 0."""
    out, before = np.empty(values.shape), np.zeros(len(values))
    for k in range(values.shape[1]):
        out[:, k] = before = WEIGHT * values[:, k] + (1 - WEIGHT) * before
    return out


def restarts_at(count: int, *places: int) -> np.ndarray:
    return np.isin(np.arange(count), (0, *places))


def test_every_age_has_the_quantile_and_median_of_averages_that_restart_anywhere() -> None:
    x = skewed(1, 400)
    ages = fit_ages(x, restarts_at(400), WEIGHT, NU)
    for k in (1, 2, 7):
        young = [averaged(x[None, t - k + 1 : t + 1])[0, -1] for t in range(k - 1, 400)]
        assert ages.limit[k - 1] == pytest.approx(nu_quantile(young, NU), rel=1e-12)
        assert ages.median[k - 1] == pytest.approx(np.median(young), rel=1e-12, abs=1e-15)


def test_an_average_never_reaches_back_across_a_restart() -> None:
    x = skewed(1, 300)
    cut = fit_ages(x, restarts_at(300, 100, 200), WEIGHT, NU)
    young = [averaged(x[None, t - 2 : t + 1])[0, -1] for t in range(300) if t % 100 >= 2]
    assert cut.limit[2] == pytest.approx(nu_quantile(young, NU), rel=1e-12)


def test_at_every_age_after_a_restart_nu_of_the_windows_exceed_the_steady_limit() -> None:
    ages = fit_ages(skewed(1, 60_000), restarts_at(60_000), WEIGHT, NU)
    fresh = averaged(skewed(2, 200_000).reshape(-1, 40))
    age = np.broadcast_to(np.arange(1, 41), fresh.shape)
    steady = ages.steady(fresh.ravel(), age.ravel()).reshape(fresh.shape)
    over = (steady > ages.limit[-1]).mean(axis=0)
    assert ((over >= 0.6 * NU) & (over <= 1.6 * NU)).all()
    assert (fresh[:, :2] > ages.limit[-1]).mean() < 0.2 * NU, "or restarts needed no limits of their own"


def test_a_steady_average_keeps_its_bits_and_no_smoothing_has_one_age() -> None:
    ages = fit_ages(skewed(1, 2000), restarts_at(2000), WEIGHT, NU)
    values = skewed(3, 50)
    old = np.full(50, len(ages.limit))
    assert ages.steady(values, old).tobytes() == values.tobytes()
    assert ages.steady(values, old + 1000).tobytes() == values.tobytes()
    assert len(fit_ages(skewed(1, 2000), restarts_at(2000), 1.0, NU).limit) == 1
    assert Ages.of_no_effect().steady(values, np.ones(50, np.int64)).tobytes() == values.tobytes()


def test_ages_that_few_windows_reach_take_the_last_that_enough_do() -> None:
    ages = fit_ages(skewed(1, 2000), restarts_at(2000, *range(0, 2000, 8)), WEIGHT, NU)
    assert len(ages.limit) == 5, "at age 5 half of a stretch of 8 is left"


def test_a_re_estimation_from_short_batches_gives_the_asked_rate() -> None:
    """Averages that restart every 12th window are young most of the time: taken for steady ones their limit is low."""
    every, nu, weight = 12, 0.02, 0.1
    trained_on, collected, later = (skewed(seed, 24_000)[:, None] for seed in (1, 2, 3))
    breaks = np.arange(24_000) % every == 0
    ages = fit_ages(trained_on[:, 0], restarts_at(24_000, 0), weight, nu)
    scales = Scales((0.0,), (1.0,), 0.0, 1.0)

    def realised(known: Ages) -> float:
        new = refit(
            collected,
            breaks,
            trained=scales,
            current=scales,
            how="any",
            weight=weight,
            scorer_nu=nu,
            nu=nu,
            enough=1.0,
            rng=np.random.default_rng(0),
            start_ns=0,
            end_ns=1,
            ages=known,
        )
        live = final_ratio(later, breaks, new.scales, "any", weight, ages)
        return float(np.mean(live > 1.0))

    assert realised(ages) == pytest.approx(nu, rel=0.35)
    assert realised(Ages.of_no_effect()) > 2.0 * nu
