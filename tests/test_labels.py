from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectors.records import TimeLayout
from monitor.evaluation.labels import Interval, Label, Labels, LabelsError, from_column, from_intervals, read

S = 1_000_000_000
T0 = 1_767_225_600 * S  # 2026-01-01T00:00:00Z


def ends(*seconds: float) -> np.ndarray:
    return np.array([T0 + round(s * S) for s in seconds], np.int64)


def test_an_interval_includes_both_of_its_ends() -> None:
    labels = from_intervals([("R-1", Interval(T0 + 10 * S, T0 + 20 * S, "fouling"))])
    assert labels.of("R-1", ends(9, 10, 15, 20, 20.000000001)).tolist() == [0, 1, 1, 1, 0]


def test_an_asset_that_the_file_does_not_name_is_unlabelled() -> None:
    labels = from_intervals([("R-1", Interval(T0, T0, "x"))])
    assert labels.of("R-2", ends(0, 1)).tolist() == [Label.UNKNOWN] * 2


def test_a_row_without_times_says_that_the_asset_was_normal_throughout() -> None:
    labels = from_intervals([("R-2", None)])
    assert labels.of("R-2", ends(-5, 0, 1e6)).tolist() == [Label.NORMAL] * 3


def test_a_star_row_holds_for_every_asset_beside_its_own_rows() -> None:
    labels = from_intervals(
        [("*", Interval(T0, T0 + S, "storm")), ("R-1", Interval(T0 + 5 * S, T0 + 6 * S, "leak"))]
    )
    assert labels.of("R-9", ends(0, 1, 5)).tolist() == [1, 1, 0]
    assert labels.of("R-1", ends(0, 1, 5)).tolist() == [1, 1, 1]
    assert [f.name for f in labels.faults_of("R-1")] == ["storm", "leak"]


def test_overlapping_intervals_are_one_anomalous_stretch_and_two_faults() -> None:
    labels = from_intervals(
        [("R", Interval(T0 + 4 * S, T0 + 8 * S, "b")), ("R", Interval(T0, T0 + 5 * S, "a"))]
    )
    assert labels.of("R", ends(0, 4.5, 6, 9)).tolist() == [1, 1, 1, 0]
    assert [f.name for f in labels.faults_of("R")] == ["a", "b"]


def test_an_interval_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(
        LabelsError, match=r"'R-1'.*ends at .*before its start.*hint: are start and end swapped"
    ):
        from_intervals([("R-1", Interval(T0 + S, T0, "x"))])


def test_a_column_labels_a_window_by_its_last_sample() -> None:
    labels = from_column(["R"] * 4, ends(0, 1, 2, 3), np.array([0.0, 1.0, 1.0, 0.0]))
    assert labels.of("R", ends(-1, 0, 1, 1.5, 2, 3)).tolist() == [-1, 0, 1, 1, 1, 0]


def test_a_column_value_holds_no_longer_than_twice_the_usual_distance() -> None:
    labels = from_column(["R"] * 5, ends(0, 1, 2, 100, 101), np.array([0.0, 0.0, 1.0, 0.0, 0.0]))
    assert labels.of("R", ends(2, 4, 4.1, 50, 100, 103, 103.1)).tolist() == [1, 1, -1, -1, 0, 0, -1]


def test_an_empty_column_value_is_unknown_not_normal() -> None:
    labels = from_column(["R"] * 3, ends(0, 1, 2), np.array([0.0, np.nan, 1.0]))
    assert labels.of("R", ends(0, 1, 2)).tolist() == [0, -1, 1]


def test_a_column_in_any_order_of_assets_and_times_gives_each_asset_its_own_faults() -> None:
    assets = ["B", "A", "B", "A", "A", "B"]
    labels = from_column(assets, ends(2, 1, 0, 2, 0, 1), np.array([1.0, 0, 0, 0, 1, 1]), name="anomaly")
    assert labels.of("A", ends(0, 1, 2)).tolist() == [1, 0, 0]
    assert labels.of("B", ends(0, 1, 2)).tolist() == [0, 1, 1]
    assert [(f.start_ns - T0, f.name) for f in labels.faults_of("B")] == [(S, "anomaly")]


def test_a_column_run_is_one_fault_from_its_first_to_its_last_row() -> None:
    values = np.array([0, 1, 1, 1, 0, 1, 0], float)
    labels = from_column(["R"] * 7, ends(*range(7)), values)
    assert [(f.start_ns - T0, f.end_ns - T0) for f in labels.faults_of("R")] == [
        (S, 4 * S - 1),
        (5 * S, 6 * S - 1),
    ]


def test_repeated_rows_of_one_instant_agree_or_are_refused() -> None:
    labels = from_column(["R"] * 4, ends(0, 1, 1, 2), np.array([0.0, 1.0, 1.0, 0.0]))
    assert labels.of("R", ends(0, 1, 2)).tolist() == [0, 1, 0]
    with pytest.raises(LabelsError, match="both 0 and 1"):
        from_column(["R"] * 2, ends(0, 0), np.array([0.0, 1.0]))


def test_a_column_value_other_than_0_and_1_is_refused_with_its_row() -> None:
    with pytest.raises(LabelsError, match="row 2: expected 0, 1 or empty, got 2"):
        from_column(["R"] * 2, ends(0, 1), np.array([0.0, 2.0]))


CSV = "asset,start,end,label\npoly/R-1,2026-01-01T00:00:10Z,2026-01-01T01:00:20+01:00,fouling\npoly/R-2,,,\n"
YAML = """
- {asset: poly/R-1, start: 2026-01-01T00:00:10Z, end: 1767225620000, label: fouling}
- asset: poly/R-2
"""
JSON = (
    '[{"asset":"poly/R-1","start":1767225610000,"end":"2026-01-01T00:00:20Z","label":"fouling"},'
    '{"asset":"poly/R-2"}]'
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", CSV),
        ("semicolons.csv", CSV.replace(",", ";")),
        ("excel.csv", "\ufeff" + CSV),
        ("a.yaml", YAML),
        ("a.yml", YAML),
        ("a.json", JSON),
    ],
)
def test_every_format_reads_the_same_labels(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    labels = read(tmp_path / name)
    assert labels.faults_of("poly/R-1") == (Interval(T0 + 10 * S, T0 + 20 * S, "fouling"),)
    assert labels.of("poly/R-2", ends(0)).tolist() == [0]


def test_times_without_an_offset_need_a_zone(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("asset;start;end;label\nR;2026-01-01 01:00:10;2026-01-01 01:00:20;x\n")
    with pytest.raises(LabelsError, match=r"line 2.*no offset from UTC; hint: write"):
        read(path)
    labels = read(path, TimeLayout(zone="Europe/Berlin"))
    assert labels.faults_of("R")[0].start_ns == T0 + 10 * S


def test_integer_times_are_in_the_configured_unit(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("asset,start,end\nR,1767225610,1767225620\n")
    assert read(path, TimeLayout(unit="s")).faults_of("R")[0].start_ns == T0 + 10 * S


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", r"expected a .csv, .yaml or .json file, got '.txt'"),
        ("a.csv", "asset,from,to\n", r"missing start, end"),
        (
            "a.csv",
            "asset,start,end\nR,yesterday,2026-01-01T00:00:00Z\n",
            r"line 2: expected an ISO 8601 time",
        ),
        (
            "a.csv",
            "asset,start,end\nR,2026-01-01T00:00:00Z,\n",
            r"line 2: expected both start and end, or neither",
        ),
        ("a.csv", "asset,start,end\n,1,2\n", r"line 2: no asset; hint: write \*"),
        ("a.csv", "asset,start,end,labels\nR,1,2,x\n", r"line 2: unknown column 'labels'"),
        ("a.json", '{"asset": "R"}', r"expected a list of entries"),
        ("a.json", "[1]", r"entry 1: expected keys asset"),
        ("a.json", "[\n{]", r"line 2: no valid JSON"),
        ("a.yaml", "- asset: R\n  asset: Q\n", r"line 2: duplicate key 'asset'"),
        ("a.yaml", "asset: R", r"expected a list of entries"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(LabelsError, match=message):
        read(tmp_path / name)


def test_a_missing_file_is_an_error_of_labels(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="cannot be read"):
        read(tmp_path / "none.csv")


def test_no_labels_at_all_know_nothing() -> None:
    assert Labels().of("R", ends(0, 1)).tolist() == [-1, -1]
    assert Labels().faults_of("R") == ()
