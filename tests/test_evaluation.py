from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics

from monitor.evaluation.comparison import Planted, compare
from monitor.evaluation.evaluate import evaluate, rate_interval
from monitor.evaluation.figures import Counts, Evaluation
from monitor.evaluation.incident_log import Contribution, incidents_from_alerts
from monitor.evaluation.labels import Interval, Labels, from_column, from_intervals
from tests.traces import T0, S, incident, trace_of

NAN = float("nan")


def fault(asset: str, start: float, end: float, name: str = "fault") -> tuple[str, Interval]:
    return asset, Interval(T0 + round(start * S), T0 + round(end * S), name)


# seconds 1..10; the fault covers 5..8
RATIOS = [0.2, 1.3, 0.4, 0.1, 0.9, 1.2, 1.5, 1.1, 1.0, 0.3]
BY_HAND = from_intervals([fault("R", 5, 8)])


def test_windows_are_counted_by_label_and_side_of_the_limit() -> None:
    figures = evaluate(trace_of({"R": RATIOS}), [], BY_HAND, nu=0.01).pooled
    # over the limit: 2 (normal), 6, 7, 8 (anomalous); exactly 1.0 is not over
    assert figures.counts == Counts(true_positives=3, false_positives=1, false_negatives=1, true_negatives=5)
    assert figures.precision == pytest.approx(3 / 4)
    assert figures.recall == pytest.approx(3 / 4)
    assert figures.f1 == pytest.approx(3 / 4)
    assert figures.false_alarm_rate == pytest.approx(1 / 6)
    assert figures.missed_alarm_rate == pytest.approx(1 / 4)


def test_areas_under_curves_are_those_of_pairs_counted_by_hand() -> None:
    ranking = evaluate(trace_of({"R": RATIOS}), [], BY_HAND, nu=0.01).pooled.ranking
    # anomalous .9 1.2 1.5 1.1 against normal .2 1.3 .4 .1 1.0 .3: they win 4 + 5 + 6 + 5 of 24 pairs
    assert ranking.roc_auc == pytest.approx(20 / 24)
    # ranked: 1.5+ 1.3- 1.2+ 1.1+ 1.0- .9+: precision at each hit 1/1, 2/3, 3/4, 4/6
    assert ranking.pr_auc == pytest.approx((1 + 2 / 3 + 3 / 4 + 4 / 6) / 4)
    assert ranking.anomalous_share == pytest.approx(0.4)


def test_pooled_figures_are_scikit_learns_over_all_scored_labelled_windows() -> None:
    rng = np.random.default_rng(3)
    ratios = {name: rng.gamma(2.0, 0.4, 400) for name in ("A", "B")}
    ratios["A"][::17] = np.nan
    truth = {name: np.zeros(400, bool) for name in ratios}
    truth["A"][99:180] = truth["B"][299:333] = True
    ratios["A"][99:180] += 0.5
    labels = from_intervals([fault("A", 100, 180), fault("B", 300, 333)])
    result = evaluate(trace_of(ratios), [], labels, nu=0.05)
    y, r = np.concatenate([truth["A"], truth["B"]]), np.concatenate([ratios["A"], ratios["B"]])
    y, r = y[np.isfinite(r)], r[np.isfinite(r)]
    pooled = result.pooled
    assert pooled.scored == len(r)
    assert pooled.precision == pytest.approx(metrics.precision_score(y, r > 1))
    assert pooled.recall == pytest.approx(metrics.recall_score(y, r > 1))
    assert pooled.f1 == pytest.approx(metrics.f1_score(y, r > 1))
    assert pooled.ranking.roc_auc == pytest.approx(metrics.roc_auc_score(y, r))
    assert pooled.ranking.pr_auc == pytest.approx(metrics.average_precision_score(y, r))
    (tn, fp), (fn, tp) = metrics.confusion_matrix(y, r > 1)
    assert pooled.false_alarm_rate == pytest.approx(fp / (fp + tn))
    assert pooled.missed_alarm_rate == pytest.approx(fn / (fn + tp))
    alone = result.assets["B"]
    assert alone.f1 == pytest.approx(metrics.f1_score(truth["B"], ratios["B"] > 1))
    assert alone.ranking.roc_auc == pytest.approx(metrics.roc_auc_score(truth["B"], ratios["B"]))


def test_one_hit_does_not_make_a_whole_interval_found() -> None:
    labels = from_intervals([fault("R", 1, 10)])
    figures = evaluate(trace_of({"R": [0.1] * 9 + [2.0]}), [], labels, nu=0.01).pooled
    assert figures.recall == pytest.approx(0.1)


def test_windows_that_were_not_scored_are_counted_beside_the_rates() -> None:
    labels = from_intervals([fault("R", 3, 4)])
    result = evaluate(trace_of({"R": [0.1, NAN, NAN, 2.0]}), [], labels, nu=0.01)
    assert result.pooled.share_scored == pytest.approx(0.5)
    assert result.pooled.anomalous_unscored == 1
    assert result.pooled.recall == 1.0
    assert "1 anomalous windows were not scored" in " ".join(result.notes)


def test_unlabelled_windows_are_judged_only_by_what_needs_no_label() -> None:
    result = evaluate(trace_of({"R": [0.5, 1.5, 0.5, 0.5]}), [incident("R", 2)], nu=0.01)
    figures = result.pooled
    assert not result.labelled
    assert figures.counts is None
    assert figures.delays is None
    assert (figures.precision, figures.f1, figures.ranking.roc_auc, figures.incidents.false) == (None,) * 4
    assert (figures.rate.basis, figures.rate.realised) == ("unlabelled", 0.25)
    assert "no labels" in result.notes[0]


def test_without_an_anomalous_window_only_false_alarms_can_be_said() -> None:
    result = evaluate(trace_of({"R": [0.5, 1.5, 0.5, 0.5]}), [], from_intervals([("R", None)]), nu=0.01)
    figures = result.pooled
    assert figures.false_alarm_rate == 0.25
    assert figures.precision == 0.0
    assert (figures.recall, figures.f1, figures.missed_alarm_rate) == (None, None, None)
    assert (figures.ranking.roc_auc, figures.ranking.pr_auc) == (None, None)
    assert "one kind" in " ".join(result.notes)


def test_a_monitor_that_never_fires_has_no_precision_and_recall_zero() -> None:
    figures = evaluate(trace_of({"R": [0.5] * 4}), [], from_intervals([fault("R", 3, 4)]), nu=0.01).pooled
    assert (figures.precision, figures.recall, figures.f1, figures.missed_alarm_rate) == (None, 0.0, 0.0, 1.0)


def test_realised_nu_is_over_normal_windows_only() -> None:
    rate = evaluate(trace_of({"R": RATIOS}), [], BY_HAND, nu=0.02).pooled.rate
    assert (rate.basis, rate.windows, rate.exceedances, rate.asked) == ("normal", 6, 1, 0.02)
    assert rate.realised == pytest.approx(1 / 6)


def test_unlabelled_assets_beside_labelled_ones_are_named() -> None:
    result = evaluate(trace_of({"R": RATIOS, "Q": [0.5] * 5}), [], BY_HAND, nu=0.02)
    assert result.pooled.rate.basis == "normal and unlabelled"
    assert result.pooled.rate.windows == 6 + 5
    assert "Q" in " ".join(result.notes)


def test_tau_of_exceedances_in_blocks_of_five_is_about_five() -> None:
    rng = np.random.default_rng(5)
    blocks = rng.random(4000) < 0.05
    rate = evaluate(trace_of({"R": np.where(np.repeat(blocks, 5), 1.5, 0.5)}), [], nu=0.05).pooled.rate
    # a process constant over blocks of length m, with independent blocks, has tau = m
    assert rate.tau == pytest.approx(5.0, rel=0.15)


def test_the_interval_of_a_rate_is_wilsons_at_as_many_trials_as_are_independent() -> None:
    plain = binomtest(17, 200).proportion_ci(method="wilson")
    assert rate_interval(17, 200, 1.0) == pytest.approx((plain.low, plain.high), abs=1e-6)
    fewer = binomtest(5, 50).proportion_ci(method="wilson")
    assert rate_interval(20, 200, 4.0) == pytest.approx((fewer.low, fewer.high), abs=1e-6)
    assert rate_interval(0, 0, 1.0) == (None, None)


def test_delays_are_to_the_first_and_to_the_third_of_three_windows_over_the_limit() -> None:
    #        5    6    7    8    9    10   11   12  (seconds)
    ratios = [0.1] * 4 + [0.5, 1.1, 0.5, 1.1, 1.1, 1.1, 0.2, 0.2]
    labels = from_intervals([fault("R", 5, 11, "fouling")])
    incidents = [incident("R", 2), incident("R", 9), incident("R", 8, kind="DRIFT")]
    (seen,) = evaluate(trace_of({"R": ratios}), incidents, labels, nu=0.01).detections
    assert (seen.name, seen.windows) == ("fouling", 7)
    assert (seen.first_delay_s, seen.third_delay_s, seen.incident_delay_s) == (1.0, 5.0, 4.0)
    assert not seen.over_before


def test_an_undetected_fault_is_counted_and_not_averaged_away() -> None:
    labels = from_intervals([fault("R", 2, 4), fault("R", 7, 10)])
    between = [incident("R", 6)]
    delays = evaluate(trace_of({"R": [0.1] * 8 + [1.5, 1.5]}), between, labels, nu=0.01).pooled.delays
    assert delays is not None
    assert (delays.faults, delays.detected, delays.undetected) == (2, 1, 1)
    assert (delays.detected_by_three, delays.raised) == (0, 0)
    assert (delays.median_first_s, delays.median_third_s) == (2.0, None)


def test_three_windows_of_which_one_began_before_the_fault_are_no_three_in_it() -> None:
    labels = from_intervals([fault("R", 3, 4)])
    (seen,) = evaluate(trace_of({"R": [0.1, 1.5, 1.5, 1.5, 0.1]}), [], labels, nu=0.01).detections
    assert seen.third_delay_s is None
    assert seen.over_before
    assert seen.first_delay_s == 0.0


def test_an_unscored_window_breaks_a_run_of_three() -> None:
    labels = from_intervals([fault("R", 1, 6)])
    (seen,) = evaluate(trace_of({"R": [1.5, 1.5, NAN, 1.5, 1.5, 1.5]}), [], labels, nu=0.01).detections
    assert seen.third_delay_s == 5.0


def test_faults_outside_the_replayed_time_are_named_and_not_counted_as_missed() -> None:
    labels = from_intervals([fault("R", 2, 3), fault("R", 500, 600)])
    result = evaluate(trace_of({"R": [0.1, 1.5, 1.5, 0.1]}), [], labels, nu=0.01)
    assert result.pooled.delays is not None
    assert result.pooled.delays.faults == 1
    assert "1 of 2 labelled faults lie outside" in " ".join(result.notes)


def test_incidents_per_day_are_of_monitored_time_without_gaps() -> None:
    seconds = [*range(1, 101), *range(90_001, 90_101)]
    trace = trace_of({"R": [0.1] * 200}, seconds={"R": seconds})
    rates = evaluate(trace, [incident("R", 5), incident("R", 50), incident("Q", 5)], nu=0.01).pooled.incidents
    assert rates.days == pytest.approx(200 / 86_400)
    assert rates.by_kind == {"ANOMALY": 2}
    assert rates.anomalies_per_day == pytest.approx(2 * 86_400 / 200)


def test_a_false_incident_is_one_raised_where_the_label_is_normal() -> None:
    values = np.array([0.0] * 4 + [1.0] * 4 + [np.nan] * 2)
    labels = from_column(["R"] * 10, T0 + S * np.arange(1, 11), values)
    incidents = [
        incident("R", 2),
        incident("R", 3, kind="SENSOR_FAULT", subject="pressure"),
        incident("R", 3, kind="DRIFT"),
        incident("R", 6),
        incident("R", 10),
    ]
    rates = evaluate(trace_of({"R": [0.1] * 10}), incidents, labels, nu=0.01).pooled.incidents
    assert rates.false == 2
    assert rates.false_per_week == pytest.approx(2 * 7 * 86_400 / 10)


def test_the_decisive_ratio_is_the_nearest_to_the_limit_from_either_side() -> None:
    result = evaluate(trace_of({"R": [0.5, 1.25, NAN], "Q": [0.875, 3.0]}), [], nu=0.01)
    assert result.pooled.decisive_ratio == pytest.approx(0.125)
    assert result.assets["R"].decisive_ratio == pytest.approx(0.25)
    assert result.decisive is not None
    assert (result.decisive.asset, result.decisive.end) == ("Q", "2026-01-01T00:00:01Z")


def test_each_scorer_is_ranked_by_its_own_ratio() -> None:
    own = {"R": [[0.1, 0.9], [0.2, 0.8], [1.3, 0.1], [1.4, 0.2]]}
    result = evaluate(
        trace_of({"R": [0.1, 0.2, 1.3, 1.4]}, own), [], from_intervals([fault("R", 3, 4)]), nu=0.01
    )
    assert [s.name for s in result.scorers] == ["scorer0", "scorer1"]
    assert [s.ranking.roc_auc for s in result.scorers] == [1.0, 0.0]


def test_an_asset_without_windows_is_left_out_and_a_trace_without_any_is_no_error() -> None:
    result = evaluate(trace_of({"R": [], "Q": [0.5]}), [], nu=0.01)
    assert list(result.assets) == ["Q"]
    empty = evaluate(trace_of({"R": []}), [], Labels(), nu=0.01)
    assert empty.pooled.windows == 0
    assert empty.pooled.share_scored is None
    assert "no window was scored" in empty.notes[0]


def test_an_evaluation_is_json_without_nan_and_reads_back_equal() -> None:
    result = evaluate(trace_of({"R": RATIOS, "Q": [NAN] * 3}), [incident("R", 6)], BY_HAND, nu=0.01)
    text = msgspec.json.encode(result)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert msgspec.json.decode(text, type=Evaluation) == result


def alert(n: int, event: str, severity: int, cleared: str | None = None, **more: object) -> dict[str, object]:
    return {
        "id": f"i1:{n:04d}",
        "subject": "poly2/R-101",
        "data": {
            "incident_id": "i1",
            "event": event,
            "kind": "ANOMALY",
            "severity": severity,
            "message": f"{event} at {severity}",
            "raised_at": "2026-01-01T00:00:10Z",
            "cleared_at": cleared,
            "contributions": [
                {
                    "sensor": "temperature",
                    "unit": "Cel",
                    "share": 0.6,
                    "observed": 183.4,
                    "expected": 171,
                    "sigma": 5,
                }
            ],
            **more,
        },
    }


def test_an_incident_is_folded_from_its_alerts_in_any_order_and_with_repeats() -> None:
    raised, updated = alert(1, "RAISED", 400), alert(2, "UPDATED", 700)
    cleared = alert(3, "CLEARED", 700, "2026-01-01T00:01:00Z")
    (got,) = incidents_from_alerts([updated, cleared, raised, updated])
    assert (got.asset, got.kind, got.subject) == ("poly2/R-101", "ANOMALY", "")
    assert (got.raised_ns - T0, got.start_ns - T0, got.cleared_ns) == (10 * S, 10 * S, T0 + 60 * S)
    assert (got.severity, got.message) == (700, "UPDATED at 700")
    assert got.contributions == (Contribution("temperature", "Cel", 0.6, 183.4, 171, 5),)


def test_an_open_incident_has_no_clearing_time_and_a_stated_start_is_kept() -> None:
    (got,) = incidents_from_alerts([alert(1, "RAISED", 400, started_at="2026-01-01T00:00:07Z", subject="x")])
    assert got.cleared_ns is None
    assert (got.start_ns - T0, got.subject) == (7 * S, "x")


def planted(asset: str, start: float, end: float, name: str = "fouling", benign: bool = False) -> Planted:
    return Planted(asset, name, T0 + round(start * S), T0 + round(end * S), benign)


def test_planted_faults_are_matched_by_asset_and_time_of_raising() -> None:
    what = [planted("A", 100, 200), planted("B", 100, 200, "leak"), planted("A", 500, 600, "stuck")]
    moved = (Contribution("jacket"), Contribution("pressure"))
    incidents = [
        incident("A", 130, 180, contributions=moved),
        incident("A", 150, 160, "SENSOR_FAULT", "feed"),
        incident("A", 50, 60),
        incident("A", 120, 130, "DRIFT"),
        incident("B", 201),
    ]
    result = compare(what, incidents)
    first, second, third = result.outcomes
    assert (first.name, first.found, first.delay_s, first.sensor, first.incidents) == (
        "fouling",
        True,
        30.0,
        "jacket",
        2,
    )
    assert (second.found, second.delay_s) == (False, None)
    assert (third.found, third.kind) == (False, "")
    assert (result.faults, result.found, result.median_delay_s) == (3, 1, 30.0)
    assert [(f.asset, f.raised) for f in result.false_incidents] == [
        ("A", "2026-01-01T00:00:50Z"),
        ("B", "2026-01-01T00:03:21Z"),
    ]


def test_an_incident_shortly_after_a_fault_is_its_finding_within_the_grace() -> None:
    result = compare([planted("B", 100, 200)], [incident("B", 201)], grace_ns=5 * S)
    assert result.outcomes[0].delay_s == 101.0
    assert result.false_incidents == ()


def test_a_benign_change_that_raises_an_incident_is_disturbed_and_the_incident_false() -> None:
    result = compare(
        [planted("A", 0, 100, "grade", benign=True), planted("B", 0, 9, "grade", benign=True)],
        [incident("A", 40)],
    )
    assert (result.faults, result.found, result.benign, result.disturbed) == (0, 0, 2, 1)
    assert len(result.false_incidents) == 1
    assert result.median_delay_s is None


def test_a_fault_that_begins_under_an_open_incident_says_so() -> None:
    result = compare([planted("A", 100, 200)], [incident("A", 50, 150)])
    assert result.outcomes[0].open_before
    assert not result.outcomes[0].found
    assert not compare([planted("A", 100, 200)], [incident("A", 50, 90)]).outcomes[0].open_before
