from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.errors import SettingsError, SinkError, SourceError
from connectors.file_sink import FilesSink, FilesSinkSettings
from connectors.files import FilesSource, FilesSourceSettings, FileTime, read_column
from connectors.records import (
    NO_CONTEXT,
    Channel,
    ClassLayout,
    Context,
    Layout,
    OutRecord,
    Polled,
    Quality,
    Reason,
    SensorLayout,
    TimeLayout,
)

T = 1_577_836_800_000_000_000
"""2020-01-01T00:00:00Z"""
SECOND = 1_000_000_000
NAN = float("nan")
ABSENT, GOOD, UNCERTAIN, BAD = (
    int(q) for q in (Quality.ABSENT, Quality.GOOD, Quality.UNCERTAIN, Quality.BAD)
)

LAYOUT = Layout(
    classes=(
        ClassLayout(
            "reactor",
            ("*",),
            (SensorLayout("temperature", "T1", "Cel"), SensorLayout("pressure", "P1", "bar")),
        ),
    ),
    time=TimeLayout(zone="UTC"),
)
TIME = FileTime(column="time")


def source_of(folder: Path, *, layout: Layout = LAYOUT, **settings: Any) -> FilesSource:
    settings = {"paths": ("*",), "time": TIME} | settings
    return FilesSource(FilesSourceSettings(**settings), layout, folder)


def drained(source: FilesSource, position: int | None = None) -> list[Polled]:
    source.open(lambda _: position, "earliest")
    polls: list[Polled] = []
    while not source.exhausted:
        polls += source.poll(0)
    source.close()
    return polls


def values(polls: list[Polled]) -> list[list[float]]:
    return [row for polled in polls for batch in polled.batches for row in batch.values.tolist()]


def times(polls: list[Polled]) -> list[int]:
    return [time for polled in polls for batch in polled.batches for time in batch.time.tolist()]


def contexts(polls: list[Polled]) -> list[Context]:
    return [batch.contexts[i] for polled in polls for batch in polled.batches for i in batch.context]


def assets(polls: list[Polled]) -> list[str]:
    return [batch.assets[i] for polled in polls for batch in polled.batches for i in batch.asset]


def rejections(polls: list[Polled]) -> list[tuple[Reason, str]]:
    return [(each.reason, each.detail) for polled in polls for each in polled.rejected]


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


ROWS = [
    ("2020-01-01T00:00:00Z", 1.5, 2.0),
    ("2020-01-01T00:00:01Z", 0.1, None),
    ("2020-01-01T00:00:02Z", None, 4.25),
]


def csv_text(delimiter: str = ",", decimal: str = ".") -> str:
    cells = [["time", "T1", "P1"]]
    cells += [
        [time, *("" if v is None else str(v).replace(".", decimal) for v in row)] for time, *row in ROWS
    ]
    return "".join(delimiter.join(row) + "\n" for row in cells)


def narrow_rows() -> list[tuple[str, str, float]]:
    return [
        (t, tag, v) for t, *row in ROWS for tag, v in zip(("T1", "P1"), row, strict=True) if v is not None
    ]


@pytest.mark.parametrize(
    "kind", ["csv", "semicolon", "tab", "comma decimal", "gzip", "blanks", "jsonl", "parquet"]
)
def test_wide_files_of_every_format_give_the_same_rows(kind: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {}
    if kind == "csv":
        write(tmp_path, "a.csv", csv_text())
    elif kind == "semicolon":
        write(tmp_path, "a.csv", "\ufeff" + csv_text(";").replace("\n", "\r\n"))
        settings = {"delimiter": ";"}
    elif kind == "tab":
        write(tmp_path, "a.tsv", csv_text("\t"))
        settings = {"delimiter": "\t"}
    elif kind == "comma decimal":
        write(tmp_path, "a.csv", csv_text(";", ","))
        settings = {"delimiter": ";", "decimal": ","}
    elif kind == "gzip":
        write(tmp_path, "a.csv.gz", gzip.compress(csv_text().encode()))
    elif kind == "blanks":
        write(tmp_path, "a.dat", csv_text("   ").replace("   \n", "   NA\n").replace("      ", "   NA   "))
        settings = {"delimiter": "whitespace"}
    elif kind == "jsonl":
        lines = [json.dumps(dict(zip(("time", "T1", "P1"), row, strict=True))) for row in ROWS]
        write(tmp_path, "a.jsonl", "\n".join(lines))
    else:
        table = pa.table(dict(zip(("time", "T1", "P1"), map(list, zip(*ROWS, strict=True)), strict=True)))
        pq.write_table(table, tmp_path / "a.parquet")
    polls = drained(source_of(tmp_path, **settings))
    assert rejections(polls) == []
    np.testing.assert_array_equal(values(polls), [[1.5, 2.0], [0.1, NAN], [NAN, 4.25]])
    assert polls[0].batches[0].quality.tolist() == [[GOOD, GOOD], [GOOD, ABSENT], [ABSENT, GOOD]]
    assert times(polls) == [T, T + SECOND, T + 2 * SECOND]
    assert set(assets(polls)) == {"a"}
    assert polls[0].batches[0].offset.tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_narrow_files_of_every_format_give_a_row_per_reading(kind: str, tmp_path: Path) -> None:
    names = ("time", "sensor", "value")
    if kind == "csv":
        write(
            tmp_path, "a.csv", "time,sensor,value\n" + "".join(f"{t},{s},{v}\n" for t, s, v in narrow_rows())
        )
    elif kind == "jsonl":
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in narrow_rows()]
        write(tmp_path, "a.jsonl", "\n".join(lines))
    else:
        columns = dict(zip(names, map(list, zip(*narrow_rows(), strict=True)), strict=True))
        pq.write_table(pa.table(columns), tmp_path / "a.parquet", use_dictionary=["sensor"])
    polls = drained(source_of(tmp_path, shape="narrow"))
    np.testing.assert_array_equal(values(polls), [[1.5, NAN], [NAN, 2.0], [0.1, NAN], [NAN, 4.25]])
    assert times(polls) == [T, T, T + SECOND, T + 2 * SECOND]


def test_narrow_rows_may_have_own_names_units_and_qualities(tmp_path: Path) -> None:
    text = "when,what,how much,unit,ok\n0,temp,300,K,good\n1,temp,26.85,Cel,BAD\n2,P1,1,,uncertain\n3,flow,1,,GOOD\n"
    write(tmp_path, "a.csv", text)
    polls = drained(
        source_of(
            tmp_path,
            shape="narrow",
            time=FileTime(column="when", unit="s"),
            sensor_column="what",
            value_column="how much",
            unit_column="unit",
            quality_column="ok",
            sensors={"T1": "temp"},
        )
    )
    np.testing.assert_allclose(values(polls), [[26.85, NAN], [26.85, NAN], [NAN, 1.0]], atol=1e-12)
    assert polls[0].batches[0].quality.tolist() == [[GOOD, ABSENT], [BAD, ABSENT], [ABSENT, UNCERTAIN]]
    (rejected,) = rejections(polls)
    assert rejected[0] is Reason.UNKNOWN_SENSOR
    assert rejected[1].startswith(f"{tmp_path}/a.csv:5: ")


def test_columns_are_mapped_from_any_names(tmp_path: Path) -> None:
    text = "Datum;Anlage;TI-101 [°F];PI-101;PI-101 Q;Charge;Rezept;Phase;seit;x\n"
    text += "1577836800;R1;212;5;GOOD;B1;H9;REACT;1577836790;junk\n1577836801;R2;32;6;uncertain;;;;;junk\n"
    write(tmp_path, "export.txt", text)
    polls = drained(
        source_of(
            tmp_path,
            delimiter=";",
            time=FileTime(column="Datum", unit="s"),
            asset_column="Anlage",
            sensors={"T1": "TI-101 [°F]", "P1": "PI-101"},
            units={"T1": "[degF]"},
            quality={"P1": "PI-101 Q"},
            batch_id="Charge",
            recipe="Rezept",
            phase="Phase",
            phase_started="seit",
        )
    )
    assert rejections(polls) == []
    assert assets(polls) == ["R1", "R2"]
    np.testing.assert_allclose(values(polls), [[100.0, 5.0], [0.0, 6.0]], atol=1e-12)
    assert polls[0].batches[0].quality.tolist() == [[GOOD, GOOD], [GOOD, UNCERTAIN]]
    assert contexts(polls) == [Context("B1", "H9", "REACT", T - 10 * SECOND), NO_CONTEXT]


def test_assets_and_batches_may_come_from_the_files_names(tmp_path: Path) -> None:
    for name in ("valve2/7.csv", "valve1/0.csv", "valve1/10.csv", "valve1/2.csv"):
        write(tmp_path, name, "time,T1\n2020-01-01T00:00:00Z,1\n")
    polls = drained(source_of(tmp_path, paths=("**/*.csv",), asset="rig/{parent}", batch_id="run-{stem}"))
    assert assets(polls) == ["rig/valve1"] * 3 + ["rig/valve2"]
    assert [context.batch_id for context in contexts(polls)] == ["run-0", "run-10", "run-2", "run-7"]


@pytest.mark.parametrize(
    ("restart", "expected"), [(False, [0, 60, 120, 180]), (True, [0, 60, 0, 60])], ids=["going on", "again"]
)
def test_times_are_made_from_a_start_and_a_period(restart: bool, expected: list[int], tmp_path: Path) -> None:
    write(tmp_path, "1.csv", "T1,P1\n1,1\n2,2\n")
    write(tmp_path, "2.csv", "T1,P1\n3,3\n4,4\n")
    time = FileTime(start="2020-01-01T00:00:00Z", period=60, restart=restart)
    assert times(drained(source_of(tmp_path, time=time))) == [T + seconds * SECOND for seconds in expected]


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("01.01.2020 01:00", {"format": "%d.%m.%Y %H:%M", "zone": "Europe/Berlin"}),
        ("01/01/20 12:00:00 AM +0000", {"format": "%m/%d/%y %I:%M:%S %p %z"}),
        ("2020-01-01 00:00:00", {}),
        ("2020-01-01T01:00:00+01:00", {}),
        ("1577836800000", {}),
        ("1577836800", {"unit": "s"}),
    ],
)
def test_times_of_csv_are_read_by_format_zone_or_unit(
    text: str, settings: dict[str, str], tmp_path: Path
) -> None:
    write(tmp_path, "a.csv", f"time,T1\n{text},1\n")
    polls = drained(source_of(tmp_path, time=FileTime(column="time", **settings)))
    assert rejections(polls) == []
    assert times(polls) == [T]


def test_parquet_keeps_nanoseconds_floats_and_dictionaries(tmp_path: Path) -> None:
    table = pa.table(
        {
            "time": pa.array([T + 1, T + 2], pa.timestamp("ns", tz="UTC")),
            "T1": pa.array([0.1, np.nan], pa.float32()),
            "P1": pa.array([7, None], pa.int16()),
            "unit": pa.array(["R1", "R2"]).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    polls = drained(source_of(tmp_path, asset_column="unit"))
    assert times(polls) == [T + 1, T + 2]
    assert assets(polls) == ["R1", "R2"]
    np.testing.assert_array_equal(values(polls), [[float(np.float32(0.1)), 7.0], [NAN, NAN]])
    assert polls[0].batches[0].quality.tolist() == [[GOOD, GOOD], [int(Quality.NON_FINITE), ABSENT]]


# broken files


def test_bad_lines_and_cells_are_reported_with_file_and_line_and_the_rest_is_used(tmp_path: Path) -> None:
    lines = [
        "time,T1,P1",
        "2020-01-01T00:00:00Z,1,1",
        "2020-01-01T00:00:01Z,I/O Timeout,2",  # line 3: a cell
        "2020-01-01T00:00:02Z,3",  # line 4: too few
        "",  # line 5: blank
        "2020-01-01T00:00:03Z,4,4,4",  # line 6: too many
        "yesterday,5,5",  # line 7: time
        "   ",  # line 8: blank
        "2020-01-01T00:00:05Z,inf,6",
    ]
    path = write(tmp_path, "a.csv", "\n".join(lines) + "\n")
    polls = drained(source_of(tmp_path))
    got = [(reason, detail.partition(": ")[0]) for reason, detail in rejections(polls)]
    assert got == [
        (Reason.WRONG_TYPE, f"{path}:3"),
        (Reason.MALFORMED, f"{path}:4"),
        (Reason.MALFORMED, f"{path}:6"),
        (Reason.BAD_TIME, f"{path}:7"),
    ]
    assert [each.record.offset for polled in polls for each in polled.rejected] == [1, 2, 4, 5]
    assert polls[0].rejected[1].record.value == b"2020-01-01T00:00:02Z,3"
    np.testing.assert_array_equal(values(polls), [[1.0, 1.0], [NAN, 2.0], [NAN, 6.0]])
    assert polls[0].batches[0].quality.tolist() == [
        [GOOD, GOOD],
        [BAD, GOOD],
        [int(Quality.NON_FINITE), GOOD],
    ]
    assert polls[0].batches[0].offset.tolist() == [0, 1, 7]


def test_line_numbers_count_the_lines_before_the_header(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "a.csv",
        "# export\n# of today\ntime,T1\n2020-01-01T00:00:00Z,1\n2020-01-01T00:00:01Z\nx,2\n",
    )
    polls = drained(source_of(tmp_path, skip_lines=2))
    assert [detail.partition(": ")[0] for _, detail in rejections(polls)] == [f"{path}:5", f"{path}:6"]


def test_bytes_that_are_no_utf8_spoil_their_cell_alone(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", b"time,T1,P1\n2020-01-01T00:00:00Z,\xb0\xff,1\n2020-01-01T00:00:01Z,2,2\n")
    polls = drained(source_of(tmp_path))
    assert [reason for reason, _ in rejections(polls)] == [Reason.WRONG_TYPE]
    np.testing.assert_array_equal(values(polls), [[NAN, 1.0], [2.0, 2.0]])


def test_another_encoding_can_be_named(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "time,T°\n2020-01-01T00:00:00Z,1\n".encode("latin-1"))
    polls = drained(source_of(tmp_path, encoding="latin-1", sensors={"T1": "T°"}))
    np.testing.assert_array_equal(values(polls), [[1.0, NAN]])


def test_bad_lines_of_json_are_reported_and_the_rest_is_used(tmp_path: Path) -> None:
    lines = [
        '{"time": 1577836800000, "T1": 1}',
        '{"time": 1577836801000, "T1": ',
        "",
        '{"time": 1577836802000, "T1": "x"}',
        '{"time": 1577836803000, "T1": [1]}',
        '{"time": 1577836804000.5, "T1": 1}',
        '{"time": 1577836805000, "T1": ' + "1" * 2000 + "}",
        '{"time": 1577836806000, "other": 1}',
    ]
    path = write(tmp_path, "a.jsonl", "\n".join(lines))
    polls = drained(source_of(tmp_path, layout=LAYOUT._replace(max_bytes=1000)))
    assert [(reason, detail.partition(": ")[0]) for reason, detail in rejections(polls)] == [
        (Reason.MALFORMED, f"{path}:2"),
        (Reason.WRONG_TYPE, f"{path}:4"),
        (Reason.WRONG_TYPE, f"{path}:5"),
        (Reason.BAD_TIME, f"{path}:6"),
        (Reason.TOO_LARGE, f"{path}:7"),
    ]
    np.testing.assert_array_equal(values(polls), [[1.0, NAN], [NAN, NAN], [NAN, NAN]])


@pytest.mark.parametrize("kind", ["csv.gz", "jsonl.gz", "parquet"])
def test_a_truncated_file_is_reported_and_the_next_one_read(kind: str, tmp_path: Path) -> None:
    stamps = [f"2020-01-01T{n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d}Z" for n in range(30_000)]
    if kind == "parquet":
        pq.write_table(
            pa.table({"time": stamps, "T1": np.random.default_rng(0).normal(size=30_000)}),
            tmp_path / "1.parquet",
        )
        raw = (tmp_path / "1.parquet").read_bytes()
        write(tmp_path, "1.parquet", raw[:2000] + b"\xff" * 1000 + raw[3000:])
    elif kind == "csv.gz":
        text = "time,T1\n" + "".join(f"{stamp},{n * 0.7}\n" for n, stamp in enumerate(stamps))
        write(tmp_path, "1.csv.gz", gzip.compress(text.encode())[:-50_000])
    else:
        text = "".join(f'{{"time":"{stamp}","T1":{n * 0.7}}}\n' for n, stamp in enumerate(stamps))
        write(tmp_path, "1.jsonl.gz", gzip.compress(text.encode())[:-50_000])
    write(tmp_path, "2.csv", "time,T1\n2020-02-02T00:00:00Z,42\n")
    polls = drained(source_of(tmp_path))
    assert Reason.CORRUPT in {reason for reason, _ in rejections(polls)}
    assert values(polls)[-1][0] == 42.0
    assert polls[-1].position == max(batch.offset[-1] for batch in polls[-1].batches) + 1


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "")
    write(tmp_path, "b.csv", "time,T1\n")
    write(tmp_path, "c.jsonl", "")
    assert drained(source_of(tmp_path)) == []


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"paths": ("nothing*.csv",)}, "no file matches"),
        ({"sensors": {"T1": "TI"}}, "column 'TI' is missing; its columns are time, T1, P1"),
        ({"time": FileTime(column="date")}, "column 'date' is missing"),
        ({"batch_id": "batch"}, "column 'batch' is missing"),
        ({"extra_columns": "refuse", "sensors": {"T1": "T1"}}, "nothing names column 'P1'"),
        ({"format": "parquet"}, "cannot be read"),
    ],
)
def test_what_does_not_fit_the_files_is_said_when_they_are_opened(
    settings: dict[str, Any], text: str, tmp_path: Path
) -> None:
    write(tmp_path, "a.csv", csv_text())
    with pytest.raises(SourceError, match=text):
        drained(source_of(tmp_path, **settings))


def test_files_without_a_sensor_say_what_they_have_and_what_was_sought(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "time,x,y\n2020-01-01T00:00:00Z,1,2\n")
    with pytest.raises(SourceError, match="its columns are time, x, y; the sensors' tags are T1, P1"):
        drained(source_of(tmp_path))


@pytest.mark.parametrize(
    "settings",
    [
        {"asset": "a", "asset_column": "b"},
        {"delimiter": ",", "decimal": ","},
        {"delimiter": ";;"},
        {"rows_per_poll": 0},
        {"asset": "{name}"},
        {"time": FileTime(start="monday")},
        {"time": FileTime(period=0.0)},
    ],
)
def test_contradictions_are_settings_errors(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        source_of(tmp_path, **settings)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `delimeter`"):
        msgspec.convert({"paths": ["a.csv"], "delimeter": ";"}, FilesSourceSettings)


# order, cuts and batch ends


@pytest.mark.parametrize("rows_per_poll", [1, 3, 100_000])
def test_cuts_change_nothing_and_every_position_resumes(rows_per_poll: int, tmp_path: Path) -> None:
    bad = {4, 5, 11}
    for file in range(2):
        lines = [f"{T // SECOND + n},{n + 100 * file},{'x' if n in bad else n}" for n in range(12)]
        lines.insert(7, "")
        write(tmp_path, f"{file}.csv", "time,T1,P1\n" + "\n".join(lines) + "\n")
    settings = {"time": FileTime(column="time", unit="s"), "rows_per_poll": rows_per_poll}
    polls = drained(source_of(tmp_path, **settings))
    expected = [
        [float(n + 100 * file), NAN if n in bad else float(n)] for file in range(2) for n in range(12)
    ]
    np.testing.assert_array_equal(values(polls), expected)
    assert len(rejections(polls)) == 6
    assert polls[-1].position == 26  # 12 rows and a blank line in each file
    offsets = [offset for polled in polls for batch in polled.batches for offset in batch.offset.tolist()]
    assert offsets == [n for n in range(26) if n not in {7, 20}]
    for position in range(27):
        rest = drained(source_of(tmp_path, **settings), position)
        kept = [row for offset, row in zip(offsets, expected, strict=True) if offset >= position]
        np.testing.assert_array_equal(np.array(values(rest)).reshape(-1, 2), np.array(kept).reshape(-1, 2))


def test_interleaving_merges_files_by_time_and_keeps_the_order_within_each(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "time,T1\n10,1\n30,2\n20,3\n40,x\n50,5\n")
    write(tmp_path, "b.csv", "time,T1\n10,11\n25,12\n30,13\n60,14\n")
    settings = {"time": FileTime(column="time", unit="s"), "asset": "{stem}", "interleave": True}
    for rows_per_poll in (1, 2, 100):
        polls = drained(source_of(tmp_path, rows_per_poll=rows_per_poll, **settings))
        # a's late row (20 after 30) stays behind the row above it
        assert times(polls) == [t * SECOND for t in (10, 10, 25, 30, 20, 30, 40, 50, 60)]
        assert "".join(assets(polls)) == "abbaabaab"
        ((reason, detail),) = rejections(polls)
        assert reason is Reason.WRONG_TYPE
        assert ":5: " in detail
        assert [each.record.offset for polled in polls for each in polled.rejected] == [6]
        assert polls[-1].position == 9
        rest = drained(source_of(tmp_path, rows_per_poll=rows_per_poll, **settings), 4)
        assert times(rest) == [t * SECOND for t in (20, 30, 40, 50, 60)]


def test_a_running_batch_is_ended_by_one_row_per_asset(tmp_path: Path) -> None:
    text = "time,unit,T1,batch\n10,A,1,b1\n15,B,2,b2\n20,A,3,b1\n25,C,4,\n"
    write(tmp_path, "a.csv", text)
    settings = {
        "time": FileTime(column="time", unit="s"),
        "asset_column": "unit",
        "batch_id": "batch",
        "append_batch_end": True,
    }
    polls = drained(source_of(tmp_path, **settings))
    assert assets(polls[-1:]) == ["B", "A"]
    assert times(polls[-1:]) == [25 * SECOND, 120 * SECOND]  # ten periods of 1 s, ten steps of 10 s
    assert contexts(polls[-1:]) == [NO_CONTEXT] * 2
    assert np.isnan(values(polls[-1:])).all()
    assert polls[-1].batches[0].offset.tolist() == [4, 5]
    assert polls[-1].position == 6
    assert times(drained(source_of(tmp_path, **settings), 5)) == [120 * SECOND]
    exact = drained(source_of(tmp_path, batch_end_after=1.5, **settings))
    assert times(exact[-1:]) == [16_500_000_000, 21_500_000_000]


def test_a_file_of_messages_goes_through_the_codec(tmp_path: Path) -> None:
    lines = [
        '{"asset":"R1","ts":1577836800000,"values":{"T1":1}}',
        "",
        '{"asset":"R1","ts":1577836801000,"sensor":"P1","value":NaN}',
        '{"asset":"R1","ts":[1577836802000,1577836803000],"values":{"T1":[2,3]}}',
    ]
    path = write(tmp_path, "a.jsonl", "\n".join(lines))
    polls = drained(source_of(tmp_path, format="messages", rows_per_poll=1))
    np.testing.assert_array_equal(values(polls), [[1.0, NAN], [2.0, NAN], [3.0, NAN]])
    ((reason, detail),) = rejections(polls)
    assert (reason, detail.partition(": ")[0]) == (Reason.MALFORMED, f"{path}:3")
    assert polls[-1].position == 4


# labels


def test_a_label_column_comes_with_asset_and_time(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", "time,T1,anomaly\n10,1,0.0\n20,2,1.0\n30,3,\nx,4,1\n")
    write(tmp_path, "b.csv", "time,T1,anomaly\n10,1,True\n20,2,false\n")
    settings = FilesSourceSettings(paths=("*.csv",), time=FileTime(column="time", unit="s"))
    labels = read_column(settings, "anomaly", LAYOUT.time, tmp_path)
    assert labels.assets == ("a", "a", "b", "b")
    assert labels.time.tolist() == [10 * SECOND, 20 * SECOND, 10 * SECOND, 20 * SECOND]
    assert labels.values.tolist() == [0.0, 1.0, 1.0, 0.0]


def test_labels_need_their_column(tmp_path: Path) -> None:
    write(tmp_path, "a.csv", csv_text())
    with pytest.raises(SourceError, match="column 'anomaly' is missing"):
        read_column(FilesSourceSettings(paths=("*.csv",), time=TIME), "anomaly", None, tmp_path)


# real recordings


def data(name: str) -> Path:
    roots = [os.environ.get("NUWATCH_DATA"), Path(__file__).parents[1] / ".." / "shared" / "data"]
    for root in roots:
        if root and (Path(root) / name).is_dir():
            return Path(root)
    pytest.skip(f"{name} is neither in $NUWATCH_DATA nor in ../shared/data")


SKAB = (
    "Accelerometer1RMS",
    "Accelerometer2RMS",
    "Current",
    "Pressure",
    "Temperature",
    "Thermocouple",
    "Voltage",
    "Volume Flow RateRMS",
)


def test_skab_is_read_as_numpy_reads_it() -> None:
    root = data("skab")
    layout = Layout(
        (ClassLayout("rig", ("skab/*",), tuple(SensorLayout(name, name, "1") for name in SKAB)),),
        TimeLayout(zone="UTC"),
    )
    settings = FilesSourceSettings(
        paths=("skab/valve1/*.csv",),
        delimiter=";",
        asset="skab/{parent}-{stem}",
        time=FileTime(column="datetime"),
    )
    polls = drained(FilesSource(settings, layout, root))
    files = sorted(map(str, (root / "skab" / "valve1").glob("*.csv")))
    tables = [np.loadtxt(file, delimiter=";", skiprows=1, dtype=str) for file in files]
    table = np.concatenate(tables)
    assert rejections(polls) == []
    np.testing.assert_array_equal(values(polls), table[:, 1:9].astype(np.float64))
    np.testing.assert_array_equal(times(polls), table[:, 0].astype("M8[ns]").astype(np.int64))
    labels = read_column(settings, "anomaly", layout.time, root)
    np.testing.assert_array_equal(labels.values, table[:, 9].astype(np.float64))
    assert labels.assets == tuple(assets(polls))


def test_nylon_batches_get_made_up_times_and_an_end() -> None:
    root = data("nylon")
    sensors = tuple(SensorLayout(f"tag{n}", f"Tag{n:02d}", "1") for n in range(1, 11))
    settings = FilesSourceSettings(
        paths=("nylon/nylon.csv",), batch_id="batch_id", time=FileTime(period=60.0), append_batch_end=True
    )
    polls = drained(FilesSource(settings, Layout((ClassLayout("autoclave", ("nylon",), sensors),)), root))
    table = np.loadtxt(root / "nylon" / "nylon.csv", delimiter=",", skiprows=1)
    np.testing.assert_array_equal(values(polls)[:-1], table[:, 1:])
    assert [context.batch_id for context in contexts(polls)] == [str(int(n)) for n in table[:, 0]] + [None]
    assert set(np.diff(times(polls)[:-1])) == {60 * SECOND}


def test_tennessee_eastman_is_read_from_columns_parted_by_blanks() -> None:
    root = data("tep")
    names = tuple(f"x{n}" for n in range(1, 53))
    layout = Layout((ClassLayout("tep", ("*",), tuple(SensorLayout(name, name, "1") for name in names)),))
    settings = FilesSourceSettings(
        paths=("tep/d0[01]_te.dat.gz",),
        delimiter="whitespace",
        columns=names,
        time=FileTime(period=180.0, restart=True),
    )
    polls = drained(FilesSource(settings, layout, root))
    expected = np.concatenate([np.loadtxt(root / "tep" / f"{name}_te.dat.gz") for name in ("d00", "d01")])
    np.testing.assert_array_equal(values(polls), expected)
    assert assets(polls) == ["d00_te"] * 960 + ["d01_te"] * 960


# the sink


def test_a_line_of_the_sink_holds_the_value_as_it_is(tmp_path: Path) -> None:
    sink = FilesSink(FilesSinkSettings(directory="out"), tmp_path)
    sink.open()
    sink.emit([OutRecord(Channel.ALERTS, "i:0001", b"R1", b'{"nu":0.010}', (("a", b"b"),))])
    sink.emit([OutRecord(Channel.DEAD_LETTER, "d:1", b"\xff", b"\x00\n", (("h", b"\xff"),))])
    sink.flush(1)
    sink.close()
    line = (tmp_path / "out" / "alerts.jsonl").read_bytes()
    assert line == b'{"id":"i:0001","key":"R1","headers":[["a","b"]],"value":{"nu":0.010}}\n'
    letter = json.loads((tmp_path / "out" / "dead_letter.jsonl").read_bytes())
    assert letter == {
        "id": "d:1",
        "key_base64": "/w==",
        "headers_base64": [["h", "/w=="]],
        "value_base64": "AAo=",
    }


def test_a_line_that_was_cut_off_by_a_crash_is_removed(tmp_path: Path) -> None:
    path = write(tmp_path, "out/alerts.jsonl", b'{"id":"a"}\n{"id":"b","va')
    sink = FilesSink(FilesSinkSettings(directory="out"), tmp_path)
    assert sink.open()["alerts/0"] == 11
    sink.close()
    assert path.read_bytes() == b'{"id":"a"}\n'


def test_ids_of_a_rotated_file_are_read_from_its_beginning(tmp_path: Path) -> None:
    write(tmp_path, "out/alerts.jsonl", b'{"id":"a"}\n')
    sink = FilesSink(FilesSinkSettings(directory="out"), tmp_path)
    sink.open()
    assert sink.ids_after({"alerts/0": 5000}) == {"a"}
    sink.close()


def test_a_line_that_is_not_the_sinks_own_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "out/alerts.jsonl", b"hello\n")
    sink = FilesSink(FilesSinkSettings(directory="out"), tmp_path)
    sink.open()
    with pytest.raises(SinkError, match="expected a line of this sink"):
        sink.ids_after({})
    sink.close()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "out", b"a file")
    with pytest.raises(SinkError, match="cannot be written"):
        FilesSink(FilesSinkSettings(directory="out"), tmp_path).open()
