"""The state file as SQLite sees it: made whole or not at all, opened only when sound, set aside when not.

A new file is written under another name, synced, and renamed, so a file under the name is either a state file or
damaged: an interrupted start never leaves something in between. Writing goes through the write-ahead log with
``synchronous=FULL``: when a transaction has returned it is on the disk, and a crash leaves all of it or nothing.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from monitor.errors import ConfigurationError, StateError

NAME = "state.sqlite"
FORMAT = 2
"""Of the file; 1 was a snapshot file per partition (`monitor.durable.snapshot_files`)."""
_APPLICATION = int.from_bytes(b"nuwa")
_BESIDE = ("-wal", "-shm")
_SCHEMA = (
    "CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    "CREATE TABLE partitions (partition INTEGER PRIMARY KEY, kept BLOB NOT NULL, seal BLOB NOT NULL) STRICT",
    "CREATE TABLE assets (partition INTEGER NOT NULL, asset TEXT NOT NULL, state BLOB NOT NULL, "
    "PRIMARY KEY (partition, asset)) STRICT",
    "CREATE TABLE journal (partition INTEGER NOT NULL, place INTEGER NOT NULL, entry BLOB NOT NULL, "
    "PRIMARY KEY (partition, place)) STRICT",
    "CREATE TABLE lost (partition INTEGER PRIMARY KEY, damaged BLOB NOT NULL) STRICT",
)


class Unsound(Exception):  # noqa: N818 - a finding that leads to quarantine, not an error of the caller
    """The file is no state file, or damaged; the text says what was found."""


Fill = Callable[[sqlite3.Connection], None]
"""Writes what a new file begins with, before it has its name."""


def create(folder: Path, fill: Fill = lambda _: None) -> None:
    """Make a new state file where there is none, whole or not at all.

    Raises:
        StateError: the folder cannot be written.
    """
    target = folder / NAME
    with writing(target):
        fresh = _built(folder, fill)
        for side in _BESIDE:  # of a file that is gone: SQLite would take its log for the new file's
            _beside(target, side).unlink(missing_ok=True)
        fresh.replace(target)
        _sync(folder)


def replace(folder: Path, aside: Path, fill: Fill) -> None:
    """Put a new state file in the place of a damaged one, which goes on as ``aside``.

    At no moment is there no file under the name: a crash in between must not look like a first start.

    Raises:
        StateError: the folder cannot be written.
    """
    target = folder / NAME
    with writing(target):
        fresh = _built(folder, fill)
        for side in _BESIDE:
            with suppress(FileNotFoundError):
                _beside(target, side).rename(_beside(aside, side))
        os.link(target, aside)
        _sync(folder)
        fresh.replace(target)
        _sync(folder)


def erase(folder: Path) -> None:
    """Remove the state file and what SQLite keeps beside it.

    Raises:
        StateError: it cannot be removed.
    """
    target = folder / NAME
    with writing(target):
        for path in (target, *(_beside(target, side) for side in _BESIDE)):
            path.unlink(missing_ok=True)
        _sync(folder)


def free_name(path: Path) -> Path:
    """The next name for a damaged file that nothing has yet."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    return aside


def _built(folder: Path, fill: Fill) -> Path:
    fresh = folder / f"{NAME}.new"
    for side in ("", "-journal"):
        _beside(fresh, side).unlink(missing_ok=True)
    with closing(sqlite3.connect(fresh, isolation_level=None)) as made:
        made.execute("PRAGMA synchronous=FULL")
        made.execute(f"PRAGMA application_id={_APPLICATION}")
        made.execute(f"PRAGMA user_version={FORMAT}")
        for statement in _SCHEMA:
            made.execute(statement)
        made.execute("INSERT INTO about VALUES ('format', ?)", (str(FORMAT),))
        fill(made)
    return fresh


def _beside(path: Path, side: str) -> Path:
    return path.with_name(path.name + side)


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a sound state file of this format.

    Raises:
        Unsound: it is damaged.
        ConfigurationError: a newer version wrote it.
        StateError: it cannot be opened for another reason.
    """
    connection = open_unchecked(path, read_only=read_only)
    try:
        with reading(path):
            _check(connection, path)
            if not read_only:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute(
                    "BEGIN IMMEDIATE"
                )  # fails here, not at the first snapshot, where it may not write
                connection.execute("ROLLBACK")
    except BaseException:
        connection.close()
        raise
    return connection


def open_unchecked(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open a file whatever its condition; `connect` is for use, this for looking into what is damaged."""
    mode = "ro" if read_only else "rw"
    with reading(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None
        )
        connection.execute("PRAGMA busy_timeout=5000")
        return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Ours, of this format, and with sound trees; contents are checked by their seals when they are read."""
    application = _pragma(connection, "application_id")
    if application != _APPLICATION:
        raise Unsound(f"it is no state file (application id {application})")
    found = connection.execute("SELECT value FROM about WHERE name = 'format'").fetchone()
    if found is None or found[0] != str(_pragma(connection, "user_version")):
        raise Unsound("its two records of its format differ")
    if int(found[0]) != FORMAT:
        raise ConfigurationError(
            f"{path}: got state of format {found[0]}, expected at most {FORMAT}; hint: a newer nuwatch wrote it: "
            "run that version, or begin anew with `nuwatch state reset`"
        )
    verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != "ok":
        raise Unsound(f"SQLite's integrity check says: {' '.join(str(verdict).split())}")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """All of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite may have rolled back by itself, for one when the disk is full
            connection.execute("ROLLBACK")
        raise


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Errors of writing as `StateError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise StateError(f"{path}: cannot write the state: {error}") from error
    except OSError as error:
        raise StateError(f"{path}: cannot write the state: {error.strerror}") from error


@contextmanager
def reading(path: Path) -> Generator[None]:
    """Damage as `Unsound`, what the outside does to us (no rights, no space, no disk) as `StateError`."""
    try:
        yield
    except sqlite3.Error as error:
        if _outside(error):
            raise StateError(f"{path}: cannot use the state: {error}") from error
        raise Unsound(f"SQLite says: {error}") from error
    except (UnicodeDecodeError, ValueError) as error:
        raise Unsound(f"a value is of another kind: {error}") from error


_OUTSIDE = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)


def _outside(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code != sqlite3.SQLITE_IOERR_SHORT_READ and code & 0xFF in _OUTSIDE


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
