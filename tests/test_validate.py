"""What `validate` finds, where it says it stands, and what it does not blame."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from connectors.records import NO_CONTEXT, Batch, Context, Polled, RawRecord, Reason, Rejected
from models.bundle import Bundle
from monitor.bundles import write_bundle
from monitor.cli.validate import command
from monitor.configuration import parse
from monitor.data_files import example
from monitor.model import calibrated_with
from monitor.quantities import Duration
from monitor.settings import AssetClass, Batches, Sensor, Settings, Window
from monitor.validation import Finding, check, has_errors
from monitor.validation.finding import Findings
from monitor.validation.patterns import covers, overlap
from monitor.validation.report import inspect
from monitor.validation.survey import judge, survey
from monitor.yaml_lines import load
from tests.broker import AnyBroker, free_port, produce
from tests.bundles import random_bundle

GOOD = """\
site: plant-a
source: {kind: kafka, bootstrap_servers: ["localhost:9092"], topic: sensors}
sink: {kind: kafka, bootstrap_servers: ["localhost:9092"]}
asset_classes:
  reactor:
    assets: ["R-*"]
    sampling: 1s
    sensors:
      temperature: {unit: Cel, range: [0, 200]}
      pressure: {unit: bar, range: [0, 10]}
"""
CLASS = "asset_classes.reactor"


def findings_of(folder: Path, text: str) -> list[Finding]:
    file = folder / "plant.yaml"
    file.write_text(text, encoding="utf-8")
    return check(file).findings.sorted()


def but_the_bundle(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if not finding.path.endswith(".bundle")]


def only(folder: Path, text: str) -> Finding:
    """The one finding besides the bundle that is not trained yet."""
    found = but_the_bundle(findings_of(folder, text))
    assert len(found) == 1, found
    return found[0]


def errors(folder: Path, text: str) -> dict[str, str]:
    return {f.path: f.message for f in findings_of(folder, text) if f.level == "error"}


def test_a_good_configuration_has_nothing_but_an_untrained_bundle(tmp_path: Path) -> None:
    found = findings_of(tmp_path, GOOD)
    assert [(f.level, f.path) for f in found] == [("warning", f"{CLASS}.bundle")]
    assert "nuwatch train" in found[0].expected
    assert found[0].where == f"{tmp_path / 'plant.yaml'}:5"


@pytest.mark.parametrize("name", ["nuwatch.yaml", "continuous.yaml", "batch.yaml"])
def test_the_examples_have_no_errors(tmp_path: Path, name: str) -> None:
    found = findings_of(tmp_path, example(name))
    assert {f.path.rsplit(".", 1)[-1] for f in found} == {"bundle", "paths"}
    assert not has_errors(found)


# -- all of it at once ----------------------------------------------------------------------------------------


def test_every_misfit_is_found_and_the_rules_are_checked_all_the_same(tmp_path: Path) -> None:
    text = GOOD.replace("site: plant-a", "site: 7\nsite_name: x").replace("unit: bar", "unit: psi, rolle: pv")
    text += "    window: {lenght: 5, stride: 100}\n    calibration: {nu: 1 %}\n    time: {max_age: 2}\n"
    found = [
        (f.path, int(f.where.rsplit(":", 1)[1])) for f in findings_of(tmp_path, text) if f.level == "error"
    ]
    assert found == [
        ("site", 1),
        ("site_name", 2),
        (f"{CLASS}.sensors.pressure.rolle", 11),
        (f"{CLASS}.sensors.pressure.unit", 11),
        (f"{CLASS}.window.lenght", 12),
        (f"{CLASS}.window.stride", 12),
        (f"{CLASS}.calibration.nu", 13),
        (f"{CLASS}.time.max_age", 14),
    ]


def test_a_default_in_the_place_of_a_misfit_is_not_blamed(tmp_path: Path) -> None:
    # the default max_age of 10 s would be less than this sampling
    text = GOOD.replace("sampling: 1s", "sampling: 1min") + "    time: {max_age: 2}\n"
    assert list(errors(tmp_path, text)) == [f"{CLASS}.time.max_age"]
    assert "expected text with a unit" in errors(tmp_path, text)[f"{CLASS}.time.max_age"]


def test_a_required_key_of_the_wrong_type_is_reported_once(tmp_path: Path) -> None:
    found = errors(tmp_path, GOOD.replace("sampling: 1s", "sampling: fast"))
    assert list(found) == [f"{CLASS}.sampling"]


def test_a_part_that_is_no_section_at_all_is_reported_once(tmp_path: Path) -> None:
    assert list(errors(tmp_path, GOOD[: GOOD.index("  reactor")] + "  reactor: 5\n")) == [CLASS]


def test_a_missing_key_is_reported_and_hides_no_other_class(tmp_path: Path) -> None:
    text = GOOD.replace("    sampling: 1s\n", "") + (
        "  pump:\n    assets: [P-1]\n    sampling: 1s\n    bundle: pump\n    sensors: {flow: {unit: nonsense}}\n"
    )
    assert list(errors(tmp_path, text)) == [CLASS, "asset_classes.pump.sensors.flow.unit"]


def test_a_file_that_is_no_yaml_is_one_finding_with_its_line(tmp_path: Path) -> None:
    (found,) = findings_of(tmp_path, "site: a\nsource: {kind: [\n")
    assert found.level == "error"
    assert found.where.endswith("plant.yaml:3")
    (found,) = check(tmp_path / "none.yaml").findings.sorted()
    assert "cannot read" in found.message
    assert "nuwatch init" in found.expected


# -- sensors --------------------------------------------------------------------------------------------------


def test_an_unknown_unit_is_an_error_with_the_code_that_was_meant(tmp_path: Path) -> None:
    found = only(tmp_path, GOOD.replace("unit: Cel", "unit: degC"))
    assert found[:3] == ("error", f"{tmp_path / 'plant.yaml'}:9", f"{CLASS}.sensors.temperature.unit")
    assert "'degC'" in found.message
    assert "'Cel'" in found.expected


@pytest.mark.parametrize(
    ("sensor", "path", "message"),
    [
        ("{unit: bar, range: [10, 0]}", "range", "reversed"),
        ("{unit: bar, range: [3, 3]}", "range", "reversed or empty"),
        ("{unit: bar, range: [0, .inf]}", "range", "inf"),
        ("{unit: bar, range: [0, 1], tag: temperature}", "tag", "already that of sensor 'temperature'"),
        ("{unit: bar, range: [0, 1], derive: time_since_batch_start}", "unit", "'bar' for a derived time"),
        ('{unit: "1", role: discrete, aggregate: mean}', "aggregate", "mean of a discrete"),
        ("{unit: bar, range: [0, 1], deadband: -1}", "deadband", "got -1"),
        ("{unit: bar, range: [0, 1], stuck_after: 100ms}", "stuck_after", "less than one sampling period"),
    ],
)
def test_a_sensor_that_contradicts_itself_is_an_error(
    tmp_path: Path, sensor: str, path: str, message: str
) -> None:
    found = only(tmp_path, GOOD.replace("{unit: bar, range: [0, 10]}", sensor))
    assert (found.level, found.path) == ("error", f"{CLASS}.sensors.pressure.{path}")
    assert message in found.message
    assert found.expected


@pytest.mark.parametrize("unit", ["s", "min", "h"])
def test_a_derived_time_in_a_unit_of_time_is_right_and_needs_no_range(tmp_path: Path, unit: str) -> None:
    sensor = f"{{unit: {unit}, derive: time_since_phase_start}}"
    assert but_the_bundle(findings_of(tmp_path, GOOD.replace("{unit: bar, range: [0, 10]}", sensor))) == []


def test_a_sensor_on_change_without_heartbeat_is_a_warning(tmp_path: Path) -> None:
    sensor = "{unit: bar, range: [0, 10], reporting: on_change}"
    found = only(tmp_path, GOOD.replace("{unit: bar, range: [0, 10]}", sensor))
    assert found.level == "warning"
    assert "without a heartbeat" in found.message
    with_one = sensor.replace("on_change", "on_change, heartbeat: 5min")
    assert but_the_bundle(findings_of(tmp_path, GOOD.replace("{unit: bar, range: [0, 10]}", with_one))) == []


def test_a_scored_sensor_without_a_range_is_only_a_hint(tmp_path: Path) -> None:
    found = only(tmp_path, GOOD.replace("{unit: bar, range: [0, 10]}", "{unit: bar}"))
    assert (found.level, found.path) == ("hint", f"{CLASS}.sensors.pressure")


def test_a_controlled_pv_without_the_controllers_output_is_a_warning(tmp_path: Path) -> None:
    controlled = GOOD + "      temperature_setpoint: {unit: Cel, role: setpoint}\n"
    found = only(tmp_path, controlled)
    assert (found.level, found.path) == ("warning", f"{CLASS}.sensors.temperature_setpoint")
    assert "hides a fault in its valve" in found.message
    with_output = controlled + '      valve: {unit: "%", range: [0, 100], role: output}\n'
    assert but_the_bundle(findings_of(tmp_path, with_output)) == []


def test_a_class_without_a_scored_sensor_is_an_error(tmp_path: Path) -> None:
    text = GOOD.replace("range: [0, 200]", "role: lab").replace("range: [0, 10]", "role: counter")
    assert errors(tmp_path, text) == {f"{CLASS}.sensors": "no sensor is scored"}


# -- windows, times and numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ("time: {max_age: 500ms}", "time.max_age"),
        ("time: {silence: 500ms}", "time.silence"),
        ("time: {max_future: 1ms}", "time.max_future"),
        ("window: {length: 1}", "window.length"),
        ("window: {stride: 0}", "window.stride"),
        ("window: {length: 8, stride: 9}", "window.stride"),
        ("window: {min_coverage: 1.1}", "window.min_coverage"),
        ("window: {min_maturity: -0.1}", "window.min_maturity"),
        ("scoring: {smoothing: 0}", "scoring.smoothing"),
        ("scoring: {smoothing: 1.5}", "scoring.smoothing"),
        ("scoring: {scorers: {}}", "scoring.scorers"),
        ("scoring: {scorers: best}", "scoring.scorers"),
        ("scoring: {scorers: auto, auto: {margin: 1}}", "scoring.auto.margin"),
        ("scoring: {scorers: auto, auto: {faults: 0}}", "scoring.auto.faults"),
        ("scoring: {scorers: auto, auto: {fit_windows: 0}}", "scoring.auto.fit_windows"),
        ("scoring: {scorers: auto, auto: {candidates: {pcb: {}}}}", "scoring.auto.candidates.pcb"),
        ("scoring: {scorers: auto, auto: {candidates: {pca: {lag: 1}}}}", "scoring.auto.candidates.pca.lag"),
        ("calibration: {nu: 0}", "calibration.nu"),
        ("calibration: {nu: 0.5}", "calibration.nu"),
        ("calibration: {holdout: 1}", "calibration.holdout"),
        ("drift: {delta: 0}", "drift.delta"),
        ("drift: {max_step: 0.5}", "drift.max_step"),
        ("drift: {max_step: 4}", "drift.max_total"),
        ("drift: {max_total: 22}", "drift.max_declared"),
        ("drift: {tracking: {rate: 0}}", "drift.tracking.rate"),
        ("alerting: {deadband: 1}", "alerting.deadband"),
        ("alerting: {criticality: 2}", "alerting.criticality"),
    ],
)
def test_a_number_outside_what_makes_sense_is_an_error(tmp_path: Path, setting: str, path: str) -> None:
    text = GOOD + f"    {setting}\n"
    assert list(errors(tmp_path, text)) == [f"{CLASS}.{path}"]


@pytest.mark.parametrize(
    "setting",
    [
        "time: {max_age: 1s, silence: 2s, max_future: 1s, lateness: 0s}",
        "window: {length: 2, stride: 2, min_coverage: 0, min_maturity: 1}\n    time: {lateness: 2s}",
        "scoring: {smoothing: 1}",
        "scoring: {scorers: auto}",
        "scoring: {scorers: auto, auto: {candidates: {pca: {}}, margin: 0, faults: 1, fit_windows: 1}}",
        "calibration: {nu: 0.499, holdout: 0.01}",
        "drift: {max_step: 1, max_total: 1, detector: none}",
        "alerting: {deadband: 0, criticality: 1, realert: null}",
    ],
)
def test_the_ends_of_what_makes_sense_are_right(tmp_path: Path, setting: str) -> None:
    assert but_the_bundle(findings_of(tmp_path, GOOD + f"    {setting}\n")) == []


def test_lateness_beyond_a_window_and_a_silence_of_one_step_are_warnings(tmp_path: Path) -> None:
    late = only(tmp_path, GOOD + "    time: {lateness: 65s}\n")
    assert (late.level, late.path) == ("warning", f"{CLASS}.time.lateness")
    silent = only(tmp_path, GOOD + "    time: {silence: 1500ms}\n")
    assert (silent.level, silent.path) == ("warning", f"{CLASS}.time.silence")


def test_an_unknown_time_zone_and_a_reversed_time_range_are_errors(tmp_path: Path) -> None:
    text = GOOD + 'times: {zone: Europe/Berln, range: ["2026-01-01T00:00:00Z", "2025-01-01T00:00:00Z"]}\n'
    assert sorted(errors(tmp_path, text)) == ["times.range", "times.zone"]


# -- scorers --------------------------------------------------------------------------------------------------


def test_unknown_scorers_and_options_are_errors_with_what_was_meant(tmp_path: Path) -> None:
    text = (
        GOOD
        + "    scoring: {scorers: {lstm_autoencoder: {hiden: 8, epochs: many}, ocn: {}, pca: {lags: 1}}}\n"
    )
    found = {f.path: (f.message, f.expected) for f in findings_of(tmp_path, text) if f.level == "error"}
    scorers = f"{CLASS}.scoring.scorers"
    assert found == {
        f"{scorers}.lstm_autoencoder.hiden": ("unknown option 'hiden'", "did you mean 'hidden'?"),
        f"{scorers}.lstm_autoencoder.epochs": ("got 'many'", "a int"),
        f"{scorers}.ocn": ("unknown scorer 'ocn'", "did you mean 'ocnn'?"),
    }


def test_an_option_of_a_scorer_outside_its_range_is_an_error_with_the_range(tmp_path: Path) -> None:
    text = (
        GOOD + "    scoring: {scorers: {pca: {explained: 1.5}, var: {order: 0}, ocnn: {activation: tanh}}}\n"
    )
    found = {f.path: (f.message, f.expected) for f in findings_of(tmp_path, text) if f.level == "error"}
    scorers = f"{CLASS}.scoring.scorers"
    assert found == {
        f"{scorers}.pca.explained": ("got 1.5", "more than 0, less than 1"),
        f"{scorers}.var.order": ("got 0", "at least 1"),
        f"{scorers}.ocnn.activation": ("got 'tanh'", "one of linear, relu, sigmoid"),
    }


def test_settings_of_auto_beside_named_scorers_are_a_warning(tmp_path: Path) -> None:
    found = only(tmp_path, GOOD + "    scoring: {scorers: {pca: {}}, auto: {margin: 0.1}}\n")
    assert (found.level, found.path) == ("warning", f"{CLASS}.scoring.auto")


# -- several classes ------------------------------------------------------------------------------------------

PUMP = """\
  pump:
    assets: [{assets}]
    sampling: 1s
    bundle: {bundle}
    sensors: {{flow: {{unit: kg/h, range: [0, 1]}}}}
"""


def test_an_asset_that_an_earlier_class_takes_is_an_error(tmp_path: Path) -> None:
    text = GOOD + PUMP.format(assets='"R-101"', bundle="pump")
    assert errors(tmp_path, text) == {
        "asset_classes.pump.assets": "'R-101' names assets that class 'reactor' takes with 'R-*'"
    }


def test_patterns_that_share_some_assets_are_a_warning(tmp_path: Path) -> None:
    found = but_the_bundle(findings_of(tmp_path, GOOD + PUMP.format(assets='"*-101"', bundle="pump")))
    assert [(f.level, f.path) for f in found] == [("warning", "asset_classes.pump.assets")]
    assert but_the_bundle(findings_of(tmp_path, GOOD + PUMP.format(assets='"P-*"', bundle="pump"))) == []


def test_two_classes_with_one_bundle_folder_are_an_error(tmp_path: Path) -> None:
    found = errors(tmp_path, GOOD + PUMP.format(assets='"P-*"', bundle="bundle"))
    assert list(found) == ["asset_classes.pump.bundle"]


@pytest.mark.parametrize(
    ("a", "b", "meets", "contains"),
    [
        ("R-*", "R-101", True, True),
        ("R-*", "P-101", False, False),
        ("R-*", "*-101", True, False),
        ("*", "R-?", True, True),
        ("?", "*", True, False),
        ("a?c", "ab*", True, False),
        ("R-[12]", "R-3", False, False),
        ("R-[12]", "R-2", True, True),
        ("R-[!12]", "R-2", False, False),
        ("poly2/*", "poly2/R-*", True, True),
        ("a*b", "b*a", False, False),
        ("R-1", "R-10", False, False),
        ("R-1", "R-1*", True, False),
    ],
)
def test_overlapping_patterns_are_told_from_others(a: str, b: str, meets: bool, contains: bool) -> None:
    assert overlap(a, b) is meets
    assert overlap(b, a) is meets
    assert covers(a, b) is contains


# -- connectors, secrets, files -------------------------------------------------------------------------------

KAFKA = 'source: {kind: kafka, bootstrap_servers: ["localhost:9092"], topic: sensors}'


def test_unknown_kinds_and_keys_of_connectors_are_errors_with_their_place(tmp_path: Path) -> None:
    text = GOOD.replace("kind: kafka", "kind: kafak", 1).replace("sink: {", "sink: {topcs: {}, ")
    found = {f.path: f.expected for f in findings_of(tmp_path, text) if f.level == "error"}
    assert found == {"source.kind": "did you mean 'kafka'?", "sink.topcs": "did you mean 'topics'?"}


def test_plaintext_to_another_machine_is_an_error(tmp_path: Path) -> None:
    source = 'source: {kind: kafka, bootstrap_servers: ["kafka.plant:9092"], topic: s, security: {protocol: PLAINTEXT}}'
    found = errors(tmp_path, GOOD.replace(KAFKA, source))
    assert list(found) == ["source"]
    assert "unencrypted to kafka.plant:9092" in found["source"]


def test_secrets_and_certificates_that_are_not_there_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NUWATCH_NO_SUCH_PASSWORD", raising=False)
    password = "{env: NUWATCH_NO_SUCH_PASSWORD}"
    security = f"security: {{ca_file: /none/ca.pem, mechanism: PLAIN, username: u, password: {password}}}"
    text = GOOD.replace(KAFKA, KAFKA[:-1] + f", {security}}}")
    assert sorted(errors(tmp_path, text)) == ["source.security.ca_file", "source.security.password"]
    (tmp_path / "ca.pem").touch()
    monkeypatch.setenv("NUWATCH_NO_SUCH_PASSWORD", "secret-word")
    text = text.replace("/none/ca.pem", str(tmp_path / "ca.pem"))
    found = findings_of(tmp_path, text)
    assert but_the_bundle(found) == []
    assert "secret-word" not in str(found)


def test_a_sink_or_source_in_memory_is_a_warning(tmp_path: Path) -> None:
    text = GOOD.replace(KAFKA, "source: {kind: memory}").replace(GOOD.splitlines()[2] + "\n", "")
    found = but_the_bundle(findings_of(tmp_path, text))
    assert [(f.level, f.path) for f in found] == [("warning", "sink"), ("warning", "source")]


def files_source(**settings: object) -> str:
    source = {"kind": "files", "paths": ["data/*.csv"]} | settings
    sink = "sink: {kind: files, directory: alerts}"
    return GOOD.replace(KAFKA, "source: " + json.dumps(source)).replace(GOOD.splitlines()[2], sink)


def write_csv(folder: Path, text: str, name: str = "R-1.csv") -> None:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / name).write_text(text, encoding="utf-8")


def test_a_pattern_that_matches_no_file_is_an_error_of_the_source_and_a_warning_of_recordings(
    tmp_path: Path,
) -> None:
    found = only(tmp_path, files_source(time={"column": "time"}))
    assert (found.level, found.path) == ("error", "source.paths")
    assert "data/*.csv" in found.message
    found = only(tmp_path, GOOD + 'recordings: {paths: ["data/*.csv"]}\n')
    assert (found.level, found.path) == ("warning", "recordings.paths")
    assert "`train`" in found.expected


def test_a_column_that_the_files_do_not_have_is_an_error_that_names_those_they_have(tmp_path: Path) -> None:
    write_csv(tmp_path, "time,temperature,pressure\n2026-01-01T00:00:00Z,20,1\n")
    found = only(tmp_path, files_source(time={"column": "when"}))
    assert (found.level, found.path) == ("error", "source.paths")
    assert "'when' is missing; its columns are time, temperature, pressure" in found.message
    assert but_the_bundle(findings_of(tmp_path, files_source(time={"column": "time"}))) == []


def test_a_mapping_of_a_tag_that_no_sensor_has_is_an_error(tmp_path: Path) -> None:
    write_csv(tmp_path, "time,temperature,P\n2026-01-01T00:00:00Z,20,1\n")
    mapping = {"temperature": "temperature", "presure": "P"}
    found = findings_of(tmp_path, files_source(time={"column": "time"}, sensors=mapping))
    assert [(f.path, f.expected) for f in found if f.level == "error"] == [
        ("source.sensors.presure", "did you mean 'pressure'?")
    ]


def test_a_sensor_without_a_column_is_a_hint(tmp_path: Path) -> None:
    write_csv(tmp_path, "time,temperature\n2026-01-01T00:00:00Z,20\n")
    found = only(tmp_path, files_source(time={"column": "time"}))
    assert (found.level, found.path) == ("hint", "source")
    assert "no column for pressure" in found.message


# -- bundles --------------------------------------------------------------------------------------------------


def bundle_for(sensors: list[str]) -> Bundle:
    bundle = random_bundle(len(sensors), 64, 4, 16)
    asset_class = parse(GOOD, Path("plant.yaml")).settings.asset_classes["reactor"]
    fields = {
        "units": ["Cel", "bar"],
        "sampling_ns": 10**9,
        "all_sensors": sensors,
        "calibrated_with": calibrated_with(asset_class),
    }
    return Bundle(**{**bundle.__dict__, "sensors": tuple(sensors), "fields": fields})


def test_a_bundle_that_fits_is_fine_and_one_of_other_windows_is_an_error(tmp_path: Path) -> None:
    write_bundle(bundle_for(["temperature", "pressure"]), tmp_path / "bundle")
    assert findings_of(tmp_path, GOOD) == []
    (found,) = findings_of(tmp_path, GOOD + "    window: {length: 32}\n")
    assert (found.level, found.path) == ("error", f"{CLASS}.bundle")
    assert "window.length 64, the configuration says 32" in found.message
    assert "nuwatch train" in found.expected


def test_a_limit_that_rests_on_another_nu_is_an_error(tmp_path: Path) -> None:
    write_bundle(bundle_for(["temperature", "pressure"]), tmp_path / "bundle")
    (found,) = findings_of(tmp_path, GOOD + "    calibration: {nu: 0.2}\n")
    assert "calibration.nu 0.01, the configuration says 0.2" in found.message


def test_a_damaged_bundle_is_an_error(tmp_path: Path) -> None:
    write_bundle(bundle_for(["temperature", "pressure"]), tmp_path / "bundle")
    manifest = tmp_path / "bundle" / "manifest.json"
    manifest.write_text(
        manifest.read_text(encoding="utf-8").replace('"length": 64', '"length": 65'), encoding="utf-8"
    )
    assert list(errors(tmp_path, GOOD)) == [f"{CLASS}.bundle"]


# -- a sample of records --------------------------------------------------------------------------------------

S = 10**9


def settings(**changes: object) -> Settings:
    sensors = {
        "temperature": Sensor(unit="Cel", range=(0.0, 100.0)),
        "pressure": Sensor(unit="bar"),
    }
    reactor = AssetClass(assets=("R-*",), sampling=Duration(S), sensors=sensors, **changes)  # type: ignore[arg-type] # any setting
    return Settings(site="a", source={"kind": "memory"}, asset_classes={"reactor": reactor})


def polled(step_ns: int = S, pressure: float = 1.0, rejected: int = 0) -> Polled:
    """Four frames of R-1 and two of R-2; the temperature of R-1 rises by 40 a row from 0."""
    values = np.array([[0, 1], [5, pressure], [40, 1], [80, 1], [6, pressure], [120, 1]], np.float64)
    batch = Batch(
        "reactor",
        ("R-1", "R-2"),
        np.array([0, 1, 0, 0, 1, 0], np.int32),
        np.array([0, 0, 1, 2, 1, 3], np.int64) * step_ns,
        values,
        np.where(np.isnan(values), 0, 1).astype(np.uint8),
        (NO_CONTEXT,),
        np.zeros(6, np.int32),
        np.arange(6, dtype=np.int64),
    )
    bad = tuple(
        Rejected(RawRecord(0, 6 + n, None, b"{"), Reason.MALFORMED, f"truncated at {n}")
        for n in range(rejected)
    )
    return Polled(0, 6 + rejected, (batch,), bad, 6 + rejected)


def judged(polls: list[Polled], wanted: Settings) -> list[tuple[str, str, str]]:
    findings = Findings("plant.yaml", load(GOOD))
    judge(survey(polls, wanted), wanted, ("source",), findings)
    return [(f.level, f.path, f.message) for f in findings.sorted()]


def test_a_survey_counts_rows_readings_periods_and_what_is_out_of_range() -> None:
    found = survey([polled(rejected=2), polled()], settings())
    assert found.records == 14
    assert (found.assets["R-1"].rows, found.assets["R-2"].rows) == (8, 4)
    assert found.assets["R-1"].period_ns == S
    assert found.assets["R-2"].readings == {"temperature": 4, "pressure": 4}
    assert found.rejected == {"MALFORMED": (2, "truncated at 0")}
    assert found.out_of_range == {("reactor", "temperature"): (2, 12, 120.0)}


def test_a_good_sample_has_nothing_to_say_but_what_is_out_of_range() -> None:
    found = judged([polled()], settings())
    assert found == [
        (
            "warning",
            f"{CLASS}.sensors.temperature.range",
            "1 of 6 readings lie outside [0, 100], such as 120",
        )
    ]


def test_rejected_records_a_sensor_of_one_asset_and_another_sampling_are_found() -> None:
    found = judged([polled(step_ns=4 * S, pressure=np.nan, rejected=3)], settings())
    assert ("warning", "source", "3 of 9 records rejected as MALFORMED, such as: truncated at 0") in found
    assert ("warning", f"{CLASS}.sensors.pressure", "never seen of R-2") in found
    assert any(level == "hint" and path == f"{CLASS}.sampling" for level, path, _ in found)


def test_readings_that_come_later_than_they_are_carried_are_a_warning() -> None:
    found = judged([polled(step_ns=20 * S)], settings())
    assert ("warning", f"{CLASS}.time.max_age") in [(level, path) for level, path, _ in found]


def test_a_sample_of_nothing_but_rejections_is_an_error() -> None:
    nothing = polled(rejected=1)._replace(batches=(), records=1)
    levels = {path: level for level, path, _ in judged([nothing], settings())}
    assert levels == {"source": "error", f"{CLASS}.assets": "warning"}
    assert judged([], settings()) == [("warning", "source", "no record to look at")]


def batches_of(lengths: list[int], phases: bool = False) -> Polled:
    """Rows of R-1, one a second, in batches of these many rows; with phases each batch has two equal ones."""
    contexts = [NO_CONTEXT]
    context: list[int] = []
    for number, length in enumerate(lengths):
        for phase in ("A", "B") if phases else (None,):
            contexts.append(Context(f"B-{number}", None, phase))
            context += [len(contexts) - 1] * (length // (2 if phases else 1))
    rows = len(context)
    batch = Batch(
        "reactor",
        ("R-1",),
        np.zeros(rows, np.int32),
        np.arange(rows, dtype=np.int64) * S,
        np.full((rows, 2), 1.0),
        np.ones((rows, 2), np.uint8),
        tuple(contexts),
        np.array(context, np.int32),
        np.arange(rows, dtype=np.int64),
    )
    return Polled(0, rows, (batch,), records=rows)


def test_a_window_longer_than_half_of_the_shortest_batch_is_a_warning() -> None:
    # the first and the last batch may be cut by the sample: only the middle ones count
    cut = batches_of([10, 128, 130, 10])
    assert judged([cut], settings(window=Window(length=64))) == []
    ((level, path, message),) = judged([cut], settings(window=Window(length=65)))
    assert (level, path) == ("warning", f"{CLASS}.window.length")
    assert "65 samples (1min5s), the shortest batch of the sample lasted 2min8s" in message
    assert judged([cut], settings(window=Window(length=65), batches=Batches(fresh_window="never"))) == []


def test_where_phases_start_fresh_windows_the_shortest_phase_counts() -> None:
    cut = batches_of([10, 128, 130, 10], phases=True)
    fresh = Batches(fresh_window="phase")
    # phases of 5, 64 and 65 rows: the very first and last are not whole, their neighbours of 5 rows are
    assert judged([cut], settings(window=Window(length=32), batches=fresh)) == [
        ("warning", f"{CLASS}.window.length", "32 samples (32s), the shortest phase of the sample lasted 5s")
    ]
    assert (
        judged([batches_of([128, 130, 140], phases=True)], settings(window=Window(length=32), batches=fresh))
        == []
    )


# -- the command ----------------------------------------------------------------------------------------------


def run(*arguments: str) -> Any:
    return CliRunner().invoke(command, list(arguments), standalone_mode=False)


def test_the_command_prints_each_finding_with_its_place_and_returns_the_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "plant.yaml"
    file.write_text(GOOD, encoding="utf-8")
    good = run(str(file))
    assert good.return_value == 0
    assert "0 errors, 1 warning, 0 hints" in good.stdout
    file.write_text(GOOD.replace("Cel", "degC"), encoding="utf-8")
    bad = run(str(file))
    assert bad.return_value == 78
    assert f"error   {file}:9: {CLASS}.sensors.temperature.unit: unit 'degC'" in bad.stdout
    assert "expected: did you mean 'Cel'?" in bad.stdout


def test_the_json_form_holds_the_same_findings(tmp_path: Path) -> None:
    file = tmp_path / "plant.yaml"
    file.write_text(GOOD.replace("Cel", "degC"), encoding="utf-8")
    done = run(str(file), "--json")
    body = json.loads(done.stdout)
    assert done.return_value == 78
    assert (body["ok"], body["online"], body["file"]) == (False, None, str(file))
    assert body["findings"][-1] == {
        "level": "error",
        "where": f"{file}:9",
        "path": f"{CLASS}.sensors.temperature.unit",
        "message": "unit 'degC' is not a UCUM code known here",
        "expected": "did you mean 'Cel'?",
    }


def test_online_looks_at_real_rows_of_files(tmp_path: Path) -> None:
    rows = "".join(f"2026-01-01T00:00:{second:02d}Z,{20 + second},1.5\n" for second in range(10))
    write_csv(tmp_path, "time,temperature,pressure\n" + rows + "yesterday,3,4\n")
    (tmp_path / "plant.yaml").write_text(files_source(time={"column": "time"}), encoding="utf-8")
    done = run(str(tmp_path / "plant.yaml"), "--online", "--json")
    body = json.loads(done.stdout)
    assert done.return_value == 0, body
    sample = body["online"]["sample"]["source"]
    assert sample["records"] == 11
    assert sample["assets"]["R-1"] == {
        "class": "reactor",
        "rows": 10,
        "period_s": 1.0,
        "readings": {"temperature": 10, "pressure": 10},
    }
    assert list(sample["rejected"]) == ["BAD_TIME"]
    human = run(str(tmp_path / "plant.yaml"), "--online").stdout
    assert "R-1 (reactor): 10 rows, every 1s; readings: temperature 10, pressure 10" in human
    assert "rejected as BAD_TIME, such as:" in human


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broker_that_does_not_answer_is_exit_code_69_and_asked_once(tmp_path: Path) -> None:
    server = f"127.0.0.1:{free_port()}"
    text = GOOD.replace('"localhost:9092"]', f'"{server}"], connect_seconds: 0.5')
    (tmp_path / "plant.yaml").write_text(text, encoding="utf-8")
    done = run(str(tmp_path / "plant.yaml"), "--online")
    assert done.return_value == 69
    assert done.stdout.count("cannot be reached") == 1
    assert "does a broker listen there" in done.stdout
    (tmp_path / "plant.yaml").write_text(text.replace("Cel", "degC"), encoding="utf-8")
    assert run(str(tmp_path / "plant.yaml"), "--online").return_value == 78


@pytest.mark.kafka
def test_online_decodes_a_sample_of_a_real_topic(
    tmp_path: Path, kafka_broker: AnyBroker, new_topic: Callable[..., str]
) -> None:
    topic = new_topic(2)
    frames = [
        json.dumps(
            {
                "asset": f"R-{n % 2}",
                "ts": 1_767_225_600_000 + 1000 * (n // 2),
                "values": {"temperature": 20.0},
            }
        )
        for n in range(20)
    ]
    records = [(b"R", frame.encode(), n % 2) for n, frame in enumerate(frames)] + [(b"R", b'{"asset":', 1)]
    produce(kafka_broker.bootstrap, topic, records)
    text = GOOD.replace("localhost:9092", kafka_broker.bootstrap).replace("topic: sensors", f"topic: {topic}")
    (tmp_path / "plant.yaml").write_text(
        text.replace("sink: {", "sink: {create_topics: true, "), encoding="utf-8"
    )
    findings, seen = inspect(tmp_path / "plant.yaml", True, 1000)
    assert seen is not None
    assert [(t.name, t.partitions, t.records) for t in seen.topics if t.name == topic] == [(topic, 2, 21)]
    sample = seen.sample["source"]
    assert sample.records == 21
    assert {asset: (rows.rows, rows.period_ns) for asset, rows in sample.assets.items()} == {
        "R-0": (10, 10**9),
        "R-1": (10, 10**9),
    }
    assert {reason: refusal.records for reason, refusal in sample.rejected.items()} == {"MALFORMED": 1}
    said = {f.path: f.message for f in findings}
    assert said[f"{CLASS}.sensors.pressure"] == "never seen of any asset"
    assert not has_errors(findings)


@pytest.mark.kafka
def test_online_names_a_topic_that_does_not_exist(tmp_path: Path, kafka_broker: AnyBroker) -> None:
    text = GOOD.replace("localhost:9092", kafka_broker.bootstrap).replace(
        "topic: sensors", "topic: no-such-topic"
    )
    (tmp_path / "plant.yaml").write_text(text, encoding="utf-8")
    findings, seen = inspect(tmp_path / "plant.yaml", True, 10)
    assert seen is not None
    assert seen.reached
    wrong = [f.message for f in findings if f.level == "error"]
    assert any("'no-such-topic' does not exist" in message for message in wrong)
    assert any("'nuwatch-alerts' does not exist" in message for message in wrong)
