"""`nuwatch run`: the daemon."""

from __future__ import annotations

import signal
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from connectors.ports import Sink, Source, Start
from monitor import __version__
from monitor.activity import Activity
from monitor.alerting.alerts import Origin
from monitor.checkpoint import Checkpoint
from monitor.cli.common import connector_errors, load_models, pipeline_factory, start_logging
from monitor.cli.jobs.reload import Reloader, generation_of, keep_bundles
from monitor.cli.jobs.shared import shared_engine
from monitor.configuration import Configuration, read
from monitor.connect import make_sink, make_source, topic_name
from monitor.daemon import ACKNOWLEDGE_S, Daemon, Stop
from monitor.durable.checkpoint import SqliteCheckpoint
from monitor.engine import Engine
from monitor.errors import NuwatchError, UsageError
from monitor.health.server import Pages, PageServer, check_host
from monitor.health.vitals import Vitals
from monitor.health.watch import Watch
from monitor.health.watchdog import Watchdog
from monitor.journal import FolderInbox, JournalledCommands
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
    models: dict[str, Model] = {}
    activity = Activity()
    vitals = Vitals(settings.health, activity, lambda: stop.asked)
    watch = Watch(
        settings,
        vitals,
        log,
        lambda: sum(model.program.recompiles for model in models.values()),
        Origin(topic_name(configuration), 0, 0, False, __version__),
    )
    watchdog = Watchdog(vitals, settings.health.stuck.seconds, log)
    with _pages(settings.health.http, Pages(vitals, watch.metrics.registry), log):
        models |= load_models(configuration)
        folder = configuration.folder / settings.state.directory
        reloader = Reloader(configuration, models, folder, log)
        signal.signal(signal.SIGHUP, reloader.ask)
        watchdog.start()
        try:
            with connector_errors():
                engine = _engine(configuration, models, activity, log, parts)
                changes = None if settings.state.changelog else reloader
                Daemon(engine, settings.state, stop, log, watch, changes).run(begin)
        finally:
            watchdog.stop()


def _engine(
    configuration: Configuration, models: Mapping[str, Model], activity: Activity, log: Any, parts: Parts
) -> Engine:
    """The only daemon of its input, with a state folder; or with a changelog one of several."""
    state = configuration.settings.state
    if state.changelog is not None:
        return shared_engine(configuration, models, state.changelog, log, activity)
    folder = configuration.folder / state.directory
    checkpoint = parts.checkpoint(folder, parts.sink(configuration), ACKNOWLEDGE_S)
    engine = Engine(
        parts.source(configuration),
        checkpoint,
        pipeline_factory(configuration, models, topic_name(configuration), replay=False),
        {name: model.bundle_id for name, model in models.items()},
        JournalledCommands([FolderInbox(folder)], checkpoint.journal),
        warm_up_ns(configuration.settings),
        activity,
    )
    keep_bundles(folder, models)
    engine.in_force(generation_of(configuration, models, replay=False).change)
    return parts.engine(engine)


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
