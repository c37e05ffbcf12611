"""Compressed batches: unpacked as the client library does it, and never beyond the bound."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from contextlib import suppress

import kafka.codec
import pytest
import snappy
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.kafka.unpacking import UnpackedTooLargeError, unpacked

ENCODERS = {
    "gzip": (1, kafka.codec.gzip_encode),
    "snappy, framed": (2, kafka.codec.snappy_encode),
    "snappy, one block": (2, snappy.compress),
    "lz4": (3, kafka.codec.lz4_encode),
    "zstd": (4, kafka.codec.zstd_encode),
}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("size", [1, 1000, 100_000])
def test_what_was_packed_comes_back_and_one_byte_beyond_the_bound_does_not(name: str, size: int) -> None:
    codec, encode = ENCODERS[name]
    content = os.urandom(size // 2) + b"0" * (size - size // 2)
    packed = encode(content)
    assert unpacked(codec, packed, size) == content
    with pytest.raises(UnpackedTooLargeError, match="unpacks to"):
        unpacked(codec, packed, size - 1)


@pytest.mark.parametrize("name", ["gzip", "snappy, framed", "snappy, one block", "lz4"])
def test_a_stream_that_ends_too_early_is_an_error(name: str) -> None:
    codec, encode = ENCODERS[name]
    packed = encode(os.urandom(5000))
    with pytest.raises(Exception) as refused:  # noqa: PT011 - of each codec's own kind
        unpacked(codec, packed[:-100], 2**20)
    assert not isinstance(refused.value, UnpackedTooLargeError)


def test_gzip_of_several_members_is_read_to_its_end() -> None:
    packed = kafka.codec.gzip_encode(b"one") + kafka.codec.gzip_encode(b"two")
    assert unpacked(1, packed, 6) == b"onetwo"
    with pytest.raises(UnpackedTooLargeError):
        unpacked(1, packed, 5)


def test_a_bomb_costs_no_more_memory_than_the_bound_allows() -> None:
    """256 MiB of zeros in 256 KiB, a bound of 4 MiB: a few copies of the bound."""
    packer = zlib.compressobj(level=1, wbits=31)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(256)) + packer.flush()
    tracemalloc.start()
    try:
        with pytest.raises(UnpackedTooLargeError):
            unpacked(1, bomb, 2**22)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**22


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(ENCODERS)), st.binary(max_size=2000), st.integers(0, 2**31), st.integers(0, 255)
)
def test_no_damage_makes_more_of_a_batch_than_the_bound(
    name: str, content: bytes, place: int, byte: int
) -> None:
    codec, encode = ENCODERS[name]
    packed = bytearray(encode(content))
    packed[place % len(packed)] = byte
    size = 0
    with suppress(Exception):  # damage is whatever the codec says
        size = len(unpacked(codec, bytes(packed), 4096))
    assert size <= 4096
