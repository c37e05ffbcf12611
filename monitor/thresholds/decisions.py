"""What persons decide about thresholds, and the file through which `nuwatch decide` hands it to the daemon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

from monitor.errors import ConfigurationError, StateError
from monitor.quantities import Instant
from monitor.thresholds.adaptation_events import Command

INBOX = "decisions.jsonl"


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One person's decision.

    Attributes:
        asset: whose threshold.
        action: approve: take present scores as the new normal; reject: drop the proposal; rollback: back to the
            version before.
        by: who decided; part of the threshold version's event.
        at: when, ISO 8601 with offset.
    """

    asset: str
    action: Literal["approve", "reject", "rollback"]
    by: str
    at: str

    @property
    def command(self) -> Command:
        """The decision as the fold takes it."""
        return Command(self.action, self.by, int(Instant.parse(self.at)))


def parse_decision(text: bytes, where: str) -> Decision:
    """Read one line of JSON.

    Raises:
        ConfigurationError: it is no decision.
    """
    try:
        decision = msgspec.json.decode(text, type=Decision)
        Instant.parse(decision.at)
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigurationError(f"{where}: expected a decision: {error}") from None
    return decision


def read_decisions(path: Path) -> list[Decision]:
    """Decisions of a JSON Lines file, for a replay.

    Raises:
        ConfigurationError: the file cannot be read or holds something else.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot read decisions: {error.strerror}") from None
    return [parse_decision(line, f"{path}:{n}") for n, line in enumerate(lines, 1) if line.strip()]


def append_decision(directory: Path, decision: Decision) -> None:
    """Put a decision into a state folder's inbox.

    Raises:
        StateError: the folder cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / INBOX).open("ab") as file:
            file.write(msgspec.json.encode(decision) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StateError(f"{directory}: cannot write the decision: {error.strerror}") from error
