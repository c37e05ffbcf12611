"""Commands for running daemons, sent by the control topic."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from monitor.cli.common import connector_errors
from monitor.configuration import Configuration
from monitor.connect import control_settings
from monitor.control import Command
from monitor.errors import ConfigurationError


def send(configuration: Configuration, key: str, command: Command) -> int:
    """Write a command to the configured control topic; returns its offset.

    Raises:
        ConfigurationError: none is configured, or the command is too large.
        BrokerError: the topic does not take it.
    """
    found = control_settings(configuration)
    if found is None:
        raise ConfigurationError(
            f"{configuration.path}: control.topic: got none, expected the topic that the daemons read commands from; "
            "hint: without one use `kill -HUP` beside the daemon"
        )
    from connectors.kafka import send_command

    value = msgspec.json.encode(command)
    largest = configuration.settings.max_record
    if len(value) > largest:
        raise ConfigurationError(
            f"{configuration.path}: got a command of {len(value)} bytes, expected at most {largest} (max_record)"
        )
    with connector_errors():
        return send_command(*found, key.encode(), value)


def now() -> str:
    """The time of a command."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
