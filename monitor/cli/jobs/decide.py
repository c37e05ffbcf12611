"""`nuwatch decide`: a decision on its way to the daemon."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import click

from monitor.cli.jobs.send import now, send
from monitor.configuration import read
from monitor.errors import ConfigurationError
from monitor.thresholds.decisions import Decision, append_decision


def decide_command(action: str, asset: str, config: Path, by: str) -> None:
    """Do what `nuwatch decide` says."""
    configuration = read(config)
    settings = configuration.settings
    known = [pattern for kind in settings.asset_classes.values() for pattern in kind.assets]
    if not any(fnmatchcase(asset, pattern) for pattern in known):
        raise click.BadParameter(f"{asset!r} is no asset of {config}; expected one of {', '.join(known)}")
    decision = Decision(asset, action, by, now())  # type: ignore[arg-type] # click has checked the choice
    if settings.control.topic is not None:
        from monitor.control import Command

        offset = send(configuration, asset, Command(decision=decision))
        click.echo(
            f"{action} of {asset} by {by} handed to the daemons: {settings.control.topic}, offset {offset}"
        )
        return
    if settings.state.changelog is not None:
        raise ConfigurationError(
            f"{configuration.where('state')}: daemons with a changelog do not read the state folder; hint: set "
            "control.topic, for them and here"
        )
    append_decision(configuration.folder / settings.state.directory, decision)
    click.echo(f"{action} of {asset} by {by} handed to the daemon")
