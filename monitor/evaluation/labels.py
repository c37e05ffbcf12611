"""What is known about when an asset was not normal: intervals, or a 0/1 value per row.

Both become the same two things per asset: fault intervals, and the spans in which the label is known at all.
A window has the label of its LAST sample: what lies in its past, or ahead of it, does not count.

- An interval file speaks of every asset that it names, over that asset's whole record: outside the intervals
  the asset was normal. A row with an asset and neither start nor end says just that. ``*`` names every asset.
- A 0/1 column speaks of its own rows: a value holds until the asset's next row, and no longer than twice the
  usual distance of rows; beyond, and where the value is empty, the label is unknown.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from connectors.records import TimeLayout
from monitor.errors import NuwatchError
from monitor.quantities import NS_PER_S, Instant, iso_time
from monitor.yaml_lines import YamlError, load

EVERY_ASSET = "*"
COLUMNS = ("asset", "start", "end", "label")
_NS_PER_UNIT = {"s": NS_PER_S, "ms": 1_000_000, "us": 1_000, "ns": 1}
_ALWAYS = (-(2**63), 2**63 - 1)


class LabelsError(NuwatchError):
    """The labels cannot be read, or contradict themselves."""


class Label(IntEnum):
    """What is known of one instant."""

    UNKNOWN = -1
    NORMAL = 0
    ANOMALOUS = 1


WORDS = {Label.UNKNOWN: "not labelled", Label.NORMAL: "normal", Label.ANOMALOUS: "fault"}
"""Labels for people."""
HELD_OUT = "held out"
"""What a training calls windows of its history that nothing else is known of."""


class Interval(NamedTuple):
    """A fault's time, both ends included, in ns since the epoch."""

    start_ns: int
    end_ns: int
    name: str = ""

    @property
    def start_time(self) -> str:
        """The start for people, ISO 8601, to the microsecond."""
        return iso_time(round(self.start_ns, -3))

    @property
    def end_time(self) -> str:
        """The end for people, ISO 8601, to the microsecond."""
        return iso_time(round(self.end_ns, -3))


@dataclass(frozen=True)
class Labels:
    """Fault intervals, and the spans in which labels are known, by asset.

    Attributes:
        faults: by asset name (or `EVERY_ASSET`), in order of their start.
        known: (start_ns, end_ns) spans by asset name (or `EVERY_ASSET`), both ends included.
    """

    faults: Mapping[str, tuple[Interval, ...]] = field(default_factory=dict[str, tuple[Interval, ...]])
    known: Mapping[str, tuple[tuple[int, int], ...]] = field(
        default_factory=dict[str, tuple[tuple[int, int], ...]]
    )

    def faults_of(self, asset: str) -> tuple[Interval, ...]:
        """The fault intervals of one asset, those of every asset included, in order of their start."""
        return tuple(sorted((*self.faults.get(asset, ()), *self.faults.get(EVERY_ASSET, ()))))

    def of(self, asset: str, ends: NDArray[np.int64]) -> NDArray[np.int8]:
        """The `Label` of windows of one asset that end at ``ends`` [W] (ascending) -> [W] int8."""
        codes = np.full(len(ends), Label.UNKNOWN, np.int8)
        for start, end in (*self.known.get(asset, ()), *self.known.get(EVERY_ASSET, ())):
            codes[_between(ends, start, end)] = Label.NORMAL
        for fault in self.faults_of(asset):
            codes[_between(ends, fault.start_ns, fault.end_ns)] = Label.ANOMALOUS
        return codes


UNLABELLED = Labels()


def from_intervals(rows: Iterable[tuple[str, Interval | None]]) -> Labels:
    """Labels from (asset, interval) rows; None says that the asset is labelled, and names no fault.

    Raises:
        LabelsError: an interval ends before it starts.
    """
    faults: dict[str, list[Interval]] = {}
    for asset, interval in rows:
        mine = faults.setdefault(asset, [])
        if interval is None:
            continue
        if interval.end_ns < interval.start_ns:
            raise LabelsError(
                f"labels of {asset!r}: the interval {interval.name!r} ends at {Instant(interval.end_ns)}, "
                f"before its start at {Instant(interval.start_ns)}; hint: are start and end swapped?"
            )
        mine.append(interval)
    return Labels(
        {asset: tuple(sorted(mine)) for asset, mine in faults.items()},
        dict.fromkeys(faults, (_ALWAYS,)),
    )


def from_column(
    assets: Sequence[str], times: NDArray[np.int64], values: NDArray[np.floating], name: str = "anomaly"
) -> Labels:
    """Labels from a 0/1 column.

    Args:
        assets: [N] the asset of each row.
        times: [N] event times in ns since the epoch, in any order.
        values: [N] 0 or 1, NaN where unknown.
        name: of the column; it names the intervals.

    Raises:
        LabelsError: a value is neither 0, 1 nor NaN, or one instant of an asset has both.
    """
    values = np.asarray(values, np.float64)
    wrong = np.flatnonzero(~(np.isnan(values) | (values == 0) | (values == 1)))
    if len(wrong):
        row = int(wrong[0])
        raise LabelsError(
            f"label column {name!r}, row {row + 1}: expected 0, 1 or empty, got {values[row]:g}"
        )
    faults: dict[str, tuple[Interval, ...]] = {}
    known: dict[str, tuple[tuple[int, int], ...]] = {}
    names = np.asarray(assets, np.str_)
    for asset in dict.fromkeys(assets):
        mine = names == asset
        points = _ordered(asset, np.asarray(times)[mine], values[mine])
        known[asset] = _spans(points, ~np.isnan(points.values))
        faults[asset] = tuple(Interval(start, end, name) for start, end in _spans(points, points.values == 1))
    return Labels(faults, known)


def read(path: Path, times: TimeLayout | None = None) -> Labels:
    """Read fault intervals from a CSV, YAML or JSON file with the columns (or keys) asset, start, end, label.

    Args:
        path: the file; its suffix says what it is.
        times: the unit of integer times and the zone of times without an offset; default milliseconds, none.

    Raises:
        LabelsError: the file cannot be read, or a row of it cannot; the text names the row.
    """
    readers = {".csv": _csv_rows, ".json": _json_rows, ".yaml": _yaml_rows, ".yml": _yaml_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise LabelsError(f"labels {path}: expected a .csv, .yaml or .json file, got {path.suffix!r}")
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelsError(f"labels {path}: cannot be read: {error}") from error
    rows = reader(text, path)
    return from_intervals(_interval_row(row, where, times or TimeLayout()) for where, row in rows)


class _Points(NamedTuple):
    """Labelled instants of one asset in order of time; ``until`` is the last instant that each speaks for."""

    times: NDArray[np.int64]
    until: NDArray[np.int64]
    values: NDArray[np.float64]


def _between(ends: NDArray[np.int64], start: int, end: int) -> slice:
    return slice(int(np.searchsorted(ends, start, "left")), int(np.searchsorted(ends, end, "right")))


def _ordered(asset: str, times: NDArray[np.int64], values: NDArray[np.float64]) -> _Points:
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    distance = np.diff(times)
    clash = np.flatnonzero((distance == 0) & (values[1:] != values[:-1]))
    if len(clash):
        at = Instant(times[clash[0]])
        raise LabelsError(
            f"labels of {asset!r}: both 0 and 1 (or empty) at {at}; expected one value per instant"
        )
    usual = int(np.median(distance[distance > 0])) if (distance > 0).any() else 0
    following = np.append(times[1:] - 1, _ALWAYS[1])
    return _Points(times, np.minimum(following, times + 2 * usual), values)


def _spans(points: _Points, chosen: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Time spans of runs of chosen points; a hole between two points ends a span."""
    index = np.flatnonzero(chosen & (points.until >= points.times))
    if not len(index):
        return ()
    broken = points.times[index[1:]] > points.until[index[:-1]] + 1
    first = index[np.append(True, broken)]
    last = index[np.append(broken, True)]
    return tuple(zip(points.times[first].tolist(), points.until[last].tolist(), strict=True))


def _csv_rows(text: str, path: Path) -> list[tuple[str, dict[str, Any]]]:
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    missing = [name for name in COLUMNS[:3] if name not in (reader.fieldnames or ())]
    if missing:
        raise LabelsError(
            f"labels {path}: expected the columns {', '.join(COLUMNS)}, got {header.strip()!r}; "
            f"missing {', '.join(missing)}"
        )
    return [(f"{path}, line {reader.line_num}", dict(row)) for row in reader]


def _json_rows(text: str, path: Path) -> list[tuple[str, dict[str, Any]]]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise LabelsError(f"labels {path}, line {error.lineno}: no valid JSON: {error.msg}") from error
    return _entries(
        data, [f"{path}, entry {i + 1}" for i in range(len(data) if isinstance(data, list) else 0)], path
    )


def _yaml_rows(text: str, path: Path) -> list[tuple[str, dict[str, Any]]]:
    try:
        document = load(text)
    except YamlError as error:
        raise LabelsError(f"labels {path}, line {error.line}: {error}") from error
    count = len(document.data) if isinstance(document.data, list) else 0
    return _entries(document.data, [f"{path}, line {document.line((i,))}" for i in range(count)], path)


def _entries(data: Any, places: list[str], path: Path) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(data, list):
        raise LabelsError(
            f"labels {path}: expected a list of entries with {', '.join(COLUMNS)}, got {type(data).__name__}"
        )
    for place, entry in zip(places, data, strict=True):
        if not isinstance(entry, dict):
            raise LabelsError(f"labels {place}: expected keys {', '.join(COLUMNS)}, got {entry!r}")
    return list(zip(places, data, strict=True))


def _interval_row(row: dict[str, Any], where: str, times: TimeLayout) -> tuple[str, Interval | None]:
    unknown = [str(key) for key in row if key not in COLUMNS]
    if unknown:
        raise LabelsError(f"labels {where}: unknown column {unknown[0]!r}; expected {', '.join(COLUMNS)}")
    asset, start, end, label = (
        str(row.get(name) if row.get(name) is not None else "").strip() for name in COLUMNS
    )
    if not asset:
        raise LabelsError(f"labels {where}: no asset; hint: write {EVERY_ASSET} for every asset")
    if not start and not end:
        return asset, None
    if not start or not end:
        raise LabelsError(
            f"labels {where}: expected both start and end, or neither, got {start!r} and {end!r}"
        )
    return asset, Interval(_time(start, where, times), _time(end, where, times), label)


def _time(text: str, where: str, times: TimeLayout) -> int:
    if text.lstrip("-").isdecimal():
        return int(text) * _NS_PER_UNIT[times.unit]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise LabelsError(
            f"labels {where}: expected an ISO 8601 time or integer {times.unit} since 1970, got {text!r}"
        ) from None
    if moment.tzinfo is None:
        if times.zone is None:
            raise LabelsError(
                f"labels {where}: {text!r} has no offset from UTC; hint: write {text}Z, or set times.zone"
            )
        moment = moment.replace(tzinfo=ZoneInfo(times.zone))
    return int(Instant.parse(moment.astimezone(UTC).isoformat()))
