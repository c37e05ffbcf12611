"""`nuwatch state`: what it tells of a state folder, what it exports, and that it asks before it forgets."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from connectors.memory import MemorySink
from connectors.records import Input
from monitor.checkpoint import Entry, Marker
from monitor.cli import nuwatch
from monitor.durable.checkpoint import SqliteCheckpoint
from monitor.errors import NuwatchError, StateError
from monitor.thresholds.decisions import Decision, append_decision
from tests.worlds import configuration_text

DECISION = Decision("plant/0", "approve", "J. Roe", "2025-10-09T08:53:20Z")


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """A configuration whose state folder holds two partitions."""
    (tmp_path / "nuwatch.yaml").write_text(configuration_text(1, 8, "{pca: {}}"))
    checkpoint = SqliteCheckpoint(tmp_path / "state", MemorySink())
    checkpoint.commit(
        0, {"plant/0": b"x" * 100, "plant/1": b""}, Marker(7, {"unit": "abc"}, input=Input("t"))
    )
    checkpoint.journal(0, [Entry(5, "it:1", b'{"decision":' + msgspec.json.encode(DECISION) + b"}")])
    checkpoint.commit(3, {}, Marker(2, {}))
    checkpoint.close()
    append_decision(tmp_path / "state", DECISION)
    return tmp_path


def ran(plant: Path, *arguments: str, said: str = "") -> Result:
    config = ["--config", str(plant / "nuwatch.yaml")]
    return CliRunner().invoke(nuwatch, ["state", arguments[0], *config, *arguments[1:]], input=said)


def test_inspect_tells_every_partition(plant: Path) -> None:
    done = ran(plant, "inspect")
    assert done.exit_code == 0, done.output
    assert (
        "partition 0: t up to offset 7, 2 assets (100 bytes), 1 journalled commands, unit abc" in done.output
    )
    found = msgspec.json.decode(ran(plant, "inspect", "--json").output)
    assert [(p["partition"], p["position"], p["assets"]) for p in found["partitions"]] == [
        (0, 7, 2),
        (3, 2, 0),
    ]


def test_inspect_works_while_a_daemon_holds_the_folder(plant: Path) -> None:
    daemon = SqliteCheckpoint(plant / "state", MemorySink())
    daemon.restore(0)
    daemon.commit(0, {"plant/2": b"new"}, Marker(9, {"unit": "abc"}))
    assert "up to offset 9, 3 assets" in ran(plant, "inspect").output
    assert isinstance(ran(plant, "reset", "--yes").exception, StateError)
    daemon.close()


def test_inspect_finds_damage_and_leaves_it_where_it_is(plant: Path) -> None:
    path = plant / "state" / "state.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM assets WHERE asset = 'plant/1'")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    done = ran(plant, "inspect")
    assert "partition 0: DAMAGED: the 1 rows of partition 0" in done.output
    assert isinstance(done.exception, NuwatchError)
    assert done.exception.exit_code == 1
    path.write_bytes(b"gone")
    assert "the next start sets it aside" in str(ran(plant, "inspect").exception)
    assert path.read_bytes() == b"gone"
    path.write_bytes(before)
    assert not list((plant / "state").glob("*.damaged-*"))


def test_export_writes_the_journal_with_its_offsets(plant: Path) -> None:
    done = ran(plant, "export", str(plant / "journal.jsonl"))
    assert done.exit_code == 0, done.output
    (line,) = (plant / "journal.jsonl").read_bytes().splitlines()
    assert msgspec.json.decode(line) == {
        "partition": 0,
        "position": 5,
        "id": "it:1",
        "command": {"decision": msgspec.to_builtins(DECISION)},
    }
    assert ran(plant, "export", "-").stdout.encode() == line + b"\n"


@pytest.mark.parametrize(("said", "kept"), [("n\n", True), ("", True), ("y\n", False)])
def test_reset_asks_before_it_forgets(plant: Path, said: str, kept: bool) -> None:
    done = ran(plant, "reset", said=said)
    assert done.exit_code == (1 if kept else 0)
    assert (plant / "state" / "state.sqlite").exists() == kept
    assert (plant / "state" / "decisions.jsonl").exists() == kept
    if not kept:
        checkpoint = SqliteCheckpoint(plant / "state", MemorySink())
        assert checkpoint.restore(0) is None
        checkpoint.close()


def test_where_there_is_no_state_every_command_says_so(tmp_path: Path) -> None:
    (tmp_path / "nuwatch.yaml").write_text(configuration_text(1, 8, "{pca: {}}"))
    assert "no state here" in str(ran(tmp_path, "inspect").exception)
    assert "no state here" in str(ran(tmp_path, "export", "-").exception)
    assert "no state here" in ran(tmp_path, "reset").output
