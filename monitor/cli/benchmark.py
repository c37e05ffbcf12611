"""`nuwatch benchmark`: its options and its help; the work is in `monitor.cli.jobs.benchmark`."""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group(
    "benchmark",
    epilog="""\b
Examples:
  nuwatch benchmark detection --quick    shows that it works, in a few minutes
  nuwatch benchmark detection --help     all that can be asked
""",
)
def command() -> None:
    """Measure nuwatch on labelled data, beside its peers.

    Whoever adds a scorer, changes a default or doubts a figure of the documentation can measure it again here. Speed is
    measured in the checkout, by `make bench`.
    """


@command.command(
    "detection",
    epilog="""\b
Examples:
  nuwatch benchmark detection --quick                           shows that it works, in a few minutes
  nuwatch benchmark detection --dataset skab --seeds 5          one data set
  nuwatch benchmark detection --scorer default --scorer pca     only these rows of the tables
  nuwatch benchmark detection --data FOLDER --dataset csv --scores out
                                                                your own data, and a score for every row

SKAB and TEP are read from --data or the folder that NUWATCH_DATA names (skab/, tep/). CSV series have the columns
timestamp, sensors, and if there are any label (0/1) and split (train, calib, test); without split the first 40 % of
the rows, up to the first labelled anomaly, are learnt from.
""",
)
@click.option(
    "--section", "sections", multiple=True, metavar="NAME", help="Only these sections (repeatable)."
)
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    metavar="NAME",
    help="skab, tep, plant, reactor, tanks or csv (repeatable). [default: the first three]",
)
@click.option("--data", type=_FOLDER, help="Folder of the data sets, or of CSV series with --dataset csv.")
@click.option(
    "--scorer",
    "scorers",
    multiple=True,
    metavar="NAME",
    help="Only these: default, a scorer's name (an installed package's too), or a baseline (repeatable).",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    help="Seeds of training of everything that is trained by chance. [default: 5; 1 with --quick or csv]",
)
@click.option("--quick", is_flag=True, help="Few files and faults: shows that it works, not how well.")
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Processes, each of one thread. [default: one per core]"
)
@click.option(
    "--fresh", is_flag=True, help="Take no result of an earlier run, even of the same code on the same data."
)
@click.option("--json", "json_file", type=_FILE, help="Write every figure to this file.")
@click.option(
    "--markdown", type=_FILE, help="Write the tables into this page, between its markers if it has them."
)
@click.option(
    "--scores", type=_FOLDER, help="Write DATASET/SERIES.csv: timestamp, score, label, split, alarm."
)
def detection(
    sections: tuple[str, ...],
    datasets: tuple[str, ...],
    data: Path | None,
    scorers: tuple[str, ...],
    seeds: int | None,
    quick: bool,
    jobs: int | None,
    fresh: bool,
    json_file: Path | None,
    markdown: Path | None,
    scores: Path | None,
) -> None:
    """Compare the default configuration, every scorer alone and simple baselines on labelled data.

    All of them go the way that users' data go: training, thresholds from training rows only, replay, alerts. The
    score is the final ratio, an alarm a ratio over 1; nothing is point-adjusted. Without --section all sections run,
    or, with --dataset or --scores, the section 'detection' alone.
    """
    from monitor.cli.jobs.benchmark import Asked, detection_command

    asked = Asked(sections, datasets, data, scorers, seeds, quick, jobs, json_file, markdown, scores, fresh)
    detection_command(asked)
