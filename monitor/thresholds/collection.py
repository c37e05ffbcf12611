"""Scores collected for a new limit, in order of time.

Shape letters: n assets of one step, S scorers, N collected windows.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from monitor.table import Table

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.integer[Any]]

KEEP_AT_MOST = 262_144
"""Collected windows of one asset, at most: 4 MB with 4 scorers."""
CHUNK = 64
"""Collected windows are staged in arrays and handed over in chunks: most steps touch no Python object."""


class Collected(NamedTuple):
    """An asset's collection.

    Attributes:
        u: [N, S] scores on the bundle's ratio scale, as they were kept (float32).
        breaks: [N] True where the smoothing restarted.
        start_ns: window end of the first.
    """

    u: NDArray[np.float32]
    breaks: Bools
    start_ns: int


class _Chunks:
    def __init__(self) -> None:
        self.u = deque[NDArray[np.float32]]()
        self.breaks = deque[Bools]()
        self.start_ns = deque[int]()

    def drop_oldest(self, chunks: int) -> None:
        for _ in range(min(chunks, len(self.u))):
            self.u.popleft()
            self.breaks.popleft()
            self.start_ns.popleft()


class _Saved(Struct, frozen=True, array_like=True):
    row: bytes
    u: bytes
    breaks: bytes
    start_ns: tuple[int, ...]


class Collections:
    """Collections of the assets of one class.

    Args:
        scorers: S.
    """

    def __init__(self, scorers: int) -> None:
        self._scorers = scorers
        self._table = Table(
            [
                ("segment", np.int64, ()),
                ("gap", np.bool_, ()),
                ("staged", np.int32, ()),
                ("staged_from", np.int64, ()),
                ("staged_u", np.float32, (CHUNK, scorers)),
                ("staged_break", np.bool_, (CHUNK,)),
            ],
            {"gap": True},
        )
        self._chunks = dict[int, _Chunks]()

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` assets."""
        self._table.grow(capacity)

    def dump(self, row: int) -> bytes:
        """State of one asset."""
        kept = self._of(row)
        saved = _Saved(
            row=self._table.dump(row),
            u=b"".join(chunk.tobytes() for chunk in kept.u),
            breaks=b"".join(chunk.tobytes() for chunk in kept.breaks),
            start_ns=tuple(kept.start_ns),
        )
        return msgspec.msgpack.encode(saved)

    def load(self, row: int, data: bytes) -> None:
        """Put back what `dump` gave."""
        saved = msgspec.msgpack.decode(data, type=_Saved)
        self._table.load(row, saved.row)
        kept = self._chunks[row] = _Chunks()
        kept.u.extend(np.frombuffer(saved.u, np.float32).reshape(-1, CHUNK, self._scorers))
        kept.breaks.extend(np.frombuffer(saved.breaks, np.bool_).reshape(-1, CHUNK))
        kept.start_ns.extend(saved.start_ns)

    def interrupt(self, rows: Rows) -> None:
        """Windows of these assets are left out here."""
        self._table["gap"][rows] = True

    def take(self, rows: Rows, end_ns: NDArray[np.int64], u: Floats, segment: NDArray[np.int64]) -> list[int]:
        """One window of each of n assets; indices of those that have another full chunk with it."""
        table = self._table
        at = table["staged"][rows]
        table["staged_u"][rows, at] = u
        table["staged_break"][rows, at] = table["gap"][rows] | (segment != table["segment"][rows])
        table["staged_from"][rows] = np.where(at == 0, end_ns, table["staged_from"][rows])
        table["segment"][rows], table["gap"][rows], table["staged"][rows] = segment, False, at + 1
        full = np.flatnonzero(table["staged"][rows] == CHUNK).tolist()
        for index in full:
            self._keep(int(rows[index]))
        return full

    def size(self, row: int) -> int:
        """Windows in full chunks."""
        return len(self._of(row).u) * CHUNK

    def collected(self, row: int) -> Collected:
        """The full chunks; there must be one."""
        kept = self._of(row)
        return Collected(np.concatenate(list(kept.u)), np.concatenate(list(kept.breaks)), kept.start_ns[0])

    def drop(self, row: int) -> None:
        """Begin afresh."""
        self._chunks.pop(row, None)
        self._table["staged"][row], self._table["gap"][row] = 0, True

    def drop_older_half(self, row: int) -> None:
        """The younger half may be the new normal."""
        kept = self._of(row)
        kept.drop_oldest(len(kept.u) // 2)

    def _keep(self, row: int) -> None:
        table, kept = self._table, self._of(row)
        kept.u.append(table["staged_u"][row].copy())
        kept.breaks.append(table["staged_break"][row].copy())
        kept.start_ns.append(int(table["staged_from"][row]))
        table["staged"][row] = 0
        kept.drop_oldest(len(kept.u) - KEEP_AT_MOST // CHUNK)

    def _of(self, row: int) -> _Chunks:
        return self._chunks.setdefault(row, _Chunks())
