"""A `Sink` of JSON Lines: one file per channel, one line per record.

A line is ``{"id": ..., "key": ..., "headers": [[name, text], ...], "value": ...}``. A value that is JSON
stands there as it is, byte for byte; any other bytes stand in ``value_base64`` instead, and a key or header
that is no text in ``key_base64`` and ``headers_base64``. Ends are byte offsets. A last line without its end
was never acknowledged: it is cut off when the file is opened again.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedRandom
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from connectors.errors import SinkError
from connectors.records import Channel, OutRecord


class FilesSinkSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where output goes.

    Attributes:
        directory: folder for alerts.jsonl, thresholds.jsonl and dead_letter.jsonl, relative to the
            configuration's folder; it is made where it is missing.
    """

    directory: str


class _Id(Struct):
    id: str


class _Line(Struct):
    id: str
    key: str | None = None
    key_base64: str | None = None
    headers: list[tuple[str, str]] = []
    headers_base64: list[tuple[str, str]] = []
    value: Raw | UnsetType = UNSET
    value_base64: str | None = None


class FilesSink:
    """Appends records to files; `flush` returns when the disk has them.

    Args:
        settings: the folder.
        folder: a relative directory starts here.
    """

    def __init__(self, settings: FilesSinkSettings, folder: Path = Path()) -> None:
        self._directory = folder / settings.directory
        self._files: dict[Channel, BufferedRandom] = {}

    def open(self) -> Mapping[str, int]:
        """Open the files; returns their sizes."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            for channel in Channel:
                self._files[channel] = self._opened(self._path(channel))
            _sync_folder(self._directory)
        except OSError as error:
            raise SinkError(f"{self._directory}: cannot be written: {error}") from error
        return self._ends()

    def _opened(self, path: Path) -> BufferedRandom:
        path.touch()
        file = path.open("r+b")
        file.truncate(_whole_lines(file))
        file.seek(0, os.SEEK_END)
        return file

    def _path(self, channel: Channel) -> Path:
        return self._directory / f"{channel}.jsonl"

    def ids_after(self, ends: Mapping[str, int]) -> set[str]:
        """Ids of the lines behind these sizes; of a file that is shorter now (rotated), of all its lines."""
        ids: set[str] = set()
        for channel in Channel:
            path, end = self._path(channel), ends.get(f"{channel}/0", 0)
            if path.exists():
                with path.open("rb") as file:
                    file.seek(end if end <= path.stat().st_size else 0)
                    ids |= {_id(line, path) for line in file if line.endswith(b"\n")}
        return ids

    def published(self, channel: Channel) -> Iterator[bytes]:
        """The values of a channel's file, in its order."""
        found = records_in(self._directory, channel)
        return (record.value for record in found if record.value is not None)

    def emit(self, records: Sequence[OutRecord]) -> None:
        """Write records; they are durable after `flush`."""
        try:
            for record in records:
                self._files[record.channel].write(line_of(record))
        except OSError as error:
            raise SinkError(f"{self._directory}: cannot be written: {error}") from error

    def flush(self, timeout: float) -> Mapping[str, int]:
        """Wait for the disk; it takes what it takes, whatever the timeout."""
        del timeout
        try:
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SinkError(f"{self._directory}: cannot be flushed: {error}") from error
        return self._ends()

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _ends(self) -> dict[str, int]:
        return {f"{channel}/0": file.tell() for channel, file in self._files.items()}


def line_of(record: OutRecord) -> bytes:
    """A record as a line."""
    line: dict[str, Any] = {"id": record.id}
    line |= _text("key", record.key)
    try:
        line["headers"] = [(name, value.decode()) for name, value in record.headers]
    except UnicodeDecodeError:
        line["headers_base64"] = [(name, _base64(value)) for name, value in record.headers]
    if record.value is None or _is_json(record.value):
        line["value"] = None if record.value is None else Raw(record.value)
    else:
        line["value_base64"] = _base64(record.value)
    return msgspec.json.encode(line) + b"\n"


def records_in(directory: Path, channel: Channel) -> Iterator[OutRecord]:
    """What a `FilesSink` with this folder has written to a channel, in order; nothing where it has no file.

    A last line without its end was never acknowledged, and is left out.

    Raises:
        SinkError: the file cannot be read, or holds a line that is not this sink's.
    """
    path = directory / f"{channel}.jsonl"
    try:
        with path.open("rb") as file:
            yield from (_record(line, channel, path) for line in file if line.endswith(b"\n"))
    except FileNotFoundError:
        return
    except OSError as error:
        raise SinkError(f"{path}: cannot be read: {error}") from error


def _record(line: bytes, channel: Channel, path: Path) -> OutRecord:
    """The record that `line_of` made a line of."""
    try:
        read = msgspec.json.decode(line, type=_Line)
        key = _bytes(read.key, read.key_base64)
        headers = [(name, text.encode()) for name, text in read.headers]
        headers += [(name, base64.b64decode(text)) for name, text in read.headers_base64]
        if isinstance(read.value, UnsetType):
            value = _bytes(None, read.value_base64)
        else:
            value = None if bytes(read.value) == b"null" else bytes(read.value)
    except (msgspec.DecodeError, ValueError) as error:
        raise SinkError(f"{path}: got {line[:80]!r}, expected a line of this sink: {error}") from error
    return OutRecord(channel, read.id, key, value, tuple(headers))


def _bytes(text: str | None, encoded: str | None) -> bytes | None:
    if encoded is not None:
        return base64.b64decode(encoded)
    return None if text is None else text.encode()


def _text(name: str, value: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if value is None else value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": _base64(value or b"")}


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _is_json(value: bytes) -> bool:
    if b"\n" in value or b"\r" in value or value == b"null":  # null is kept for 'no value'
        return False
    if value != value.strip():  # around a JSON value a reader drops spaces
        return False
    try:
        msgspec.json.decode(value)
        value.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _id(line: bytes, path: Path) -> str:
    try:
        return msgspec.json.decode(line, type=_Id).id
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SinkError(f"{path}: got {line[:80]!r}, expected a line of this sink: {error}") from error


def _whole_lines(file: BufferedRandom) -> int:
    """Size of a file up to its last line end."""
    position = file.seek(0, os.SEEK_END)
    while position > 0:
        start = max(0, position - 65536)
        file.seek(start)
        cut = file.read(position - start).rfind(b"\n")
        if cut >= 0:
            return start + cut + 1
        position = start
    return 0


def _sync_folder(folder: Path) -> None:
    """Make new names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
