"""Output records, rows of a changelog and input offsets, written as one Kafka transaction: all or nothing.

The offsets are sent with the writer's membership in its consumer group (KIP-447), so the broker refuses the
transaction of a writer that has lost its partitions. Every record is acknowledged before the offsets are sent, and
a successor reads topics only to ends that it asks for after it has joined (`connectors.kafka.readback`): so what it
does not see can never be committed any more.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from connectors.errors import Aborted, PartitionsChanged, SinkError
from connectors.kafka import client, readback, rights
from connectors.kafka.clientlib import (
    Admin,
    KafkaError,
    MessageSizeTooLargeError,
    OffsetAndMetadata,
    Producer,
    TopicPartition,
    TransactionalIdAuthorizationFailedError,
    close_producer,
    commit_transaction,
    config_resource,
    send_offsets,
    stays,
)
from connectors.kafka.outputs import OutputTopics, missing_topics
from connectors.kafka.settings import KafkaSinkSettings
from connectors.records import Channel, OutRecord, Row

_CLEANUP_SECONDS = 15.0
"""A broker looks for transactions that have taken too long every 10 s."""
_CLOSE_SECONDS = 5.0


class _TooLarge(Exception):  # noqa: N818 - names what happened
    """A record was refused for its size; ``number`` is None where it is not known which one."""

    def __init__(self, number: int | None, error: Exception) -> None:
        super().__init__(str(error))
        self.number, self.error = number, error


class KafkaLedger:
    """Writes transactions, and reads a partition's rows back. Not safe for threads.

    Args:
        settings: the cluster and the output topics.
        changelog: the topic of the rows: compacted, with as many partitions as the input.
        topic: the input topic, whose offsets are committed.
        member: the membership under which partitions are held now; None: none.
        shorter: a shorter form of a record that is too large for its topic, or None where there is none.
    """

    def __init__(
        self,
        settings: KafkaSinkSettings,
        changelog: str,
        topic: str,
        member: Callable[[], Any],
        shorter: Callable[[OutRecord], OutRecord | None] | None = None,
    ) -> None:
        self._settings = settings
        self._changelog = changelog
        self._topic = topic
        self._member = member
        self._shorter = shorter
        self._outputs = OutputTopics(settings)
        self._producer: Producer | None = None
        self._failing_since: float | None = None
        # Nobody else's, so that two daemons can never push one another out by it.
        self._transactional_id = f"{changelog}-{uuid.uuid4()}"

    @property
    def largest_row(self) -> int:
        """Bytes that fit into one row, key included."""
        return self._settings.max_record_bytes

    def open(self, partitions: int) -> Mapping[str, int]:
        """See that the topics are there and fit; creates them where that is allowed. Returns the outputs' ends.

        Args:
            partitions: of the input topic.

        Raises:
            SinkError: no broker answers, a topic is missing, or the changelog is not compacted.
            PartitionsChanged: the changelog has another number of partitions than the input.
        """
        try:
            self._outputs.prepare()
            admin = client.admin(self._settings)
            try:
                self._check(admin, partitions)
            finally:
                admin.close()
            self._connected()
        except KafkaError as error:
            raise self._cannot(f"the changelog topic '{self._changelog}' cannot be used", error) from error
        return dict(self._outputs.ends)

    def ids_after(self, ends: Mapping[str, int]) -> set[str]:
        """Ids of the records published at or after these positions; a predecessor's open transaction is waited for.

        Raises:
            SinkError: the topics cannot be read.
        """
        self._settle()
        return self._outputs.ids_after(ends, self._patience)

    def published(self, channel: Channel) -> Iterable[bytes]:
        """Values of all committed records of an output topic; a predecessor's open transaction is waited for.

        Raises:
            SinkError: the topic cannot be read.
        """
        self._settle()
        return self._outputs.values(channel, self._patience)

    def rows(self, partition: int) -> Iterable[tuple[bytes, bytes | None]]:
        """Every committed row of a partition's changelog that compaction has left, in order.

        A predecessor's open transaction is waited for.

        Raises:
            SinkError: the topic cannot be read.
        """
        self._settle()
        top = TopicPartition(self._changelog, partition)
        try:
            for record in readback.read(self._settings, {top: 0}, self._patience):
                yield record.key, record.value
        except KafkaError as error:
            raise self._cannot(f"the changelog topic '{self._changelog}' cannot be read", error) from error

    def transact(
        self,
        records: Sequence[OutRecord],
        rows: Sequence[Row],
        offsets: Mapping[int, int],
        timeout: float,
    ) -> Mapping[str, int]:
        """Write all of it or nothing; returns the output topics' new ends.

        Args:
            records: to the output topics.
            rows: to the changelog.
            offsets: of the input, by partition; at least one, because it is by these that the broker knows a
                writer that has lost its partitions.
            timeout: longest time for each of the three steps, in seconds.

        Raises:
            Aborted: nothing of it counts, or nobody can say; state must be read again.
            SinkError: it was refused for a reason that stays, or there has been no success for ``retry_seconds``.
        """
        if not offsets:
            raise ValueError("a transaction without an offset would not be fenced")
        member = self._member()
        if member is None:
            raise Aborted("no partitions are held, so nothing may be written for them")
        try:
            producer = self._fitted(list(records), rows, timeout)
            held = {
                TopicPartition(self._topic, p): OffsetAndMetadata(at, "", -1) for p, at in offsets.items()
            }
            send_offsets(producer, held, member, timeout)
            commit_transaction(producer, timeout)
        except (KafkaError, ValueError) as error:  # a topic without partitions is a ValueError
            self._abandon()
            raise self._failed(error) from error
        self._failing_since = None
        return dict(self._outputs.ends)

    def close(self) -> None:
        """Leave. Idempotent."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            close_producer(producer, _CLOSE_SECONDS)

    # -- writing --------------------------------------------------------------------------------------------

    def _fitted(self, records: list[OutRecord], rows: Sequence[Row], timeout: float) -> Producer:
        """Begin a transaction and see every record in it acknowledged, in shorter forms where there must be."""
        singly = False
        while True:
            try:
                return self._written(records, rows, timeout, singly)
            except _TooLarge as refused:
                self._abandon()
                shorter = self._shortened(records, refused.number)
                if shorter is None and (singly or refused.number is not None):
                    raise refused.error from refused
                # The producer passes a refusal on to the records behind: which one it was shows one by one.
                singly = refused.number is None

    def _shortened(self, records: list[OutRecord], number: int | None) -> OutRecord | None:
        shorter = None if number is None or self._shorter is None else self._shorter(records[number])
        if shorter is not None and number is not None:
            records[number] = shorter
        return shorter

    def _written(
        self, records: Sequence[OutRecord], rows: Sequence[Row], timeout: float, singly: bool
    ) -> Producer:
        deadline = time.monotonic() + timeout
        producer = self._connected()
        producer.begin_transaction()
        sent: list[Any] = []
        for number, record in enumerate(records):
            try:
                sent.append(producer.send(**self._outputs.message(record)))
                if singly:
                    sent[-1].get(timeout=timeout)
            except MessageSizeTooLargeError as error:
                raise _TooLarge(number, error) from error
        futures = [
            producer.send(self._changelog, key=row.key, value=row.value, partition=row.partition)
            for row in rows
        ]
        with suppress(KafkaError):  # the futures know better: it also gives up at a batch that was split
            producer.flush(timeout=timeout)
        try:
            for future in sent:
                self._outputs.acknowledged(future.get(timeout=max(0.0, deadline - time.monotonic())))
        except MessageSizeTooLargeError as error:
            raise _TooLarge(None, error) from error
        for future in futures:
            future.get(timeout=max(0.0, deadline - time.monotonic()))
        return producer

    def _connected(self) -> Producer:
        """A producer without an open transaction: beginning with an id ends what was left open under it.

        Raises:
            SinkError: the access rules do not allow our transactional ids.
        """
        if self._producer is None:
            producer = self._producer = client.producer(self._settings, self._transactional_id)
            for topic in (*self._outputs.names, self._changelog):
                producer.partitions_for(topic)
            try:
                producer.init_transactions()
            except TransactionalIdAuthorizationFailedError as error:
                self._abandon()
                raise self._cannot(
                    f"transactional ids that begin with '{self._changelog}' cannot be used: the access rules do not "
                    "allow our user WRITE on them",
                    error,
                ) from error
        return self._producer

    def _settle(self) -> None:
        """Before anything is read back, end what we ourselves may have left open."""
        try:
            self._connected()
        except KafkaError as error:
            self._abandon()
            raise self._cannot("no transaction can be begun", error) from error

    def _abandon(self) -> None:
        """Leave the transaction to the next `_connected`, or to the broker's own limit of time."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            close_producer(producer, 0.0)

    def _failed(self, error: Exception) -> SinkError:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if stays(error):
            return self._cannot("a transaction was refused", error)
        if now - self._failing_since > self._settings.retry_seconds:
            return self._cannot(f"no transaction for {now - self._failing_since:.0f} s", error)
        return Aborted(client.explain(error, self._settings, "a transaction was aborted"))

    @property
    def _patience(self) -> float:
        return self._settings.connect_seconds + self._settings.transaction_seconds + _CLEANUP_SECONDS

    # -- the changelog topic --------------------------------------------------------------------------------

    def _check(self, admin: Admin, partitions: int) -> None:
        found = self._described(admin)
        if not found and self._settings.create_topics:
            self._create(admin, partitions)
            found = self._described(admin)
        if not found:
            raise missing_topics(self._settings, [self._changelog])
        policy = self._policy(admin)
        if policy is not None and "compact" not in policy:
            raise self._cannot(
                f"the changelog topic '{self._changelog}' has cleanup.policy={policy}, expected compact: the broker "
                "would delete state that is still needed"
            )
        if found != partitions:
            raise PartitionsChanged(
                f"the changelog topic '{self._changelog}' has {found} partitions, expected {partitions} as the input "
                f"topic '{self._topic}' has: its producers may send an asset to another partition now, which would "
                "split the asset's windows; hint: once the input's layout is settled, name a new changelog and a new "
                "group; windows begin anew"
            )

    def _create(self, admin: Admin, partitions: int) -> None:
        shape = {
            "num_partitions": partitions,
            "replication_factor": self._settings.replication_factor,
            "configs": {"cleanup.policy": "compact"},
        }
        admin.create_topics({self._changelog: shape}, raise_errors=False)
        admin.wait_for_topics([self._changelog])  # also when another member created it meanwhile

    def _policy(self, admin: Admin) -> str | None:
        """The topic's cleanup policy; None where we may not ask."""
        asked = [config_resource(self._changelog, "cleanup.policy")]
        answer = admin.describe_configs(asked, config_filter="all")["topic"][self._changelog]
        policy = answer.get("cleanup.policy")  # the client passes a refusal on as no answer
        return None if policy is None else str(policy["value"])

    def _described(self, admin: Admin) -> int:
        """How many partitions the changelog has; 0 where it is not there, or we may not even see it.

        Raises:
            SinkError: the access rules keep us from it.
        """
        described = admin.describe_topics([self._changelog])[0]
        if described["error_code"] != 0:
            return 0
        lacking = rights.missing(described, ("WRITE", "READ"))
        if lacking is not None:
            raise self._cannot(lacking)
        return len(described["partitions"])

    def _cannot(self, what: str, error: BaseException | None = None) -> SinkError:
        return SinkError(client.explain(error, self._settings, what))
