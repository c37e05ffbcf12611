"""Partitions in an open state file: rows, marker and journal, each under seal, written in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from monitor.checkpoint import Damaged, Entry, Marker, Restored
from monitor.durable.database import Unsound, reading, transaction, writing
from monitor.durable.seals import changed, seal
from monitor.errors import StateError

EVERYTHING = -1
"""In the table of what was lost: every partition that has no marker."""


class Kept(msgspec.Struct, frozen=True):
    """What is stored beside a partition's rows.

    Attributes:
        marker: what the rows reflect.
        ends: the sink's end positions when everything before was acknowledged.
        rows: number of rows.
        sum: of their seals.
        entries: number of journal entries.
        journal: sum of their seals.
    """

    marker: Marker
    ends: dict[str, int]
    rows: int = 0
    sum: int = 0
    entries: int = 0
    journal: int = 0


class Stored(NamedTuple):
    """A partition as read: what `Checkpoint.restore` gives, and the sink's end positions."""

    restored: Restored
    ends: dict[str, int]


class Store:
    """Reads and writes the partitions of one open state file.

    Args:
        path: of the file, for messages.
        connection: from `monitor.durable.database.connect`.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._kept: dict[int, Kept] = {}
        self._seals: dict[int, dict[str, int]] = {}

    def partitions(self) -> list[int]:
        """Partitions that have a marker."""
        with reading(self._path):
            return [p for (p,) in self._connection.execute("SELECT partition FROM partitions ORDER BY 1")]

    def read(self, partition: int) -> Stored | None:
        """A partition with all its rows, every seal checked; None where it has no marker.

        Raises:
            Unsound: a seal does not fit, or a row is missing.
            StateError: the file cannot be read.
        """
        with reading(self._path):
            kept = self._read_kept(partition)
            if kept is None:
                return None
            rows = self._read_rows(partition, kept)
            journal = self._read_journal(partition, kept)
        self._kept[partition] = kept
        self._seals[partition] = {asset: seal(partition, asset, state) for asset, state in rows.items()}
        return Stored(Restored(rows, kept.marker, journal), kept.ends)

    def ends(self) -> dict[str, int]:
        """The sink's earliest end positions of all partitions: what they repeat together stands behind these."""
        kept: list[Kept] = []
        for partition in self.partitions():
            with suppress(Unsound), reading(self._path):  # of one that is damaged no position is known
                found = self._read_kept(partition)
                kept += [] if found is None else [found]
        named = set[str].intersection(*(set(one.ends) for one in kept)) if kept else set[str]()
        return {name: min(one.ends[name] for one in kept) for name in named}

    def lost(self, partition: int) -> Damaged | None:
        """Why a partition has no marker, where that is because of damage."""
        found = "SELECT damaged FROM lost WHERE partition IN (?, ?) ORDER BY partition DESC"
        with reading(self._path):
            row = self._connection.execute(found, (partition, EVERYTHING)).fetchone()
            return None if row is None else msgspec.msgpack.decode(row[0], type=Damaged)

    def salvaged(self, partition: int, reason: str) -> Damaged:
        """What can still be said of a partition that `read` refused."""
        damaged = Damaged(reason)
        with suppress(Unsound), reading(self._path):
            kept = self._read_kept(partition)
            if kept is not None:
                damaged = damaged._replace(position=kept.marker.position)
                damaged = damaged._replace(journal=self._read_journal(partition, kept))
        return damaged

    def give_up(self, partition: int, damaged: Damaged) -> None:
        """Remove what is there of a partition, and remember until its next `write` that it was lost."""
        with writing(self._path), transaction(self._connection):
            for table in ("partitions", "assets", "journal"):
                self._connection.execute(f"DELETE FROM {table} WHERE partition = ?", (partition,))
            raw = msgspec.msgpack.encode(damaged)
            self._connection.execute("INSERT OR REPLACE INTO lost VALUES (?, ?)", (partition, raw))
        self._kept.pop(partition, None)
        self._seals.pop(partition, None)

    def write(
        self, partition: int, rows: Mapping[str, bytes | None], marker: Marker, ends: Mapping[str, int]
    ) -> None:
        """Rows that changed (None: that end) and the marker, as one.

        Raises:
            StateError: nothing was written.
        """
        before, seals = self._kept.get(partition), self._seals.get(partition, {})
        come = {asset: seal(partition, asset, row) for asset, row in rows.items() if row is not None}
        gone = {asset: seals[asset] for asset in rows if asset in seals}
        with writing(self._path), transaction(self._connection):
            kept = msgspec.structs.replace(
                before or self._begin(partition, marker), marker=marker, ends=dict(ends)
            )
            kept = msgspec.structs.replace(
                kept,
                rows=kept.rows + len(come) - len(gone),
                sum=changed(kept.sum, gone.values(), come.values()),
            )
            self._write_rows(partition, rows)
            self._write_kept(partition, kept)
        left = {asset: its for asset, its in seals.items() if asset not in gone}
        self._kept[partition], self._seals[partition] = kept, left | come

    def append(self, partition: int, entries: Sequence[Entry]) -> None:
        """Entries to the end of a partition's journal.

        Raises:
            StateError: nothing was written; also where the partition has no beginning yet.
        """
        if partition not in self._kept:
            raise StateError(
                f"{self._path}: partition {partition}: got a command for the journal before the partition's beginning "
                "was durable, expected it after"
            )
        with writing(self._path), transaction(self._connection):
            kept = self._append(partition, self._kept[partition], entries)
            self._write_kept(partition, kept)
        self._kept[partition] = kept

    def close(self) -> None:
        """Leave the file; its write-ahead log goes into it."""
        self._connection.close()

    # -- reading --------------------------------------------------------------------------------------------

    def _read_kept(self, partition: int) -> Kept | None:
        found = "SELECT kept, seal FROM partitions WHERE partition = ?"
        row = self._connection.execute(found, (partition,)).fetchone()
        if row is None:
            return None
        if seal(partition, row[0]).to_bytes(8, "little") != row[1]:
            raise Unsound(f"the marker of partition {partition} does not fit its checksum")
        return msgspec.msgpack.decode(row[0], type=Kept)

    def _read_rows(self, partition: int, kept: Kept) -> dict[str, bytes]:
        found = "SELECT asset, state FROM assets WHERE partition = ? ORDER BY asset"
        rows: dict[str, bytes] = dict(self._connection.execute(found, (partition,)))
        total = changed(0, (), (seal(partition, asset, state) for asset, state in rows.items()))
        if (len(rows), total) != (kept.rows, kept.sum):
            raise Unsound(
                f"the {len(rows)} rows of partition {partition} do not fit their checksum of {kept.rows} rows"
            )
        return rows

    def _read_journal(self, partition: int, kept: Kept) -> tuple[Entry, ...]:
        found = "SELECT partition, place, entry FROM journal WHERE partition = ? ORDER BY place"
        rows = self._connection.execute(found, (partition,)).fetchall()
        if (len(rows), changed(0, (), (seal(*row) for row in rows))) != (kept.entries, kept.journal):
            raise Unsound(f"the journal of partition {partition} does not fit its checksum")
        return tuple(msgspec.msgpack.decode(row[2], type=Entry) for row in rows)

    # -- writing --------------------------------------------------------------------------------------------

    def _begin(self, partition: int, marker: Marker) -> Kept:
        """A partition's first commit; the journal of one that was lost goes on."""
        lost = self.lost(partition)
        self._connection.execute("DELETE FROM lost WHERE partition = ?", (partition,))
        return self._append(partition, Kept(marker, {}), lost.journal if lost else ())

    def _append(self, partition: int, kept: Kept, entries: Sequence[Entry]) -> Kept:
        rows = [(partition, kept.entries + n, msgspec.msgpack.encode(e)) for n, e in enumerate(entries)]
        self._connection.executemany("INSERT INTO journal VALUES (?, ?, ?)", rows)
        total = changed(kept.journal, (), (seal(*row) for row in rows))
        return msgspec.structs.replace(kept, entries=kept.entries + len(rows), journal=total)

    def _write_rows(self, partition: int, rows: Mapping[str, bytes | None]) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO assets VALUES (?, ?, ?)",
            ((partition, asset, row) for asset, row in rows.items() if row is not None),
        )
        self._connection.executemany(
            "DELETE FROM assets WHERE partition = ? AND asset = ?",
            ((partition, asset) for asset, row in rows.items() if row is None),
        )

    def _write_kept(self, partition: int, kept: Kept) -> None:
        raw = msgspec.msgpack.encode(kept)
        sealed = seal(partition, raw).to_bytes(8, "little")
        self._connection.execute(
            "INSERT OR REPLACE INTO partitions VALUES (?, ?, ?)", (partition, raw, sealed)
        )
