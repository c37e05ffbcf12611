"""`nuwatch dlq`: its commands, options and help; the work is in `monitor.cli.jobs.dlq`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_config = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), default="nuwatch.yaml", show_default=True
)
_FILTERS = (
    click.option("--reason", "reasons", multiple=True, metavar="CODE", help="Only this reason; repeatable."),
    click.option("--asset", metavar="PATTERN", help="Only assets that fit, such as 'poly2/*'."),
    click.option("--from", "begin", metavar="TIME", help="Only from this time on (ISO 8601)."),
    click.option("--to", "end", metavar="TIME", help="Only before this time."),
)


def _filtered(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@click.group(
    "dlq",
    epilog="""Examples:

    nuwatch dlq list --reason UNKNOWN_SENSOR          what was refused because a tag is not configured

    nuwatch dlq show dlq:3:9179:1                     one of them, with its bytes

    nuwatch dlq replay --reason UNKNOWN_SENSOR        send them again, once the tag is configured
    """,
)
def command() -> None:
    """Look into the dead letters, and send them to the input again.

    A dead letter is a record that is not, or not wholly, reflected in windows: its original bytes, key and headers,
    and why it was refused. They are read from the sink of the configuration: a Kafka topic, or a file.
    """


@command.command("list")
@_config
@_filtered
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with the original bytes.")
def list_letters(
    config: Path,
    reasons: tuple[str, ...],
    asset: str | None,
    begin: str | None,
    end: str | None,
    as_json: bool,
) -> None:
    """List dead letters, oldest first within each partition.

    --from and --to compare the event time of the refused reading where it is known, else the time at which the broker
    received the record; letters with neither are then left out.
    """
    from monitor.cli.jobs.dlq import Selection, list_command

    return list_command(config, Selection.of(reasons, asset, begin, end), as_json)


@command.command("show")
@click.argument("letter", metavar="ID")
@_config
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.option("--raw", is_flag=True, help="Write the original bytes to stdout, and nothing else.")
def show_letter(letter: str, config: Path, as_json: bool, raw: bool) -> None:
    """Show one dead letter with its bytes and headers."""
    from monitor.cli.jobs.dlq import show_command

    return show_command(config, letter, as_json=as_json, raw=raw)


@command.command("replay")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_config
@_filtered
@click.option("--all", "everything", is_flag=True, help="All dead letters that fit no further condition.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def replay_letters(
    ids: tuple[str, ...],
    config: Path,
    reasons: tuple[str, ...],
    asset: str | None,
    begin: str | None,
    end: str | None,
    everything: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Send dead letters to the input topic again: original bytes, key and headers, to their own partition.

    Every record sent carries the header `nuwatch-replayed` with the id of its dead letter. The letters stay where
    they are, so a second replay sends them a second time; readings that are known already change nothing. What has
    become LATE stays late: its windows are closed.
    """
    from monitor.cli.jobs.dlq import Selection, replay_command

    selection = Selection.of(reasons, asset, begin, end, ids)
    return replay_command(config, selection, everything=everything, dry_run=dry_run, yes=yes)
