"""Training: parts in order of time, limits that a replay of the held-out stretch gives again, and refusals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import betabinom

from connectors.records import NO_CONTEXT, Batch, Context
from monitor.configuration import parse
from monitor.quantities import Duration
from monitor.thresholds.threshold import autocorrelation_time
from monitor.training import Trained, TrainingProgress, TrainingRefused, train
from monitor.training.scores import Scored, on_full_scale
from tests.worlds import SECOND, START, World, autoregressive, batch_of, configuration_text, pick, run, world

SENSORS, LENGTH, NU = 3, 10, 0.1
QUIET = "    drift: {detector: none, tracking: {enabled: false}}"


def text(
    scorers: str = "{pca: {}, var: {}}",
    length: int = LENGTH,
    extra: str = QUIET,
    nu: float = NU,
    method: str = "auto",
) -> str:
    body = configuration_text(SENSORS, length, scorers, extra, nu=nu)
    return body.replace("enough: 1}", f"enough: 1, method: {method}}}")


def trained_on(history: list[Batch], configuration: str, told: TrainingProgress | None = None) -> Trained:
    asset_class = parse(configuration, Path("world.yaml")).settings.asset_classes["unit"]
    return train(asset_class, "unit", history, config_hash="c", progress=told)


def continuous(seed: int, rows: int, assets: int = 1, pull: float = 0.6) -> Batch:
    return batch_of({f"plant/{n}": autoregressive(seed + n, rows, SENSORS, pull) for n in range(assets)})


def in_batches(seed: int, lengths: list[int], pull: float = 0.6) -> Batch:
    """One asset; batch n has lengths[n] rows and a phase change in its middle."""
    whole = continuous(seed, sum(lengths), pull=pull)
    contexts, context = [NO_CONTEXT], list[int]()
    for number, rows in enumerate(lengths):
        for phase, count in (("heat", rows // 2), ("hold", rows - rows // 2)):
            contexts.append(Context(f"b{number}", "A", phase))
            context += [len(contexts) - 1] * count
    return whole._replace(contexts=tuple(contexts), context=np.array(context, np.int32))


def second_of(ns: int) -> int:
    return (ns - START) // SECOND


# -- parts ----------------------------------------------------------------------------------------------------


def parts_by_hand(slot: np.ndarray, holdout: float = 0.4) -> np.ndarray:
    """0 fit, 1 scale, 2 limit: cut where the shares of slots are 1 - holdout, and half the rest."""
    ordered = np.sort(slot)
    at = [(1 - holdout) * (len(slot) - 1), (1 - holdout / 2) * (len(slot) - 1)]
    first, last = (
        ordered[math.floor(x)] + (x % 1) * (ordered[math.ceil(x)] - ordered[math.floor(x)]) for x in at
    )
    return np.array([0 if s < first else 1 if s < last else 2 for s in slot.tolist()])


def test_parts_follow_one_another_in_time_and_no_window_straddles_two() -> None:
    trained = trained_on([continuous(1, 500)], text())
    part = parts_by_hand(np.arange(500))
    whole = [k for k in range(LENGTH - 1, 500) if len(set(part[k - LENGTH + 1 : k + 1])) == 1]
    scale, limit = ([k for k in whole if part[k] == number] for number in (1, 2))
    assert (min(scale), max(scale), min(limit), max(limit)) == (309, 399, 409, 499)
    assert trained.counts == {
        "slots": 500,
        "slots_fit": 300,
        "windows_scale": len(scale),
        "windows_limit": len(limit),
    }
    for estimate in trained.scorer_estimates.values():
        assert (second_of(estimate.start_ns), second_of(estimate.end_ns)) == (min(scale), max(scale))
        assert estimate.n == len(scale)
    assert (second_of(trained.estimate.start_ns), second_of(trained.estimate.end_ns)) == (409, 499)
    assert trained.estimate.n == len(trained.limit_ratios) == len(limit)


def test_scaling_and_scorers_know_nothing_of_the_held_out_parts() -> None:
    history = continuous(1, 500)
    values = history.values.copy()
    values[300:] += 1000.0 * np.random.default_rng(0).random((200, SENSORS))
    wild = trained_on([history._replace(values=np.clip(values, -1000, 1000))], text())
    tame = trained_on([history], text())
    for fitted in (wild, tame):
        np.testing.assert_allclose(fitted.bundle.scaling.mean, history.values[:300].mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(fitted.bundle.scaling.std, history.values[:300].std(axis=0), rtol=1e-12)
    for one, other in zip(wild.bundle.scorers, tame.bundle.scorers, strict=True):
        for name, value in one.params.items():
            assert np.asarray(value).tobytes() == np.asarray(other.params[name]).tobytes(), name


def test_assets_are_cut_at_one_time_and_windows_hold_one_assets_rows() -> None:
    trained = trained_on([continuous(1, 300, assets=3)], text())
    part = parts_by_hand(np.arange(300))
    whole = [k for k in range(LENGTH - 1, 300) if len(set(part[k - LENGTH + 1 : k + 1])) == 1]
    assert trained.counts["windows_limit"] == 3 * sum(part[k] == 2 for k in whole)
    assert trained.counts["slots_fit"] == 3 * 180


LENGTHS = [23, 31, 18, 27, 40, 22, 35, 29, 25, 33, 21, 26, 30, 24, 28, 36, 19, 32, 34, 20]


def test_a_batch_belongs_as_a_whole_to_the_part_in_which_it_began() -> None:
    trained = trained_on([in_batches(1, LENGTHS)], text())
    begins = np.cumsum([0, *LENGTHS[:-1]])
    part = parts_by_hand(np.arange(sum(LENGTHS)))
    least = 3  # a quarter of 10 samples, rounded up
    windows = {
        number: [
            begin + row
            for begin, length in zip(begins.tolist(), LENGTHS, strict=True)
            for row in range(least - 1, length)
            if part[begin] == number
        ]
        for number in (0, 1, 2)
    }
    edges = [int(np.flatnonzero(part == number)[0]) for number in (1, 2)]
    assert not set(edges) & set(begins.tolist()), "both cuts fall into a batch, or this shows nothing"
    assert trained.counts["windows_scale"] == len(windows[1])
    assert trained.counts["windows_limit"] == len(windows[2])
    assert trained.counts["slots_fit"] == sum(
        length for begin, length in zip(begins, LENGTHS, strict=True) if part[begin] == 0
    )
    assert second_of(trained.estimate.start_ns) == min(windows[2])


# -- training and live agree ----------------------------------------------------------------------------------


def ages(history: Batch, fresh: str) -> np.ndarray:
    """Rows since the stretch began that each row's windows may reach back to, the row itself included."""
    found, before = list[int](), None
    for number in history.context.tolist():
        context = history.contexts[number]
        key = (context.batch_id, context.phase if fresh == "phase" else None)
        found.append(found[-1] + 1 if key == before else 1)
        before = key
    return np.array(found)


class Case:
    """A trained world, its one-asset history, and the part that set the limit run live, in pieces."""

    def __init__(self, configuration: str, history: Batch) -> None:
        self.world: World = world(configuration, [history])
        first = second_of(self.world.trained.estimate.start_ns)
        age = ages(history, self.world.asset_class.batches.fresh_window)
        stretch = pick(history, slice(first - min(LENGTH, int(age[first])) + 1, None))
        _, self.trace = run(self.world.pipeline(), stretch, cuts=(50, 51, 120))
        self.age = age[(self.trace.end - START) // SECOND]


CASES: dict[str, tuple[str, Batch]] = {
    "continuous": (text(), continuous(5, 1200)),
    "all_smoothed": (
        text().replace("smoothing: 0.2}", "combine: all, smoothing: 0.6}"),
        continuous(5, 1200),
    ),
    "batches": (text(), in_batches(5, LENGTHS * 2)),
    "aligned": (
        text(extra="    batches: {align: true, fresh_window: phase}\n" + QUIET),
        in_batches(5, LENGTHS * 2),
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(*CASES[request.param])


def order_statistic(values: np.ndarray, nu: float) -> float:
    return sorted(values.tolist())[math.ceil((len(values) + 1) * (1 - nu)) - 1]


def test_the_held_out_stretch_run_live_has_the_very_ratios_that_set_the_limit(case: Case) -> None:
    ratios = case.trace.ratio[case.trace.scored]
    assert len(ratios) > 150
    assert ratios.tobytes() == case.world.trained.limit_ratios.tobytes()
    assert order_statistic(ratios, NU) == 1.0
    assert np.median(ratios) == pytest.approx(0.0, abs=1e-12)


def test_the_same_holds_for_several_assets_side_by_side() -> None:
    history = continuous(5, 600, assets=3)
    w = world(text(), [history])
    first = second_of(w.trained.estimate.start_ns) - LENGTH + 1
    _, trace = run(w.pipeline(), pick(history, slice(3 * first, None)), cuts=(50, 51, 120))
    ratios = trace.ratio[trace.scored]
    assert ratios.tobytes() == w.trained.limit_ratios.tobytes()
    runs = [len(ratios) // 3] * 3
    assert w.trained.estimate.tau == autocorrelation_time(ratios > 1.0, runs), "pairs of two assets are none"


def test_the_limit_is_the_nu_quantile_of_what_a_person_gets_from_the_live_scores(case: Case) -> None:
    """From raw scores on: scaled by maturity, combined, smoothed, and the order statistic taken, by hand."""
    trace, scales, scoring = case.trace, case.world.model.scales, case.world.asset_class.scoring
    smoothed, before, start, youth = list[float](), 0.0, None, 0
    steady = scales.ages.median[-1], scales.ages.limit[-1]
    for w in np.flatnonzero(trace.scored):
        kind = max(k for k, least in enumerate(scales.maturity.tolist()) if min(LENGTH, case.age[w]) >= least)
        own = [
            (float(trace.score[w, s]) - scales.median[s, kind])
            / (scales.limit[s, kind] - scales.median[s, kind])
            for s in range(2)
        ]
        began = second_of(int(trace.end[w])) - int(case.age[w])
        before, youth, start = (0.0, 1, began) if began != start else (before, youth + 1, began)
        before = scoring.smoothing * {"any": max, "all": min}[scoring.combine](own) + (
            (1 - scoring.smoothing) * before
        )
        age = min(youth, len(scales.ages.median)) - 1
        young = (before - scales.ages.median[age]) / (scales.ages.limit[age] - scales.ages.median[age])
        smoothed.append(steady[0] + young * (steady[1] - steady[0]))
    limit, median = order_statistic(np.array(smoothed), NU), float(np.median(smoothed))
    assert case.world.trained.estimate.threshold == pytest.approx(limit, rel=1e-12)
    assert case.world.trained.estimate.median == pytest.approx(median, rel=1e-12)
    final = (np.array(smoothed) - median) / (limit - median)
    np.testing.assert_allclose(trace.ratio[trace.scored], final, rtol=1e-9, atol=1e-12)


def test_each_scorers_scale_is_median_and_quantile_of_the_scale_part_alone() -> None:
    history = continuous(5, 1200)
    w = world(text(), [history])
    low, high = (second_of(ns) for ns in (w.trained.scorer_estimates["var"].start_ns, 960 * SECOND + START))
    _, trace = run(w.pipeline(), pick(history, slice(low - LENGTH + 1, high)))
    scores = trace.score[trace.scored]
    assert len(scores) == w.trained.counts["windows_scale"]
    for s, name in enumerate(trace.scorers):
        limit, median = order_statistic(scores[:, s], NU), float(np.median(scores[:, s]))
        assert w.trained.scorer_estimates[name].threshold == limit
        assert w.model.scales.limit[s].tolist() == [limit]
        assert w.model.scales.median[s].tolist() == [median]


def test_fresh_normal_data_exceed_the_limit_as_often_as_chance_allows() -> None:
    """Independent windows: how many exceed an order statistic of n others is beta-binomial, exactly."""
    body = text().replace(f"length: {LENGTH}}}", f"length: {LENGTH}, stride: {LENGTH}}}")
    body = body.replace("smoothing: 0.2}", "smoothing: 1.0}")
    assert "stride" in body
    w = world(body, [continuous(7, 20_000, pull=0.0)])
    _, trace = run(w.pipeline(), continuous(90, 30_000, pull=0.0))
    n, fresh = w.trained.estimate.n, int(trace.scored.sum())
    over = int((trace.ratio[trace.scored] > 1.0).sum())
    law = betabinom(fresh, n + 1 - math.ceil((n + 1) * (1 - NU)), math.ceil((n + 1) * (1 - NU)))
    low, high = law.interval(0.999)
    assert fresh > 2500
    assert law.mean() == pytest.approx(NU * fresh, rel=0.02)
    assert low <= over <= high


def folded(standardised: np.ndarray) -> Scored:
    """Out-of-fold scores [W, 1] in units of what their models say of the rows that they were fitted to."""
    count = np.arange(len(standardised))
    row, fold = np.zeros(len(count), np.int32), np.zeros(len(count), np.int8)
    return Scored(count, row, count, count, count, row, standardised[:, None], fold)


def test_scores_of_folds_are_moved_as_far_as_a_fit_to_all_rows_would_lie_off_its_own() -> None:
    raw = np.random.default_rng(0).exponential(size=2000)
    centre, spread = np.median(raw), np.quantile(raw, 0.9) - np.median(raw)
    seen = (raw - centre) / spread
    moved = on_full_scale(folded(1.0 + 3.0 * seen), raw[:, None], (np.array([5.0]), np.array([2.0])), 0.8)
    # a factor of 3 at .8 n tells p / n = .4 at n, and with it a factor of 1.4 / .6 there
    less = 1.4 / 0.6
    expected = 5.0 + 2.0 * ((less - 1.0) / 2.0 * 1.0 + less * seen)
    np.testing.assert_allclose(moved.score[:, 0], expected, rtol=1e-9)


def test_scores_of_a_scorer_that_knows_its_rows_by_heart_are_taken_as_its_folds_gave_them() -> None:
    raw = np.random.default_rng(0).exponential(size=2000)
    own = (np.array([5.0]), np.array([2.0]))
    near, far = (on_full_scale(folded(factor * raw), raw[:, None], own, 0.8) for factor in (5.0, 500.0))
    assert not np.allclose(near.score[:, 0], raw, rtol=0.1)
    np.testing.assert_array_equal(far.score[:, 0], raw)


# -- maturity -------------------------------------------------------------------------------------------------


def classes(history: Batch, **changes: Any) -> list[int]:
    trained = trained_on([history], text(**changes))
    return trained.bundle.calibration["maturity"].tolist()


def test_windows_of_a_running_process_have_one_class() -> None:
    assert classes(continuous(1, 600)) == [LENGTH]


def test_young_half_grown_and_full_windows_have_limits_of_their_own_where_there_are_enough() -> None:
    assert classes(in_batches(1, [30] * 80)) == [3, 5, LENGTH]


def test_a_class_too_small_for_nu_joins_its_elders() -> None:
    """A batch in the scale part gives 2 young (3, 4 rows), 5 half-grown (5 to 9) and 21 full windows."""
    assert classes(in_batches(1, [30] * 30)) == [3, LENGTH]  # 6 batches: 12 young, 30 half-grown
    assert classes(in_batches(1, [30] * 15)) == [3, LENGTH]  # 3 batches: 15 half-grown, but 21 with the young
    assert classes(in_batches(1, [30] * 7)) == [3]  # 1 batch: 7


def test_the_first_scored_window_of_a_batch_is_as_old_as_the_first_class() -> None:
    w = world(text(), [in_batches(1, [30] * 30)])
    _, trace = run(w.pipeline(), in_batches(2, [30, 30]))
    assert np.flatnonzero(trace.scored).tolist() == [*range(2, 30), *range(32, 60)]


# -- what is refused, and what is not -------------------------------------------------------------------------


def test_an_empty_history_is_refused() -> None:
    other = continuous(1, 400)._replace(asset_class="other")
    for history in ([], [other], [pick(continuous(1, 5), slice(0, 0))]):
        with pytest.raises(
            TrainingRefused, match=r"got no closed slot, expected history.*hint: check `assets`"
        ):
            trained_on(history, text())


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            8,
            "asset class 'unit': .*got no window of 10 samples in the 62% of the history that fit the models",
        ),
        (45, "asset class 'unit': got no held-out window in the scale part; hint: "),
        (80, "calibration scores cannot give a limit for nu = 0.1: expected at least 9; hint: "),
    ],
)
def test_a_history_too_short_is_refused_with_what_is_missing(rows: int, said: str) -> None:
    with pytest.raises(TrainingRefused, match=said) as caught:
        trained_on([continuous(1, rows)], text(scorers="{pca: {}}", method="holdout"))
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("method", ["holdout", "folds"])
def test_a_nu_that_the_history_cannot_support_is_refused(method: str) -> None:
    with pytest.raises(TrainingRefused, match=r"nu = 0\.001: expected at least 999"):
        trained_on([continuous(1, 600)], text(nu=0.001, method=method))


def test_a_constant_sensor_trains_and_a_change_of_it_is_seen() -> None:
    history = continuous(1, 600)
    history.values[:, 1] = 20.0
    w = world(text(extra=QUIET + "\n    alerting: {on_delay: 0s}"), [history])
    assert w.trained.bundle.scaling.std[1] == 2000 * 1e-4
    fresh = continuous(2, 100)
    fresh.values[:, 1] = np.where(np.arange(100) < 60, 20.0, 23.0)
    _, trace = run(w.pipeline(), fresh)
    assert np.isfinite(trace.ratio[trace.scored]).all()
    assert trace.ratio[-1] > 3
    assert trace.sensors[int(trace.contributions[-1].argmax())] == "s1"


def test_sensors_that_all_stand_still_are_refused_because_no_limit_can_be_formed() -> None:
    history = continuous(1, 600)
    history.values[:] = 20.0
    with pytest.raises(TrainingRefused, match="not above"):
        trained_on([history], text())


def test_too_little_for_a_trustworthy_rate_trains_with_a_warning() -> None:
    trained = trained_on([continuous(1, 600)], text().replace("enough: 1,", "enough: 50,"))
    assert trained.estimate.label == "UNCALIBRATED"
    (warning,) = [w for w in trained.warnings if w.startswith("UNCALIBRATED")]
    missing = trained.estimate.missing
    assert f"needs {missing} more windows of the same kind, about " in warning
    told = Duration.parse(warning.split("about ")[1].removesuffix(" of one asset"))
    share = 1.0 if trained.estimate.source.startswith("out-of-fold") else 0.2
    assert int(told) == math.ceil(missing / share) * SECOND


def test_a_sensor_that_is_often_faulty_in_the_history_is_named() -> None:
    history = continuous(1, 600)
    history.values[100:120, 2] = 5000.0
    trained = trained_on([history], text())
    assert [w for w in trained.warnings if "s2" in w] == [
        "sensor s2: 3.3% of the history is faulty and was left out"
    ]
    assert trained.bundle.scaling.mean[2] < 100


# -- the bundle -----------------------------------------------------------------------------------------------


def test_the_same_history_gives_the_same_bundle_and_its_contexts_are_in_it() -> None:
    history = in_batches(1, [30] * 30)
    one, other = (trained_on([history], text()) for _ in range(2))
    assert one.bundle.id == other.bundle.id
    assert one.bundle.fields["contexts"] == {"recipes": ["A"], "phases": ["heat", "hold"], "setpoints": {}}
    assert one.bundle.fields["assets"] == ["plant/0"]
    assert one.bundle.fields["trained_from"] == "2025-10-09T08:53:20Z"
    assert one.bundle.fields["trained_to"] == "2025-10-09T09:08:19Z"
    assert one.bundle.fields["config"] == "c"


def test_how_the_history_is_cut_into_batches_of_rows_changes_nothing() -> None:
    history = continuous(1, 500, assets=2)
    cut = [pick(history, slice(low, low + 77)) for low in range(0, 1000, 77)]
    assert trained_on(cut, text()).bundle.id == trained_on([history], text()).bundle.id


def test_progress_tells_of_every_stage_in_order() -> None:
    class Told(TrainingProgress):
        def __init__(self) -> None:
            self.stages: list[str] = []
            self.last = (0, 1)

        def stage(self, name: str) -> None:
            self.stages.append(name)

        def step(self, done: int, total: int, values: Any) -> None:
            del values
            self.last = (done, total)

    told = Told()
    trained_on([continuous(1, 500)], text(), told)
    assert told.stages == ["reading history", "fitting pca", "fitting var", "calibrating"]
    assert told.last == (500, 500)
