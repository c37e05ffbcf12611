"""`nuwatch demo`: simulate, train, watch, compare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from connectors.kafka import KafkaSinkSettings, check_broker
from monitor.bundles import write_bundle
from monitor.checkpoint import MemoryCheckpoint
from monitor.cli.bars import Bars, bars
from monitor.cli.common import connector_errors, load_models, pipeline_factory
from monitor.configuration import Configuration, read
from monitor.connect import layout_of
from monitor.data_files import example
from monitor.demo.board import board_of
from monitor.demo.broker import BrokerFeed
from monitor.demo.closing import closing_table, summary, write_alerts, write_report, write_text
from monitor.demo.feed import Feed, MemoryFeed
from monitor.demo.live import Pace, watch
from monitor.demo.performance import HISTORY_DAYS, LIVE_DAYS, Performance, perform
from monitor.demo.view import shown
from monitor.engine import Engine
from monitor.errors import BrokerError
from monitor.evaluation.comparison import Comparison, compare
from monitor.evaluation.incident_log import incidents_from_alerts
from monitor.plant import to_batches
from monitor.trace import Trace, joined
from monitor.training import Trained, configuration_hash, train

EXAMPLE: Final = "polymer_plant.yaml"
ASSET_CLASS: Final = "poly"
LIVE_SECONDS: Final = 30.0
ROWS: Final = 60
"""Rows of the plant per portion: ten minutes of its time."""
_PLAN = """\
{history:.0f} normal days of a simulated plant (4 batch reactors) teach two networks.
Then {live:.1f} days pass before your eyes, with 5 planted faults and 1 grade change."""


def demo_command(seed: int, server: str | None, fast: bool, out: Path) -> None:
    """Do what `nuwatch demo` says.

    Raises:
        BrokerError: ``server`` does not answer, or refuses.
        StateError: ``out`` cannot be written.
    """
    console = Console()
    console.print(_PLAN.format(history=HISTORY_DAYS, live=LIVE_DAYS), highlight=False, soft_wrap=True)
    with connector_errors():
        _demo(console, seed, server, fast, out)


def _demo(console: Console, seed: int, server: str | None, fast: bool, out: Path) -> None:
    configuration = _configuration(out)
    if server is not None:
        _expect_broker(server)
    with console.status("simulating the plant"):
        performance = perform(seed)
    trained = _train(console, configuration, performance)
    feed = _feed(configuration, performance, server)
    try:
        trace = _watch(console, configuration, performance, feed, fast)
        alerts = feed.alerts()
    finally:
        feed.close()
    _close(console, configuration, performance, trained, trace, alerts, feed.where)


def _configuration(out: Path) -> Configuration:
    return read(write_text(out / EXAMPLE, example(EXAMPLE)))


def _expect_broker(server: str) -> None:
    """Better now than after the training."""
    settings = KafkaSinkSettings(bootstrap_servers=(server,), connect_seconds=5.0, create_topics=True)
    problems = check_broker(settings).problems
    if problems:
        raise BrokerError(f"--kafka {server}: {problems[0]}")


def _train(console: Console, configuration: Configuration, performance: Performance) -> Trained:
    digest = configuration_hash(configuration.path.read_text(encoding="utf-8"))
    settings = configuration.settings.asset_classes[ASSET_CLASS]
    with bars(console) as progress:
        batches = to_batches(performance.history, ASSET_CLASS)
        told = Bars(progress)
        trained = train(settings, ASSET_CLASS, batches, config_hash=digest, progress=told)
        told.finish()
    write_bundle(trained.bundle, configuration.bundle_path(ASSET_CLASS))
    e = trained.estimate
    console.print(
        f"{e.label}: limit at nu = {e.nu:g} from {e.n:,} held-out windows ({e.n_eff:,.0f} independent)",
        highlight=False,
        soft_wrap=True,
    )
    for warning in trained.warnings:
        console.print(f"warning: {warning}", style="yellow", highlight=False)
    return trained


def _feed(configuration: Configuration, performance: Performance, server: str | None) -> Feed:
    if server is None:
        return MemoryFeed(performance.live, ASSET_CLASS, ROWS)
    return BrokerFeed(server, performance.live, layout_of(configuration.settings), ROWS)


def _watch(
    console: Console, configuration: Configuration, performance: Performance, feed: Feed, fast: bool
) -> Trace:
    models = load_models(configuration)
    engine = Engine(
        feed.source,
        MemoryCheckpoint(feed.sink),
        pipeline_factory(configuration, models, feed.topic, replay=False),
        {name: model.bundle_id for name, model in models.items()},
    )
    board = board_of(performance)
    pace = None if fast else Pace(board.seconds / LIVE_SECONDS)
    traces: list[Trace] = []
    with shown(board, console) as show:
        for portion in watch(engine, feed, performance.live, ROWS, pace):
            traces += [trace for step in portion.steps for trace in step.outcome.traces]
            show.update(board.take(portion))
    return joined(traces)


def _close(
    console: Console,
    configuration: Configuration,
    performance: Performance,
    trained: Trained,
    trace: Trace,
    alerts: list[dict[str, Any]],
    where: str,
) -> None:
    incidents = incidents_from_alerts(alerts)
    comparison = compare(performance.planted, incidents)
    folder = configuration.folder
    settings = configuration.settings.asset_classes[ASSET_CLASS]
    files = [
        write_alerts(folder, alerts),
        write_report(folder, trace, incidents, performance, settings, _facts(trained, comparison)),
    ]
    console.print()
    console.print(closing_table(comparison))
    console.print(f"\n{len(alerts)} alerts, read back from {where}", highlight=False, soft_wrap=True)
    for path in (*files, configuration.path, configuration.bundle_path(ASSET_CLASS)):
        console.print(f"  {path}", highlight=False, soft_wrap=True)


def _facts(trained: Trained, comparison: Comparison) -> Mapping[str, str]:
    return {
        "plant": "simulated polymerisation reactors",
        "bundle": trained.bundle.id[:12],
        "planted and found": summary(comparison),
    }
