"""What the demo ends with: planted against found, and the files that it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from monitor.comparison import Comparison, Outcome
from monitor.demo.performance import Performance
from monitor.errors import StateError
from monitor.incident_log import Incident
from monitor.labels import Interval, Labels, from_intervals
from monitor.quantities import Instant
from monitor.report.markup import duration
from monitor.settings import AssetClass
from monitor.trace import Trace


def closing_table(comparison: Comparison) -> RenderableType:
    """Planted against found in 80 columns, the sum of it, and every false incident."""
    table = Table(title="Planted and found", title_justify="left", title_style="bold", pad_edge=False)
    for heading in ("reactor", "planted", "from", "verdict", "after", "first incident"):
        table.add_column(heading, justify="right" if heading == "after" else "left")
    for outcome in comparison.outcomes:
        table.add_row(
            outcome.asset.rpartition("/")[2],
            outcome.name,
            _minute(outcome.start),
            _verdict(outcome),
            duration(outcome.delay_s) if outcome.found else "",
            f"{outcome.kind} {outcome.subject or outcome.sensor}".strip(),
        )
    false = [
        Text(f"  {_minute(f.raised)} {f.kind} {f.message}", style="yellow")
        for f in comparison.false_incidents
    ]
    return Group(table, Text(summary(comparison), style="bold"), *false)


def summary(comparison: Comparison) -> str:
    """The sum in one line."""
    quiet = comparison.benign - comparison.disturbed
    return (
        f"{comparison.found} of {comparison.faults} faults found, median delay "
        f"{duration(comparison.median_delay_s)}; {quiet} of {comparison.benign} benign changes left alone; "
        f"false incidents: {len(comparison.false_incidents)}"
    )


def _verdict(outcome: Outcome) -> Text:
    if outcome.benign:
        return Text("disturbed", "red") if outcome.found else Text("benign, quiet", "green")
    if outcome.found:
        return Text("found", "green")
    return Text("was open before" if outcome.open_before else "missed", "red")


def _minute(time: str) -> str:
    return datetime.fromtimestamp(Instant.parse(time) // 10**9, UTC).strftime("%m-%d %H:%M")


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
    from monitor.evaluation import evaluate  # scikit-learn takes a second to import
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
