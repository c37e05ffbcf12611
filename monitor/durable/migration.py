"""From older formats of the state folder to the present one, step by step; nothing old is deleted.

A step takes a folder of its format to the next format, whole or not at all: the new file appears by a rename, and only
then are the old ones moved into `OLD`. A crash between the two leaves the new file in force and the moving to be
finished.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

from monitor.checkpoint import Damaged
from monitor.durable import snapshot_files
from monitor.durable.database import FORMAT, NAME, Unsound, create, writing
from monitor.durable.store import Store
from monitor.errors import StateError

OLD = "format-1"
"""Folder into which the files of format 1 are moved."""


def migrate(folder: Path) -> bool:
    """Bring a state folder to the present format; returns whether there was something to do.

    Raises:
        StateError: it cannot be read or written.
    """
    found = _format(folder)
    for step in range(found, FORMAT):
        _STEPS[step](folder)
    _finish(folder)
    return found < FORMAT


def _format(folder: Path) -> int:
    """The state file tells its own format when it is opened; what is older lies beside it."""
    return 1 if not (folder / NAME).exists() and snapshot_files.partitions(folder) else FORMAT


def _from_snapshot_files(folder: Path) -> None:
    try:
        journals = snapshot_files.read_journal(folder)
    except Unsound as damage:
        raise StateError(
            f"{folder}: {damage}; hint: remove the line; its decision is then taken up anew"
        ) from None

    def fill(connection: sqlite3.Connection) -> None:
        store = Store(folder / NAME, connection)
        for partition, path in snapshot_files.partitions(folder).items():
            entries = journals.get(partition, [])
            try:
                old = snapshot_files.read(path)
            except Unsound as damage:
                store.give_up(
                    partition, Damaged(f"{damage}; it lies in {folder / OLD}", None, tuple(entries))
                )
            else:
                store.write(partition, old.rows, old.marker, old.ends)
                store.append(partition, entries)

    create(folder, fill)


def _finish(folder: Path) -> None:
    """Move what has been taken over out of the way."""
    old = [*snapshot_files.partitions(folder).values(), folder / snapshot_files.JOURNAL]
    present = [path for path in old if path.exists()]
    if present:
        with writing(folder / OLD):
            (folder / OLD).mkdir(exist_ok=True)
            for path in present:
                path.rename(folder / OLD / path.name)


_STEPS: Mapping[int, Callable[[Path], None]] = {1: _from_snapshot_files}
