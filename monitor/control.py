"""The control topic: commands of persons and programs for running daemons, as records of one Kafka topic.

Every daemon reads the whole topic. A decision acts on the partition that knows its asset (`monitor.journal`); a
configuration on every partition, once it was read, checked and compiled; what can be neither is answered with a reason.
How far a partition has followed the topic is in its marker, so that whoever holds it next neither misses a command nor
answers it again. What the journal has is not taken up a second time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import msgspec

from connectors.ports import CommandTopic
from connectors.records import OutRecord, Queue, RawRecord, Reason
from monitor.alerting.alerts import MONITOR, Answer, Origin, answer_event
from monitor.alerting.dead_letters import dead_letter
from monitor.checkpoint import Heard
from monitor.commands import name_of
from monitor.generation import Told
from monitor.journal import Arrived
from monitor.quantities import Instant
from monitor.thresholds.decisions import Decision

COMMON = 0
"""Whoever holds this partition of the input answers what every daemon refuses alike."""
_MOST_KEPT = 1000
"""Refusals that are remembered in case a partition comes whose holder has not told them."""
_MOST_ORDERS = 100
_LONGEST_NAME = 200
_LATEST_NS = 2**63 - 1
_NS_PER_MS = 1_000_000


class NewConfiguration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A configuration that is to be in force from now on.

    Attributes:
        text: of the YAML file, whole. Only what can change while a daemon runs may differ from what is in force.
        bundles: bundle id by asset class: a daemon that finds another bundle refuses. Classes that are not named take
            what is found.
        by: who gives the command.
        at: when, ISO 8601 with offset.
    """

    text: str
    by: str
    at: str
    bundles: dict[str, str] = {}


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A record of the control topic: one of these.

    Attributes:
        decision: about an asset's threshold.
        configuration: to be taken into force.
    """

    decision: Decision | None = None
    configuration: NewConfiguration | None = None


class Order(NamedTuple):
    """A configuration that was commanded, with what names it in the journal."""

    told: Told
    new: NewConfiguration


class Rejected(Exception):  # noqa: N818 - names what happened
    """A record that is no command, or one that nobody can carry out."""

    def __init__(self, reason: Reason, detail: str, command: Command | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.command = reason, detail, command


class _Refusal(NamedTuple):
    """What is to be told of a command that is not done.

    Attributes:
        offset: of the command.
        common: every daemon refuses it; else only this one, for what it holds.
        records: what the holder of a partition tells.
    """

    offset: int
    common: bool
    records: Callable[[int], list[OutRecord]]


class ControlTopic:
    """An `Inbox` of decisions, the `Control` of an engine, and the orders for who makes generations.

    Args:
        topic: of the commands; opened here.
        name: of the topic, for dead letters.
        assets: patterns of all assets; a decision about another one is refused.
        source: CloudEvents source of the answers, /nuwatch/<site>.
        origin: where the daemon reads.
        largest: bytes of the largest command.
        log: a structlog logger.

    Raises:
        SourceError: the topic cannot be reached.
    """

    def __init__(
        self,
        topic: CommandTopic,
        name: str,
        assets: Collection[str],
        source: str,
        origin: Origin,
        largest: int,
        log: Any,
    ) -> None:
        self._topic = topic
        self._name = name
        self._assets = tuple(assets)
        self._source = source
        self._origin = origin
        self._largest = largest
        self._log = log
        self._incarnation = topic.open().incarnation
        self._next = 0
        self._done = 0  # orders before this offset were made here, or given up
        self._arrived: list[Arrived] = []
        self._offsets: dict[str, int] = {}
        self._orders = deque[Order](maxlen=_MOST_ORDERS)
        self._refusals = deque[_Refusal](maxlen=_MOST_KEPT)
        self._told: dict[int, int] = {}  # offset of a refusal that was told -> for which partition
        self._held: dict[int, Heard] = {}
        self._trouble: str | None = None

    # -- Inbox ----------------------------------------------------------------------------------------------

    def poll(self) -> Sequence[Arrived]:
        """See `monitor.journal.Inbox`."""
        self._read()
        arrived, self._arrived = self._arrived, []
        return arrived

    def concerns(self, name: str, partition: int) -> bool:
        """See `monitor.journal.Inbox`: what was said before a partition began is not for it."""
        held = self._held.get(partition)
        return name not in self._offsets or held is None or self._offsets[name] >= held.begun

    # -- Control --------------------------------------------------------------------------------------------

    def restored(self, partition: int, heard: Heard | None) -> None:
        """See `monitor.commands.Control`."""
        if heard is None:
            heard = Heard(self._incarnation, self._topic.end, self._topic.end)
        elif heard.incarnation != self._incarnation:
            heard = Heard(self._incarnation, 0, 0)
        self._held[partition] = heard

    @property
    def queues(self) -> tuple[Queue, ...]:
        """See `monitor.commands.Control`."""
        return (self._topic.queue,)

    def forget(self, partitions: Collection[int]) -> None:
        """See `monitor.commands.Control`."""
        for partition in partitions:
            self._held.pop(partition, None)
        self._told = {offset: by for offset, by in self._told.items() if by not in partitions}

    def heard(self, partition: int) -> Heard | None:
        """See `monitor.commands.Control`."""
        return self._held.get(partition)

    def answers(self) -> Sequence[OutRecord]:
        """See `monitor.commands.Control`."""
        self._read()
        told = [record for refusal in self._refusals for record in self._tell(refusal)]
        frontier = min((order.told.offset for order in self._waiting()), default=self._next)
        for partition, heard in self._held.items():
            decided = max(heard.decided, frontier)
            self._held[partition] = Heard(heard.incarnation, heard.begun, decided)
        return told

    def _tell(self, refusal: _Refusal) -> list[OutRecord]:
        speaker = COMMON if refusal.common else min(self._held, default=COMMON)
        heard = self._held.get(speaker)
        if heard is None or refusal.offset in self._told or refusal.offset < heard.decided:
            return []
        self._told[refusal.offset] = speaker
        return refusal.records(speaker)

    # -- orders ---------------------------------------------------------------------------------------------

    def order(self) -> Order | None:
        """The newest configuration that was commanded and is not yet decided; those before it are given up."""
        *older, newest = self._waiting() or [None]
        for order in older:
            if order is not None and newest is not None:
                self.settle(order, f"superseded by the command at offset {newest.told.offset}")
        return newest

    def settle(self, order: Order, refused: str = "") -> None:
        """An order was carried out, or ``refused`` says why not."""
        self._done = order.told.offset + 1
        if refused:
            self._log.error("command_refused", offset=order.told.offset, by=order.new.by, reason=refused)
            command = Command(configuration=order.new)
            self._refusals.append(
                _Refusal(
                    order.told.offset,
                    False,
                    lambda partition: [self._answer(order.told.offset, command, refused, 0, partition)],
                )
            )

    def _waiting(self) -> list[Order]:
        """Orders that a partition held here has not heard of, oldest first."""
        after = max(self._done, min((heard.decided for heard in self._held.values()), default=self._next))
        return [order for order in self._orders if order.told.offset >= after]

    # -- reading --------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Leave the topic. Idempotent."""
        self._topic.close()

    def _read(self) -> None:
        for record in self._topic.poll():
            self._sort(record)
            self._next = record.offset + 1
        if self._topic.trouble != self._trouble:
            self._trouble = self._topic.trouble
            if self._trouble is not None:
                self._log.warning("commands_not_read", reason=self._trouble)

    def _sort(self, record: RawRecord) -> None:
        """A record becomes a decision that waits, an order, or a refusal."""
        name = name_of(self._incarnation, record.offset)
        try:
            command = self._checked(record)
        except Rejected as rejected:
            self._log.error("command_refused", offset=record.offset, reason=str(rejected))
            self._refusals.append(self._refusal(record, rejected))
            return
        if command.decision is not None:
            self._offsets[name] = record.offset
            self._arrived.append(Arrived(name, command.decision))
        elif command.configuration is not None:
            new = command.configuration
            told = Told(name, self._incarnation, record.offset, new.by, new.at)
            self._orders.append(Order(told, new))

    def _checked(self, record: RawRecord) -> Command:
        command = parse_command(record.value, self._largest)
        asset = command.decision.asset if command.decision is not None else None
        if asset is not None and not any(fnmatchcase(asset, pattern) for pattern in self._assets):
            known = ", ".join(self._assets)
            raise Rejected(Reason.UNKNOWN_ASSET, f"got asset {asset!r}, expected one of {known}", command)
        return command

    def _refusal(self, record: RawRecord, rejected: Rejected) -> _Refusal:
        def records(partition: int) -> list[OutRecord]:
            letter = dead_letter(
                record,
                rejected.reason,
                rejected.detail,
                topic=self._name,
                version=self._origin.version,
                series=f"{self._name}:",
            )
            received = max(0, record.timestamp_ms) * _NS_PER_MS
            answer = self._answer(record.offset, rejected.command, rejected.detail, received, partition)
            return [letter, answer]

        return _Refusal(record.offset, True, records)

    def _answer(
        self, offset: int, command: Command | None, why: str, received_ns: int, partition: int
    ) -> OutRecord:
        """The refusal of a command; of one that could not be read the time is that of its record."""
        decision = command.decision if command is not None else None
        new = command.configuration if command is not None else None
        given = decision or new
        answer = Answer(
            command=name_of(self._incarnation, offset),
            kind="decision" if decision is not None else "configuration" if new is not None else None,
            outcome="REFUSED",
            reason=why,
            by=given.by if given is not None else None,
            action=decision.action if decision is not None else None,
            configuration=None,
            bundles=None,
            control=offset,
            partition=partition,
            offset=None,
        )
        return answer_event(
            answer,
            source=self._source,
            asset=decision.asset if decision is not None else MONITOR,
            time_ns=int(Instant.parse(given.at)) if given is not None else received_ns,
            origin=self._origin._replace(partition=partition),
        )


def parse_command(value: bytes | None, largest: int) -> Command:
    """Read a record of the control topic.

    Args:
        value: its bytes.
        largest: bytes of the largest command.

    Raises:
        Rejected: it is no command.
    """
    if not value:
        raise Rejected(Reason.EMPTY, "got an empty record, expected a command as JSON")
    if len(value) > largest:
        raise Rejected(Reason.TOO_LARGE, f"got {len(value)} bytes, expected at most {largest}")
    try:
        command = msgspec.json.decode(value, type=Command)
    except msgspec.ValidationError as error:
        missing = "missing required field" in str(error)
        raise Rejected(Reason.MISSING_FIELD if missing else Reason.WRONG_TYPE, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected(Reason.MALFORMED, f"expected a command as JSON: {error}") from None
    given = command.decision or command.configuration
    if given is None:
        raise Rejected(Reason.MISSING_FIELD, "got neither a `decision` nor a `configuration`")
    if command.decision is not None and command.configuration is not None:
        raise Rejected(Reason.WRONG_TYPE, "got a `decision` and a `configuration`, expected one of them")
    _check_giver(given)
    return command


def _check_giver(given: Decision | NewConfiguration) -> None:
    """Who and when stay in state and events for ever.

    Raises:
        Rejected: they cannot.
    """
    if len(given.by) > _LONGEST_NAME:
        raise Rejected(
            Reason.WRONG_TYPE, f"by: got {len(given.by)} characters, expected at most {_LONGEST_NAME}"
        )
    try:
        at = int(Instant.parse(given.at))
    except (ValueError, OverflowError) as error:
        raise Rejected(Reason.BAD_TIME, f"at: {error}") from None
    if not 0 <= at <= _LATEST_NS:
        raise Rejected(Reason.BAD_TIME, f"at: got {given.at}, expected a time from 1970 to 2262")
