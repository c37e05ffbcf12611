"""A thread that ends the process when its loop does not come round: a poll, a device or a disk that never returns.

Nothing can be repaired from outside a call that hangs. But the durable state is a snapshot and an offset, so that
ending the process loses nothing: a supervisor starts it again, and it goes on from there with the same ids.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from monitor.activity import Stage
from monitor.errors import BrokerError, DeviceError, StateError
from monitor.health.vitals import Vitals

EXIT_CODES = {
    Stage.POLL: BrokerError.exit_code,
    Stage.FOLD: DeviceError.exit_code,
    Stage.COMMIT: StateError.exit_code,
}
"""What a loop that hangs in a stage most likely hangs at."""
_LOOKS = 20
"""How often it looks within the time allowed."""


class Watchdog:
    """Looks at the loop until stopped.

    Args:
        vitals: the daemon's state.
        seconds: time allowed for one stage.
        log: a structlog logger.
        end: ends the process with an exit code, whatever the other threads do.
    """

    def __init__(
        self, vitals: Vitals, seconds: float, log: Any, end: Callable[[int], object] = os._exit
    ) -> None:
        self._vitals = vitals
        self._seconds = seconds
        self._log = log
        self._end = end
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="nuwatch-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more. Idempotent."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._seconds / _LOOKS):
            if self._vitals.stuck:
                self._bark()
                return

    def _bark(self) -> None:
        stage = self._vitals.activity.stage
        code = EXIT_CODES[stage]
        self._log.error(
            "stuck",
            stage=stage,
            seconds=round(self._vitals.activity.seconds_in_stage, 1),
            exit_code=code,
            hint="the state is that of the last snapshot: start again; where the threads stand follows",
        )
        faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
        self._end(code)
