"""`nuwatch replay`: recorded data through the pipeline that runs live."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console

from connectors.records import Channel
from monitor import __version__
from monitor.alerting.messages import duration_text
from monitor.checkpoint import Entry
from monitor.cli.common import connector_errors, load_models, pipeline_factory
from monitor.cli.jobs.reload import Generations, Shelf, generation_of
from monitor.cli.labelling import check_labels, labels_of
from monitor.commands import Commands, TimedDecisions, command_of
from monitor.configuration import Configuration, parse, read
from monitor.connect import make_source, recordings, topic_name
from monitor.engine import Step
from monitor.errors import ConfigurationError, UsageError
from monitor.evaluation.evaluate import evaluate
from monitor.evaluation.incident_log import Incident
from monitor.evaluation.labels import Labels
from monitor.generation import Change
from monitor.journal import ExportedJournal, read_journal
from monitor.model import Model
from monitor.quantities import NS_PER_S
from monitor.replay import Journalled, Replayed, newest, replay
from monitor.report import ReplayMeta, replay_report, text_table
from monitor.thresholds.decisions import read_decisions


def replay_command(
    config: Path,
    files: tuple[Path, ...],
    labels_file: Path | None,
    label_column: str | None,
    decisions: Path | None,
    report: Path | None,
    json_file: Path | None,
    alerts: Path | None,
    dead_letters: Path | None,
    speed: float | None,
    journal: Path | None = None,
) -> None:
    """Do what `nuwatch replay` says."""
    check_labels(labels_file, label_column)
    if journal is not None and decisions is not None:
        raise UsageError("--journal and --decisions: expected one of them; a journal has the decisions")
    configuration = read(config)
    entries = read_journal(journal) if journal is not None else {}
    if entries:
        configuration, models = _journalled_start(configuration, entries)
    else:
        models = load_models(configuration)
    settings = recordings(configuration, files)
    known = labels_of(configuration, settings, labels_file, label_column)
    with connector_errors():
        done = replay(
            make_source(configuration, settings),
            pipeline_factory(configuration, models, topic_name(configuration), replay=True),
            {name: model.bundle_id for name, model in models.items()},
            commands=_commands(decisions, entries),
            journalled=_journalled(configuration, models, entries) if entries else None,
            pace=_paced(speed) if speed else None,
        )
    _write(done, alerts, Channel.ALERTS)
    _write(done, dead_letters, Channel.DEAD_LETTER)
    _tell(configuration, models, done, known, report, json_file)


def _commands(decisions: Path | None, entries: Mapping[int, Sequence[Entry]]) -> Commands | None:
    if decisions is not None:
        return TimedDecisions(read_decisions(decisions))
    return ExportedJournal(entries) if entries else None


def _journalled_start(
    configuration: Configuration, entries: Mapping[int, Sequence[Entry]]
) -> tuple[Configuration, dict[str, Model]]:
    """What was in force when the daemon began, with the source of today's configuration.

    Raises:
        ConfigurationError: the journal does not say, or a bundle is not to be had.
    """
    first = min((entry for its in entries.values() for entry in its[:1]), key=lambda entry: entry.position)
    change = command_of(first)
    if not isinstance(change, Change):
        raise ConfigurationError(
            "the journal begins with a decision, expected the configuration that was in force; hint: it was begun by "
            "an earlier version; replay with --decisions"
        )
    models = _generations(configuration).models(change)
    then = parse(change.text, configuration.path)
    recorded = msgspec.structs.replace(
        then.settings, source=configuration.settings.source, recordings=configuration.settings.recordings
    )
    return then._replace(settings=recorded), models


def _generations(configuration: Configuration) -> Generations:
    folder = configuration.folder / configuration.settings.state.directory
    return Generations(configuration, Shelf({}, folder), replay=True)


def _journalled(
    configuration: Configuration, models: Mapping[str, Model], entries: Mapping[int, Sequence[Entry]]
) -> Journalled:
    change = generation_of(configuration, models, replay=True).change
    begun = {partition: its[0].position for partition, its in entries.items()}
    return Journalled(change, _generations(configuration), begun)


def _paced(speed: float) -> Callable[[Step], None]:
    """Waits until a step's event time is due."""
    first: list[float] = []

    def pace(step: Step) -> None:
        at = newest(step) / NS_PER_S
        if not at:
            return
        if not first:
            first.extend((at, time.monotonic()))
        time.sleep(max(0.0, first[1] + (at - first[0]) / speed - time.monotonic()))

    return pace


def _write(done: Replayed, path: Path | None, channel: Channel) -> None:
    if path is not None:
        lines = [record.value or b"" for record in done.records if record.channel is channel]
        path.write_bytes(b"".join(line + b"\n" for line in lines))


def _tell(
    configuration: Configuration,
    models: Mapping[str, Model],
    done: Replayed,
    known: Labels,
    report: Path | None,
    json_file: Path | None,
) -> None:
    incidents = done.incidents
    console = Console()
    evaluations = {
        name: evaluate(trace, incidents, known, nu=models[name].nu) for name, trace in done.traces.items()
    }
    for evaluation in evaluations.values():
        console.print(text_table(evaluation))
    for incident in incidents:
        console.print(_line(incident), soft_wrap=True, highlight=False, markup=False)
    rejected = sum(record.channel is Channel.DEAD_LETTER for record in done.records)
    console.print(f"{done.records_read} records, {len(incidents)} incidents, {rejected} dead letters")
    if json_file is not None:
        body = {name: msgspec.to_builtins(e) for name, e in evaluations.items()}
        counts = dict(sorted(done.counts.items()))
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode({"classes": body, "counts": counts})))
    if report is not None:
        traces = list(done.traces.values())
        page = replay_report(
            traces, incidents, known, list(evaluations.values()), _meta(configuration, models, done)
        )
        report.write_text(page, encoding="utf-8")
        click.echo(f"report: {report}", err=True)


def _meta(configuration: Configuration, models: Mapping[str, Model], done: Replayed) -> ReplayMeta:
    settings = configuration.settings
    facts = {
        "site": settings.site,
        "configuration": configuration.path.name,
        "records": f"{done.records_read:,}",
        "nuwatch": __version__,
    } | {f"bundle of {name}": model.bundle_id[:16] for name, model in models.items()}
    units = {
        name: sensor.unit
        for asset_class in settings.asset_classes.values()
        for name, sensor in asset_class.sensors.items()
    }
    warnings = [
        f"{name}: the threshold is UNCALIBRATED: the asked false-alarm rate is a guess"
        for name, model in models.items()
        if model.bundle.fields["calibration"]["label"] == "UNCALIBRATED"
    ]
    spans = {name: -(-c.window.length // c.window.stride) for name, c in settings.asset_classes.items()}
    return ReplayMeta(f"Replay: {settings.site}", facts, units, warnings, spans)


def _line(incident: Incident) -> str:
    end = "still open"
    if incident.cleared_ns is not None:
        end = f"cleared after {duration_text(incident.cleared_ns - incident.start_ns)}"
    return f"  {incident.kind:<12} {incident.message}; {end}"
