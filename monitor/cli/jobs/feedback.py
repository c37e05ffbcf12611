"""`nuwatch models feedback`: verdicts into a trained bundle."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import click
import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from monitor.bundles import read_bundle, write_bundle
from monitor.cli.bars import Bars, bars
from monitor.cli.history import history
from monitor.cli.jobs.models import alone
from monitor.configuration import Configuration, read
from monitor.connect import layout_of
from monitor.evaluation.verdicts import held_out, read_verdicts
from monitor.model import Model, check_fit
from monitor.report.feedback import feedback_text
from monitor.training.history import Rows, collect
from monitor.training.verdicts import apply_verdicts


class Asked(NamedTuple):
    """The command's options."""

    config: Path
    files: tuple[Path, ...]
    verdicts: Path
    only: str | None
    histories: tuple[Path, ...]
    hold_out: float
    prior: float
    dry_run: bool
    as_json: bool


def feedback_command(asked: Asked) -> int:
    """Do what `nuwatch models feedback` says."""
    whole = read(asked.config)
    configuration, name = alone(whole, asked.only)
    asset_class = configuration.settings.asset_classes[name]
    bundle = read_bundle(configuration.bundle_path(name))
    check_fit(bundle, asset_class, name)
    verdicts = read_verdicts(asked.verdicts, layout_of(configuration.settings).time)
    used, held = held_out(verdicts, asked.hold_out, asset_class.scoring.seed)
    with bars(Console(stderr=True)) as progress:
        told = Bars(progress)
        told.stage("reading")
        stuck_after = Model(bundle, asset_class).stuck_slots
        rows = _rows(whole, name, asked.histories, None), _rows(whole, name, asked.files, stuck_after)
        new, found = apply_verdicts(asset_class, bundle, *rows, used, held, prior=asked.prior, told=told)
        told.finish()
    if asked.as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        click.echo("\n".join(feedback_text(found)))
    if found.worse:
        click.echo("nothing is written: verdicts that were not learnt from rank worse than before", err=True)
        return 1
    if not asked.dry_run and new is not bundle:
        write_bundle(new, configuration.bundle_path(name))
        click.echo(
            f"bundle {new.id[:12]} written to {configuration.bundle_path(name)}, from {bundle.id[:12]}",
            err=True,
        )
    return 0


def _rows(
    configuration: Configuration,
    name: str,
    files: tuple[Path, ...],
    stuck_after: NDArray[np.int64] | None,
) -> Rows:
    """The asset class's rows; those that verdicts are about are checked for stuck sensors as they were live."""
    batches = (batch for batch in history(configuration, files) if batch.asset_class == name)
    return collect(configuration.settings.asset_classes[name], batches, stuck_after)
