"""Which configuration each partition stands under, and under which it goes on after a restart.

A daemon has one generation of its own: that of its file, or of the newest command of the control topic that it knows.
A partition can stand under an older one while it repeats what was published under it, and where a journal that is
replayed says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from monitor.generation import Change, Generation


class Succession:
    """The generation in force, by partition.

    Args:
        mine: what a partition without a history begins with.

    Attributes:
        mine: likewise; moves on with every change that is adopted.
    """

    def __init__(self, mine: Generation) -> None:
        self.mine = mine
        self._make: Callable[[Change], Generation] | None = None
        self._stands: Callable[[Change], bool] = lambda _: True
        self._in_force: dict[int, Generation] = {}

    def asks_journals(
        self, make: Callable[[Change], Generation] | None, stands: Callable[[Change], bool]
    ) -> None:
        """Take from journals what partitions stand under.

        Args:
            make: makes the generation that a journal names; None: no journal is asked.
            stands: whether a command of the control topic can stay in force under the present file.
        """
        self._make, self._stands = make, stands

    def at(self, partition: int) -> Generation:
        """What is in force for a partition; one that is new goes on under the daemon's own."""
        return self._in_force.setdefault(partition, self.mine)

    def put(self, partition: int, generation: Generation) -> None:
        """From here on a partition stands under this."""
        self._in_force[partition] = generation

    def forget(self, partitions: Collection[int]) -> None:
        """Let go of partitions."""
        for partition in partitions:
            self._in_force.pop(partition, None)

    def resume(self, partition: int, stored: Change | None) -> None:
        """Choose under what a restored partition goes on: what its journal ends with, or what the daemon itself has.

        A newer command that is found here is the daemon's own from now on; it will meet it on the control topic as
        well. Under an older one the partition goes on until it has repeated what was published under it.

        Raises:
            ConfigurationError: a command is in force whose bundles are not to be had here.
        """
        mine = self.mine.change
        if stored is None or self._make is None:
            self._in_force[partition] = self.mine
        elif stored.outranks(mine):
            if self._stands(stored):
                self.mine = self._made(stored, self._make)
            self._in_force[partition] = self.mine
        else:
            older = mine.outranks(stored)
            self._in_force[partition] = self._made(stored, self._make) if older else self.mine

    def next(self, partition: int, change: Change) -> Generation | None:
        """What a journal names at a place of the stream; None where it is in force, or where no journal is asked."""
        if self._make is None or change == self.at(partition).change:
            return None
        return self._make(change)

    def _made(self, change: Change, make: Callable[[Change], Generation]) -> Generation:
        if change.judges_as(self.mine.change):
            return self.mine._replace(change=change)
        return make(change)


def kept(before: Generation, after: Generation) -> list[str]:
    """The asset classes whose bundle stays, and with it the state of their assets."""
    return [name for name, bundle in after.bundles.items() if before.bundles.get(name) == bundle]
