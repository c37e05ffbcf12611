"""Errors of the application, and the exit code that each ends a command with.

NuwatchError           1   findings
├── UsageError         2   the command line contradicts itself
├── BrokerError        69  the broker cannot be reached or refuses
├── DeviceError        70  the device that scores failed
├── StateError         74  durable state cannot be read or written
└── ConfigurationError 78  the configuration, a bundle or a topic's layout does not fit
"""

from __future__ import annotations

from typing import ClassVar


class NuwatchError(Exception):
    """Base of every error; its text says what, where, got, expected, and ``hint:``."""

    exit_code: ClassVar[int] = 1


class UsageError(NuwatchError):
    """The command line contradicts itself."""

    exit_code = 2


class BrokerError(NuwatchError):
    """The broker cannot be reached or refuses."""

    exit_code = 69


class DeviceError(NuwatchError):
    """The device that scores failed, again and again."""

    exit_code = 70


class StateError(NuwatchError):
    """Durable state cannot be read or written."""

    exit_code = 74


class ConfigurationError(NuwatchError):
    """The configuration, a bundle or a topic's layout does not fit."""

    exit_code = 78
