"""What the demo ends with: planted against found, and the files that it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from monitor.demo.performance import Performance
from monitor.errors import StateError
from monitor.evaluation.comparison import Comparison, FalseIncident, Outcome
from monitor.evaluation.incident_log import Incident
from monitor.evaluation.labels import Interval, Labels, from_intervals
from monitor.quantities import NS_PER_S, Instant
from monitor.report.markup import duration
from monitor.settings import AssetClass
from monitor.trace import Trace

_COLUMNS: Final = (("reactor", 5), ("planted", 20), ("from", 9), ("found after", 13), ("points to", 18))


def closing_table(comparison: Comparison) -> RenderableType:
    """Planted against found within 80 columns, the sum of it, and every false incident."""
    table = Table(
        title="Planted and found",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for heading, least in _COLUMNS:
        table.add_column(heading, no_wrap=True, min_width=least)
    for outcome in comparison.outcomes:
        table.add_row(
            outcome.asset.rpartition("/")[2],
            outcome.name,
            _minute(outcome.start),
            _verdict(outcome),
            _points_to(outcome),
        )
    return Group(table, Text(summary(comparison), style="bold"), *map(_false, comparison.false_incidents))


def _points_to(outcome: Outcome) -> str:
    return f"sensor {outcome.subject}" if outcome.subject else outcome.sensor


def _false(incident: FalseIncident) -> Text:
    what, _, why = incident.message.partition(", since ")
    why = why.partition("; ")[2]
    words = f"  false: {_minute(incident.raised)} {what}" + (f"; {why}" if why else "")
    return Text(words, style="yellow", no_wrap=True, overflow="ellipsis")


def summary(comparison: Comparison) -> str:
    """The sum in two lines."""
    quiet = comparison.benign - comparison.disturbed
    return (
        f"{comparison.found} of {comparison.faults} faults found, "
        f"median delay {duration(comparison.median_delay_s)}, "
        f"{quiet} of {comparison.benign} benign changes left alone\n"
        f"false incidents: {len(comparison.false_incidents)}"
    )


def _verdict(outcome: Outcome) -> Text:
    if outcome.benign:
        return Text("disturbed", "red") if outcome.found else Text("quiet: benign", "green")
    if outcome.delay_s is not None:
        return Text(duration(60 * max(1, round(outcome.delay_s / 60))), "green")
    return Text("was open" if outcome.open_before else "missed", "red")


def _minute(time: str) -> str:
    return datetime.fromtimestamp(Instant.parse(time) // NS_PER_S, UTC).strftime("%a %H:%M")


def labels_of(performance: Performance) -> Labels:
    """The planted faults as labels; every reactor is labelled."""
    rows: list[tuple[str, Interval | None]] = [(asset, None) for asset in performance.live.assets]
    rows += [(p.asset, Interval(p.start_ns, p.end_ns, p.name)) for p in performance.planted if not p.benign]
    return from_intervals(rows)


def write_alerts(folder: Path, alerts: Sequence[Mapping[str, Any]]) -> Path:
    """The alerts as JSON Lines.

    Raises:
        StateError: the file cannot be written.
    """
    lines = b"".join(msgspec.json.encode(alert) + b"\n" for alert in alerts)
    return _written(folder / "alerts.jsonl", lines)


def write_report(
    folder: Path,
    trace: Trace,
    incidents: Sequence[Incident],
    performance: Performance,
    asset_class: AssetClass,
    facts: Mapping[str, str],
) -> Path:
    """The replay report of the live part, as one page.

    Raises:
        StateError: the file cannot be written.
    """
    from monitor.evaluation.evaluate import evaluate  # scikit-learn takes a second to import
    from monitor.report import ReplayMeta, replay_report

    labels = labels_of(performance)
    evaluation = evaluate(trace, incidents, labels, nu=asset_class.calibration.nu)
    units = {name: sensor.unit for name, sensor in asset_class.sensors.items()}
    meta = ReplayMeta("nuwatch demo", facts, units)
    page = replay_report([trace], incidents, labels, [evaluation], meta)
    return _written(folder / "report.html", page.encode())


def write_text(path: Path, text: str) -> Path:
    """A text file in a folder that is made if need be.

    Raises:
        StateError: it cannot be written.
    """
    return _written(path, text.encode())


def _written(path: Path, data: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror}") from error
    return path
