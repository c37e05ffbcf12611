"""Collects the rows of one poll, whatever form they came in, into at most one `Batch` per asset class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from connectors.catalog import Catalog, converted
from connectors.ports import Start
from connectors.problem import Problem
from connectors.quality import graded
from connectors.records import NO_CONTEXT, Batch, Context, Quality, Reason

_Name = TypeVar("_Name")


class Series(NamedTuple):
    """One sensor's column: [N] values with NaN where `absent`, and what the sender said of their quality."""

    tag: str
    values: NDArray[np.float64]
    absent: NDArray[np.bool_]
    said: NDArray[np.uint8] | None = None
    unit: str | None = None


class Columns(NamedTuple):
    """N rows as columns under their tags, before they are matched with the layout.

    Attributes:
        names: asset names; None means that the row names none.
        asset: [N] index into ``names``.
        time: [N] ns; 0 where ``problems`` has the row.
        series: the sensors; the same tag may occur again (in another unit) and then fills what is still
            absent.
        contexts: batch contexts, and
        context: [N] index into them.
        problems: rows that cannot be used.
    """

    names: tuple[str | None, ...]
    asset: NDArray[np.int32]
    time: NDArray[np.int64]
    series: tuple[Series, ...]
    contexts: tuple[Context, ...]
    context: NDArray[np.int32]
    problems: dict[int, Problem]


class Piece(NamedTuple):
    """Rows of one class from one form of message; ``record`` [N] is the index of their record in the poll."""

    record: NDArray[np.int64]
    asset: NDArray[np.int32]
    time: NDArray[np.int64]
    values: NDArray[np.float64]
    quality: NDArray[np.uint8]
    context: NDArray[np.int32]

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Piece:
        """The chosen rows."""
        return Piece(
            self.record[rows],
            self.asset[rows],
            self.time[rows],
            self.values[rows],
            self.quality[rows],
            self.context[rows],
        )


class Assembly:
    """The rows of one poll of one partition on their way into batches."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.counts: Counter[str] = Counter()
        size = len(catalog.layout.classes)
        self._contexts: dict[Context, int] = {NO_CONTEXT: 0}
        self._assets: list[dict[str, int]] = [{} for _ in range(size)]
        self._pieces: list[list[Piece]] = [[] for _ in range(size)]

    def context(self, context: Context) -> int:
        """Index of a batch context in this poll."""
        return self._contexts.setdefault(context, len(self._contexts))

    @property
    def contexts(self) -> tuple[Context, ...]:
        """The batch contexts so far, by index."""
        return tuple(self._contexts)

    def asset(self, class_index: int, name: str) -> int:
        """Index of an asset within its class in this poll."""
        assets = self._assets[class_index]
        return assets.setdefault(name, len(assets))

    def add(self, class_index: int, piece: Piece) -> None:
        """Take rows of a class; their records must be in ascending order."""
        if len(piece.record):
            self._pieces[class_index].append(piece)

    def batches(self, offsets: NDArray[np.int64]) -> tuple[Batch, ...]:
        """The rows in stream order; ``offsets`` are the positions of the poll's records."""
        return tuple(
            self._batch(index, pieces, offsets) for index, pieces in enumerate(self._pieces) if pieces
        )

    def _batch(self, class_index: int, pieces: list[Piece], offsets: NDArray[np.int64]) -> Batch:
        piece = pieces[0] if len(pieces) == 1 else _in_order(pieces)
        assets, asset = _used(tuple(self._assets[class_index]), piece.asset, keep=0)
        contexts, context = _used(tuple(self._contexts), piece.context, keep=1)
        return Batch(
            asset_class=self.catalog.layout.classes[class_index].name,
            assets=assets,
            asset=asset,
            time=piece.time,
            values=piece.values,
            quality=piece.quality,
            contexts=contexts,
            context=context,
            offset=offsets[piece.record],
        )


def _in_order(pieces: list[Piece]) -> Piece:
    joined = Piece(
        np.concatenate([piece.record for piece in pieces]),
        np.concatenate([piece.asset for piece in pieces]),
        np.concatenate([piece.time for piece in pieces]),
        np.concatenate([piece.values for piece in pieces]),
        np.concatenate([piece.quality for piece in pieces]),
        np.concatenate([piece.context for piece in pieces]),
    )
    return joined.take(np.argsort(joined.record, kind="stable"))


def _used(
    names: tuple[_Name, ...], index: NDArray[np.int32], keep: int
) -> tuple[tuple[_Name, ...], NDArray[np.int32]]:
    """Drop names that no row has any more (but the first `keep`), so that equal rows make equal batches."""
    used = np.bincount(index, minlength=len(names)) > 0
    used[:keep] = True
    if used.all():
        return names, index
    renumbered = (np.cumsum(used) - 1).astype(np.int32)
    return tuple(name for name, kept in zip(names, used.tolist(), strict=True) if kept), renumbered[index]


def rows_of(batch: Batch, rows: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Batch:
    """The chosen rows of a batch."""
    assets, asset = _used(batch.assets, batch.asset[rows], keep=0)
    contexts, context = _used(batch.contexts, batch.context[rows], keep=1)
    return Batch(
        batch.asset_class,
        assets,
        asset,
        batch.time[rows],
        batch.values[rows],
        batch.quality[rows],
        contexts,
        context,
        batch.offset[rows],
    )


def joined(batches: Sequence[Batch]) -> Batch:
    """The rows of batches of one class, one after the other."""
    assets: dict[str, int] = {}
    contexts: dict[Context, int] = {NO_CONTEXT: 0}
    return Batch(
        asset_class=batches[0].asset_class,
        asset=np.concatenate([_pooled(batch.assets, assets)[batch.asset] for batch in batches]),
        time=np.concatenate([batch.time for batch in batches]),
        values=np.concatenate([batch.values for batch in batches]),
        quality=np.concatenate([batch.quality for batch in batches]),
        context=np.concatenate([_pooled(batch.contexts, contexts)[batch.context] for batch in batches]),
        offset=np.concatenate([batch.offset for batch in batches]),
        assets=tuple(assets),
        contexts=tuple(contexts),
    )


def _pooled(names: Sequence[_Name], pool: dict[_Name, int]) -> NDArray[np.int32]:
    """[len(names)] number of each name in a pool that grows by the new ones."""
    return np.array([pool.setdefault(name, len(pool)) for name in names], dtype=np.int32)


def numbered(batches: Iterable[Batch]) -> list[Batch]:
    """Batches that are not empty, their rows at the positions 0, 1, 2, ..."""
    first = 0
    result: list[Batch] = []
    for batch in batches:
        size = len(batch.time)
        if size:
            result.append(batch._replace(offset=np.arange(first, first + size, dtype=np.int64)))
        first += size
    return result


def first_position(batches: Iterable[Batch], start: Start) -> int | None:
    """Position of the earliest row at or after a start; None where there is none."""
    if start == "latest":
        return None
    if start == "earliest":
        return 0
    found = [batch.offset[batch.time >= start] for batch in batches]
    return min((int(offset[0]) for offset in found if len(offset)), default=None)


def rows_from(batches: Sequence[Batch], position: int | None, start: Start) -> list[Batch]:
    """What is left of batches behind a stored position, or else behind a start."""
    first = first_position(batches, start) if position is None else position
    if first is None:
        return []
    left = [rows_of(batch, batch.offset >= first) for batch in batches]
    return [batch for batch in left if len(batch.time)]


def spread(columns: Columns, assembly: Assembly, record: NDArray[np.int64]) -> dict[int, Problem]:
    """Match columns with the layout and hand their rows to the assembly.

    Args:
        columns: N rows.
        assembly: takes the good rows.
        record: [N] index of the record that each row came in, ascending.

    Returns:
        The rows that could not be used, and why.
    """
    catalog = assembly.catalog
    problems = dict(columns.problems)
    classes = np.array(
        [-2 if name is None else catalog.class_of(name) for name in columns.names], dtype=np.intp
    )
    row_class = classes[columns.asset]
    for row in np.flatnonzero(row_class < 0).tolist():
        problems.setdefault(row, _no_class(catalog, columns.names[columns.asset[row]]))
    usable = np.ones(len(record), dtype=np.bool_)
    usable[list(problems)] = False
    for class_index in np.unique(row_class[usable]).tolist():
        rows = np.flatnonzero(usable & (row_class == class_index))
        problems.update(_spread_class(columns, assembly, record, class_index, rows))
    return problems


def _no_class(catalog: Catalog, name: str | None) -> Problem:
    if name is None:
        return Problem(Reason.MISSING_FIELD, "asset: got null, expected the asset's name")
    return catalog.unknown_asset(name)


def _spread_class(
    columns: Columns, assembly: Assembly, record: NDArray[np.int64], class_index: int, rows: NDArray[np.intp]
) -> dict[int, Problem]:
    catalog = assembly.catalog
    width = len(catalog.layout.classes[class_index].sensors)
    values = np.full((len(rows), width), np.nan)
    quality = np.zeros((len(rows), width), dtype=np.uint8)
    problems: dict[int, Problem] = {}
    for series in columns.series:
        given = ~series.absent[rows]
        if series.said is not None:
            given |= series.said[rows] == Quality.BAD
        if not given.any():
            continue
        problem = _fill(series, assembly, class_index, rows, given, values, quality)
        if problem is not None:
            problems.update((row, problem) for row in rows[given].tolist())
    kept = np.ones(len(rows), dtype=np.bool_)
    if problems:
        kept = ~np.isin(rows, list(problems))
    if not kept.any():
        return problems
    asset, context = _renumbered(columns, assembly, class_index, rows[kept])
    piece = Piece(record[rows[kept]], asset, columns.time[rows[kept]], values[kept], quality[kept], context)
    assembly.add(class_index, piece)
    return problems


def _fill(
    series: Series,
    assembly: Assembly,
    class_index: int,
    rows: NDArray[np.intp],
    given: NDArray[np.bool_],
    values: NDArray[np.float64],
    quality: NDArray[np.uint8],
) -> Problem | None:
    """Write one series into its column of a class's rows; the problem if it has no place there."""
    catalog = assembly.catalog
    column = catalog.columns(class_index).get(series.tag)
    if column is None:
        if not catalog.layout.ignore_unknown_sensors:
            return catalog.unknown_sensor(class_index, series.tag)
        assembly.counts["UNKNOWN_SENSOR"] += int(given.sum())
        return None
    part = series.values[rows]
    if series.unit is not None:
        change = catalog.conversion(class_index, column, series.unit)
        if isinstance(change, Problem):
            return change
        if change != (1.0, 0.0):
            part = converted(part, *change)
    code = graded(part, series.absent[rows], None if series.said is None else series.said[rows])
    open_cells = given & (quality[:, column] == Quality.ABSENT)
    values[open_cells, column] = part[open_cells]
    quality[open_cells, column] = code[open_cells]
    return None


def _renumbered(
    columns: Columns, assembly: Assembly, class_index: int, rows: NDArray[np.intp]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Asset and context of the rows, [N] each, as the assembly numbers them (in order of appearance)."""
    return (
        _remap(columns.asset[rows], columns.names, lambda name: assembly.asset(class_index, name or "")),
        _remap(columns.context[rows], columns.contexts, assembly.context),
    )


def _remap(
    index: NDArray[np.int32], names: Sequence[_Name], number: Callable[[_Name], int]
) -> NDArray[np.int32]:
    present, first = np.unique(index, return_index=True)
    numbers = np.zeros(len(names), dtype=np.int32)
    for old in present[np.argsort(first)].tolist():
        numbers[old] = number(names[old])
    return numbers[index]


def contexts_of(
    fields: Mapping[str, tuple[Sequence[str | int | None], NDArray[np.int32]]], size: int
) -> tuple[tuple[Context, ...], NDArray[np.int32]]:
    """Contexts and [N] index from coded columns: each field's distinct values and [N] index into them."""
    combined = np.zeros(size, dtype=np.int64)
    for values, index in fields.values():
        _, combined = np.unique(combined * max(1, len(values)) + index, return_inverse=True)
    _, first, context = np.unique(combined, return_index=True, return_inverse=True)
    made = [
        _context({name: values[int(index[row])] for name, (values, index) in fields.items()}) for row in first
    ]
    return tuple(made), context.astype(np.int32)


def _context(fields: Mapping[str, Any]) -> Context:
    return Context(**fields)
