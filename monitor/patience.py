"""How long a snapshot that the sink or the disk refuses is tried again."""

from __future__ import annotations

import time
from collections.abc import Callable


class Patience:
    """Time since a first failure, against what is allowed.

    Args:
        seconds: allowed.
        clock: seconds; monotonic.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._since: float | None = None

    @property
    def tried(self) -> bool:
        """True between a failure and the next success."""
        return self._since is not None

    def failed(self) -> bool:
        """Another failure; True when they have lasted for longer than allowed."""
        now = self._clock()
        if self._since is None:
            self._since = now
        return now - self._since >= self._seconds

    def succeeded(self) -> float | None:
        """Seconds that the failures lasted, or None where there were none; forgets them."""
        since, self._since = self._since, None
        return None if since is None else self._clock() - since
