"""`nuwatch dlq`: dead letters read from the sink, shown, and sent to the input again."""

from __future__ import annotations

import base64
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple, Self

import click
import msgspec

from connectors.records import Channel, Reason
from monitor.alerting.dead_letters import Letter, obstacle, parse_letter, sent_again
from monitor.cli.common import connector_errors
from monitor.configuration import Configuration, read
from monitor.connect import sink_settings, source_settings
from monitor.errors import ConfigurationError, UsageError
from monitor.quantities import Instant

_SHOWN_BYTES = 4096
_MOST_SENT = 1000
"""Records between two acknowledgements of a replay."""


class Selection(NamedTuple):
    """Which dead letters are meant; what is empty or None does not restrict.

    Attributes:
        reasons: reason codes.
        asset: a pattern (fnmatch).
        begin: earliest time, ns since the epoch.
        end: time before which, ns.
        ids: of single letters.
    """

    reasons: tuple[str, ...] = ()
    asset: str | None = None
    begin: int | None = None
    end: int | None = None
    ids: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        reasons: tuple[str, ...],
        asset: str | None,
        begin: str | None,
        end: str | None,
        ids: tuple[str, ...] = (),
    ) -> Self:
        """From the options of a command.

        Raises:
            UsageError: a reason or a time that is none.
        """
        for reason in reasons:
            if reason not in Reason.__members__:
                raise UsageError(f"--reason: got {reason!r}, expected one of {', '.join(Reason)}")
        return cls(reasons, asset, _time("--from", begin), _time("--to", end), ids)

    @property
    def empty(self) -> bool:
        """Whether nothing restricts."""
        return self == type(self)()

    def fits(self, letter: Letter) -> bool:
        """Whether a letter is meant."""
        if self.ids and letter.id not in self.ids:
            return False
        if self.reasons and letter.reason not in self.reasons:
            return False
        if self.asset is not None and not fnmatchcase(letter.asset, self.asset):
            return False
        return self._in_time(letter.at_ns)

    def _in_time(self, at: int | None) -> bool:
        if self.begin is None and self.end is None:
            return True
        if at is None:
            return False
        return (self.begin is None or at >= self.begin) and (self.end is None or at < self.end)


def _time(option: str, text: str | None) -> int | None:
    try:
        return None if text is None else int(Instant.parse(text))
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def letters(configuration: Configuration) -> Iterator[Letter]:
    """Every dead letter of the configured sink.

    Raises:
        ConfigurationError: the sink keeps none.
        ConnectorError: they cannot be read.
    """
    settings = sink_settings(configuration)
    if settings is None:
        raise ConfigurationError(
            f"{configuration.where('sink')}: a memory sink keeps no dead letters; hint: use kind: kafka or kind: files"
        )
    if hasattr(settings, "directory"):
        from connectors.file_sink import records_in

        found = records_in(configuration.folder / settings.directory, Channel.DEAD_LETTER)
        read_back = (parse_letter(record.key, record.value, record.headers) for record in found)
    else:
        from connectors.kafka import history

        records = history(settings, settings.topics.dead_letter)
        read_back = (parse_letter(record.key, record.value, record.headers) for record in records)
    return (letter for letter in read_back if letter is not None)


# -- list and show --------------------------------------------------------------------------------------------


def list_command(config: Path, selection: Selection, as_json: bool) -> None:
    """Do what `nuwatch dlq list` says."""
    counts: Counter[str] = Counter()
    with connector_errors():
        for letter in letters(read(config)):
            if selection.fits(letter):
                counts[letter.reason] += 1
                click.echo(_json(letter) if as_json else _line(letter))
    told = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    click.echo(f"{counts.total()} dead letters{': ' if told else ''}{told}", err=True)


def show_command(config: Path, name: str, *, as_json: bool, raw: bool) -> None:
    """Do what `nuwatch dlq show` says."""
    with connector_errors():
        letter = next((one for one in letters(read(config)) if one.id == name), None)
    if letter is None:
        raise UsageError(f"no dead letter has the id {name!r}; hint: `nuwatch dlq list` names them")
    if raw:
        sys.stdout.buffer.write(letter.value or b"")
    elif as_json:
        click.echo(_json(letter))
    else:
        click.echo(_page(letter))


def _line(letter: Letter) -> str:
    when = letter.time or letter.received or "no time"
    return printable(f"{letter.id}  {when}  {letter.reason}  {letter.asset or '-'}  {letter.detail}")


def _page(letter: Letter) -> str:
    fields: dict[str, Any] = {
        "id": letter.id,
        "reason": letter.reason,
        "detail": letter.detail,
        "asset": letter.asset or "-",
        "from": f"{letter.topic}, partition {letter.partition}, offset {letter.offset}",
        "event time": letter.time or "unknown",
        "received": letter.received or "unknown",
        "nuwatch": letter.version or "unknown",
        "key": _shown(letter.key),
    }
    fields |= {f"header {name}": _shown(content) for name, content in letter.headers}
    lines = [f"{name:<12}{printable(str(text))}" for name, text in fields.items()]
    if letter.rebuilt:
        lines.append("the value is one row of a record, written anew as a frame")
    if letter.original_size is not None:
        lines.append(f"the value was cut: it had {letter.original_size} bytes")
    return "\n".join([*lines, "", _shown(letter.value)])


def _shown(content: bytes | None) -> str:
    if content is None:
        return "none"
    cut = content[:_SHOWN_BYTES]
    more = f" ... ({len(content)} bytes; --raw writes them all)" if len(content) > len(cut) else ""
    try:
        return printable(cut.decode()) + more
    except UnicodeDecodeError:
        return f"{cut.hex(' ', 2)}{more}"


def printable(text: str) -> str:
    """Text from outside for a terminal: what it must not obey is shown as its escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _json(letter: Letter) -> str:
    told: dict[str, Any] = letter._asdict() | {"asset": letter.asset}
    for name in ("key", "value"):
        content = told.pop(name)
        told |= _text(name, content)
    told["headers"] = [{"name": name} | _text("value", content) for name, content in letter.headers]
    return msgspec.json.encode(told).decode()


def _text(name: str, content: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if content is None else content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content or b"").decode()}


# -- replay ---------------------------------------------------------------------------------------------------


def replay_command(config: Path, selection: Selection, *, everything: bool, dry_run: bool, yes: bool) -> None:
    """Do what `nuwatch dlq replay` says."""
    if selection.empty and not everything:
        raise UsageError("nothing is chosen; expected ids, --reason, --asset, --from, --to, or --all")
    configuration = read(config)
    topic = _input(configuration)
    with connector_errors():
        chosen = [letter for letter in letters(configuration) if selection.fits(letter)]
    _all_found(selection.ids, chosen)
    ready = [letter for letter in chosen if _may_go(letter, topic)]
    click.echo(f"{len(ready)} of {len(chosen)} dead letters can go to topic '{topic}' again", err=True)
    if dry_run or not ready:
        return
    if not yes:
        click.confirm(f"Send {len(ready)} records to topic '{topic}'?", abort=True, err=True)
    with connector_errors():
        click.echo(f"{_send(configuration, topic, ready)} records sent", err=True)


def _input(configuration: Configuration) -> str:
    topic = configuration.settings.source.get("topic")
    if configuration.settings.source.get("kind") != "kafka" or not topic:
        raise ConfigurationError(
            f"{configuration.where('source')}: got no Kafka topic, and only to one can records be sent; "
            "hint: `nuwatch dlq show ID --raw` writes a record's bytes"
        )
    return str(topic)


def _all_found(ids: Sequence[str], chosen: Sequence[Letter]) -> None:
    missing = sorted(set(ids) - {letter.id for letter in chosen})
    if missing:
        raise UsageError(f"no dead letter that fits has the id {', '.join(missing)}; nothing was sent")


def _may_go(letter: Letter, topic: str) -> bool:
    why = obstacle(letter, topic)
    if why is not None:
        click.echo(printable(f"{letter.id} stays: {why}"), err=True)
    return why is None


def _send(configuration: Configuration, topic: str, ready: Sequence[Letter]) -> int:
    from connectors.kafka import resend

    settings = source_settings(configuration)
    pieces = [ready[low : low + _MOST_SENT] for low in range(0, len(ready), _MOST_SENT)]
    return sum(resend(settings, topic, [sent_again(letter) for letter in piece]) for piece in pieces)
