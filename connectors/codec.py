"""Raw records of one poll -> columnar batches, in one decode. Never raises for what a record holds.

Forms, told apart record by record; fields that are not named here are ignored,
and null is the same as a field left out (but for ``value`` and the entries of ``values``):

- **frame**: ``{"asset": a, "ts": t, "values": {tag: number or null}, "quality": {tag: word}?, "units": {tag:
  code}?, "batch": {...}?}``. One word for ``quality`` speaks of every value of the frame.
- **single reading**: ``{"asset": a, "ts": t, "sensor": tag, "value": number or null, "quality": word?,
  "unit": code?, "batch": {...}?}``.
- **columns**: ``{"asset": a or [a, ...], "ts": [t, ...], "values": {tag: [number or null, ...]}, "quality":
  word or {tag: word or [word, ...]}?, "units": {...}?, "batch": {...}?}``. Every list has one entry per row;
  one asset, one word or one batch context speaks of all rows.
- **Arrow IPC stream**: begins with FF FF FF FF; see `connectors.arrow`.

``t`` is described in `connectors.times`, ``word`` in `connectors.quality`, ``code`` in `connectors.units`;
``batch`` has ``batch_id``, ``recipe``, ``phase``, ``phase_started`` (a time) and ``lot``, all optional, ids
also as integers.

Strictness: a number in quotes, true and false are WRONG_TYPE; NaN and Infinity are not JSON, hence MALFORMED;
numbers beyond a double (1e999, 10,000 digits) are WRONG_TYPE; of a repeated key the last one counts, as in
most JSON readers. A frame or a single reading is taken or refused as a whole; rows of a many-row record are
refused one by one, and the record is then reported once with the first reason and the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType
from numpy.typing import NDArray

from connectors import arrow
from connectors.catalog import Catalog, Plan, converted
from connectors.problem import Problem, Refused, clipped, shown
from connectors.quality import EXPECTED, graded, quality_code
from connectors.records import Context, Decoded, Layout, Polled, Quality, RawRecord, Reason, Rejected
from connectors.rows import Assembly, Columns, Piece, Series, spread
from connectors.times import TimeReader

_CACHE = 4096
_ARROW = 0xFF
_Word = str | int | None
_Tags = tuple[str, ...]


class _Message(Struct, gc=False):
    """All three JSON forms at once: which one it is shows in which fields are set."""

    asset: str | list[str]
    ts: int | str | list[int | str]
    values: dict[str, float | list[float | None] | None] | None = None
    sensor: str | None = None
    value: float | UnsetType | None = UNSET
    quality: dict[str, _Word | list[_Word]] | _Word | UnsetType = UNSET
    unit: str | None = None
    units: Raw | UnsetType = UNSET
    batch: Raw | UnsetType = UNSET


class _BatchField(Struct, gc=False):
    batch_id: _Word = None
    recipe: _Word = None
    phase: _Word = None
    phase_started: int | str | None = None
    lot: _Word = None


class _Group:
    """Values of one poll's messages with the same tags and units: ``rows`` [M], ``flat`` [M * K]."""

    __slots__ = ("flat", "plan", "problem", "rows", "size")

    def __init__(self, plan: Plan, size: int) -> None:
        self.plan, self.problem, self.size = plan, plan.problem, size
        self.rows: list[int] = []
        self.flat: list[float | None] = []


class _Frames:
    """Frames and single readings of one class in one poll: one list entry per row."""

    __slots__ = ("asset", "class_index", "context", "groups", "quality", "record", "ts")

    def __init__(self, class_index: int) -> None:
        self.class_index = class_index
        self.groups: dict[_Tags | tuple[_Tags, bytes | str], _Group] = {}
        self.record: list[int] = []
        self.asset: list[int] = []
        self.ts: list[int | str] = []
        self.context: list[int] = []
        self.quality: list[tuple[int, int, int]] = []  # row, column, what was said


class Codec:
    """Decodes the records of one poll of one partition.

    Args:
        layout: classes, sensors, units and times.

    Raises:
        SettingsError: the layout's time unit or zone is unknown.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.catalog = Catalog(layout)
        self.times = TimeReader(layout.time)
        self._plans: dict[tuple[int, _Tags, bytes | str | None], Plan] = {}

    def decode(self, records: Sequence[RawRecord]) -> Decoded:
        """Columnar batches, at most one per asset class, rows in stream order, and what was rejected."""
        return _Poll(self, records).decoded()

    def poll(self, records: Sequence[RawRecord]) -> Polled:
        """What a poll that brought these records (one or more, of one partition) hands on."""
        decoded = self.decode(records)
        return Polled(
            partition=records[0].partition,
            position=records[-1].offset + 1,
            batches=decoded.batches,
            rejected=decoded.rejected,
            records=len(records),
            counts=decoded.counts,
            newest_ms=max(record.timestamp_ms for record in records),
        )

    def plan(self, class_index: int, tags: _Tags, units: bytes | str | None) -> Plan:
        """The plan for messages with these tags; ``units`` is the raw field, or a single reading's unit."""
        key = (class_index, tags, units)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= _CACHE:
                self._plans.clear()
            plan = self._plans[key] = self._new_plan(class_index, tags, units)
        return plan

    def _new_plan(self, class_index: int, tags: _Tags, units: bytes | str | None) -> Plan:
        try:
            named = {tags[0]: units} if isinstance(units, str) else _units_of(units)
        except Refused as refused:
            return self.catalog.plan(class_index, (), {})._replace(problem=refused.problem)
        return self.catalog.plan(class_index, tags, named)


class _Poll:
    """One decode: state that lives as long as one poll."""

    def __init__(self, codec: Codec, records: Sequence[RawRecord]) -> None:
        self._codec = codec
        self._records = records
        self._assembly = Assembly(codec.catalog)
        self._problems: dict[int, Problem] = {}
        self._frames: dict[int, _Frames] = {}
        self._assets: dict[str, tuple[_Frames, int, bytes]] = {}
        self._contexts: dict[bytes, int | Problem] = {b"null": 0}
        self._mismatches = 0

    def decoded(self) -> Decoded:
        self._read()
        for frames in self._frames.values():
            self._finish(frames)
        offsets = np.fromiter((record.offset for record in self._records), np.int64, len(self._records))
        rejected = tuple(
            Rejected(self._records[index], problem.reason, clipped(problem.detail))
            for index, problem in sorted(self._problems.items())
        )
        counts = self._assembly.counts
        if self._mismatches:
            counts["KEY_MISMATCH"] = self._mismatches
        return Decoded(self._assembly.batches(offsets), rejected, tuple(sorted(counts.items())))

    def _read(self) -> None:
        """The hot loop: frames and single readings are appended to lists, the rest is handed on."""
        decode = _DECODER.decode
        problems, assets, max_bytes = self._problems, self._assets, self._codec.layout.max_bytes
        for index, (_, _, key, value, _, _) in enumerate(self._records):
            if not value or len(value) > max_bytes or value[0] == _ARROW:
                self._special(index, value)
                continue
            try:
                message = decode(value)
            except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
                problems[index] = _problem_of(error)
                continue
            asset, values = message.asset, message.values
            if type(asset) is not str or type(message.ts) is list:
                self._many_rows(index, partial(self._columns_of, message))
                continue
            found = assets.get(asset) or self._asset(index, asset)
            if found is None:
                continue
            frames, number, name = found
            if key is not None and key != name:
                self._mismatches += 1
            if values is None or message.sensor is not None:
                self._single(index, message, frames, number)
                continue
            tags = tuple(values)
            units = message.units
            group = frames.groups.get(tags if units is UNSET else (tags, bytes(units)))
            if group is None:
                group = self._group(frames, tags, None if units is UNSET else bytes(units))
            if group.problem is not None or message.unit is not None:
                problems[index] = group.problem or _UNIT_OF_MANY
                continue
            if not self._append(index, message, frames, number, group):
                continue
            group.flat.extend(values.values())  # pyright: ignore[reportArgumentType] - lists are found later

    def _append(self, index: int, message: _Message, frames: _Frames, number: int, group: _Group) -> bool:
        """Append everything but the values; False if the message is refused after all."""
        batch = message.batch
        context = 0 if batch is UNSET else self._context(bytes(batch))
        if type(context) is not int:
            self._problems[index] = context  # pyright: ignore[reportArgumentType] - a Problem
            return False
        row = len(frames.ts)
        if message.quality is not UNSET and not self._quality(index, message, frames, row, group):
            return False
        group.rows.append(row)
        frames.record.append(index)
        frames.asset.append(number)
        frames.ts.append(message.ts)  # pyright: ignore[reportArgumentType] - lists are another form
        frames.context.append(context)
        return True

    def _single(self, index: int, message: _Message, frames: _Frames, number: int) -> None:
        sensor, value = message.sensor, message.value
        problem = _single_problem(message)
        if problem is not None or sensor is None or value is UNSET:
            self._problems[index] = problem or Problem(Reason.MISSING_FIELD, "value is missing")
            return
        unit = message.unit
        tags = (sensor,)
        group = frames.groups.get(tags if unit is None else (tags, unit)) or self._group(frames, tags, unit)
        if group.problem is not None:
            self._problems[index] = group.problem
        elif self._append(index, message, frames, number, group):
            group.flat.append(value)

    def _group(self, frames: _Frames, tags: _Tags, units: bytes | str | None) -> _Group:
        plan = self._codec.plan(frames.class_index, tags, units)
        group = frames.groups[tags if units is None else (tags, units)] = _Group(plan, len(tags))
        return group

    def _asset(self, index: int, asset: str) -> tuple[_Frames, int, bytes] | None:
        class_index = self._codec.catalog.class_of(asset)
        if class_index < 0:
            self._problems[index] = self._codec.catalog.unknown_asset(asset)
            return None
        frames = self._frames.get(class_index)
        if frames is None:
            frames = self._frames[class_index] = _Frames(class_index)
        number = self._assembly.asset(class_index, asset)
        found = self._assets[asset] = (frames, number, asset.encode())
        return found

    def _context(self, raw: bytes) -> int | Problem:
        context = self._contexts.get(raw)
        if context is None:
            context = self._contexts[raw] = self._new_context(raw)
        return context

    def _new_context(self, raw: bytes) -> int | Problem:
        try:
            field = _BATCH_DECODER.decode(raw)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            problem = _problem_of(error)
            return problem._replace(detail=f"batch: {problem.detail}")
        started = None
        if field.phase_started is not None:
            ns, problems = self._codec.times.read([field.phase_started])
            if problems:
                return problems[0]._replace(detail=f"batch.phase_started: {problems[0].detail}")
            started = int(ns[0])
        texts = [
            None if v is None else str(v) for v in (field.batch_id, field.recipe, field.phase, field.lot)
        ]
        return self._assembly.context(Context(texts[0], texts[1], texts[2], started, texts[3]))

    def _quality(self, index: int, message: _Message, frames: _Frames, row: int, group: _Group) -> bool:
        """Note the quality of a frame or single reading; False if it cannot be read."""
        said = message.quality
        if said is None or said is UNSET or said == "GOOD":
            return True
        known = self._codec.catalog.columns(frames.class_index)
        if isinstance(said, dict):
            marks = [(known.get(tag), tag, word) for tag, word in said.items()]
        else:
            marks = [(column, "", said) for column in group.plan.columns.tolist()]
        noted: list[tuple[int, int, int]] = []
        for column, tag, word in marks:
            code = None if isinstance(word, list) else quality_code(word)
            if code is None:
                self._problems[index] = Problem(
                    Reason.BAD_QUALITY_WORD, f"quality {shown(tag)}: got {shown(word)}, {EXPECTED}"
                )
                return False
            if column is not None:
                noted.append((row, column, code))
            elif not self._codec.layout.ignore_unknown_sensors:
                self._problems[index] = self._codec.catalog.unknown_sensor(frames.class_index, tag)
                return False
        frames.quality += noted
        return True

    def _finish(self, frames: _Frames) -> None:
        """Lists -> arrays; rows with a bad time or a bad value go to the problems."""
        width = len(self._codec.layout.classes[frames.class_index].sensors)
        time, bad = self._codec.times.read(frames.ts)
        values = np.full((len(time), width), np.nan)
        absent = np.ones((len(time), width), dtype=np.bool_)
        for group in frames.groups.values():
            if group.rows and group.problem is None:
                self._place(group, values, absent, bad)
        quality = graded(values, absent, _said(frames.quality, values.shape))
        piece = Piece(
            np.array(frames.record, dtype=np.int64),
            np.array(frames.asset, dtype=np.int32),
            time,
            values,
            quality,
            np.array(frames.context, dtype=np.int32),
        )
        if bad:
            for row, problem in bad.items():
                self._problems[frames.record[row]] = problem
            kept = np.ones(len(time), dtype=np.bool_)
            kept[list(bad)] = False
            piece = piece.take(kept)
        self._assembly.add(frames.class_index, piece)

    def _place(
        self, group: _Group, values: NDArray[np.float64], absent: NDArray[np.bool_], bad: dict[int, Problem]
    ) -> None:
        plan = group.plan
        block = _block(group, bad)
        if plan.ignored:
            self._assembly.counts["UNKNOWN_SENSOR"] += plan.ignored * len(group.rows)
        if plan.take is not None:
            block = block[:, plan.take]
        none = np.isnan(block)  # JSON has no NaN: these were null
        if plan.factor is not None and plan.offset is not None:
            block = converted(block, plan.factor, plan.offset)
        cells = np.array(group.rows, dtype=np.intp)[:, None], plan.columns
        values[cells] = block
        absent[cells] = none

    def _special(self, index: int, value: bytes | None) -> None:
        """Records that are no JSON or must not be read at all."""
        max_bytes = self._codec.layout.max_bytes
        if not value:
            self._problems[index] = Problem(Reason.EMPTY, "the record has no value")
        elif len(value) > max_bytes:
            self._problems[index] = Problem(
                Reason.TOO_LARGE, f"the record has {len(value)} bytes, expected at most {max_bytes}"
            )
        else:
            limit = row_limit(self._codec.layout)
            self._many_rows(index, lambda: arrow.read_message(value, self._codec.times, limit))

    def _many_rows(self, index: int, read: Callable[[], Columns]) -> None:
        try:
            columns = read()
        except Refused as refused:
            self._problems[index] = refused.problem
            return
        key = self._records[index].key
        if key is not None and any(name is not None and key != name.encode() for name in columns.names):
            self._mismatches += 1
        size = len(columns.time)
        problems = spread(columns, self._assembly, np.full(size, index, dtype=np.int64))
        if problems:
            first = min(problems)
            detail = f"{len(problems)} of {size} rows, the first is row {first}: {problems[first].detail}"
            self._problems[index] = Problem(problems[first].reason, detail)

    def _columns_of(self, message: _Message) -> Columns:
        ts, values = message.ts, message.values
        if not isinstance(ts, list):
            raise Refused(Reason.WRONG_TYPE, "asset is a list, so ts must be one too")
        if values is None:
            raise Refused(Reason.MISSING_FIELD, "values is missing")
        size = _checked_size(len(ts), row_limit(self._codec.layout))
        names, asset = _asset_column(message.asset, size)
        if message.unit is not None:
            raise Refused(*_UNIT_OF_MANY)
        context = 0 if message.batch is UNSET else self._context(bytes(message.batch))
        if isinstance(context, Problem):
            raise Refused(*context)
        units = {} if message.units is UNSET else _units_of(bytes(message.units))
        said = _said_by_tag(message.quality, tuple(values), size)
        values |= {tag: [None] * size for tag in said if tag not in values}
        time, problems = self._codec.times.read(ts)
        return Columns(
            names=names,
            asset=asset,
            time=time,
            series=tuple(
                _series(tag, column, said.get(tag), units.get(tag), size) for tag, column in values.items()
            ),
            contexts=(self._assembly.contexts[context],),
            context=np.zeros(size, dtype=np.int32),
            problems=problems,
        )


_UNIT_OF_MANY = Problem(Reason.MALFORMED, "unit belongs to a single reading; expected units: {tag: code}")
_DECODER = msgspec.json.Decoder(_Message)
_BATCH_DECODER: msgspec.json.Decoder[_BatchField] = msgspec.json.Decoder(_BatchField)
_UNITS_DECODER: msgspec.json.Decoder[dict[str, str] | None] = msgspec.json.Decoder(dict[str, str] | None)


def row_limit(layout: Layout) -> int:
    """Most rows that one record may hold, so that a small hostile record cannot claim much memory."""
    return max(4096, layout.max_bytes // 16)


def _units_of(raw: bytes | None) -> Mapping[str, str]:
    try:
        return (_UNITS_DECODER.decode(raw) if raw else None) or {}
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        problem = _problem_of(error)
        raise Refused(problem.reason, f"units: {problem.detail}") from error


def _single_problem(message: _Message) -> Problem | None:
    if message.sensor is None:
        return Problem(Reason.MISSING_FIELD, "got neither values nor sensor, expected one of them")
    if message.values is not None:
        return Problem(Reason.MALFORMED, "got both values and sensor, expected one of them")
    if message.value is UNSET:
        return Problem(Reason.MISSING_FIELD, "value is missing (null says that there is none)")
    if message.units is not UNSET and bytes(message.units) != b"null":
        return Problem(Reason.MALFORMED, "units belongs to frames; a single reading has unit: code")
    if isinstance(message.quality, dict | list):
        return Problem(Reason.WRONG_TYPE, "quality of a single reading: got an object, expected a word")
    return None


def _block(group: _Group, bad: dict[int, Problem]) -> NDArray[np.float64]:
    """[M, K] values of a group; a list where a number belongs makes its row bad."""
    shape = (len(group.rows), group.size)
    try:
        flat = np.array(group.flat, dtype=np.float64)
    except (ValueError, TypeError):
        flat = None
    if flat is None or flat.ndim > 1:
        for place, value in enumerate(group.flat):
            if isinstance(value, list):
                row = group.rows[place // group.size]
                bad.setdefault(
                    row, Problem(Reason.WRONG_TYPE, "values: got a list, expected a number or null")
                )
        flat = np.array([None if isinstance(v, list) else v for v in group.flat], dtype=np.float64)
    return flat.reshape(shape)


def _said(marks: list[tuple[int, int, int]], shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    if not marks:
        return None
    said = np.full(shape, Quality.GOOD, dtype=np.uint8)
    table = np.array(marks, dtype=np.int64)
    said[table[:, 0], table[:, 1]] = table[:, 2]
    return said


def _checked_size(size: int, limit: int) -> int:
    if size == 0:
        raise Refused(Reason.EMPTY, "the record has no rows")
    if size > limit:
        raise Refused(Reason.TOO_LARGE, f"the record has {size} rows, expected at most {limit}")
    return size


def _asset_column(asset: str | list[str], size: int) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    if isinstance(asset, str):
        return (asset,), np.zeros(size, dtype=np.int32)
    _same_length("asset", len(asset), size)
    numbers: dict[str, int] = {}
    index = [numbers.setdefault(name, len(numbers)) for name in asset]
    return tuple(numbers), np.array(index, dtype=np.int32)


def _series(tag: str, column: Any, said: NDArray[np.uint8] | None, unit: str | None, size: int) -> Series:
    if not isinstance(column, list):
        raise Refused(Reason.WRONG_TYPE, f"values {shown(tag)}: got {shown(column)}, expected a list like ts")
    _same_length(f"values {shown(tag)}", len(column), size)
    values = np.array(column, dtype=np.float64)
    return Series(tag, values, np.isnan(values), said, unit)


def _same_length(what: str, got: int, size: int) -> None:
    if got != size:
        raise Refused(Reason.WRONG_TYPE, f"{what}: got {got} entries, expected {size} like ts")


def _said_by_tag(said: Any, tags: _Tags, size: int) -> dict[str, NDArray[np.uint8]]:
    if said is UNSET or said is None:
        return {}
    by_tag = said if isinstance(said, dict) else dict.fromkeys(tags, said)
    return {tag: _said_column(tag, words, size) for tag, words in by_tag.items()}


def _said_column(tag: str, words: Any, size: int) -> NDArray[np.uint8]:
    if not isinstance(words, list):
        return np.full(size, _said_code(tag, words), dtype=np.uint8)
    _same_length(f"quality {shown(tag)}", len(words), size)
    return np.array([_said_code(tag, word) for word in words], dtype=np.uint8)


def _said_code(tag: str, word: _Word) -> int:
    code = quality_code(word)
    if code is None:
        raise Refused(Reason.BAD_QUALITY_WORD, f"quality {shown(tag)}: got {shown(word)}, {EXPECTED}")
    return code


def _problem_of(error: Exception) -> Problem:
    """Why JSON could not be decoded, from msgspec's error."""
    text = str(error)
    if isinstance(error, msgspec.ValidationError):
        if "missing required field" in text:
            return Problem(Reason.MISSING_FIELD, text)
        return Problem(Reason.BAD_TIME if "`$.ts" in text else Reason.WRONG_TYPE, text)
    if isinstance(error, RecursionError):
        return Problem(Reason.MALFORMED, "nested too deeply")
    return Problem(Reason.MALFORMED, text)
