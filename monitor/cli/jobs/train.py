"""`nuwatch train`: from recorded history to a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
import msgspec
from rich.console import Console

from monitor import __version__
from monitor.bundles import write_bundle
from monitor.cli.bars import Bars, bars
from monitor.cli.history import history, interval_of
from monitor.configuration import Configuration, read
from monitor.errors import UsageError
from monitor.report import SensorRow, TrainingMeta, training_report
from monitor.report.budget import budget_text
from monitor.report.choice import choice_text
from monitor.report.trimming import trimming_text
from monitor.settings import AssetClass
from monitor.training import Trained, configuration_hash, train


def train_command(
    config: Path,
    files: tuple[Path, ...],
    begin: str | None,
    end: str | None,
    only: tuple[str, ...],
    report: Path | None,
    allow_uncalibrated: bool,
    as_json: bool,
) -> int:
    """Do what `nuwatch train` says."""
    configuration = read(config)
    chosen = _classes(configuration, only)
    interval = interval_of(begin, end)
    trained: dict[str, Trained] = {}
    for name in chosen:
        with bars(Console(stderr=True)) as progress:
            told = Bars(progress)
            batches = history(configuration, files, interval)
            trained[name] = train(
                configuration.settings.asset_classes[name],
                name,
                batches,
                config_hash=configuration_hash(config.read_text(encoding="utf-8")),
                progress=told,
            )
            told.finish()
        write_bundle(trained[name].bundle, configuration.bundle_path(name))
    _tell(configuration, trained, report, as_json)
    calibrated = all(t.estimate.enough for t in trained.values())
    return 0 if calibrated or allow_uncalibrated else 1


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
