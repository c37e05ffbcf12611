"""Recorded data in files as a `Source`, label columns for validation, and a `Sink` of JSON Lines.

All files are partition 0. A position counts the files' rows in the order in which they are read, bad and
blank lines included; going on at a position reads the rows before it again and drops them.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.codec import Codec
from connectors.errors import SourceError
from connectors.file_sink import FilesSink, FilesSinkSettings
from connectors.interleave import interleaved
from connectors.mapping import (
    FileMapping,
    FilesSourceSettings,
    FileTime,
    assets_in,
    check,
    labels_in,
    time_reader,
    times_in,
)
from connectors.ports import Position, Rewind, Start
from connectors.problem import Problem, clipped
from connectors.records import (
    NO_CONTEXT,
    Batch,
    Input,
    Layout,
    Polled,
    Queue,
    RawRecord,
    Rejected,
    TimeLayout,
)
from connectors.rows import Assembly, first_position, rows_of, spread
from connectors.tables import (
    Chunk,
    Kind,
    TextFormat,
    chunks,
    column_names,
    header_lines,
    kind_of,
    lines_of,
)

__all__ = [
    "FileTime",
    "FilesSink",
    "FilesSinkSettings",
    "FilesSource",
    "FilesSourceSettings",
    "Labels",
    "read_column",
]


class Labels(NamedTuple):
    """A column of files: [N] asset names, [N] times in ns, [N] values (true is 1.0, false 0.0)."""

    assets: tuple[str, ...]
    time: NDArray[np.int64]
    values: NDArray[np.float64]


class FilesSource:
    """Reads files once, from the first row to the last.

    Args:
        settings: where the files are, and what their columns mean.
        layout: asset classes, sensors and times.
        folder: relative paths start here.

    Raises:
        SettingsError: the settings contradict themselves.
    """

    def __init__(self, settings: FilesSourceSettings, layout: Layout, folder: Path = Path()) -> None:
        self._settings = settings
        self._folder = folder
        self._codec = Codec(layout)
        self._mapping = FileMapping(settings, layout)
        self._polls: Iterator[Polled] = iter(())
        self._next: Polled | None = None
        self._paused = False
        self.held = (0,)
        self.trouble: str | None = None
        self.reconnections = 0
        self.queues: tuple[Queue, ...] = ()

    def open(self, position: Position, start: Start) -> None:
        """Find the files and position before the first row; what is wrong with columns shows here."""
        paths = found(self._settings.paths, self._folder)
        if self._settings.format != "messages":
            self._check_columns(paths)
        numbered = self._read(paths)
        polls = (polled for _, polled in numbered)
        if self._settings.interleave:
            polls = interleaved(numbered, self._settings.rows_per_poll)
        if self._settings.append_batch_end:
            polls = _BatchEnds(self._settings, self._codec.layout).appended(polls)
        wanted = position(0)
        # Files are read from their beginning in any case: all of them is the rewind that costs nothing more.
        stored = 0 if isinstance(wanted, Rewind) else wanted
        self._polls = _from_start(polls, start) if stored is None else _from_position(polls, stored)
        self._next = next(self._polls, None)

    def _check_columns(self, paths: Sequence[Path]) -> None:
        text = _text_format(self._settings)
        for path in paths:
            names = column_names(path, _kind(self._settings, path), text)
            if names:
                self._mapping.wanted(path, names)

    def poll(self, timeout: float) -> Sequence[Polled]:
        """The next rows, at once: files have no use for the timeout."""
        del timeout
        if self._paused:
            return ()
        polled = self._peek()
        self._next = None
        return () if polled is None else (polled,)

    def _peek(self) -> Polled | None:
        if self._next is None:
            self._next = next(self._polls, None)
        return self._next

    @property
    def rewound(self) -> Mapping[int, int]:
        """Files keep no positions: nobody knows where they stood."""
        return {}

    def commit(self, positions: Mapping[int, int]) -> None:
        """Files keep no positions."""

    def pause(self) -> None:
        """Serve nothing until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Serve again."""
        self._paused = False

    @property
    def input(self) -> Input:
        """Files are one partition."""
        return Input("files", partitions=1)

    @property
    def exhausted(self) -> bool:
        """Whether every row has been served."""
        return self._peek() is None

    @property
    def lag(self) -> int | None:
        """0 at the end, unknown before it."""
        return 0 if self.exhausted else None

    def end(self, partition: int) -> None:
        """Nobody appends."""

    def close(self) -> None:
        """Leave the files."""
        self._polls, self._next = iter(()), None

    def _read(self, paths: Sequence[Path]) -> Iterator[tuple[int, Polled]]:
        """What each file brings, with the file's number."""
        base = 0
        read = self._messages if self._settings.format == "messages" else self._rows
        for number, path in enumerate(paths):
            end = base
            for polled in read(path, base):
                end = polled.position
                yield number, polled
            base = end

    def _messages(self, path: Path, base: int) -> Iterator[Polled]:
        """A file with one message per line, through the codec."""
        records: list[RawRecord] = []
        limit = self._codec.layout.max_bytes
        for row, line in enumerate(_lines(path, limit)):
            if line.strip():
                records.append(RawRecord(0, base + row, None, line))
            if len(records) == self._settings.rows_per_poll:
                yield _placed(self._codec.poll(records), path, 1 - base)
                records = []
        if records:
            yield _placed(self._codec.poll(records), path, 1 - base)

    def _rows(self, path: Path, base: int) -> Iterator[Polled]:
        settings, text = self._settings, _text_format(self._settings)
        kind = _kind(settings, path)
        names = column_names(path, kind, text)
        if not names:
            return
        wanted = self._mapping.wanted(path, names)
        first_line = 1 + header_lines(kind, text) - base
        start = 0
        for chunk in chunks(path, kind, wanted, text, self._codec.layout.max_bytes):
            for stop in _stops(start, chunk.end, settings.rows_per_poll):
                polled = self._mapped(path, chunk.cut(start, stop), names, base)
                yield _placed(polled, path, first_line)
                start = stop

    def _mapped(self, path: Path, chunk: Chunk, names: Sequence[str], base: int) -> Polled:
        problems: dict[int, tuple[Problem, bytes]] = {
            line.row: (line.problem, line.text) for line in chunk.bad
        }
        assembly = Assembly(self._codec.catalog)
        if len(chunk.rows):
            mapped = self._mapping.apply(path, chunk, names, base)
            lost = spread(mapped.columns, assembly, np.arange(len(chunk.rows), dtype=np.int64))
            for row, problem in (mapped.cells | lost).items():
                problems[int(chunk.rows[row])] = (problem, _cells(chunk, row))
        return Polled(
            partition=0,
            position=base + chunk.end,
            batches=assembly.batches(chunk.rows + base),
            rejected=tuple(
                Rejected(RawRecord(0, base + row, None, text), problem.reason, problem.detail)
                for row, (problem, text) in sorted(problems.items())
            ),
            records=len(chunk.rows) + len(chunk.bad),
            counts=tuple(sorted(assembly.counts.items())),
        )


def read_column(
    settings: FilesSourceSettings, column: str, time: TimeLayout | None = None, folder: Path = Path()
) -> Labels:
    """A column that is no sensor, such as a label, with each row's asset and time.

    Args:
        settings: of the source that reads the same files.
        column: its name.
        time: how times are read.
        folder: relative paths start here.

    Returns:
        The rows in the files' order; rows without a readable asset, time or value are left out.

    Raises:
        SourceError: a file cannot be read, or has no such column.
    """
    check(settings)
    layout = TimeLayout() if time is None else time
    parts: list[Labels] = []
    for path in found(settings.paths, folder):
        parts += _label_parts(settings, column, layout, path)
    return Labels(
        assets=tuple(name for part in parts for name in part.assets),
        time=np.concatenate([np.zeros(0, dtype=np.int64), *(part.time for part in parts)]),
        values=np.concatenate([np.zeros(0), *(part.values for part in parts)]),
    )


def _label_parts(
    settings: FilesSourceSettings, column: str, layout: TimeLayout, path: Path
) -> Iterator[Labels]:
    if settings.time.column is None:
        raise SourceError("labels from a column need files with a time column")
    text, kind = _text_format(settings), _kind(settings, path)
    names = column_names(path, kind, text)
    wanted = [name for name in (column, settings.time.column, settings.asset_column) if name is not None]
    for name in wanted:
        if name not in names:
            raise SourceError(f"{path}: column {name!r} is missing; its columns are {', '.join(names)}")
    reader = time_reader(settings.time, layout)
    for chunk in chunks(path, kind, wanted, text, 1 << 20):
        if len(chunk.rows):
            ns, bad = times_in(chunk.columns[settings.time.column], reader, settings.time)
            values = labels_in(chunk.columns[column], settings, column)
            assets, asset = assets_in(settings, path, chunk)
            good = ~np.isnan(values)
            good[list(bad)] = False
            rows = [row for row in np.flatnonzero(good).tolist() if assets[asset[row]] is not None]
            yield Labels(tuple(str(assets[asset[row]]) for row in rows), ns[rows], values[rows])


def found(patterns: Sequence[str], folder: Path) -> list[Path]:
    """The files that patterns match, each once.

    Raises:
        SourceError: a pattern matches no file.
    """
    paths: dict[Path, None] = {}
    for pattern in patterns:
        matches = sorted(glob.glob(str(folder / Path(pattern).expanduser()), recursive=True))
        files = [Path(match) for match in matches if Path(match).is_file()]
        if not files:
            raise SourceError(
                f"no file matches {pattern!r} in {folder.resolve()}; hint: paths are relative to it"
            )
        paths |= dict.fromkeys(files)
    return list(paths)


def _kind(settings: FilesSourceSettings, path: Path) -> Kind:
    if settings.format in {"auto", "messages"}:
        return kind_of(path)
    return settings.format  # pyright: ignore[reportReturnType] - the other two are gone


def _text_format(settings: FilesSourceSettings) -> TextFormat:
    return TextFormat(settings.delimiter, settings.encoding, settings.skip_lines, settings.columns)


def _lines(path: Path, limit: int) -> Iterator[bytes]:
    try:
        yield from lines_of(path, limit)
    except (OSError, EOFError) as error:
        raise SourceError(f"{path}: cannot be read any further: {error}") from error


def _placed(polled: Polled, path: Path, first_line: int) -> Polled:
    """The rejected rows' details with file and line in front."""
    return polled._replace(
        rejected=tuple(
            each._replace(detail=clipped(f"{path}:{each.record.offset + first_line}: {each.detail}"))
            for each in polled.rejected
        )
    )


def _stops(start: int, end: int, step: int) -> list[int]:
    return [*range(start + step, end, step), end]


def _cells(chunk: Chunk, row: int) -> bytes:
    """A row as JSON, for the dead-letter channel."""
    cells = {name: column[row].as_py() for name, column in chunk.columns.items()}
    texts = {
        name: cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else cell
        for name, cell in cells.items()
    }
    return msgspec.json.encode(texts, enc_hook=str)


def _behind(polled: Polled, position: int) -> Polled:
    """What a poll brings at or after a position."""
    batches = [rows_of(batch, batch.offset >= position) for batch in polled.batches]
    rejected = tuple(each for each in polled.rejected if each.record.offset >= position)
    batches = tuple(batch for batch in batches if len(batch.time))
    records = {int(offset) for batch in batches for offset in batch.offset} | {
        each.record.offset for each in rejected
    }
    return polled._replace(batches=batches, rejected=rejected, records=len(records))


def _from_position(polls: Iterable[Polled], position: int) -> Iterator[Polled]:
    start = 0
    for polled in polls:
        if start >= position:
            yield polled
        elif polled.position > position:
            yield _behind(polled, position)
        start = polled.position


def _from_start(polls: Iterator[Polled], start: Start) -> Iterator[Polled]:
    if start == "earliest":
        yield from polls
        return
    for polled in polls:
        first = first_position(polled.batches, start)
        if first is not None:
            yield _behind(polled, first)
            yield from polls


class _Last(NamedTuple):
    """An asset's last row: its time, the step to it, and whether a batch is running."""

    time: int
    step: int
    running: bool


class _BatchEnds:
    """Appends the rows that end the last batches."""

    def __init__(self, settings: FilesSourceSettings, layout: Layout) -> None:
        self._settings = settings
        self._widths = {each.name: len(each.sensors) for each in layout.classes}
        self._last: dict[tuple[str, str], _Last] = {}

    def appended(self, polls: Iterator[Polled]) -> Iterator[Polled]:
        """The polls, and one more if a batch is running at their end."""
        position = 0
        for polled in polls:
            for batch in polled.batches:
                self._note(batch)
            position = polled.position
            yield polled
        batches = tuple(self._ends(position))
        if batches:
            size = sum(len(batch.time) for batch in batches)
            yield Polled(0, position + size, batches, records=size)

    def _note(self, batch: Batch) -> None:
        in_batch = np.array([context.batch_id is not None for context in batch.contexts])
        for number, asset in enumerate(batch.assets):
            rows = np.flatnonzero(batch.asset == number)
            if not len(rows):
                continue
            last = self._last.get((batch.asset_class, asset))
            times = batch.time[rows] if last is None else np.concatenate([[last.time], batch.time[rows]])
            highest = np.maximum.accumulate(times)
            steps = np.diff(highest)
            steps = steps[steps > 0]
            step = int(steps[-1]) if len(steps) else (0 if last is None else last.step)
            running = bool(in_batch[batch.context[rows[-1]]])
            self._last[batch.asset_class, asset] = _Last(int(highest[-1]), step, running)

    def _ends(self, position: int) -> Iterator[Batch]:
        for name, width in self._widths.items():
            ends = sorted(
                (last.time + self._delay(last), asset)
                for (asset_class, asset), last in self._last.items()
                if asset_class == name and last.running
            )
            if ends:
                yield _empty_rows(name, width, ends, position)
                position += len(ends)

    def _delay(self, last: _Last) -> int:
        if self._settings.batch_end_after is not None:
            return round(self._settings.batch_end_after * 1e9)
        return 10 * (last.step or round(self._settings.time.period * 1e9))


def _empty_rows(asset_class: str, width: int, ends: Sequence[tuple[int, str]], position: int) -> Batch:
    size = len(ends)
    return Batch(
        asset_class=asset_class,
        assets=tuple(asset for _, asset in ends),
        asset=np.arange(size, dtype=np.int32),
        time=np.array([time for time, _ in ends], dtype=np.int64),
        values=np.full((size, width), np.nan),
        quality=np.zeros((size, width), dtype=np.uint8),
        contexts=(NO_CONTEXT,),
        context=np.zeros(size, dtype=np.int32),
        offset=np.arange(position, position + size, dtype=np.int64),
    )
