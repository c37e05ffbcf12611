"""`nuwatch train`: from recorded history to a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
from rich.console import Console

from connectors.records import Batch
from monitor import __version__
from monitor.bundles import write_bundle
from monitor.cli.bars import Bars, bars
from monitor.cli.history import history, interval_of
from monitor.cli.labelling import check_labels, labels_of
from monitor.configuration import Configuration, read
from monitor.connect import recordings
from monitor.errors import UsageError
from monitor.report import SensorRow, TrainingMeta, training_report
from monitor.report.budget import budget_text
from monitor.report.choice import choice_text
from monitor.report.trimming import trimming_text
from monitor.settings import AssetClass
from monitor.training import Trained, configuration_hash, train
from monitor.training.embedding import Look


class Asked(NamedTuple):
    """The command's options."""

    config: Path
    files: tuple[Path, ...]
    begin: str | None
    end: str | None
    only: tuple[str, ...]
    report: Path | None
    beside: tuple[Path, ...]
    labels_file: Path | None
    label_column: str | None
    allow_uncalibrated: bool
    as_json: bool


def train_command(asked: Asked) -> int:
    """Do what `nuwatch train` says."""
    configuration = read(asked.config)
    chosen = _classes(configuration, asked.only)
    interval = interval_of(asked.begin, asked.end)
    look = _look(configuration, asked)
    trained: dict[str, Trained] = {}
    for name in chosen:
        with bars(Console(stderr=True)) as progress:
            told = Bars(progress)
            batches = history(configuration, asked.files, interval)
            trained[name] = train(
                configuration.settings.asset_classes[name],
                name,
                batches,
                config_hash=configuration_hash(asked.config.read_text(encoding="utf-8")),
                progress=told,
                look=None if look is None else look._replace(beside=_of_class(look.beside, name)),
            )
            told.finish()
        write_bundle(trained[name].bundle, configuration.bundle_path(name))
    _tell(configuration, trained, asked.report, asked.as_json)
    calibrated = all(t.estimate.enough for t in trained.values())
    return 0 if calibrated or asked.allow_uncalibrated else 1


def _look(configuration: Configuration, asked: Asked) -> Look | None:
    """What the report is to show of the scorers' insides; read before anything is trained.

    Raises:
        UsageError: something to show, and no report to show it on.
        LabelsError: the labels cannot be read.
    """
    check_labels(asked.labels_file, asked.label_column)
    if asked.report is None:
        if asked.beside or asked.labels_file or asked.label_column:
            raise UsageError("--show, --labels, --label-column: expected --report, whose page shows them")
        return None
    settings = recordings(configuration, asked.beside or asked.files)
    labels = labels_of(configuration, settings, asked.labels_file, asked.label_column)
    return Look(labels, list(history(configuration, asked.beside)) if asked.beside else [])


def _of_class(batches: Sequence[Batch], name: str) -> list[Batch]:
    return [batch for batch in batches if batch.asset_class == name]


def _classes(configuration: Configuration, only: tuple[str, ...]) -> tuple[str, ...]:
    known = tuple(configuration.settings.asset_classes)
    for name in only:
        if name not in known:
            raise UsageError(f"--class: got {name!r}, expected one of {', '.join(known)}")
    return only or known


def _tell(
    configuration: Configuration, trained: Mapping[str, Trained], report: Path | None, as_json: bool
) -> None:
    summary = {
        name: {
            "bundle": str(configuration.bundle_path(name)),
            "id": each.bundle.id,
            "limit": msgspec.to_builtins(each.estimate),
            "scorers": {s: msgspec.to_builtins(e) for s, e in each.scorer_estimates.items()},
            "counts": each.counts,
            "warnings": each.warnings,
            "chosen": msgspec.to_builtins(each.choice),
            "budget": msgspec.to_builtins(each.budget),
            "realised": msgspec.to_builtins(each.realised),
            "trimmed": msgspec.to_builtins(each.trimming),
        }
        for name, each in trained.items()
    }
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(summary), indent=2))
    else:
        for name, each in trained.items():
            _tell_one(name, each, configuration.bundle_path(name))
    for name, each in trained.items() if report is not None else ():
        assert report is not None
        path = report if len(trained) == 1 else report.with_stem(f"{report.stem}-{name}")
        page = training_report(_meta(configuration.settings.asset_classes[name], name, each))
        path.write_text(page, encoding="utf-8")
        click.echo(f"report: {path}", err=True)


def _meta(asset_class: AssetClass, name: str, trained: Trained) -> TrainingMeta:
    bundle = trained.bundle
    stuck = bundle.calibration["stuck_slots"]
    columns = list(asset_class.sensors)
    rows = [
        SensorRow(
            name=sensor,
            unit=asset_class.sensors[sensor].unit,
            role=asset_class.sensors[sensor].role,
            mean=float(bundle.scaling.mean[d]),
            sigma=float(bundle.scaling.std[d]),
            low=(asset_class.sensors[sensor].range or (None, None))[0],
            high=(asset_class.sensors[sensor].range or (None, None))[1],
            stuck_s=float(stuck[columns.index(sensor)]) * asset_class.sampling.seconds,
        )
        for d, sensor in enumerate(bundle.sensors)
    ]
    facts = {
        "bundle": bundle.id[:16],
        "history": f"{bundle.fields['trained_from']} to {bundle.fields['trained_to']}",
        "assets": ", ".join(bundle.fields["assets"][:8]),
        "scorers": ", ".join(scorer.name for scorer in bundle.scorers),
        "nuwatch": __version__,
    }
    return TrainingMeta(
        title=f"Training: {name}",
        estimate=trained.estimate,
        facts=facts,
        scorer_estimates=trained.scorer_estimates,
        curves=trained.curves,
        counts=trained.counts,
        limit_ratios=trained.limit_ratios,
        sensors=rows,
        warnings=trained.warnings,
        choice=trained.choice,
        budget=trained.budget,
        realised=trained.realised,
        trimming=trained.trimming,
        embedding=trained.embedding,
    )


def _tell_one(name: str, trained: Trained, folder: Path) -> None:
    e = trained.estimate
    click.echo(f"{name}: bundle {trained.bundle.id[:12]} written to {folder}")
    click.echo(
        f"  {e.label}: nu {e.nu:g} from {e.n} held-out windows ({e.n_eff:.0f} independent, tau {e.tau:.1f}); "
        f"limit {e.threshold:.4g} [{e.low:.4g}, {e.high:.4g}]{', EXTRAPOLATED' if e.extrapolated else ''}"
    )
    for line in budget_text(trained.budget) if trained.budget else ():
        click.echo(f"  {line}")
    for line in trimming_text(trained.trimming) if trained.trimming else ():
        click.echo(f"  {line}")
    for line in choice_text(trained.choice) if trained.choice else ():
        click.echo(f"  {line}")
    for warning in trained.warnings:
        click.echo(f"  warning: {warning}")
