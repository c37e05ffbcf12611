"""A device that fails is asked again; one that goes on failing ends the process, and is never an event of the fold.

Scoring is a pure function, so that a second call gives what the first would have given. Nothing is snapshot after a
failure: a restart repeats from the last snapshot and yields the same records with the same ids.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import jax

from monitor.errors import DeviceError

PAUSES = (0.1, 1.0, 5.0)
"""Seconds before the second, third and fourth attempt."""

Result = TypeVar("Result")
_log = logging.getLogger(__name__)


def asked_again(call: Callable[[], Result], sleep: Callable[[float], None] = time.sleep) -> Result:
    """What ``call`` gives, after further attempts where the device fails (out of memory, lost, a driver's error).

    Raises:
        DeviceError: the last attempt failed too.
    """
    for pause in PAUSES:
        try:
            return call()
        except jax.errors.JaxRuntimeError as error:
            _log.warning(
                "%s; trying again in %g s", _first_line(error), pause, extra={"code": "device_failed"}
            )
            sleep(pause)
    try:
        return call()
    except jax.errors.JaxRuntimeError as error:
        raise DeviceError(
            f"scoring failed {len(PAUSES) + 1} times: {_first_line(error)}; no snapshot was written, a restart goes on "
            "from the last one; hint: is the device there, and has it memory for scoring.block windows?"
        ) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
