"""From a plant's own column names to `Columns`: the settings of the files source, applied to chunks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct, field
from numpy.typing import NDArray

from connectors import arrow
from connectors.errors import SettingsError, SourceError
from connectors.problem import Problem, Refused, shown
from connectors.quality import EXPECTED
from connectors.records import Context, Layout, Quality, Reason, TimeLayout
from connectors.rows import Columns, Series, contexts_of
from connectors.tables import Chunk
from connectors.times import TimeReader, Times

_COMPUTE: Any = pc  # its functions are made at run time, unseen by type checkers
_INTEGER = re.compile(r"[+-]?\d{1,30}", re.ASCII)
_PLACE = re.compile(r"\{(\w*)\}")
_PLACES = ("stem", "parent")


class FileTime(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the rows of files get their times.

    Attributes:
        column: the column with the time; null makes times from ``start`` and ``period``.
        format: strptime format of texts, to the microsecond; null reads ISO 8601, and digits as integers.
        unit: of integer times (whole numbers in a column of floats too); null takes the configuration's.
        zone: IANA zone of times without an offset; null takes the configuration's.
        start: ISO 8601 time of row 0, where there is no column.
        period: seconds from row to row, where there is no column.
        restart: rows count from ``start`` again in every file (for files that are runs of different assets);
            otherwise they go on through all files.
    """

    column: str | None = None
    format: str | None = None
    unit: Literal["s", "ms", "us", "ns"] | None = None
    zone: str | None = None
    start: str = "2000-01-01T00:00:00Z"
    period: float = 1.0
    restart: bool = False


class FilesSourceSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Recorded data in files.

    Attributes:
        paths: files or glob patterns (``**`` too), relative to the configuration's folder; the matches of
            each pattern are read in sorted order, the patterns in the order given. .gz, .bz2 and .zst are
            unpacked.
        format: csv, jsonl (one flat object per line), parquet, or messages (one message per line, as on the
            broker); auto goes by each file's name.
        shape: wide has a column per sensor; narrow has a row per reading.
        delimiter: of csv, one character, or 'whitespace' for runs of blanks.
        decimal: decimal sign of csv.
        encoding: of csv.
        skip_lines: lines of csv before the header.
        columns: names of the columns, for csv without a header.
        missing: texts that mean 'no value'.
        time: where times come from.
        asset: name of the asset, the same for all rows; {stem} is the file's name without its suffix,
            {parent} the folder's name. The default is {stem}.
        asset_column: the column with the asset's name, instead of ``asset``.
        sensors: column of each sensor, by tag (narrow: what the files call it); empty takes the tags
            themselves.
        quality: column with the quality words of each sensor, by tag.
        units: UCUM code of each sensor in the files, by tag, where it is not the configured one.
        sensor_column: narrow: the column with the sensor's tag.
        value_column: narrow: the column with the value.
        quality_column: narrow: the column with the quality word.
        unit_column: narrow: the column with the UCUM code.
        batch_id: the column with the batch, or a text with {stem} or {parent}; likewise
        recipe: the recipe,
        phase: the phase,
        phase_started: the time when the phase began (a column), and
        lot: the lot.
        extra_columns: 'refuse' stops at a column that nothing here names.
        append_batch_end: after everything, append one row without values and without batch for each asset
            whose last row belongs to a batch, so that the batch ends.
        batch_end_after: seconds from an asset's last row to that row; null takes ten times its last time
            step.
        interleave: merge files by event time (rows of one file keep their order); holds them all in memory.
        rows_per_poll: most rows of one poll.
    """

    paths: tuple[str, ...]
    format: Literal["auto", "csv", "jsonl", "parquet", "messages"] = "auto"
    shape: Literal["wide", "narrow"] = "wide"
    delimiter: str = ","
    decimal: Literal[".", ","] = "."
    encoding: str = "utf8"
    skip_lines: int = 0
    columns: tuple[str, ...] = ()
    missing: tuple[str, ...] = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "-")
    time: FileTime = field(default_factory=FileTime)
    asset: str | None = None
    asset_column: str | None = None
    sensors: dict[str, str] = field(default_factory=dict)
    quality: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    sensor_column: str = "sensor"
    value_column: str = "value"
    quality_column: str | None = None
    unit_column: str | None = None
    batch_id: str | None = None
    recipe: str | None = None
    phase: str | None = None
    phase_started: str | None = None
    lot: str | None = None
    extra_columns: Literal["ignore", "refuse"] = "ignore"
    append_batch_end: bool = False
    batch_end_after: float | None = None
    interleave: bool = False
    rows_per_poll: int = 4096


class Mapped(NamedTuple):
    """A chunk as columns, and cells that could not be read; their rows are used without them."""

    columns: Columns
    cells: dict[int, Problem]


class FileMapping:
    """What the settings say, applied to chunks.

    Args:
        settings: the files source's settings.
        layout: the sensors' tags, and how times are read.

    Raises:
        SettingsError: the settings contradict themselves.
    """

    def __init__(self, settings: FilesSourceSettings, layout: Layout) -> None:
        check(settings)
        self._settings = settings
        self._tags = tuple(dict.fromkeys(sensor.tag for each in layout.classes for sensor in each.sensors))
        self._times = time_reader(settings.time, layout.time)
        self._start = _start_ns(settings.time, layout.time) if settings.time.column is None else 0

    def wanted(self, path: Path, names: Sequence[str]) -> tuple[str, ...]:
        """The columns of a file that are read.

        Raises:
            SourceError: a column that the settings name is missing, or one is there that nothing names.
        """
        settings = self._settings
        needed = [settings.time.column, settings.asset_column, *self._sensor_columns(names).values()]
        needed += [settings.quality_column, settings.unit_column] if settings.shape == "narrow" else []
        needed += list(settings.quality.values())
        needed += [_column(text) for text in self._context_texts().values()]
        wanted = tuple(dict.fromkeys(name for name in needed if name is not None))
        missing = [name for name in wanted if name not in names]
        if missing:
            raise SourceError(f"{path}: column {missing[0]!r} is missing; its columns are {', '.join(names)}")
        if not self._sensor_columns(names):
            raise SourceError(
                f"{path}: no column is called like a sensor; its columns are {', '.join(names)}; "
                f"the sensors' tags are {', '.join(self._tags)}; hint: map tags to columns with `sensors`"
            )
        extra = [name for name in names if name not in wanted]
        if extra and settings.extra_columns == "refuse":
            raise SourceError(f"{path}: nothing names column {extra[0]!r}; hint: set extra_columns to ignore")
        return wanted

    def _sensor_columns(self, names: Sequence[str]) -> Mapping[str, str]:
        settings = self._settings
        if settings.shape == "narrow":
            return {"sensor": settings.sensor_column, "value": settings.value_column}
        return settings.sensors or {tag: tag for tag in self._tags if tag in names}

    def _context_texts(self) -> dict[str, str]:
        settings = self._settings
        texts = {name: getattr(settings, name) for name in (*arrow.CONTEXT_TEXTS, "phase_started")}
        return {name: text for name, text in texts.items() if text is not None}

    def apply(self, path: Path, chunk: Chunk, names: Sequence[str], rows_before: int) -> Mapped:
        """A chunk's rows as columns.

        Args:
            path: the chunk's file.
            chunk: N rows.
            names: all columns of the file.
            rows_before: rows of the files before this one.

        Raises:
            SourceError: a column is of a type that cannot be what the settings say.
        """
        cells: dict[int, Problem] = {}
        try:
            time, problems = self._time(chunk, rows_before)
            series = (
                self._narrow(chunk, cells)
                if self._settings.shape == "narrow"
                else self._wide(chunk, names, cells)
            )
            assets, asset = self._asset(path, chunk)
            contexts, context = self._contexts(path, chunk, problems)
        except Refused as refused:
            raise SourceError(f"{path}: {refused.problem.detail}") from refused
        return Mapped(Columns(assets, asset, time, tuple(series), contexts, context, problems), cells)

    def _time(self, chunk: Chunk, rows_before: int) -> Times:
        settings = self._settings.time
        if settings.column is not None:
            return times_in(chunk.columns[settings.column], self._times, settings)
        rows = chunk.rows if settings.restart else chunk.rows + rows_before
        return self._start + rows * round(settings.period * 1e9), {}

    def _asset(self, path: Path, chunk: Chunk) -> tuple[tuple[str | None, ...], NDArray[np.int32]]:
        return assets_in(self._settings, path, chunk)

    def _contexts(
        self, path: Path, chunk: Chunk, problems: dict[int, Problem]
    ) -> tuple[tuple[Context, ...], NDArray[np.int32]]:
        size = len(chunk.rows)
        fields: dict[str, tuple[Sequence[str | int | None], NDArray[np.int32]]] = {}
        for name, text in self._context_texts().items():
            column = _column(text)
            if name == "phase_started":
                reader = self._times
                ns, bad = times_in(chunk.columns[text], reader, self._settings.time)
                distinct, index = np.unique(ns, return_inverse=True)
                absent = np.isin(np.arange(size), list(bad))
                fields[name] = (
                    [*distinct.tolist(), None],
                    np.where(absent, len(distinct), index).astype(np.int32),
                )
                problems |= {
                    row: bad[row] for row in bad if chunk.columns[text][row].as_py() not in {None, b""}
                }
            elif column is None:
                fields[name] = ((filled(text, path),), np.zeros(size, dtype=np.int32))
            else:
                coded = texts_in(chunk.columns[column], self._settings.missing)
                fields[name] = (coded.values, coded.codes)
        return contexts_of(fields, size)

    def _wide(self, chunk: Chunk, names: Sequence[str], cells: dict[int, Problem]) -> list[Series]:
        settings = self._settings
        series: list[Series] = []
        for tag, column in self._sensor_columns(names).items():
            values, absent, bad = numbers_in(chunk.columns[column], settings, column)
            said = self._said(chunk, settings.quality.get(tag), cells)
            series.append(
                Series(tag, values, absent, _unread_is_bad(said, bad, len(values)), settings.units.get(tag))
            )
            cells.update({row: problem for row, problem in bad.items() if row not in cells})
        return series

    def _narrow(self, chunk: Chunk, cells: dict[int, Problem]) -> list[Series]:
        """A series per sensor and unit, with values in that sensor's rows alone."""
        settings = self._settings
        values, absent, bad = numbers_in(
            chunk.columns[settings.value_column], settings, settings.value_column
        )
        said = self._said(chunk, settings.quality_column, cells)
        said = _unread_is_bad(said, bad, len(values))
        cells.update(bad)
        sensors = texts_in(chunk.columns[settings.sensor_column], settings.missing)
        units = arrow.Coded((None,), np.zeros(len(values), dtype=np.int32))
        if settings.unit_column is not None:
            units = texts_in(chunk.columns[settings.unit_column], settings.missing)
        tags = {column: tag for tag, column in settings.sensors.items()}
        series: list[Series] = []
        pairs = sensors.codes.astype(np.int64) * len(units.values) + units.codes
        for pair in np.unique(pairs).tolist():
            mine = pairs == pair
            sensor, unit = sensors.values[pair // len(units.values)], units.values[pair % len(units.values)]
            tag = tags.get(sensor or "", sensor or "")
            series.append(
                Series(
                    tag,
                    np.where(mine, values, np.nan),
                    absent | ~mine,
                    None if said is None else np.where(mine, said, np.uint8(Quality.GOOD)),
                    unit or settings.units.get(tag),
                )
            )
        return series

    def _said(self, chunk: Chunk, column: str | None, cells: dict[int, Problem]) -> NDArray[np.uint8] | None:
        if column is None:
            return None
        array = texts_of(chunk.columns[column])
        said, bad = arrow.qualities(_without(array, self._settings.missing))
        for row in np.flatnonzero(bad).tolist():
            word = shown(array[row].as_py())
            cells[row] = Problem(Reason.BAD_QUALITY_WORD, f"column {column!r}: got {word}, {EXPECTED}")
        said[bad] = Quality.BAD
        return said


def check(settings: FilesSourceSettings) -> None:
    """Raise `SettingsError` where the settings contradict themselves."""
    if settings.asset is not None and settings.asset_column is not None:
        raise SettingsError("files source: got both asset and asset_column, expected one of them")
    if settings.delimiter != "whitespace" and len(settings.delimiter.encode()) != 1:
        raise SettingsError(
            f"files source: delimiter: got {settings.delimiter!r}, expected one character or whitespace"
        )
    if settings.delimiter == settings.decimal:
        raise SettingsError(f"files source: delimiter and decimal are both {settings.decimal!r}")
    if settings.rows_per_poll < 1 or settings.time.period <= 0:
        raise SettingsError("files source: rows_per_poll and time.period must be above 0")
    for name in ("asset", "batch_id", "recipe", "phase", "lot"):
        for place in _PLACE.findall(getattr(settings, name) or ""):
            if place not in _PLACES:
                raise SettingsError(f"files source: {name}: got {{{place}}}, expected {{stem}} or {{parent}}")


def _column(text: str) -> str | None:
    """The column that a setting names, or None where it is a text with places to fill."""
    return None if _PLACE.search(text) else text


def filled(text: str, path: Path) -> str:
    """A text with {stem} and {parent} filled in."""
    return text.replace("{stem}", path.name.split(".")[0]).replace("{parent}", path.parent.name)


def time_reader(settings: FileTime, layout: TimeLayout) -> TimeReader:
    """The reader of a file's times."""
    return TimeReader(layout._replace(unit=settings.unit or layout.unit, zone=settings.zone or layout.zone))


def _start_ns(settings: FileTime, layout: TimeLayout) -> int:
    ns, problems = time_reader(settings, layout).read([settings.start])
    if problems:
        raise SettingsError(f"files source: time.start: {problems[0].detail}")
    return int(ns[0])


def assets_in(
    settings: FilesSourceSettings, path: Path, chunk: Chunk
) -> tuple[tuple[str | None, ...], NDArray[np.int32]]:
    """Asset names and [N] index of a chunk's rows."""
    if settings.asset_column is not None:
        return texts_in(chunk.columns[settings.asset_column], settings.missing)
    name = filled("{stem}" if settings.asset is None else settings.asset, path)
    return (name,), np.zeros(len(chunk.rows), dtype=np.int32)


def times_in(column: pa.Array, reader: TimeReader, settings: FileTime) -> Times:
    """Times of a file's column; texts by the settings' format."""
    array = texts_of(column)
    if pa.types.is_floating(array.type):
        return _times_in_floats(array, reader, settings)
    if not pa.types.is_string(array.type):
        return arrow.times_of(array, reader, settings.unit)
    texts = [(text or "").strip() for text in array.to_pylist()]
    if settings.format is not None:
        return reader.of_texts([_by_format(text, settings.format) for text in texts])
    return reader.read([int(text) if _INTEGER.fullmatch(text) else text for text in texts])


def _times_in_floats(array: pa.Array, reader: TimeReader, settings: FileTime) -> Times:
    """A column of integers turns into floats where one is missing: whole numbers are integers, others no times."""
    counts = array.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    whole = np.abs(counts) < 2**53
    whole &= counts == np.floor(counts)
    ns, bad = reader.of_integers(np.where(whole, counts, 0).astype(np.int64), settings.unit)
    for row in np.flatnonzero(~whole).tolist():
        got = "null" if np.isnan(counts[row]) else shown(float(counts[row]))
        bad[row] = Problem(Reason.BAD_TIME, f"time: got {got}, expected an integer or text")
        ns[row] = 0
    return ns, bad


@lru_cache(maxsize=65536)
def _by_format(text: str, form: str) -> str:
    """The time in ISO 8601; a text that does not fit stays as it is, and is then no time."""
    try:
        return datetime.strptime(text, form).isoformat()
    except ValueError:
        return f"{text} (format {form})"


def texts_of(column: pa.Array) -> pa.Array:
    """Binary cells of csv and dictionary-encoded texts as plain texts; everything else as it is."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_large_string(column.type):
        return column.cast(pa.string())
    if not pa.types.is_binary(column.type):
        return column
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array(
            [cell.decode("utf-8", "backslashreplace") for cell in column.to_pylist()], pa.string()
        )


def _without(array: pa.Array, missing: Sequence[str]) -> pa.Array:
    """Trimmed texts, null where they mean 'no value'; other columns as they are."""
    if not pa.types.is_string(array.type):
        return array
    trimmed = _COMPUTE.utf8_trim_whitespace(array)
    return _COMPUTE.if_else(
        _COMPUTE.is_in(trimmed, value_set=pa.array(missing, pa.string())),
        pa.scalar(None, pa.string()),
        trimmed,
    )


def texts_in(column: pa.Array, missing: Sequence[str]) -> arrow.Coded:
    """A column of names."""
    return arrow.coded(_without(texts_of(column), missing), "names")


def numbers_in(
    column: pa.Array, settings: FilesSourceSettings, name: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[int, Problem]]:
    """[N] values, [N] where there is none, and the cells that are no number (absent too)."""
    array = _without(texts_of(column), settings.missing)
    if not pa.types.is_string(array.type):
        if not (
            pa.types.is_primitive(array.type)
            or pa.types.is_decimal(array.type)
            or pa.types.is_null(array.type)
        ):
            raise Refused(Reason.WRONG_TYPE, f"column {name!r}: got {array.type}, expected numbers")
        return (*arrow.doubles(array), {})
    if settings.decimal == ",":
        array = _COMPUTE.replace_substring(array, ",", ".")
    try:
        return (*arrow.doubles(array.cast(pa.float64())), {})
    except pa.ArrowInvalid:
        return _numbers_one_by_one(array, name)


def labels_in(column: pa.Array, settings: FilesSourceSettings, name: str) -> NDArray[np.float64]:
    """[N] labels: numbers, and 1.0 and 0.0 for true and false; NaN for everything else."""
    array = texts_of(column)
    if pa.types.is_string(array.type):
        lower = _COMPUTE.utf8_lower(_COMPUTE.utf8_trim_whitespace(array))
        for word, digit in (("true", "1"), ("false", "0")):
            lower = _COMPUTE.if_else(_COMPUTE.equal(lower, word), pa.scalar(digit), lower)
        array = lower
    return numbers_in(array, settings, name)[0]


def _numbers_one_by_one(
    array: pa.Array, name: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[int, Problem]]:
    values = np.full(len(array), np.nan)
    bad: dict[int, Problem] = {}
    for row, cell in enumerate(array):
        try:
            if cell.is_valid:
                values[row] = cell.cast(pa.float64()).as_py()
        except pa.ArrowInvalid:
            bad[row] = Problem(
                Reason.WRONG_TYPE, f"column {name!r}: got {shown(cell.as_py())}, expected a number"
            )
    absent = array.is_null().to_numpy(zero_copy_only=False).copy()
    absent[list(bad)] = True
    return values, absent, bad


def _unread_is_bad(
    said: NDArray[np.uint8] | None, bad: Mapping[int, Problem], size: int
) -> NDArray[np.uint8] | None:
    """A cell that is no number ('I/O Timeout') is a reading that failed: BAD, not absent."""
    if not bad:
        return said
    said = np.full(size, Quality.GOOD, dtype=np.uint8) if said is None else said
    said[list(bad)] = Quality.BAD
    return said
