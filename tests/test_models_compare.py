"""`nuwatch models compare`: scorers side by side, with labels and without."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models.registry import get_scorer, register
from monitor.cli.jobs.models import Asked, compare_command, compared, snippet
from monitor.configuration import parse
from monitor.errors import UsageError
from monitor.evaluation.detection import detection
from monitor.evaluation.labels import Interval, from_intervals
from monitor.report.contest import contest_text
from monitor.settings import Scoring
from monitor.training.contest import Contest
from tests.traces import T0, S, trace_of
from tests.worlds import SECOND, START, autoregressive

ROWS, FAULT, SENSORS = 1200, slice(900, 1000), 3

CONFIGURATION = """
site: test
source: {kind: files, paths: ["run.csv"], asset: plant/a, time: {column: time}}
times: {unit: s}
asset_classes:
  unit:
    assets: ["plant/*"]
    sampling: 1s
    sensors:
      s0: {unit: Cel}
      s1: {unit: bar}
      s2: {unit: A}
    window: {length: 8}
    time: {lateness: 0s, max_age: 3s}
    calibration: {nu: 0.05, enough: 1}
    scoring: {scorers: {pca: {lags: 1}}, auto: {faults: 2}, block: 32, smoothing: 0.5}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plant whose first sensor lies by far in rows 900 to 999, and says so in a column."""
    folder = tmp_path_factory.mktemp("plant")
    values = autoregressive(3, ROWS, SENSORS)
    values[FAULT, 0] += 30.0
    label = np.zeros(ROWS, int)
    label[FAULT] = 1
    lines = ["time,s0,s1,s2,anomaly"]
    lines += [
        f"{START // SECOND + t},{','.join(f'{v:.6f}' for v in values[t])},{label[t]}" for t in range(ROWS)
    ]
    (folder / "run.csv").write_text("\n".join(lines) + "\n")
    (folder / "good.csv").write_text("\n".join(lines[:800]) + "\n")
    (folder / "plant.yaml").write_text(CONFIGURATION)
    return folder


def asked_of(folder: Path, *files: str, **options: Any) -> Asked:
    plain = Asked(
        config=folder / "plant.yaml",
        files=tuple(folder / name for name in files),
        scorers=("pca",),
        only=None,
        tries=0,
        settings=None,
        labels_file=None,
        label_column=None,
        tests=(),
        learn=0.4,
        as_json=False,
    )
    return plain._replace(**options)


@pytest.fixture(scope="module")
def labelled(folder: Path) -> Contest:
    """Two scorers, with labels, one try each."""
    return compared(asked_of(folder, "run.csv", scorers=("pca", "mewma"), tries=1, label_column="anomaly"))[1]


def test_with_labels_each_scorer_is_trained_replayed_and_judged_on_what_it_did_not_learn(
    labelled: Contest,
) -> None:
    by_name = {one.scorer: one for one in labelled.contestants}
    assert set(by_name) == {"pca", "mewma"}
    for one in by_name.values():
        seen = one.detection
        assert seen is not None
        assert seen.windows == pytest.approx(0.6 * ROWS, abs=2), "the first 40 % were learnt from"
        assert (seen.anomalous, seen.faults, seen.undetected) == (100, 1, 0)
        assert seen.roc is not None
        assert seen.roc > 0.95
        assert seen.delay_s is not None
        assert 0 < seen.delay_s < 20
        assert one.quality is not None
        assert one.quality.sensitivity.overall > 0.1
        assert one.quality.learnt > 0
        assert one.bundle_bytes > 1000
        assert one.trained_seconds is not None
    seen = [one.quality.sensitivity.overall for one in labelled.contestants if one.quality is not None]
    assert seen == sorted(seen, reverse=True)


def test_the_text_says_what_was_seen_what_it_costs_and_that_no_label_was_read(labelled: Contest) -> None:
    text = "\n".join(contest_text(labelled))
    for part in ("seen", "ROC", "VUS-PR", "FAR before", "trained in", "KiB", "numbers learnt", "mewma"):
        assert part in text
    assert "tuned by held-out normal data alone, no label was read; seed 0" in text
    assert "a part is luck" in text
    assert max(len(line) for line in text.splitlines()) <= 132


def test_what_is_written_as_json_names_every_figure(labelled: Contest) -> None:
    (first, _) = msgspec.json.decode(msgspec.json.encode(labelled))["contestants"]
    assert first["quality"]["sensitivity"]["overall"] > 0.1
    assert {"bias", "ramp"} <= set(first["quality"]["sensitivity"]["kinds"])
    assert {"roc", "vus_pr", "far_before", "delay_s"} <= set(first["detection"])


def test_the_settings_that_are_written_are_settings_and_say_how_they_came_about(labelled: Contest) -> None:
    text = snippet("unit", labelled)
    assert "tuned on held-out normal data alone, seed 0" in text
    scoring = _in_a_configuration(text)
    assert scoring.scorers == "auto"
    assert scoring.auto.candidates == {one.scorer: one.options for one in labelled.contestants}
    alone = msgspec.structs.replace(labelled, contestants=labelled.contestants[:1])
    (one,) = alone.contestants
    assert _in_a_configuration(snippet("unit", alone)).scorers == {one.scorer: one.options}


def _in_a_configuration(text: str) -> Scoring:
    """The snippet's section in the place of the configuration's own."""
    kept = [line for line in CONFIGURATION.splitlines() if not line.startswith("    scoring:")]
    section = [line for line in text.splitlines() if line.startswith("    ")]
    return parse("\n".join([*kept, *section]), Path("w.yaml")).settings.asset_classes["unit"].scoring


def test_nothing_is_learnt_from_the_first_labelled_fault_on(folder: Path) -> None:
    (one,) = compared(asked_of(folder, "run.csv", label_column="anomaly", learn=0.95))[1].contestants
    assert one.options == {"lags": 1}, "what the configuration sets"
    assert one.detection is not None
    assert one.detection.windows == ROWS - FAULT.start
    assert one.detection.roc is not None
    assert one.detection.roc > 0.95, "which it would not be had the fault been learnt"


def test_a_scorer_that_cannot_be_fitted_is_told_last_and_without_labels_nothing_is_said_against_them(
    folder: Path,
) -> None:
    asked = asked_of(folder, "good.csv", config=folder / "order.yaml", scorers=("var", "pca"))
    asked.config.write_text(CONFIGURATION.replace("{lags: 1}}", "{lags: 1}, var: {order: 9}}"))
    found = compared(asked)[1]
    first, last = found.contestants
    assert (first.scorer, last.scorer) == ("pca", "var")
    assert "expected at least" in last.refused
    assert (last.quality, first.detection) == (None, None)
    assert found.fit_windows > 300
    assert "var: cannot be used: " in "\n".join(contest_text(found))


def test_recordings_to_judge_must_not_be_among_what_is_learnt_from(folder: Path) -> None:
    asked = asked_of(folder, "run.csv", tests=(folder / "run.csv",), label_column="anomaly")
    with pytest.raises(UsageError, match=r"labelled fault of 'plant/a'.*hint: quote the pattern of --test"):
        compared(asked)
    with pytest.raises(UsageError, match="--test: expected --labels or --label-column"):
        compared(asked._replace(label_column=None))


def test_apart_from_the_history_the_whole_test_is_judged(folder: Path) -> None:
    asked = asked_of(folder, "good.csv", tests=(folder / "ru?.csv",), label_column="anomaly")
    (one,) = compared(asked)[1].contestants
    assert one.detection is not None
    assert one.detection.windows == pytest.approx(ROWS, abs=8)


def test_a_class_must_be_named_where_there_are_several(folder: Path) -> None:
    body = CONFIGURATION[CONFIGURATION.index("  unit:") :]
    asked = asked_of(folder, config=folder / "two.yaml")
    asked.config.write_text(CONFIGURATION + body.replace("unit:", "pump:", 1).replace("plant/*", "pumps/*"))
    with pytest.raises(UsageError, match="--class: expected one of unit, pump"):
        compared(asked)
    with pytest.raises(UsageError, match="--class: got 'boiler'"):
        compared(asked._replace(only="boiler"))
    with pytest.raises(UsageError, match="--scorer: scorer: got 'pcb'"):
        compared(asked._replace(only="pump", scorers=("pcb",)))


# -- the figures --------------------------------------------------------------------------------------------------


def test_figures_against_labels_are_those_of_a_hand() -> None:
    ratio = [0.1, 1.2, 0.3, 0.2, 2.0, 0.5, 3.0, 3.0, 3.0, 0.4]
    trace = trace_of({"a": ratio, "b": [float("nan"), 0.5]})
    labels = from_intervals([("a", Interval(T0 + 5 * S, T0 + 9 * S))])
    found = detection(trace, labels, {"a": T0 + 2 * S})
    assert (found.windows, found.anomalous, found.unscored) == (9, 5, 0), (
        "b has no labels; a's first was learnt"
    )
    # normal 1.2 .3 .2 | .4, anomalous 2 .5 3 3 3: of 20 pairs one is in the wrong order
    assert found.roc == pytest.approx(19 / 20)
    assert found.f1 == pytest.approx(2 * 4 / (2 * 4 + 1 + 1))
    assert found.far_before == pytest.approx(1 / 3)
    assert found.far_after == 0.0
    assert (found.faults, found.undetected, found.delay_s) == (1, 0, 4.0)


def test_a_window_that_was_not_scored_counts_as_normal_and_a_fault_without_three_in_a_row_is_missed() -> None:
    trace = trace_of({"a": [0.1, 0.2, float("nan"), 2.0, 2.0, 0.1]})
    labels = from_intervals([("a", Interval(T0 + 3 * S, T0 + 5 * S))])
    found = detection(trace, labels, {})
    assert (found.unscored, found.undetected, found.delay_s) == (1, 1, None)
    # normal .1 .2 | .1, anomalous 0 2 2: the unscored one is below all normal ones
    assert found.roc == pytest.approx(6 / 9)


def test_a_foreign_scorer_that_breaks_is_told_of_and_only_if_none_is_left_the_command_fails(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> object:
        raise TypeError("their defect")

    register(dataclasses.replace(get_scorer("pca"), name="their_broken_one", fit=broken), listed=False)
    assert compare_command(asked_of(folder, "good.csv", scorers=("their_broken_one", "mewma"))) == 0
    text = capsys.readouterr().out
    assert "their_broken_one: cannot be used: it failed with TypeError: their defect" in text
    assert "mewma" in text
    assert compare_command(asked_of(folder, "good.csv", scorers=("their_broken_one",))) == 1
