"""The command line: help, exit codes, and what must not be imported only to show help."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ("demo", "init", "validate", "train", "models", "replay", "run", "decide", "benchmark", "schema")
LIGHT = (
    (),
    *(
        (name,)
        for name in ("init", "validate", "schema", "train", "replay", "run", "decide", "demo", "benchmark")
    ),
    ("benchmark", "detection"),
    ("models", "compare"),
    ("models", "feedback"),
)
HEAVY = ("jax", "flax", "optax", "kafka", "pyarrow", "river", "scipy", "sklearn")


def nuwatch(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from monitor.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=120,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_teaches_with_examples(command: str) -> None:
    done = nuwatch(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout
    assert "Examples:" in done.stdout
    assert f"nuwatch {command}" in done.stdout
    description = done.stdout.split("Usage:")[1].split("Options:")[0]
    assert description.count(".") >= 2, "two or three sentences of what it does and why"


def test_the_help_names_every_command_and_the_exit_codes() -> None:
    done = nuwatch("--help")
    assert all(f"  {command} " in done.stdout for command in COMMANDS)
    for code in ("0 ok", "1 findings", "2 usage", "69 broker", "74 state", "78 configuration"):
        assert code in " ".join(done.stdout.split())


@pytest.mark.parametrize("arguments", LIGHT)
def test_help_imports_no_heavy_library(arguments: tuple[str, ...]) -> None:
    probe = (
        "import sys\n"
        "from monitor.cli import nuwatch\n"
        f"nuwatch.main([*{arguments!r}, '--help'], standalone_mode=False)\n"
        f"print('LOADED', sorted(set(sys.modules) & set({HEAVY!r})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "LOADED []"


# -- exit codes -----------------------------------------------------------------------------------------------


def test_a_good_configuration_ends_with_0_and_a_bad_one_with_78(tmp_path: Path) -> None:
    assert nuwatch("init", cwd=tmp_path).returncode == 0
    good = nuwatch("validate", cwd=tmp_path)
    assert good.returncode == 0, good.stdout
    file = tmp_path / "nuwatch.yaml"
    file.write_text(file.read_text(encoding="utf-8").replace("nu: 0.01", "nu: 0.7"), encoding="utf-8")
    bad = nuwatch("validate", "--json", cwd=tmp_path)
    assert bad.returncode == 78
    findings = json.loads(bad.stdout)["findings"]
    assert [f["path"] for f in findings if f["level"] == "error"] == ["asset_classes.reactor.calibration.nu"]
    assert bad.stderr == ""


def test_a_configuration_that_is_not_there_ends_with_78_and_says_so(tmp_path: Path) -> None:
    done = nuwatch("validate", "none.yaml", cwd=tmp_path)
    assert done.returncode == 78
    assert "none.yaml:1: cannot read the configuration" in done.stdout


def test_wrong_usage_ends_with_2_and_writes_to_stderr(tmp_path: Path) -> None:
    (tmp_path / "nuwatch.yaml").write_text("mine", encoding="utf-8")
    for arguments in (("init",), ("validate", "--no-such-option"), ("no-such-command",), ("schema", "x")):
        done = nuwatch(*arguments, cwd=tmp_path)
        assert done.returncode == 2, arguments
        assert done.stdout == ""
        assert done.stderr
    assert (tmp_path / "nuwatch.yaml").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("document", "title"),
    [
        ((), "Configuration of nuwatch"),
        (("settings",), "Configuration of nuwatch"),
        (("alert",), "An alert of nuwatch"),
        (("threshold",), "A threshold version of nuwatch"),
        (("decision",), "A decision that nuwatch wants or refused"),
        (("dead-letter",), "Headers of a dead letter of nuwatch"),
        (("input",), "A message that nuwatch reads"),
    ],
)
def test_schemas_are_printed_as_json(document: tuple[str, ...], title: str) -> None:
    done = nuwatch("schema", *document)
    assert done.returncode == 0
    assert json.loads(done.stdout)["title"] == title


def test_asyncapi_is_printed_as_json() -> None:
    assert json.loads(nuwatch("schema", "asyncapi").stdout)["asyncapi"].startswith("3.")
