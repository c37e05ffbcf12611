"""The examples' own commands, as a user would type them, in a copy of their folders."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data import data_folder

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


class Folder:
    """A copy of one example; `run` types a command into it."""

    def __init__(self, name: str, parent: Path) -> None:
        written = shutil.ignore_patterns("out", "bundle", "bundles", "state")
        self.path = Path(shutil.copytree(EXAMPLES / name, parent / name, ignore=written))
        (self.path / "out").mkdir()
        self.expected = (self.path / "expected.txt").read_text(encoding="utf-8")

    def run(self, command: str, *, code: int = 0) -> str:
        """What a command printed; wildcards are the shell's."""
        environment = os.environ | {
            "COLUMNS": "110",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def text(self, name: str) -> str:
        return (self.path / name).read_text(encoding="utf-8")

    def ids(self, name: str) -> list[str]:
        """The ids of a file of alerts."""
        return [json.loads(line)["id"] for line in self.text(name).splitlines()]

    def commands(self) -> list[str]:
        """The commands whose output `expected.txt` shows."""
        return re.findall(r"^\$ (.+)$", self.expected, re.MULTILINE)


def figure(text: str, name: str) -> float:
    """The first number in a row of the replay's table: that of all assets together."""
    row = re.search(rf"^│ {re.escape(name)} +│ +([\d.,]+)", text, re.MULTILINE)
    assert row is not None, f"no row {name!r} in\n{text}"
    return float(row[1].replace(",", ""))


def rows(text: str) -> list[str]:
    """Names of the rows of a replay's table, words that a narrow terminal wrapped to the next line left out."""
    return [name.strip() for name in re.findall(r"^│ (.{24}) │ +[\d—n]", text, re.MULTILINE)]


def same_figures(got: str, expected: str, tolerances: dict[str, float]) -> None:
    for name, tolerance in tolerances.items():
        assert figure(got, name) == pytest.approx(figure(expected, name), abs=tolerance), name


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


def test_an_own_csv_goes_from_init_to_the_alerts_that_replay_foretold(parent: Path) -> None:
    here = Folder("own_csv", parent)
    assert here.commands() == [
        "nuwatch init my-pump.yaml --from june.csv",
        "nuwatch validate pump.yaml",
        "nuwatch train pump.yaml --report out/training.html",
        "nuwatch replay pump.yaml july.csv --labels faults.csv --report out/replay.html --alerts out/replayed.jsonl",
        "nuwatch run pump.yaml --start earliest",
    ]
    init, validate, train, replay, run = here.commands()
    assert "time: Datum Uhrzeit; sampling: 1min" in here.run(init)
    assert 'decimal: ","' in here.text("my-pump.yaml")
    assert "0 errors" in here.run(validate)
    assert "CALIBRATED" in here.run(train)
    got = here.run(replay)
    assert rows(got) == rows(here.expected)
    same_figures(got, here.expected, {"windows": 0, "recall": 0.1, "ROC-AUC": 0.05, "false incidents": 1})
    assert "2 of 2" in got
    for page in ("out/training.html", "out/replay.html"):
        assert "<svg" in here.text(page)
    here.run(run)
    replayed, live = (here.ids(name) for name in ("out/replayed.jsonl", "out/alerts/alerts.jsonl"))
    assert replayed == live
    assert len(live) >= 2


def test_the_nylon_batches_that_stand_out_are_named_batch_by_batch(parent: Path) -> None:
    here = Folder("nylon_batches", parent)
    train, replay, table = here.commands()
    assert "UNCALIBRATED" in here.run(train)
    got = here.run(replay)
    assert rows(got) == rows(here.expected)
    same_figures(got, here.expected, {"windows": 0, "scored": 0.1})
    batches = here.run(table)
    assert list(dict.fromkeys(re.findall(r"^ +(\d+) ", batches, re.MULTILINE))) == [
        str(b) for b in range(37, 58)
    ]
    worst = {
        int(b): float(r) for b, r in re.findall(r"^ +(\d+) +\d+ +\d+ +5 +([\d.]+)", batches, re.MULTILINE)
    }
    assert {53, 54} <= set(sorted(worst, key=lambda batch: -worst[batch])[:3])
    assert re.search(r"^\d+ of 21 batches stood out", batches, re.MULTILINE)


def test_the_tennessee_eastman_runs_give_the_figures_of_their_page(parent: Path) -> None:
    here = Folder("tennessee_eastman", parent)
    train, replay = here.commands()
    assert "UNCALIBRATED" in here.run(train)
    got = here.run(replay)
    same_figures(got, here.expected, {"windows": 0, "recall": 0.05, "ROC-AUC": 0.03, "nu realised": 1.5})
    assert "a_and_c_feed_valve does not move" in got


def test_the_skab_runs_are_cut_trained_and_replayed(parent: Path) -> None:
    skab = data_folder("skab")
    here = Folder("skab", parent)
    prepare, train, *replays = here.commands()
    assert "34 runs" in here.run(prepare.replace("$NUWATCH_DATA/skab", str(skab)))
    here.run(train)
    expected = here.expected.split("$ nuwatch replay")[1:]
    for replay, wanted in zip(replays, expected, strict=True):
        same_figures(here.run(replay), wanted, {"windows": 0, "recall": 0.1, "ROC-AUC": 0.05})
