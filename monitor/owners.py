"""Which partition an asset's records come in: one, or its windows would hold half of its readings each."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from connectors.records import Polled
from monitor.errors import ConfigurationError


class Owners:
    """The partition of every asset that was seen or restored."""

    def __init__(self) -> None:
        self._owners: dict[str, int] = {}

    def check(self, polled: Polled) -> None:
        """Note whose records a poll brought.

        Raises:
            ConfigurationError: an asset's records came in two partitions.
        """
        for batch in polled.batches:
            for asset in batch.assets:
                owner = self._owners.setdefault(asset, polled.partition)
                if owner != polled.partition:
                    raise ConfigurationError(
                        f"asset {asset!r}: got records on partitions {owner} and {polled.partition}, expected one: "
                        "its windows would hold half of its readings each; hint: key the records by asset, and "
                        "begin with an empty state folder after the number of partitions was changed"
                    )

    def restored(self, assets: Iterable[str], partition: int) -> None:
        """The assets whose state a partition was restored with."""
        self._owners |= dict.fromkeys(assets, partition)

    def forget(self, partitions: Collection[int]) -> None:
        """Let go of partitions: their assets may be met in others."""
        self._owners = {asset: owner for asset, owner in self._owners.items() if owner not in partitions}
