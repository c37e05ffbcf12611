"""`nuwatch demo`: a simulated plant, trained on and watched in front of your eyes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from monitor.configuration import Configuration
    from monitor.demo.feed import Feed
    from monitor.demo.performance import Performance
    from monitor.evaluation.comparison import Comparison
    from monitor.trace import Trace
    from monitor.training import Trained

EXAMPLE = "polymer_plant.yaml"
ASSET_CLASS = "poly"
LIVE_SECONDS = 30.0
ROWS = 60
"""Rows of the plant per portion: ten minutes of its time."""


@click.command(
    "demo",
    epilog="""\b
Examples:
  nuwatch demo                            about a minute and a half, nothing else needed
  nuwatch demo --fast --seed 7            another plant, no waiting
  nuwatch demo --kafka localhost:9092     the same plant through a real broker, with topics of its own

The exit code is 0 whatever was found, and 69 if the broker does not answer.
""",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of the simulated plant."
)
@click.option(
    "--kafka", "server", metavar="HOST:PORT", help="Send the plant through this broker; topics are created."
)
@click.option("--fast", is_flag=True, help="As fast as it goes instead of paced for the eye.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out/demo"),
    show_default=True,
    help="Folder for the alerts, the report, the configuration and the bundle.",
)
def command(seed: int, server: str | None, fast: bool, out: Path) -> None:
    """Watch a simulated polymerisation plant: four batch reactors, five planted faults, one benign grade change.

    The plant is a simulation (reaction kinetics, jacket cooling, controllers, instrument noise); everything else is
    what runs on a real plant: training on known-good history, the pipeline, incidents and alerts. The monitor is
    not told what is planted. At the end a table compares planted with found, false incidents included.
    """
    from rich.console import Console

    from monitor.cli.common import connector_errors

    console = Console()
    console.print(
        "A simulated plant (4 batch reactors) runs normally for 8 days: two networks learn it.\n"
        "Then 1.5 more days pass before your eyes, with 5 planted faults and 1 grade change.",
        highlight=False,
        soft_wrap=True,
    )
    with connector_errors():
        _demo(console, seed, server, fast, out)


def _demo(console: Console, seed: int, server: str | None, fast: bool, out: Path) -> None:
    from monitor.demo.performance import perform

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
    from monitor.configuration import read
    from monitor.data_files import example
    from monitor.demo.closing import write_text

    return read(write_text(out / EXAMPLE, example(EXAMPLE)))


def _expect_broker(server: str) -> None:
    """Better now than after the training."""
    from connectors.kafka import KafkaSinkSettings, check_broker
    from monitor.errors import BrokerError

    settings = KafkaSinkSettings(bootstrap_servers=(server,), connect_seconds=5.0, create_topics=True)
    problems = check_broker(settings).problems
    if problems:
        raise BrokerError(f"--kafka {server}: {problems[0]}")


def _train(console: Console, configuration: Configuration, performance: Performance) -> Trained:
    from monitor.bundles import write_bundle
    from monitor.cli.bars import Bars, bars
    from monitor.plant import to_batches
    from monitor.training import configuration_hash, train

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
        from monitor.demo.feed import MemoryFeed

        return MemoryFeed(performance.live, ASSET_CLASS, ROWS)
    from monitor.connect import layout_of
    from monitor.demo.broker import BrokerFeed

    return BrokerFeed(server, performance.live, layout_of(configuration.settings), ROWS)


def _watch(
    console: Console, configuration: Configuration, performance: Performance, feed: Feed, fast: bool
) -> Trace:
    from monitor.checkpoint import MemoryCheckpoint
    from monitor.cli.common import load_models, pipeline_factory
    from monitor.demo.board import board_of
    from monitor.demo.live import Pace, watch
    from monitor.demo.view import shown
    from monitor.engine import Engine
    from monitor.trace import joined

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
    from monitor.demo.closing import closing_table, write_alerts, write_report
    from monitor.evaluation.comparison import compare
    from monitor.evaluation.incident_log import incidents_from_alerts

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
    from monitor.demo.closing import summary

    return {
        "plant": "simulated polymerisation reactors",
        "bundle": trained.bundle.id[:12],
        "planted and found": summary(comparison),
    }
