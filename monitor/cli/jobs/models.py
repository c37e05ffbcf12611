"""`nuwatch models compare`: scorers side by side on one asset class's data."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import numpy as np
import yaml
from msgspec.structs import replace
from rich.console import Console
from rich.progress import Progress, TaskID

from connectors.records import Batch
from models.registry import UnknownScorerError, get_scorer, scorer_names
from models.scorer import FitRefused
from monitor.cli.bars import bars
from monitor.cli.common import connector_errors, pipeline_factory
from monitor.cli.history import history
from monitor.cli.labelling import check_labels, labels_of
from monitor.configuration import Configuration, read
from monitor.connect import make_source, recordings, topic_name
from monitor.errors import BrokerError, StateError, UsageError
from monitor.evaluation.detection import Detection, detection
from monitor.evaluation.labels import Label, Labels
from monitor.model import Model
from monitor.replay import replay
from monitor.report.contest import contest_text
from monitor.settings import AssetClass
from monitor.thresholds.threshold import ThresholdRefused
from monitor.training import TrainingProgress, TrainingRefused, configuration_hash, train
from monitor.training.contest import Contest, Contestant, contest
from monitor.training.history import collect

Times = dict[str, int]
"""By asset, ns since the epoch."""


class Asked(NamedTuple):
    """The command's options."""

    config: Path
    files: tuple[Path, ...]
    scorers: tuple[str, ...]
    only: str | None
    tries: int
    settings: Path | None
    labels_file: Path | None
    label_column: str | None
    tests: tuple[Path, ...]
    learn: float
    as_json: bool


def compare_command(asked: Asked) -> int:
    """Do what `nuwatch models compare` says; 1 where no scorer can be used."""
    name, found = compared(asked)
    if asked.as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        click.echo("\n".join(contest_text(found)))
    if asked.settings is not None:
        _write(asked.settings, snippet(name, found))
    return 0 if any(one.quality is not None for one in found.contestants) else 1


def compared(asked: Asked) -> tuple[str, Contest]:
    """The asset class that was looked at, and what its scorers do.

    Raises:
        UsageError: the options do not go together.
        TrainingRefused: the history is too short.
    """
    check_labels(asked.labels_file, asked.label_column)
    whole = read(asked.config)
    configuration, name = alone(whole, asked.only)
    asset_class = configuration.settings.asset_classes[name]
    scorers = _scorers(asset_class, asked.scorers)
    trial = _trial(whole, configuration, name, asked)
    return name, _contest(asset_class, name, scorers, trial, asked.tries)


def alone(configuration: Configuration, only: str | None) -> tuple[Configuration, str]:
    """The configuration with one asset class.

    Raises:
        UsageError: there are several, or none of this name.
    """
    classes = configuration.settings.asset_classes
    if only is None and len(classes) > 1:
        raise UsageError(f"--class: expected one of {', '.join(classes)}")
    name = only or next(iter(classes))
    if name not in classes:
        raise UsageError(f"--class: got {name!r}, expected one of {', '.join(classes)}")
    settings = replace(configuration.settings, asset_classes={name: classes[name]})
    return configuration._replace(settings=settings), name


def _scorers(asset_class: AssetClass, asked: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Hyperparameters by name: those that the configuration sets, else the defaults."""
    known = {**asset_class.scoring.auto.candidates, **asset_class.scoring.named}
    for name in asked:
        try:
            get_scorer(name)
        except UnknownScorerError as error:
            raise UsageError(f"--scorer: {error}") from None
    return {name: known.get(name, {}) for name in dict.fromkeys(asked or scorer_names())}


class _Trial(NamedTuple):
    """What is learnt from, and what is judged.

    Attributes:
        configuration: with one asset class.
        learn: known-good history.
        judged: files to judge; none without labels.
        labels: of them.
        judged_from: by asset, before which nothing is judged.
    """

    configuration: Configuration
    learn: list[Batch]
    judged: tuple[Path, ...] | None
    labels: Labels
    judged_from: Times


def _trial(whole: Configuration, configuration: Configuration, name: str, asked: Asked) -> _Trial:
    batches = [batch for batch in history(whole, asked.files) if batch.asset_class == name]
    labelled = asked.labels_file is not None or asked.label_column is not None
    if asked.tests and not labelled:
        raise UsageError("--test: expected --labels or --label-column beside it")
    judged = asked.tests or asked.files
    labels = labels_of(
        configuration, recordings(configuration, judged), asked.labels_file, asked.label_column
    )
    if asked.tests:
        _refuse_faults(configuration, asked, batches, labels)
    if not labelled or asked.tests:
        return _Trial(configuration, batches, asked.tests if labelled else None, labels, {})
    cuts = _cuts(batches, labels, asked.learn)
    return _Trial(configuration, list(_before(batches, cuts)), judged, labels, cuts)


def _refuse_faults(
    configuration: Configuration, asked: Asked, batches: Sequence[Batch], labels: Labels
) -> None:
    """Refuse a history that holds what is judged: a shell that expands the pattern of --test gives it away.

    Raises:
        UsageError: a reading of the history lies in a labelled fault.
    """
    if asked.label_column is not None:
        try:
            settings = recordings(configuration, asked.files)
            labels = labels_of(configuration, settings, None, asked.label_column)
        except BrokerError:  # the history need not have the column
            return
    for batch in batches:
        for number, asset in enumerate(batch.assets):
            codes = labels.of(asset, np.sort(batch.time[batch.asset == number]))
            if (codes == Label.ANOMALOUS).any():
                raise UsageError(
                    f"the history holds a labelled fault of {asset!r}, expected known-good recordings; "
                    "hint: quote the pattern of --test"
                )


def _cuts(batches: Sequence[Batch], labels: Labels, share: float) -> Times:
    """Until when each asset's record is learnt from: a share of it, not beyond its first labelled fault."""
    first: Times = {}
    last: Times = {}
    for batch in batches:
        for number, asset in enumerate(batch.assets):
            times = batch.time[batch.asset == number]
            if len(times):
                first[asset] = min(first.get(asset, int(times.min())), int(times.min()))
                last[asset] = max(last.get(asset, int(times.max())), int(times.max()))
    cuts = {asset: round(first[asset] + share * (last[asset] - first[asset])) for asset in first}
    return {
        asset: min([cut, *(fault.start_ns for fault in labels.faults_of(asset))])
        for asset, cut in cuts.items()
    }


def _before(batches: Sequence[Batch], cuts: Times) -> Iterator[Batch]:
    columns = ("asset", "time", "values", "quality", "context", "offset")
    for batch in batches:
        kept = batch.time < np.array([cuts.get(asset, 0) for asset in batch.assets])[batch.asset]
        yield batch._replace(**{name: getattr(batch, name)[kept] for name in columns})


def _contest(
    asset_class: AssetClass, name: str, scorers: Mapping[str, Mapping[str, Any]], trial: _Trial, tries: int
) -> Contest:
    with bars(Console(stderr=True)) as progress:
        shown: list[_Bar] = []

        def judge(one: Contestant, told: TrainingProgress) -> Contestant:
            return _judged(asset_class, name, one, trial, told)

        def told(scorer: str) -> TrainingProgress:
            for bar in shown[-1:]:
                bar.finish()
            shown.append(_Bar(progress, scorer))
            return shown[-1]

        try:
            found = contest(
                asset_class,
                collect(asset_class, trial.learn),
                scorers,
                tries=tries,
                told=told,
                judge=None if trial.judged is None else judge,
            )
            shown[-1].finish()
            return found
        except (FitRefused, ThresholdRefused) as error:
            raise TrainingRefused(f"asset class {name!r}: {error}") from error


class _Bar(TrainingProgress):
    """One scorer's stages as one bar."""

    def __init__(self, progress: Progress, scorer: str) -> None:
        self._progress = progress
        self._task: TaskID = progress.add_task(scorer, total=None, figures="")

    def stage(self, name: str) -> None:
        """See `TrainingProgress`."""
        self._progress.update(self._task, total=None, completed=0, figures=name.removeprefix("auto: "))

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        """See `TrainingProgress`."""
        del values
        self._progress.update(self._task, total=total, completed=done)

    def finish(self) -> None:
        """See `TrainingProgress`."""
        self._progress.update(self._task, total=1, completed=1, figures="done")


def _judged(
    asset_class: AssetClass, name: str, one: Contestant, trial: _Trial, told: TrainingProgress
) -> Contestant:
    """Trained and replayed as if it stood alone in the configuration."""
    scoring = replace(asset_class.scoring, scorers={one.scorer: dict(one.options)})
    alone = replace(asset_class, scoring=scoring)
    began = time.perf_counter()
    try:
        trained = train(
            alone, name, trial.learn, config_hash=configuration_hash(trial.configuration.text), progress=told
        )
    except TrainingRefused as refused:
        return replace(one, refused=str(refused))
    seconds = time.perf_counter() - began
    told.stage("replaying")
    model = Model(trained.bundle, alone)
    settings = replace(trial.configuration.settings, asset_classes={name: alone})
    figures = _replayed(trial, trial.configuration._replace(settings=settings), name, model)
    return replace(one, detection=figures, trained_seconds=seconds)


def _replayed(trial: _Trial, configuration: Configuration, name: str, model: Model) -> Detection | None:
    with connector_errors():
        done = replay(
            make_source(configuration, recordings(configuration, trial.judged or ())),
            pipeline_factory(configuration, {name: model}, topic_name(configuration), replay=True),
            {name: model.bundle_id},
        )
    trace = done.traces.get(name)
    return None if trace is None else detection(trace, trial.labels, trial.judged_from)


def snippet(name: str, found: Contest) -> str:
    """The contestants' settings as YAML for the configuration: one by name, several for `auto` to choose from."""
    usable = {one.scorer: dict(one.options) for one in found.contestants if one.quality is not None}
    scoring: dict[str, Any] = {"scorers": usable}
    if len(usable) > 1:
        scoring = {"scorers": "auto", "auto": {"candidates": usable}}
    tuned = [one.tuned for one in found.contestants if one.tuned is not None]
    how = f", tuned on held-out normal data alone, seed {found.seed}" if tuned else ""
    body = yaml.safe_dump({"asset_classes": {name: {"scoring": scoring}}}, sort_keys=False, width=110)
    return f"# by nuwatch models compare{how}\n{body}"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror}") from error
    click.echo(f"written: {path}", err=True)
