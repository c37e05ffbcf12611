"""`nuwatch run`: the daemon."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

from connectors.ports import Start
from monitor.cli.common import connector_errors, load_models, pipeline_factory, start_logging
from monitor.cli.jobs.shared import shared_engine
from monitor.configuration import Configuration, read
from monitor.connect import make_sink, make_source, topic_name
from monitor.daemon import Daemon, Stop
from monitor.durable.checkpoint import SqliteCheckpoint
from monitor.engine import Engine
from monitor.errors import UsageError
from monitor.journal import FolderInbox, JournalledCommands
from monitor.model import Model
from monitor.quantities import Instant
from monitor.warm_up import warm_up_ns


def run_command(config: Path, start: str | None, verbose: bool) -> None:
    """Do what `nuwatch run` says."""
    log = start_logging(verbose)
    configuration = read(config)
    begin = _start(
        start or ("latest" if configuration.settings.source.get("kind") == "kafka" else "earliest")
    )
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.ask)
    models = load_models(configuration)
    state = configuration.settings.state
    with connector_errors():
        if state.changelog is not None:
            engine = shared_engine(configuration, models, state.changelog, log)
        else:
            engine = _engine(configuration, models)
        recompiles = lambda: sum(model.program.recompiles for model in models.values())  # noqa: E731 - one use
        Daemon(engine, state, stop, log, recompiles).run(begin)


def _engine(configuration: Configuration, models: Mapping[str, Model]) -> Engine:
    """The only daemon of its input, with a state folder."""
    state = configuration.settings.state
    folder = configuration.folder / state.directory
    checkpoint = SqliteCheckpoint(folder, make_sink(configuration), state.drain.seconds)
    return Engine(
        make_source(configuration),
        checkpoint,
        pipeline_factory(configuration, models, topic_name(configuration), replay=False),
        {name: model.bundle_id for name, model in models.items()},
        JournalledCommands([FolderInbox(folder)], checkpoint.journal),
        warm_up_ns(configuration.settings),
    )


def _start(text: str) -> Start:
    if text == "earliest":
        return "earliest"
    if text == "latest":
        return "latest"
    try:
        return int(Instant.parse(text))
    except ValueError as error:
        raise UsageError(f"--start: expected earliest, latest or a time: {error}") from None
