"""What a sample of real records looks like: rows, rejections, sensors never seen, values out of range, sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from connectors.records import Batch, Polled, Quality
from connectors.rows import joined
from monitor.quantities import NS_PER_S, Duration
from monitor.settings import AssetClass, Settings
from monitor.validation.finding import Findings
from monitor.yaml_lines import Path

_FACTOR = 1.5
"""A median step that differs from the configured sampling by more than this is worth a word."""


class Refusal(NamedTuple):
    """How many records were rejected for one reason, and what was said of the first."""

    records: int
    example: str


class AssetRows(NamedTuple):
    """One asset's part of a sample.

    Attributes:
        asset_class: its class.
        rows: how many rows.
        period_ns: median step between its distinct times; 0 where there are fewer than two.
        readings: readings of each sensor, by name.
    """

    asset_class: str
    rows: int
    period_ns: int
    readings: dict[str, int]


class OutOfRange(NamedTuple):
    """How many of one sensor's readings lie outside its engineering range, and the farthest of them."""

    readings: int
    of: int
    worst: float


class Survey(NamedTuple):
    """A sample of records.

    Attributes:
        records: how many.
        assets: what came, by asset.
        rejected: what did not, by reason.
        out_of_range: by class and sensor.
        shortest_ns: by class, the shortest batch (or phase, where a phase starts a fresh window) that the sample
            holds from its first row to its last.
    """

    records: int
    assets: dict[str, AssetRows]
    rejected: dict[str, Refusal]
    out_of_range: dict[tuple[str, str], OutOfRange]
    shortest_ns: dict[str, int]


def survey(polls: Sequence[Polled], settings: Settings) -> Survey:
    """Sum up decoded records.

    Args:
        polls: what a source or a codec made of them.
        settings: names and ranges of the sensors.
    """
    assets: dict[str, AssetRows] = {}
    out: dict[tuple[str, str], OutOfRange] = {}
    shortest: dict[str, int] = {}
    for name, asset_class in settings.asset_classes.items():
        batches = [batch for polled in polls for batch in polled.batches if batch.asset_class == name]
        assets |= _assets(batches, name, asset_class)
        out |= _out_of_range(batches, name, asset_class)
        runs = [
            ns for batch in ([joined(batches)] if batches else []) for ns in _whole_runs(batch, asset_class)
        ]
        shortest |= {name: min(runs)} if runs else {}
    return Survey(sum(polled.records for polled in polls), assets, _rejected(polls), out, shortest)


def judge(found: Survey, settings: Settings, at: Path, findings: Findings) -> None:
    """Turn a survey into findings.

    Args:
        found: the survey.
        settings: what was expected.
        at: the section that the records came through.
        findings: take what is wrong.
    """
    if not found.records:
        findings.warning(at, "no record to look at", "records of the last minutes, or of the files")
        return
    _judge_rejected(found, at, findings)
    for name, asset_class in settings.asset_classes.items():
        mine = {asset: rows for asset, rows in found.assets.items() if rows.asset_class == name}
        place = ("asset_classes", name)
        if not mine:
            patterns = ", ".join(asset_class.assets)
            findings.warning(
                (*place, "assets"), "no record of any of these assets", f"names that fit {patterns}"
            )
            continue
        _judge_sensors(mine, asset_class, place, findings)
        _judge_sampling(mine, asset_class, place, findings)
        if name in found.shortest_ns:
            _judge_length(found.shortest_ns[name], asset_class, place, findings)
    for (name, sensor), beyond in found.out_of_range.items():
        low, high = settings.asset_classes[name].sensors[sensor].range or (0.0, 0.0)
        findings.warning(
            ("asset_classes", name, "sensors", sensor, "range"),
            f"{beyond.readings} of {beyond.of} readings lie outside [{low:g}, {high:g}], such as {beyond.worst:g}",
            "the engineering range in the sensor's unit",
        )


def _judge_rejected(found: Survey, at: Path, findings: Findings) -> None:
    for reason, refusal in found.rejected.items():
        report = findings.warning if found.assets else findings.error
        report(
            at,
            f"{refusal.records} of {found.records} records rejected as {reason}, such as: {refusal.example}",
        )


def _judge_sensors(
    mine: Mapping[str, AssetRows], asset_class: AssetClass, at: Path, findings: Findings
) -> None:
    for name, sensor in asset_class.sensors.items():
        without = [asset for asset, rows in mine.items() if not rows.readings[name]]
        if without and sensor.derive is None:
            which = "any asset" if len(without) == len(mine) else ", ".join(without[:5])
            tag = sensor.tag or name
            findings.warning(
                (*at, "sensors", name), f"never seen of {which}", f"readings under the tag {tag!r}"
            )


def _judge_sampling(
    mine: Mapping[str, AssetRows], asset_class: AssetClass, at: Path, findings: Findings
) -> None:
    periods = [rows.period_ns for rows in mine.values() if rows.period_ns]
    if not periods:
        return
    period, sampling = float(np.median(periods)), asset_class.sampling
    if period > asset_class.time.max_age:
        findings.warning(
            (*at, "time", "max_age"),
            f"readings come every {period / NS_PER_S:g}s, later than a reading is carried: most slots would be empty",
            f"at least {period / NS_PER_S:g}s",
        )
    elif not 1 / _FACTOR <= period / sampling <= _FACTOR:
        findings.hint(
            (*at, "sampling"),
            f"rows come every {period / NS_PER_S:g}s, the grid has a slot every {sampling}",
            "nothing, if that is meant: faster readings are aggregated, slower ones carried forward",
        )


def _judge_length(shortest: int, asset_class: AssetClass, at: Path, findings: Findings) -> None:
    span = Duration(asset_class.window.length * asset_class.sampling)
    if 2 * span > shortest:
        what, length = asset_class.batches.fresh_window, asset_class.window.length
        findings.warning(
            (*at, "window", "length"),
            f"{length} samples ({span}), the shortest {what} of the sample lasted {Duration(shortest)}",
            f"at most half of it: {max(2, shortest // 2 // asset_class.sampling)}",
        )


def _whole_runs(batch: Batch, asset_class: AssetClass) -> list[int]:
    """Durations in ns of the batches or phases that begin and end within the rows, asset by asset."""
    fresh = asset_class.batches.fresh_window
    if fresh == "never":
        return []
    names = [(c.batch_id, c.phase if fresh == "phase" else None) for c in batch.contexts]
    codes = np.array([names.index(name) for name in names])
    durations: list[int] = []
    for asset in range(len(batch.assets)):
        rows = batch.asset == asset
        time, code = batch.time[rows], codes[batch.context[rows]]
        starts = np.flatnonzero(np.diff(code)) + 1
        for first, after in pairwise(starts.tolist()):
            if names[code[first]][0] is not None:
                durations.append(int(time[after] - time[first]))
    return durations


def _assets(batches: Sequence[Batch], name: str, asset_class: AssetClass) -> dict[str, AssetRows]:
    found: dict[str, AssetRows] = {}
    for asset in dict.fromkeys(asset for batch in batches for asset in batch.assets):
        chosen = [
            batch.asset == batch.assets.index(asset) if asset in batch.assets else None for batch in batches
        ]
        pairs = [(batch, rows) for batch, rows in zip(batches, chosen, strict=True) if rows is not None]
        time = np.unique(np.concatenate([batch.time[rows] for batch, rows in pairs]))
        seen = np.sum([(batch.quality[rows] != Quality.ABSENT).sum(axis=0) for batch, rows in pairs], axis=0)
        found[asset] = AssetRows(
            asset_class=name,
            rows=sum(int(rows.sum()) for _, rows in pairs),
            period_ns=int(np.median(np.diff(time))) if len(time) > 1 else 0,
            readings={sensor: int(count) for sensor, count in zip(asset_class.sensors, seen, strict=True)},
        )
    return found


def _out_of_range(
    batches: Sequence[Batch], name: str, asset_class: AssetClass
) -> dict[tuple[str, str], OutOfRange]:
    found: dict[tuple[str, str], OutOfRange] = {}
    if not batches:
        return found
    values = np.concatenate([batch.values for batch in batches])
    for column, (sensor, settings) in enumerate(asset_class.sensors.items()):
        if settings.range is None:
            continue
        low, high = settings.range
        present = values[np.isfinite(values[:, column]), column]
        beyond = np.maximum(low - present, present - high)
        if (beyond > 0).any():
            worst = float(present[np.argmax(beyond)])
            found[name, sensor] = OutOfRange(int((beyond > 0).sum()), len(present), worst)
    return found


def _rejected(polls: Sequence[Polled]) -> dict[str, Refusal]:
    found: dict[str, Refusal] = {}
    for polled in polls:
        for each in polled.rejected:
            before = found.get(each.reason.value, Refusal(0, each.detail))
            found[each.reason.value] = before._replace(records=before.records + 1)
    return found
