"""The command line. Each command is a module of its own, imported only when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from monitor import __version__

_COMMANDS = {
    "demo": "Watch a simulated polymerisation plant: training, live monitoring, what was found.",
    "init": "Write a commented configuration to start from.",
    "validate": "Say what is wrong with a configuration, where, and what was expected.",
    "train": "Learn normal from recorded history and write a bundle.",
    "models": "Compare scorers on your own data, and search their settings.",
    "replay": "Run recorded data through the very pipeline that runs live, and judge it.",
    "run": "The daemon: watch a broker's topic and publish alerts.",
    "decide": "Approve, reject or roll back a threshold.",
    "apply": "Send a configuration to the daemons that run.",
    "state": "Look into the daemon's state, export its journal, or begin anew.",
    "config": "Print the configuration in force, without secrets.",
    "dlq": "List, show and replay the records that were refused.",
    "benchmark": "Measure nuwatch on labelled data, beside its peers.",
    "schema": "Print the JSON Schema of what nuwatch reads and writes.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        return importlib.import_module(f"monitor.cli.{cmd_name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 findings, 2 usage, 69 broker unavailable, 70 device, 74 state, 78 configuration.",
)
@click.version_option(__version__, prog_name="nuwatch")
def nuwatch() -> None:
    """nuwatch: real-time anomaly monitor for process plants.

    Start with `nuwatch demo`. For your own plant: `nuwatch init`, describe the sensors in the YAML file,
    `nuwatch validate`, `nuwatch train`, `nuwatch replay`, and then `nuwatch run` next to the broker.
    """


def _prepare_jax() -> None:
    """What JAX reads when it is imported; what the user has set stays.

    Compiled programs are kept between runs, because most of a start is compilation. On a GPU, operations are the
    deterministic ones, so that a replay gives the same bits, and memory is taken as it is needed.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "nuwatch" / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_gpu_deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()


def main() -> None:
    """Entry point of the console script: errors become one message and an exit code."""
    from monitor.errors import NuwatchError

    _prepare_jax()
    try:
        outcome: Any = nuwatch.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except NuwatchError as error:
        click.echo(f"nuwatch: {error}", err=True)
        sys.exit(error.exit_code)
    sys.exit(outcome if isinstance(outcome, int) else 0)
