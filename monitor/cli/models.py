"""`nuwatch models`: its options and its help; the work is in `monitor.cli.jobs.models`."""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(path_type=Path, dir_okay=False)
_INPUT = click.Path(path_type=Path, exists=True)


@click.group(
    "models",
    epilog="""\b
Examples:
  nuwatch models compare plant.yaml history/*.csv     every scorer, on your own normal data
  nuwatch models compare --help                       all that can be asked
""",
)
def command() -> None:
    """Choose scorers with evidence.

    What a scorer is worth depends on the plant: compare them on your own recordings, with labels if you have some and
    without if not.
    """


@command.command(
    "compare",
    epilog="""\b
Examples:
  nuwatch models compare plant.yaml history/*.csv
  nuwatch models compare plant.yaml history/*.csv --scorer pca --scorer deep_svdd --tune 9 --settings tuned.yaml
  nuwatch models compare plant.yaml runs/*.csv --label-column anomaly
  nuwatch models compare plant.yaml history/*.csv --test "faults/*.csv" --labels faults.yaml --json
""",
)
@click.argument("config", type=_FILE)
@click.argument("files", nargs=-1, type=_INPUT)
@click.option(
    "--scorer", "scorers", multiple=True, metavar="NAME", help="Only these (repeatable). [default: all]"
)
@click.option("--class", "only", metavar="NAME", help="The asset class, where there are several.")
@click.option(
    "--tune",
    "tries",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Try N settings of each scorer, by held-out normal data alone.",
)
@click.option("--settings", type=_FILE, help="Write the settings that were compared, as YAML for CONFIG.")
@click.option("--labels", "labels_file", type=_INPUT, help="Intervals of faults.")
@click.option("--label-column", metavar="NAME", help="A column of the recordings that is 1 during faults.")
@click.option(
    "--test",
    "tests",
    multiple=True,
    metavar="PATTERN",
    help="Recordings to judge by the labels, as a quoted pattern (repeatable); FILES are then known-good history.",
)
@click.option(
    "--learn",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.4,
    show_default=True,
    help="Without --test: share of each asset's labelled record, from its start, that is learnt from.",
)
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON on stdout.")
def compare(
    config: Path,
    files: tuple[Path, ...],
    scorers: tuple[str, ...],
    only: str | None,
    tries: int,
    settings: Path | None,
    labels_file: Path | None,
    label_column: str | None,
    tests: tuple[str, ...],
    learn: float,
    as_json: bool,
) -> None:
    """Train scorers side by side and say what each sees, and what it costs.

    FILES are recordings as the configuration's `recordings` section describes them. Each scorer is fitted to the first
    part of the history, and judged on the rest: into those held-out normal windows faults are planted, and what counts
    is the share of them over a limit that holds (as `scorers: auto` does). With labels each scorer is also
    trained, calibrated and replayed as if it stood alone in the configuration, and judged against them: without --test
    each asset's record is cut in two, the first part, up to its first labelled fault at most, is learnt from, and only
    the rest is judged.

    --tune draws settings from the ranges of the configuration page and keeps what sees more planted faults. It reads no
    label. The same data, configuration and seed give the same settings.
    """
    from monitor.cli.jobs.models import Asked, compare_command

    asked = Asked(
        config,
        files,
        scorers,
        only,
        tries,
        settings,
        labels_file,
        label_column,
        tuple(Path(pattern) for pattern in tests),
        learn,
        as_json,
    )
    compare_command(asked)
