"""Compressed batches unpacked within a bound, and errors that say which offsets they are about.

kafka-python unpacks whatever it is sent: one record of 1 MiB can become 1 GiB; and its errors name no offset, so that
one would have to try them one by one. `install` puts `_uncompress` below in the place of its method. One bound holds
for the whole process, as memory does.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import lz4.frame
import snappy
import zstandard
from kafka.record import default_records, legacy_records

DEFAULT_LIMIT = 64 * 2**20
_CHUNK = 2**20
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER = 16
_default: Any = default_records
_legacy: Any = legacy_records
_snappy_library: Any = snappy
_limit = DEFAULT_LIMIT


class BatchError(Exception):
    """A batch cannot be unpacked.

    Attributes:
        first: its first offset.
        end: the offset after its last one.
    """

    def __init__(self, first: int, end: int, cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.first, self.end = first, end


class UnpackedTooLargeError(ValueError):
    """A batch would unpack to more than the bound."""


def bound(limit: int) -> None:
    """Let batches unpack to at most ``limit`` bytes each, in this process."""
    global _limit
    _limit = limit


def unpacked(codec: int, data: bytes, limit: int) -> bytes:
    """The content of a batch.

    Args:
        codec: Kafka's number: 1 gzip, 2 snappy, 3 lz4, 4 zstd.
        data: the compressed bytes.
        limit: most bytes that may come of it.

    Raises:
        UnpackedTooLargeError: more would come of it.
        Exception: of the codec's own kinds; the data are damaged.
    """
    content = _CODECS[codec](data, limit)
    if len(content) > limit:
        raise UnpackedTooLargeError(f"a batch of {len(data)} bytes unpacks to more than {limit}")
    return content


def _gzip(data: bytes, limit: int) -> bytes:
    """All members of a gzip stream, one byte over the limit at most."""
    content = bytearray()
    while data and len(content) <= limit:
        member = zlib.decompressobj(wbits=31)
        content += member.decompress(data, limit + 1 - len(content))
        if not member.eof and len(content) <= limit:
            raise EOFError("the gzip stream ends before its end")
        data = member.unused_data
    return bytes(content)


def _snappy(data: bytes, limit: int) -> bytes:
    """A raw block, or the blocks of the framing that Java's snappy writes."""
    if not data.startswith(_XERIAL):
        return _snappy_block(data, limit)
    content, cursor = bytearray(), _XERIAL_HEADER
    while cursor < len(data) and len(content) <= limit:
        (size,) = struct.unpack_from("!i", data, cursor)
        if size < 0:
            raise ValueError(f"a snappy block of {size} bytes")
        cursor += 4
        content += _snappy_block(data[cursor : cursor + size], limit - len(content))
        cursor += size
    return bytes(content)


def _snappy_block(data: bytes, limit: int) -> bytes:
    """A raw block, whose first bytes tell its size."""
    size, shift = 0, 0
    for byte in data[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if size > limit:
        raise UnpackedTooLargeError(f"a snappy block of {len(data)} bytes unpacks to {size}")
    return bytes(_snappy_library.decompress(data))


def _lz4(data: bytes, limit: int) -> bytes:
    reader = lz4.frame.LZ4FrameDecompressor()
    content = reader.decompress(data, max_length=limit + 1)
    if not reader.eof and len(content) <= limit:
        raise EOFError("the lz4 frame ends before its end")
    return content


def _zstd(data: bytes, limit: int) -> bytes:
    content = bytearray()
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True) as reader:
        while len(content) <= limit and (chunk := reader.read(_CHUNK)):
            content += chunk
    return bytes(content)


_CODECS: dict[int, Callable[[bytes, int], bytes]] = {1: _gzip, 2: _snappy, 3: _lz4, 4: _zstd}


def _uncompress(batch: Any) -> None:
    """Take the place of ``DefaultRecordBatch._maybe_uncompress``."""
    codec = batch.compression_type
    if not batch._decompressed and codec:
        try:
            batch._assert_has_codec(codec)
            packed = bytes(memoryview(batch._buffer)[batch._pos :])
            batch._buffer, batch._pos = bytearray(unpacked(codec, packed, _limit)), 0
        except Exception as error:
            last = batch.base_offset + batch.last_offset_delta
            raise BatchError(batch.base_offset, last + 1, error) from error
    batch._decompressed = True


def install() -> None:
    """Bound the client library, for batches of today's format and those of before 0.11 alike."""
    _default.DefaultRecordBatch._maybe_uncompress = _uncompress
    for name, codec in (("gzip_decode", 1), ("snappy_decode", 2), ("lz4_decode", 3)):
        assert hasattr(_legacy, name)
        setattr(_legacy, name, lambda data, codec=codec: unpacked(codec, bytes(data), _limit))
