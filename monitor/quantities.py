"""Durations and instants of configurations: text with a unit, kept as integer nanoseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Self

NS_PER_S = 1_000_000_000
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": NS_PER_S,
    "min": 60 * NS_PER_S,
    "m": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
    "d": 86_400 * NS_PER_S,
    "w": 7 * 86_400 * NS_PER_S,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ns|us|ms|s|min|m|h|d|w)")


class Duration(int):
    """A duration in nanoseconds, written as '500ms', '10s', '5min', '1h30min', '7d'."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read '1h30min' or '10s'.

        Raises:
            ValueError: the text is no duration.
        """
        stripped = text.strip()
        matches = list(_DURATION.finditer(stripped))
        if not matches or _DURATION.sub("", stripped).strip():
            raise ValueError(f"expected a duration such as '500ms', '10s', '5min' or '1h30min', got {text!r}")
        return cls(sum(round(float(m[1]) * _UNITS[m[2]]) for m in matches))

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return self / NS_PER_S

    def __str__(self) -> str:
        rest, parts = int(self), list[str]()
        for unit in ("d", "h", "min", "s", "ms", "us", "ns"):
            count, rest = divmod(rest, _UNITS[unit])
            if count:
                parts.append(f"{count}{unit}")
        return "".join(parts) or "0s"


class Instant(int):
    """A point in time in ns since the epoch (UTC), written in ISO 8601 with an offset."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read '2026-11-22T01:13:56Z'.

        Raises:
            ValueError: the text is no ISO 8601 time, or has no offset from UTC.
        """
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(
                f"expected an ISO 8601 time such as '2026-11-22T01:13:56Z', got {text!r}"
            ) from None
        if moment.tzinfo is None:
            in_utc = f"{text}Z" if "T" in text or " " in text else f"{text}T00:00:00Z"
            raise ValueError(f"{text!r} has no offset from UTC; hint: write {in_utc} for UTC")
        delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
        return cls((delta.days * 86_400 + delta.seconds) * NS_PER_S + delta.microseconds * 1000)

    def __str__(self) -> str:
        return iso_time(self)


def iso_time(ns: int) -> str:
    """An instant in ns since the epoch as ISO 8601 UTC with as many digits as it needs (0, 3, 6 or 9)."""
    seconds, rest = divmod(int(ns), NS_PER_S)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    if rest:
        digits = f"{rest:09d}"
        for width in (3, 6, 9):
            if not digits[width:].strip("0"):
                return f"{text}.{digits[:width]}Z"
    return f"{text}Z"
