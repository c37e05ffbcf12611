"""`train`, `replay` and `decide` as a user types them, on a small recording; figures checked by scikit-learn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from monitor import __version__
from monitor.bundles import read_bundle
from monitor.configuration import read
from monitor.facts import Identity
from monitor.model import Model
from monitor.pipeline import Pipeline
from monitor.quantities import iso_time
from monitor.trace import Trace
from tests.worlds import SECOND, START, autoregressive, batch_of, run

CHECKOUT = Path(__file__).resolve().parent.parent
ASSETS, SENSORS, ROWS = ("P-1", "P-2"), 3, 400
FAULT = (200, 280)
"""Rows of P-1 with a fault, both included; P-2 has none."""

CONFIGURATION = """
site: test
source: {kind: memory}
recordings:
  paths: [history.csv]
  time: {column: when}
  asset_column: unit
asset_classes:
  pump:
    assets: ["P-*"]
    sampling: 1s
    sensors:
      s0: {unit: Cel, range: [-1000, 1000]}
      s1: {unit: bar, range: [-1000, 1000]}
      s2: {unit: kg/h, range: [-1000, 1000]}
    window: {length: 8}
    time: {lateness: 2s, max_age: 3s, max_future: 1h, silence: 2min}
    calibration: {nu: 0.05, enough: 1}
    scoring: {scorers: {pca: {}, var: {}}, smoothing: 0.2, block: 32}
    drift: {samples: 60, settle: 2min, tracking: {enabled: false}}
    alerting: {on_delay: 2s, off_delay: 5s}
"""


def nuwatch(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "monitor", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == code, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done


def values(fault_to: int = FAULT[1]) -> dict[str, np.ndarray]:
    recorded = {name: autoregressive(80 + n, ROWS, SENSORS, 0.5) for n, name in enumerate(ASSETS)}
    recorded["P-1"][FAULT[0] : fault_to + 1, 1] += 6.0
    return recorded


def lines_of(data: Mapping[str, np.ndarray], faulty: tuple[int, int] = (0, -1)) -> list[str]:
    """CSV lines, assets turn about, a row a second each; the last column is 1 during P-1's fault."""
    lines = ["when,unit,s0,s1,s2,broken"]
    for row in range(len(next(iter(data.values())))):
        for name, column in data.items():
            label = int(name == "P-1" and faulty[0] <= row <= faulty[1])
            cells = (iso_time(START + row * SECOND), name, *(repr(float(v)) for v in column[row]), str(label))
            lines.append(",".join(cells))
    return lines


def write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration, recordings, labels, and the bundle that `train` wrote."""
    folder = tmp_path_factory.mktemp("plant")
    (folder / "nuwatch.yaml").write_text(CONFIGURATION, encoding="utf-8")
    history = {name: autoregressive(n, 1200, SENSORS, 0.5) for n, name in enumerate(ASSETS)}
    write(folder / "history.csv", lines_of(history))
    write(folder / "recorded.csv", lines_of(values(), FAULT))
    write(folder / "standing.csv", lines_of(values(ROWS)))
    begin, end = (iso_time(START + row * SECOND) for row in FAULT)
    write(folder / "labels.csv", ["asset,start,end,label", f"P-1,{begin},{end},step", "P-2,,,"])
    trained = nuwatch(folder, "train", "--report", "training.html")
    assert "pump: bundle" in trained.stdout
    assert "CALIBRATED: nu 0.05" in trained.stdout
    assert "<svg" in (folder / "training.html").read_text(encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def replayed(plant: Path) -> subprocess.CompletedProcess[str]:
    return nuwatch(
        plant,
        *("replay", "nuwatch.yaml", "recorded.csv", "--labels", "labels.csv", "--json", "figures.json"),
        *("--alerts", "alerts.jsonl", "--dead-letters", "dead.jsonl", "--report", "replay.html"),
    )


@pytest.fixture(scope="module")
def trace(plant: Path) -> Trace:
    """The same readings through a pipeline made here, in other pieces."""
    configuration = read(plant / "nuwatch.yaml")
    model = Model(read_bundle(plant / "bundle"), configuration.settings.asset_classes["pump"])
    identity = {"pump": Identity(model.bundle_id, None, "config")}
    pipeline = Pipeline(
        configuration.settings, {"pump": model}, 0, identity, topic="t", replay=True, version=__version__
    )
    return run(pipeline, batch_of(values())._replace(asset_class="pump"), cuts=(100, 333))[1]


def alerts_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line)["data"] for line in path.read_text(encoding="utf-8").splitlines()]


# -- figures --------------------------------------------------------------------------------------------------


def test_the_figures_are_those_that_scikit_learn_gives(
    plant: Path, replayed: subprocess.CompletedProcess[str], trace: Trace
) -> None:
    pooled = json.loads((plant / "figures.json").read_text())["classes"]["pump"]["pooled"]
    second = (trace.end - START) // SECOND
    ill = np.array([trace.assets[a] == "P-1" for a in trace.asset]) & (second >= FAULT[0])
    truth = (ill & (second <= FAULT[1]))[trace.scored]
    ratio = trace.ratio[trace.scored]
    over = ratio > 1.0
    assert pooled["scored"] == len(ratio) == 2 * (ROWS - 7)
    assert pooled["counts"] == {
        "true_positives": int((over & truth).sum()),
        "false_positives": int((over & ~truth).sum()),
        "false_negatives": int((~over & truth).sum()),
        "true_negatives": int((~over & ~truth).sum()),
    }
    expected = {
        "precision": precision_score(truth, over),
        "recall": recall_score(truth, over),
        "f1": f1_score(truth, over),
        "false_alarm_rate": float(over[~truth].mean()),
        "missed_alarm_rate": float((~over)[truth].mean()),
        "decisive_ratio": float(np.abs(ratio - 1.0).min()),
    }
    assert {name: pooled[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert pooled["ranking"]["roc_auc"] == pytest.approx(roc_auc_score(truth, ratio), rel=1e-12)
    assert pooled["ranking"]["pr_auc"] == pytest.approx(average_precision_score(truth, ratio), rel=1e-12)
    assert pooled["rate"]["asked"] == 0.05
    assert pooled["rate"]["realised"] == pytest.approx(float(over[~truth].mean()), rel=1e-12)
    assert expected["recall"] > 0.9
    assert f"{2 * ROWS} records" in replayed.stdout


def test_delays_and_incidents_are_those_of_the_alerts(
    plant: Path, replayed: subprocess.CompletedProcess[str], trace: Trace
) -> None:
    (detection,) = json.loads((plant / "figures.json").read_text())["classes"]["pump"]["detections"]
    mine = (np.array(trace.assets)[trace.asset] == "P-1") & trace.scored
    over = (trace.ratio > 1.0) & mine & (trace.end >= START + FAULT[0] * SECOND)
    assert detection["first_delay_s"] == (trace.end[over][0] - START) / SECOND - FAULT[0]
    assert (detection["asset"], detection["name"], detection["windows"]) == ("P-1", "step", 81)
    begin, end = (iso_time(START + row * SECOND) for row in FAULT)
    during = [
        alert["raised_at"]
        for alert in alerts_of(plant / "alerts.jsonl")
        if (alert["kind"], alert["event"]) == ("ANOMALY", "RAISED") and begin <= alert["raised_at"] <= end
    ]
    raised = int(np.datetime64(min(during).rstrip("Z"), "s").astype(int)) - START // SECOND
    assert detection["incident_delay_s"] == raised - FAULT[0]
    assert "ANOMALY" in replayed.stdout


def test_a_label_column_gives_the_figures_of_the_same_intervals_and_a_speed_the_same_alerts(
    plant: Path, replayed: subprocess.CompletedProcess[str]
) -> None:
    """And so do two runs: byte for byte."""
    del replayed
    nuwatch(
        plant,
        *("replay", "nuwatch.yaml", "recorded.csv", "--label-column", "broken", "--json", "column.json"),
        *("--alerts", "again.jsonl", "--speed", "5000"),
    )
    assert (plant / "again.jsonl").read_bytes() == (plant / "alerts.jsonl").read_bytes()
    assert len(alerts_of(plant / "alerts.jsonl")) >= 2
    one, other = (json.loads((plant / name).read_text()) for name in ("figures.json", "column.json"))
    assert one["counts"] == other["counts"]
    names = ("counts", "precision", "recall", "f1", "ranking", "rate", "decisive_ratio")
    pooled = [each["classes"]["pump"]["pooled"] for each in (one, other)]
    assert [{name: each[name] for name in names} for each in pooled] == [
        {name: pooled[0][name] for name in names}
    ] * 2


class _Outside(HTMLParser):
    """Whatever a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        loads = {"src", "href", "xlink:href", "data", "srcset", "action", "poster"}
        self.found += [
            (tag, value) for name, value in attrs if name in loads and value and not value.startswith("#")
        ]


def test_the_report_is_one_page_that_loads_nothing(
    plant: Path, replayed: subprocess.CompletedProcess[str]
) -> None:
    assert "report: replay.html" in replayed.stderr
    page = (plant / "replay.html").read_text(encoding="utf-8")
    parser = _Outside()
    parser.feed(page)
    assert parser.found == []
    assert {"style", "script", "svg", "table"} <= parser.tags
    assert "link" not in parser.tags
    for loading in ("@import", "url(", "fetch(", "XMLHttpRequest"):
        assert loading not in page
    assert all(asset in page for asset in ASSETS)
    assert str(plant) not in page


# -- decisions and refused records ----------------------------------------------------------------------------


def test_an_approval_in_a_file_ends_a_standing_incident_of_a_replay(plant: Path) -> None:
    moment = iso_time(START + (FAULT[0] + 50) * SECOND)
    decision = {"asset": "P-1", "action": "approve", "by": "J. Roe", "at": moment}
    (plant / "decisions.jsonl").write_text(json.dumps(decision) + "\n")
    common = ("replay", "nuwatch.yaml", "standing.csv")
    nuwatch(plant, *common, "--alerts", "standing.jsonl", "--json", "standing.json")
    nuwatch(
        plant,
        *(*common, "--alerts", "approved.jsonl", "--json", "approved.json"),
        *("--decisions", "decisions.jsonl"),
    )
    last = {
        name: [a for a in alerts_of(plant / f"{name}.jsonl") if a["kind"] == "ANOMALY"][-1]["event"]
        for name in ("standing", "approved")
    }
    assert last == {"standing": "RAISED", "approved": "CLEARED"}
    versions = {
        name: json.loads((plant / f"{name}.json").read_text())["counts"].get("VersionSet", 0) for name in last
    }
    assert versions == {"standing": 0, "approved": 2}  # a provisional limit, and the regular one behind it


def test_refused_rows_are_written_as_dead_letters_and_leave_the_alerts_alone(
    plant: Path, replayed: subprocess.CompletedProcess[str]
) -> None:
    del replayed
    assert (plant / "dead.jsonl").read_bytes() == b""
    lines = lines_of(values(), FAULT)
    stranger = f"{iso_time(START + 50 * SECOND)},X-9,1,2,3,0"
    late = f"{iso_time(START + 10 * SECOND)},P-2,777,2,3,0"
    text = f"{iso_time(START + 50 * SECOND)},P-2,high,2,3,0"
    no_time = "yesterday,P-2,1,2,3,0"
    write(plant / "dirty.csv", [*lines[:201], stranger, late, text, no_time, *lines[201:]])
    done = nuwatch(
        plant,
        *(
            "replay",
            "nuwatch.yaml",
            "dirty.csv",
            "--dead-letters",
            "refused.jsonl",
            "--alerts",
            "dirty.jsonl",
        ),
        *("--json", "dirty.json"),
    )
    assert "5 dead letters" in done.stdout
    counts = json.loads((plant / "dirty.json").read_text())["counts"]
    reasons = {name: counts[name] for name in ("UNKNOWN_ASSET", "WRONG_TYPE", "BAD_TIME", "LATE")}
    # the readings beside the one that is no number are taken, and are late here
    assert reasons == {"UNKNOWN_ASSET": 1, "WRONG_TYPE": 1, "BAD_TIME": 1, "LATE": 2}
    refused = (plant / "refused.jsonl").read_text()
    assert len(refused.splitlines()) == 5
    for piece in ("X-9", "777", "high", "yesterday"):
        assert piece in refused
    without_offsets = [
        [{k: v for k, v in alert.items() if k != "origin"} for alert in alerts_of(plant / name)]
        for name in ("alerts.jsonl", "dirty.jsonl")
    ]
    assert without_offsets[0] == without_offsets[1]


def test_decide_hands_a_decision_to_the_daemons_state_folder(plant: Path) -> None:
    done = nuwatch(plant, "decide", "approve", "P-1", "--by", "J. Roe")
    assert "approve of P-1 by J. Roe" in done.stdout
    nuwatch(plant, "decide", "rollback", "P-2", "--by", "A. Other")
    written = [json.loads(line) for line in (plant / "state" / "decisions.jsonl").read_text().splitlines()]
    assert [(d["asset"], d["action"], d["by"]) for d in written] == [
        ("P-1", "approve", "J. Roe"),
        ("P-2", "rollback", "A. Other"),
    ]
    assert all(d["at"].endswith("+00:00") for d in written)


# -- exit codes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("replay", "nuwatch.yaml", "--labels", "labels.csv", "--label-column", "broken"),
            "expected one of them",
        ),
        (("replay", "nuwatch.yaml", "none.csv"), "none.csv"),
        (("replay", "nuwatch.yaml", "recorded.csv", "--speed", "-1"), "--speed"),
        (("replay", "--no-such-option"), "--no-such-option"),
        (("train", "--class", "compressor"), "got 'compressor', expected one of pump"),
        (("train", "--from", "2026-01-01T00:00:00Z", "--to", "2025-01-01T00:00:00Z"), "is not before"),
        (("train", "--from", "yesterday"), "yesterday"),
        (("decide", "maybe", "P-1"), "maybe"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(
    plant: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = nuwatch(plant, *arguments, code=2)
    assert said in done.stderr
    assert done.stdout == ""


def test_without_a_bundle_a_replay_ends_with_78_and_says_to_train(plant: Path, tmp_path: Path) -> None:
    (tmp_path / "nuwatch.yaml").write_text(CONFIGURATION, encoding="utf-8")
    done = nuwatch(tmp_path, "replay", "nuwatch.yaml", str(plant / "recorded.csv"), code=78)
    assert "no bundle here" in done.stderr
    assert "hint: run `nuwatch train` first" in done.stderr


def test_without_a_configuration_commands_end_with_78_and_name_it(tmp_path: Path) -> None:
    for arguments in (("decide", "approve", "P-1", "--config", "none.yaml"), ("replay", "none.yaml")):
        assert "none.yaml" in nuwatch(tmp_path, *arguments, code=78).stderr


def test_a_history_that_is_too_short_for_nu_ends_with_1_unless_that_is_accepted(
    plant: Path, tmp_path: Path
) -> None:
    (tmp_path / "nuwatch.yaml").write_text(CONFIGURATION.replace("enough: 1", "enough: 100"))
    short = str(plant / "history.csv")
    refused = nuwatch(tmp_path, "train", "nuwatch.yaml", short, code=1)
    assert "UNCALIBRATED" in refused.stdout
    accepted = nuwatch(tmp_path, "train", "nuwatch.yaml", short, "--allow-uncalibrated", "--json")
    assert json.loads(accepted.stdout)
    assert (tmp_path / "bundle").is_dir()
