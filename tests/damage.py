"""Bytes changed in a broker's own files while it is down: batches as no producer would write them.

After an orderly stop a broker trusts its files, so that what is wrong in them comes to its readers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.broker import Broker

Change = Callable[[bytes], bytes]


def edit(broker: Broker, topic: str, change: Change) -> None:
    """Change the first segment of a topic's partition 0."""
    edit_all(broker, topic, {0: change})


def edit_all(broker: Broker, topic: str, changes: Mapping[int, Change]) -> None:
    """Change the first segments of several partitions."""
    broker.shut_down()
    try:
        for partition, change in changes.items():
            segment: Path = broker.log_dir / f"{topic}-{partition}" / ("0" * 20 + ".log")
            before = segment.read_bytes()
            after = change(before)
            assert after != before
            assert len(after) == len(before)
            segment.write_bytes(after)
    finally:
        broker.start()


def damage(broker: Broker, topic: str, find: bytes, replace: bytes) -> None:
    """Overwrite bytes that are there once."""
    assert len(find) == len(replace)

    def change(log: bytes) -> bytes:
        assert log.count(find) == 1
        return log.replace(find, replace)

    edit(broker, topic, change)


def starts_of_batches(log: bytes) -> list[int]:
    """Where the batches of a segment begin: offset (8 bytes), length of the rest (4 bytes), the rest."""
    starts, at = [], 0
    while at < len(log):
        starts.append(at)
        at += 12 + int.from_bytes(log[at + 8 : at + 12], "big")
    return starts


def offsets_of(log: bytes, batch: int) -> range:
    """The offsets of a batch: the first stands in front, the last relative to it in bytes 23 to 26 of the header."""
    at = starts_of_batches(log)[batch]
    first = int.from_bytes(log[at : at + 8], "big")
    return range(first, first + int.from_bytes(log[at + 23 : at + 27], "big") + 1)


def with_codec(log: bytes, batch: int, codec: int) -> bytes:
    """The compression of a batch stands in the lowest bits of its attributes, bytes 21 and 22 of its header."""
    at = starts_of_batches(log)[batch] + 22
    return log[:at] + bytes([log[at] & 0xF8 | codec]) + log[at + 1 :]


def with_value(log: bytes, batch: int) -> bytes:
    """The byte before the last of a batch, changed: of the last record's value."""
    at = [*starts_of_batches(log), len(log)][batch + 1] - 2
    return log[:at] + bytes([log[at] ^ 0x01]) + log[at + 1 :]
