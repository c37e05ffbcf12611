"""The output topics: seeing that they are there, their ends, which ids they hold, and what a record is on the wire.

Every record carries its id in the header ``nuwatch-id``; by these `ids_after` finds what is already there.
Alerts and threshold versions are CloudEvents in structured mode and say so in their headers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from connectors.errors import ConnectorError, SinkError
from connectors.kafka import client, readback, rights
from connectors.kafka.clientlib import Admin, TopicPartition
from connectors.kafka.settings import KafkaSinkSettings
from connectors.records import Channel, OutRecord

ID_HEADER = "nuwatch-id"
NULL_HEADER = "nuwatch-null"
_CLOUD_EVENTS = (Channel.ALERTS, Channel.THRESHOLDS)
_STRUCTURED = b"application/cloudevents+json; charset=UTF-8"


class OutputTopics:
    """The topic of each output channel.

    Attributes:
        ends: the end position per ``channel/partition``, as far as it is known.
        names: the topics.
    """

    def __init__(self, settings: KafkaSinkSettings) -> None:
        self._settings = settings
        self._channels = {settings.topics.of(channel): channel for channel in Channel}
        self.names = tuple(self._channels)
        self.ends: dict[str, int] = {}

    def prepare(self) -> None:
        """See that the topics are there, create what is missing where that is allowed, and find their ends.

        Raises:
            KafkaError: the broker does not answer or refuses.
            SinkError: a topic is missing and ``create_topics`` is off, or the access rules keep us from it.
        """
        admin = client.admin(self._settings)
        try:
            partitions = self._partitions(admin)
            missing = sorted(topic for topic in self.names if not partitions.get(topic))
            if missing and not self._settings.create_topics:
                raise missing_topics(self._settings, missing)
            if missing:
                self._create(admin, missing)
                partitions = self._partitions(admin)
        finally:
            admin.close()
        tops = [TopicPartition(topic, p) for topic in self.names for p in partitions[topic]]
        ends = readback.ends(self._settings, tops)
        self.ends = {self._name(top): ends[top] for top in tops}

    def ids_after(self, ends: Mapping[str, int], patience: float) -> set[str]:
        """Ids of the records published at or after these positions; a partition that is not named is read whole.

        Args:
            ends: the positions.
            patience: longest wait without any progress, in seconds.

        Raises:
            SinkError: the topics cannot be read.
        """
        try:
            if not self.ends:
                self.prepare()
            begins = {self._top(name): ends.get(name, 0) for name in self.ends}
            return _ids_of(readback.read(self._settings, begins, patience))
        except ConnectorError:
            raise
        except Exception as error:  # what cannot be unpacked raises errors of any library
            what = "cannot be read for what is already published"
            raise SinkError(client.explain(error, self._settings, what)) from error

    def values(self, channel: Channel, patience: float) -> Iterator[bytes]:
        """Values of all committed records of a channel, in order per partition; see `ids_after`."""
        try:
            if not self.ends:
                self.prepare()
            begins = {self._top(name): 0 for name in self.ends if name.startswith(f"{channel.value}/")}
            for record in readback.read(self._settings, begins, patience):
                if record.value is not None:
                    yield record.value
        except ConnectorError:
            raise
        except Exception as error:  # what cannot be unpacked raises errors of any library
            what = f"topic '{self._settings.topics.of(channel)}' cannot be read for what is already published"
            raise SinkError(client.explain(error, self._settings, what)) from error

    def acknowledged(self, metadata: Any) -> None:
        """Move a partition's end behind an acknowledged record."""
        name = self._name(TopicPartition(metadata.topic, metadata.partition))
        self.ends[name] = max(self.ends.get(name, 0), metadata.offset + 1)

    def message(self, record: OutRecord) -> dict[str, Any]:
        """A record as the arguments of a producer's ``send``."""
        return {
            "topic": self._settings.topics.of(record.channel),
            "key": record.key,
            "value": _value(record),
            "headers": _headers(record),
        }

    def _partitions(self, admin: Admin) -> dict[str, list[int]]:
        described = admin.describe_topics(sorted(self.names))
        return {
            topic["name"]: sorted(partition["partition_index"] for partition in topic["partitions"])
            for topic in described
            if topic["error_code"] == 0 and self._may_use(topic)
        }

    def _may_use(self, topic: Mapping[str, Any]) -> bool:
        """True, or an error; READ is for what a restart looks up."""
        lacking = rights.missing(topic, ("WRITE", "READ"))
        if lacking is not None:
            raise SinkError(client.explain(None, self._settings, lacking))
        return True

    def _create(self, admin: Admin, topics: list[str]) -> None:
        shape = {
            "num_partitions": self._settings.partitions,
            "replication_factor": self._settings.replication_factor,
        }
        admin.create_topics(dict.fromkeys(topics, shape), raise_errors=False)
        admin.wait_for_topics(topics)  # also when another process created one meanwhile

    def _name(self, top: TopicPartition) -> str:
        return f"{self._channels[top.topic].value}/{top.partition}"

    def _top(self, name: str) -> TopicPartition:
        channel, _, partition = name.partition("/")
        return TopicPartition(self._settings.topics.of(Channel(channel)), int(partition))


def missing_topics(settings: KafkaSinkSettings, topics: Sequence[str]) -> SinkError:
    """The error for topics that are not there."""
    names = ", ".join(f"'{topic}'" for topic in topics)
    what = (
        f"these topics do not exist, or our user has neither WRITE nor READ on them: {names}; hint: create them, "
        "or set create_topics: true to have them created"
    )
    return SinkError(client.explain(None, settings, what))


def _value(record: OutRecord) -> bytes | None:
    """The value; a record without key and value, which Kafka cannot hold, gets an empty one."""
    return b"" if record.key is None and record.value is None else record.value


def _headers(record: OutRecord) -> list[tuple[str, bytes]]:
    """The record's own headers, its id, and what CloudEvents ask for, unless the record has it."""
    added = {ID_HEADER: record.id.encode()}
    if record.channel in _CLOUD_EVENTS:
        added |= {"content-type": _STRUCTURED, "ce_id": record.id.encode()}
    if record.key is None and record.value is None:
        added[NULL_HEADER] = b"value"
    own = {name for name, _ in record.headers}
    return [*record.headers, *((name, value) for name, value in added.items() if name not in own)]


def _ids_of(records: Any) -> set[str]:
    return {value.decode() for record in records for name, value in record.headers if name == ID_HEADER}
