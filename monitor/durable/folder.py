"""The state folder: locked by its user, brought to the present format, its file opened or, when damaged, replaced."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

from monitor.checkpoint import Damaged
from monitor.durable.database import NAME, Unsound, connect, create, free_name, open_unchecked, replace
from monitor.durable.migration import migrate
from monitor.durable.store import EVERYTHING, Store
from monitor.errors import StateError


def lock(directory: Path) -> IO[bytes]:
    """Keep every other nuwatch out of a state folder, which is made if it is missing, until this file is closed.

    Raises:
        StateError: the folder cannot be used, or another daemon uses it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        held = (directory / "lock").open("wb")
    except OSError as error:
        raise StateError(f"{directory}: cannot use the state folder: {error.strerror}") from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        raise StateError(f"{directory}: another nuwatch uses this state folder") from None
    return held


def open_store(directory: Path) -> Store:
    """Open the folder's state; what is older is migrated, what is damaged is set aside and begun anew.

    Raises:
        StateError: it cannot be read or written.
        ConfigurationError: a newer version wrote it.
    """
    migrate(directory)
    path = directory / NAME
    if not path.exists():
        create(directory)
    try:
        return Store(path, connect(path))
    except Unsound as damage:
        _begin_anew(path, str(damage))
    return Store(path, connect(path))


def _begin_anew(path: Path, reason: str) -> None:
    """Set a damaged file aside; the new one knows that everything was lost, and what could be read of it."""
    aside = free_name(path)
    told = f"{path}: {reason}; it was set aside as {aside.name}"
    found = _salvaged(path, told)

    def fill(connection: sqlite3.Connection) -> None:
        store = Store(path, connection)
        store.give_up(EVERYTHING, Damaged(told))
        for partition, damaged in found.items():
            store.give_up(partition, damaged)

    replace(path.parent, aside, fill)


def _salvaged(path: Path, reason: str) -> Mapping[int, Damaged]:
    with (
        suppress(Unsound, StateError, sqlite3.Error),
        closing(open_unchecked(path, read_only=True)) as connection,
    ):
        store = Store(path, connection)
        return {partition: store.salvaged(partition, reason) for partition in store.partitions()}
    return {}
