"""`nuwatch init`: a configuration to start from."""

from __future__ import annotations

from pathlib import Path

import click

from monitor.data_files import example
from monitor.errors import UsageError

_TEMPLATES = {"default": "nuwatch.yaml", "continuous": "continuous.yaml", "batch": "batch.yaml"}


@click.command(
    "init",
    epilog="""\b
Examples:
  nuwatch init                              a commented nuwatch.yaml to fill in
  nuwatch init --from history/R-101.csv     propose sensors, ranges, times and sampling from a recording
  nuwatch init plant.yaml --template batch  phases, recipes and batches

Go on with `nuwatch validate`: it says what is wrong and where.
""",
)
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False), default="nuwatch.yaml")
@click.option(
    "--from",
    "recording",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="CSV",
    help="Propose sensors from a recording with a header line.",
)
@click.option(
    "--template",
    type=click.Choice(list(_TEMPLATES)),
    default="default",
    show_default=True,
    help="Which commented example to write.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def command(config: Path, recording: Path | None, template: str, force: bool) -> None:
    """Write a commented configuration to CONFIG (nuwatch.yaml if not said).

    A configuration names the assets, their sensors with unit and engineering range, and where readings come from
    and alerts go. With --from it is proposed from a recording: columns of numbers become sensors, their ranges are
    the data's own, padded, and the sampling is the median step. It then says what it guessed and what you must
    check: units cannot be guessed, and roles are guessed from names. An existing file is left alone without --force.
    """
    if recording is not None and template != "default":
        raise UsageError("--from and --template: expected one of them")
    if config.exists() and not force:
        raise UsageError(f"{config} exists; hint: --force overwrites it")
    if recording is None:
        _write(config, example(_TEMPLATES[template]))
        click.echo(
            f"{config} written: describe your assets and sensors in it, then run: nuwatch validate {config}"
        )
        return
    _propose(config, recording)


def _propose(config: Path, recording: Path) -> None:
    # imports the file readers, which `--help` does not need
    from monitor.proposal import propose
    from monitor.proposal_text import text_of

    proposal = propose(recording)
    _write(config, text_of(proposal, config.parent))
    time = proposal.time.column or "no time column"
    click.echo(f"{config} written from {proposal.rows} rows of {recording}")
    click.echo(f"  time: {time}; sampling: {proposal.sampling}; assets: {', '.join(proposal.assets[:5])}")
    for sensor in proposal.sensors:
        click.echo(f"  sensor {sensor.name} ({sensor.role}), range {sensor.low:g} to {sensor.high:g}")
    for column, why in proposal.skipped.items():
        click.echo(f"  left out: {column}: {why}")
    click.echo("Guessed; check in the file:")
    for check in proposal.checks:
        click.echo(f"  - {check}")
    click.echo(f"Then run: nuwatch validate {config}")


def _write(config: Path, text: str) -> None:
    try:
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{config}: cannot be written: {error.strerror}") from None
