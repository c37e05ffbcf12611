"""`nuwatch run`: the daemon."""

from __future__ import annotations

import signal
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from connectors.ports import CommandTopic, Sink, Source, Start
from monitor import __version__
from monitor.activity import Activity
from monitor.alerting.alerts import Origin
from monitor.checkpoint import Checkpoint
from monitor.cli.common import connector_errors, load_models, pipeline_factory, start_logging
from monitor.cli.jobs.reload import Generations, Reloader, Shelf, generation_of
from monitor.cli.jobs.shared import shared_engine
from monitor.configuration import Configuration, read
from monitor.connect import make_control, make_sink, make_source, topic_name
from monitor.control import ControlTopic
from monitor.daemon import ACKNOWLEDGE_S, Daemon, Stop
from monitor.durable.checkpoint import SqliteCheckpoint
from monitor.engine import Engine
from monitor.errors import NuwatchError, UsageError
from monitor.health.server import Pages, PageServer, check_host
from monitor.health.vitals import Vitals
from monitor.health.watch import Watch
from monitor.health.watchdog import Watchdog
from monitor.journal import FolderInbox, Inbox, JournalledCommands
from monitor.model import Model
from monitor.quantities import Instant
from monitor.settings import Http
from monitor.warm_up import warm_up_ns


class Parts:
    """What a daemon with a state folder is put together from; the fault suite puts its own between them."""

    def source(self, configuration: Configuration) -> Source:
        """Where readings come from."""
        return make_source(configuration)

    def sink(self, configuration: Configuration) -> Sink:
        """Where events go."""
        return make_sink(configuration)

    def control(self, configuration: Configuration) -> CommandTopic | None:
        """Where commands come from, beside the state folder."""
        return make_control(configuration)

    def checkpoint(self, folder: Path, sink: Sink, timeout: float) -> Checkpoint:
        """State on disk."""
        return SqliteCheckpoint(folder, sink, timeout)

    def engine(self, engine: Engine) -> Engine:
        """All of it together."""
        return engine


def run_command(config: Path, start: str | None, verbose: bool, parts: Parts | None = None) -> None:
    """Do what `nuwatch run` says."""
    log = start_logging(verbose)
    try:
        _run(read(config), start, log, parts or Parts())
    except NuwatchError as error:
        log.error("failed", exit_code=error.exit_code, error=str(error))
        raise


def _run(configuration: Configuration, start: str | None, log: Any, parts: Parts) -> None:
    settings = configuration.settings
    begin = _start(start or ("latest" if settings.source.get("kind") == "kafka" else "earliest"))
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.ask)
    folder = configuration.folder / settings.state.directory
    shelf: list[Shelf] = []
    origin = Origin(topic_name(configuration), 0, 0, False, __version__)
    activity = Activity()
    vitals = Vitals(settings.health, activity, lambda: stop.asked)
    watch = Watch(
        settings,
        vitals,
        log,
        lambda: sum(each.recompiles for each in shelf),
        origin,
    )
    watchdog = Watchdog(vitals, settings.health.stuck.seconds, log)
    with _pages(settings.health.http, Pages(vitals, watch.metrics.registry), log):
        models = load_models(configuration)
        shelf.append(Shelf(models, folder))
        with connector_errors(), _control(configuration, origin, parts, log) as control:
            reloader = Reloader(configuration, shelf[0], log, control)
            signal.signal(signal.SIGHUP, reloader.ask)
            watchdog.start()
            try:
                engine = _engine(configuration, models, activity, log, parts, control)
                _in_force(engine, configuration, models, shelf[0], control)
                Daemon(parts.engine(engine), settings.state, stop, log, watch, reloader).run(begin)
            finally:
                watchdog.stop()


@contextmanager
def _control(
    configuration: Configuration, origin: Origin, parts: Parts, log: Any
) -> Generator[ControlTopic | None]:
    """The control topic while the daemon runs, where one is configured."""
    topic, settings = parts.control(configuration), configuration.settings
    if topic is None:
        yield None
        return
    assets = [pattern for each in settings.asset_classes.values() for pattern in each.assets]
    name = str(settings.control.topic)
    control = ControlTopic(topic, name, assets, f"/nuwatch/{settings.site}", origin, settings.max_record, log)
    try:
        yield control
    finally:
        control.close()


def _in_force(
    engine: Engine,
    configuration: Configuration,
    models: Mapping[str, Model],
    shelf: Shelf,
    control: ControlTopic | None,
) -> None:
    """Say what the engine begins with, and where what its journals name is to be had."""
    shelf.keep(models)
    change = generation_of(configuration, models, replay=False).change
    if control is None:
        engine.in_force(change)
    else:
        generations = Generations(configuration, shelf, replay=False)
        engine.in_force(change, generations, generations.stands)


def _engine(
    configuration: Configuration,
    models: Mapping[str, Model],
    activity: Activity,
    log: Any,
    parts: Parts,
    control: ControlTopic | None,
) -> Engine:
    """The only daemon of its input, with a state folder; or with a changelog one of several."""
    state = configuration.settings.state
    if state.changelog is not None:
        return shared_engine(configuration, models, state.changelog, log, activity, control)
    folder = configuration.folder / state.directory
    checkpoint = parts.checkpoint(folder, parts.sink(configuration), ACKNOWLEDGE_S)
    inboxes: list[Inbox] = [FolderInbox(folder, lambda why: log.error("command_refused", reason=why))]
    inboxes += [control] if control is not None else []
    return Engine(
        parts.source(configuration),
        checkpoint,
        pipeline_factory(configuration, models, topic_name(configuration), replay=False),
        {name: model.bundle_id for name, model in models.items()},
        JournalledCommands(inboxes, checkpoint.journal),
        warm_up_ns(configuration.settings),
        activity,
        control,
    )


@contextmanager
def _pages(settings: Http, pages: Pages, log: Any) -> Generator[None]:
    """The daemon's pages while it runs; without them it runs too."""
    if not settings.enabled:
        yield
        return
    check_host(settings)
    try:
        server = PageServer(settings, pages)
    except OSError as error:
        log.warning("pages_unavailable", host=settings.host, port=settings.port, error=str(error))
        yield
        return
    log.info("pages", address=server.address)
    try:
        yield
    finally:
        server.close()


def _start(text: str) -> Start:
    if text == "earliest":
        return "earliest"
    if text == "latest":
        return "latest"
    try:
        return int(Instant.parse(text))
    except ValueError as error:
        raise UsageError(f"--start: expected earliest, latest or a time: {error}") from None
