"""A configuration proposed from a recording: what its columns seem to be, and what a person must check.

Nothing proposed here is used before a person has seen it. Guesses are plain rules on names and values; units
cannot be guessed at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from connectors.records import TimeLayout
from connectors.times import TimeReader
from monitor.errors import NuwatchError
from monitor.proposal_rules import (
    LABEL_NAMES,
    MISSING,
    TIME_FORMATS,
    TIME_NAMES,
    name_of,
    role_of,
    sampling_of,
    signs_of,
    uneven,
    window_length,
)
from monitor.quantities import NS_PER_S, Duration, Instant
from monitor.settings import Role

_MOST_BYTES = 32 << 20
_ASSET_NAMES = re.compile(r"^(asset|asset_?id|equipment|machine|device|reactor|anlage)$", re.IGNORECASE)
_CONTEXT_NAMES: dict[str, re.Pattern[str]] = {
    "batch_id": re.compile(r"^(batch|batch_?(id|no|number)|charge)$", re.IGNORECASE),
    "recipe": re.compile(r"^(recipe|grade|product)$", re.IGNORECASE),
    "phase": re.compile(r"^(phase|step|stage)$", re.IGNORECASE),
    "lot": re.compile(r"^lot(_?id)?$", re.IGNORECASE),
}
_YEARS = (Instant.parse("1990-01-01T00:00:00Z"), Instant.parse("2100-01-01T00:00:00Z"))
TimeUnit = Literal["s", "ms", "us", "ns"]


class ProposalRefused(NuwatchError):  # noqa: N818 - names what happened
    """Nothing can be proposed from the file."""


class ProposedSensor(NamedTuple):
    """A column taken for a sensor.

    Attributes:
        name: made from the column's name.
        column: the column.
        low: lower end of the padded range.
        high: upper end.
        role: guessed.
    """

    name: str
    column: str
    low: float
    high: float
    role: Role


class ProposedTime(NamedTuple):
    """How times are written in the file; ``zone`` stands where texts say no offset. No column: rows are counted."""

    column: str | None = None
    format: str | None = None
    unit: TimeUnit | None = None
    zone: str | None = None


@dataclass(frozen=True)
class Proposal:
    """What a file seems to be.

    Attributes:
        path: the file.
        rows: rows that were looked at.
        whole: whether that was all of it.
        delimiter: between its cells.
        decimal: its decimal sign.
        encoding: of its text.
        time: how times are written.
        sampling: median step between two rows of an asset.
        asset: the one asset's name, where no column names it.
        asset_column: the column that names it.
        assets: the names found.
        context: column of each word of the batch context.
        sensors: the sensors.
        length: samples of a window.
        skipped: columns that are no sensors, and why.
        checks: what a person must check.
    """

    path: Path
    rows: int
    whole: bool
    delimiter: str
    decimal: Literal[".", ","]
    encoding: str
    time: ProposedTime
    sampling: Duration
    asset: str
    asset_column: str | None
    assets: tuple[str, ...]
    context: dict[str, str]
    sensors: tuple[ProposedSensor, ...]
    length: int
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    checks: tuple[str, ...] = ()


def propose(path: Path) -> Proposal:
    """Look at a CSV file.

    Raises:
        ProposalRefused: it cannot be read, or has no column of numbers.
    """
    head, whole = _beginning(path)
    head, encoding = _as_utf8(head)
    delimiter, decimal = signs_of(head)
    table = _table(path, head, delimiter, decimal)
    _refuse_twins(path, table.column_names)
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    checks: list[str] = ['units: they cannot be guessed; every sensor has unit "1" until you write its own']
    if encoding != "utf8":
        checks.append(f"encoding: the text is no UTF-8; {encoding} is only a guess")
    time, ns = _time(columns, checks)
    asset_column = next((name for name in columns if _ASSET_NAMES.match(name) and name != time.column), None)
    context = _context(columns, time.column)
    asset = _asset_of_rows(columns, asset_column)
    taken = {time.column, asset_column, *context.values()}
    sensors, skipped = _sensors({name: c for name, c in columns.items() if name not in taken}, checks)
    if not sensors:
        raise ProposalRefused(
            f"{path}: no column of numbers; its columns are {', '.join(columns)}; hint: a header line is expected first"
        )
    return Proposal(
        path=path,
        rows=table.num_rows,
        whole=whole,
        delimiter=delimiter,
        decimal=decimal,
        encoding=encoding,
        time=time,
        sampling=_sampling(ns, asset, checks),
        asset=path.name.split(".")[0],
        asset_column=asset_column,
        assets=_names(columns, asset_column, path),
        context=context,
        sensors=sensors,
        length=_length(columns, context, table.num_rows, checks),
        skipped=skipped,
        checks=tuple(checks),
    )


def _beginning(path: Path) -> tuple[bytes, bool]:
    """Whole lines from the file's start, and whether that is all of it."""
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            text = stream.read(_MOST_BYTES + 1)
    except (OSError, pa.ArrowException) as error:
        raise ProposalRefused(f"{path}: cannot be read: {error}") from None
    if len(text) <= _MOST_BYTES:
        return text, True
    return text[: text.rfind(b"\n") + 1], False


def _as_utf8(text: bytes) -> tuple[bytes, str]:
    """The text in UTF-8, and what it was written in; old plant software likes Windows' own."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode("cp1252", "replace").encode(), "cp1252"
    return text, "utf8"


def _refuse_twins(path: Path, names: Sequence[str]) -> None:
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise ProposalRefused(
            f"{path}: several columns are called {twins[0]!r}; hint: give each a name of its own"
        )


def _table(path: Path, text: bytes, delimiter: str, decimal: str) -> pa.Table:
    try:
        table = pacsv.read_csv(
            pa.BufferReader(text),
            parse_options=pacsv.ParseOptions(delimiter=delimiter),
            convert_options=pacsv.ConvertOptions(
                decimal_point=decimal,
                null_values=MISSING,
                strings_can_be_null=True,
                # times are read by nuwatch's own rules, so that the proposal sees what `train` will see
                timestamp_parsers=["\u0001"],
            ),
        )
    except pa.ArrowException as error:
        raise ProposalRefused(f"{path}: no CSV file that can be read: {error}") from None
    if not table.num_rows:
        raise ProposalRefused(f"{path}: no rows; hint: a header line and rows of numbers are expected")
    return table


def _time(columns: dict[str, Any], checks: list[str]) -> tuple[ProposedTime, NDArray[np.int64] | None]:
    names = sorted(columns, key=lambda name: TIME_NAMES.match(name) is None)
    for name in names:
        guess = _time_column(name, columns[name])
        if guess is not None:
            checks += _time_checks(guess[0])
            return guess
    checks.append("time: no column looks like one; rows are taken to be one second apart")
    return ProposedTime(), None


def _time_checks(time: ProposedTime) -> list[str]:
    checks: list[str] = []
    if time.zone is not None:
        checks.append("time.zone: the times say no offset from UTC; UTC is only a guess")
    if time.format is not None and "/" in time.format:
        checks.append(f"time.format: {time.format!r} fits, but day and month may be the other way round")
    if time.unit is not None:
        checks.append(f"time.unit: the numbers are taken for {time.unit} since 1970")
    return checks


def _time_column(name: str, column: Any) -> tuple[ProposedTime, NDArray[np.int64]] | None:
    if pa.types.is_integer(column.type) and TIME_NAMES.match(name):
        return _epoch_column(name, column)
    if not pa.types.is_string(column.type) and not pa.types.is_date(column.type):
        return None
    texts = [str(text or "").strip() for text in column.to_pylist()]
    for form in (None, *TIME_FORMATS):
        for zone in (None, "UTC"):
            ns = _read_texts(texts, form, zone)
            if ns is not None:
                return ProposedTime(name, form, None, zone), ns
    return None


def _read_texts(texts: Sequence[str], form: str | None, zone: str | None) -> NDArray[np.int64] | None:
    """[N] ns where all texts but a few can be read, the others dropped; None otherwise."""
    if form is not None:
        if _by_format(texts[0], form) is None:
            return None
        texts = [_by_format(text, form) or "" for text in texts]
    elif len(texts[0]) < len("2000-01-01T00:00"):
        return None
    ns, bad = TimeReader(TimeLayout(zone=zone, earliest=_YEARS[0], latest=_YEARS[1])).of_texts(texts)
    if len(bad) > 0.01 * len(texts):
        return None
    return np.delete(ns, list(bad)) if bad else ns


def _by_format(text: str, form: str) -> str | None:
    try:
        return datetime.strptime(text, form).isoformat()
    except ValueError:
        return None


def _epoch_column(name: str, column: Any) -> tuple[ProposedTime, NDArray[np.int64]] | None:
    counts = np.asarray(column.drop_null().to_numpy(zero_copy_only=False), np.int64)
    units: dict[TimeUnit, int] = {"s": NS_PER_S, "ms": 10**6, "us": 10**3, "ns": 1}
    for unit, scale in units.items():
        if len(counts) and _YEARS[0] // scale <= counts.min() and counts.max() <= _YEARS[1] // scale:
            return ProposedTime(name, None, unit), counts * scale
    return None


def _context(columns: dict[str, Any], time_column: str | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for word, pattern in _CONTEXT_NAMES.items():
        name = next((name for name in columns if pattern.match(name) and name != time_column), None)
        if name is not None:
            found[word] = name
    return found


def _asset_of_rows(columns: dict[str, Any], asset_column: str | None) -> NDArray[np.int64] | None:
    if asset_column is None:
        return None
    codes = columns[asset_column].cast(pa.string()).dictionary_encode().indices
    return np.asarray(codes.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


def _names(columns: dict[str, Any], asset_column: str | None, path: Path) -> tuple[str, ...]:
    if asset_column is None:
        return (path.name.split(".")[0],)
    values = columns[asset_column].cast(pa.string()).unique().to_pylist()
    return tuple(str(value) for value in values if value is not None)


def _sampling(ns: NDArray[np.int64] | None, asset: NDArray[np.int64] | None, checks: list[str]) -> Duration:
    """Median step of the rows of one asset, rounded to whole milliseconds or seconds."""
    second = Duration(NS_PER_S)
    if ns is None or len(ns) < 2:
        return second
    if asset is None or len(asset) != len(ns):
        steps = np.diff(ns)
    else:
        steps = np.concatenate([np.diff(ns[asset == one]) for one in np.unique(asset)])
    sampling = sampling_of(steps)
    if sampling is None:
        checks.append("sampling: the times do not go on; one second is only a guess")
        return second
    if uneven(steps):
        checks.append("sampling: the rows are unevenly spaced; the median step is proposed")
    return sampling


def _length(columns: dict[str, Any], context: dict[str, str], rows: int, checks: list[str]) -> int:
    """64 samples, but at most a quarter of the shortest batch and an eighth of the file."""
    if "batch_id" not in context:
        return window_length(rows)
    counts = columns[context["batch_id"]].value_counts()
    shortest = min(entry["counts"] for entry in counts.to_pylist())
    checks.append(
        f"window.length: the shortest batch has {shortest} rows; a window is at most half of a phase"
    )
    return window_length(rows, shortest)


def _sensors(columns: dict[str, Any], checks: list[str]) -> tuple[tuple[ProposedSensor, ...], dict[str, str]]:
    sensors: list[ProposedSensor] = []
    skipped: dict[str, str] = {}
    for column, cells in columns.items():
        why = _no_sensor(column, cells)
        if why is not None:
            skipped[column] = why
            continue
        values = np.asarray(cells.cast(pa.float64()).drop_null().to_numpy(zero_copy_only=False))
        values = values[np.isfinite(values)]
        low, high = _padded(float(values.min()), float(values.max()))
        taken = {sensor.name for sensor in sensors}
        sensors.append(ProposedSensor(name_of(column, taken), column, low, high, role_of(column, values)))
    guessed = [sensor.name for sensor in sensors if sensor.role != "pv"]
    if guessed:
        checks.append(f"role of {', '.join(guessed)}: guessed from names and values")
    checks.append("range: the data's own, generously padded; write what the instrument can show")
    return tuple(sensors), skipped


def _no_sensor(column: str, cells: Any) -> str | None:
    if not column.strip():
        return "a column without a name"
    if LABEL_NAMES.match(column):
        return "looks like a label: a model must not see it; `nuwatch replay --label-column` takes it"
    if pa.types.is_boolean(cells.type):
        return "true or false: write it as 0 and 1 to use it as a discrete sensor"
    if not (pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type)):
        return "no numbers"
    return None if np.isfinite(cells.cast(pa.float64()).drop_null().to_numpy()).any() else "no values"


def _padded(low: float, high: float) -> tuple[float, float]:
    """A range wide enough to hold the process's own anomalies: twice the data's width, or half their size, more.

    A narrow one would take what the process does for a fault of the sensor, and mask it.
    """
    pad = max(2 * (high - low), 0.5 * max(abs(low), abs(high))) or 1.0
    step = 10.0 ** (np.floor(np.log10(pad)) - 1)
    padded_low, padded_high = np.floor((low - pad) / step) * step, np.ceil((high + pad) / step) * step
    return float(f"{padded_low:.12g}"), float(f"{padded_high:.12g}")
