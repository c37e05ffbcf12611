"""Bad input that shows only in its place in the stream: late, twice, by another clock, or by another meaning.

The second half of the corpus (`tests/payloads.py` is the first). Each entry disturbs the records of one asset that has
sent a complete frame a second (see `clean`), and names what must be counted, exactly, and which incidents must be
raised. Nothing else of the bounded reasons may be counted, and no other asset may notice anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from monitor.quantities import iso_time
from tests.worlds import SECOND, START

SENSORS = ("temperature", "pressure", "reaction_time")
ROWS = 160
AT = 80
"""The row at which a disturbance begins: five windows of 16 rows have been scored before it."""
YEAR = 365 * 86_400

Frame = dict[str, Any]
Counted = ("LATE", "DUPLICATE", "CONFLICT", "FUTURE_TIME", "HELD")


class Disturbance(NamedTuple):
    """One entry.

    Attributes:
        name: for test output.
        change: the records of the asset, in order of arrival, from its clean frames.
        counts: of `Counted`, how many; those that are not named must be zero.
        raised: (kind, subject or fault code) of incidents that must be raised.
    """

    name: str
    change: Callable[[list[Frame]], list[Frame]]
    counts: Mapping[str, int] = {}
    raised: frozenset[tuple[str, str]] = frozenset()


def clean(asset: str, values: np.ndarray) -> list[Frame]:
    """[rows, 3] as frames, one a second."""
    return [
        {"asset": asset, "ts": iso_time(START + n * SECOND), "values": dict(zip(SENSORS, row, strict=True))}
        for n, row in enumerate(values.tolist())
    ]


def encoded(frames: list[Frame]) -> list[bytes]:
    return [msgspec.json.encode(frame) for frame in frames]


def _moved(frame: Frame, seconds: int) -> Frame:
    at = np.datetime64(frame["ts"].rstrip("Z")).astype("datetime64[ns]").astype(np.int64)
    return frame | {"ts": iso_time(int(at) + seconds * SECOND)}


def _only(frame: Frame, *sensors: str) -> Frame:
    return frame | {"values": {name: frame["values"][name] for name in sensors}}


def _with(frame: Frame, **values: float) -> Frame:
    return frame | {"values": frame["values"] | values}


def _from(change: Callable[[Frame], Frame]) -> Callable[[list[Frame]], list[Frame]]:
    """The frames from `AT` on, changed."""
    return lambda frames: [*frames[:AT], *map(change, frames[AT:])]


def _insert(frames: list[Frame], *extra: Frame) -> list[Frame]:
    return [*frames[:AT], *extra, *frames[AT:]]


def _in_parts(frames: list[Frame], *between: Frame) -> list[Frame]:
    """Frame `AT` in two records, so that its slot is still open between them."""
    first, rest = _only(frames[AT], "temperature"), _only(frames[AT], "pressure", "reaction_time")
    return [*frames[:AT], first, *between, rest, *frames[AT + 1 :]]


def _lagging_sensor(frames: list[Frame]) -> list[Frame]:
    """Two pressures come one second late, within the lateness of two."""
    late = [_only(frame, "pressure") for frame in frames[AT : AT + 2]]
    early = [_only(frame, "temperature", "reaction_time") for frame in frames[AT : AT + 2]]
    return [*frames[:AT], *early, *late, *frames[AT + 2 :]]


def _swapped(frame: Frame) -> Frame:
    values = frame["values"]
    return _with(frame, temperature=values["pressure"], pressure=values["temperature"])


def _kelvin(frame: Frame, said: bool) -> Frame:
    changed = _with(frame, temperature=frame["values"]["temperature"] + 273.15)
    return changed | {"units": {"temperature": "K"}} if said else changed


def _alternating_batches(frames: list[Frame]) -> list[Frame]:
    """Two batches at once: every record another batch."""
    return [
        *frames[:AT],
        *(frame | {"batch": {"batch_id": f"B-{n % 2}"}} for n, frame in enumerate(frames[AT:])),
    ]


_ANOMALY = frozenset({("ANOMALY", "")})
_STUCK = frozenset({("SENSOR_FAULT", "temperature")})

DISTURBANCES = (
    # time
    Disturbance("a frame sent twice", lambda f: _insert(f, f[AT - 1]), {"LATE": 1}),
    Disturbance(
        "a frame sent twice with another value",
        lambda f: _insert(f, _with(f[AT - 1], temperature=1.0)),
        {"LATE": 1},
    ),
    Disturbance(
        "a reading twice while its slot is open",
        lambda f: _in_parts(f, _only(f[AT], "temperature")),
        {"DUPLICATE": 1},
    ),
    Disturbance(
        "a reading with another value while its slot is open",
        lambda f: _in_parts(f, _only(_with(f[AT], temperature=1.0), "temperature")),
        {"CONFLICT": 1},
    ),
    Disturbance("a sensor that lags within the lateness", _lagging_sensor),
    Disturbance(
        "a frame far out of order",
        lambda f: [*f[:AT], *f[AT + 1 : AT + 10], f[AT], *f[AT + 10 :]],
        {"LATE": 1},
    ),
    Disturbance(
        "one frame a year ahead",
        lambda f: _insert(f, _moved(f[AT], YEAR)),
        {"FUTURE_TIME": 1, "HELD": 1},
    ),
    Disturbance(
        "two frames ahead that do not agree, and one that does",
        lambda f: _insert(f, _moved(f[AT], YEAR), _moved(f[AT], 2 * YEAR), _moved(f[AT], YEAR)),
        {"FUTURE_TIME": 3, "HELD": 3},
    ),
    Disturbance(
        "a clock that jumps a year ahead and stays",
        _from(lambda f: _moved(f, YEAR)),
        {"HELD": 3},
        frozenset({("DATA_GAP", "silence")}),
    ),
    Disturbance(
        "a clock set back by 20 seconds",
        _from(lambda f: _moved(f, -20)),
        {"LATE": 20},
    ),
    # meaning
    Disturbance("a unit that is said", _from(lambda f: _kelvin(f, said=True))),
    Disturbance("a unit that is not said", _from(lambda f: _kelvin(f, said=False)), {}, _ANOMALY),
    Disturbance(
        "a scale of ten",
        _from(lambda f: _with(f, temperature=10 * f["values"]["temperature"])),
        {},
        _ANOMALY,
    ),
    Disturbance("two sensors swapped", _from(_swapped), {}, _ANOMALY),
    Disturbance("one sensor flat with good quality", _from(lambda f: _with(f, temperature=10.0)), {}, _STUCK),
    Disturbance(
        "all sensors flat",
        _from(lambda f: _with(f, temperature=10.0, pressure=20.0, reaction_time=30.0)),
        {},
        frozenset(("SENSOR_FAULT", name) for name in SENSORS),
    ),
    Disturbance(
        "a value beyond the range",
        _from(lambda f: _with(f, temperature=1e300)),
        {},
        frozenset({("SENSOR_FAULT", "temperature")}),
    ),
    Disturbance(
        "every eighth frame",
        lambda f: [*f[:AT], *f[AT::8]],
        {},
        frozenset({("DATA_GAP", "coverage")}),
    ),
    Disturbance("batches that overlap", _alternating_batches),
    Disturbance(
        "an old batch sent again",
        lambda f: _insert(f, *(frame | {"batch": {"batch_id": "B-old"}} for frame in f[:40])),
        {"LATE": 40},
    ),
)
