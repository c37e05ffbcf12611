"""Event times as int64 nanoseconds since the epoch, UTC, exact to the nanosecond.

Texts are ISO 8601 date-times: ``2026-11-22T01:13:56.123456789Z``, one to nine digits of fraction after a
point or comma, ``T`` or a space, ``Z``, ``+hh:mm``, ``+hhmm`` or ``+hh``; seconds may be left out. Leap
seconds (:60) and 24:00 are refused. A text without an offset is refused unless the layout names a zone;
there, of an hour that occurs twice the first is meant, and an hour that a clock change leaves out is refused.
Integers count the layout's unit. Nothing is guessed: floats and digits in quotes are refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from connectors.errors import SettingsError
from connectors.problem import Problem, shown
from connectors.records import Reason, TimeLayout

UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
_SECOND = 1_000_000_000
_MAX_SECONDS = (2**63 - 1) // _SECOND - 1
_MAX_INT = 2**63 - 1

Times = tuple[NDArray[np.int64], dict[int, Problem]]
"""[N] ns, and the rows that are no acceptable time (their ns is 0)."""

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?"
    r"(?:([Zz])|([+-])(\d\d)(?::?(\d\d))?)?",
    re.ASCII,
)
_SEPARATORS = ((4, b"-"), (7, b"-"), (10, b"Tt "), (13, b":"), (16, b":"))
_DATE_DIGITS = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]
_EXPECTED = "expected ISO 8601 like 2026-11-22T01:13:56.123Z"


class _Wall:
    """Wall clock readings: [N] seconds since 1970 as read, ns within the second, and the offset's seconds."""

    def __init__(self, size: int) -> None:
        self.seconds = np.zeros(size, dtype=np.int64)
        self.nanos = np.zeros(size, dtype=np.int64)
        self.naive = np.zeros(size, dtype=np.bool_)
        self.parsed = np.zeros(size, dtype=np.bool_)


class TimeReader:
    """Reads times as a `TimeLayout` says.

    Args:
        layout: unit of integers, zone of texts without an offset, accepted range.

    Raises:
        SettingsError: the unit or the zone is unknown.
    """

    def __init__(self, layout: TimeLayout) -> None:
        if layout.unit not in UNITS:
            raise SettingsError(f"time unit: got {layout.unit!r}, expected one of {', '.join(UNITS)}")
        self._layout = layout
        self._scale = UNITS[layout.unit]
        self._zone = None if layout.zone is None else _zone(layout.zone)

    def read(self, times: Sequence[str | int]) -> Times:
        """Times as they come in messages, texts and integers in any mixture."""
        kinds = set(map(type, times))
        if kinds <= {int}:
            return self.of_integers(times)  # pyright: ignore[reportArgumentType] - all are integers
        if kinds <= {str}:
            return self.of_texts(times)  # pyright: ignore[reportArgumentType] - all are texts
        return self._of_mixture(times)

    def _of_mixture(self, times: Sequence[str | int]) -> Times:
        ns = np.zeros(len(times), dtype=np.int64)
        bad: dict[int, Problem] = {}
        for kind in (int, str):
            rows = [row for row, time in enumerate(times) if type(time) is kind]
            part, problems = self.read([times[row] for row in rows])
            ns[rows] = part
            bad.update((rows[row], problem) for row, problem in problems.items())
        return ns, bad

    def of_integers(self, times: Sequence[int] | NDArray[np.int64], unit: str | None = None) -> Times:
        """Integers that count `unit` (default: the layout's) since the epoch."""
        scale = self._scale if unit is None else UNITS[unit]
        bad: dict[int, Problem] = {}
        try:
            counts = np.asarray(times, dtype=np.int64)
        except OverflowError:
            counts = np.zeros(len(times), dtype=np.int64)
            for row, time in enumerate(times):
                counts[row] = time if -_MAX_INT <= time <= _MAX_INT else _MAX_INT
        beyond = np.abs(counts) > _MAX_INT // scale if scale > 1 else np.abs(counts) == _MAX_INT
        for row in np.flatnonzero(beyond).tolist():
            bad[row] = Problem(Reason.TIME_RANGE, f"time {shown(int(times[row]))} is beyond what ns can hold")
        return self._in_range(np.where(beyond, 0, counts) * scale, bad)

    def of_texts(self, texts: Sequence[str]) -> Times:
        """ISO 8601 texts."""
        wall = _parse(texts)
        bad: dict[int, Problem] = {}
        for row in np.flatnonzero(~wall.parsed).tolist():
            bad[row] = Problem(Reason.BAD_TIME, f"time: got {shown(texts[row])}, {_EXPECTED}")
        self._localise(wall, bad, texts)
        return self._in_range(_nanoseconds(wall, bad, texts), bad)

    def of_wall_clock(self, counts: NDArray[np.int64], unit: str) -> Times:
        """Wall clock readings without an offset, [N] counts of `unit` since 1970 on that clock."""
        wall = _Wall(len(counts))
        per_second = _SECOND // UNITS[unit]
        wall.seconds[:], wall.nanos[:] = counts // per_second, counts % per_second * UNITS[unit]
        wall.naive[:] = wall.parsed[:] = True
        bad: dict[int, Problem] = {}
        texts = _Counts(counts, unit)
        self._localise(wall, bad, texts)
        return self._in_range(_nanoseconds(wall, bad, texts), bad)

    def _localise(self, wall: _Wall, bad: dict[int, Problem], texts: Sequence[str]) -> None:
        rows = np.flatnonzero(wall.naive & wall.parsed)
        if not len(rows):
            return
        if self._zone is None:
            for row in rows.tolist():
                bad[row] = Problem(
                    Reason.BAD_TIME,
                    f"time {shown(texts[row])} has no offset; hint: send UTC with a Z, or set the time zone",
                )
            return
        rows = rows[np.abs(wall.seconds[rows]) <= _MAX_SECONDS]
        minutes, inverse = np.unique(wall.seconds[rows] // 60, return_inverse=True)
        offsets = [_utc_offset(self._zone, minute) for minute in minutes.tolist()]
        for row, which in zip(rows.tolist(), inverse.tolist(), strict=True):
            if offsets[which] is None:
                bad[row] = Problem(
                    Reason.BAD_TIME, f"time {shown(texts[row])} does not exist in {self._zone.key}"
                )
        wall.seconds[rows] -= np.array([offset or 0 for offset in offsets], dtype=np.int64)[inverse]

    def _in_range(self, ns: NDArray[np.int64], bad: dict[int, Problem]) -> Times:
        earliest, latest = self._layout.earliest, self._layout.latest
        for row in np.flatnonzero((ns < earliest) | (ns > latest)).tolist():
            bad.setdefault(
                row,
                Problem(
                    Reason.TIME_RANGE,
                    f"time {iso(int(ns[row]))} is outside {iso(earliest)} to {iso(latest)}",
                ),
            )
        if bad:
            ns[list(bad)] = 0
        return ns, bad


class _Counts(Sequence[str]):
    """Texts of counted times, made only where a message needs one."""

    def __init__(self, counts: NDArray[np.int64], unit: str) -> None:
        self._counts, self._unit = counts, unit

    def __len__(self) -> int:
        return len(self._counts)

    def __getitem__(self, row: int) -> str:  # pyright: ignore[reportIncompatibleMethodOverride] - rows only
        return f"{self._counts[row]} {self._unit}"


def iso(ns: int) -> str:
    """ISO 8601 in UTC, with as many digits of fraction as the time needs."""
    seconds, nanos = divmod(ns, _SECOND)
    stamp = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return stamp + (f".{nanos:09d}".rstrip("0") if nanos else "") + "Z"


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SettingsError(f"time zone: got {name!r}, expected an IANA name like Europe/Berlin") from error


@lru_cache(maxsize=65536)
def _utc_offset(zone: ZoneInfo, minute: int) -> int | None:
    """Seconds that `zone` is ahead of UTC in a wall clock minute since 1970; None if no clock shows it."""
    naive = datetime(1970, 1, 1) + timedelta(minutes=minute)
    aware = naive.replace(tzinfo=zone)
    if aware.astimezone(UTC).astimezone(zone).replace(tzinfo=None, fold=0) != naive:
        return None
    offset = aware.utcoffset()
    return None if offset is None else round(offset.total_seconds())


def _nanoseconds(wall: _Wall, bad: dict[int, Problem], texts: Sequence[str]) -> NDArray[np.int64]:
    beyond = np.abs(wall.seconds) > _MAX_SECONDS
    for row in np.flatnonzero(beyond).tolist():
        bad.setdefault(
            row, Problem(Reason.TIME_RANGE, f"time {shown(texts[row])} is outside the years 1678 to 2262")
        )
    return np.where(beyond, 0, wall.seconds) * _SECOND + wall.nanos


def _parse(texts: Sequence[str]) -> _Wall:
    """All texts, those of equal length at once; what the common shape does not fit goes one by one."""
    wall = _Wall(len(texts))
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    for length in np.unique(lengths).tolist():
        if 19 <= length <= 35:
            rows = np.flatnonzero(lengths == length)
            chosen = texts if len(rows) == len(texts) else [texts[row] for row in rows.tolist()]
            _parse_alike(chosen, length, rows, wall)
    for row in np.flatnonzero(~wall.parsed).tolist():
        _parse_one(texts[row], row, wall)
    return wall


def _parse_alike(texts: Sequence[str], length: int, rows: NDArray[np.int64], wall: _Wall) -> None:
    # a character that is not ASCII becomes '?', which is no digit and no separator
    characters = np.frombuffer("".join(texts).encode("ascii", "replace"), dtype=np.uint8).reshape(-1, length)
    zulu = (characters[:, -1] | 0x20) == ord("z")
    sign = characters[:, -6]
    offset = ~zulu & ((sign == ord("+")) | (sign == ord("-"))) & (characters[:, -3] == ord(":"))
    for chosen, suffix in ((zulu, 1), (offset, 6), (~(zulu | offset), 0)):
        if chosen.all():
            _parse_block(characters, suffix, rows, wall)
        elif chosen.any():
            _parse_block(characters[chosen], suffix, rows[chosen], wall)


def _parse_block(characters: NDArray[np.uint8], suffix: int, rows: NDArray[np.int64], wall: _Wall) -> None:
    end = characters.shape[1] - suffix
    fraction = end - 20
    if end != 19 and not 1 <= fraction <= 9:
        return
    positions = _DATE_DIGITS + list(range(20, end))
    digits = characters[:, positions].astype(np.int64) - 48
    good = ((digits >= 0) & (digits <= 9)).all(axis=1)
    for position, allowed in _SEPARATORS if end == 19 else (*_SEPARATORS, (19, b".,")):
        good &= np.isin(characters[:, position], list(allowed))
    seconds, valid = _calendar_seconds(digits)
    good &= valid
    if suffix == 6:
        ahead, valid = _offset_seconds(characters)
        seconds -= ahead
        good &= valid
    rows = rows[good]
    wall.seconds[rows] = seconds[good]
    if end > 19:
        wall.nanos[rows] = (digits[good, 14:] @ _powers(fraction)) * 10 ** (9 - fraction)
    wall.naive[rows] = suffix == 0
    wall.parsed[rows] = True


def _powers(count: int) -> NDArray[np.int64]:
    return 10 ** np.arange(count - 1, -1, -1, dtype=np.int64)


def _calendar_seconds(digits: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    year = digits[:, :4] @ _powers(4)
    month, day, hour, minute, second = (digits[:, i] * 10 + digits[:, i + 1] for i in range(4, 14, 2))
    valid = (year >= 1) & (month >= 1) & (month <= 12) & (hour <= 23) & (minute <= 59) & (second <= 59)
    months = np.where(valid, (year - 1970) * 12 + month - 1, 0)
    first = months.astype("M8[M]").astype("M8[D]").astype(np.int64)
    next_first = (months + 1).astype("M8[M]").astype("M8[D]").astype(np.int64)
    valid &= (day >= 1) & (day <= next_first - first)
    return (first + day - 1) * 86400 + hour * 3600 + minute * 60 + second, valid


def _offset_seconds(characters: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    digits = characters[:, [-5, -4, -2, -1]].astype(np.int64) - 48
    valid = ((digits >= 0) & (digits <= 9)).all(axis=1)
    hours, minutes = digits[:, 0] * 10 + digits[:, 1], digits[:, 2] * 10 + digits[:, 3]
    valid &= (hours <= 23) & (minutes <= 59)
    return np.where(characters[:, -6] == ord("-"), -1, 1) * (hours * 3600 + minutes * 60), valid


def _parse_one(text: str, row: int, wall: _Wall) -> None:
    match = _ISO.fullmatch(text) if len(text) <= 40 else None
    if match is None:
        return
    year, month, day, hour, minute, second, fraction, _, sign, ahead_hours, ahead_minutes = match.groups()
    if int(hour) > 23 or int(minute) > 59 or int(second or 0) > 59 or int(ahead_hours or 0) > 23:
        return
    if int(ahead_minutes or 0) > 59:
        return
    try:
        days = date(int(year), int(month), int(day)).toordinal() - date(1970, 1, 1).toordinal()
    except ValueError:
        return
    ahead = (int(ahead_hours or 0) * 3600 + int(ahead_minutes or 0) * 60) * (-1 if sign == "-" else 1)
    wall.seconds[row] = days * 86400 + int(hour) * 3600 + int(minute) * 60 + int(second or 0) - ahead
    wall.nanos[row] = int((fraction or "0").ljust(9, "0"))
    wall.naive[row] = match[8] is None and sign is None
    wall.parsed[row] = True
