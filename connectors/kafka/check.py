"""What `validate --online` asks: does the broker answer, are the topics there, how do records look."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from connectors.errors import SettingsError, SourceError
from connectors.kafka import client
from connectors.kafka.clientlib import Admin, KafkaError, TopicPartition
from connectors.kafka.settings import Connection, KafkaSinkSettings, KafkaSourceSettings
from connectors.records import Channel, RawRecord

_ANSWER_MS = 10_000


class TopicReport(NamedTuple):
    """One topic.

    Attributes:
        name: the topic.
        partitions: how many; 0 when it does not exist or may not be seen.
        records: offsets between its beginnings and ends; None where that was not asked.
        operations: what the broker says that we may do, such as READ and WRITE; empty when it does not say.
    """

    name: str
    partitions: int
    records: int | None = None
    operations: tuple[str, ...] = ()


class BrokerReport(NamedTuple):
    """What was found.

    Attributes:
        servers: the bootstrap servers that were asked.
        topics: the topics of the settings.
        problems: what stands in the way, for a person, with hints; empty when nothing does.
    """

    servers: tuple[str, ...]
    topics: tuple[TopicReport, ...]
    problems: tuple[str, ...]


def check_broker(settings: KafkaSourceSettings | KafkaSinkSettings) -> BrokerReport:
    """Look, and change nothing: no topic is created and no record is written.

    Whether we may write is the broker's own word; a cluster without access rules allows everything.
    """
    try:
        admin = client.admin(settings)
    except (KafkaError, SettingsError) as error:
        problem = client.explain(error, settings, "cannot be reached")
        return BrokerReport(settings.bootstrap_servers, (), (problem,))
    try:
        topics = tuple(_topic(admin, settings, name) for name in _names(settings))
    except KafkaError as error:
        problem = client.explain(error, settings, "its topics cannot be described")
        return BrokerReport(settings.bootstrap_servers, (), (problem,))
    finally:
        admin.close()
    found = (problem for topic in topics for problem in _problems(settings, topic))
    return BrokerReport(settings.bootstrap_servers, topics, tuple(found))


def sample(settings: KafkaSourceSettings, count: int, seconds: float = 5.0) -> list[RawRecord]:
    """The newest ``count`` records of the topic or fewer, oldest first by broker time; for people to look at.

    Raises:
        SourceError: the broker cannot be reached or refuses.
        SettingsError: a secret or certificate cannot be read.
    """
    try:
        records = _newest(settings, count, seconds)
    except KafkaError as error:
        raise SourceError(client.explain(error, settings, "no sample can be read")) from error
    return sorted(records, key=lambda record: (record.timestamp_ms, record.partition, record.offset))[-count:]


def _newest(settings: KafkaSourceSettings, count: int, seconds: float) -> list[RawRecord]:
    reader = client.consumer(settings)
    try:
        tops = [TopicPartition(settings.topic, p) for p in reader.partitions_for_topic(settings.topic)]
        first = reader.beginning_offsets(tops, timeout_ms=_ANSWER_MS)
        last = reader.end_offsets(tops, timeout_ms=_ANSWER_MS)
        reader.assign(tops)
        for top in tops:
            reader.seek(top, max(first[top], last[top] - count))
        waiting = {top: last[top] for top in tops if first[top] < last[top]}
        return _drain(reader, waiting, time.monotonic() + seconds)
    finally:
        reader.close(autocommit=False)


def _drain(reader: Any, waiting: dict[TopicPartition, int], deadline: float) -> list[RawRecord]:
    records: list[RawRecord] = []
    while waiting and time.monotonic() < deadline:
        for polled in reader.poll(timeout_ms=200).values():
            records.extend(client.raw(record) for record in polled)
        waiting = {top: end for top, end in waiting.items() if reader.position(top, timeout_ms=0) < end}
    return records


def _names(settings: KafkaSourceSettings | KafkaSinkSettings) -> list[str]:
    if isinstance(settings, KafkaSourceSettings):
        return [settings.topic]
    return [settings.topics.of(channel) for channel in Channel]


def _topic(admin: Admin, settings: Connection, name: str) -> TopicReport:
    described = admin.describe_topics([name])[0]
    if described["error_code"] != 0:
        return TopicReport(name, 0)
    partitions = [partition["partition_index"] for partition in described["partitions"]]
    allowed = tuple(described.get("authorized_operations") or ())
    return TopicReport(name, len(partitions), _records(settings, name, partitions), allowed)


def _records(settings: Connection, name: str, partitions: list[int]) -> int | None:
    if not isinstance(settings, KafkaSourceSettings):
        return None
    reader = client.consumer(settings)
    try:
        tops = [TopicPartition(name, partition) for partition in partitions]
        first = reader.beginning_offsets(tops, timeout_ms=_ANSWER_MS)
        last = reader.end_offsets(tops, timeout_ms=_ANSWER_MS)
    finally:
        reader.close(autocommit=False)
    return sum(last[top] - first[top] for top in tops)


def _problems(settings: KafkaSourceSettings | KafkaSinkSettings, topic: TopicReport) -> list[str]:
    needed = "READ" if isinstance(settings, KafkaSourceSettings) else "WRITE"
    if not topic.partitions:
        if isinstance(settings, KafkaSinkSettings) and settings.create_topics:
            return []
        hint = "create it" if needed == "READ" else "create it, or set create_topics: true"
        return [f"topic '{topic.name}' does not exist, or we may not see it; hint: {hint}"]
    if topic.operations and not {needed, "ALL"} & set(topic.operations):
        return [f"topic '{topic.name}': we may not {needed}, only {', '.join(topic.operations)}"]
    return []
