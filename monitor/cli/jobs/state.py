"""`nuwatch state`: what lies in the state folder."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import msgspec

from monitor.changelog import Pair, assemble
from monitor.checkpoint import Damaged, Entry
from monitor.cli.common import connector_errors
from monitor.configuration import Configuration, read
from monitor.connect import sink_settings
from monitor.durable.database import FORMAT, NAME, Unsound, connect, erase
from monitor.durable.folder import lock
from monitor.durable.store import Store
from monitor.errors import ConfigurationError, NuwatchError, StateError
from monitor.thresholds.decisions import INBOX


class Partition(msgspec.Struct, frozen=True):
    """What is stored of one partition.

    Attributes:
        partition: its number.
        position: the offset after the last record that the state reflects.
        assets: number of assets with a state.
        state_bytes: of all of them.
        journal: number of journalled commands.
        bundles: bundle id by asset class.
        input: name of the topic, or of the kind of source; null where it is not known.
        damage: what does not fit its checksum; '' where all does.
    """

    partition: int
    position: int | None
    assets: int = 0
    state_bytes: int = 0
    journal: int = 0
    bundles: dict[str, str] = {}
    input: str | None = None
    damage: str = ""


def inspect_command(config: Path, as_json: bool) -> None:
    """Do what `nuwatch state inspect` says.

    Raises:
        NuwatchError: something is damaged; the exit code is 1.
    """
    path = _path(config)
    with closing(_open(path)) as store:
        found = [_inspected(store, partition) for partition in store.partitions()]
    if as_json:
        body = {"file": str(path), "format": FORMAT, "bytes": path.stat().st_size, "partitions": found}
        click.echo(msgspec.json.format(msgspec.json.encode(body)).decode())
    else:
        click.echo(f"{path}: format {FORMAT}, {path.stat().st_size:,} bytes")
        for one in found:
            click.echo(_line(one))
    damaged = [one.partition for one in found if one.damage]
    if damaged:
        raise NuwatchError(f"{path}: partitions {damaged} are damaged; hint: the next start rebuilds them")


def export_command(config: Path, target: Path) -> None:
    """Do what `nuwatch state export` says."""
    configuration = read(config)
    changelog = configuration.settings.state.changelog
    journals = _of_folder(config) if changelog is None else _of_changelog(configuration, changelog)
    lines = b"".join(exported(partition, entry) for partition, its in journals.items() for entry in its)
    if str(target) == "-":
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()
        return
    try:
        target.write_bytes(lines)
    except OSError as error:
        raise StateError(f"{target}: cannot write the journal: {error.strerror}") from error


def reset_command(config: Path, yes: bool) -> None:
    """Do what `nuwatch state reset` says."""
    path = _path(config)
    if not path.exists() and not path.with_name(INBOX).exists():
        click.echo(f"{path.parent}: no state here")
        return
    with closing(lock(path.parent)):
        if not yes:
            click.confirm(f"Forget everything in {path.parent}?", abort=True, err=True)
        erase(path.parent)
        path.with_name(INBOX).unlink(missing_ok=True)
    click.echo(f"{path.parent}: begun anew")


def exported(partition: int, entry: Entry) -> bytes:
    """An entry of a partition's journal as a line of JSON."""
    head = {"partition": partition, "position": entry.position, "id": entry.id}
    return msgspec.json.encode({**head, "command": msgspec.Raw(entry.content)}) + b"\n"


def _of_folder(config: Path) -> dict[int, tuple[Entry, ...]]:
    """The journal of every partition of the state folder."""
    with closing(_open(path := _path(config))) as store:
        return {partition: _journal(store, partition, path) for partition in store.partitions()}


def _of_changelog(configuration: Configuration, topic: str) -> dict[int, tuple[Entry, ...]]:
    """The journal of every partition of a changelog.

    Raises:
        NuwatchError: something of it is damaged.
    """
    from connectors.kafka import history

    pairs: dict[int, list[Pair]] = {}
    with connector_errors():
        for record in history(sink_settings(configuration), topic):
            pairs.setdefault(record.partition, []).append((record.key or b"", record.value))
    journals: dict[int, tuple[Entry, ...]] = {}
    for partition, its in sorted(pairs.items()):
        found = assemble(its, f"changelog {topic}, partition {partition}")
        if found is not None and isinstance(found.state, Damaged):
            raise NuwatchError(
                f"{found.state.reason}; hint: the next daemon that takes it rebuilds the state"
            )
        journals[partition] = () if found is None else found.state.journal
    return journals


def _path(config: Path) -> Path:
    configuration = read(config)
    return configuration.folder / configuration.settings.state.directory / NAME


def _open(path: Path) -> Store:
    if not path.exists():
        raise StateError(
            f"{path}: no state here; hint: has `nuwatch run` ever worked with this configuration?"
        )
    try:
        return Store(path, connect(path, read_only=True))
    except Unsound as damage:
        raise NuwatchError(
            f"{path}: {damage}; hint: the next start sets it aside and rebuilds the state"
        ) from None


def _inspected(store: Store, partition: int) -> Partition:
    try:
        stored = store.read(partition)
    except Unsound as damage:
        salvaged: Damaged = store.salvaged(partition, str(damage))
        return Partition(partition, salvaged.position, journal=len(salvaged.journal), damage=str(damage))
    if stored is None:
        raise ConfigurationError(f"partition {partition} went away while it was read")
    rows, marker, journal = stored.restored
    size = sum(map(len, rows.values()))
    name = marker.input.name if marker.input else None
    return Partition(partition, marker.position, len(rows), size, len(journal), marker.bundles, name)


def _journal(store: Store, partition: int, path: Path) -> tuple[Entry, ...]:
    try:
        stored = store.read(partition)
    except Unsound as damage:
        raise NuwatchError(f"{path}: {damage}; hint: the next start rebuilds the state") from None
    return () if stored is None else stored.restored.journal


def _line(one: Partition) -> str:
    if one.damage:
        return f"  partition {one.partition}: DAMAGED: {one.damage}"
    bundles: Any = ", ".join(f"{name} {bundle[:12]}" for name, bundle in sorted(one.bundles.items()))
    return (
        f"  partition {one.partition}: {one.input or 'input'} up to offset {one.position}, {one.assets} assets "
        f"({one.state_bytes:,} bytes), {one.journal} journalled commands, {bundles}"
    )
