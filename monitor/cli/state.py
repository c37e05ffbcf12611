"""`nuwatch state`: its commands, options and help; the work is in `monitor.cli.jobs.state`."""

from __future__ import annotations

from pathlib import Path

import click

_config = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), default="nuwatch.yaml", show_default=True
)


@click.group(
    "state",
    epilog="""Examples:

    nuwatch state inspect                        what the daemon has kept, and whether all of it is sound

    nuwatch state export journal.jsonl           decisions with the offsets before which they acted

    nuwatch state reset                          forget everything; asks first
    """,
)
def command() -> None:
    """Look into the state folder of a daemon, export its journal, or begin anew.

    The state folder is the one of the configuration. `inspect` and `export` read, also while the daemon runs; `reset`
    needs it stopped.
    """


@command.command("inspect")
@_config
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def inspect(config: Path, as_json: bool) -> None:
    """Say per partition what is stored, and check every checksum. Ends with 1 where something is damaged."""
    from monitor.cli.jobs.state import inspect_command

    return inspect_command(config, as_json)


@command.command("export")
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@_config
def export(target: Path, config: Path) -> None:
    """Write the journal to TARGET (- is stdout), one JSON object a line: what acted, and before which offset."""
    from monitor.cli.jobs.state import export_command

    return export_command(config, target)


@command.command("reset")
@_config
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(config: Path, yes: bool) -> None:
    """Forget windows, limits, open incidents, the journal, and decisions that wait.

    The next start begins where --start says. Alerts that were published stay where they are; an incident that is open
    now is never cleared.
    """
    from monitor.cli.jobs.state import reset_command

    return reset_command(config, yes)
