"""Batch by batch, what stood out: the alerts of a replay as a table.

Usage: python by_batch.py ALERTS.jsonl BATCHES.csv
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter, defaultdict
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

START = datetime.fromisoformat("2001-01-01T00:00:00+00:00")
"""Time of the first row, as nylon.yaml says."""


def main(alerts: Path, batches: Path) -> None:
    rows = rows_by_batch(batches)
    first = dict(zip(rows, accumulate(rows.values(), initial=0), strict=False))
    incidents = incidents_of(alerts)
    found: dict[str, list[list[dict[str, Any]]]] = defaultdict(list)
    for incident in incidents:
        found[incident[0]["batch"]["batch_id"]].append(incident)
    print(f"{'batch':>5} {'rows':>5}  {'minute':>7} {'phase':>5} {'worst ratio':>11}  furthest off, in sigma")
    for batch, length in rows.items():
        for incident in found[batch]:
            print(f"{batch:>5} {length:>5}  {line_of(incident, first[batch])}")
        if not found[batch]:
            print(f"{batch:>5} {length:>5}  {'quiet':>7}")
    loud = sum(1 for batch in rows if found[batch])
    print(f"{loud} of {len(rows)} batches stood out, {len(incidents)} incidents")


def rows_by_batch(path: Path) -> Counter[str]:
    """Rows of each batch, in the file's order."""
    with path.open(newline="") as file:
        return Counter(row["batch_id"] for row in csv.DictReader(file))


def incidents_of(path: Path) -> list[list[dict[str, Any]]]:
    """The alerts' data, by incident, in order of time; anomalies only."""
    incidents: dict[str, list[dict[str, Any]]] = {}
    for line in path.read_text().splitlines():
        data = json.loads(line)["data"]
        if data["kind"] == "ANOMALY":
            incidents.setdefault(data["incident_id"], []).append(data)
    return list(incidents.values())


def line_of(incident: list[dict[str, Any]], first_row: int) -> str:
    """One incident: when in the batch, how bad, and the sensors that were furthest off in any of its alerts."""
    raised = incident[0]
    minute = (datetime.fromisoformat(raised["started_at"]) - START).total_seconds() / 60 - first_row
    off: dict[str, float] = {}
    for sensor in (c for data in incident for c in data["contributions"]):
        off[sensor["sensor"]] = max(off.get(sensor["sensor"], 0.0), sensor["sigma"], key=abs)
    furthest = sorted(off, key=lambda name: -abs(off[name]))[:3]
    worst = incident[-1]["worst_ratio"]
    moved = ", ".join(f"{name} {off[name]:+.1f}" for name in furthest)
    return f"{minute:>7.0f} {raised['batch']['phase']:>5} {worst:>11.2f}  {moved}"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
