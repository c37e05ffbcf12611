"""A partition's state as rows of a compacted Kafka topic: what every key and value of that topic is.

| key | value |
|---|---|
| ``marker`` | what the rows reflect, and where the output topics ended then |
| ``row/<asset>/<n>`` | part n of an asset's row; no value: removed |
| ``entry/<n>`` | journal entry n; these stay for ever |

Every value is an envelope: a version, a checksum, and the bytes. A row may be larger than a record is allowed to be,
so it is cut; each part says how many there are, and a part behind the last one is removed when a row shrinks.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

import msgspec

from monitor.checkpoint import Damaged, Entry, Marker, Restored
from monitor.errors import ConfigurationError

VERSION = 1
_MARKER = b"marker"
_ROW = b"row/"
_ENTRY = b"entry/"
_OVERHEAD = 512
"""Bytes of a record beside its key and its part: envelope, record and batch headers."""

Pair = tuple[bytes, bytes | None]
"""A key and a value of the topic."""


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    version: int
    checksum: int
    body: bytes


class _Part(msgspec.Struct, frozen=True, array_like=True):
    """One part of a row; ``position`` is that of the commit which wrote it."""

    position: int
    parts: int
    content: bytes


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    marker: Marker
    ends: dict[str, int]


class Found(NamedTuple):
    """A partition as its changelog has it.

    Attributes:
        state: what it comes to.
        ends: of the output topics, when everything before was acknowledged.
        parts: number of parts by asset.
        stale: keys of a damaged state, which must be removed before another can be written.
    """

    state: Restored | Damaged
    ends: dict[str, int]
    parts: dict[str, int]
    stale: tuple[bytes, ...] = ()


def marker_pair(marker: Marker, ends: Mapping[str, int]) -> Pair:
    """The record that says what the rows reflect."""
    return _MARKER, _sealed(msgspec.msgpack.encode(_Kept(marker, dict(ends))))


def entry_pair(entry: Entry, number: int) -> Pair:
    """The record of a partition's journal entry with this number, from 0."""
    return _ENTRY + f"{number}".encode(), _sealed(msgspec.msgpack.encode(entry))


def row_pairs(asset: str, row: bytes | None, position: int, before: int, largest: int) -> Iterator[Pair]:
    """The records of an asset's row, and removals of parts that it no longer has.

    Args:
        asset: whose.
        row: the row; None removes it.
        position: of the commit.
        before: number of parts that it had.
        largest: bytes that fit into one record of the topic.

    Raises:
        ValueError: the asset's name alone does not fit.
    """
    room = largest - _OVERHEAD - len(_key(asset, 0))
    if room <= 0:
        raise ValueError(f"a record of {largest} bytes cannot hold a part of the row of {asset[:50]!r}")
    parts = [] if row is None else [row[at : at + room] for at in range(0, max(len(row), 1), room)]
    for number, content in enumerate(parts):
        part = _Part(position, len(parts), content)
        yield _key(asset, number), _sealed(msgspec.msgpack.encode(part))
    for number in range(len(parts), before):
        yield _key(asset, number), None


def parts_of(row: bytes | None, asset: str, largest: int) -> int:
    """Into how many parts `row_pairs` cuts a row."""
    room = largest - _OVERHEAD - len(_key(asset, 0))
    return 0 if row is None else max(1, -(-len(row) // room))


def assemble(pairs: Iterable[Pair], where: str) -> Found | None:
    """A partition's state from the records of its changelog, oldest first; None where nothing was ever committed.

    Raises:
        ConfigurationError: a newer version wrote it.
    """
    newest = dict(pairs)
    present = {key: value for key, value in newest.items() if value is not None}
    if _MARKER not in present:
        return None
    kept: _Kept | None = None
    try:
        kept = msgspec.msgpack.decode(_opened(present[_MARKER], where), type=_Kept)
        rows, parts = _rows(present, where)
        journal = _journal(present, where)
    except (ValueError, msgspec.DecodeError) as error:
        position = None if kept is None else kept.marker.position
        return Found(Damaged(str(error), position, _salvaged(present, where)), {}, {}, tuple(present))
    return Found(Restored(rows, kept.marker, journal), kept.ends, parts)


def _rows(present: Mapping[bytes, bytes], where: str) -> tuple[dict[str, bytes], dict[str, int]]:
    found: dict[str, dict[int, _Part]] = {}
    for key, value in present.items():
        if key.startswith(_ROW):
            asset, _, number = key[len(_ROW) :].rpartition(b"/")
            part = msgspec.msgpack.decode(_opened(value, f"{where}: row of {asset.decode()!r}"), type=_Part)
            found.setdefault(asset.decode(), {})[int(number)] = part
    return (
        {asset: _joined(parts, f"{where}: row of {asset!r}") for asset, parts in found.items()},
        {asset: len(parts) for asset, parts in found.items()},
    )


def _joined(parts: Mapping[int, _Part], where: str) -> bytes:
    """All parts of one commit, in order.

    Raises:
        ValueError: a part is missing, or they are of different commits.
    """
    first = parts.get(0)
    if first is None or sorted(parts) != list(range(first.parts)):
        raise ValueError(
            f"{where}: got the parts {sorted(parts)}, expected {first.parts if first else 'a first one'}"
        )
    if len({part.position for part in parts.values()}) > 1:
        raise ValueError(f"{where}: its parts are of different commits")
    return b"".join(parts[number].content for number in range(first.parts))


def _journal(present: Mapping[bytes, bytes], where: str) -> tuple[Entry, ...]:
    numbers = sorted(int(key[len(_ENTRY) :]) for key in present if key.startswith(_ENTRY))
    if numbers != list(range(len(numbers))):
        raise ValueError(f"{where}: got the journal entries {numbers}, expected all from 0")
    values = (present[_ENTRY + f"{number}".encode()] for number in numbers)
    return tuple(msgspec.msgpack.decode(_opened(value, where), type=Entry) for value in values)


def _salvaged(present: Mapping[bytes, bytes], where: str) -> tuple[Entry, ...]:
    """The journal entries that can still be read, in order."""
    found: list[Entry] = []
    for key in sorted((key for key in present if key.startswith(_ENTRY)), key=lambda key: (len(key), key)):
        with suppress(ValueError, msgspec.DecodeError):
            found.append(msgspec.msgpack.decode(_opened(present[key], where), type=Entry))
    return tuple(found)


def _key(asset: str, number: int) -> bytes:
    return _ROW + asset.encode() + f"/{number}".encode()


def _sealed(body: bytes) -> bytes:
    return msgspec.msgpack.encode(_Envelope(VERSION, zlib.crc32(body), body))


def _opened(value: bytes, where: str) -> bytes:
    """The bytes of an envelope.

    Raises:
        ConfigurationError: a newer version wrote it.
        ValueError: it is damaged.
    """
    try:
        envelope = msgspec.msgpack.decode(value, type=_Envelope)
    except msgspec.DecodeError as error:
        raise ValueError(
            f"{where}: got {value[:20]!r}, expected version, checksum and content: {error}"
        ) from None
    if envelope.version > VERSION:
        raise ConfigurationError(
            f"{where}: got state of version {envelope.version}, expected at most {VERSION}: a newer nuwatch wrote it; "
            "hint: update this one, or name a new changelog and a new group"
        )
    if zlib.crc32(envelope.body) != envelope.checksum:
        raise ValueError(f"{where}: the checksum does not fit the content")
    return envelope.body
