"""What only the outside can tell: does the broker answer, are the topics there, how do real records look."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from connectors.codec import Codec
from connectors.errors import ConnectorError
from connectors.records import Polled
from monitor.connect import layout_of
from monitor.settings import Settings
from monitor.validation.connections import Connections
from monitor.validation.finding import Findings
from monitor.validation.survey import Survey, judge, survey
from monitor.yaml_lines import Path

DEFAULT_SAMPLE = 2000
"""Records that are looked at."""


class Topic(NamedTuple):
    """A topic as the broker shows it; ``records`` is None where that was not asked."""

    name: str
    partitions: int
    records: int | None


class Seen(NamedTuple):
    """What was seen outside.

    Attributes:
        topics: of source and sink, where they are Kafka's.
        reached: False if a broker did not answer.
        sample: what the records look like, by the section that they came through.
    """

    topics: tuple[Topic, ...]
    reached: bool
    sample: dict[str, Survey]


def look(
    settings: Settings, connections: Connections, findings: Findings, count: int = DEFAULT_SAMPLE
) -> Seen:
    """Ask the outside; nothing is created or written.

    Args:
        settings: the configuration.
        connections: its connectors' settings.
        findings: take what is wrong.
        count: how many records to look at.
    """
    topics: list[Topic] = []
    silent: set[tuple[str, ...]] = set()
    for name in ("source", "sink"):
        typed = getattr(connections, name)
        # who did not answer once is not waited for again
        if hasattr(typed, "bootstrap_servers") and typed.bootstrap_servers not in silent:
            found = _ask_broker(typed, (name,), findings)
            topics += found
            silent |= set() if found else {typed.bootstrap_servers}
    sample: dict[str, Survey] = {}
    for name in ("source", "recordings"):
        typed = getattr(connections, name)
        if typed is not None and not findings.has((name,)):
            polls = _polled(typed, settings, connections.folder, (name,), findings, count)
            if polls is not None:
                sample[name] = survey(polls, settings)
                judge(sample[name], settings, (name,), findings)
    return Seen(tuple(topics), not silent, sample)


def _ask_broker(typed: Any, at: Path, findings: Findings) -> list[Topic]:
    """The topics; none if the broker did not answer."""
    from connectors.kafka import check_broker

    report = check_broker(typed)
    for problem in report.problems:
        message, _, hint = problem.partition("; hint: ")
        findings.error(at, message, hint)
    return [Topic(topic.name, topic.partitions, topic.records) for topic in report.topics]


def _polled(
    typed: Any, settings: Settings, folder: FilePath, at: Path, findings: Findings, count: int
) -> list[Polled] | None:
    try:
        if hasattr(typed, "paths"):
            return _of_files(typed, settings, folder, count)
        return _of_topic(typed, Codec(layout_of(settings)), count)
    except ConnectorError as error:
        message, _, hint = str(error).partition("; hint: ")
        findings.error(at, message, hint)
        return None


def _of_topic(typed: Any, codec: Codec, count: int) -> list[Polled]:
    from connectors.kafka import sample

    records = sorted(sample(typed, count), key=lambda record: (record.partition, record.offset))
    return [codec.poll(list(part)) for _, part in groupby(records, key=lambda record: record.partition)]


def _of_files(typed: Any, settings: Settings, folder: FilePath, count: int) -> list[Polled]:
    from connectors.files import FilesSource

    source = FilesSource(typed, layout_of(settings), folder)
    polls: list[Polled] = []
    try:
        source.open(lambda _: None, "earliest")
        while not source.exhausted and sum(polled.records for polled in polls) < count:
            polls += source.poll(0.0)
    finally:
        source.close()
    return polls
