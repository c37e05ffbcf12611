"""`nuwatch config`: the configuration in force; the work is in `monitor.cli.jobs.config`."""

from __future__ import annotations

from pathlib import Path

import click

from monitor.cli.arguments import config_argument


@click.group("config")
def command() -> None:
    """Look at the configuration as nuwatch understands it."""


@command.command(
    "show",
    epilog="""Examples:

    nuwatch config show plant.yaml            every key with the value in force

    nuwatch config show plant.yaml --json     the same for a program
    """,
)
@config_argument
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(config: Path, as_json: bool) -> None:
    """Print the configuration in force: what the file says, and the defaults of what it does not.

    Secrets are not part of it: it says where each is read from, never what it is.
    """
    from monitor.cli.jobs.config import show_command

    return show_command(config, as_json)
