"""What is wrong with the monitor itself, as incidents: when to tell of it, and when to say that it is over.

A condition is noted whenever it is seen. It is RAISED when it has been seen for its delay, CLEARED when it has not been
seen for a while, and RAISED again only so long after the last time: a condition that comes and goes floods nobody.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple
from uuid import uuid4

from monitor.alerting.incidents import EventName
from monitor.settings import Health

MOST = 200
"""Conditions at once: of more assets than this, the others share one condition of the monitor."""


class Condition(StrEnum):
    """What can be wrong (bounded: these are subjects of alerts and labels of a metric)."""

    STALL = "stall"
    LAG = "lag"
    SOURCE = "source"
    SINK = "sink"
    STATE_WRITE = "state_write"
    SCORES_NOT_FINITE = "scores_not_finite"
    RECOMPILED = "recompiled"


LASTING = (Condition.LAG, Condition.SOURCE, Condition.SINK)
"""Conditions that are common for a moment: only when they last they are worth telling."""


class Key(NamedTuple):
    """A condition of an asset, or ('') of the monitor as a whole."""

    condition: Condition
    asset: str


class Change(NamedTuple):
    """One event of a condition's life.

    Attributes:
        key: which.
        event: RAISED or CLEARED.
        incident: its id, random.
        text: what was seen, for people.
        began: wall time since when it has been seen, seconds since the epoch.
        raised: wall time at which it was raised.
        now: wall time of the event.
    """

    key: Key
    event: EventName
    incident: str
    text: str
    began: float
    raised: float
    now: float


class _Episode(NamedTuple):
    """Seconds of the monotonic clock, but wall time for what people read."""

    began: float
    last: float
    text: str
    began_wall: float
    raised_wall: float = 0.0
    incident: str = ""


class Conditions:
    """The conditions that hold or held a moment ago.

    Args:
        settings: delays.
    """

    def __init__(self, settings: Health) -> None:
        self._delay = settings.delay.seconds
        self._quiet = settings.quiet.seconds
        self._repeat = settings.repeat.seconds
        self._episodes: dict[Key, _Episode] = {}
        self._raised_last: dict[Key, float] = {}

    @property
    def open(self) -> list[Key]:
        """Conditions that were raised and not cleared."""
        return [key for key, episode in self._episodes.items() if episode.incident]

    def note(self, condition: Condition, text: str, now: float, wall: float, asset: str = "") -> None:
        """A condition is seen.

        Args:
            condition: which.
            text: what is seen, for people.
            now: seconds of the monotonic clock.
            wall: seconds since the epoch.
            asset: whose; '' for the monitor as a whole.
        """
        key = Key(condition, asset)
        if asset and key not in self._episodes and len(self._episodes) >= MOST:
            key, text = Key(condition, ""), f"{text}; more assets than are told one by one"
        episode = self._episodes.get(key) or _Episode(now, now, text, wall)
        self._episodes[key] = episode._replace(last=now, text=text)

    def step(self, now: float, wall: float) -> list[Change]:
        """What is to be told now."""
        changes: list[Change] = []
        for key, episode in list(self._episodes.items()):
            if self._due(key, episode, now):
                raised = episode._replace(incident=str(uuid4()), raised_wall=wall)
                self._episodes[key], self._raised_last[key] = raised, now
                changes.append(_change(key, EventName.RAISED, raised, wall))
            elif now - episode.last >= self._quiet:
                del self._episodes[key]
                if episode.incident:
                    changes.append(_change(key, EventName.CLEARED, episode, wall))
        self._forget(now)
        return changes

    def _due(self, key: Key, episode: _Episode, now: float) -> bool:
        if episode.incident:
            return False
        lasted = episode.last - episode.began >= (self._delay if key.condition in LASTING else 0.0)
        return lasted and now - self._raised_last.get(key, float("-inf")) >= self._repeat

    def _forget(self, now: float) -> None:
        """Times that no longer hold anything back."""
        self._raised_last = {key: at for key, at in self._raised_last.items() if now - at < self._repeat}


def _change(key: Key, event: EventName, episode: _Episode, wall: float) -> Change:
    return Change(key, event, episode.incident, episode.text, episode.began_wall, episode.raised_wall, wall)
