"""Verdicts 'real' and 'false': weights and limits change, the network does not, and without verdicts nothing does."""

from __future__ import annotations

import importlib.util
import shutil
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from connectors.files import read_column
from monitor.bundles import read_bundle, write_bundle
from monitor.cli.common import pipeline_factory
from monitor.cli.history import history
from monitor.cli.jobs.feedback import Asked, feedback_command
from monitor.cli.jobs.models import alone
from monitor.configuration import read
from monitor.connect import layout_of, make_source, recordings
from monitor.evaluation.labels import Label, LabelsError, from_column
from monitor.evaluation.verdicts import Verdict, held_out, read_verdicts
from monitor.model import Model
from monitor.quantities import iso_time
from monitor.replay import replay
from monitor.report.feedback import feedback_text
from monitor.thresholds.reranking import Reranking, shares
from monitor.training import TrainingProgress, train
from monitor.training.feedback import Manner, Scene, Told, _linear, combined, learn
from monitor.training.history import collect
from monitor.training.verdicts import Feedback, apply_verdicts
from tests.data import data_folder
from tests.worlds import (
    SECOND,
    START,
    World,
    alerts,
    autoregressive,
    batch_of,
    configuration_text,
    polled,
    run,
    world,
)

SENSORS, LENGTH = 4, 8
STEADY = "    drift: {detector: none, re_estimate: approve, tracking: {enabled: false}}"
MANNER = Manner("any", 0.5, 0.1, 1.0)


@cache
def small() -> World:
    """Windows of four sensors, scored by two scorers."""
    text = configuration_text(SENSORS, LENGTH, "{pca: {}, mewma: {}}", STEADY)
    return world(text, [batch_of({"plant/a": autoregressive(1, 1500, SENSORS)})])


def at(second: int) -> int:
    return START + second * SECOND


def recorded_values() -> np.ndarray:
    """Sensor 0 wanders by itself in rows 200-239, 500-539, a fault shows in sensor 2 in rows 800-839, 1000-1039."""
    values = autoregressive(2, 1200, SENSORS)
    for first in (200, 500):
        values[first : first + 40, 0] += 3.0
    for first in (800, 1000):
        values[first : first + 40, 2] += 3.0
    return values


VERDICTS = [
    Verdict("plant/a", at(210), at(239), False),
    Verdict("plant/a", at(510), at(539), False),
    Verdict("plant/a", at(810), at(839), True),
    Verdict("plant/a", at(1010), at(1039), True),
]


def told_to(used: list[Verdict], held: list[Verdict]) -> tuple[World, Feedback, Model]:
    asset_class = small().asset_class
    rows = [
        collect(asset_class, [batch_of({"plant/a": values})])
        for values in (autoregressive(1, 1500, SENSORS), recorded_values())
    ]
    bundle, found = apply_verdicts(
        asset_class, small().trained.bundle, *rows, used, held, prior=0.3, told=TrainingProgress()
    )
    return small(), found, Model(bundle, asset_class, small().model.program)


def random_scene(seed: int, windows: int = 60) -> Scene:
    rng = np.random.default_rng(seed)
    breaks = rng.random(windows) < 0.1
    breaks[0] = True
    each = shares(rng.random((windows, 2, 3))).astype(np.float32)
    return Scene(rng.normal(0.5, 1.0, (windows, 2)), each, breaks)


# -- the weights --------------------------------------------------------------------------------------------------


def test_a_ratio_is_weighted_by_what_each_sensor_adds_to_it() -> None:
    reranking = Reranking(np.array([[2.0, 0.0, 1.0]]))
    contributions = np.array([[[3.0, 1.0, 0.0]], [[0.0, 4.0, 0.0]], [[0.0, 0.0, 0.0]], [[3.0, 1.0, 0.0]]])
    factor = reranking.factor(np.array([[2.0], [2.0], [2.0], [-1.0]]), contributions)
    np.testing.assert_allclose(
        factor, [[2.0 * 0.75], [0.0], [1.0], [1.0]], err_msg="below the median nothing"
    )


def test_near_its_weights_the_smoothed_ratio_is_linear_in_them() -> None:
    scene, weights = random_scene(1), np.random.default_rng(2).uniform(0.5, 1.5, (2, 3))
    for how in ("any", "all"):
        manner = MANNER._replace(combine=how)
        rows, offset = _linear(scene, manner, weights)
        np.testing.assert_allclose(
            offset + rows @ weights.ravel(), combined(scene, weights, manner), atol=1e-6
        )


def test_without_verdicts_the_weights_stay_to_the_last_bit() -> None:
    start = np.random.default_rng(0).uniform(0.5, 1.5, (2, 3))
    assert learn(random_scene(1), random_scene(2), [], MANNER, start) is start


def test_a_false_alarms_sensor_loses_weight_a_real_ones_gains_and_the_prior_holds_both() -> None:
    calm = Scene(np.full((50, 1), 0.5), np.full((50, 1, 3), 1 / 3, np.float32), np.ones(50, bool))
    only = np.zeros((20, 1, 3), np.float32)
    only[:10, 0, 0] = only[10:, 0, 1] = 1.0
    record = Scene(np.full((20, 1), 1.5), only, np.ones(20, bool))
    told = [Told(np.arange(10), False), Told(np.arange(10, 20), True)]
    moved = [
        learn(calm, record, told, MANNER._replace(smoothing=1.0, prior=prior), np.ones((1, 3)))[0]
        for prior in (0.3, 3.0, 1e6)
    ]
    for weights in moved[:2]:
        assert weights[0] < 1.0 < weights[1]
        assert abs(weights[2] - 1.0) < 0.05, "which no verdict speaks of"
    assert moved[0][0] < moved[1][0]
    np.testing.assert_allclose(moved[2], 1.0, atol=1e-4)


# -- a bundle -----------------------------------------------------------------------------------------------------


def test_without_verdicts_the_bundle_is_the_very_same() -> None:
    before, found, model = told_to([], VERDICTS)
    assert model.bundle is before.trained.bundle
    assert (found.weights, found.limit_before) == ((), found.limit_after)
    assert found.held_before == found.held_after
    assert "nothing has changed" in "\n".join(feedback_text(found))


def test_verdicts_rank_the_real_above_the_false_and_leave_the_scorers_alone() -> None:
    before, found, model = told_to(VERDICTS[::2], VERDICTS[1::2])
    assert found.held_before.roc is not None
    assert found.held_after.roc is not None
    assert found.held_after.roc > found.held_before.roc + 0.05
    assert found.held_after.false_over is not None
    assert found.held_before.false_over is not None
    assert found.held_after.false_over < found.held_before.false_over
    assert {(one.sensor, one.weight < 1.0) for one in found.weights[:1]} <= {("s0", True), ("s2", False)}
    old = before.trained.bundle
    assert model.bundle_id != old.id
    assert model.bundle.fields["verdicts"]["from"] == old.id
    for mine, its in zip(model.bundle.scorers, old.scorers, strict=True):
        assert (mine.spec, mine.params) == (its.spec, its.params)


def test_the_asked_share_of_normal_windows_is_over_the_new_limit_too() -> None:
    _, _, model = told_to(VERDICTS, [])
    held = small()._replace(model=model)
    _, old = run(small().pipeline(), batch_of({"plant/a": autoregressive(7, 3000, SENSORS)}))
    _, new = run(held.pipeline(), batch_of({"plant/a": autoregressive(7, 3000, SENSORS)}))
    before, after = (float(np.mean(t.ratio[t.scored] > 1.0)) for t in (old, new))
    assert after == pytest.approx(before, abs=0.04)
    assert 0.0 < after < 0.15, "5 % were asked"


def test_live_windows_are_weighted_as_the_verdicts_were_learnt() -> None:
    _, found, model = told_to(VERDICTS, [])
    _, trace = run(small()._replace(model=model).pipeline(), batch_of({"plant/a": recorded_values()}))
    inside = {
        kind: np.concatenate(
            [
                trace.ratio[(trace.end >= one.start_ns) & (trace.end <= one.end_ns)]
                for one in VERDICTS
                if one.real is kind
            ]
        )
        for kind in (False, True)
    }
    false, real = inside[False], inside[True]
    assert float(np.mean(real > 1.0)) == pytest.approx(found.used_after.real_over, abs=0.02)
    assert float(np.mean(false > 1.0)) == pytest.approx(found.used_after.false_over, abs=0.02)


def test_alerts_of_a_bundle_with_verdicts_name_a_limit_that_fits_its_ratio() -> None:
    _, _, model = told_to(VERDICTS, [])
    pipeline = small()._replace(model=model).pipeline()
    values = recorded_values()
    values[1100:, 2] += 6.0
    records = alerts(pipeline.push(polled(batch_of({"plant/a": values}))).records)
    bodies = [msgspec.json.decode(record.value or b"")["data"] for record in records]
    raised = [b for b in bodies if b["kind"] == "ANOMALY" and b["event"] == "RAISED"]
    assert raised
    for body in raised:
        for one in body["score"]["per_scorer"].values():
            assert (one["value"] > one["threshold"]) == (one["ratio"] > 1.0)


def test_a_bundle_with_verdicts_comes_back_from_disk_and_takes_more_of_them(tmp_path: Path) -> None:
    asset_class = small().asset_class
    _, _, model = told_to(VERDICTS[::2], [])
    write_bundle(model.bundle, tmp_path)
    back = read_bundle(tmp_path)
    assert back.id == model.bundle_id
    first, again = model.scales.reranking, Model(back, asset_class).scales.reranking
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first.weights, again.weights)
    rows = [
        collect(asset_class, [batch_of({"plant/a": values})])
        for values in (autoregressive(1, 1500, SENSORS), recorded_values())
    ]
    same, found = apply_verdicts(asset_class, back, *rows, [], [], prior=1.0, told=TrainingProgress())
    assert same is back
    assert found.limit_after == model.scales.final_limit


# -- the file -----------------------------------------------------------------------------------------------------


def test_a_verdict_that_is_neither_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.csv"
    path.write_text("asset,start,end,label\nplant/a,2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,maybe\n")
    with pytest.raises(
        LabelsError, match=r"plant/a from 2026-01-01.*got the label 'maybe', expected 'real' or"
    ):
        read_verdicts(path)
    path.write_text("asset,start,end,label\n*,2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,real\n")
    with pytest.raises(LabelsError, match="got every asset"):
        read_verdicts(path)


def test_some_of_each_kind_are_held_out_and_never_all() -> None:
    many = [Verdict("a", k, k, k % 3 == 0) for k in range(12)]
    used, held = held_out(many, 0.5, seed=0)
    assert sorted(used + held) == many
    assert (sum(v.real for v in held), len(held)) == (2, 6)
    assert held_out(many, 0.5, seed=0) == (used, held)
    assert held_out(many[:1], 0.9, seed=0) == (many[:1], [])


# -- real data ----------------------------------------------------------------------------------------------------


def verdict(asset: str, ends: np.ndarray, label: str) -> str:
    return f"{asset},{iso_time(int(ends[0]))},{iso_time(int(ends[-1]))},{label}"


def loudest_normal(ratio: np.ndarray, normal: np.ndarray) -> int | None:
    """Where the 30 normal windows in a row begin that come nearest to an alarm: operators are asked about those."""
    if len(ratio) < 30:
        return None
    whole = np.convolve(normal, np.ones(30), "valid") == 30
    mean = np.convolve(ratio, np.full(30, 1 / 30), "valid")
    return int(np.argmax(np.where(whole, mean, -np.inf))) if whole.any() else None


@pytest.fixture(scope="module")
def skab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SKAB's valve runs as the example cuts them, a trained bundle, and verdicts.csv as an operator may give it."""
    root = data_folder("skab")
    folder = tmp_path_factory.mktemp("skab")
    example = Path(__file__).resolve().parent.parent / "examples" / "skab"
    shutil.copy(example / "skab.yaml", folder)
    spec = importlib.util.spec_from_file_location("prepare", example / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    prepare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prepare)
    prepare.main(root, folder / "out")
    configuration, _ = alone(read(folder / "skab.yaml"), "valve")
    valve = configuration.settings.asset_classes["valve"]
    batches = [batch for batch in history(configuration, ()) if batch.asset_class == "valve"]
    trained = train(valve, "valve", batches, config_hash="c")
    write_bundle(trained.bundle, configuration.bundle_path("valve"))
    runs = recordings(configuration, tuple(sorted(folder.glob("out/test/valve*/*.csv"))))
    columns = read_column(runs, "anomaly", layout_of(configuration.settings).time, folder)
    labels = from_column(columns.assets, columns.time, columns.values, "anomaly")
    models = {"valve": Model(trained.bundle, valve)}
    pipeline_of = pipeline_factory(configuration, models, "", replay=True)
    trace = replay(make_source(configuration, runs), pipeline_of, {"valve": trained.bundle.id}).traces[
        "valve"
    ]
    lines = ["asset,start,end,label"]
    for number, asset in enumerate(trace.assets):
        mine = (trace.asset == number) & trace.scored
        ends, codes = trace.end[mine], labels.of(asset, trace.end[mine])
        fault = np.flatnonzero(codes == Label.ANOMALOUS)[20:]
        lines += [verdict(asset, ends[fault], "real")]
        loudest = loudest_normal(trace.ratio[mine], codes == Label.NORMAL)
        lines += [] if loudest is None else [verdict(asset, ends[loudest : loudest + 30], "false")]
    (folder / "verdicts.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_few_verdicts_on_real_runs_rank_the_other_runs_better(
    skab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tuple(sorted(skab.glob("out/test/valve*/*.csv")))
    before = read_bundle(skab / "bundles/valve")
    asked = Asked(skab / "skab.yaml", runs, skab / "verdicts.csv", "valve", (), 0.7, 1.0, False, True)
    assert feedback_command(asked) == 0
    found = msgspec.json.decode(capsys.readouterr().out)
    assert found["used"] <= 12
    assert found["held_out"] >= 24
    assert found["held_after"]["roc"] > found["held_before"]["roc"] + 0.005
    assert found["held_after"]["pr"] > found["held_before"]["pr"]
    after = read_bundle(skab / "bundles/valve")
    assert after.id != before.id
    assert after.fields["verdicts"]["from"] == before.id


def test_a_time_that_is_called_both_real_and_false_is_refused_whatever_lies_between(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.csv"
    rows = [
        "a,2026-07-01T00:00:00Z,2026-07-01T05:00:00Z,real",
        "a,2026-07-01T01:00:00Z,2026-07-01T02:00:00Z,real",
    ]
    apart = [
        *rows,
        "a,2026-07-01T06:00:00Z,2026-07-01T07:00:00Z,false",
        "b,2026-07-01T03:00:00Z,2026-07-01T04:00:00Z,false",
    ]
    path.write_text("\n".join(["asset,start,end,label", *apart]))
    assert len(read_verdicts(path)) == 4
    both = [*rows, "a,2026-07-01T03:00:00Z,2026-07-01T04:00:00Z,false"]
    path.write_text("\n".join(["asset,start,end,label", *both]))
    with pytest.raises(LabelsError, match="one word for a time"):
        read_verdicts(path)
