"""`nuwatch apply`: a configuration on its way to the daemons."""

from __future__ import annotations

from pathlib import Path

import click

from monitor.alerting.alerts import MONITOR
from monitor.bundles import read_bundle
from monitor.cli.jobs.send import now, send
from monitor.configuration import Configuration, read
from monitor.control import Command, NewConfiguration
from monitor.model import check_fit


def apply_command(config: Path, by: str, any_bundle: bool) -> None:
    """Do what `nuwatch apply` says."""
    configuration = read(config)
    bundles = {} if any_bundle else _bundles(configuration)
    new = NewConfiguration(configuration.text, by, now(), bundles)
    offset = send(configuration, MONITOR, Command(configuration=new))
    click.echo(
        f"{config} by {by} handed to the daemons: {configuration.settings.control.topic}, offset {offset}"
    )


def _bundles(configuration: Configuration) -> dict[str, str]:
    """The bundles that lie here, by asset class; daemons that find others refuse."""
    found: dict[str, str] = {}
    for name, asset_class in configuration.settings.asset_classes.items():
        bundle = read_bundle(configuration.bundle_path(name))
        check_fit(bundle, asset_class, name)
        found[name] = bundle.id
    return found
