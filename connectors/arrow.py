"""Arrow columns -> plain arrays, and Arrow IPC stream messages -> `Columns`.

A message is an Arrow IPC stream (it begins with FF FF FF FF) of record batches with the columns ``asset``
(text), ``ts`` (a timestamp of any unit, an integer in the layout's unit, or ISO 8601 text), sensors under
their tags (numbers; the field's metadata key ``unit`` may name a UCUM code), and optionally
``<tag>__quality`` (words or status codes). Optional context columns: ``batch_id``, ``recipe``, ``phase``,
``phase_started``, ``lot``. Texts may be dictionary-encoded. A timestamp without a zone is a wall clock and
needs the layout's zone. Null is ABSENT, NaN and infinity are NON_FINITE. Compressed bodies are refused: their
size once unpacked is not bounded by the record's (Kafka compresses records anyway). Everything is validated
before it is touched.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from connectors.problem import Problem, Refused, shown
from connectors.quality import EXPECTED, quality_code
from connectors.records import Context, Reason
from connectors.rows import Columns, Series, contexts_of
from connectors.times import TimeReader, Times

CONTEXT_TEXTS = ("batch_id", "recipe", "phase", "lot")
_QUALITY = "__quality"
_BUILT_IN = frozenset({"asset", "ts", "phase_started", *CONTEXT_TEXTS})
_IPC_ERRORS = (pa.ArrowException, ValueError, OSError, EOFError)  # ValueError: UnicodeDecodeError too


class Coded(NamedTuple):
    """A column of few distinct values: the values (null is one), and [N] codes that index them."""

    values: tuple[str | None, ...]
    codes: NDArray[np.int32]


def read_message(value: bytes, times: TimeReader, max_rows: int) -> Columns:
    """Rows of one Arrow IPC stream message.

    Raises:
        Refused: it is damaged, lacks a column, has one of the wrong type, or holds too many rows.
    """
    try:
        return _columns(_table(value, max_rows), times)
    except _IPC_ERRORS as error:  # damage may show as late as in the name of a timestamp's zone
        raise Refused(Reason.MALFORMED, f"Arrow IPC: {error}") from error


def _columns(table: pa.Table, times: TimeReader) -> Columns:
    arrays = {name: whole(table.column(name)) for name in table.column_names}
    for name in ("asset", "ts"):
        if name not in arrays:
            raise Refused(
                Reason.MISSING_FIELD, f"Arrow column {name} is missing, got {shown(table.column_names)}"
            )
    assets = coded(arrays["asset"], "asset")
    time, problems = times_of(arrays["ts"], times)
    contexts, context = contexts_in(arrays, times, problems)
    return Columns(
        names=assets.values,
        asset=assets.codes,
        time=time,
        series=tuple(_sensors(table.schema, arrays)),
        contexts=contexts,
        context=context,
        problems=problems,
    )


def _table(value: bytes, max_rows: int) -> pa.Table:
    _refuse_compression(value)
    batches: list[pa.RecordBatch] = []
    rows = 0
    with pa.ipc.open_stream(pa.py_buffer(value)) as reader:
        if len(set(reader.schema.names)) < len(reader.schema.names):
            raise Refused(Reason.MALFORMED, "Arrow: a column name occurs twice")
        for batch in reader:
            rows += batch.num_rows
            if rows > max_rows:
                raise Refused(
                    Reason.TOO_LARGE, f"the record has {rows} rows or more, expected at most {max_rows}"
                )
            batch.validate(full=True)
            batches.append(batch)
        if rows == 0:
            raise Refused(Reason.EMPTY, "the record has no rows")
        return pa.Table.from_batches(batches, reader.schema).unify_dictionaries()


def _refuse_compression(value: bytes) -> None:
    for message in pa.ipc.MessageReader.open_stream(pa.py_buffer(value)):
        if message.type in {"record batch", "dictionary"} and _compressed(message.metadata.to_pybytes()):
            raise Refused(Reason.MALFORMED, "Arrow: compressed buffers are refused; hint: let Kafka compress")


def _compressed(metadata: bytes) -> bool:
    """Whether a verified flatbuffers Message (Arrow's Message.fbs) sets a RecordBatch's `compression`."""
    header = _field(metadata, _indirect(metadata, 0), 2)
    if header is None:
        return False
    table = _indirect(metadata, header)
    if metadata[_field(metadata, _indirect(metadata, 0), 1) or 0] == 2:  # DictionaryBatch wraps one in `data`
        data = _field(metadata, table, 1)
        if data is None:
            return False
        table = _indirect(metadata, data)
    return _field(metadata, table, 3) is not None


def _indirect(buffer: bytes, position: int) -> int:
    return position + struct.unpack_from("<I", buffer, position)[0]


def _field(buffer: bytes, table: int, number: int) -> int | None:
    """Position of a flatbuffers table's field, or None where it is not set."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", buffer, vtable)[0]:
        return None
    offset = struct.unpack_from("<H", buffer, vtable + 4 + 2 * number)[0]
    return table + offset if offset else None


def whole(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _sensors(schema: pa.Schema, arrays: Mapping[str, pa.Array]) -> list[Series]:
    series: list[Series] = []
    for tag, array in arrays.items():
        if tag in _BUILT_IN or tag.endswith(_QUALITY):
            continue
        values, absent = _numbers(tag, array)
        words = arrays.get(tag + _QUALITY)
        said = None if words is None else _qualities(tag, words)
        metadata = schema.field(tag).metadata or {}
        unit = metadata.get(b"unit")
        series.append(
            Series(tag, values, absent, said, None if unit is None else unit.decode("utf-8", "replace"))
        )
    return series


def _numbers(tag: str, array: pa.Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    kind = array.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise Refused(
            Reason.WRONG_TYPE, f"Arrow column {shown(tag)}: got {shown(str(kind))}, expected numbers"
        )
    return doubles(array)


def doubles(array: pa.Array) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """[N] values of a numeric column, NaN where null, and [N] where null."""
    absent = array.is_null().to_numpy(zero_copy_only=False)
    # unsafe as in: integers above 2**53 are rounded to the nearest double
    values = pc.cast(array, pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
    return np.array(values, dtype=np.float64), absent


def _qualities(tag: str, array: pa.Array) -> NDArray[np.uint8]:
    said, bad = qualities(array)
    for row in np.flatnonzero(bad)[:1].tolist():
        raise Refused(
            Reason.BAD_QUALITY_WORD, f"quality {shown(tag)}: got {shown(array[row].as_py())}, {EXPECTED}"
        )
    return said


def qualities(array: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """[N] what a column of words or status codes says, and [N] where it cannot be read."""
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    codes = [quality_code(_word(word)) for word in encoded.dictionary.to_pylist()]
    table = np.array([*(code or 0 for code in codes), quality_code(None)], dtype=np.uint8)
    said = table[_index(encoded, len(codes))]
    return said, said == 0


def _word(word: Any) -> str | int | None:
    return word if isinstance(word, str | int | None) and not isinstance(word, bool) else f"{word!r}"


def coded(array: pa.Array, name: str) -> Coded:
    """A column of texts (or integers, which become texts), plain or dictionary-encoded.

    Raises:
        Refused: it holds something else.
    """
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if pa.types.is_null(kind):
        return Coded((None,), np.zeros(len(array), dtype=np.int32))
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
        raise Refused(Reason.WRONG_TYPE, f"column {shown(name)}: got {shown(str(kind))}, expected text")
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    values = [None if value is None else str(value) for value in encoded.dictionary.to_pylist()]
    return _distinct([*values, None], _index(encoded, len(values)))


def _index(encoded: pa.DictionaryArray, null: int) -> NDArray[np.int32]:
    return encoded.indices.fill_null(null).to_numpy(zero_copy_only=False).astype(np.int32)


def _distinct(values: Sequence[str | None], index: NDArray[np.int32]) -> Coded:
    """A hostile dictionary may repeat a value: equal names must be one asset."""
    numbers: dict[str | None, int] = {}
    table = [numbers.setdefault(value, len(numbers)) for value in values]
    return Coded(tuple(numbers), np.array(table, dtype=np.int32)[index])


def times_of(array: pa.Array, times: TimeReader, unit: str | None = None) -> Times:
    """Times of a column of timestamps, integers (in `unit`, default the layout's) or texts.

    Raises:
        Refused: the column is of another type.
    """
    kind = array.type
    absent = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist()
    if pa.types.is_timestamp(kind):
        ns, bad = _of_timestamps(array, times)
    elif pa.types.is_integer(kind):
        ns, bad = _of_integers(array, times, unit)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        ns, bad = times.of_texts([str(text) for text in array.to_pylist()])
    elif pa.types.is_null(kind):
        ns, bad = np.zeros(len(array), dtype=np.int64), {}
    else:
        raise Refused(
            Reason.BAD_TIME, f"time column: got {shown(str(kind))}, expected timestamp, integer or text"
        )
    for row in absent:
        bad[row] = Problem(Reason.BAD_TIME, "time: got null")
        ns[row] = 0
    return ns, bad


def _of_integers(array: pa.Array, times: TimeReader, unit: str | None) -> Times:
    if pa.types.is_uint64(array.type):
        return times.of_integers([value or 0 for value in array.to_pylist()], unit)
    return times.of_integers(array.fill_null(0).cast(pa.int64()).to_numpy(zero_copy_only=False), unit)


def _of_timestamps(array: pa.Array, times: TimeReader) -> Times:
    counts = array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    if array.type.tz is not None:
        return times.of_integers(counts, array.type.unit)
    return times.of_wall_clock(counts, array.type.unit)


def contexts_in(
    arrays: Mapping[str, pa.Array], times: TimeReader, problems: dict[int, Problem]
) -> tuple[tuple[Context, ...], NDArray[np.int32]]:
    """Batch contexts of a table's rows; adds rows with a bad `phase_started` to the problems."""
    size = len(next(iter(arrays.values())))
    fields: dict[str, tuple[Sequence[str | int | None], NDArray[np.int32]]] = {
        name: coded(arrays[name], name) for name in CONTEXT_TEXTS if name in arrays
    }
    if "phase_started" in arrays:
        fields["phase_started"] = _phase_started(arrays["phase_started"], times, problems)
    return contexts_of(fields, size)


def _phase_started(
    array: pa.Array, times: TimeReader, problems: dict[int, Problem]
) -> tuple[Sequence[int | None], NDArray[np.int32]]:
    ns, bad = times_of(array, times)
    absent = array.is_null().to_numpy(zero_copy_only=False)
    for row, problem in bad.items():
        if not absent[row]:
            problems.setdefault(row, problem._replace(detail=f"phase_started: {problem.detail}"))
    distinct, index = np.unique(ns, return_inverse=True)
    values: list[int | None] = [*distinct.tolist(), None]
    return values, np.where(absent, len(distinct), index).astype(np.int32)
