"""Format 1: a snapshot file per partition and a journal of decisions beside them, as nuwatch 0.1 wrote them.

Kept to be read once: `monitor.durable.migration` moves what is in them into the state file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from connectors.records import Input
from monitor.checkpoint import Entry, Marker
from monitor.durable.database import Unsound
from monitor.errors import StateError

_MAGIC = b"nuwatch snapshot 1\n"
_DIGEST = 32
JOURNAL = "journal.jsonl"


class _Marker(msgspec.Struct, frozen=True):
    position: int
    sink: dict[str, int]
    bundles: dict[str, str]
    configuration: str = ""
    input: Input | None = None


class _Snapshot(msgspec.Struct, frozen=True):
    marker: _Marker
    rows: dict[str, bytes]


class _Line(msgspec.Struct, frozen=True):
    partition: int
    position: int
    line: int
    decision: msgspec.Raw


class Snapshot(NamedTuple):
    """What a snapshot file held."""

    rows: dict[str, bytes]
    marker: Marker
    ends: dict[str, int]


def partitions(folder: Path) -> dict[int, Path]:
    """The snapshot files of a state folder."""
    return {
        int(path.stem.removeprefix("partition-")): path
        for path in sorted(folder.glob("partition-*.snapshot"))
        if path.stem.removeprefix("partition-").isdecimal()
    }


def read(path: Path) -> Snapshot:
    """Read a snapshot file.

    Raises:
        Unsound: it is damaged.
        StateError: it cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise StateError(f"{path}: cannot read the snapshot: {error.strerror}") from error
    body = raw[len(_MAGIC) + _DIGEST :]
    if not raw.startswith(_MAGIC):
        raise Unsound(f"{path.name} begins with {raw[:20]!r} and not as a snapshot of format 1")
    if hashlib.sha256(body).digest() != raw[len(_MAGIC) : len(_MAGIC) + _DIGEST]:
        raise Unsound(f"{path.name} does not fit its checksum")
    snapshot = msgspec.msgpack.decode(body, type=_Snapshot)
    old = snapshot.marker
    marker = Marker(old.position, old.bundles, old.configuration, old.input)
    return Snapshot(snapshot.rows, marker, old.sink)


def read_journal(folder: Path) -> dict[int, list[Entry]]:
    """Journalled decisions by partition; a last line without an end never took effect.

    Raises:
        Unsound: a line is no entry.
        StateError: the file cannot be read.
    """
    path = folder / JOURNAL
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StateError(f"{path}: cannot read the journal: {error.strerror}") from error
    entries: dict[int, list[Entry]] = {}
    for number, line in enumerate(raw[: raw.rfind(b"\n") + 1].splitlines(), 1):
        try:
            one = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError as error:
            raise Unsound(f"{path.name}:{number} is no journalled decision: {error}") from None
        entry = Entry(
            one.position, f"decisions.jsonl:{one.line}", b'{"decision":' + bytes(one.decision) + b"}"
        )
        entries.setdefault(one.partition, []).append(entry)
    return entries
