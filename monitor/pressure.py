"""Back-pressure: the input pauses while what waits for the sink is at its bound, and goes on when it is not.

Polls go on and bring nothing, so that no connection and no membership is lost meanwhile.
"""

from __future__ import annotations

from monitor.engine import Engine
from monitor.settings import State


class Pressure:
    """Pauses and resumes an engine's source.

    Args:
        engine: whose outbox is bounded.
        state: the bounds.
    """

    def __init__(self, engine: Engine, state: State) -> None:
        self._engine = engine
        self._events = state.outbox
        self._bytes = state.outbox_bytes
        self._paused: str | None = None

    @property
    def paused(self) -> str | None:
        """Why the input is paused, or None while it is not."""
        return self._paused

    @property
    def full(self) -> bool:
        """True while the outbox is at a bound."""
        outbox = self._engine.outbox
        return outbox.events >= self._events or outbox.size >= self._bytes

    def apply(self) -> bool:
        """Pause or resume as the outbox asks; True when that changed something."""
        if self.full and self._paused is None:
            outbox = self._engine.outbox
            self._paused = (
                f"{outbox.events} events ({outbox.size} bytes) wait for the sink; {self._events} ({self._bytes} bytes) "
                "are allowed"
            )
            self._engine.source.pause()
            return True
        if not self.full and self._paused is not None:
            self._paused = None
            self._engine.source.resume()
            return True
        return False
