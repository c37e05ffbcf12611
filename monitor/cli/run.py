"""`nuwatch run`: its options and its help; the work is in `monitor.cli.jobs.run`."""

from __future__ import annotations

from pathlib import Path

import click

from monitor.cli.arguments import config_argument


@click.command(
    "run",
    epilog="""Examples:

    nuwatch run plant.yaml                  go on where the last run stopped, or with what comes now

    nuwatch run plant.yaml --start earliest        with no stored state: from the topic's beginning

    SIGTERM and Ctrl-C drain: what was read is published, a snapshot is written, and the exit code is 0.
    """,
)
@config_argument
@click.option(
    "--start",
    metavar="WHERE",
    help="Where to begin a partition without stored state: earliest, latest, or a time (ISO 8601). "
    "[default: latest of a topic, earliest of files]",
)
@click.option("--verbose", is_flag=True, help="Log snapshots too.")
def command(config: Path, start: str | None, verbose: bool) -> None:
    """Watch the configured source and publish alerts to the configured sink, until stopped.

    Every few seconds the state is written to disk together with the input offsets that it reflects; Kafka's own
    offsets are committed only after that. After a crash the daemon goes on from the last snapshot and repeats what
    followed: the same alerts with the same ids, and those that the alert topic already has are not sent again.
    """
    from monitor.cli.jobs.run import run_command

    return run_command(config, start, verbose)
