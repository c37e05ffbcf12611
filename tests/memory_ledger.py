"""Transactions in memory, for tests of what stands on them: a sink and rows that outlive the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from connectors.memory import MemorySink
from connectors.records import OutRecord, Row


class MemoryLedger:
    """Writes at once. ``rows_of`` and ``sink`` are what is durable; ``offsets`` what a group would see."""

    def __init__(
        self, sink: MemorySink, rows: dict[int, list[tuple[bytes, bytes | None]]], largest: int = 2**20
    ):
        self.sink, self.stored, self.largest_row = sink, rows, largest
        self.offsets: list[dict[int, int]] = []
        self.failure: Exception | None = None

    def open(self, partitions: int) -> Mapping[str, int]:
        """Nothing to see to."""
        del partitions
        return self.sink.open()

    def ids_after(self, ends: Mapping[str, int]) -> set[str]:
        """See `KafkaLedger`."""
        return self.sink.ids_after(ends)

    def rows(self, partition: int) -> Iterable[tuple[bytes, bytes | None]]:
        """See `KafkaLedger`."""
        return list(self.stored.get(partition, ()))

    def transact(
        self, records: Sequence[OutRecord], rows: Sequence[Row], offsets: Mapping[int, int], timeout: float
    ) -> Mapping[str, int]:
        """All or nothing."""
        assert offsets, "it would not be fenced"
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        self.sink.emit(records)
        ends = self.sink.flush(timeout)
        for row in rows:
            assert len(row.key) + len(row.value or b"") <= self.largest_row, (
                "a row larger than the topic allows"
            )
            self.stored.setdefault(row.partition, []).append((row.key, row.value))
        self.offsets.append(dict(offsets))
        return ends

    def close(self) -> None:
        """Nothing to leave."""
