"""The benchmark command runs, prints and writes; what it measures is for people, so no time is asserted here."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measure import Contestant, race

ROOT = Path(__file__).resolve().parent.parent


def measured(folder: Path, *sections: str, **environment: str) -> dict[str, Any]:
    """The files that a quick run of these sections wrote, by section."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed", "--quick", "--out", str(folder), *sections],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    written = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    for result in written.values():
        for case in {figure["case"] for figure in result["figures"]}:
            assert case in done.stdout
    return written


def names(result: dict[str, Any]) -> list[str]:
    return [figure["name"] for figure in result["figures"]]


def test_a_quick_run_measures_every_part_of_the_path_and_writes_it(tmp_path):
    sections = ["decode", "window", "score", "fold", "path", "snapshot"]
    written = measured(tmp_path, *sections)
    assert sorted(written) == sorted(sections)
    for result in written.values():
        values = [figure[kind] for figure in result["figures"] for kind in ("cpu", "wall", "times")]
        assert all(value is None or (math.isfinite(value) and value >= 0) for value in values)
        assert result["machine"]["cores"] >= 1
    assert "stdlib json to the same arrays" in names(written["decode"])
    assert any("flax" in name for name in names(written["score"]))
    shares = [f["wall"] for f in written["path"]["figures"] if f["unit"] == "share of the time"]
    cases = sum(f["unit"] == "records/s" for f in written["path"]["figures"])
    assert sum(shares) == pytest.approx(cases)


@pytest.mark.kafka
def test_a_quick_run_measures_from_append_to_alert(tmp_path, kafka_broker):
    result = measured(tmp_path, "kafka", NUWATCH_TEST_KAFKA=kafka_broker.bootstrap)["kafka"]
    assert any("p99" in name for name in names(result))
    assert any(figure["unit"] == "records/s" for figure in result["figures"])


def test_contestants_take_turns_and_the_first_is_what_the_others_are_compared_with():
    turns: list[str] = []
    figures = race(
        "case",
        [Contestant(name, lambda _, name=name: turns.append(name) or sum(range(1000))) for name in "abc"],
        work=3.0,
        unit="calls/s",
        rounds=3,
    )
    assert "".join(turns) == "abc" + "bca" + "cab" + "abc"
    assert [figure.name for figure in figures] == ["a", "b", "c"]
    assert figures[0].times == 1.0


def test_an_unknown_section_is_a_usage_error_that_names_the_known_ones(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed", "speed", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 2
    assert "expected one of decode, window" in done.stderr
