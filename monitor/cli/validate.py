"""`nuwatch validate`: what is wrong with a configuration, where, and what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from monitor.validation import Finding
    from monitor.validation.online import Seen

_COLOURS = {"error": "red", "warning": "yellow", "hint": "cyan"}


@click.command(
    "validate",
    epilog="""\b
Examples:
  nuwatch validate                        the nuwatch.yaml of this folder
  nuwatch validate plant.yaml --online    ask the broker too, and look at real records
  nuwatch validate plant.yaml --json      for a program, such as a check before a merge

Exit codes: 0 without errors (warnings and hints do not count), 69 if only the broker does not answer,
78 with errors.
""",
)
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False), default="nuwatch.yaml")
@click.option("--online", is_flag=True, help="Also ask the broker, and decode a sample of real records.")
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    metavar="N",
    help="Records to look at with --online.",
)
@click.option("--json", "as_json", is_flag=True, help="Findings as JSON on stdout.")
def command(config: Path, online: bool, sample: int, as_json: bool) -> int:
    """Say everything that is wrong with CONFIG, where it stands in the file, and what was expected.

    It knows more than types: unknown units, reversed ranges, tags given twice, asset patterns that overlap, windows
    that do not go with the sampling, options that a scorer does not have, secrets, recordings and bundles that are
    missing or do not fit. With --online it also connects: do the topics exist, may they be written, and do real
    records decode? It then counts rows per asset and readings per sensor, and says which sensors never came, which
    values lie outside their range, and how fast records really come. Nothing is created or written.
    """
    import logging

    from monitor.validation import has_errors
    from monitor.validation.report import inspect

    # a client library's log of failed attempts adds nothing to the finding about them
    logging.getLogger("kafka").setLevel(logging.CRITICAL + 1)
    findings, seen = inspect(config, online, sample)
    if as_json:
        click.echo(_as_json(config, findings, seen))
    else:
        _print(config, findings, seen)
    if seen is not None and not seen.reached:
        offline = [finding for finding in findings if finding.path not in ("source", "sink")]
        return 78 if has_errors(offline) else 69
    return 78 if has_errors(findings) else 0


def _print(config: Path, findings: tuple[Finding, ...], seen: Seen | None) -> None:
    from monitor.validation.report import lines_of

    for finding in findings:
        level = click.style(f"{finding.level:<7}", fg=_COLOURS[finding.level])
        path = f" {finding.path}:" if finding.path else ""
        expected = f"\n        expected: {finding.expected}" if finding.expected else ""
        click.echo(f"{level} {finding.where}:{path} {finding.message}{expected}")
    if seen is not None:
        for line in lines_of(seen):
            click.echo(line)
    counts = {level: sum(finding.level == level for finding in findings) for level in _COLOURS}
    click.echo(
        f"{config}: " + ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in counts.items())
    )


def _as_json(config: Path, findings: tuple[Finding, ...], seen: Seen | None) -> str:
    import json

    from monitor.validation import has_errors
    from monitor.validation.report import as_data

    body = {
        "file": str(config),
        "ok": not has_errors(findings),
        "findings": [finding._asdict() for finding in findings],
        "online": None if seen is None else as_data(seen),
    }
    return json.dumps(body, indent=2)
