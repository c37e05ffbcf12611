"""Times of a CSV column as ns since the epoch, however they are written; what cannot be read is counted instead."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from connectors.records import TimeLayout
from connectors.times import TimeReader
from monitor.proposal_rules import TIME_FORMATS
from monitor.quantities import NS_PER_S, Instant

_YEARS: Final = (int(Instant.parse("1990-01-01T00:00:00Z")), int(Instant.parse("2100-01-01T00:00:00Z")))
_UNITS: Final = {"s": NS_PER_S, "ms": 10**6, "us": 10**3, "ns": 1}
_FIRST_NS: Final = 1_577_836_800 * NS_PER_S
_MOST_BAD: Final = 0.01
_LONGEST_S: Final = 2.0e9
"""Numbers that are no times since 1970 are seconds from 2020 on, as long as they stay within 60 years."""


def times_of(cells: Any, rows: int, notes: list[str]) -> NDArray[np.int64]:
    """Time of each row.

    Args:
        cells: the column, None without one.
        rows: N.
        notes: take what was assumed.

    Returns:
        [N] ns since the epoch, in the order of the file.
    """
    counted = _FIRST_NS + np.arange(rows, dtype=np.int64) * NS_PER_S
    if cells is None:
        notes.append("no timestamp column: rows are taken to be one second apart")
        return counted
    if pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type):
        found = _of_numbers(np.asarray(cells.cast(pa.float64()).to_numpy(zero_copy_only=False)), cells, notes)
    else:
        found = _of_texts(["" if text is None else str(text) for text in cells.to_pylist()], notes)
    if found is None:
        notes.append("the timestamps cannot be read: rows are taken to be one second apart")
        return counted
    return found


def _of_numbers(values: NDArray[np.float64], cells: Any, notes: list[str]) -> NDArray[np.int64] | None:
    known = np.isfinite(values)
    if not known.any() or np.mean(~known) > _MOST_BAD:
        return None
    for unit, scale in _UNITS.items():
        if _YEARS[0] <= values[known].min() * scale and values[known].max() * scale <= _YEARS[1]:
            notes.append(f"timestamps are taken for {unit} since 1970")
            exact = pa.types.is_integer(cells.type) and known.all()
            whole = np.asarray(cells.to_numpy(zero_copy_only=False), np.int64) * scale if exact else None
            return whole if whole is not None else _filled(values * scale, known, notes)
    offset = values - values[known].min()
    if offset[known].max() > _LONGEST_S:
        return None
    notes.append("timestamps are no times since 1970: they are taken for seconds")
    return _FIRST_NS + _filled(offset * NS_PER_S, known, notes)


def _of_texts(texts: Sequence[str], notes: list[str]) -> NDArray[np.int64] | None:
    """ISO 8601 first, then the formats of `nuwatch init`; times without an offset are taken for UTC."""
    stripped = [text.strip() for text in texts]
    for form in (None, *TIME_FORMATS):
        for zone in (None, "UTC"):
            read = stripped if form is None else [_by_format(text, form) for text in stripped]
            if not read or not read[0]:
                continue
            ns, bad = TimeReader(TimeLayout(zone=zone, earliest=_YEARS[0], latest=_YEARS[1])).of_texts(read)
            if len(bad) <= _MOST_BAD * len(read):
                known = np.ones(len(read), np.bool_)
                known[list(bad)] = False
                return _filled(np.asarray(ns), known, notes)
    return None


def _by_format(text: str, form: str) -> str:
    try:
        return datetime.strptime(text, form).isoformat()
    except ValueError:
        return ""


def _filled(ns: NDArray[Any], known: NDArray[np.bool_], notes: list[str]) -> NDArray[np.int64]:
    """Unreadable times become the last readable one before them, else the first."""
    if known.all():
        return np.asarray(np.round(ns) if ns.dtype.kind == "f" else ns, np.int64)
    notes.append(
        f"{np.count_nonzero(~known)} timestamps cannot be read: those rows count with the row before them"
    )
    first = int(np.argmax(known))
    last = np.maximum(np.maximum.accumulate(np.where(known, np.arange(len(ns)), -1)), first)
    whole = np.where(known, ns, 0)
    return np.asarray(np.round(whole) if whole.dtype.kind == "f" else whole, np.int64)[last]
