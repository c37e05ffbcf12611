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
  nuwatch models feedback plant.yaml july/*.csv --verdicts verdicts.csv
                                                      what operators said of alerts, without training anew
""",
)
def command() -> None:
    """Choose scorers with evidence, and tell them what operators say.

    What a scorer is worth depends on the plant: compare them on your own recordings, with labels if you have some and
    without if not. A trained bundle takes verdicts on its alerts without being trained anew.
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
) -> int:
    """Train scorers side by side and say what each sees, and what it costs.

    FILES are recordings as the configuration's `recordings` section describes them. Each scorer is fitted to the first
    part of the history, and judged on the rest: into those held-out normal windows faults are planted, and what counts
    is the share of them over a limit that holds (as `scorers: auto` does). With labels each scorer is also
    trained, calibrated and replayed as if it stood alone in the configuration, and judged against them: without --test
    each asset's record is cut in two, the first part, up to its first labelled fault at most, is learnt from, and only
    the rest is judged.

    --tune draws settings from the ranges of the configuration page and keeps what sees more planted faults. It reads no
    label. The same data, configuration and seed give the same settings.

    A scorer that cannot be used says why and the others go on; the exit code is 1 only if none is left.
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
    return compare_command(asked)


@command.command(
    "feedback",
    epilog="""\b
Examples:
  nuwatch models feedback plant.yaml july/*.csv --verdicts verdicts.csv --dry-run
  nuwatch models feedback plant.yaml july/*.csv --verdicts verdicts.csv --hold-out 0.3
  nuwatch models feedback plant.yaml july/*.csv --verdicts verdicts.csv --history "june/*.csv"
\b
verdicts.csv:
  asset,start,end,label
  pump/1,2026-07-03T10:00:00Z,2026-07-03T10:20:00Z,false
  pump/1,2026-07-09T02:00:00Z,2026-07-09T05:00:00Z,real
""",
)
@click.argument("config", type=_FILE)
@click.argument("files", nargs=-1, type=_INPUT)
@click.option(
    "--verdicts",
    "verdicts_file",
    type=_INPUT,
    required=True,
    help="Stretches that were real, or false alarms.",
)
@click.option("--class", "only", metavar="NAME", help="The asset class, where there are several.")
@click.option(
    "--history",
    "histories",
    multiple=True,
    metavar="PATTERN",
    help="Known-good recordings, as a quoted pattern (repeatable). [default: those of the configuration]",
)
@click.option(
    "--hold-out",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of the verdicts of each kind that nothing is learnt from: they judge.",
)
@click.option(
    "--prior",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="How strongly the present ranking is held: the larger, the more verdicts it takes.",
)
@click.option("--dry-run", is_flag=True, help="Say what would change, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Figures as JSON on stdout.")
def feedback(
    config: Path,
    files: tuple[Path, ...],
    verdicts_file: Path,
    only: str | None,
    histories: tuple[str, ...],
    hold_out: float,
    prior: float,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Re-rank and re-calibrate a trained bundle by operators' verdicts, without training anew.

    FILES are the recordings that the verdicts are about. What each sensor adds to each scorer's ratio gets a weight, 1
    unless the verdicts ask for another; the limits are set anew at the nu-quantile of known-good history, with the
    windows of 'false' counted as normal. The network stays as it is. The new bundle replaces the old one, and a running
    daemon takes it as any new bundle.

    With --hold-out some verdicts judge: if they rank worse than before, nothing is written and the exit code is 1.
    """
    from monitor.cli.jobs.feedback import Asked, feedback_command

    patterns = tuple(Path(pattern) for pattern in histories)
    return feedback_command(
        Asked(config, files, verdicts_file, only, patterns, hold_out, prior, dry_run, as_json)
    )
