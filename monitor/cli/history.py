"""Recorded history as the commands read it: files, or a topic up to its present end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from connectors.ports import Source, Start
from connectors.records import Batch
from monitor.cli.common import connector_errors
from monitor.configuration import Configuration
from monitor.connect import make_source, recordings
from monitor.errors import ConfigurationError, UsageError
from monitor.quantities import Instant

EVERYTHING: Final = (0, 2**63 - 1)


def interval_of(begin: str | None, end: str | None) -> tuple[int, int]:
    """The options --from and --to in ns since the epoch.

    Raises:
        UsageError: one of them is no time, or nothing is between them.
    """
    try:
        low = 0 if begin is None else int(Instant.parse(begin))
        high = 2**63 - 1 if end is None else int(Instant.parse(end))
    except ValueError as error:
        raise UsageError(f"--from/--to: {error}") from None
    if low >= high:
        raise UsageError(f"--from {begin} is not before --to {end}")
    return low, high


def history(
    configuration: Configuration, files: tuple[Path, ...], interval: tuple[int, int] = EVERYTHING
) -> Iterator[Batch]:
    """The batches of the interval; a topic is read to its present end, because records may arrive late."""
    settings: Any = recordings(configuration, files)
    low, high = interval
    start: Start = "earliest"
    if hasattr(settings, "topic"):
        start = low if low > 0 else "earliest"
        settings = msgspec.structs.replace(settings, until="end")
    with connector_errors():
        source = make_source(configuration, settings)
        try:
            source.open(lambda _: None, start)
            yield from _batches(source, low, high)
        finally:
            source.close()


def _batches(source: Source, low: int, high: int) -> Iterator[Batch]:
    seen = rejected = 0
    example = ""
    while not source.exhausted:
        for polled in source.poll(1.0):
            rejected += len(polled.rejected)
            example = next((f"{r.reason}: {r.detail}" for r in polled.rejected), example)
            for batch in polled.batches:
                inside = (batch.time >= low) & (batch.time < high)
                seen += len(batch.time)
                yield batch if inside.all() else _rows(batch, inside)
    if not seen:
        why = f"; {rejected} records were rejected, such as {example}" if rejected else ""
        raise ConfigurationError(f"the history holds no reading of a configured asset{why}")
    if rejected:
        click.echo(f"warning: {rejected} records of the history were rejected, such as {example}", err=True)


def _rows(batch: Batch, kept: Any) -> Batch:
    columns = ("asset", "time", "values", "quality", "context", "offset")
    return batch._replace(**{name: getattr(batch, name)[kept] for name in columns})
