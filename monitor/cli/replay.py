"""`nuwatch replay`: its options and its help; the work is in `monitor.cli.jobs.replay`."""

from __future__ import annotations

from pathlib import Path

import click

from monitor.cli.arguments import config_argument


@click.command(
    "replay",
    epilog="""Examples:

    nuwatch replay plant.yaml batches/*.csv --labels faults.csv --report replay.html

    nuwatch replay plant.yaml batches/*.csv --label-column anomaly --json figures.json

    nuwatch replay plant.yaml batches/B-0712.csv --speed 60      one minute of plant time a second
    """,
)
@config_argument
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--labels", "labels_file", type=click.Path(path_type=Path, exists=True), help="Intervals of faults."
)
@click.option("--label-column", metavar="NAME", help="A column of the recordings that is 1 during faults.")
@click.option(
    "--decisions", type=click.Path(path_type=Path, exists=True), help="Persons' decisions, JSON Lines."
)
@click.option(
    "--journal",
    type=click.Path(path_type=Path, exists=True),
    help="What a daemon's `nuwatch state export` wrote: decisions and changes of configuration at their places.",
)
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Write one self-contained page."
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures."
)
@click.option(
    "--alerts", type=click.Path(path_type=Path, dir_okay=False), help="Write the alerts, JSON Lines."
)
@click.option(
    "--dead-letters", type=click.Path(path_type=Path, dir_okay=False), help="Write refused records."
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    help="Plant seconds per second; default: as fast as it goes.",
)
def command(
    config: Path,
    files: tuple[Path, ...],
    labels_file: Path | None,
    label_column: str | None,
    decisions: Path | None,
    journal: Path | None,
    report: Path | None,
    json_file: Path | None,
    alerts: Path | None,
    dead_letters: Path | None,
    speed: float | None,
) -> None:
    """Run recorded data through the very pipeline that runs live, and say how it did.

    The same recordings give the same incidents with the same ids as the daemon would. With labels it prints
    precision, recall, false and missed alarms, ROC and PR areas and detection delays; without, what can be said
    without: incidents, their sensors, and the realised share of windows over the limit against the asked nu. A
    window's label is that of its last sample; nothing is adjusted in the detector's favour.
    """
    from monitor.cli.jobs.replay import replay_command

    return replay_command(
        config,
        files,
        labels_file,
        label_column,
        decisions,
        report,
        json_file,
        alerts,
        dead_letters,
        speed,
        journal,
    )
