"""What judges: a configuration with its bundles, as the engine takes it into force.

The engine knows a generation by the hash of its configuration and the ids of its bundles. Its description goes into the
journal of every partition with the offset before which it begins to act, so that a replay can take it up at the same
places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from connectors.records import OutRecord
from monitor.alerting.alerts import MONITOR, Answer, answer_event
from monitor.pipeline import Pipeline
from monitor.quantities import Instant

CONFIGURATION = "configuration:"
"""What the names of configurations in a journal begin with."""


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The record of the control topic that brought a configuration.

    Attributes:
        name: of the command, for ever.
        incarnation: of the control topic.
        offset: of the record.
        by: who told it.
        at: when, ISO 8601 with offset.
    """

    name: str
    incarnation: str
    offset: int
    by: str
    at: str


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A configuration that is in force from a place in the stream on, as it is journalled.

    Attributes:
        configuration: hash of its text.
        text: of the YAML file, whole.
        bundles: bundle id by asset class.
        told: what brought it, where that was not the file.
    """

    configuration: str
    text: str
    bundles: dict[str, str]
    told: Told | None = None

    @property
    def id(self) -> str:
        """One name for the same configuration with the same bundles, brought by the same command."""
        bundles = ",".join(f"{name}={bundle[:16]}" for name, bundle in sorted(self.bundles.items()))
        told = f":{self.told.name}" if self.told is not None else ""
        return f"{CONFIGURATION}{self.configuration[:16]}:{bundles}{told}"

    def judges_as(self, other: Change) -> bool:
        """Whether both are the same configuration with the same bundles, whatever brought them."""
        return (self.configuration, self.bundles) == (other.configuration, other.bundles)

    def outranks(self, other: Change) -> bool:
        """Whether this, found in a journal, stays in force against what the daemon would put there.

        A command stays until a newer one; a file, which any daemon may have in another version, never does.
        """
        if self.told is None:
            return False
        if other.told is None:
            return True
        return self.told.incarnation == other.told.incarnation and self.told.offset > other.told.offset


class Generation(NamedTuple):
    """A change that is ready to act.

    Attributes:
        change: what it is.
        pipeline_of: makes the empty pipeline of a partition.
    """

    change: Change
    pipeline_of: Callable[[int], Pipeline]

    @property
    def bundles(self) -> Mapping[str, str]:
        """Bundle id by asset class."""
        return self.change.bundles


def applied(change: Change, pipeline: Pipeline, position: int) -> list[OutRecord]:
    """The answer to the command that brought a change, for one partition; none where nobody commanded it.

    Args:
        change: in force from here on.
        pipeline: of the partition.
        position: the input offset before which it acts.
    """
    told, origin = change.told, pipeline.origin._replace(offset=position)
    if told is None:
        return []
    answer = Answer(
        command=told.name,
        kind="configuration",
        outcome="APPLIED",
        reason="",
        by=told.by,
        action=None,
        configuration=change.configuration,
        bundles=change.bundles,
        control=told.offset,
        partition=origin.partition,
        offset=position,
    )
    at = int(Instant.parse(told.at))
    return [answer_event(answer, source=pipeline.source, asset=MONITOR, time_ns=at, origin=origin)]
