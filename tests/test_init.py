"""`init`: what it writes passes `validate`, and what it proposes from a recording is what the recording says."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from monitor import data_files
from monitor.cli.init import command
from monitor.configuration import read
from monitor.connect import make_source, recordings
from monitor.errors import UsageError
from monitor.proposal import Proposal, ProposalRefused, propose
from monitor.settings import AssetClass
from monitor.validation import check

MINUTES = [f"2026-01-01T00:{number:02d}" for number in range(20)]


def run(*arguments: object) -> str:
    done = CliRunner().invoke(command, [str(a) for a in arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def csv(folder: Path, header: str, rows: list[str], name: str = "R-101.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding=encoding)
    return path


def minutes(count: int, form: str = "2026-01-01 00:{:02d}:00") -> list[str]:
    return [form.format(number) for number in range(count)]


def proposed(folder: Path, recording: Path) -> AssetClass:
    """The class of the configuration written from a recording, which must pass `validate`."""
    run(folder / "plant.yaml", "--from", recording)
    found = check(folder / "plant.yaml").findings.sorted()
    assert [f.path for f in found] == ["asset_classes.asset.bundle"], found
    return read(folder / "plant.yaml").settings.asset_classes["asset"]


def decoded(folder: Path) -> Any:
    """All rows of the recording as `train` will read them."""
    configuration = read(folder / "plant.yaml")
    source = make_source(configuration, recordings(configuration, ()))
    source.open(lambda _: None, "earliest")
    (polled,) = source.poll(0.0)
    assert not polled.rejected
    (batch,) = polled.batches
    return batch


# -- templates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["default", "continuous", "batch"])
def test_a_template_is_written_with_its_comments_and_passes_validate(tmp_path: Path, template: str) -> None:
    said = run(tmp_path / "plant.yaml", "--template", template)
    assert f"nuwatch validate {tmp_path / 'plant.yaml'}" in said
    text = (tmp_path / "plant.yaml").read_text(encoding="utf-8")
    assert text.count("#") > 10
    assert {f.level for f in check(tmp_path / "plant.yaml").findings.sorted()} == {"warning"}


def test_an_existing_file_is_left_alone_without_force(tmp_path: Path) -> None:
    file = tmp_path / "plant.yaml"
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="--force"):
        run(file)
    assert file.read_text(encoding="utf-8") == "mine"
    run(file, "--force")
    assert "asset_classes" in file.read_text(encoding="utf-8")


def test_a_recording_and_a_template_exclude_each_other(tmp_path: Path) -> None:
    recording = csv(tmp_path, "time,a", ["2026-01-01T00:00:00Z,1"])
    with pytest.raises(UsageError, match="expected one of them"):
        run(tmp_path / "plant.yaml", "--from", recording, "--template", "batch")


def test_the_examples_are_found_in_a_wheel_and_in_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel, checkout = tmp_path / "monitor" / "data" / "config", tmp_path / "config"
    monkeypatch.setattr(data_files, "_PLACES", (wheel, checkout))
    with pytest.raises(FileNotFoundError, match="install nuwatch again"):
        data_files.example("nuwatch.yaml")
    for folder in (checkout, wheel):
        folder.mkdir(parents=True)
        (folder / "nuwatch.yaml").write_text(str(folder), encoding="utf-8")
        assert data_files.example("nuwatch.yaml") == str(folder)


# -- proposals ------------------------------------------------------------------------------------------------


def test_columns_of_numbers_become_sensors_with_tags_and_ranges_that_hold_the_data(tmp_path: Path) -> None:
    rows = [f"{time}Z,{100 + number},{number / 10},ok" for number, time in enumerate(minutes(40))]
    recording = csv(tmp_path, "time,Reactor Temp [C],pressure,comment", rows)
    asset_class = proposed(tmp_path, recording)
    assert list(asset_class.sensors) == ["reactor_temp_c", "pressure"]
    assert asset_class.sensors["reactor_temp_c"].tag == "Reactor Temp [C]"
    assert asset_class.sensors["pressure"].tag is None
    # twice the width, 2 x 39, is more than half the size, 139 / 2
    assert asset_class.sensors["reactor_temp_c"].range == pytest.approx((22, 217), abs=1)
    assert asset_class.sensors["pressure"].range == pytest.approx((-7.8, 11.7), abs=0.1)
    assert {sensor.unit for sensor in asset_class.sensors.values()} == {"1"}
    assert asset_class.assets == ("R-101",)
    assert asset_class.sampling == 60 * 10**9
    batch = decoded(tmp_path)
    assert batch.assets == ("R-101",)
    assert batch.values[3].tolist() == [103.0, 0.3]
    assert batch.time[0] == 1_767_225_600 * 10**9


def test_the_file_and_the_terminal_say_what_must_be_checked(tmp_path: Path) -> None:
    rows = [f"{time},{number},{number % 2},{number}" for number, time in enumerate(minutes(30))]
    recording = csv(tmp_path, "time,level,pump,level_setpoint", rows)
    said = run(tmp_path / "plant.yaml", "--from", recording)
    text = (tmp_path / "plant.yaml").read_text(encoding="utf-8")
    for part in (said, text):
        assert "units: they cannot be guessed" in part
        assert "UTC is only a guess" in part
        assert "role of pump, level_setpoint: guessed" in part
    assert "CHECK every one: UCUM codes" in text


def test_roles_are_guessed_from_names_and_values(tmp_path: Path) -> None:
    header = "time,level,pump,level_setpoint,valve,FC-101.OUT,few"
    rows = [
        f"{time}Z,{n / 3},{n % 2},{50 + n / 7},{n / 2},{n / 5},{n % 3 / 2}"
        for n, time in enumerate(minutes(40))
    ]
    sensors = proposed(tmp_path, csv(tmp_path, header, rows)).sensors
    assert {name: sensor.role for name, sensor in sensors.items()} == {
        "level": "pv",
        "pump": "discrete",
        "level_setpoint": "setpoint",
        "valve": "output",
        "fc_101_out": "output",
        "few": "pv",
    }


def test_a_label_is_left_out_and_said_so(tmp_path: Path) -> None:
    rows = [f"{time}Z,{n / 3},{n % 2},{n % 2}" for n, time in enumerate(minutes(40))]
    recording = csv(tmp_path, "time,level,anomaly,changepoint", rows)
    assert list(proposed(tmp_path, recording).sensors) == ["level"]
    text = (tmp_path / "plant.yaml").read_text(encoding="utf-8")
    assert '# column "anomaly": looks like a label' in text


@pytest.mark.parametrize(
    ("times", "lines"),
    [
        (minutes(30, "2026-01-01T00:{:02d}:00+01:00"), []),
        (minutes(30), ["zone: UTC"]),
        (minutes(30, "01.02.2026 10:{:02d}:00"), ['format: "%d.%m.%Y %H:%M:%S"', "zone: UTC"]),
        (minutes(30, "12/31/2026 10:{:02d}"), ['format: "%m/%d/%Y %H:%M"', "zone: UTC"]),
        ([str(1_767_225_600 + 60 * n) for n in range(30)], ["unit: s"]),
        ([str(1_767_225_600_000 + 60_000 * n) for n in range(30)], ["unit: ms"]),
    ],
)
def test_the_time_column_is_read_as_it_is_written(tmp_path: Path, times: list[str], lines: list[str]) -> None:
    recording = csv(tmp_path, "a,timestamp", [f"{number / 2},{time}" for number, time in enumerate(times)])
    asset_class = proposed(tmp_path, recording)
    assert asset_class.sampling == 60 * 10**9
    text = (tmp_path / "plant.yaml").read_text(encoding="utf-8")
    assert "column: timestamp" in text
    settings = text[text.index("recordings:") : text.index("asset_classes:")]
    assert [word for word in ("format:", "unit:", "zone:") if word in settings] == sorted(
        line.split()[0] for line in lines
    )
    assert all(line in settings for line in lines)
    assert len(decoded(tmp_path).time) == 30


def test_a_file_without_times_counts_its_rows(tmp_path: Path) -> None:
    recording = csv(tmp_path, "a,b", [f"{n},{n / 7}" for n in range(30)])
    assert proposed(tmp_path, recording).sampling == 10**9
    assert "no column looks like one" in (tmp_path / "plant.yaml").read_text(encoding="utf-8")


def test_semicolons_decimal_commas_and_old_encodings_are_recognised(tmp_path: Path) -> None:
    rows = [f"{time};{20 + n},5;1,25" for n, time in enumerate(minutes(20, "01.02.2026 10:{:02d}:00"))]
    recording = csv(tmp_path, "Zeit;Temp. °C;Druck", rows, encoding="latin-1")
    asset_class = proposed(tmp_path, recording)
    assert asset_class.sensors["temp_c"].tag == "Temp. °C"
    assert decoded(tmp_path).values[2].tolist() == [22.5, 1.25]


def test_an_asset_column_gives_the_assets_and_the_step_of_each(tmp_path: Path) -> None:
    # the assets report ten seconds after one another
    rows = [f"{minute}:{k}0Z,R-{k},{n + k}" for n, minute in enumerate(MINUTES) for k in range(3)]
    asset_class = proposed(tmp_path, csv(tmp_path, "time,asset,level", rows, name="plant.csv"))
    assert asset_class.assets == ("R-0", "R-1", "R-2")
    assert asset_class.sampling == 60 * 10**9
    assert list(asset_class.sensors) == ["level"]


def test_a_batch_column_is_context_and_bounds_the_window(tmp_path: Path) -> None:
    rows = [f"B-{n // 40},{n},{n / 7}" for n in range(200)]
    recording = csv(tmp_path, "batch_id,a,b", rows)
    asset_class = proposed(tmp_path, recording)
    assert asset_class.window.length == 10  # a quarter of a batch of 40
    assert list(asset_class.sensors) == ["a", "b"]
    assert {c.batch_id for c in decoded(tmp_path).contexts} >= {"B-0", "B-4"}


def test_the_recordings_path_is_relative_to_the_configuration_and_may_be_packed(tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    packed = tmp_path / "history" / "R-7.csv.gz"
    packed.write_bytes(gzip.compress(b"time,a\n2026-01-01T00:00:00Z,1\n2026-01-01T00:00:05Z,2\n"))
    asset_class = proposed(tmp_path, packed)
    assert asset_class.sampling == 5 * 10**9
    settings = read(tmp_path / "plant.yaml").settings
    assert settings.recordings is not None
    assert settings.recordings["paths"] == [os.path.join("history", "R-7.csv.gz")]


def test_names_that_yaml_would_misread_are_quoted_and_twins_are_numbered(tmp_path: Path) -> None:
    recording = csv(
        tmp_path, 'time,on,A b,a-b,"x: ""y"" # z",1st', ["2026-01-01T00:00:00Z,1.5,2.5,3.5,4.5,5.5"]
    )
    sensors = proposed(tmp_path, recording).sensors
    assert {name: sensor.tag for name, sensor in sensors.items()} == {
        "on": None,
        "a_b": "A b",
        "a_b_2": "a-b",
        "x_y_z": 'x: "y" # z',
        "1st": None,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no CSV file that can be read"),
        ("a,b\n", "no rows"),
        ("name,comment\nx,y\n", "no column of numbers"),
        ("a,a\n1,2\n", "several columns are called 'a'"),
        ("a,b\n1,2\n1,2,3\n", "no CSV file that can be read"),
    ],
)
def test_a_file_that_nothing_can_be_proposed_from_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProposalRefused, match=message):
        propose(path)


def test_a_proposal_of_a_constant_column_still_has_a_range(tmp_path: Path) -> None:
    proposal: Proposal = propose(csv(tmp_path, "a,b", ["5.5,0"] * 5))
    assert [(s.low, s.high) for s in proposal.sensors] == [
        (pytest.approx(2.7, abs=0.1), pytest.approx(8.3, abs=0.1)),
        (-1.0, 1.0),
    ]
