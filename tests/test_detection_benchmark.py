"""The detection benchmark: own data end to end, odd data, and the public sets where they are."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.detection.contenders import contenders
from benchmarks.detection.contract import Bar, Request, Section, Table, markdown, text_of
from benchmarks.detection.csv_folder import csv_folder
from benchmarks.detection.data import DataSet, Split, own_model
from benchmarks.detection.detect import detection
from benchmarks.detection.execute import execute
from benchmarks.detection.measures import median_delay, set_figures
from benchmarks.detection.sections import SECTIONS, section
from benchmarks.detection.setting import asset_class_of, description
from benchmarks.detection.skab import skab
from benchmarks.detection.tep import FAULT_ROW, fault_of, is_normal, tep
from models import registry
from monitor.errors import UsageError
from monitor.settings import AssetClass, Scoring
from tests.data import data_folder
from tests.foreign_scorer import install
from tests.worlds import autoregressive

TRAIN, FAULT, ROWS = 1200, 1400, 1600


def written(path: Path, values: np.ndarray, **columns: list[str]) -> Path:
    """A CSV file of values [N, D] with sensors s0, s1, ... behind the other columns."""
    names = [*columns, *(f"s{d}" for d in range(values.shape[1]))]
    rows = zip(
        *columns.values(), *(values[:, d].round(5).tolist() for d in range(values.shape[1])), strict=True
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return path


def stamps(rows: int, step: int = 10) -> list[str]:
    start = np.datetime64("2026-01-01T00:00:00")
    return [f"{start + np.timedelta64(step * row, 's')}" for row in range(rows)]


def faulty(seed: int = 1) -> np.ndarray:
    """Two sensors, one of which is far off from row `FAULT` on."""
    values = autoregressive(seed, ROWS, 2)
    values[FAULT:, 0] += 12.0
    return values


def labelled(split: bool = True) -> dict[str, list[str]]:
    columns = {"timestamp": stamps(ROWS), "label": ["1" if row >= FAULT else "0" for row in range(ROWS)]}
    if split:
        columns["split"] = ["train"] * 800 + ["calib"] * (TRAIN - 800) + ["test"] * (ROWS - TRAIN)
    return columns


def run(folder: Path, scores: Path | None = None, scorers: tuple[str, ...] = ("var",)) -> Section:
    return detection(Request(data=folder, datasets=("csv",), scorers=scorers, scores=scores))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_own_series_are_scored_row_by_row_and_judged(tmp_path):
    values = faulty()
    written(tmp_path / "data" / "pump.csv", values, **labelled())
    found = run(tmp_path / "data", tmp_path / "out")
    rows = table(tmp_path / "out" / "csv" / "pump.csv")
    assert list(rows[0]) == ["timestamp", "score", "label", "split", "alarm"]
    assert [row["timestamp"] for row in rows] == stamps(ROWS)
    assert [row["split"] for row in rows] == labelled()["split"]
    assert [row["label"] for row in rows] == labelled()["label"]
    score = np.array([float(row["score"]) for row in rows])
    assert np.isfinite(score).all()
    assert [row["alarm"] for row in rows] == ["1" if ratio > 1 else "0" for ratio in score]
    length = asset_class_of(csv_folder(tmp_path / "data").models[0], {"var": {}}, 0).window.length
    assert (score[: length - 1] == 0).all()  # the first window is not full
    assert (score[TRAIN:] != 0).all()  # what is judged begins with a full window
    assert score[FAULT] > 1.0
    figures = found.figures["csv"]["var"]["figures"]
    assert figures["rows"] == ROWS - TRAIN
    assert figures["unscored"] == 0
    json.dumps(figures)


def test_a_score_does_not_depend_on_later_rows(tmp_path):
    whole = faulty()
    written(tmp_path / "whole" / "pump.csv", whole, **labelled())
    cut = {name: column[: FAULT + 20] for name, column in labelled().items()}
    written(tmp_path / "cut" / "pump.csv", whole[: FAULT + 20], **cut)
    for name in ("whole", "cut"):
        run(tmp_path / name, tmp_path / "out" / name)
    long, short = (table(tmp_path / "out" / name / "csv" / "pump.csv") for name in ("whole", "cut"))
    assert long[: FAULT + 20] == short


def test_without_a_split_the_first_rows_up_to_the_first_anomaly_are_learnt_from(tmp_path):
    columns = labelled(split=False)
    written(tmp_path / "a.csv", faulty(), **columns)
    early = {**columns, "label": ["1" if row == 100 else "0" for row in range(ROWS)]}
    written(tmp_path / "b.csv", faulty(), **early)
    unlabelled = {"timestamp": columns["timestamp"]}
    written(tmp_path / "c.csv", faulty(), **unlabelled)
    data = csv_folder(tmp_path)
    learnt = {one.name: int(np.count_nonzero(one.split == Split.TRAIN)) for one in data.series}
    assert learnt == {"a": 640, "b": 100, "c": 640}
    assert not data.series[2].judged.any()


def test_files_without_train_rows_share_a_model_of_those_that_only_teach(tmp_path):
    names = {
        "teacher-1": "train",
        "teacher-2": "train",
        "teacher-3": "calib",
        "pupil-1": "test",
        "pupil-2": "test",
    }
    for seed, (name, split) in enumerate(names.items()):
        values = autoregressive(seed, 500, 2)
        written(tmp_path / "data" / f"{name}.csv", values, timestamp=stamps(500), split=[split] * 500)
    data = csv_folder(tmp_path / "data")
    (model,) = data.models
    assert [series.name for series in model.learn] == ["teacher-1", "teacher-2", "teacher-3"]
    assert asset_class_of(model, {}, 0).calibration.holdout == pytest.approx(1 / 3)
    run(tmp_path / "data", tmp_path / "out")
    assert sorted(path.stem for path in (tmp_path / "out" / "csv").iterdir()) == sorted(names)
    assert {row["score"] == "0" for row in table(tmp_path / "out" / "csv" / "pupil-1.csv")[63:]} == {False}


def test_what_nobody_can_learn_from_is_told(tmp_path):
    written(tmp_path / "a.csv", faulty(), timestamp=stamps(ROWS), split=["test"] * ROWS)
    with pytest.raises(UsageError, match="no row to train on"):
        csv_folder(tmp_path)


def test_a_file_that_nothing_teaches_does_not_stop_the_others(tmp_path):
    written(tmp_path / "data" / "good.csv", faulty(), **labelled())
    written(tmp_path / "data" / "poor.csv", faulty(), timestamp=stamps(ROWS), split=["test"] * ROWS)
    found = run(tmp_path / "data", tmp_path / "out")
    assert {row["score"] for row in table(tmp_path / "out" / "csv" / "poor.csv")} == {"0"}
    assert float(table(tmp_path / "out" / "csv" / "good.csv")[FAULT]["score"]) > 1.0
    told = [note for table in found.tables for note in table.notes]
    assert "var: refused on 1 of 2 series: there are no rows to learn from" in told


def test_other_delimiters_and_decimal_signs_are_read_and_what_is_context_is_told(tmp_path):
    values = faulty()
    lines = ["timestamp;level;pump on"]
    lines += [
        f"{t};{v:.4f};{row // 50 % 2}".replace(".", ",")
        for row, (t, v) in enumerate(zip(stamps(ROWS), values[:, 0], strict=True))
    ]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="latin-1")
    data = csv_folder(tmp_path)
    np.testing.assert_allclose(data.series[0].values[:, 0], values[:, 0], atol=1e-4)
    assert "context, not scored: pump on (discrete)" in description(data.models[0])


def test_too_short_a_history_is_refused_with_a_reason_and_its_rows_are_still_written(tmp_path):
    written(tmp_path / "data" / "short.csv", autoregressive(0, 30, 2), timestamp=stamps(30))
    found = run(tmp_path / "data", tmp_path / "out")
    rows = table(tmp_path / "out" / "csv" / "short.csv")
    assert [(row["score"], row["alarm"]) for row in rows] == [("0", "0")] * 30
    assert any("var: refused on 1 of 1 series" in note for table in found.tables for note in table.notes)


def test_odd_rows_are_repaired_and_told(tmp_path):
    values = np.concatenate([faulty(), np.full((ROWS, 1), 7.0), np.full((ROWS, 1), np.nan)], axis=1)
    values[50:60, 0] = np.nan
    values[TRAIN + 50 : TRAIN + 60] = np.nan
    columns = labelled()
    order = np.r_[0:10, 11, 10, 12:ROWS]
    columns = {name: [column[row] for row in order] for name, column in columns.items()}
    columns["timestamp"][20] = columns["timestamp"][19]
    columns["timestamp"][31] = "broken"
    written(tmp_path / "data" / "odd.csv", values[order], **columns)
    found = run(tmp_path / "data", tmp_path / "out")
    rows = table(tmp_path / "out" / "csv" / "odd.csv")
    assert [row["timestamp"] for row in rows] == columns["timestamp"]
    assert all(np.isfinite(float(row["score"])) for row in rows)
    assert float(rows[FAULT]["score"]) > 1.0
    told = " ".join(found.notes)
    for what in ("not in order of time", "one time", "1 timestamps cannot be read", "'s3' has no values"):
        assert what in told


@pytest.mark.parametrize(
    ("times", "told"),
    [
        ([str(row) for row in range(ROWS)], "taken for seconds"),
        ([str(1_760_000_000 + 5 * row) for row in range(ROWS)], "taken for s since 1970"),
        ([f"{0.05 * row:.2f}" for row in range(ROWS)], "taken for seconds"),
        ([f"{row % 28 + 1:02d}.01.2026 00:00:00" for row in range(ROWS)], "not in order of time"),
        ([f"row {row}" for row in range(ROWS)], "one second apart"),
    ],
    ids=["counter", "epoch", "fractions", "days that come again", "no times"],
)
def test_times_may_be_written_in_many_ways(tmp_path, times, told):
    written(tmp_path / "a.csv", faulty(), **{**labelled(), "timestamp": times})
    data = csv_folder(tmp_path)
    assert (np.diff(data.series[0].time) >= 0).all()
    assert told in " ".join(data.notes)


@pytest.mark.parametrize(
    ("column", "cell", "told"),
    [
        ("mode", "AUTO", "column 'mode' holds text, 'AUTO'"),
        ("split", "training", "split 'training', expected"),
    ],
)
def test_text_where_there_should_be_none_is_an_error_that_names_it(tmp_path, column, cell, told):
    written(tmp_path / "a.csv", faulty(), **{**labelled(), column: [cell] * ROWS})
    with pytest.raises(UsageError, match=told):
        csv_folder(tmp_path)


def test_what_looks_like_a_label_is_never_a_sensor(tmp_path):
    columns = labelled()
    columns["Anomaly"] = columns.pop("label")
    columns["changepoint"] = ["0"] * ROWS
    written(tmp_path / "a.csv", faulty(), **columns)
    data = csv_folder(tmp_path)
    assert data.models[0].sensors == ("s0", "s1")
    assert data.series[0].truth.sum() == ROWS - FAULT


def test_the_settings_are_the_defaults_but_for_sensors_and_sampling(tmp_path):
    written(tmp_path / "a.csv", faulty(), **labelled(split=False))
    settings = asset_class_of(csv_folder(tmp_path).models[0], {}, 3)
    assert settings.scoring == Scoring(seed=3)
    plain = AssetClass(assets=("*",), sampling=settings.sampling, sensors=settings.sensors)
    assert (settings.calibration, settings.drift, settings.alerting) == (
        plain.calibration,
        plain.drift,
        plain.alerting,
    )
    assert int(settings.sampling) == 10 * 10**9


def test_a_scorer_of_another_package_is_measured_by_its_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    (tmp_path / "site").mkdir()
    install(tmp_path / "site")
    written(tmp_path / "data" / "a.csv", faulty(), **labelled())
    found = run(tmp_path / "data", scorers=("their_scorer", "always_fire"))
    sys.modules.pop("their_package", None)
    assert [row[0] for row in found.tables[0].rows] == ["their_scorer", "always_fire"]
    assert found.figures["csv"]["their_scorer"]["mean"]["roc"] > 0.5


def test_baselines_are_scorers_that_are_in_no_list():
    named = {one.name for one in contenders()}
    baselines = {"random", "kmeans", "dynamic_pca", "untrained_ocnn", "ocnn_w1"}
    assert baselines | {"default", "always_fire"} <= named
    assert not baselines & set(registry.scorer_names())
    assert all(registry.get_scorer(name).name == name for name in baselines)


def test_an_unknown_scorer_or_data_set_is_a_usage_error_that_names_the_known_ones(tmp_path):
    with pytest.raises(UsageError, match="expected one of default, "):
        contenders(("nobody",))
    with pytest.raises(UsageError, match="expected one of skab, tep, plant, reactor, tanks, csv"):
        detection(Request(datasets=("mnist",)))
    with pytest.raises(UsageError, match="--data names the folder"):
        detection(Request(datasets=("csv",)))
    with pytest.raises(UsageError, match="no file that ends in"):
        run(tmp_path)


def test_simple_baselines_find_a_gross_fault_and_chance_does_not(tmp_path):
    written(tmp_path / "a.csv", faulty(), **labelled())
    found = run(tmp_path, scorers=("kmeans", "isolation_forest", "dynamic_pca", "random", "always_fire"))
    roc = {who: entry["mean"]["roc"] for who, entry in found.figures["csv"].items()}
    assert min(roc[name] for name in ("kmeans", "isolation_forest", "dynamic_pca")) > 0.9
    assert abs(roc["random"] - 0.5) < 0.15
    assert roc["always_fire"] == 0.5


def test_an_undetected_anomaly_is_longer_than_any():
    assert median_delay([2, 4, None]) == 4.0
    assert median_delay([2, None, None]) is None
    assert median_delay([]) is None


@pytest.mark.parametrize(
    ("value", "higher", "verdict"),
    [(0.95, True, "aim"), (0.85, True, "reached"), (0.5, True, "not reached"), (None, True, "not measured")],
)
def test_a_bar_says_what_was_reached(value, higher, verdict):
    assert Bar("b", value, 0.8, 0.9, higher).verdict == verdict
    mirrored = None if value is None else -value
    assert Bar("b", mirrored, -0.8, -0.9, higher=False).verdict == verdict


def test_tables_are_aligned_for_people_and_marked_for_pages():
    shown = Table("t", ("scorer", "F1"), (("pca", "0.5"), ("longer name", "0.25")), ("a note",))
    assert text_of(shown).splitlines()[3:] == ["pca           0.5", "longer name  0.25", "  a note"]
    assert "| longer name | 0.25 |" in markdown([shown])


def test_every_section_can_be_had():
    assert all(callable(section(name)) for name in SECTIONS)


def test_skab_is_read_as_its_leaderboard_does():
    data = skab(data_folder("skab").parent)
    assert len(data.models) == 34
    for series in data.series:
        assert (series.split[:400] == Split.TRAIN).all()
        assert (series.split[400:] == Split.TEST).all()
    share = np.mean(np.concatenate([series.truth[400:] for series in data.series]))
    assert share == pytest.approx(0.5366, abs=5e-4)


def test_tep_has_its_faults_and_independent_normal_runs():
    data = tep(data_folder("tep").parent)
    (model,) = data.models
    assert [len(series.time) for series in model.learn] == [500]
    faults = [series for series in model.judge if fault_of(series) is not None]
    assert [fault_of(series) for series in faults] == list(range(1, 22))
    assert all(series.truth.argmax() == FAULT_ROW and series.truth[FAULT_ROW:].all() for series in faults)
    assert sum(is_normal(series) for series in model.judge) == 50
    assert len(model.sensors) == model.judge[0].values.shape[1] == 52


def test_faults_of_a_process_with_enough_history_are_found_at_one_percent_false_alarms():
    """TEP's own normal runs as history, every fourth channel: enough for `pca`."""
    whole = tep(data_folder("tep").parent, quick=True).models[0]
    teach = whole.judge[-1]._replace(split=np.full(960, Split.TRAIN, np.int8))
    thin = [series._replace(values=series.values[:, ::4]) for series in (teach, *whole.judge[:-1])]
    model = own_model(thin[0], whole.sensors[::4])._replace(judge=tuple(thin[1:]))
    done = execute(DataSet("tep", (model,)), {"pca": {}}, 0, Request().teller)
    figures = set_figures(done.outcomes, is_tep=True)
    assert figures.tep is not None
    rates = {fault.number: fault.rate for fault in figures.tep.faults}
    assert rates[1] > 0.9
    assert rates[3] < 0.5
