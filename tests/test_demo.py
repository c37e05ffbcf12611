"""The demo: its plant, its board and view, and the whole command in memory and through a broker."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from models.bundle import MANIFEST, TENSORS
from monitor.cli.demo import command
from monitor.cli.jobs.demo import ASSET_CLASS
from monitor.configuration import parse
from monitor.data_files import example
from monitor.demo.board import Board, board_of, note_of
from monitor.demo.closing import closing_table, labels_of
from monitor.demo.live import Pace
from monitor.demo.performance import Performance, perform
from monitor.demo.view import picture, shown
from monitor.errors import BrokerError
from monitor.evaluation.comparison import Planted, compare
from monitor.evaluation.incident_log import Incident
from monitor.evaluation.labels import Label
from monitor.plant import SENSORS
from tests.broker import AnyBroker

MINUTE = 60 * 10**9


@pytest.fixture(scope="module")
def short() -> Performance:
    return perform(seed=5, history_days=3.0, live_days=0.9)


def alert(
    event: str = "RAISED", incident: str = "i", asset: str = "poly/R-101", **data: Any
) -> dict[str, Any]:
    body = {"incident_id": incident, "event": event, "kind": "ANOMALY", "message": f"{asset}: odd", **data}
    return {"time": "2026-06-09T03:39:00Z", "subject": asset, "data": body}


# -- the plant ------------------------------------------------------------------------------------------------


def test_live_begins_one_sample_after_history_ends(short: Performance) -> None:
    assert short.live.time[0] - short.history.time[-1] == 10 * 10**9
    assert len(short.history.time) == 3 * 8640


def test_history_is_normal_and_holds_both_recipes(short: Performance) -> None:
    assert {batch.recipe for batch in short.history.batches} == {"PP-H9", "PP-H5"}
    assert all(event.benign for event in short.history.events)


def test_five_faults_and_one_benign_change_are_planted_in_the_live_part(short: Performance) -> None:
    assert sorted((p.name, p.benign) for p in short.planted) == [
        ("agitator loss", False),
        ("drifting temperature", False),
        ("feed impurity", False),
        ("fouled cooling", False),
        ("grade change", True),
        ("stuck pressure", False),
    ]
    assert all(p.start_ns >= short.live.time[0] + 120 * MINUTE for p in short.planted)


def test_an_upset_batch_counts_as_faulty_until_its_end(short: Performance) -> None:
    planted = next(p for p in short.planted if p.name == "feed impurity")
    event = next(e for e in short.live.events if e.kind == "feed_impurity")
    [batch] = [
        b for b in short.live.batches if b.asset == event.asset and b.start_ns < event.end_ns < b.end_ns
    ]
    assert event.end_ns < planted.end_ns == batch.end_ns


def test_labels_name_the_faults_and_leave_the_grade_change_normal(short: Performance) -> None:
    labels = labels_of(short)
    for planted in short.planted:
        code = labels.of(planted.asset, np.array([planted.start_ns + MINUTE]))[0]
        assert code == (Label.NORMAL if planted.benign else Label.ANOMALOUS), planted


def test_the_configuration_describes_the_sensors_that_the_plant_sends() -> None:
    configured = (
        parse(example("polymer_plant.yaml"), Path("x.yaml")).settings.asset_classes[ASSET_CLASS].sensors
    )
    assert list(configured) == [sensor.name for sensor in SENSORS]
    assert [(s.role, s.range) for s in configured.values()] == [(s.role, (s.low, s.high)) for s in SENSORS]


# -- pace, board and view -------------------------------------------------------------------------------------


def test_the_pace_waits_for_what_is_left_and_never_for_what_is_late() -> None:
    now, waits = [100.0], []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    pace = Pace(speed=60.0, clock=lambda: now[0], sleep=sleep)
    pace.wait_for(0)
    now[0] += 0.25
    pace.wait_for(1 * MINUTE)  # due at 101.0
    now[0] += 5.0
    pace.wait_for(2 * MINUTE)  # due at 102.0, it is 106.0
    pace.wait_for(7 * MINUTE)  # due at 107.0
    assert waits == pytest.approx([0.75, 1.0])


def test_the_board_opens_an_incident_when_it_is_raised_and_closes_it_when_it_clears(
    short: Performance,
) -> None:
    board = board_of(short)
    for one in (alert(), alert("UPDATED"), alert(incident="j"), alert("CLEARED")):
        board.note(note_of(one))
    assert list(board.open) == ["j"]
    assert [note.event for note in board.recent] == ["RAISED", "RAISED", "CLEARED"]


def test_a_note_says_the_ratio_and_the_sensor_that_moved_most() -> None:
    moved = {"sensor": "pressure", "unit": "bar", "observed": 2.5, "expected": 2.25}
    note = note_of(alert(score={"ratio": 3.14159}, contributions=[moved]))
    assert note.text == "3.14 x limit, pressure 2.5 bar instead of 2.25 bar"
    cleared = note_of(
        alert("CLEARED", message="poly/R-101: anomaly cleared after 18min (since 2026); worst 4")
    )
    assert cleared.text == "anomaly cleared after 18min"


@pytest.mark.parametrize("size", [(80, 24), (100, 30)])
def test_the_view_fits_the_terminal(short: Performance, size: tuple[int, int]) -> None:
    board = _busy(short)
    lines = _drawn(board, *size)
    assert len(lines) <= size[1] - 1
    assert max(map(len, lines)) <= size[0]
    text = "\n".join(lines)
    assert all(name in text for name in ("R-101", "R-102", "R-103", "R-104", "open incidents: 9", "12.5"))
    assert "…" not in "\n".join(line for line in lines if line.startswith("R-10"))


def test_a_ratios_bar_reaches_the_middle_at_the_limit(short: Performance) -> None:
    board = board_of(short)
    board.reactors["poly/R-101"].ratio = 1.0
    board.reactors["poly/R-102"].ratio = 0.5
    lines = {line.split()[0]: line for line in _drawn(board, 80, 24) if line.startswith("R-10")}
    assert "██████│        1.0" in lines["R-101"]
    assert "███   │        0.5" in lines["R-102"]


def test_without_a_terminal_alerts_are_plain_lines(short: Performance) -> None:
    console = Console(file=io.StringIO(), width=80)
    with shown(board_of(short), console) as show:
        show.update([note_of(alert()), note_of(alert("UPDATED"))])
    assert console.file.getvalue() == "Tue 03:39  RAISED   poly/R-101  ANOMALY       odd\n"  # type: ignore[attr-defined] # a StringIO


def test_the_closing_table_tells_found_missed_and_false_apart() -> None:
    planted = [
        Planted("poly/R-101", "fouled cooling", 0, 60 * MINUTE),
        Planted("poly/R-102", "agitator loss", 0, 60 * MINUTE),
        Planted("poly/R-103", "grade change", 0, 60 * MINUTE, benign=True),
    ]
    incidents = [
        Incident("poly/R-101", "ANOMALY", "", 0, 7 * MINUTE, None, 400, "found it", incident_id="a"),
        Incident(
            "poly/R-104", "SENSOR_FAULT", "pressure", 0, 9 * MINUTE, None, 400, "oh no", incident_id="b"
        ),
    ]
    console = Console(file=io.StringIO(), width=80)
    console.print(closing_table(compare(planted, incidents)))
    text = console.file.getvalue().replace("\N{NO-BREAK SPACE}", " ")  # type: ignore[attr-defined] # a StringIO
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"R-101\s+fouled cooling\s+Thu 00:00\s+7 min", text)
    assert re.search(r"R-102\s+agitator loss\s+Thu 00:00\s+missed", text)
    assert re.search(r"R-103\s+grade change\s+Thu 00:00\s+quiet: benign", text)
    assert "1 of 2 faults found" in text
    assert "1 of 1 benign changes left alone" in text
    assert "false incidents: 1" in text
    assert "false: Thu 00:09 oh no" in text


# -- the command ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick(short: Performance) -> Iterator[None]:
    """A short plant, and scorers that train in a second."""
    text = example("polymer_plant.yaml")
    scorers = text[text.index("        lstm_autoencoder:") : text.index("      smoothing:")]
    fast = text.replace(scorers, "        pca: {}\n        var: {}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monitor.cli.jobs.demo.example", lambda _: fast)
        patch.setattr("monitor.cli.jobs.demo.perform", lambda _: short)
        yield


@pytest.fixture(scope="module")
def in_memory(quick: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The demo's folder and output."""
    del quick
    out = tmp_path_factory.mktemp("demo")
    return out, _run(out)


def _run(out: Path, *options: str) -> Result:
    return CliRunner().invoke(command, ["--fast", "--out", str(out), *options], catch_exceptions=False)


def _alerts(out: Path) -> dict[str, Any]:
    alerts = [json.loads(line) for line in (out / "alerts.jsonl").read_text().splitlines()]
    assert len({a["id"] for a in alerts}) == len(alerts)
    return {a["id"]: a["data"] for a in alerts}


def test_the_demo_trains_watches_and_tells_what_it_found(
    in_memory: tuple[Path, Result], short: Performance
) -> None:
    out, result = in_memory
    assert result.exit_code == 0
    assert all(planted.name in result.output for planted in short.planted)
    assert re.search(r"[345] of 5 faults found", result.output)
    assert str(out / "alerts.jsonl") in result.output.replace("\n", "")
    raised = [data for data in _alerts(out).values() if data["event"] == "RAISED"]
    assert any(data["kind"] == "SENSOR_FAULT" and data["subject"] == "pressure" for data in raised)
    page = (out / "report.html").read_text()
    assert "poly/R-104" in page
    assert {p.name for p in (out / "bundle").iterdir()} == {MANIFEST, TENSORS}


@pytest.mark.kafka
@pytest.mark.usefixtures("quick")
def test_through_a_real_broker_the_alerts_are_the_same(
    in_memory: tuple[Path, Result], tmp_path: Path, kafka_broker: AnyBroker
) -> None:
    result = _run(tmp_path, "--kafka", kafka_broker.bootstrap)
    assert result.exit_code == 0
    assert "-alerts on " in result.output
    assert _alerts(tmp_path) == _alerts(in_memory[0])
    assert _alerts(tmp_path)


def test_a_broker_that_does_not_answer_ends_the_demo_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(
        BrokerError, match=r"--kafka 127\.0\.0\.1:1: .*hint: does a broker listen there"
    ) as caught:
        _run(tmp_path, "--kafka", "127.0.0.1:1")
    assert caught.value.exit_code == 69
    assert not (tmp_path / "bundle").exists()


def _busy(performance: Performance) -> Board:
    board = board_of(performance)
    for number, (asset, reactor) in enumerate(board.reactors.items()):
        reactor.values = performance.live.values[number, 700]
        reactor.context = performance.live.contexts[int(performance.live.context[number, 700])]
        reactor.ratio = [0.3, 12.5, 0.95, float("nan")][number]
        for turn in range(9):
            board.note(note_of(alert(asset=asset, incident=f"{turn}", message=f"{asset}: {'long ' * 60}")))
    return board


def _drawn(board: Board, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(picture(board, console))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined] # a StringIO
