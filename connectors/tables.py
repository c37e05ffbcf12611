"""Reads CSV, JSON Lines and Parquet files as chunks of Arrow columns, each row with its line.

A broken line becomes a `BadLine`, and reading goes on behind it. Where a file cannot be read any further
(it is truncated, or no longer what its beginning said), the rest of it is one `BadLine` too: never silence.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from connectors.errors import SourceError
from connectors.problem import Problem, shown
from connectors.records import Reason

_COMPUTE: Any = pc  # its functions are made at run time, unseen by type checkers
_BLOCK_BYTES = 4 << 20
_ROWS = 8192
_FILE_ERRORS = (pa.ArrowException, OSError, EOFError, UnicodeError)
_LINE: msgspec.json.Decoder[dict[str, str | int | float | bool | None]] = msgspec.json.Decoder(
    dict[str, str | int | float | bool | None]
)


class TextFormat(NamedTuple):
    """How a delimited text file is laid out; see `FilesSourceSettings` for the meaning of each."""

    delimiter: str = ","
    encoding: str = "utf8"
    skip_lines: int = 0
    columns: tuple[str, ...] = ()


class BadLine(NamedTuple):
    """A line that is no row: its 0-based row in the file, why, and its text."""

    row: int
    problem: Problem
    text: bytes


class Chunk(NamedTuple):
    """Rows of one file.

    Attributes:
        rows: [N] ascending 0-based row of the file; rows that are missing here are bad or blank.
        columns: [N] each.
        bad: lines that are no rows, in order.
        end: the row after this chunk.
    """

    rows: NDArray[np.int64]
    columns: dict[str, pa.Array]
    bad: tuple[BadLine, ...]
    end: int

    def cut(self, start: int, stop: int) -> Chunk:
        """What lies in the file's rows from `start` up to `stop`."""
        first, last = np.searchsorted(self.rows, [start, stop]).tolist()
        return Chunk(
            self.rows[first:last],
            {name: column.slice(first, last - first) for name, column in self.columns.items()},
            tuple(line for line in self.bad if start <= line.row < stop),
            min(stop, self.end),
        )


Kind = Literal["csv", "jsonl", "parquet"]


def kind_of(path: Path) -> Kind:
    """The kind of a file by its name, without a suffix of compression.

    Raises:
        SourceError: the name does not tell.
    """
    suffix = Path(path.name.removesuffix(".gz").removesuffix(".zst").removesuffix(".bz2")).suffix.lower()
    if suffix in {".csv", ".tsv", ".txt", ".dat"}:
        return "csv"
    if suffix in {".jsonl", ".ndjson", ".json"}:
        return "jsonl"
    if suffix in {".parquet", ".pq"}:
        return "parquet"
    raise SourceError(
        f"{path}: cannot tell the format from the name; hint: set format to csv, jsonl or parquet"
    )


def header_lines(kind: Kind, text: TextFormat) -> int:
    """Lines of a file before its first row."""
    return text.skip_lines + (0 if text.columns else 1) if kind == "csv" else 0


def column_names(path: Path, kind: Kind, text: TextFormat) -> tuple[str, ...]:
    """Columns of a file; for JSON Lines those of its first object; none for an empty file.

    Raises:
        SourceError: the file cannot be read.
    """
    try:
        if kind == "parquet":
            return tuple(pq.read_schema(path).names)
        if kind == "csv":
            return text.columns or _csv_header(path, text)
        return _first_keys(path)
    except _FILE_ERRORS as error:
        raise SourceError(f"{path}: cannot be read: {error}") from error


def chunks(path: Path, kind: Kind, names: Sequence[str], text: TextFormat, max_bytes: int) -> Iterator[Chunk]:
    """The rows of a file; `names` are the columns wanted, CSV cells come as binary."""
    if kind == "jsonl":
        yield from _objects(path, names, max_bytes)
        return
    read = _csv(path, names, text) if kind == "csv" else _parquet(path, names)
    end = 0
    try:
        for chunk in read:
            end = chunk.end
            yield chunk
    except _FILE_ERRORS as error:
        yield Chunk(np.zeros(0, dtype=np.int64), {}, (_rest_lost(end, error),), end + 1)


def _rest_lost(row: int, error: Exception) -> BadLine:
    return BadLine(row, Problem(Reason.CORRUPT, f"the rest of the file cannot be read: {error}"), b"")


def _parquet(path: Path, names: Sequence[str]) -> Iterator[Chunk]:
    end = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS, columns=list(names)):
            rows = np.arange(end, end + batch.num_rows, dtype=np.int64)
            end += batch.num_rows
            yield Chunk(rows, dict(zip(batch.schema.names, batch.columns, strict=True)), (), end)


def _opened(path: Path, text: TextFormat) -> pa.NativeFile:
    """The file unpacked; columns that are parted by runs of blanks come parted by tabs."""
    stream = pa.input_stream(str(path), compression="detect")
    if text.delimiter != "whitespace":
        return stream
    with stream:
        lines = (re.sub(rb"[ \t]+", b"\t", line.strip(b" \t\r")) for line in stream.read().split(b"\n"))
        return pa.BufferReader(b"\n".join(lines))


def _csv_header(path: Path, text: TextFormat) -> tuple[str, ...]:
    with _opened(path, text) as stream:
        lines = io.BufferedReader(stream)  # pyright: ignore[reportArgumentType] - NativeFile is a raw stream
        for _ in range(text.skip_lines):
            lines.readline(_BLOCK_BYTES)
        first = lines.readline(_BLOCK_BYTES)
    if not first.strip():
        return ()
    parse = pacsv.ParseOptions(delimiter=_delimiter(text))
    read = pacsv.ReadOptions(encoding=text.encoding, use_threads=False)
    return tuple(pacsv.read_csv(pa.BufferReader(first), read_options=read, parse_options=parse).column_names)


def _delimiter(text: TextFormat) -> str:
    return "\t" if text.delimiter == "whitespace" else text.delimiter


def _csv(path: Path, names: Sequence[str], text: TextFormat) -> Iterator[Chunk]:
    broken: list[BadLine] = []
    before = header_lines("csv", text)

    def note(line: pacsv.InvalidRow) -> str:
        detail = f"got {line.actual_columns} columns, expected {line.expected_columns}"
        row = int(line.number or 0) - 1 - before
        if line.text.strip():
            broken.append(BadLine(row, Problem(Reason.MALFORMED, detail), line.text.encode()))
        else:
            broken.append(BadLine(row, Problem(Reason.EMPTY, ""), b""))
        return "skip"

    with _opened(path, text) as stream:
        reader = pacsv.open_csv(
            stream,
            read_options=pacsv.ReadOptions(
                use_threads=False,
                block_size=_BLOCK_BYTES,
                skip_rows=text.skip_lines,
                column_names=list(text.columns) or None,
                encoding=text.encoding,
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=_delimiter(text), ignore_empty_lines=False, invalid_row_handler=note
            ),
            convert_options=pacsv.ConvertOptions(
                column_types={name: pa.binary() for name in names},
                include_columns=list(names),
                strings_can_be_null=False,
            ),
        )
        end = 0
        try:
            for batch in reader:
                chunk = _csv_chunk(batch, broken, end)
                end = chunk.end
                yield chunk
        except _FILE_ERRORS as error:
            broken.append(_rest_lost(max([end, *(line.row + 1 for line in broken)]), error))
    if broken:
        last = max(line.row for line in broken) + 1
        yield Chunk(np.zeros(0, dtype=np.int64), {}, _said_aloud(broken), last)


def _csv_chunk(batch: pa.RecordBatch, broken: list[BadLine], start: int) -> Chunk:
    """Give a block's rows their place in the file, among the lines that were skipped; uses those up."""
    rows = np.arange(start, start + batch.num_rows, dtype=np.int64)
    skipped: list[BadLine] = []
    while broken and (not len(rows) or broken[0].row <= rows[-1]):
        line = broken.pop(0)
        rows[rows >= line.row] += 1
        skipped.append(line)
    end = int(rows[-1]) + 1 if len(rows) else max((line.row + 1 for line in skipped), default=start)
    columns = {name: batch.column(index) for index, name in enumerate(batch.schema.names)}
    empty = np.ones(len(rows), dtype=np.bool_)
    for column in columns.values():
        empty &= _COMPUTE.binary_length(column).to_numpy(zero_copy_only=False) == 0
    if empty.any():
        kept = pa.array(~empty)
        rows, columns = rows[~empty], {name: column.filter(kept) for name, column in columns.items()}
    return Chunk(rows, columns, _said_aloud(skipped), end)


def _said_aloud(lines: list[BadLine]) -> tuple[BadLine, ...]:
    """Blank lines keep their place but are nobody's fault."""
    return tuple(line for line in lines if line.problem.reason is not Reason.EMPTY)


def lines_of(path: Path, max_bytes: int) -> Iterator[bytes]:
    """Lines without their ends; of a longer line only the first ``max_bytes + 1`` bytes."""
    with pa.input_stream(str(path), compression="detect") as stream:
        reader = io.BufferedReader(stream)  # pyright: ignore[reportArgumentType] - NativeFile is a raw stream
        while line := reader.readline(max_bytes + 1):
            rest = line
            while not rest.endswith(b"\n") and (rest := reader.readline(max_bytes)):
                pass
            yield line.rstrip(b"\r\n")


def _first_keys(path: Path) -> tuple[str, ...]:
    for line in lines_of(path, _BLOCK_BYTES):
        try:
            return tuple(_LINE.decode(line))
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue
    return ()


def _objects(path: Path, names: Sequence[str], max_bytes: int) -> Iterator[Chunk]:
    rows: list[int] = []
    objects: list[dict[str, Any]] = []
    bad: list[BadLine] = []
    row = -1
    try:
        for row, line in enumerate(lines_of(path, max_bytes)):
            parsed = _object(row, line, max_bytes)
            if isinstance(parsed, BadLine):
                bad.append(parsed)
            elif parsed is not None:
                rows.append(row)
                objects.append(parsed)
            if (row + 1) % _ROWS == 0:
                yield _object_chunk(rows, objects, names, bad, row + 1)
                rows, objects, bad = [], [], []
    except _FILE_ERRORS as error:
        row += 1
        bad.append(_rest_lost(row, error))
    if rows or bad:
        yield _object_chunk(rows, objects, names, bad, row + 1)


def _object(row: int, line: bytes, max_bytes: int) -> dict[str, Any] | BadLine | None:
    if not line.strip():
        return None
    if len(line) > max_bytes:
        problem = Problem(Reason.TOO_LARGE, f"the line has more than {max_bytes} bytes")
        return BadLine(row, problem, line)
    try:
        return _LINE.decode(line)
    except msgspec.ValidationError as error:
        return BadLine(row, Problem(Reason.WRONG_TYPE, str(error)), line)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        return BadLine(row, Problem(Reason.MALFORMED, str(error)), line)


def _object_chunk(
    rows: list[int], objects: list[dict[str, Any]], names: Sequence[str], bad: list[BadLine], end: int
) -> Chunk:
    columns = {name: _array([each.get(name) for each in objects]) for name in names}
    return Chunk(np.array(rows, dtype=np.int64), columns, tuple(bad), end)


def _array(cells: list[Any]) -> pa.Array:
    """Cells of one JSON column; where kinds are mixed, all become text and are judged one by one later."""
    kinds = set(map(type, cells)) - {type(None)}
    try:
        if kinds == {int}:
            return pa.array(cells, pa.int64())
        if kinds and kinds <= {int, float}:
            return pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
    except OverflowError:
        pass  # an integer beyond 64 bits: text, judged one by one
    return pa.array([None if cell is None else _text(cell) for cell in cells], pa.string())


def _text(cell: object) -> str:
    if isinstance(cell, str):
        return cell
    return shown(cell) if isinstance(cell, bool | int) else repr(cell)
