"""`nuwatch demo`: its options and its help; the work is in `monitor.cli.jobs.demo`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    "demo",
    epilog="""\b
Examples:
  nuwatch demo                            about a minute and a half; nothing else is needed
  nuwatch demo --fast --seed 7            another plant, no waiting
  nuwatch demo --kafka localhost:9092     the same plant through a real broker, with topics of its own

The exit code is 0 whatever was found, and 69 if the broker does not answer.
""",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of the simulated plant."
)
@click.option(
    "--kafka", "server", metavar="HOST:PORT", help="Send the plant through this broker; topics are created."
)
@click.option("--fast", is_flag=True, help="As fast as it goes instead of paced for the eye.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out/demo"),
    show_default=True,
    help="Folder for the alerts, the report, the configuration and the bundle.",
)
def command(seed: int, server: str | None, fast: bool, out: Path) -> None:
    """Watch a simulated polymerisation plant: four batch reactors, five planted faults, one benign grade change.

    The plant is a simulation (reaction kinetics, jacket cooling, controllers, instrument noise); everything else is
    what runs on a real plant: training on known-good history, the pipeline, incidents and alerts. The monitor is
    not told what is planted. At the end a table compares planted with found, false incidents included.
    """
    from monitor.cli.jobs.demo import demo_command

    demo_command(seed, server, fast, out)
