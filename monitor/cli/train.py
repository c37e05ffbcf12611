"""`nuwatch train`: its options and its help; the work is in `monitor.cli.jobs.train`."""

from __future__ import annotations

from pathlib import Path

import click

from monitor.cli.arguments import config_argument


@click.command(
    "train",
    epilog="""Examples:

    nuwatch train plant.yaml history/*.csv --report training.html

    nuwatch train plant.yaml history/*.csv --report training.html --show "faults/*.csv" --labels faults.csv

    nuwatch train plant.yaml --from 2026-10-01T00:00:00Z --to 2026-11-01T00:00:00Z     from the topic's history

    Ends with exit code 1 if the history is too short for the asked nu (the threshold is then UNCALIBRATED); the
    bundle is written all the same, and --allow-uncalibrated accepts it.
    """,
)
@config_argument
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--from", "begin", metavar="TIME", help="Only readings from this time on (ISO 8601).")
@click.option("--to", "end", metavar="TIME", help="Only readings before this time.")
@click.option("--class", "only", metavar="NAME", multiple=True, help="Only these asset classes.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Write a page about the training."
)
@click.option(
    "--show",
    "beside",
    metavar="PATTERN",
    multiple=True,
    help="Recordings that the page shows beside the history, as a quoted pattern (repeatable); they teach nothing.",
)
@click.option(
    "--labels",
    "labels_file",
    type=click.Path(path_type=Path, exists=True),
    help="Intervals of faults, to colour by.",
)
@click.option("--label-column", metavar="NAME", help="A column of what is shown that is 1 during faults.")
@click.option("--allow-uncalibrated", is_flag=True, help="Exit 0 even if the history is too short for nu.")
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON on stdout.")
def command(
    config: Path,
    files: tuple[Path, ...],
    begin: str | None,
    end: str | None,
    only: tuple[str, ...],
    report: Path | None,
    beside: tuple[str, ...],
    labels_file: Path | None,
    label_column: str | None,
    allow_uncalibrated: bool,
    as_json: bool,
) -> int:
    """Learn what normal looks like from known-good history, and write a bundle per asset class.

    The history is cut in time: the first part fits scaling and scorers, the rest is held out and sets the limit at
    the nu-quantile of its scores, with its sample size and interval. FILES are recordings as the configuration's
    `recordings` section describes them; without FILES the section's own paths are read, or, with a Kafka source,
    the topic's history. Give it normal operation only: what it sees is what it will call normal.

    The page of --report also shows what each scorer makes of held-out windows before it judges them, in two
    dimensions, coloured by time, ratio, recipe and asset. With --show, recordings that teach nothing lie beside them;
    with labels the colours say what was a fault.
    """
    from monitor.cli.jobs.train import Asked, train_command

    patterns = tuple(Path(pattern) for pattern in beside)
    asked = Asked(
        config,
        files,
        begin,
        end,
        only,
        report,
        patterns,
        labels_file,
        label_column,
        allow_uncalibrated,
        as_json,
    )
    return train_command(asked)
