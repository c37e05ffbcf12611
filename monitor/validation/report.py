"""Checks on request, and what was seen online as lines for a person or data for a program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monitor.quantities import NS_PER_S
from monitor.validation.finding import Finding
from monitor.validation.online import Seen, look
from monitor.validation.survey import Survey
from monitor.validation.whole import check


def inspect(file: Path, online: bool, count: int) -> tuple[tuple[Finding, ...], Seen | None]:
    """Check a file and, where it can be read, the outside.

    Args:
        file: the configuration.
        online: whether to ask the outside.
        count: records to look at.
    """
    checked = check(file)
    if not online or checked.settings is None:
        return tuple(checked.findings.sorted()), None
    seen = look(checked.settings, checked.connections, checked.findings, count)
    return tuple(checked.findings.sorted()), seen


def lines_of(seen: Seen) -> Iterator[str]:
    """What was seen, for a person."""
    for topic in seen.topics:
        records = "" if topic.records is None else f", {topic.records} records"
        if topic.partitions:
            yield f"topic   {topic.name}: {topic.partitions} partitions{records}"
    for section, sample in seen.sample.items():
        yield from _lines_of_sample(section, sample)


def _lines_of_sample(section: str, sample: Survey) -> Iterator[str]:
    rejected = sum(refusal.records for refusal in sample.rejected.values())
    yield f"sample  {section}: {sample.records} records, {rejected} rejections"
    for asset, rows in sample.assets.items():
        period = f", every {rows.period_ns / NS_PER_S:g}s" if rows.period_ns else ""
        readings = ", ".join(f"{sensor} {count}" for sensor, count in rows.readings.items())
        yield f"  {asset} ({rows.asset_class}): {rows.rows} rows{period}; readings: {readings}"


def as_data(seen: Seen) -> dict[str, Any]:
    """What was seen, for a program."""
    return {
        "reached": seen.reached,
        "topics": [topic._asdict() for topic in seen.topics],
        "sample": {section: _sample_as_data(sample) for section, sample in seen.sample.items()},
    }


def _sample_as_data(sample: Survey) -> dict[str, Any]:
    return {
        "records": sample.records,
        "assets": {
            asset: {
                "class": rows.asset_class,
                "rows": rows.rows,
                "period_s": rows.period_ns / NS_PER_S if rows.period_ns else None,
                "readings": rows.readings,
            }
            for asset, rows in sample.assets.items()
        },
        "rejected": {reason: refusal._asdict() for reason, refusal in sample.rejected.items()},
        "out_of_range": [
            {"class": name, "sensor": sensor, **beyond._asdict()}
            for (name, sensor), beyond in sample.out_of_range.items()
        ],
    }
