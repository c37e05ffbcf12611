"""The engine of a daemon that shares its input with others of its group: partitions come and go.

What fails here fails small. A transaction that was aborted, for whatever reason, means that memory may be ahead of
what is durable, or that the partitions are another's by now; then everything is forgotten, and what is still ours is
restored from the changelog and folded again. The fold is deterministic and known ids are skipped, so nothing is lost
and nothing is invented; it costs at most the records since the last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from connectors.errors import Aborted, ConnectorError
from connectors.ports import Rewind, SharedSource, Start
from connectors.records import OutRecord
from monitor.activity import Activity
from monitor.commands import Commands, Control
from monitor.engine import Engine, Step
from monitor.errors import NuwatchError
from monitor.generation import Generation
from monitor.pipeline import Pipeline
from monitor.shared_checkpoint import SharedCheckpoint


class SharedEngine(Engine):
    """See `Engine`; the source is shared, and the checkpoint belongs to whoever holds a partition.

    It is the source's `Keeper`: the source calls `begin`, `finish` and `drop` from within its own `poll` and `close`.

    Args:
        source: of which this daemon has a share.
        checkpoint: transactions in this daemon's membership.
        pipeline_of: makes the empty pipeline of a partition.
        bundles: bundle id by asset class.
        log: a structlog logger, told of every partition that comes or goes.
        commands: what enters from the side, by partition and position.
        warm_up_ns: see `Engine`.
        activity: is told what the loop is at.
        control: follows the control topic.
    """

    repeatable = False

    def __init__(
        self,
        source: SharedSource,
        checkpoint: SharedCheckpoint,
        pipeline_of: Callable[[int], Pipeline],
        bundles: Mapping[str, str],
        log: Any,
        commands: Commands | None = None,
        warm_up_ns: int = 0,
        activity: Activity | None = None,
        control: Control | None = None,
    ) -> None:
        super().__init__(source, checkpoint, pipeline_of, bundles, commands, warm_up_ns, activity, control)
        self._log = log
        self._shared_source = source
        self._shared_checkpoint = checkpoint
        source.share(self)

    def open(self, start: Start) -> None:
        """Connect; partitions come with later steps.

        Raises:
            SourceError: the input cannot be reached or refuses.
            SinkError: an output topic or the changelog is missing, or cannot be reached.
            PartitionsChanged: the changelog is that of an input with another number of partitions.
        """
        super().open(start)
        self._shared_checkpoint.open(len(self._shared_source.partitions))

    def step(self, timeout: float) -> Sequence[Step]:
        """See `Engine`; nothing where a transaction was aborted."""
        try:
            steps = super().step(timeout)
            self._shared_checkpoint.settle()
            return steps
        except Aborted as aborted:
            self._begin_again(aborted)
            return ()

    def snapshot(self) -> None:
        """See `Engine`; nothing where a transaction was aborted."""
        try:
            super().snapshot()
            self.trouble = None
        except Aborted as aborted:
            self._begin_again(aborted)
            self.trouble = str(aborted)

    def adopt(self, generation: Generation) -> dict[int, int]:
        """See `Engine`; where a transaction was aborted it is to be tried again, with what is held then.

        Raises:
            Aborted: partitions that have it keep it, the others do not have it.
        """
        try:
            return super().adopt(generation)
        except Aborted as aborted:
            self._begin_again(aborted)
            raise

    def tell_silences(self, quiet: Collection[str]) -> int:
        """See `Engine`; nothing where a transaction was aborted."""
        try:
            told = super().tell_silences(quiet)
            self._shared_checkpoint.settle()
            return told
        except Aborted as aborted:
            self._begin_again(aborted)
            return 0

    def tell(self, records: Sequence[OutRecord]) -> None:
        """See `Engine`; not told while no partition is held, for what no membership covers must not be written."""
        if not self._durable:
            return
        try:
            super().tell(records)
            self._shared_checkpoint.settle()
        except Aborted as aborted:
            self._begin_again(aborted)

    # -- Keeper ---------------------------------------------------------------------------------------------

    def begin(self, partition: int, position: int) -> None:
        """Make a new partition's beginning durable at once: it may move before its first record comes."""
        self._make_beginning_durable(partition, position)
        self._log.info("partition_begun", partition=partition, position=position)

    def finish(self, partitions: Collection[int]) -> None:
        """One last checkpoint of what goes; where that fails, the next holder repeats what followed the one before."""
        try:
            self._commit(partitions)
            self._log.info("partitions_given", partitions=sorted(partitions))
        except (ConnectorError, NuwatchError) as error:
            self._log.warning("partitions_given_unfinished", partitions=sorted(partitions), reason=str(error))
        self._let_go(partitions)

    def drop(self, partitions: Collection[int]) -> None:
        """Forget, and write nothing."""
        self._log.warning("partitions_lost", partitions=sorted(partitions))
        self._let_go(partitions)

    # -- memory ---------------------------------------------------------------------------------------------

    def _restore(self, partition: int) -> int | Rewind | None:
        self._let_go([partition])
        position = super()._restore(partition)
        if isinstance(position, Rewind):
            reason = self.damaged[partition].reason
            self._log.error("state_damaged_rebuilding", partition=partition, reason=reason)
        elif position is not None:
            assets = len(self.pipelines[partition].assets) if partition in self.pipelines else 0
            self._log.info("partition_taken", partition=partition, position=position, assets=assets)
        if partition in self.discarded:
            self.discarded.remove(partition)
            self._log.warning("state_of_another_bundle_discarded", partition=partition)
        return position

    def _begin_again(self, aborted: Aborted) -> None:
        self._log.warning("transaction_aborted", reason=str(aborted))
        self._let_go(self._shared_source.partitions)
        self._shared_source.again()

    def _let_go(self, partitions: Collection[int]) -> None:
        self._forget(partitions)
        self._shared_checkpoint.forget(partitions)
